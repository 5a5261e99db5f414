"""Scalar maths, written once for all devices: activations, their slopes in terms of the output, losses, their slopes.

The functions work on numbers and on what a device has in their place: on the CPU they are compiled for SIMD vectors
(kernels/cpu/simd.py). A choice is `where(condition, a, b)`, for a vector has no truth value.

Constants are float32 values that are exact in both precisions, so that a float32 expression stays float32; any other
number goes through `constant`. NumPy's functions rather than math's: without a compiler those would return Python
floats, which have no precision of their own.
"""

from __future__ import annotations

import math

import numpy as np

from numbanet.kernels.jit import scalar

ZERO, HALF, ONE, TWO = np.float32(0), np.float32(0.5), np.float32(1), np.float32(2)
THREE, SIX = np.float32(3), np.float32(6)
PROBABILITY = np.float32(2.0**-23)  # probabilities are kept this far from 0 and 1 inside a logarithm (1.2e-7)
EPSILON = 1e-7  # Keras' "fuzz factor": divergences and Poisson's loss are kept this far from the logarithm of 0
SELU_ALPHA, SELU_SCALE = 1.6732632423543772, 1.0507009873554805  # Klambauer et al. (2017), to the last digit
ROOT_HALF = 0.7071067811865476  # 1 / sqrt(2)
NORMAL = 0.3989422804014327  # 1 / sqrt(2 pi)

# -- what every device supplies; as they stand here they are for plain Python


def constant(like, value):
    """A number in the precision of `like`"""
    return np.result_type(like).type(value)


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
def hyperbolic(z):
    """tanh(z), as a formula like the others: what a device supplies takes no *arguments"""
    return tanh(z)


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


@scalar
def expm1_negative(z):
    """exp(z) - 1 for z <= 0, as 2 t / (1 - t) with t = tanh(z / 2), which keeps its digits"""
    t = tanh(HALF * z)
    return (t + t) / (ONE - t)


@scalar
def softplus_slope(y):
    """sigmoid(z) = 1 - exp(-y), without the difference: for z < 0 both are small"""
    return -expm1_negative(-y)


@scalar
def leaky_relu(z, negative_slope):
    """z where z > 0, else negative_slope z"""
    return where(z > ZERO, z, negative_slope * z)


@scalar
def leaky_relu_slope(y, negative_slope):
    """1 where y > 0, else negative_slope, which is not negative: y has the sign of z"""
    return where(y > ZERO, ONE, negative_slope)


@scalar
def elu(z, alpha):
    """z where z > 0, else alpha (exp(z) - 1)"""
    return where(z > ZERO, z, alpha * expm1_negative(where(z > ZERO, ZERO, z)))


@scalar
def elu_slope(y, alpha):
    """1 where y > 0, else alpha exp(z) = y + alpha; alpha is not negative"""
    return where(y > ZERO, ONE, y + alpha)


@scalar
def selu(z):
    """elu with the alpha and the scale that keep mean 0 and variance 1 from layer to layer"""
    return constant(z, SELU_SCALE) * elu(z, constant(z, SELU_ALPHA))


@scalar
def selu_slope(y):
    """The scale where y > 0, else y + scale alpha"""
    return where(y > ZERO, constant(y, SELU_SCALE), y + constant(y, SELU_SCALE * SELU_ALPHA))


@scalar
def normal_below(z):
    """The share of a normal distribution that lies below z, (1 + erf(z / sqrt(2))) / 2"""
    return HALF * (ONE + erf(constant(z, ROOT_HALF) * z))


@scalar
def gelu(z):
    """z normal_below(z)"""
    return z * normal_below(z)


@scalar
def gelu_slope(z):
    """normal_below(z) + z exp(-z**2 / 2) / sqrt(2 pi)"""
    return normal_below(z) + constant(z, NORMAL) * z * exp(-HALF * z * z)


@scalar
def swish(z):
    """z sigmoid(z)"""
    return z * sigmoid(z)


@scalar
def swish_slope(z):
    """s (1 + z (1 - s)), s = sigmoid(z)"""
    s = sigmoid(z)
    return s * (ONE + z * (ONE - s))


@scalar
def softsign(z):
    """z / (1 + |z|)"""
    return z / (ONE + absolute(z))


@scalar
def softsign_slope(y):
    """(1 - |y|)**2"""
    return (ONE - absolute(y)) * (ONE - absolute(y))


@scalar
def hard_sigmoid(z):
    """z / 6 + 1/2, kept from 0 to 1; NaN stays NaN"""
    y = (z + THREE) / SIX
    y = where(y < ZERO, ZERO, y)
    return where(y > ONE, ONE, y)


@scalar
def hard_sigmoid_slope(y):
    """1/6 where 0 < y < 1, else 0"""
    return where(y > ZERO, where(y < ONE, constant(y, 1 / 6), ZERO), ZERO)


@scalar
def step(z):
    """1 where z >= 0, else 0; NaN stays NaN"""
    return where(z >= ZERO, ONE, where(z < ZERO, ZERO, z))


@scalar
def step_slope(y):
    """0"""
    return ZERO


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
def difference_slope(y, t):
    """sign(y - t)"""
    return sign(y - t)


@scalar
def huber(y, t, delta):
    """(y - t)**2 / 2 where |y - t| <= delta, delta (|y - t| - delta / 2) beyond"""
    size = absolute(y - t)
    return where(size <= delta, HALF * size * size, delta * (size - HALF * delta))


@scalar
def huber_slope(y, t, delta):
    """y - t, kept from -delta to delta"""
    return clamp(y - t, delta)


@scalar
def hinge(y, t):
    """max(1 - t y, 0)"""
    return relu(ONE - t * y)


@scalar
def hinge_slope(y, t):
    """-t where t y < 1, else 0"""
    return where(t * y < ONE, -t, ZERO)


@scalar
def poisson(y, t):
    """y - t log(y + epsilon)"""
    return y - t * log(y + constant(y, EPSILON))


@scalar
def poisson_slope(y, t):
    """1 - t / (y + epsilon)"""
    return ONE - t / (y + constant(y, EPSILON))


@scalar
def likely(p):
    """p, kept from epsilon to 1; NaN stays NaN"""
    p = where(p < constant(p, EPSILON), constant(p, EPSILON), p)
    return where(p > ONE, ONE, p)


@scalar
def divergence(y, t):
    """t log(t / y)"""
    return likely(t) * log(likely(t) / likely(y))


@scalar
def divergence_slope(y, t):
    """-t / y"""
    return -likely(t) / likely(y)


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
