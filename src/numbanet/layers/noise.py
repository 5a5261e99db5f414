"""Layers that disturb what passes through them while training, against overfitting; else they let it pass."""

from __future__ import annotations

from dataclasses import dataclass

from numbanet import validate
from numbanet.layers.base import Layer, layer_name


@dataclass(eq=False)
class Dropout(Layer):
    """While training each element is zero with probability `rate`, else divided by 1 - rate (Srivastava et al., 2014).

    Samples of any shape; the shape stays. rate: a number in [0, 1). The mean of an element is what went in; predict and
    evaluate let everything pass. Masks follow from the model's seed and the number of steps done: each step and each
    call of the layer has its own, the same for any number of threads, on every device and after a resume.
    """

    rate: float
    name: str | None = None

    def __post_init__(self):
        validate.settle(
            self,
            rate=validate.real_number("rate", self.rate, 0, 1, open_most=True),
            name=layer_name(self.name),
        )

    def emit(self, build, parameters, x):
        return _disturbed(build, x, "dropout_forward", rate=self.rate) if self.rate else x


@dataclass(eq=False)
class GaussianNoise(Layer):
    """While training each element has a normal number of mean 0 and standard deviation `stddev` added to it.

    Samples of any shape; the shape stays. stddev: at least 0. predict and evaluate let everything pass. The numbers
    (Box & Muller, 1958) follow from the model's seed and the number of steps done, as Dropout's masks do.
    """

    stddev: float
    name: str | None = None

    def __post_init__(self):
        validate.settle(
            self,
            stddev=validate.real_number("stddev", self.stddev, least=0),
            name=layer_name(self.name),
        )

    def emit(self, build, parameters, x):
        return _disturbed(build, x, "gaussian_noise_forward", stddev=self.stddev) if self.stddev else x


def _disturbed(build, x, op, **amount):
    """The buffer of an op's result while training, else x. A new one: what comes before may need x for its gradient."""
    if not build.training:
        return x
    y = build.buffer(x.shape)
    build.op(op, x=x, y=y, width=x.width, seed=build.seed, stream=build.stream(), **amount)
    return y
