"""Layers that join several inputs."""

from __future__ import annotations

from dataclasses import dataclass

from numbanet import validate
from numbanet.layers.base import Layer, layer_name


@dataclass(eq=False)
class Add(Layer):
    """The sum of two or more inputs of one shape."""

    name: str | None = None

    def __post_init__(self):
        validate.settle(self, name=layer_name(self.name))

    def output_shape(self, *shapes):
        if len(shapes) < 2 or len(set(shapes)) != 1:
            raise ValueError(f"Add takes two or more inputs of one shape, not {_listed(shapes)}")
        return shapes[0]

    def emit(self, build, parameters, *inputs):
        y = build.buffer(inputs[0].shape)
        build.op("copy_forward", x=inputs[0], y=y, width=y.width)
        for x in inputs[1:]:
            build.op("add_forward", x=x, y=y, width=y.width)
        return y


@dataclass(eq=False)
class Concatenate(Layer):
    """Two or more vectors, one after the other."""

    name: str | None = None

    def __post_init__(self):
        validate.settle(self, name=layer_name(self.name))

    def output_shape(self, *shapes):
        if len(shapes) < 2 or any(len(shape) != 1 for shape in shapes):
            raise ValueError(f"Concatenate takes two or more vectors, not {_listed(shapes)}")
        return (sum(shape[0] for shape in shapes),)

    def emit(self, build, parameters, *inputs):
        y, at = build.buffer((sum(x.width for x in inputs),)), 0
        for x in inputs:
            build.op("copy_forward", x=x, y=y, width=x.width, at=at)
            at += x.width
        return y


def _listed(shapes):
    return ", ".join(map(str, shapes))
