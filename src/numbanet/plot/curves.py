"""Curves: training by epoch, activations by their input."""

from __future__ import annotations

import math

import numpy as np

from numbanet import validate
from numbanet.gradients import need_model
from numbanet.layers import ACTIVATIONS, Activation, Dense, Input
from numbanet.model import Sequential
from numbanet.plot import canvas, plane
from numbanet.plot.canvas import COLOURS
from numbanet.report import differentiated
from numbanet.training import History


def history(history, path=None):
    """Loss and metrics by epoch, a panel each, the validation data's dashed. history: what fit returns, or its dict.

    A loss or learning rate that changes by more than a factor of 50 has a logarithmic scale. ValueError if there is no
    epoch.
    """
    canvas.check(path)
    return canvas.finish(_of_history(_panels(history)), path)


def training(history, model, X, y, path=None):
    """The history and, beside it for two inputs and classes, the decision boundary: `numbanet train --plot`.

    See history and decision_boundary for the arguments.
    """
    canvas.check(path)
    panels = _panels(history)
    if not (plane.fits(need_model(model)) and validate.is_classes(y, *model.graph.output.shape)):
        return canvas.finish(_of_history(panels), path)
    columns = _columns(len(panels))
    figure = canvas.figure(5.2 * columns + 5.6, 4 * math.ceil(len(panels) / columns))
    left, right = figure.subfigures(1, 2, width_ratios=(5.2 * columns, 5.6))
    _draw_history(left, panels, columns)
    plane.draw(right, model, *plane.points(model, X, y))
    return canvas.finish(figure, path)


def _panels(history):
    """name -> {"training": values, "validation": values}."""
    curves = history.history if isinstance(history, History) else history
    if not isinstance(curves, dict):
        raise TypeError(f"history must be what fit returns or its dict, not {type(history).__name__}")
    panels = {}
    for name, values in curves.items():
        whose = "validation" if str(name).startswith("val_") else "training"
        panels.setdefault(str(name).removeprefix("val_"), {})[whose] = _numbers(f"history[{name!r}]", values)
    if not any(len(values) for curves in panels.values() for values in curves.values()):
        raise ValueError("the history has no epochs to draw")
    return panels


def _numbers(what, values):
    try:
        array = np.asarray(values, np.float64)
    except (TypeError, ValueError):
        array = None
    if array is None or array.ndim != 1:
        raise TypeError(f"{what} must be a list of numbers, not {repr(values)[:60]}")
    return array


def _of_history(panels):
    columns = _columns(len(panels))
    figure = canvas.figure(5.2 * columns, 4 * math.ceil(len(panels) / columns))
    _draw_history(figure, panels, columns)
    return figure


def _columns(panels):
    return 2 if panels == 4 else min(3, panels)


def _draw_history(figure, panels, columns):
    grid = figure.subplots(math.ceil(len(panels) / columns), columns, squeeze=False)
    for axes in grid.flat[len(panels) :]:
        axes.remove()
    for axes, (name, curves) in zip(grid.flat, panels.items(), strict=False):
        for (whose, values), colour, style in zip(curves.items(), COLOURS, ("-", "--"), strict=False):
            mark = "o" if len(values) <= 25 else None
            axes.plot(1 + np.arange(len(values)), values, style, color=colour, marker=mark, markersize=4, label=whose)
        values = np.concatenate([values[np.isfinite(values)] for values in curves.values()])
        steep = (
            name in ("loss", "learning_rate") and len(values) and values.min() > 0 and values.max() / values.min() > 50
        )
        if steep:
            axes.set_yscale("log")
        canvas.dress(axes, name, "epoch", f"{name} (log scale)" if steep else name)
        canvas.whole_ticks(axes.xaxis)
        axes.legend(fontsize=10, framealpha=0.9)


def activation_functions(names=None, path=None):
    """Curve and slope of activations from -4 to 4, as the kernels compute them. names: one, a list, or None for all.

    softmax and log_softmax, functions of vectors, are shown for (z, 0): the first output, its slope by z.
    """
    canvas.check(path)
    names = list(ACTIVATIONS) if names is None else list(names) if isinstance(names, list | tuple) else [names]
    if not names:
        raise ValueError(f"no activation to draw; known: {', '.join(ACTIVATIONS)}")
    z = np.linspace(-4, 4, 401)
    curves = [(_shown(name), *_activation_curve(name, z)) for name in names]
    columns = min(len(names), 3 if len(names) <= 9 else 5)
    rows = math.ceil(len(names) / columns)
    figure = canvas.figure(max(3.6, 2.9 * columns), 0.5 + 2.5 * rows)
    grid = figure.subplots(rows, columns, squeeze=False)
    for axes in grid.flat[len(names) :]:
        axes.remove()
    for axes, (name, values, slopes) in zip(grid.flat, curves, strict=False):
        axes.plot(z, values, color=COLOURS[0], linewidth=2, label="f(z)")
        axes.plot(z, slopes, "--", color=COLOURS[1], linewidth=2, label="slope f'(z)")
        canvas.dress(axes, canvas.short(name), "z", "f(z), f'(z)" if axes in grid[:, 0] else "")
        axes.set_xticks([-4, -2, 0, 2, 4])
    figure.legend(*grid[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=2, fontsize=11)
    return canvas.finish(figure, path)


def _shown(name):
    name = getattr(name, "name", getattr(name, "__name__", name))
    return f"{name} of (z, 0)" if name in ("softmax", "log_softmax") else str(name)


def _activation_curve(name, z):
    """Values and slopes at z of an activation's first output for inputs (z, 0).

    Slopes are what training sees: the derivative by the first input of a loss whose derivative by the output is (1, 0).
    """
    first = Dense(2, use_bias=False)
    model = Sequential([Input(1), first, Activation(name)], seed=0, dtype="float64")
    model.set_weights([[[1.0, 0.0]]])
    model.compile("sgd", "half_squared_error")
    values = model.predict(z[:, None])
    program, _ = differentiated(model, model._data(z[:, None], values - [1.0, 0.0]))
    (node,) = (node for node in model.graph.nodes if node.layer is first)
    if node not in program.plan.deltas:  # flat everywhere, as a step is
        return values[:, 0], np.zeros_like(z)
    return values[:, 0], program.read(program.plan.deltas[node])[:, 0] * len(z)
