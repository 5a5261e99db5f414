"""Scalar maths, written once for all devices: activations, their slopes in terms of the output, losses, their slopes.

Constants are float32 values that are exact in both precisions, so that a float32 expression stays float32. NumPy's
functions rather than math's: without a compiler those would return Python floats, which have no precision of their own.
"""

from __future__ import annotations

import numpy as np

from numbanet.kernels.jit import scalar

ZERO, HALF, ONE, TWO = np.float32(0), np.float32(0.5), np.float32(1), np.float32(2)
PROBABILITY = np.float32(2.0**-23)  # probabilities are kept this far from 0 and 1 inside a logarithm (1.2e-7)


@scalar
def sigmoid(z):
    """1 / (1 + exp(-z)); exp may overflow to infinity, the result is then 0"""
    return ONE / (ONE + np.exp(-z))


@scalar
def sigmoid_slope(y):
    """y (1 - y)"""
    return y * (ONE - y)


@scalar
def tanh(z):
    """tanh(z)"""
    return np.tanh(z)


@scalar
def tanh_slope(y):
    """1 - y**2"""
    return ONE - y * y


@scalar
def relu(z):
    """max(z, 0), NaN stays NaN"""
    return ZERO if z <= ZERO else z


@scalar
def relu_slope(y):
    """1 where y > 0, else 0"""
    return ONE if y > ZERO else ZERO


@scalar
def softplus(z):
    """log(1 + exp(z)) without overflow"""
    return max(z, ZERO) + np.log1p(np.exp(-abs(z)))


@scalar
def half_square(y, t):
    """(y - t)**2 / 2"""
    return HALF * (y - t) * (y - t)


@scalar
def half_square_slope(y, t):
    """y - t"""
    return y - t


@scalar
def square(y, t):
    """(y - t)**2"""
    return (y - t) * (y - t)


@scalar
def square_slope(y, t):
    """2 (y - t)"""
    return TWO * (y - t)


@scalar
def absolute(y, t):
    """|y - t|"""
    return abs(y - t)


@scalar
def inside(p):
    """p, kept away from 0 and 1; NaN stays NaN"""
    if p < PROBABILITY:
        return PROBABILITY
    return ONE - PROBABILITY if p > ONE - PROBABILITY else p


@scalar
def cross(p, t):
    """-t log(p)"""
    return -t * np.log(inside(p))


@scalar
def cross_slope(p, t):
    """-t / p"""
    return -t / inside(p)


@scalar
def binary_cross(p, t):
    """-t log(p) - (1 - t) log(1 - p)"""
    p = inside(p)
    return -t * np.log(p) - (ONE - t) * np.log(ONE - p)


@scalar
def binary_cross_slope(p, t):
    """(p - t) / (p (1 - p))"""
    p = inside(p)
    return (p - t) / (p * (ONE - p))


@scalar
def binary_cross_logit(z, t):
    """binary_cross(sigmoid(z), t), exact for any z"""
    return softplus(z) - t * z


@scalar
def same_side(y, t):
    """1 if y and t lie on the same side of 1/2, else 0"""
    return ONE if (y > HALF) == (t > HALF) else ZERO
