"""A user's own activation and loss, and a network for them."""

import math

import numpy as np
import pytest

import numbanet as nn

WITHOUT_SLOPE = "has no slope: it is computed from differences"
beta = 1.5


def sigmoid(z):
    return 1 / (1 + math.exp(-beta * z))


def swish(z):
    return z * sigmoid(z)


def swish_slope(z):
    return sigmoid(z) * (1 + beta * z * (1 - sigmoid(z)))


def hubers(y, t):
    d = abs(y - t)
    return 0.5 * d * d if d < 1 else d - 0.5


def hubers_slope(y, t):
    return min(1.0, max(-1.0, y - t))


def numeric(make, *arguments, **named):
    """A function without a slope, and its warning."""
    with pytest.warns(UserWarning, match=WITHOUT_SLOPE):
        return make(*arguments, **named)


def network(activation, loss="mse", dtype="float32", seed=0, metrics=()):
    layers = [nn.Input(3), nn.Dense(7, activation), nn.Dense(5), nn.Activation(activation), nn.Dense(2)]
    model = nn.Sequential(layers, seed=seed, dtype=dtype)
    model.compile(nn.Adam(0.01), loss, metrics)
    return model


def samples(count=24):
    rng = np.random.default_rng(1)
    X = rng.normal(size=(count, 3))
    return X, np.stack([np.sin(X[:, 0]), X[:, 1] * X[:, 2]], axis=1)
