"""Parts of models: layers by name, freezing them, a part as a model, a model as a layer."""

from __future__ import annotations

from numbanet.graph import Graph
from numbanet.layers import Input, Layer, Node, as_node
from numbanet.names import lookup


class Parts:
    """What a model does with its parts. The model has `graph`; what it computes is in numbanet.model."""

    @property
    def layers(self):
        """The layers in order, inputs first."""
        return list(self.graph.layers)

    def get_layer(self, name):
        """The layer of a name, as `summary` shows it. ValueError for an unknown one, listing the known names."""
        return lookup("layer", name, {known: layer for layer, known in self.graph.names.items()})

    def freeze(self, until=None):
        """Let training leave layers as they are: all up to and including one, by its name; by default all.

        Sets `trainable` of these layers to False: they get no gradient, which saves its work, and no update. It belongs
        to the layer, so other models with the same layers see it; it takes effect at the next call, without another
        compile. ValueError for an unknown name, listing the known ones.
        """
        layers = self.layers
        for layer in layers[: len(layers) if until is None else layers.index(self.get_layer(until)) + 1]:
            layer.trainable = False

    def unfreeze(self, since=None):
        """Let training change layers again: all from one on, by its name; by default all. See `freeze`.

        From the last layer down, one more at a time, is gradual unfreezing (Howard & Ruder, 2018).
        """
        layers = self.layers
        for layer in layers[0 if since is None else layers.index(self.get_layer(since)) :]:
            layer.trainable = True

    def __call__(self, inputs):
        """Use the network as a layer: its output for nodes of a new graph (several inputs: a list of them).

        A model of that graph shares this one's weights as a `submodel` does; layers beside it bring their own. Several
        models may be called, also one several times: x = nn.Input(64); whole = nn.Model(x, head(body(x))). ValueError
        if the inputs do not fit; when the model is made, if weights are on different devices, of another dtype than it,
        or two for one layer.
        """
        given = inputs if isinstance(inputs, list | tuple) else [inputs]
        nodes, wanted = [as_node(self, value) for value in given], [node.shape for node in self.graph.inputs]
        if [node.shape for node in nodes] != wanted:
            raise ValueError(f"the model was called on inputs of shapes {[node.shape for node in nodes]}, not {wanted}")
        made = dict(zip(self.graph.inputs, nodes, strict=True))
        return _again(self.graph.nodes, made, self.graph.output, lender=self)


def part(graph, inputs, output):
    """The graph of a model's part; see Model.submodel."""
    output = graph.output if output is None else _node(graph, "outputs", output)
    if inputs is None:
        needed = _needed(output, ())
        return Graph([node for node in graph.inputs if node in needed], output, graph.names)
    inputs = inputs if isinstance(inputs, list | tuple) else [inputs]
    chosen = [_node(graph, "inputs", value) for value in inputs]
    needed = _needed(output, chosen)
    layers = [node.layer for node in needed if node not in chosen] + [node.layer for node in chosen]
    made, names = {}, dict(graph.names)
    for node in chosen:
        if isinstance(node.layer, Input):
            made[node] = node
            continue
        made[node] = Input(node.shape).node
        if layers.count(node.layer) == 1:
            names[made[node].layer] = names[node.layer]
    for missing in (node for node in graph.inputs if node in needed and node not in made):
        raise ValueError(f"outputs depend on input {graph.names[missing.layer]!r}, which is not among the inputs")
    return Graph([made[node] for node in chosen], _again(graph.nodes, made, output), names)


def lenders(graph):
    """The models that were called like layers to make some of a graph's nodes."""
    for node in graph.nodes:
        if node.lender and graph.of_layer[node.layer] and node.layer not in node.lender.graph.of_layer:
            raise ValueError(f"{graph.names[node.layer]!r} was removed from the model that was called to make it")
    return list(dict.fromkeys(node.lender for node in graph.nodes if node.lender))


def _node(graph, what, given):
    """The node that is meant by a layer's name, a layer or a node."""
    if isinstance(given, Node):
        if given not in graph.nodes:
            raise ValueError(f"{what} has {given!r}, which is not in this model")
        return given
    table = {name: layer for layer, name in graph.names.items()}
    layer = given if isinstance(given, Layer) else lookup("layer", given, table)
    nodes = [node for node in graph.nodes if node.layer is layer]
    if len(nodes) != 1:
        name = graph.names.get(layer, type(layer).__name__)
        raise ValueError(f"layer {name!r} has {len(nodes)} outputs in this model; give {what} as the result of a call")
    return nodes[0]


def _needed(output, stops):
    """The nodes on which an output depends, itself and those at which to stop included."""
    needed, stack = set(), [output]
    while stack:
        node = stack.pop()
        if node not in needed:
            needed.add(node)
            stack.extend(() if node in stops else node.inputs)
    return needed


def _again(nodes, made, output, lender=None):
    """The output with other nodes in place of some. nodes: in order; made: old node -> new node."""
    needed = _needed(output, made)
    for node in nodes:
        if node in needed and node not in made:
            made[node] = Node(node.layer, tuple(made[source] for source in node.inputs), node.shape, lender)
    return made[output]
