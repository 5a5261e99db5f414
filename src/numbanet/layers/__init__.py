"""Layers: descriptions of what a network computes."""

from numbanet.layers.base import ACTIVATIONS, Input, Layer, Node, ParameterSpec, as_node, connect
from numbanet.layers.dense import Dense
from numbanet.layers.merge import Add, Concatenate
from numbanet.layers.noise import Dropout, GaussianNoise
from numbanet.layers.norm import BatchNorm, LayerNorm
from numbanet.layers.pointwise import ELU, Activation, Flatten, LeakyReLU, Reshape

CLASSES = {layer.__name__: layer for layer in (Input, Dense, Activation, LeakyReLU, ELU, Flatten, Add, Concatenate)}
CLASSES |= {layer.__name__: layer for layer in (Reshape, Dropout, GaussianNoise, BatchNorm, LayerNorm)}

__all__ = ["ACTIVATIONS", "CLASSES", "Input", "Layer", "Node", "ParameterSpec", "as_node", "connect", *CLASSES]
