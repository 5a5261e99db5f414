"""From a graph to its plan: layers emit forward ops, the catalogue gives their gradients, chains and phases follow."""

from __future__ import annotations

from numbanet.graph import Graph, Parameter, padded
from numbanet.kernels import OPS, PANEL, Geometry
from numbanet.plan import Buffer, Chain, Outside, Phase, Plan, PlannedOp, Scratch

MODES = ("predict", "evaluate", "gradient", "train")
LARGE = 2**12  # elements of a kernel, 16 KiB in float32, from which it may be worth a phase of its own


class Builder:
    """Collects a plan's buffers and ops; layers emit into it."""

    def __init__(self, batch_size, geometry=Geometry()):  # noqa: B008  (frozen)
        self.batch_size, self.geometry = batch_size, geometry
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
        gradient = Scratch(name, (PANEL,), max(self.geometry.tile, PANEL), after)
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
            ops.append(planned("gradient_add", {"gradient": extra, "total": earlier}))

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


def build_plan(
    graph: Graph,
    mode,
    batch_size,
    *,
    geometry=Geometry(),  # noqa: B008  (frozen)
    loss=None,
    metrics=(),
    optimizer=None,
    classes=False,
    direct=False,
):
    """The plan of a graph for a mode: "predict", "evaluate", "gradient" (no update) or "train".

    geometry: how the device wants it cut. classes: the targets are integer labels. direct: the samples have the
    model's dtype and dense rows, and are taken in order.
    """
    build = Builder(batch_size, geometry)
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
    forward = fused(build.ops)
    if direct:
        before = read_directly(before, forward, [op for ops in parameters.values() for op in ops], mode == "predict")
    apart = not plan.independent or geometry.group is not None
    rows = _row_phases(before + forward + after, batch_size, geometry, apart)
    copies = [parameter_chain(copy.name, [_transpose(of, copy)], of, geometry) for of, copy in build.copies.items()]
    chains = _parameter_chains(plan, graph, build, parameters, optimizer)
    phases = [Phase(copies, once=True), *rows, Phase(chains)]
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


def read_directly(gathers, forward, backward, check):
    """Leave samples that only products read where they lie; returns the gathers of the others.

    100,000 rows of 784 through 784-128-10 then take 94 instead of 102 ms on 2 cores: they arrive from memory while the
    first product computes. A training step of 784-128-10 with 32 rows takes 72 instead of 81 us, one of 784-32-10 20
    instead of 28. check: look for what is not finite.
    """
    kept = []
    for gather in gathers:
        x, data = gather.operands["x"], gather.operands["data"]
        readers = [op for op in forward + backward if x in op.operands.values()]
        if not readers or any(op.name not in ("dense_forward", "dense_backward_kernel") for op in readers):
            kept.append(gather)
            continue
        for op in readers:
            op.operands["x"] = data
        if check:
            last = max(k for k, op in enumerate(forward) if data in op.operands.values())
            forward.insert(last + 1, planned("check_rows", {"data": data, "width": x.width}))
    return kept


def _row_phases(ops, batch_size, geometry, apart):
    """Phases of ops over the batch. apart: products whose kernel is large beside what goes in and out have their own.

    There every worker computes some columns for the whole batch, with the part of the kernel that it updates itself;
    sharing rows, it would fetch the rest of the kernel from other cores' caches after every update. (784-128-10, 32
    rows on 2 cores: 75 us a step, 95 us with rows shared; 128 rows: 275 and 290. 64-64-10, 32 rows: 7.8 and 8.1.) A
    kernel of a single panel is not worth it: there is only one worker for it.
    """
    phases, chain = [], []
    for op in ops:
        inputs, units = op.sizes.get("inputs", 0), op.sizes.get("units", 0)
        large = max(LARGE, batch_size * (inputs + units) // 4)
        if not apart or "columns" not in op.sizes or inputs * units < large or min(inputs, units) <= PANEL:
            chain.append(op)
            continue
        phases.append(Phase([rows_chain(chain, geometry)]))
        phases.append(Phase([_columns_chain(op, batch_size, geometry)]))
        chain = []
    phases.append(Phase([rows_chain(chain, geometry)]))
    return [phase for phase in phases if phase.chains[0].ops]


def rows_chain(ops, geometry):
    """A chain over the rows of the batch."""
    return Chain("rows", ops, block=geometry.block, grain=geometry.grain)


def _columns_chain(op, batch_size, geometry):
    """A chain of one product by columns."""
    panels = padded(op.sizes["units" if op.name == "dense_forward" else "inputs"]) // PANEL
    group, span = geometry.grouping(batch_size, panels)
    by_columns = PlannedOp(op.name, op.operands, op.sizes | {"columns": group})
    extent = panels * -(-batch_size // group)
    return Chain("columns", [by_columns], "columns", extent, extent, grain=span)


def parameter_chain(name, ops, parameter, geometry):
    """A chain over a parameter."""
    return Chain(name, ops, "parameter", parameter.operand[1], geometry.tile, parameter.rows)


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
            kept = build.buffer((PANEL,), f"{gradient.name} (kept)", parameter.operand[1])
            plan.gradients[parameter.name] = kept
            ops.append(planned("gradient_keep", {"gradient": gradient, "kept": kept}))
        else:
            given = {"gradient": gradient, "coefficients": Outside("coefficients"), "parameter": parameter}
            slots = {name: parameter.slot(k, name, graph.size) for k, name in enumerate(optimizer.slots)}
            ops.append(planned(optimizer.op, given | slots))
            plan.theta = graph.size * (1 + len(optimizer.slots))
            if parameter in build.copies:
                ops.append(_transpose(parameter, build.copies[parameter]))
        chains.append(parameter_chain(parameter.name, ops, parameter, build.geometry))
    return chains
