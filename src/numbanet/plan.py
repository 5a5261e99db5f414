"""The plan: a network as data. Which ops run in which order on which buffers, and how they may be cut into tasks.

A plan is plain Python: it can be printed, and tested without Numba. Its phases, at most:

    once        transposed copies of kernels, made before the first step of a call
    rows        gather, forward, loss, backward: one chain of ops over the rows of the batch
    parameters  one chain for each parameter: its gradient over the whole batch, the optimiser, the transposed copy

Workers share a phase: blocks of rows, tiles of parameters. Every number is computed by one worker in an order which
does not depend on the cut, so any number of threads computes the same bits. An op that mixes rows will end a phase.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from numbanet.graph import Graph, Parameter, padded
from numbanet.kernels import OPERAND, OPS, PANEL, SIZES

MODES = ("predict", "evaluate", "gradient", "train")
BLOCK = 64  # rows of a batch that one worker takes through all layers: few, so that activations stay in cache
GRAIN = 8  # blocks are a multiple of this many rows, the height of a tile
TILE = 4096  # elements of a parameter's gradient in scratch memory: 16 KiB, half of a first-level cache,
LEAST = 64  # but no fewer rows: all deltas of the batch are read for each tile


@dataclass(eq=False)
class Buffer:
    """Rows of the workspace: one a sample, or one a row of a parameter."""

    name: str
    shape: tuple[int, ...]
    rows: int
    offset: int

    @property
    def width(self):
        return math.prod(self.shape)

    @property
    def stride(self):
        """An odd number of panels (cache lines in float32): the rows of a tile then lie in different cache sets."""
        return padded(self.width) + PANEL * (padded(self.width) // PANEL % 2 == 0)

    @property
    def operand(self):
        """Where, rows and stride as kernels see it."""
        return self.offset, self.rows, self.stride


class Scratch(Buffer):
    """Rows of a parameter's gradient in a worker's scratch memory; the offset counts from there."""


@dataclass(frozen=True)
class Outside:
    """An array that the program binds at run time: data, labels, order, scores, coefficients."""

    name: str


@dataclass
class PlannedOp:
    """An op of the catalogue with its operands and sizes."""

    name: str
    operands: dict[str, Buffer | Parameter | Outside | None]
    sizes: dict[str, int]

    def __str__(self):
        entry = OPS[self.name]
        names = [f"{key}={getattr(self.operands[key], 'name', '-')}" for key in entry.operands]
        return f"{self.name:<29}{' '.join(names)}  {' '.join(f'{key}={size}' for key, size in self.sizes.items())}"


@dataclass
class Chain:
    """Ops which one worker runs one after the other on the same rows. extent None: the rows of the batch."""

    name: str
    ops: list[PlannedOp]
    extent: int | None
    block: int  # most rows of a task

    def cut(self, batch_size, workers):
        """(first, last) of each task, for so many workers."""
        extent = batch_size if self.extent is None else self.extent
        grain = GRAIN if self.extent is None else PANEL
        rounds = math.ceil(extent / (workers * self.block))
        block = math.ceil(extent / (rounds * workers * grain)) * grain
        return [(first, min(extent, first + block)) for first in range(0, extent, block)]


@dataclass
class Phase:
    """Chains whose tasks may run at the same time; a phase `once` runs before the first step of a call only."""

    chains: list[Chain]
    once: bool = False


@dataclass
class Plan:
    """What a program needs, as data: phases of chains, the size of the workspace and of theta."""

    mode: str
    batch_size: int
    phases: list[Phase]
    buffers: list[Buffer]
    workspace: int
    theta: int
    scratch: int = 0  # elements for each worker
    gradients: dict[str, Buffer] = field(default_factory=dict)  # of parameters, by name, where they are kept
    columns: int = 0  # of the scores: the loss and the metrics

    @property
    def ops(self):
        return [op for phase in self.phases for chain in phase.chains for op in chain.ops]

    @property
    def cost(self):
        """Multiply-adds of a step, roughly: what decides whether threads pay."""
        products = [op for op in self.ops if op.name != "transpose"]
        return self.batch_size * sum(op.sizes.get("inputs", 1) * op.sizes.get("units", 1) for op in products)

    @property
    def independent(self):
        """Can batches be computed in any order?"""
        return self.mode in ("predict", "evaluate")

    def table(self, addresses):
        """The op table. Operands from outside, and ops without an address, stay empty; `outside` says where they go."""
        ops = self.ops
        table = np.zeros((len(ops), 1 + SIZES + OPERAND * max(len(OPS[op.name].operands) for op in ops)), np.int64)
        for row, op in zip(table, ops, strict=True):
            entry = OPS[op.name]
            row[0] = addresses.get(op.name, 0)
            row[1 : 1 + len(entry.sizes)] = [op.sizes.get(size, 0) for size in entry.sizes]
            for k, key in enumerate(entry.operands):
                operand, at = op.operands[key], 1 + SIZES + OPERAND * k
                if isinstance(operand, Buffer | Parameter):
                    row[at : at + OPERAND] = *operand.operand, 1
                    row[at] += self.workspace if isinstance(operand, Scratch) else 0
        return table

    def outside(self):
        """Where in the table each outside array belongs: name -> list of (row, column)."""
        places = {}
        for row, op in enumerate(self.ops):
            for k, key in enumerate(OPS[op.name].operands):
                if isinstance(op.operands[key], Outside):
                    places.setdefault(op.operands[key].name, []).append((row, 1 + SIZES + OPERAND * k))
        return places

    def tasks(self, workers):
        """The tables of tasks, and of who does which, for so many workers (see kernels/*/engine.py)."""
        tasks, shares, op = [], [], 0
        for phase in self.phases:
            begin, costs = len(tasks), [0]
            for chain in phase.chains:
                for first, last in chain.cut(self.batch_size, workers):
                    tasks.append((op, op + len(chain.ops), first, last, chain.extent is None))
                    costs.append(costs[-1] + (last - first) * sum(_row_cost(op, self.batch_size) for op in chain.ops))
                op += len(chain.ops)
            # Each worker takes tasks in a row; the borders are where the costs come nearest to equal shares.
            borders = [int(np.abs(np.array(costs) - costs[-1] * w / workers).argmin()) for w in range(1, workers)]
            shares.append((phase.once, begin, *(begin + border for border in borders), len(tasks)))
        return np.array(tasks, np.int64), np.array(shares, np.int64)

    def __str__(self):
        lines = [
            f"{self.mode} plan: batches of {self.batch_size}, {self.theta} elements of parameters and optimiser state, "
            f"{self.workspace} of workspace, {self.scratch} of scratch for each worker"
        ]
        for number, phase in enumerate(self.phases):
            for chain in phase.chains:
                extent = "rows of the batch" if chain.extent is None else f"{chain.extent} rows"
                once = ", once" if phase.once else ""
                lines.append(f"phase {number}{once}, {chain.name}: {extent} in blocks of at most {chain.block}")
                lines.extend(f"    {op}" for op in chain.ops)
        return "\n".join(lines)


def _row_cost(op, batch_size):
    """Roughly how long one row of an op takes: its multiply-adds, or what it writes."""
    sizes = op.sizes
    if OPS[op.name].axis == "batch":
        return sizes.get("inputs", 1) * sizes.get("units", 1) + sizes.get("width", 1)
    return op_outputs(op)[0].width * (batch_size if "dy" in op.operands else 4)


class Builder:
    """Collects a plan's buffers and ops; layers emit into it."""

    def __init__(self, batch_size):
        self.batch_size = batch_size
        self.buffers, self.size, self.ops = [], 0, []
        self.label = ""  # whose buffers are being made
        self.scratch = 0  # elements that the largest chain of a parameter needs
        self.copies = {}  # Parameter -> Buffer of its transpose
        self._gradient = {}  # Buffer or Parameter -> Buffer of its gradient

    def buffer(self, shape, name=None, rows=None):
        """A new buffer, one row a sample of the batch."""
        rows = self.batch_size if rows is None else rows
        buffer = Buffer(name or self.label, tuple(shape), rows, self.size)
        self.buffers.append(buffer)
        self.size += rows * buffer.stride
        return buffer

    def op(self, name, **given):
        """Append a forward op, operands and sizes by the catalogue's names."""
        self.ops.append(planned(name, given))

    def activation(self, name, x, y):
        """y = activation(x), y perhaps the same buffer; returns y."""
        if name != "linear":
            self.op(f"{name}_forward", x=x, y=y, width=x.width)
        return y

    def gradient(self, of):
        """The gradient buffer of a buffer or parameter, or None if nothing has been written to it."""
        return self._gradient.get(of)

    def start_gradient(self, of):
        """A gradient buffer to be written whole, for the first that contributes to it."""
        self._gradient[of] = self._gradient_buffer(of, f"d {of.name}", 0)
        return self._gradient[of]

    def _gradient_buffer(self, of, name, after):
        if isinstance(of, Buffer):
            return self.buffer(of.shape, name)
        gradient = Scratch(name, (of.width,), tile_rows(of), after)
        self.scratch = max(self.scratch, after + gradient.rows * gradient.stride)
        return gradient

    def transposed(self, parameter):
        """The copy of a parameter's transpose, in panels."""
        if parameter not in self.copies:
            rows = padded(parameter.rows) // PANEL * parameter.width
            self.copies[parameter] = self.buffer((PANEL,), f"{parameter.name} transposed", rows)
        return self.copies[parameter]

    def differentiate(self):
        """Backward ops in order: those over the batch, and by parameter those of its gradient.

        Activation gradients overwrite; where several ops contribute to one gradient, all but the first write to a
        buffer of their own which is then added.
        """
        live = self._live()
        batch, parameters = [], {}
        for op in reversed(self.ops):
            outputs = {f"d{key}": self.gradient(op.operands[key]) for key in OPS[op.name].writes}
            if not OPS[op.name].backward or any(gradient is None for gradient in outputs.values()):
                continue
            for name in OPS[op.name].backward:
                (target,) = OPS[name].writes
                source = op.operands.get(target[1:])
                if source not in live:
                    continue
                ops = batch if isinstance(source, Buffer) else parameters.setdefault(source, [])
                known = {**op.operands, **outputs, **op.sizes}
                for key in OPS[name].operands:
                    if key.startswith("transposed_"):
                        known[key] = self.transposed(op.operands[key.removeprefix("transposed_")])
                self._contribute(name, known, target, source, ops, in_place=source in op_outputs(op))
        return batch, parameters

    def _contribute(self, name, known, target, source, ops, in_place):
        earlier = self.gradient(source)
        if earlier is None or in_place:
            ops.append(planned(name, known | {target: earlier or self.start_gradient(source)}))
            return
        extra = self._gradient_buffer(source, f"{earlier.name} (more)", earlier.rows * earlier.stride)
        ops.append(planned(name, known | {target: extra}))
        if isinstance(source, Buffer):
            ops.append(planned("add_forward", {"x": extra, "y": earlier, "width": extra.width}))
        else:
            ops.append(planned("gradient_add", {"gradient": extra, "total": earlier, "width": extra.width}))

    def _live(self):
        """Parameters, and the buffers which depend on one: all that wants a gradient."""
        live = set()
        for op in self.ops:
            operands = [value for value in op.operands.values() if value is not None]
            parameters = [value for value in operands if isinstance(value, Parameter)]
            live.update(parameters)
            if parameters or any(value in live for value in operands):
                live.update(op_outputs(op))
        return live


def tile_rows(parameter):
    """Rows of a parameter that one task updates: whole panels of its transpose."""
    return min(padded(parameter.rows), max(LEAST, TILE // padded(parameter.width) // PANEL * PANEL))


def samples_of(name):
    """The outside array with the samples of an input: a name that no other outside array has."""
    return f"samples of {name}"


def op_outputs(op):
    """The operands that an op writes."""
    return [op.operands[key] for key in OPS[op.name].writes]


def planned(name, given):
    """An op with what it needs of the given operands and sizes."""
    entry = OPS[name]
    operands = {key: given[key] for key in entry.operands}
    return PlannedOp(name, operands, {key: given.get(key, 0) for key in entry.sizes})


def build_plan(graph: Graph, mode, batch_size, *, loss=None, metrics=(), optimizer=None, classes=False):
    """The plan of a graph for a mode: "predict", "evaluate", "gradient" (no update) or "train".

    classes: the targets are integer labels.
    """
    build = Builder(batch_size)
    before = []
    values = {}
    for node in graph.inputs:
        name = graph.names[node.layer]
        values[node] = build.buffer(node.shape, name)
        given = {
            "data": Outside(samples_of(name)),
            "order": Outside("order"),
            "x": values[node],
            "width": values[node].width,
        }
        before.append(planned("gather_rows", given))
    for node in graph.nodes:
        if node not in values:
            build.label = graph.names[node.layer]
            inputs = [values[source] for source in node.inputs]
            values[node] = node.layer.emit(build, graph.of_layer[node.layer], *inputs)
    output = values[graph.output]
    plan = Plan(mode, batch_size, [], build.buffers, 0, graph.size)
    if mode == "predict":
        after = [planned("scatter_rows", {"x": output, "data": Outside("predictions"), "width": output.width})]
    else:
        target = build.buffer((output.width,), "targets")
        given = {"data": Outside("targets"), "order": Outside("order"), "x": target, "width": target.width}
        before.append(planned("gather_classes" if classes else "gather_rows", given))
        after = _score(build, output, target, loss, metrics)
        plan.columns = 1 + len(metrics)
    parameters = {}
    if mode in ("gradient", "train"):
        backward, parameters = build.differentiate()
        after += backward
    rows = Chain("rows", before + fused(build.ops) + after, None, BLOCK)
    copies = [Chain(copy.name, [_transpose(of, copy)], of.rows, tile_rows(of)) for of, copy in build.copies.items()]
    chains = _parameter_chains(plan, graph, build, parameters, optimizer)
    phases = [Phase(copies, once=True), Phase([rows]), Phase(chains)]
    plan.phases = [phase for phase in phases if phase.chains]
    plan.workspace, plan.scratch = build.size, build.scratch
    return plan


def fused(ops):
    """The ops with each relu that overwrites a dense layer's output left to the product, which has it in registers."""
    result = []
    for op in ops:
        before = result[-1] if result else None
        if op.name == "relu_forward" and before and before.name == "dense_forward":
            y = before.operands["y"]
            if op.operands["x"] is y and op.operands["y"] is y:
                result[-1] = PlannedOp(before.name, before.operands, before.sizes | {"relu": 1})
                continue
        result.append(op)
    return result


def _transpose(parameter, copy):
    sizes = {"inputs": parameter.rows, "units": parameter.width}
    return planned("transpose", {"parameter": parameter, "transposed": copy} | sizes)


def _score(build, output, target, loss, metrics):
    """The ops of the loss and the metrics. An activation with a fused loss gives way to it."""
    scores, width = Outside("scores"), output.width
    last = build.ops[-1] if build.ops else None
    activation = last.name.removesuffix("_forward") if last and output in op_outputs(last) else None
    given = {"y": output, "target": target, "scores": scores, "width": width}
    if activation in loss.fused:
        build.ops.pop()
        x = last.operands["x"]
        ops = [planned(loss.fused[activation], given | {"x": x, "dx": build.start_gradient(x)})]
    else:
        ops = [planned(loss.op, given | {"dy": build.start_gradient(output)})]
    for column, metric in enumerate(metrics, start=1):
        ops.append(planned(metric.op_for(loss, width), given | {"column": column}))
    return ops


def _parameter_chains(plan, graph, build, gradients, optimizer):
    """One chain a parameter, in the order of theta: its gradient, the update (or keeping it), the transposed copy."""
    chains = []
    for parameter in graph.parameters:
        ops = list(gradients.get(parameter, ()))
        if not ops:
            continue
        gradient = build.gradient(parameter)
        if optimizer is None:
            kept = build.buffer((parameter.width,), f"{gradient.name} (kept)", parameter.rows)
            plan.gradients[parameter.name] = kept
            ops.append(planned("gradient_keep", {"gradient": gradient, "kept": kept, "width": kept.width}))
        else:
            given = {"gradient": gradient, "coefficients": Outside("coefficients"), "parameter": parameter}
            slots = {name: parameter.slot(k, name, graph.size) for k, name in enumerate(optimizer.slots)}
            ops.append(planned(optimizer.op, given | slots | {"rows": parameter.rows}))
            plan.theta = graph.size * (1 + len(optimizer.slots))
            if parameter in build.copies:
                ops.append(_transpose(parameter, build.copies[parameter]))
        chains.append(Chain(parameter.name, ops, parameter.rows, tile_rows(parameter)))
    return chains
