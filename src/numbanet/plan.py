"""The plan: a network as data. Which ops run in which order on which buffers, cut into tasks.

A plan is plain Python: it can be printed, and tested without Numba. It has three phases of work at most:

    rows        gather, forward, loss, backward: one chain of ops over the rows of the batch, cut into blocks
    parameters  one chain for each parameter: its gradient over the whole batch, then the optimiser, cut into tiles

Blocks and tiles are cut here, never by the number of threads: any number of threads computes the same bits. An op that
mixes rows will end a phase and start the next.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from numbanet.graph import Graph, Parameter, padded
from numbanet.kernels import OPERAND, OPS, SIZES

MODES = ("predict", "evaluate", "gradient", "train")
BLOCK = 16  # rows of a batch that one worker takes through all layers
TILE = 4096  # elements of a parameter that one worker updates: 16 KiB, half of a first-level cache, beside its gradient


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
        return padded(self.width)


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
    block: int


@dataclass
class Plan:
    """What a program needs, as data: phases of chains, the size of the workspace and of theta."""

    mode: str
    batch_size: int
    phases: list[list[Chain]]
    buffers: list[Buffer]
    workspace: int
    theta: int
    gradients: dict[str, Buffer] = field(default_factory=dict)  # of parameters, by name
    columns: int = 0  # of the scores: the loss and the metrics

    @property
    def ops(self):
        return [op for phase in self.phases for chain in phase for op in chain.ops]

    @property
    def cost(self):
        """Multiply-adds of a step, roughly: what decides whether threads pay."""
        ops = self.ops
        return self.batch_size * sum(op.sizes.get("inputs", 1) * op.sizes.get("units", 1) for op in ops)

    def table(self, addresses):
        """The op table. Operands from outside stay empty; `outside` says where they go."""
        ops = self.ops
        table = np.zeros((len(ops), 1 + SIZES + OPERAND * max(len(OPS[op.name].operands) for op in ops)), np.int64)
        for row, op in zip(table, ops, strict=True):
            entry = OPS[op.name]
            row[0] = addresses[op.name]
            row[1 : 1 + len(entry.sizes)] = [op.sizes.get(size, 0) for size in entry.sizes]
            for k, key in enumerate(entry.operands):
                operand, at = op.operands[key], 1 + SIZES + OPERAND * k
                if isinstance(operand, Buffer | Parameter):
                    row[at : at + OPERAND] = operand.offset, operand.rows, operand.stride
        return table

    def outside(self):
        """Where in the table each outside array belongs: name -> list of (row, column)."""
        places = {}
        for row, op in enumerate(self.ops):
            for k, key in enumerate(OPS[op.name].operands):
                if isinstance(op.operands[key], Outside):
                    places.setdefault(op.operands[key].name, []).append((row, 1 + SIZES + OPERAND * k))
        return places

    def tasks(self):
        """The tables of tasks and phases (see kernels/*/engine.py)."""
        tasks, phases, op = [], [], 0
        for phase in self.phases:
            begin = len(tasks)
            for chain in phase:
                extent = self.batch_size if chain.extent is None else chain.extent
                for first in range(0, extent, chain.block):
                    last = min(extent, first + chain.block)
                    tasks.append((op, op + len(chain.ops), first, last, chain.extent is None))
                op += len(chain.ops)
            phases.append((begin, len(tasks)))
        return np.array(tasks, np.int64), np.array(phases, np.int64)

    def __str__(self):
        lines = [
            f"{self.mode} plan: batches of {self.batch_size}, {self.theta} elements of parameters and optimiser state, "
            f"{self.workspace} of workspace"
        ]
        for number, phase in enumerate(self.phases):
            for chain in phase:
                extent = "rows of the batch" if chain.extent is None else f"{chain.extent} rows"
                lines.append(f"phase {number}, {chain.name}: {extent} in blocks of {chain.block}")
                lines.extend(f"    {op}" for op in chain.ops)
        return "\n".join(lines)


class Builder:
    """Collects a plan's buffers and ops; layers emit into it."""

    def __init__(self, batch_size):
        self.batch_size = batch_size
        self.buffers, self.size, self.ops = [], 0, []
        self.label = ""  # whose buffers are being made
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
        shape, rows = ((of.width,), of.rows) if isinstance(of, Parameter) else (of.shape, of.rows)
        self._gradient[of] = self.buffer(shape, f"d {of.name}", rows)
        return self._gradient[of]

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
                self._contribute(name, known, target, source, ops, in_place=source in op_outputs(op))
        return batch, parameters

    def _contribute(self, name, known, target, source, ops, in_place):
        earlier = self.gradient(source)
        if earlier is None or in_place:
            ops.append(planned(name, known | {target: earlier or self.start_gradient(source)}))
            return
        extra = self.buffer(earlier.shape, f"{earlier.name} (more)", earlier.rows)
        ops.append(planned(name, known | {target: extra}))
        ops.append(planned("add_forward", {"x": extra, "y": earlier, "width": extra.width}))

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
        plan.phases = [[Chain("rows", before + build.ops + after, None, BLOCK)]]
    else:
        target = build.buffer((output.width,), "targets")
        given = {"data": Outside("targets"), "order": Outside("order"), "x": target, "width": target.width}
        before.append(planned("gather_classes" if classes else "gather_rows", given))
        after = _score(build, output, target, loss, metrics)
        plan.columns = 1 + len(metrics)
        if mode == "evaluate":
            plan.phases = [[Chain("rows", before + build.ops + after, None, BLOCK)]]
        else:
            backward, parameters = build.differentiate()
            plan.phases = [[Chain("rows", before + build.ops + after + backward, None, BLOCK)]]
            plan.phases.append(_parameter_chains(plan, graph, build, parameters, optimizer))
            plan.phases = [phase for phase in plan.phases if phase]
    plan.workspace = build.size
    return plan


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
    """One chain a parameter, in the order of theta."""
    chains = []
    for parameter in graph.parameters:
        ops = list(gradients.get(parameter, ()))
        if not ops:
            continue
        gradient = plan.gradients[parameter.name] = build.gradient(parameter)
        if optimizer is not None:
            given = {"gradient": gradient, "coefficients": Outside("coefficients"), "parameter": parameter}
            slots = {name: parameter.slot(k, name, graph.size) for k, name in enumerate(optimizer.slots)}
            ops.append(planned(optimizer.op, given | slots))
            plan.theta = graph.size * (1 + len(optimizer.slots))
        chains.append(Chain(parameter.name, ops, parameter.rows, max(1, TILE // parameter.stride)))
    return chains
