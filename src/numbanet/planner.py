"""From a graph to its plan: ops of the layers, of the loss and of the backward pass, in chains and phases."""

from __future__ import annotations

from dataclasses import dataclass

from numbanet.builder import Builder, op_outputs, planned
from numbanet.graph import Graph, padded
from numbanet.kernels import FIRST_STEP, OPS, PANEL, Geometry
from numbanet.losses import Loss
from numbanet.metrics import Metric
from numbanet.optimizers import Optimizer
from numbanet.plan import Chain, Outside, Phase, Plan, PlannedOp
from numbanet.updates import gradient_phases, transposing, update_phases

TRAINING = ("loss", "gradient", "train")
MODES = ("predict", "evaluate", *TRAINING)
LARGE = 2**12  # elements of a kernel, 16 KiB in float32, from which it may be worth a phase of its own


def samples_of(name):
    """The outside array with the samples of an input: a name that no other outside array has."""
    return f"samples of {name}"


@dataclass(frozen=True)
class Form:
    """What samples look like.

    classes: targets are integer labels. direct: the features have the model's dtype and dense rows, and are taken in
    order. weighted: each sample has a weight.
    """

    classes: bool = False
    direct: bool = False
    weighted: bool = False


@dataclass(frozen=True)
class Goal:
    """What a network is trained for: a loss, metrics beside it, an optimiser, and the seed of its noise."""

    loss: Loss | None = None
    metrics: tuple[Metric, ...] = ()
    optimizer: Optimizer | None = None
    seed: int = 0


def build_plan(graph: Graph, mode, batch_size, form=Form(), goal=Goal(), geometry=Geometry()):  # noqa: B008  (frozen)
    """The plan of a graph for a mode of MODES; geometry: how the device wants it cut.

    "loss" and "gradient" compute the network as "train" does, noise included, but update nothing.
    """
    build = Builder(
        batch_size,
        geometry,
        training=mode in TRAINING,
        learning=mode == "train",
        seed=goal.seed,
        frozen=graph.frozen(),
    )
    before, values = [], {}
    for node in graph.inputs:
        name = graph.names[node.layer]
        values[node] = build.buffer(node.shape, name)
        before.append(_gathering("gather_rows", samples_of(name), values[node]))
    for node in graph.nodes:
        if node not in values:
            build.label, build.shape = graph.names[node.layer], node.shape
            inputs = [values[source] for source in node.inputs]
            values[node] = node.layer.emit(build, graph.of_layer[node.layer], *inputs)
    output = values[graph.output]
    plan = Plan(mode, batch_size, [], build.buffers, 0, graph.size, outputs=values)
    if mode == "predict":
        after = [planned("scatter_rows", {"x": output, "data": Outside("predictions"), "width": output.width})]
    else:
        target, weights = build.buffer((output.width,), "targets"), None
        before.append(_gathering("gather_classes" if form.classes else "gather_rows", "targets", target))
        if form.weighted:
            weights = build.buffer((1,), "weights")
            before.append(_gathering("gather_rows", "weights", weights))
        after = _score(build, output, target, weights, goal)
        plan.columns = 1 + len(goal.metrics)
    parameters = {}
    if mode in ("gradient", "train"):
        backward, parameters = build.differentiate()
        after += backward
        plan.deltas = {node: build.gradient(value) for node, value in values.items() if build.gradient(value)}
    forward = fused(build.ops)
    if form.direct:
        before = read_directly(before, forward, [op for ops in parameters.values() for op in ops], mode == "predict")
    apart = not plan.independent or geometry.group is not None
    phases = [
        Phase(transposing(build), FIRST_STEP),
        *_row_phases(before + forward + after, batch_size, geometry, apart),
    ]
    if mode == "gradient":
        phases += gradient_phases(plan, graph, build, parameters)
    elif mode == "train":
        phases += update_phases(plan, graph, build, parameters, goal.optimizer)
    plan.phases = [phase for phase in phases if phase.chains]
    plan.workspace, plan.scratch = build.size, build.scratch
    return plan


def _gathering(op, name, x):
    """The op that brings rows of an outside array into a buffer."""
    return planned(op, {"data": Outside(name), "order": Outside("order"), "x": x, "width": x.width})


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
        if OPS[op.name].axis == "features":
            phases += [Phase([rows_chain(chain, geometry)]), Phase([features_chain(op)])]
            chain = []
            continue
        inputs, units = op.sizes.get("inputs", 0), op.sizes.get("units", 0)
        large = max(LARGE, batch_size * (inputs + units) // 4)
        if not apart or "columns" not in op.sizes or inputs * units < large or min(inputs, units) <= PANEL:
            chain.append(op)
            continue
        phases.append(Phase([rows_chain(chain, geometry)]))
        phases.append(Phase([columns_chain(op, batch_size, geometry)]))
        chain = []
    phases.append(Phase([rows_chain(chain, geometry)]))
    return [phase for phase in phases if phase.chains[0].ops]


def rows_chain(ops, geometry):
    """A chain over the rows of the batch."""
    return Chain("rows", ops, block=geometry.block, grain=geometry.grain)


def features_chain(op):
    """A chain of one op that mixes rows."""
    extent = padded(op.sizes["width"]) // PANEL
    return Chain("features", [op], "columns", extent, extent)


def columns_chain(op, batch_size, geometry):
    """A chain of one product by columns."""
    panels = padded(op.sizes["units" if op.name == "dense_forward" else "inputs"]) // PANEL
    group, span = geometry.grouping(batch_size, panels)
    by_columns = PlannedOp(op.name, op.operands, op.sizes | {"columns": group})
    extent = panels * -(-batch_size // group)
    return Chain("columns", [by_columns], "columns", extent, extent, grain=span)


def _score(build, output, target, weights, goal):
    """The ops of the loss, of its weights and of the metrics. An activation with a fused loss gives way to it."""
    scores, loss, width = Outside("scores"), goal.loss, output.width
    last = build.ops[-1] if build.ops else None
    activation = last.name.removesuffix("_forward") if last and output in op_outputs(last) else None
    given = {"y": output, "target": target, "scores": scores, "width": width, "source": loss.source} | loss.reals
    whole = given if weights is None else given | {"scores": Outside("unweighted")}
    if activation in loss.fused:
        build.ops.pop()
        x = last.operands["x"]
        dy = build.start_gradient(x)
        ops = [planned(loss.fused[activation], whole | {"x": x, "dx": dy})]
    else:
        dy = build.start_gradient(output)
        ops = [planned(loss.op, whole | {"dy": dy})]
    if weights is not None:
        ops.append(planned("weigh", given | {"weights": weights, "dy": dy, "unweighted": Outside("unweighted")}))
    for column, metric in enumerate(goal.metrics, start=1):
        ops.append(planned(metric.op_for(loss, width), given | {"column": column}))
    return ops
