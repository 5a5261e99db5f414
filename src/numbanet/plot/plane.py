"""Models with two inputs, in the plane."""

from __future__ import annotations

import math

import numpy as np

from numbanet import validate
from numbanet.gradients import need_model
from numbanet.plot import canvas
from numbanet.plot.canvas import COLOURS, DIVERGING

MARKERS = "os^Dv*PX"
POINTS = 300  # of the raster, each way


def decision_boundary(model, X, y, path=None):
    """What a model with two inputs answers in the plane, and samples X (n, 2) on top.

    With two or more outputs the class of the largest, y being labels (or a row of probabilities a sample). With one
    output its value as shades, and as a line where it passes half way between the two values of y, if there are two.
    The picture ends a tenth beyond the samples. ValueError if the model has not one input of shape (2,).
    """
    canvas.check(path)
    if not fits(need_model(model)):
        shapes = ", ".join(str(node.shape) for node in model.graph.inputs)
        raise ValueError(f"the model takes samples of shape {shapes}; a boundary in the plane needs (2,)")
    X, y = points(model, X, y)
    figure = canvas.figure(6.4, 4.8)
    draw(figure, model, X, y)
    return canvas.finish(figure, path)


def fits(model):
    """Has the model one input, of two numbers, and a vector for an output?"""
    return [node.shape for node in model.graph.inputs] == [(2,)] and len(model.graph.output.shape) == 1


def points(model, X, y):
    """Samples and their labels or values, checked."""
    X = validate.features(X, (2,), "float64")
    (outputs,) = model.graph.output.shape
    if outputs == 1:
        return X, validate.values(y, len(X), 1, "float64")[:, 0].astype(np.float64)
    if not validate.is_classes(y, outputs):
        y = validate.values(y, len(X), outputs, "float64").argmax(axis=1)
    return X, validate.classes(y, len(X), outputs)[:, 0]


def draw(figure, model, X, y):
    """The model's answers and the samples."""
    low, high = X.min(axis=0), X.max(axis=0)
    margin = np.where(high > low, high - low, 1) / 10
    sides = [np.linspace(*ends, POINTS) for ends in zip(low - margin, high + margin, strict=True)]
    plane = np.stack(np.meshgrid(*sides), axis=-1)
    outputs = model.predict(plane.reshape(-1, 2)).astype(np.float64).reshape(POINTS, POINTS, -1)
    axes = figure.subplots()
    shades = _draw_classes if outputs.shape[-1] > 1 else _draw_values
    shades(figure, axes, sides, outputs, X, y)
    canvas.dress(axes, "decision boundary", "first input", "second input")
    axes.set(xlim=sides[0][[0, -1]], ylim=sides[1][[0, -1]])


def _class_colours(count):
    from matplotlib import colormaps

    return COLOURS[:count] if count <= len(COLOURS) else colormaps["viridis"](np.linspace(0, 1, count))


def _draw_classes(figure, axes, sides, outputs, X, y):
    from matplotlib.colors import to_rgb

    colours = _class_colours(outputs.shape[-1])
    tints = 0.7 + 0.3 * np.array([to_rgb(colour) for colour in colours])
    extent = (*sides[0][[0, -1]], *sides[1][[0, -1]])
    axes.imshow(tints[outputs.argmax(axis=-1)], extent=extent, origin="lower", aspect="auto", zorder=0)
    for k in range(len(colours)):
        ahead = outputs[..., k] - np.delete(outputs, k, axis=-1).max(axis=-1)
        if ahead.min() < 0 < ahead.max():
            axes.contour(*sides, ahead, levels=[0], colors="#333333", linewidths=1)
    found = np.unique(y)
    for k in found:
        _scatter(axes, X[y == k], colours[k], MARKERS[k % len(MARKERS)], f"class {k}", len(X))
    _legend(axes, len(found))


def _draw_values(figure, axes, sides, outputs, X, y):
    values, known = outputs[..., 0], np.unique(y)
    middle = known.mean()
    half = max(float(np.abs(values - middle).max()), 1e-6)
    scale = {"cmap": DIVERGING, "vmin": middle - half, "vmax": middle + half}
    if len(known) != 2:
        scale = {"cmap": "viridis", "vmin": min(values.min(), y.min()), "vmax": max(values.max(), y.max())}
    extent = (*sides[0][[0, -1]], *sides[1][[0, -1]])
    alpha = 0.6 if len(known) == 2 else 1  # samples in colours of the scale must have those of the raster
    shades = axes.imshow(values, extent=extent, origin="lower", aspect="auto", alpha=alpha, zorder=0, **scale)
    figure.colorbar(shades, ax=axes, label="output", pad=0.02)
    if len(known) != 2:
        axes.scatter(*X.T, c=y, edgecolors="#333333", linewidths=0.6, s=_size(len(X)), **scale)
        return
    if values.min() < middle < values.max():
        axes.contour(*sides, values, levels=[middle], colors="#333333", linewidths=1.5)
    for k, value in enumerate(known):
        _scatter(axes, X[y == value], COLOURS[k], MARKERS[k], f"target {value:g}", len(X))
    _legend(axes, 2)


def _size(count):
    """A marker's area: smaller for many samples."""
    return float(np.clip(6000 / count, 6, 40))


def _scatter(axes, points, colour, marker, label, count):
    edge = {"edgecolors": "white", "linewidths": 0.5}
    axes.scatter(*points.T, s=_size(count), color=[colour], marker=marker, label=label, **edge)


def _legend(axes, count):
    """Beside the picture, where it hides no sample."""
    axes.legend(fontsize=10, loc="upper left", bbox_to_anchor=(1.01, 1), ncols=math.ceil(count / 14), borderaxespad=0)
