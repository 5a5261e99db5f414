"""Layers that work on each sample's elements without parameters."""

from __future__ import annotations

import math
import numbers
from dataclasses import dataclass

from numbanet import validate
from numbanet.functions import ActivationFunction
from numbanet.layers.base import Layer, activation, layer_name, single, width


@dataclass(eq=False)
class Activation(Layer):
    """y = activation(x); the shape stays. softmax and log_softmax are taken over all elements of a sample.

    linear        x
    sigmoid       1 / (1 + exp(-x))
    tanh          tanh(x)
    relu          max(x, 0)
    leaky_relu    x where x > 0, else 0.2 x; another slope: nn.LeakyReLU (Maas et al., 2013)
    elu           x where x > 0, else exp(x) - 1; another factor: nn.ELU (Clevert et al., 2016)
    selu          1.0507 x where x > 0, else 1.7581 (exp(x) - 1) (Klambauer et al., 2017)
    gelu          x (1 + erf(x / sqrt(2))) / 2, exact (Hendrycks & Gimpel, 2016)
    softplus      log(1 + exp(x)) (Dugas et al., 2001)
    softsign      x / (1 + |x|)
    swish, silu   x sigmoid(x) (Ramachandran et al., 2017)
    hard_sigmoid  x / 6 + 1/2, kept from 0 to 1, as in Keras 3
    step          1 where x >= 0, else 0: a unit fires when its threshold is reached (Rosenblatt, 1958); slope 0
                  everywhere, so nothing before it learns
    softmax       exp(x) / sum exp(x)
    log_softmax   x - log sum exp(x); under the loss cross_entropy the network then predicts logarithms
    """

    activation: str | ActivationFunction
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
class LeakyReLU(Layer):
    """y = x where x > 0, else negative_slope x (Maas et al., 2013); the shape stays.

    negative_slope: 0.3 as in Keras, whose activation of that name has 0.2 (PyTorch: 0.01). ValueError if it is below 0.
    """

    negative_slope: float = 0.3
    name: str | None = None

    def __post_init__(self):
        validate.settle(
            self,
            negative_slope=validate.real_number("negative_slope", self.negative_slope, least=0),
            name=layer_name(self.name),
        )

    def emit(self, build, parameters, x):
        return build.activation("leaky_relu", x, negative_slope=self.negative_slope)


@dataclass(eq=False)
class ELU(Layer):
    """y = x where x > 0, else alpha (exp(x) - 1) (Clevert et al., 2016); the shape stays.

    alpha: 1 as in Keras and PyTorch. ValueError if it is below 0.
    """

    alpha: float = 1.0
    name: str | None = None

    def __post_init__(self):
        validate.settle(
            self,
            alpha=validate.real_number("alpha", self.alpha, least=0),
            name=layer_name(self.name),
        )

    def emit(self, build, parameters, x):
        return build.activation("elu", x, alpha=self.alpha)


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
