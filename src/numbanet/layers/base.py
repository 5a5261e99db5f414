"""What a layer is: a description with fields, an output shape, parameters, and the ops it emits.

A layer holds no arrays, knows no device and imports no kernel. Calling it on nodes makes a node of a graph; one layer
called twice is shared, parameters and all.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from numbanet import functions, validate
from numbanet.functions import ActivationFunction
from numbanet.initializers import Initializer
from numbanet.names import lookup
from numbanet.regularizers import L1L2

ACTIVATIONS = (
    "linear",
    "sigmoid",
    "tanh",
    "relu",
    "leaky_relu",
    "elu",
    "selu",
    "gelu",
    "softplus",
    "softsign",
    "swish",
    "hard_sigmoid",
    "step",
    "softmax",
    "log_softmax",
)
ALIASES = {"silu": "swish"}
# What an activation's name means where its formula has a parameter: Keras' defaults (PyTorch's negative slope is 0.01).
# nn.LeakyReLU, whose default is 0.3 in Keras, and nn.ELU take others.
REALS = {"leaky_relu": {"negative_slope": 0.2}, "elu": {"alpha": 1.0}}


@dataclass(frozen=True)
class ParameterSpec:
    """A parameter that a layer asks for."""

    shape: tuple[int, ...]
    initializer: Initializer
    regularizer: L1L2 | None = None
    trainable: bool = True  # False: a statistic that the layer keeps


@dataclass(frozen=True, eq=False, repr=False)
class Node:
    """The output of a layer in a graph: the layer, the nodes it was called on, and the shape without the batch.

    lender: a model with whose weights the layer is meant, if one was called like a layer.
    """

    layer: Layer
    inputs: tuple[Node, ...]
    shape: tuple[int, ...]
    lender: object = None

    def __repr__(self):
        return f"<output of {type(self.layer).__name__}, shape {self.shape}>"  # not its inputs: paths may be many


class Layer:
    """Base of all layers. Subclasses are dataclasses; `name` may be None until a model names them.

    A description does not change, but for `trainable`: whether training updates the layer's parameters. Models look at
    it when they train.
    """

    name: str | None
    trainable: bool = True

    def __setattr__(self, name, value):
        if name == "trainable":
            value = validate.flag(name, value)
        elif name in vars(self) or name not in self.__dataclass_fields__:
            raise AttributeError(f"{type(self).__name__}.{name} cannot be set, only trainable can; make a new layer")
        object.__setattr__(self, name, value)

    def __call__(self, inputs):
        nodes = tuple(inputs) if isinstance(inputs, list | tuple) else (inputs,)
        return connect(self, nodes)

    def output_shape(self, *shapes):
        """The output's shape for inputs of these shapes; a ValueError says what does not fit."""
        (shape,) = single(self, shapes)
        return shape

    def parameters(self, *shapes):
        """The parameters for inputs of these shapes, ParameterSpec by name, in the order of get_weights."""
        return {}

    def emit(self, build, parameters, *inputs):
        """Emit the forward ops into a plan builder; returns the output's buffer."""
        raise TypeError(f"{type(self).__name__} does not say which ops it emits")


def connect(layer, inputs):
    """The node of a layer called on nodes (or on Input layers)."""
    nodes = tuple(as_node(layer, value) for value in inputs)
    return Node(layer, nodes, validate.shape("the output's shape", layer.output_shape(*(node.shape for node in nodes))))


def as_node(caller, value):
    """A node for what a layer or a model was given."""
    if isinstance(value, Input):
        return value.node
    if isinstance(value, Node):
        return value
    where = f"{caller} must be" if isinstance(caller, str) else f"{type(caller).__name__} must be called on"
    raise TypeError(f"{where} nn.Input or the result of a layer, not {repr(value)[:60]}")


def single(layer, shapes):
    """The shapes, if there is just one."""
    if len(shapes) != 1:
        raise ValueError(f"{type(layer).__name__} takes one input, not {len(shapes)}")
    return shapes


def activation(name) -> str | ActivationFunction:
    """The name of an activation, checked, or the description of a user's function; None means linear."""
    if functions.given(name):
        return functions.activation(name)
    name = "linear" if name is None else name
    name = ALIASES.get(name, name) if isinstance(name, str) else name
    lookup("activation", name, dict.fromkeys(ACTIVATIONS))
    return name


def layer_name(name):
    """A layer's name, checked; None leaves it to the model."""
    return None if name is None else validate.text("name", name)


def width(shape):
    """Elements of a sample."""
    return math.prod(shape)


@dataclass(eq=False)
class Input(Layer):
    """Where samples enter. shape: a sample's shape without the batch, a number n meaning (n,)."""

    shape: tuple[int, ...] | int
    name: str | None = None

    def __post_init__(self):
        validate.settle(
            self,
            shape=validate.shape("shape", self.shape),
            name=layer_name(self.name),
        )
        validate.settle(self, _node=Node(self, (), self.shape))

    @property
    def node(self):
        """The one node of this input."""
        return self._node

    def __call__(self, inputs):
        raise TypeError("nn.Input is where samples enter: call other layers on it, not it on them")

    def output_shape(self, *shapes):
        return self.shape

    def emit(self, build, parameters, *inputs):
        raise AssertionError("inputs are gathered by the plan")
