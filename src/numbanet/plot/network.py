"""What is inside a network: weights, and the gradients that reach them."""

from __future__ import annotations

import math

import numpy as np

from numbanet import validate
from numbanet.gradients import need_model
from numbanet.layers import Input, Layer
from numbanet.names import lookup
from numbanet.plot import canvas
from numbanet.plot.canvas import COLOURS, DIVERGING
from numbanet.report import GradientReport, gradient_report

MOST = 100  # units of one picture of weights
SMALLEST = 16  # inputs from which a square number of them is taken for an image


def weights(model, layer=None, shape=None, path=None):
    """A layer's kernel: an image for each unit if its inputs are pixels, else one heat map of inputs by units.

    layer: a layer, its name or its place in model.layers; None is the first that has a kernel. shape: (rows, columns)
    of a unit's image; by default that of the model's Input, or a square if the layer sees the input and their number is
    a square from 16 on. At most a hundred units are drawn. Red is positive, blue negative, on one scale.
    """
    canvas.check(path)
    layer = _layer(need_model(model), layer)
    parameter = next(at for at in model.graph.of_layer[layer].values() if len(at.shape) > 1)
    kernel = parameter.unpack(model._theta).astype(np.float64)
    if kernel.ndim == 4:  # a convolution's windows, one channel below the other
        kernel = kernel.transpose(2, 0, 1, 3)
        window = (kernel.shape[0] * kernel.shape[1], kernel.shape[2])
    else:
        window = _image_shape(model, layer, math.prod(kernel.shape[:-1]), shape)
    kernel = kernel.reshape(-1, kernel.shape[-1])
    inputs, units = kernel.shape
    kernel = kernel[:, :MOST]
    some = _counted(units, "unit") if units <= MOST else f"{MOST} of {units} units"
    largest = float(np.abs(kernel).max()) or 1.0
    colours = {"cmap": DIVERGING, "vmin": -largest, "vmax": largest, "interpolation": "nearest"}
    figure = canvas.figure(7.2, 5.6)
    axes = figure.subplots()
    if window:
        picture = _draw_mosaic(axes, kernel, window, colours)
        title, labels = f"{some}, {window[0]} x {window[1]} inputs each", ("place in the row", "first unit of the row")
    else:
        picture = axes.imshow(kernel, aspect="auto", **colours)
        title, labels = f"{_counted(inputs, 'input')}, {some}", ("unit", "input")
        canvas.whole_ticks(axes.xaxis)
        canvas.whole_ticks(axes.yaxis)
    canvas.dress(axes, f"{canvas.short(parameter.name)}: {title}", *labels)
    axes.grid(False)
    axes.spines[:].set_visible(not window)
    figure.colorbar(picture, ax=axes, label="weight", pad=0.02)
    return canvas.finish(figure, path)


def _counted(number, what):
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def _layer(model, layer):
    """The layer that is meant, one with a kernel."""
    graph = model.graph
    known = {graph.names[at]: at for at in graph.layers if any(len(p.shape) > 1 for p in graph.of_layer[at].values())}
    if not known:
        raise ValueError("no layer of the model has a kernel to draw")
    if layer is None:
        return next(iter(known.values()))
    if isinstance(layer, int | np.integer) and not isinstance(layer, bool):
        layers = model.layers
        if not -len(layers) <= layer < len(layers):
            raise ValueError(f"layer {layer}: the model has {len(layers)} layers, from 0 to {len(layers) - 1}")
        layer = layers[layer]
    if isinstance(layer, Layer):
        if layer not in graph.names:
            raise ValueError(f"the model has no such {type(layer).__name__}; known: {', '.join(known)}")
        layer = graph.names[layer]
    return lookup("layer with a kernel", layer, known)


