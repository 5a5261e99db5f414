"""A model as a table for people."""

from __future__ import annotations

import math


def table(model):
    """Layers, output shapes, parameters and where each layer's input comes from."""
    graph = model.graph
    rows = [("layer", "output shape", "parameters", "input")]
    seen, frozen = set(), graph.frozen()
    for node in graph.nodes:
        parameters = graph.of_layer[node.layer].values() if node.layer not in seen else ()
        seen.add(node.layer)
        still = ", frozen" if parameters and frozen.issuperset(parameters) else ""
        rows.append(
            (
                f"{graph.names[node.layer]} ({_kind(node.layer)})",
                f"({', '.join(['n', *map(str, node.shape)])})",
                f"{sum(math.prod(parameter.shape) for parameter in parameters):,}{still}",
                ", ".join(graph.names[source.layer] for source in node.inputs),
            )
        )
    widths = [max(len(row[k]) for row in rows) for k in range(4)]
    lines = ["  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    lines.insert(1, "-" * (sum(widths) + 6))
    training = "not compiled"
    if model.loss is not None:
        training = ", ".join([repr(model.optimizer), str(model.loss), *(metric.name for metric in model.metrics)])
    lines.append("-" * (sum(widths) + 6))
    counts = f"{graph.count:,} parameters, {graph.trainable:,} trainable"
    lines.append(f"{counts}, {model.dtype}, seed {model.seed}; {training}")
    return "\n".join(lines)


def _kind(layer):
    activation = getattr(layer, "activation", "linear")
    return type(layer).__name__ + (f", {activation}" if activation != "linear" else "")
