"""Scalar maths, written once for all devices: activations, their slopes in terms of the output, losses, their slopes.

The functions work on numbers and on what a device has in their place: on the CPU they are compiled for SIMD vectors
(kernels/cpu/simd.py). A choice is `where(condition, a, b)`, for a vector has no truth value.

Constants are float32 values that are exact in both precisions, so that a float32 expression stays float32. NumPy's
functions rather than math's: without a compiler those would return Python floats, which have no precision of their own.
"""

from __future__ import annotations

import math

import numpy as np

from numbanet.kernels.jit import scalar

ZERO, HALF, ONE, TWO = np.float32(0), np.float32(0.5), np.float32(1), np.float32(2)
PROBABILITY = np.float32(2.0**-23)  # probabilities are kept this far from 0 and 1 inside a logarithm (1.2e-7)

# -- what every device supplies; as they stand here they are for plain Python


def where(condition, a, b):
    """a where the condition holds, b elsewhere"""
    return np.where(condition, a, b)


def absolute(x):
    """|x|"""
    return np.abs(x)


def sqrt(x):
    """The square root."""
    return np.sqrt(x)


def exp(x):
    """e**x"""
    return np.exp(x)


def log(x):
    """The natural logarithm."""
    return np.log(x)


def log1p_unit(x):
    """log(1 + x) for x from 0 to 1"""
    return np.log1p(x)


def erf(x):
    """The error function, 2 / sqrt(pi) times the integral of exp(-t**2) from 0 to x."""
    return np.vectorize(math.erf, otypes=[x.dtype])(x)


def tanh(x):
    """The hyperbolic tangent."""
    return np.tanh(x)


def sin_eighth(x):
    """The sine of x from -pi/4 to pi/4"""
    return np.sin(x)


def cos_eighth(x):
    """The cosine of x from -pi/4 to pi/4"""
    return np.cos(x)


# -- activations


@scalar
def sigmoid(z):
    """1 / (1 + exp(-z)); for z < 0 as exp(z) / (1 + exp(z)), which keeps its digits"""
    power = exp(-absolute(z))
    return where(z < ZERO, power, ONE) / (power + ONE)


@scalar
def sigmoid_slope(y):
    """y (1 - y)"""
    return y * (ONE - y)


@scalar
def tanh_slope(y):
    """1 - y**2"""
    return ONE - y * y


@scalar
def relu(z):
    """max(z, 0), NaN stays NaN"""
    return where(z <= ZERO, ZERO, z)


@scalar
def relu_slope(y):
    """1 where y > 0, else 0"""
    return where(y > ZERO, ONE, ZERO)


@scalar
def sign(x):
    """1 where x > 0, -1 where x < 0, else 0"""
    return where(x > ZERO, ONE, where(x < ZERO, -ONE, ZERO))


@scalar
def clamp(x, limit):
    """x, kept from -limit to limit; NaN stays NaN"""
    x = where(x > limit, limit, x)
    return where(x < -limit, -limit, x)


@scalar
def softplus(z):
    """log(1 + exp(z)) without overflow"""
    return where(z <= ZERO, ZERO, z) + log1p_unit(exp(-absolute(z)))


# -- losses


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
def difference(y, t):
    """|y - t|"""
    return absolute(y - t)


@scalar
def inside(p):
    """p, kept away from 0 and 1; NaN stays NaN"""
    p = where(p < PROBABILITY, PROBABILITY, p)
    return where(p > ONE - PROBABILITY, ONE - PROBABILITY, p)


@scalar
def cross(p, t):
    """-t log(p)"""
    return -t * log(inside(p))


@scalar
def cross_slope(p, t):
    """-t / p"""
    return -t / inside(p)


@scalar
def binary_cross(p, t):
    """-t log(p) - (1 - t) log(1 - p)"""
    p = inside(p)
    return -t * log(p) - (ONE - t) * log(ONE - p)


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
    return where(y > HALF, where(t > HALF, ONE, ZERO), where(t > HALF, ZERO, ONE))


# -- random numbers

MULTIPLIERS = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)
WEYL = np.uint64(0x9E3779B9), np.uint64(0xBB67AE85)
WORD, HALF_WORDS = np.uint64(0xFFFFFFFF), np.uint64(32)


@scalar
def philox(counter, key):
    """Philox4x32-10 (Salmon et al., 2011): four random words of 32 bits, from a counter of four and a key of two.

    All are uint64 numbers below 2**32. The same counter and key give the same words on every device and thread.
    """
    a, b, c, d = counter
    first, second = key
    for _ in range(10):
        left, right = MULTIPLIERS[0] * a, MULTIPLIERS[1] * c
        a, b = (right >> HALF_WORDS) ^ b ^ first, right & WORD
        c, d = (left >> HALF_WORDS) ^ d ^ second, left & WORD
        first, second = (first + WEYL[0]) & WORD, (second + WEYL[1]) & WORD
    return a, b, c, d


UNIT = np.float32(2.0**-32)
QUARTER, EIGHTH = np.float32(0.25), np.float32(0.125)
TURN, ROOT_HALF = 2 * math.pi, math.sqrt(0.5)


@scalar
def unit(word):
    """A random word, as a real number, brought into (0, 1]"""
    return (word + HALF) * UNIT


@scalar
def direction(turns, turn, root_half):
    """(cos, sin) of 2 pi turns, for turns from 0 to 1; turn = 2 pi and root_half = sqrt(1/2) in the precision wanted

    The angle is some quarters of a turn, an eighth, and what is left: -pi/4 to pi/4.
    """
    second_half = turns > HALF
    turns = where(second_half, turns - HALF, turns)
    odd = turns > QUARTER
    left = (where(odd, turns - QUARTER, turns) - EIGHTH) * turn
    c, s = cos_eighth(left), sin_eighth(left)
    c, s = (c - s) * root_half, (c + s) * root_half
    c, s = where(odd, -s, c), where(odd, c, s)
    return where(second_half, -c, c), where(second_half, -s, s)


@scalar
def normals(u, v, turn, root_half):
    """Two independent normal numbers from two that are uniform in (0, 1] (Box & Muller, 1958); as in `direction`"""
    radius = sqrt(-TWO * log(u))
    c, s = direction(v, turn, root_half)
    return radius * c, radius * s
