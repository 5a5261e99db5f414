"""Descriptions as plain data and back, from closed tables: no name in a file is ever looked up by import."""

from __future__ import annotations

import dataclasses
import inspect

from numbanet import functions, initializers, layers, losses, metrics, optimizers, regularizers, schedules
from numbanet.graph import Graph, named
from numbanet.layers import Input, connect
from numbanet.names import lookup

MOST_ITEMS = 100_000  # of a list
PARTS = initializers.CLASSES | regularizers.CLASSES | schedules.CLASSES  # descriptions that are fields of others


def describe(what, thing, classes):
    """A dataclass as {"class": name, field: value}, the descriptions in it included; users' functions as they are."""
    config = {"class": known(what, type(thing).__name__, type(thing), classes)}
    for field in dataclasses.fields(thing):
        value = getattr(thing, field.name)
        part = field.name.rsplit("_", 1)[-1]  # "initializer" of kernel_initializer
        plain = isinstance(value, functions.OwnFunction) or not dataclasses.is_dataclass(value)
        config[field.name] = value if plain else describe(part, value, PARTS)
    return config


def restore(what, config, classes):
    """The description of a config; its constructor checks every value."""
    kind = lookup(f"class of {what}", mapping(what, config).get("class"), classes)
    fields = dict(mapping(what, config, ("class", *(field.name for field in dataclasses.fields(kind)))))
    del fields["class"]
    for key, value in fields.items():
        if isinstance(value, dict):
            fields[key] = restore(f"{key} of {what}", value, PARTS)
    try:
        return kind(**fields)
    except (ValueError, TypeError, OverflowError) as problem:
        raise ValueError(f"{what} is wrong: {problem}") from None


def describe_graph(graph):
    """A graph as a list of layers and a list of nodes, each naming its layer and its sources by number."""
    of_layer = {layer: k for k, layer in enumerate(graph.layers)}
    of_node = {node: k for k, node in enumerate(graph.nodes)}
    nodes = [
        {"layer": of_layer[node.layer], "inputs": [of_node[source] for source in node.inputs]} for node in graph.nodes
    ]
    described = [describe("layer", layer, layers.CLASSES) for layer in sequence("layers", graph.layers)]
    own = all(layer.name in (None, name) for layer, name in graph.names.items())
    if not own or graph.names != named(graph.layers):  # of a part, or changed: a new graph would give others
        for layer, entry in zip(graph.layers, described, strict=True):
            entry["name"] = graph.names[layer]
    return {
        "layers": described,
        "nodes": sequence("nodes", nodes),
        "inputs": [of_node[node] for node in graph.inputs],
        "output": of_node[graph.output],
    }


def restore_graph(config):
    """The graph of a config. Nodes may only name earlier ones, so there are no cycles."""
    config = mapping("the graph", config, ("layers", "nodes", "inputs", "output"))
    entries = sequence("the list of layers", config["layers"])
    made = [restore(f"layer {k}", entry, layers.CLASSES) for k, entry in enumerate(entries)]
    nodes = []
    for k, entry in enumerate(sequence("the list of nodes", config["nodes"])):
        entry = mapping(f"node {k}", entry, ("layer", "inputs"))
        sources = [item("node", nodes, number) for number in sequence(f"the inputs of node {k}", entry["inputs"])]
        nodes.append(_node(k, item("layer", made, entry["layer"]), sources))
    inputs = [item("node", nodes, number) for number in sequence("the list of inputs", config["inputs"])]
    if not inputs or len(set(inputs)) < len(inputs) or not all(isinstance(node.layer, Input) for node in inputs):
        raise ValueError("a model needs one or more inputs, and only Input layers can be, each once")
    return Graph(inputs, item("node", nodes, config["output"]))


def _node(number, layer, sources):
    if isinstance(layer, Input):
        if sources:
            raise ValueError(f"node {number} is an Input and cannot have inputs")
        return layer.node
    try:
        return connect(layer, sources)
    except ValueError as problem:
        raise ValueError(f"node {number} is wrong: {problem}") from None


def describe_training(model):
    """Optimiser, loss and metrics, or None if the model is not compiled."""
    loss = model.loss
    if loss is None:
        return None
    return {
        "optimizer": describe("optimizer", model.optimizer, optimizers.CLASSES),
        "loss": _describe_loss(model.loss),
        "metrics": [known("metric", metric.name, metric, metrics.METRICS) for metric in model.metrics],
    }


def restore_training(config):
    """Optimiser, loss and names of metrics."""
    config = mapping("training", config, ("optimizer", "loss", "metrics"))
    optimizer = restore("the optimizer", config["optimizer"], optimizers.CLASSES)
    names = sequence("the list of metrics", config["metrics"])
    for name in names:
        lookup("metric", name, metrics.METRICS)
    if len(set(names)) < len(names):
        raise ValueError("the list of metrics names one twice")
    return optimizer, _restore_loss(config["loss"]), names


def _describe_loss(loss):
    """A loss's name, or an object with its name and its parameters; a user's function as it is."""
    if isinstance(loss, functions.LossFunction):
        return loss
    make = losses.MAKERS.get(loss.name)
    if make is None:
        return known("loss", loss.name, loss, losses.LOSSES)
    return {"name": known("loss", loss.name, loss, {loss.name: make(**loss.reals)})} | loss.reals


def _restore_loss(config):
    """The loss of a name, or of an object with its name and its parameters."""
    if isinstance(config, functions.LossFunction):
        return config
    if not isinstance(config, dict):
        return lookup("loss", config, losses.LOSSES)
    make = lookup("name of a loss with parameters", config.get("name"), losses.MAKERS)
    reals = dict(mapping("the loss", config, ("name", *inspect.signature(make).parameters)))
    del reals["name"]
    try:
        return make(**reals)
    except (ValueError, TypeError) as problem:
        raise ValueError(f"the loss is wrong: {problem}") from None


def known(what, name, thing, table):
    """The name, if that is what the table has under it: a file with any other could never be loaded."""
    if table.get(name) != thing:
        raise ValueError(f"a model with the {what} {name} cannot be saved; what can: {', '.join(table)}")
    return name


def mapping(what, value, keys=None):
    """A JSON object, which must have just these keys, if any are given."""
    if not isinstance(value, dict):
        raise ValueError(f"{what} must be an object, not {type(value).__name__}")
    if keys is not None and set(value) != set(keys):
        missing, extra = sorted(set(keys) - set(value)), sorted(set(value) - set(keys))[:3]
        raise ValueError(f"{what} must have the fields {', '.join(keys)}; missing {missing}, unexpected {extra}")
    return value


def sequence(what, value):
    """A list, which must not be too long."""
    if not isinstance(value, list):
        raise ValueError(f"{what} must be a list, not {type(value).__name__}")
    if len(value) > MOST_ITEMS:
        raise ValueError(f"{what} has {len(value)} entries, expected at most {MOST_ITEMS}")
    return value


def item(what, items, number):
    """The item of a number that a file gave."""
    if type(number) is not int or not 0 <= number < len(items):
        raise ValueError(f"it names {what} {repr(number)[:30]}, expected a whole number from 0 to {len(items) - 1}")
    return items[number]
