"""The gradient report: does the gradient reach every layer, and how large is it there?"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from numbanet import sharing
from numbanet.gradients import kept, need_model
from numbanet.program import Program
from numbanet.training import run_epoch

VANISHING = 1e-3  # of the last layer's delta, and a layer learns a thousand times slower
EXPLODING = 1e6
GROWING, GROWTH = 1e3, 2.0  # a thousandfold, if by more than this a layer
LARGE = 100.0  # gradient over weights: a step of plain SGD(0.01) then replaces the weights
MANY = 0.5  # share of dead units or saturated outputs that is worth a sentence

# Where an activation is flat, in terms of its output: a unit that never leaves it passes no gradient.
ALIVE = {  # name -> outputs at which the slope is not (about) 0
    "relu": lambda y, alpha: y > 0,
    "leaky_relu": lambda y, alpha: (y > 0) | (alpha != 0),
    "elu": lambda y, alpha: y > -0.99 * alpha,
    "selu": lambda y, alpha: y > -0.99 * 1.7580993408473766,
    "softplus": lambda y, alpha: y > 0.01,
    "gelu": lambda y, alpha: (y > 0) | (y < -1e-3),  # both come back to 0 far below it
    "swish": lambda y, alpha: (y > 0) | (y < -1e-3),
}
KINDS = {"LeakyReLU": "leaky_relu", "ELU": "elu"}  # layers that are an activation with a parameter
RANGES = {"sigmoid": (0, 1), "hard_sigmoid": (0, 1), "tanh": (-1, 1), "softsign": (-1, 1)}
EDGE = 0.01  # of a range: nearer to its ends an output is saturated


@dataclass(frozen=True)
class LayerGradient:
    """What arrives at one layer with parameters; None where there is nothing to tell.

    gradient: norm of the loss's derivative by the layer's parameters, mean: their mean magnitude, weights: norm of the
    parameters themselves, delta: norm of the derivative by the layer's outputs, all samples together. dead: share of
    units, saturated: share of outputs (see gradient_report). note: "frozen", "no gradient", or nothing.
    """

    layer: str
    kind: str
    gradient: float | None
    mean: float | None
    weights: float
    delta: float | None
    dead: float | None
    saturated: float | None
    note: str = ""

    @property
    def relative(self):
        """The gradient's norm over that of the weights; None if there is no gradient."""
        if self.gradient is None:
            return None
        return self.gradient / self.weights if self.weights else math.inf if self.gradient else 0.0


@dataclass(frozen=True)
class GradientReport:
    """What gradient_report found: a row for each layer, and a verdict with its reason.

    ratio: the first layer's gradient norm over the last's, of those that have one; delta_ratio: the same of the
    derivatives by their outputs. loss: on these samples. verdict: "vanishing", "healthy" or "exploding".
    """

    rows: list[LayerGradient]
    ratio: float
    delta_ratio: float
    loss: float
    samples: int
    verdict: str
    reason: str

    def __str__(self):
        head = ("layer", "gradient", "mean", "weights", "grad/weights", "delta", "dead", "saturated", "")
        table = [head, *(_cells(row) for row in self.rows)]
        widths = [max(len(line[k]) for line in table) for k in range(len(head))]
        lines = [
            "  ".join(text.rjust(width) if k else text.ljust(width) for k, (text, width) in enumerate(pairs)).rstrip()
            for pairs in (list(zip(line, widths, strict=True)) for line in table)
        ]
        rule = "-" * max(map(len, lines))
        return "\n".join(
            [
                lines[0],
                rule,
                *lines[1:],
                rule,
                f"{self.samples:,} samples, loss {self.loss:.4g}; first layer over last: gradient {self.ratio:.2g}, "
                f"delta {self.delta_ratio:.2g}",
                f"{self.verdict}: {self.reason}",
            ]
        )


