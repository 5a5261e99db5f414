"""Layers that normalise: mean 0 and variance 1 over the batch, or over a sample's last axis; then scale and shift."""

from __future__ import annotations

import math
from dataclasses import dataclass

from numbanet import initializers, regularizers, validate
from numbanet.initializers import Initializer
from numbanet.layers.base import Layer, ParameterSpec, layer_name, single
from numbanet.regularizers import L1L2


class _Norm(Layer):
    """What both have: y = gamma z + beta of the normalised z, along the last axis."""

    def _settle(self, **more):
        validate.settle(
            self,
            epsilon=validate.real_number("epsilon", self.epsilon, least=0, open_least=True),
            center=validate.flag("center", self.center),
            scale=validate.flag("scale", self.scale),
            beta_initializer=initializers.get(self.beta_initializer),
            gamma_initializer=initializers.get(self.gamma_initializer),
            beta_regularizer=regularizers.get(self.beta_regularizer),
            gamma_regularizer=regularizers.get(self.gamma_regularizer),
            name=layer_name(self.name),
            **more,
        )

    def parameters(self, *shapes):
        (shape,) = single(self, shapes)
        specs = {}
        if self.scale:
            specs["gamma"] = ParameterSpec(shape[-1:], self.gamma_initializer, self.gamma_regularizer)
        if self.center:
            specs["beta"] = ParameterSpec(shape[-1:], self.beta_initializer, self.beta_regularizer)
        return specs

    def _scaled(self, build, parameters, z, sizes):
        """gamma z + beta. In a buffer of its own while training: gradients need z."""
        if not (self.scale or self.center):
            return z
        y = build.buffer(z.shape) if build.training else z
        gamma, beta = parameters.get("gamma"), parameters.get("beta")
        build.op("scale_forward", x=z, gamma=gamma, beta=beta, y=y, **sizes)
        return y


def _sizes(build):
    """The last axis of the layer's output, and the product of the others."""
    *positions, width = build.shape
    return {"width": width, "positions": math.prod(positions)}


@dataclass(eq=False)
class BatchNorm(_Norm):
    """y = gamma (x - mean) / sqrt(variance + epsilon) + beta, mean and variance the batch's (Ioffe & Szegedy, 2015).

    Samples of any shape; the shape stays. Mean and (biased) variance are those of each element of the last axis, over
    the batch and over all other axes: of a vector's elements one by one, of an image's channels over its pixels.

    Weights, each of the last axis' length: gamma (if scale), beta (if center), moving_mean, moving_variance. The last
    two are not trained: each step of training moves them to `momentum` (0.99) times themselves + (1 - momentum) times
    the batch's, and predict and evaluate normalise with them; so does training if trainable is False, which then leaves
    all four alone. epsilon: above 0, default 0.001. Initial values as in Keras: gamma and moving_variance ones, beta
    and moving_mean zeros. momentum: from 0 to 1.
    """

    momentum: float = 0.99
    epsilon: float = 1e-3
    center: bool = True
    scale: bool = True
    beta_initializer: str | Initializer = "zeros"
    gamma_initializer: str | Initializer = "ones"
    moving_mean_initializer: str | Initializer = "zeros"
    moving_variance_initializer: str | Initializer = "ones"
    beta_regularizer: str | L1L2 | None = None
    gamma_regularizer: str | L1L2 | None = None
    trainable: bool = True
    name: str | None = None

    def __post_init__(self):
        self._settle(
            momentum=validate.real_number("momentum", self.momentum, 0, 1),
            moving_mean_initializer=initializers.get(self.moving_mean_initializer),
            moving_variance_initializer=initializers.get(self.moving_variance_initializer),
        )

    def parameters(self, *shapes):
        width = shapes[0][-1:]
        mean = ParameterSpec(width, self.moving_mean_initializer, trainable=False)
        variance = ParameterSpec(width, self.moving_variance_initializer, trainable=False)
        return super().parameters(*shapes) | {"moving_mean": mean, "moving_variance": variance}

    def emit(self, build, parameters, x):
        z, sizes = build.buffer(build.shape), _sizes(build)
        given = sizes | {"x": x, "y": z, "epsilon": self.epsilon}
        moving = {key: parameters[key] for key in ("moving_mean", "moving_variance")}
        if build.training and self.trainable:
            moving = moving if build.learning else dict.fromkeys(moving)
            spread = build.buffer((sizes["width"],), f"{build.label} spread", 1)
            build.op("batch_norm_forward", **given, **moving, spread=spread, momentum=self.momentum)
        else:
            build.op("batch_norm_infer_forward", **given, **moving)
        return self._scaled(build, parameters, z, sizes)


@dataclass(eq=False)
class LayerNorm(_Norm):
    """y = gamma (x - mean) / sqrt(variance + epsilon) + beta, mean and variance over the last axis (Ba et al., 2016).

    Samples of any shape; the shape stays. Each sample, and each position of its other axes, is normalised by itself, so
    training and prediction do the same. Weights, each of the last axis' length: gamma (if scale; at first ones), beta
    (if center; at first zeros). epsilon: above 0, default 0.001 as in Keras.
    """

    epsilon: float = 1e-3
    center: bool = True
    scale: bool = True
    beta_initializer: str | Initializer = "zeros"
    gamma_initializer: str | Initializer = "ones"
    beta_regularizer: str | L1L2 | None = None
    gamma_regularizer: str | L1L2 | None = None
    trainable: bool = True
    name: str | None = None

    def __post_init__(self):
        self._settle()

    def emit(self, build, parameters, x):
        z, sizes = build.buffer(build.shape), _sizes(build)
        spread = build.buffer((sizes["positions"],), f"{build.label} spread")
        build.op("layer_norm_forward", x=x, y=z, spread=spread, epsilon=self.epsilon, **sizes)
        return self._scaled(build, parameters, z, sizes)
