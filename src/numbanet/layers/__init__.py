"""Layers: descriptions of what a network computes."""

from numbanet.layers.base import ACTIVATIONS, Input, Layer, Node, ParameterSpec, as_node, connect
from numbanet.layers.dense import Dense
from numbanet.layers.merge import Add, Concatenate
from numbanet.layers.pointwise import Activation, Flatten

CLASSES = {layer.__name__: layer for layer in (Input, Dense, Activation, Flatten, Add, Concatenate)}

__all__ = ["ACTIVATIONS", "CLASSES", "Input", "Layer", "Node", "ParameterSpec", "as_node", "connect", *CLASSES]