def gradient_report(model, X, y, verbose=True):
    """Print, unless verbose is False, and return a GradientReport: the gradients of all layers on (X, y).

    One batch of all samples as in training, with regularisers, noise (that of the first step) and the batch's own
    statistics, in the model's dtype; memory for all of its activations is needed, a few hundred samples will do. The
    model is not touched.

    For each layer with parameters: norm and mean magnitude of its gradient, norm of its weights; its delta, the norm
    of the loss's derivative by the layer's outputs (before an activation that is computed in place); the share of dead
    units, those at which the activation's slope is 0 on all samples (relu: never above 0), and of saturated outputs,
    those within a hundredth of the range from one of its ends (sigmoid, tanh and the like). The activation is the
    layer's own or the one that follows it.

    The verdict compares deltas, since it is these that are multiplied from layer to layer on the way back (Hochreiter
    1991; Bengio, Simard & Frasconi 1994): gradients of weights are deltas times activations, and when both shrink or
    both grow their product can be the same everywhere. Summed by samples as norms, deltas do not cancel at a minimum.
    Relative to the last layer's:

    - vanishing, if the smallest delta is below 1e-3: that layer learns a thousand times slower. Chains of sigmoids
      (slopes of at most 1/4) come to that after six layers (compare Glorot & Bengio 2010), as do dead relus. Also if
      all are 0 though the loss is not.
    - exploding, if the largest is above 1e6, or above 1e3 and grown by a factor of more than 2 a layer (Pascanu,
      Mikolov & Bengio 2013); or if anything is infinite or NaN. Growing slower is no fault of a chain of layers: each
      block x + f(x) of a residual net without normalisation adds to the variance, a factor of 1.4 to 1.8.
    - healthy otherwise. The reason says so if gradients are large beside their weights, and names layers of which
      half or more is dead or saturated, whatever the verdict.

    ValueError if the model is not compiled, no layer is trainable or the data does not fit.
    """
    need_model(model)._need_compiled()
    data, graph = model._data(X, y), model.graph
    frozen = graph.frozen()
    if len(frozen) == len(graph.parameters):
        raise ValueError("no layer of the model is trainable: there are no gradients to report")
    program, loss = differentiated(model, data)
    gradients = kept(program, graph)
    rows = [_row(model, layer, program, gradients, frozen) for layer in graph.layers if graph.of_layer[layer]]
    verdict, reason = _verdict(rows, loss)
    report = GradientReport(
        rows,
        _ratio([row.gradient for row in rows]),
        _ratio([row.delta for row in rows]),
        loss,
        data.samples,
        verdict,
        " ".join([reason, *_remarks(rows)]),
    )
    if verbose:
        print(report)
    return report


def differentiated(model, data):
    """A program that has computed all gradients over the data as one batch, and the loss.

    It is not kept with the model's others: its workspace is as large as all samples together.
    """
    with sharing.lock:  # nobody moves what the plan says is there
        plan = model._plan("gradient", data.samples, data.form())
        program = Program(plan, model._device, model.dtype, model._memory)
    means = run_epoch(program, data, np.arange(data.samples), data.samples)
    return program, float(means[0] + model.graph.penalty(model._theta, model.graph.frozen()))  # others are in it


def _row(model, layer, program, gradients, frozen):
    """One layer's figures, computed in float64: squares of large numbers are beyond float32."""
    graph, plan = model.graph, program.plan
    specs = dict(zip(graph.parameters, graph.specs, strict=True))
    own = [parameter for parameter in graph.of_layer[layer].values() if specs[parameter].trainable]
    own = own or list(graph.of_layer[layer].values())
    found = [gradients[parameter.name] for parameter in own if parameter.name in gradients]
    flat = np.concatenate([array.ravel() for array in found]).astype(np.float64) if found else None
    nodes = [node for node in graph.nodes if node.layer is layer]
    deltas = [program.read(plan.deltas[node]) for node in nodes if node in plan.deltas]
    dead, saturated = _flat_shares(graph, nodes, program)
    kind, activation = type(layer).__name__, _activation(layer)[0]
    return LayerGradient(
        layer=graph.names[layer],
        kind=kind if activation == "linear" else f"{kind}, {getattr(activation, 'name', activation)}",
        gradient=None if flat is None else _norm([flat]),
        mean=None if flat is None else float(np.abs(flat).mean()),
        weights=_norm([parameter.unpack(model._theta) for parameter in own]),
        delta=_norm(deltas) if deltas else None,
        dead=dead,
        saturated=saturated,
        note="" if found else "frozen" if frozen.issuperset(own) else "no gradient",
    )


def _norm(arrays):
    return math.sqrt(sum(float(np.square(array, dtype=np.float64).sum()) for array in arrays))


def _activation(layer):
    """The activation of a layer, a name or the description of a function, and its parameter, if the layer has one."""
    activation = getattr(layer, "activation", None) or KINDS.get(type(layer).__name__, "linear")
    return activation, getattr(layer, "negative_slope", getattr(layer, "alpha", 1.0))


