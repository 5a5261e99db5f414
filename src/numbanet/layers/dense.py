"""The fully connected layer."""

from __future__ import annotations

from dataclasses import dataclass

from numbanet import initializers, regularizers, validate
from numbanet.functions import ActivationFunction
from numbanet.initializers import Initializer
from numbanet.layers.base import Layer, ParameterSpec, activation, layer_name, single
from numbanet.regularizers import L1L2


@dataclass(eq=False)
class Dense(Layer):
    """y = activation(x @ kernel + bias), x of shape (inputs,), y of shape (units,).

    Weights: kernel (inputs, units), bias (units,). Defaults as in Keras: no activation, a bias, kernel glorot_uniform,
    bias zeros, no regularisers, trainable. ValueError if the input is not a vector: put nn.Flatten() before.
    """

    units: int
    activation: str | ActivationFunction | None = None
    use_bias: bool = True
    kernel_initializer: str | Initializer = "glorot_uniform"
    bias_initializer: str | Initializer = "zeros"
    kernel_regularizer: str | L1L2 | None = None
    bias_regularizer: str | L1L2 | None = None
    trainable: bool = True
    name: str | None = None

    def __post_init__(self):
        validate.settle(
            self,
            units=validate.whole_number("units", self.units),
            activation=activation(self.activation),
            use_bias=validate.flag("use_bias", self.use_bias),
            kernel_initializer=initializers.get(self.kernel_initializer),
            bias_initializer=initializers.get(self.bias_initializer),
            kernel_regularizer=regularizers.get(self.kernel_regularizer),
            bias_regularizer=regularizers.get(self.bias_regularizer),
            name=layer_name(self.name),
        )

    def output_shape(self, *shapes):
        (shape,) = single(self, shapes)
        if len(shape) != 1:
            raise ValueError(f"Dense takes vectors, not samples of shape {shape}; put nn.Flatten() before it")
        return (self.units,)

    def parameters(self, *shapes):
        ((inputs,),) = shapes
        specs = {"kernel": ParameterSpec((inputs, self.units), self.kernel_initializer, self.kernel_regularizer)}
        if self.use_bias:
            specs["bias"] = ParameterSpec((self.units,), self.bias_initializer, self.bias_regularizer)
        return specs

    def emit(self, build, parameters, x):
        y = build.buffer((self.units,))
        build.op("dense_forward", x=x, y=y, inputs=x.width, units=self.units, bias=parameters.get("bias"),
                 kernel=parameters["kernel"])  # fmt: skip
        return build.activation(self.activation, y, overwrite=True)
