"""A network's graph: its nodes in order, their names, and the table of parameters in one flat vector.

Layout of theta: each parameter is a matrix of rows x width, the width padded to whole panels of 16 columns (padding
always zero) and the panels one after the other; then one block of the same layout for every slot of the optimiser.
Models that share weights (see numbanet.sharing) share theta: all their parameters, then the slots of each model.
"""

from __future__ import annotations

import copy
import math
import re
from dataclasses import dataclass, replace

import numpy as np

from numbanet import validate
from numbanet.kernels import PANEL
from numbanet.layers import Input, Node, ParameterSpec


def padded(count):
    """count rounded up to whole panels."""
    return -(-count // PANEL) * PANEL


@dataclass(frozen=True)
class Parameter:
    """A parameter's place in theta. slots: where it is in the optimiser's first slot, None if slots follow weights."""

    name: str
    shape: tuple[int, ...]
    offset: int
    slots: int | None = None

    @property
    def rows(self):
        return math.prod(self.shape[:-1])

    @property
    def width(self):
        return self.shape[-1]

    @property
    def size(self):
        """Elements in theta, padding included."""
        return self.rows * padded(self.width)

    @property
    def operand(self):
        """Where, rows and stride as kernels see it: the rows of all panels."""
        return self.offset, self.size // PANEL, PANEL

    def unpack(self, flat):
        """The parameter's values, a new array, from theta or anything laid out like it."""
        rows = self._panels(flat).transpose(1, 0, 2).reshape(self.rows, -1)
        return rows[:, : self.width].reshape(self.shape).copy()

    def pack(self, flat, values):
        """Write the parameter's values."""
        rows = np.zeros((self.rows, padded(self.width)), flat.dtype)
        rows[:, : self.width] = np.asarray(values).reshape(self.rows, self.width)
        self._panels(flat)[:] = rows.reshape(self.rows, -1, PANEL).transpose(1, 0, 2)

    def _panels(self, flat):
        return flat[self.offset : self.offset + self.size].reshape(-1, self.rows, PANEL)

    def slot(self, index, name, size):
        """The same layout in the optimiser's slot `index`; `size` is that of all parameters."""
        first = self.offset + size if self.slots is None else self.slots
        return Parameter(f"{self.name}:{name}", self.shape, first + index * size)


class Graph:
    """The nodes between inputs and output, in an order in which each comes after the nodes it needs.

    names: of layers that have one already, in the graph from which this one is made.
    """

    def __init__(self, inputs, output, names=None):
        self.inputs: tuple[Node, ...] = tuple(inputs)
        self.output: Node = output
        if len(set(self.inputs)) < len(self.inputs):
            raise ValueError("a model's inputs name one Input twice")
        self.nodes = _ordered(self.inputs, output)
        self.layers = list(dict.fromkeys(node.layer for node in self.nodes))
        self.names = named(self.layers, names, {node.layer for node in self.nodes if node.lender})
        self.specs: list[ParameterSpec] = []
        self.parameters: list[Parameter] = []
        self.of_layer: dict = {}  # layer -> its parameters by local name
        self.size = 0  # of theta without slots
        for node in self.nodes:
            self._place(node)

    def _place(self, node):
        specs = node.layer.parameters(*(source.shape for source in node.inputs))
        known = self.of_layer.setdefault(node.layer, {})
        name = self.names[node.layer]
        if known:
            if {key: spec.shape for key, spec in specs.items()} != {key: at.shape for key, at in known.items()}:
                raise ValueError(f"layer {name!r} is shared by inputs of different shapes")
            return
        for key, spec in specs.items():
            known[key] = Parameter(f"{name}.{key}", spec.shape, self.size)
            self.parameters.append(known[key])
            self.specs.append(spec)
            self.size += known[key].size

    def placed(self, offsets=None, slots=None):
        """The same graph with its parameters elsewhere in theta.

        offsets: layer -> key -> where the parameter begins; by default they lie one after the other. slots: where the
        optimiser's first slot begins, which holds this graph's parameters alone; by default behind them.
        """
        other, at = copy.copy(self), 0
        slots = self.size if slots is None else slots
        other.of_layer = {layer: dict(known) for layer, known in self.of_layer.items()}
        for layer, known in other.of_layer.items():
            for key, place in known.items():
                offset = at if offsets is None else offsets[layer][key]
                if (place.offset, place.slots) != (offset, slots + at):
                    known[key] = replace(place, offset=offset, slots=slots + at)
                at += place.size
        other.parameters = [place for known in other.of_layer.values() for place in known.values()]
        return other

    @property
    def count(self):
        """Number of parameters, without padding."""
        return sum(math.prod(parameter.shape) for parameter in self.parameters)

    @property
    def trainable(self):
        """Number of parameters that training changes."""
        return self.count - sum(math.prod(parameter.shape) for parameter in self.frozen())

    def frozen(self):
        """The parameters that training leaves alone: those of layers that are not trainable, and statistics."""
        owners = {parameter: layer for layer, known in self.of_layer.items() for parameter in known.values()}
        pairs = zip(self.parameters, self.specs, strict=True)
        return frozenset(at for at, spec in pairs if not (spec.trainable and owners[at].trainable))

    def resting(self):
        """The layers that are not trainable: some compute otherwise then, which frozen() may not show."""
        return frozenset(layer for layer in self.layers if not layer.trainable)

    def penalty(self, flat, among=None):
        """What regularisers add to the loss for some parameters (None: all), whose values are in theta."""
        return sum(
            spec.regularizer.penalty(parameter.unpack(flat))
            for parameter, spec in zip(self.parameters, self.specs, strict=True)
            if spec.regularizer and (among is None or parameter in among)
        )

    def initialise(self, flat, seed, among=None):
        """Draw the parameters, those of some layers or all; number i from the stream (seed, i): each has its own."""
        chosen = self.layers if among is None else [layer for layer in self.layers if layer in among]
        drawn = {parameter for layer in chosen for parameter in self.of_layer[layer].values()}
        for index, (parameter, spec) in enumerate(zip(self.parameters, self.specs, strict=True)):
            if parameter in drawn:
                generator = np.random.Generator(np.random.Philox(key=[seed, index]))
                values = spec.initializer.draw(parameter.shape, generator)
                parameter.pack(flat, validate.parameter(parameter.name, values, parameter.shape, flat.dtype.name))


def _ordered(inputs, output):
    """Depth first from the output, without recursion: nets may be deep. Every path must end at the inputs."""
    order, state, stack = list(inputs), dict.fromkeys(inputs, True), [output]
    while stack:
        node = stack[-1]
        if node in state:
            stack.pop()
            continue
        waiting = [source for source in reversed(node.inputs) if source not in state]
        if isinstance(node.layer, Input):
            raise ValueError(f"the output depends on an Input of shape {node.shape} that the model was not given")
        if waiting:
            stack.extend(waiting)
        else:
            state[node] = True
            order.append(stack.pop())
    used = {source for node in order for source in node.inputs} | {output}
    for node in inputs:
        if node not in used:
            raise ValueError(f"the output does not depend on the Input of shape {node.shape}")
    return order


def named(layers, known=None, movable=()):
    """A name for every layer: the one it is known by, its own, or its class and a number.

    movable: layers that may get a number behind their name, if another has it.
    """
    names, given, numbered = {layer: (known or {}).get(layer, layer.name) for layer in layers}, set(), {}
    for layer, name in names.items():
        if name in given and layer not in movable:
            raise ValueError(f"two layers are named {name!r}; names must differ")
        if name is None or name in given:
            numbered[layer] = name or re.sub(r"(?<=[a-z])(?=[A-Z])", "_", type(layer).__name__).lower()
        else:
            given.add(name)
    counts = {}
    for layer, kind in numbered.items():
        while names[layer] is None or names[layer] in given:
            counts[kind] = counts.get(kind, 0) + 1
            names[layer] = f"{kind}_{counts[kind]}"
        given.add(names[layer])
    return names
