"""Descriptions as plain data and back, from closed tables: no name in a file is ever looked up by import."""

from __future__ import annotations

import dataclasses

from numbanet import initializers, layers, losses, metrics, optimizers, validate
from numbanet.graph import Graph
from numbanet.layers import Input, connect
from numbanet.names import lookup


def describe(thing):
    """A dataclass as {"class": name, field: value}, nested descriptions included."""
    fields = {field.name: getattr(thing, field.name) for field in dataclasses.fields(thing)}
    nested = {key: describe(value) if dataclasses.is_dataclass(value) else value for key, value in fields.items()}
    return {"class": type(thing).__name__} | nested


def restore(what, config, classes):
    """The description of a config; its constructor checks every value."""
    config = dict(mapping(what, config))
    kind = lookup(f"{what} class", config.pop("class", None), classes)
    known = [field.name for field in dataclasses.fields(kind)]
    for key, value in config.items():
        lookup(f"field of {kind.__name__}", key, dict.fromkeys(known))
        if isinstance(value, dict):
            config[key] = restore("initializer", value, initializers.CLASSES)
    return kind(**config)


def describe_graph(graph):
    """A graph as a list of layers and a list of nodes, each naming its layer and its sources by number."""
    number = {node: k for k, node in enumerate(graph.nodes)}
    return {
        "layers": [describe(layer) for layer in graph.layers],
        "nodes": [
            {"layer": graph.layers.index(node.layer), "inputs": [number[source] for source in node.inputs]}
            for node in graph.nodes
        ],
        "inputs": [number[node] for node in graph.inputs],
        "output": number[graph.output],
    }


def restore_graph(config):
    """The graph of a config. Nodes may only name earlier ones, so there are no cycles."""
    made = [restore("layer", layer, layers.CLASSES) for layer in sequence("layers", config.get("layers"))]
    nodes = []
    for entry in sequence("nodes", config.get("nodes")):
        entry = mapping("node", entry)
        layer = item("layer", made, entry.get("layer"))
        sources = [item("node", nodes, k) for k in sequence("inputs", entry.get("inputs"))]
        if isinstance(layer, Input) and sources:
            raise ValueError("an Input has no sources")
        nodes.append(layer.node if isinstance(layer, Input) else connect(layer, sources))
    inputs = [item("node", nodes, k) for k in sequence("inputs", config.get("inputs"))]
    if not inputs or not all(isinstance(node.layer, Input) for node in inputs):
        raise ValueError("a model needs inputs, and only Input layers can be")
    return Graph(inputs, item("node", nodes, config.get("output")))


def describe_training(model):
    """Optimiser, loss and metrics, or None if the model is not compiled."""
    if model.loss is None:
        return None
    names = [metric.name for metric in model.metrics]
    return {"optimizer": describe(model.optimizer), "loss": model.loss.name, "metrics": names}


def restore_training(config):
    """Optimiser, loss and names of metrics."""
    config = mapping("training", config)
    optimizer = restore("optimizer", config.get("optimizer"), optimizers.CLASSES)
    names = sequence("metrics", config.get("metrics"))
    for name in names:
        metrics.get(name)
    return optimizer, losses.get(config.get("loss")), names


def mapping(what, value):
    """A JSON object."""
    if not isinstance(value, dict):
        raise ValueError(f"{what} must be an object, not {str(value)[:50]!r}")
    return value


def sequence(what, value):
    """A JSON list of at most 100,000 entries."""
    if not isinstance(value, list) or len(value) > 100_000:
        raise ValueError(f"{what} must be a list of at most 100000 entries")
    return value


def item(what, items, index):
    """The item of a number that a file gave."""
    return items[validate.whole_number(f"number of a {what}", index, 0, len(items) - 1)]
