"""Layers that work on each sample's elements without parameters."""

from __future__ import annotations

import math
import numbers
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


@dataclass(eq=False)
class Reshape(Layer):
    """A sample of any shape as one of `target_shape`, elements in the same order (the last axis runs fastest).

    target_shape: the shape without the batch, a number n meaning (n,); one entry may be -1, which stands for what is
    left. ValueError if the elements do not fit. Costs nothing: rows are flat already.
    """

    target_shape: tuple[int, ...] | int
    name: str | None = None

    def __post_init__(self):
        target = self.target_shape
        target = [target] if isinstance(target, numbers.Integral) else target
        free = None
        if isinstance(target, list | tuple) and -1 in target:
            free, target = target.index(-1), list(target)
            target[free] = 1
            if -1 in target:
                raise ValueError(f"target_shape {self.target_shape} has several entries of -1, expected one at most")
        sizes = list(validate.shape("target_shape", target))
        if free is not None:
            sizes[free] = -1
        validate.settle(self, target_shape=tuple(sizes), name=layer_name(self.name))

    def output_shape(self, *shapes):
        (shape,) = single(self, shapes)
        known = math.prod(size for size in self.target_shape if size != -1)
        free, rest = divmod(width(shape), known)
        if rest or (free != 1 and -1 not in self.target_shape):
            raise ValueError(
                f"Reshape cannot make {self.target_shape} of {width(shape)} elements, those of shape {shape}"
            )
        return tuple(free if size == -1 else size for size in self.target_shape)

    def emit(self, build, parameters, x):
        return x
