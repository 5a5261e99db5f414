"""Networks for both devices, and whether two results are the same."""

import numpy as np

import numbanet as nn
from numbanet.layers import ACTIVATIONS

CLOSE = {"float32": 1e-5, "float64": 1e-12}  # relative to the largest value
OPTIMIZERS = {
    "sgd": lambda: nn.SGD(0.1),
    "momentum": lambda: nn.SGD(0.05, 0.9),
    "nesterov": lambda: nn.SGD(0.05, 0.9, nesterov=True),
    "adam": lambda: nn.Adam(0.01),
    "adamw": lambda: nn.AdamW(0.01, 0.1),
    "rmsprop": lambda: nn.RMSprop(0.01),
    "rmsprop, all": lambda: nn.RMSprop(0.01, momentum=0.9, centered=True),
    "adagrad": lambda: nn.Adagrad(0.1),
}


def close(found, wanted, dtype):
    """Are two arrays the same but for rounding?"""
    return np.abs(found - wanted).max() <= CLOSE[dtype] * max(1.0, np.abs(wanted).max())


def samples(count=11, features=5, classes=3):
    rng = np.random.default_rng(count)
    return rng.standard_normal((count, features)), rng.integers(0, classes, count)


def network(hidden, output, loss, optimizer="sgd", dtype="float32", metrics=()):
    layers = [nn.Input(5), nn.Dense(18, hidden), nn.Dense(3, output, bias_initializer=nn.Constant(0.1))]
    model = nn.Sequential(layers, seed=3, dtype=dtype)
    model.compile(OPTIMIZERS[optimizer](), loss, metrics)
    return model


def with_every_activation(dtype="float32"):
    """A branch for each activation, and for each that has a parameter one with another than the default."""
    x = nn.Input(5)
    h = nn.Dense(3, "gelu")(x)
    branches = [layer(h) for layer in (*map(nn.Activation, ACTIVATIONS), nn.LeakyReLU(0.4), nn.ELU(1.5))]
    model = nn.Model(x, nn.Dense(3, "softmax")(nn.Concatenate()(branches)), seed=3, dtype=dtype)
    model.compile(nn.SGD(0.1), "cross_entropy")
    return model


def with_a_skip(dtype="float32"):
    """Two inputs, a shared layer, a sum and a concatenation."""
    a, b = nn.Input(4, name="a"), nn.Input(6, name="b")
    shared = nn.Dense(7, "tanh")
    left, right = shared(a), shared(nn.Dense(4, "relu", use_bias=False)(b))
    joined = nn.Concatenate()([nn.Add()([left, right]), right, nn.Activation("softmax")(b)])
    model = nn.Model([a, b], nn.Dense(2, "sigmoid")(joined), seed=1, dtype=dtype)
    model.compile(nn.Adam(0.02), "binary_cross_entropy", ["accuracy", "mse", "mae"])
    return model


def wide_network(dtype="float32"):
    """70 features, kernels of some panels."""
    hidden = [nn.Dense(67, "relu"), nn.Dense(66, "tanh", use_bias=False)]
    model = nn.Sequential([nn.Input(70), *hidden, nn.Dense(3, "softmax")], seed=0, dtype=dtype)
    model.compile(nn.SGD(0.1), "cross_entropy")
    return model


def disturbed(dtype):
    """Layers with statistics, with noise, and of another shape."""
    norm = nn.BatchNorm(0.5, 0.01, scale=False, moving_mean_initializer="ones", beta_regularizer="l2", trainable=False)
    layers = [nn.Reshape((2, -1)), nn.LayerNorm(0.02, gamma_initializer=nn.Constant(2.0)), nn.BatchNorm(), nn.Flatten()]
    layers += [nn.Dropout(0.25), norm, nn.GaussianNoise(0.125), nn.Dense(3, "softmax")]
    return nn.Sequential([nn.Input(6), *layers], seed=4, dtype=dtype)


def twins(make, *arguments):
    """The same model twice, the second on the GPU."""
    return make(*arguments), make(*arguments).to("cuda")