def _flat_shares(graph, nodes, program):
    """The shares of dead units and of saturated outputs of a layer's nodes; None if its activation has no such thing.

    A unit is a place on the last axis: of an image a channel, wherever it looks.
    """
    shown = [at for at in (_activated(graph, node) for node in nodes) if at is not None]
    if not shown:
        return None, None
    name, alpha = _activation(shown[0].layer)
    if not isinstance(name, str):  # a user's function, whatever it is called
        return None, None
    outputs = np.concatenate([program.read(program.plan.outputs[node]).reshape(-1, node.shape[-1]) for node in shown])
    dead = saturated = None
    if name in ALIVE:
        dead = float(1 - ALIVE[name](outputs, alpha).any(axis=0).mean())
    if name in RANGES:
        low, high = RANGES[name]
        edge = EDGE * (high - low)
        saturated = float(((outputs < low + edge) | (outputs > high - edge)).mean())
    return dead, saturated


def _activated(graph, node):
    """The node whose output shows how a node's units fire: itself, or the activation that its output goes to."""
    while _activation(node.layer)[0] == "linear":
        users = [other for other in graph.nodes if node in other.inputs]
        if len(users) != 1 or graph.of_layer[users[0].layer] or users[0].shape != node.shape:
            return None
        node = users[0]
    return node


def _ratio(values):
    """The first over the last of those that there are."""
    values = [value for value in values if value is not None]
    if not values or not values[-1]:
        return math.nan if not values or not values[0] else math.inf
    return values[0] / values[-1]


def _verdict(rows, loss):
    """The verdict and its reason, by the rule in gradient_report."""
    strange = [row.layer for row in rows if not math.isfinite((row.delta or 0) + (row.gradient or 0))]
    if strange:
        return "exploding", f"the gradient of {_some(strange)} is beyond all numbers."
    cut = [row.layer for row in rows if row.note == "no gradient"]
    if cut:
        return "vanishing", f"no gradient reaches {_some(cut)}."
    reached = [k for k, row in enumerate(rows) if row.delta is not None]
    if not any(rows[k].delta for k in reached):
        if loss < 1e-6:
            return "healthy", "all gradients are 0, and so is the loss: there is nothing left to learn."
        return "vanishing", f"all gradients are 0, though the loss is {loss:.3g}."
    last = max(k for k in reached if rows[k].delta)
    small, large = (which(reached, key=lambda k: rows[k].delta) for which in (min, max))
    least, most = rows[small].delta / rows[last].delta, rows[large].delta / rows[last].delta
    if least == 0:
        return "vanishing", f"no gradient reaches {_some([rows[k].layer for k in reached if not rows[k].delta])}."
    if least < VANISHING:
        return "vanishing", f"{_way(rows, last, small, least)}; it learns that much slower."
    if most > EXPLODING or (most > GROWING and _per_layer(last, large, most) > GROWTH):
        return "exploding", f"{_way(rows, last, large, most)}; no learning rate suits both."
    return "healthy", f"{_way(rows, last, reached[0], rows[reached[0]].delta / rows[last].delta)}."


def _per_layer(last, other, factor):
    return factor ** (1 / max(1, abs(last - other)))


def _way(rows, last, other, factor):
    """What becomes of the delta between two layers."""
    if other == last:
        return f"the gradient reaches {rows[last].layer}"
    rate = _per_layer(last, other, factor)
    return f"the delta of {rows[other].layer} is {factor:.2g} times that of {rows[last].layer}, {rate:.2g} a layer"


def _remarks(rows):
    """Sentences on dead units, saturated outputs and large gradients; not on the last layer, whose ends are answers."""
    remarks = []
    for share, text in (("dead", "units are dead"), ("saturated", "outputs are saturated")):
        found = [(row.layer, getattr(row, share)) for row in rows[:-1] if (getattr(row, share) or 0) >= MANY]
        if found:
            remarks.append(f"{_some([f'{100 * value:.0f}% in {name}' for name, value in found])}: {text}.")
    large = [row for row in rows if row.relative is not None and LARGE < row.relative < math.inf]
    if large:
        worst = max(large, key=lambda row: row.relative)
        remarks.append(f"The gradient of {worst.layer} is {worst.relative:.2g} times its weights: small steps only.")
    return remarks


def _some(names):
    """A few names, and how many more."""
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more


def _cells(row):
    numbers = [row.gradient, row.mean, row.weights, row.relative, row.delta]
    shares = [row.dead, row.saturated]
    return (
        f"{row.layer} ({row.kind})",
        *("-" if value is None else f"{value:.2e}" for value in numbers),
        *("-" if value is None else f"{100 * value:.0f}%" for value in shares),
        row.note,
    )
