"""Initialisers: the first values of the parameters.

An initialiser is a description; `draw(shape, generator)` gives float64 values.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from numbanet import validate
from numbanet.names import lookup

TRUNCATED = 0.87962566103423978  # standard deviation of a normal distribution cut at two of its own


class Initializer:
    """Base of all initialisers; a description without state."""

    def draw(self, shape, generator):
        """Values of a parameter, float64, from a numpy.random.Generator."""
        raise TypeError(f"{type(self).__name__} does not say how to draw")


@dataclass(frozen=True)
class Constant(Initializer):
    """All elements equal `value` (default 0)."""

    value: float = 0.0

    def __post_init__(self):
        validate.settle(self, value=validate.real_number("value", self.value))

    def draw(self, shape, generator):
        return np.full(shape, float(self.value))


@dataclass(frozen=True)
class RandomNormal(Initializer):
    """Normal distribution with mean `mean` (0) and standard deviation `stddev` (0.05)."""

    mean: float = 0.0
    stddev: float = 0.05

    def __post_init__(self):
        validate.settle(
            self,
            mean=validate.real_number("mean", self.mean),
            stddev=validate.real_number("stddev", self.stddev, least=0),
        )

    def draw(self, shape, generator):
        return generator.normal(self.mean, self.stddev, shape)


@dataclass(frozen=True)
class RandomUniform(Initializer):
    """Uniform distribution from `minval` (-0.05) to `maxval` (0.05)."""

    minval: float = -0.05
    maxval: float = 0.05

    def __post_init__(self):
        validate.settle(
            self,
            minval=validate.real_number("minval", self.minval),
            maxval=validate.real_number("maxval", self.maxval, least=self.minval),
        )

    def draw(self, shape, generator):
        return generator.uniform(self.minval, self.maxval, shape)


@dataclass(frozen=True)
class Orthogonal(Initializer):
    """`gain` (1) times a random matrix with orthonormal rows or columns, whichever are fewer (Saxe et al., 2014).

    The matrix has the last axis as its columns, all others together as its rows, as in Keras. It is uniformly
    distributed: Q of the QR decomposition of a normal matrix, its signs those that make R's diagonal positive.
    """

    gain: float = 1.0

    def __post_init__(self):
        validate.settle(self, gain=validate.real_number("gain", self.gain))

    def draw(self, shape, generator):
        rows, columns = math.prod(shape[:-1]), shape[-1]
        q, r = np.linalg.qr(generator.normal(size=(max(rows, columns), min(rows, columns))))
        q = q * np.where(np.diag(r) < 0, -1.0, 1.0)
        return self.gain * (q if rows >= columns else q.T).reshape(shape)


def fans(shape):
    """(inputs, outputs) that meet in a unit, for a parameter's shape, as Keras counts them.

    Of the last two axes, (inputs, outputs), each times all positions of a convolution's window, the axes before; of a
    vector its length, for both.
    """
    if len(shape) < 2:
        return shape[0], shape[0]
    window = math.prod(shape[:-2])
    return window * shape[-2], window * shape[-1]


@dataclass(frozen=True)
class VarianceScaling(Initializer):
    """Variance scale / fan, as Keras draws it.

    mode: "fan_in" (inputs), "fan_out" (outputs) or "fan_avg" (their mean).
    distribution: "uniform", "truncated_normal" (cut at two standard deviations, then rescaled) or "normal".

    glorot_* is scale 1 over fan_avg, variance 2 / (inputs + outputs) (Glorot & Bengio, 2010); he_* is scale 2 over
    fan_in (He et al., 2015); lecun_* is scale 1 over fan_in (LeCun et al., 1998; with selu Klambauer et al., 2017).
    Texts with variance 1 / (inputs + outputs) are VarianceScaling(0.5, "fan_avg").
    """

    scale: float = 1.0
    mode: str = "fan_in"
    distribution: str = "truncated_normal"

    def __post_init__(self):
        validate.settle(self, scale=validate.real_number("scale", self.scale, least=0, open_least=True))
        lookup("mode", self.mode, dict.fromkeys(("fan_in", "fan_out", "fan_avg")))
        lookup("distribution", self.distribution, dict.fromkeys(("uniform", "truncated_normal", "normal")))

    def draw(self, shape, generator):
        fan_in, fan_out = fans(shape)
        fan = {"fan_in": fan_in, "fan_out": fan_out, "fan_avg": (fan_in + fan_out) / 2}[self.mode]
        stddev = math.sqrt(self.scale / fan)
        if self.distribution == "uniform":
            limit = math.sqrt(3) * stddev
            return generator.uniform(-limit, limit, shape)
        if self.distribution == "normal":
            return generator.normal(0, stddev, shape)
        draws = generator.normal(0, 1, shape)
        outside = np.abs(draws) > 2
        while outside.any():
            draws[outside] = generator.normal(0, 1, int(outside.sum()))
            outside = np.abs(draws) > 2
        return draws * (stddev / TRUNCATED)


CLASSES = {
    initializer.__name__: initializer
    for initializer in (Constant, RandomNormal, RandomUniform, Orthogonal, VarianceScaling)
}
INITIALIZERS = {
    "zeros": Constant(0.0),
    "ones": Constant(1.0),
    "constant": Constant(),
    "random_normal": RandomNormal(),
    "random_uniform": RandomUniform(),
    "glorot_uniform": VarianceScaling(1.0, "fan_avg", "uniform"),
    "glorot_normal": VarianceScaling(1.0, "fan_avg", "truncated_normal"),
    "he_uniform": VarianceScaling(2.0, "fan_in", "uniform"),
    "he_normal": VarianceScaling(2.0, "fan_in", "truncated_normal"),
    "lecun_uniform": VarianceScaling(1.0, "fan_in", "uniform"),
    "lecun_normal": VarianceScaling(1.0, "fan_in", "truncated_normal"),
    "orthogonal": Orthogonal(),
}


def get(initializer) -> Initializer:
    """The initialiser of a name, or the given one."""
    if isinstance(initializer, Initializer):
        return initializer
    return lookup("initializer", initializer, INITIALIZERS)
