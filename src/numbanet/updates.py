"""What becomes of gradients: the phases over the parameters.

Each parameter has one chain: its gradient over the whole batch, its regulariser's, the update, the transposed copy.
Clipping by a norm must see all of a gradient before any of it is used, and gathering gradients over several steps
updates in the last of them only: then gradients are kept, and the chain goes on in a phase of its own.
"""

from __future__ import annotations

from numbanet.builder import planned
from numbanet.graph import padded
from numbanet.kernels import EVERY_STEP, LAST_STEP, OPS, PANEL
from numbanet.plan import Chain, Outside, Phase


def parameter_chain(name, ops, parameter, geometry):
    """A chain over a parameter."""
    return Chain(name, ops, "parameter", parameter.operand[1], geometry.tile, parameter.rows)


def transposing(build):
    """The phase that makes the transposed copies."""
    return [parameter_chain(copy.name, _transpose(build, of), of, build.geometry) for of, copy in build.copies.items()]


def gradient_phases(plan, graph, build, gradients):
    """The phase that leaves all gradients in buffers, `plan.gradients`; gradients: ops by parameter."""
    chains = []
    for parameter, ops in _in_order(graph, build, gradients):
        ops, plan.gradients[parameter.name] = _keep(build, parameter, ops)
        chains.append(parameter_chain(parameter.name, ops, parameter, build.geometry))
    return [Phase(chains)]


def update_phases(plan, graph, build, gradients, optimizer):
    """The phases that update the parameters; gradients: ops by parameter."""
    wanted = dict.fromkeys(OPS[optimizer.op].operands)  # a slot that the optimiser does without stays None
    plan.theta, plan.period = graph.size * (1 + len(optimizer.slots)), optimizer.period
    norms = _Norms(build, optimizer, len(gradients))
    first, second = [], []
    for parameter, ops in _in_order(graph, build, gradients):
        slots = {name: parameter.slot(k, name, graph.size) for k, name in enumerate(optimizer.slots)}
        given = {"gradient": build.gradient(parameter), "coefficients": Outside("coefficients")}
        given |= slots | {"parameter": parameter}
        end = [planned(optimizer.op, wanted | given), *_transpose(build, parameter)]
        if optimizer.clipvalue is not None:
            end.insert(0, planned("gradient_clip", given | {"limit": optimizer.clipvalue}))
        if optimizer.period == 1 and not norms.limit:
            first.append(parameter_chain(parameter.name, [*ops, *end], parameter, build.geometry))
            continue
        if optimizer.period > 1:
            ops = [*ops, planned("gradient_accumulate", given | {"column": optimizer.columns})]
        ops, kept = _keep(build, parameter, ops)
        measure, factor = norms.of(parameter)
        take = planned("gradient_take", given | {"kept": kept, "factor": factor})
        first.append(parameter_chain(parameter.name, [*ops, *measure], parameter, build.geometry))
        second.append(parameter_chain(f"{parameter.name}, update", [take, *end], parameter, build.geometry))
    when = LAST_STEP if optimizer.period > 1 else EVERY_STEP
    return [Phase(first), Phase(norms.chains, when), Phase(second, when)]


class _Norms:
    """Clipping by norms: of each gradient by itself (`clipnorm`), or of all together (`global_clipnorm`)."""

    def __init__(self, build, optimizer, count):
        self.limit = optimizer.clipnorm or optimizer.global_clipnorm
        self.chains = []
        self._build, self._count, self._whole = build, count, optimizer.clipnorm is None
        self._together = self._new("all gradients", count) if self.limit and self._whole else None

    def _new(self, name, count):
        """The buffers of some norms and of their factor; and the chain that computes them."""
        norms = self._build.buffer((count,), f"norms of {name}", 1)
        factor = self._build.buffer((1,), f"factor of {name}", 1)
        clip = planned("clip_factor", {"norms": norms, "factor": factor, "width": count, "limit": self.limit})
        self.chains.append(Chain(f"norm of {name}", [clip], "whole", 1))
        return norms, factor, self.chains[-1]

    def of(self, parameter):
        """The ops that measure a parameter's gradient, and the buffer of the factor to multiply it with; if any."""
        if not self.limit:
            return [], None
        gradient = self._build.gradient(parameter)
        rows = padded(parameter.operand[1]) // PANEL
        squares = self._build.buffer((PANEL,), f"squares of {gradient.name}", rows)
        norms, factor, chain = self._together or self._new(gradient.name, 1)
        column = len(chain.ops) - 1
        chain.ops.insert(column, planned("sum_squares", {"squares": squares, "norms": norms, "column": column}))
        return [planned("gradient_squares", {"gradient": gradient, "squares": squares})], factor


def _in_order(graph, build, gradients):
    """Each parameter with the ops of its gradient, its regulariser's included, in the order of theta."""
    at = 0  # in the row of all penalties
    for parameter, spec in zip(graph.parameters, graph.specs, strict=True):
        ops, first, at = gradients.get(parameter), at, at + parameter.size
        if ops and spec.regularizer:
            given = {"gradient": build.gradient(parameter), "parameter": parameter, "penalties": Outside("penalties")}
            sizes = {"l1": spec.regularizer.l1, "l2": spec.regularizer.l2, "at": first // PANEL}
            ops = [*ops, planned("regularize", given | sizes)]
        if ops:
            yield parameter, ops


def _keep(build, parameter, ops):
    """The ops of a gradient and one that keeps it, and where."""
    gradient = build.gradient(parameter)
    kept = build.buffer((PANEL,), f"{gradient.name} (kept)", parameter.operand[1])
    return [*ops, planned("gradient_keep", {"gradient": gradient, "kept": kept})], kept


def _transpose(build, parameter):
    """The op that makes the transposed copy of a parameter, if it has one."""
    if parameter not in build.copies:
        return []
    given = {"parameter": parameter, "transposed": build.copies[parameter]}
    return [planned("transpose", given | {"inputs": parameter.rows, "units": parameter.width})]