def _image_shape(model, layer, inputs, shape):
    """Rows and columns of a unit's image, or None."""
    if shape is not None:
        shape = validate.shape("shape", shape)
        if len(shape) != 2 or math.prod(shape) != inputs:
            raise ValueError(f"shape {shape} does not fit {inputs} inputs; expected (rows, columns) with that product")
        return shape
    source = next(node for node in model.graph.nodes if node.layer is layer).inputs[0]
    while not isinstance(source.layer, Input):
        if len(source.inputs) != 1 or model.graph.of_layer[source.layer]:
            return None
        source = source.inputs[0]
    pixels = tuple(size for size in source.shape if size > 1)
    if len(pixels) == 2 and math.prod(pixels) == inputs:
        return pixels
    side = math.isqrt(inputs)
    return (side, side) if side * side == inputs >= SMALLEST else None


def _draw_mosaic(axes, kernel, shape, colours):
    """All units' images on one canvas with gaps; a unit's number is that below its column plus that of its row."""
    (rows, columns), units = shape, kernel.shape[1]
    across = round(math.sqrt(1.3 * units * rows / columns))
    across = min(units, 10 if across > 6 else max(1, across))  # tens are easy to count
    down = math.ceil(units / across)
    gap = max(1, min(rows, columns) // 8)
    canvas = np.full((down * (rows + gap) - gap, across * (columns + gap) - gap), np.nan)
    for unit in range(units):
        top, left = unit // across * (rows + gap), unit % across * (columns + gap)
        canvas[top : top + rows, left : left + columns] = kernel[:, unit].reshape(shape)
    axes.set_xticks(np.arange(across) * (columns + gap) + (columns - 1) / 2, range(across))
    axes.set_yticks(np.arange(down) * (rows + gap) + (rows - 1) / 2, range(0, down * across, across))
    axes.tick_params(length=0)
    return axes.imshow(canvas, **colours)


def gradient_flow(report, X=None, y=None, path=None):
    """The norm of each layer's gradient as a bar, its delta as a mark, the verdict as the title.

    report: what gradient_report returns, or a compiled model and samples (X, y) for it.
    """
    canvas.check(path)
    if not isinstance(report, GradientReport):
        report = gradient_report(report, X, y, verbose=False)
    rows = report.rows
    place = np.arange(len(rows))
    gradients, deltas = (
        np.array([getattr(row, name) or np.nan for row in rows], np.float64) for name in ("gradient", "delta")
    )
    drawn = np.concatenate([gradients, deltas])
    drawn = drawn[np.isfinite(drawn)]
    figure = canvas.figure(7.2, min(40, 2.2 + 0.27 * max(4, len(rows))))
    axes = figure.subplots()
    ends = np.log10([drawn.min() / 2, drawn.max() * 1.2] if len(drawn) else [0.1, 10])
    low, high = 10 ** np.floor(ends[0]), 10 ** np.ceil(ends[1])  # whole decades: their ticks do not crowd
    bars = np.nan_to_num(gradients, nan=low, posinf=high)
    axes.barh(
        place, bars - low, left=low, height=0.7, color=COLOURS[5], edgecolor=COLOURS[0], label="gradient of the weights"
    )
    axes.plot(deltas, place, "D", color=COLOURS[1], markersize=5, label="delta: gradient of the outputs")
    for k, row in enumerate(rows):
        if not np.isfinite(gradients[k]):
            text = row.note or ("0" if row.gradient == 0 else "beyond all numbers")
            axes.annotate(text, (low, k), (4, 0), textcoords="offset points", va="center", fontsize=10)
    axes.set(xscale="log", xlim=(low, high), ylim=(len(rows) - 0.4, -0.6))
    axes.set_yticks(place, [canvas.short(row.layer) for row in rows])
    canvas.dress(axes, f"gradients: {report.verdict}", "norm (log scale)", "layer")
    axes.grid(False, axis="y")
    figure.legend(*(reversed(part) for part in axes.get_legend_handles_labels()), loc="outside lower center", ncols=2)
    return canvas.finish(figure, path)
