"""Layers that work on each sample's elements without parameters."""

from __future__ import annotations

from dataclasses import dataclass

from numbanet import validate
from numbanet.layers.base import Layer, activation, layer_name, single, width


@dataclass(eq=False)
class Activation(Layer):
    """y = activation(x); the shape stays. softmax is taken over all elements of a sample."""

    activation: str
    name: str | None = None

    def __post_init__(self):
        validate.settle(
            self,
            activation=activation(self.activation),
            name=layer_name(self.name),
        )

    def emit(self, build, parameters, x):
        return build.activation(self.activation, x)


@dataclass(eq=False)
class Flatten(Layer):
    """A sample of any shape as a vector. Costs nothing: rows are flat already."""

    name: str | None = None

    def __post_init__(self):
        validate.settle(self, name=layer_name(self.name))

    def output_shape(self, *shapes):
        (shape,) = single(self, shapes)
        return (width(shape),)

    def emit(self, build, parameters, x):
        return x
