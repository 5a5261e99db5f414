"""Activations, and the ops that copy and add rows. Elements (r, j) of a batch of rows.

    activations   y = f(x)                               dx = f'(x) dy, with f'(x) in terms of y, or of x
    softmax       y[j] = exp(x[j]) / sum_k exp(x[k])     dx[j] = y[j] (dy[j] - sum_k dy[k] y[k])
    log_softmax   y[j] = x[j] - log sum_k exp(x[k])      dx[j] = dy[j] - exp(y[j]) sum_k dy[k]

x and y may be the same buffer, and so may dx and dy. All but copies and sums work on whole vectors, padding included.
Sums leave padding of y as it is: added to in every step it would grow without end. Copies of gradients set it to zero:
else it would stay NaN after a step that was not finite.
"""

from __future__ import annotations

import numpy as np

from numbanet.kernels import PANEL, scalar
from numbanet.kernels.cpu.memory import matrix, real
from numbanet.kernels.cpu.simd import first_lanes, lanes, load, max_of, splat, store, sum_of
from numbanet.kernels.jit import kernel, piece
from numbanet.kernels.scalar import ONE, ZERO, exp, log


@piece
def no_reals(like, op):
    """What a formula without parameters takes beside its variables"""
    return ()


@piece
def one_real(like, op):
    """What a formula with one parameter takes beside its variables: the op's size after the width"""
    return (splat(like, real(op, 2)),)


def _activation(name, value, slope, reals=no_reals):
    @kernel(name=f"{name}_forward")
    def forward(op, theta, work, step, first, last):
        """y[r, j] = value(x[r, j])"""
        width = op[1]
        x, y = matrix(work, op, 0), matrix(work, op, 1)
        given = reals(x, op)
        for r in range(first, last):
            for j in range(0, width, lanes(x)):
                store(y, r, j, value(load(x, r, j), *given))

    @kernel(name=f"{name}_backward")
    def backward(op, theta, work, step, first, last):
        """dx[r, j] = slope(y[r, j]) dy[r, j]; of x[r, j] where the op reads x"""
        width = op[1]
        y, dy, dx = matrix(work, op, 0), matrix(work, op, 1), matrix(work, op, 2)
        given = reals(y, op)
        for r in range(first, last):
            for j in range(0, width, lanes(y)):
                store(dx, r, j, slope(load(y, r, j), *given) * load(dy, r, j))

    return forward, backward


sigmoid_forward, sigmoid_backward = _activation("sigmoid", scalar.sigmoid, scalar.sigmoid_slope)
tanh_forward, tanh_backward = _activation("tanh", scalar.hyperbolic, scalar.tanh_slope)
relu_forward, relu_backward = _activation("relu", scalar.relu, scalar.relu_slope)
leaky_relu_forward, leaky_relu_backward = _activation(
    "leaky_relu", scalar.leaky_relu, scalar.leaky_relu_slope, one_real
)
elu_forward, elu_backward = _activation("elu", scalar.elu, scalar.elu_slope, one_real)
selu_forward, selu_backward = _activation("selu", scalar.selu, scalar.selu_slope)
gelu_forward, gelu_backward = _activation("gelu", scalar.gelu, scalar.gelu_slope)
softplus_forward, softplus_backward = _activation("softplus", scalar.softplus, scalar.softplus_slope)
softsign_forward, softsign_backward = _activation("softsign", scalar.softsign, scalar.softsign_slope)
swish_forward, swish_backward = _activation("swish", scalar.swish, scalar.swish_slope)
hard_sigmoid_forward, hard_sigmoid_backward = _activation(
    "hard_sigmoid", scalar.hard_sigmoid, scalar.hard_sigmoid_slope
)
step_forward, step_backward = _activation("step", scalar.step, scalar.step_slope)


@kernel
def softmax_forward(op, theta, work, step, first, last):
    """y[r, j] = exp(x[r, j] - m) / sum_k exp(x[r, k] - m), m the row's maximum; padding 0"""
    width = op[1]
    x, y = matrix(work, op, 0), matrix(work, op, 1)
    for r in range(first, last):
        tops = splat(x, -np.inf)
        for j in range(0, width, lanes(x)):
            value = first_lanes(load(x, r, j), width - j, -np.inf)
            tops = scalar.where(value > tops, value, tops)
        top, total = max_of(tops), splat(x, ZERO)
        for j in range(0, width, lanes(x)):
            power = first_lanes(exp(load(x, r, j) - top), width - j, ZERO)
            store(y, r, j, power)
            total += power
        share = ONE / sum_of(total)
        for j in range(0, width, lanes(x)):
            store(y, r, j, load(y, r, j) * share)


@kernel
def softmax_backward(op, theta, work, step, first, last):
    """dx[r, j] = y[r, j] (dy[r, j] - sum_k dy[r, k] y[r, k]): the row's full Jacobian diag(y) - y y^T times dy"""
    width = op[1]
    y, dy, dx = matrix(work, op, 0), matrix(work, op, 1), matrix(work, op, 2)
    for r in range(first, last):
        total = splat(y, ZERO)
        for j in range(0, width, lanes(y)):
            total += load(dy, r, j) * load(y, r, j)
        mean = sum_of(total)
        for j in range(0, width, lanes(y)):
            store(dx, r, j, load(y, r, j) * (load(dy, r, j) - mean))


@piece
def row_max(x, r, width):
    """The maximum of row r"""
    tops = splat(x, -np.inf)
    for j in range(0, width, lanes(x)):
        value = first_lanes(load(x, r, j), width - j, -np.inf)
        tops = scalar.where(value > tops, value, tops)
    return max_of(tops)


@kernel
def log_softmax_forward(op, theta, work, step, first, last):
    """y[r, j] = x[r, j] - m - log sum_k exp(x[r, k] - m), m the row's maximum"""
    width = op[1]
    x, y = matrix(work, op, 0), matrix(work, op, 1)
    for r in range(first, last):
        top, totals = row_max(x, r, width), splat(x, ZERO)
        for j in range(0, width, lanes(x)):
            totals += first_lanes(exp(load(x, r, j) - top), width - j, ZERO)
        rest = log(splat(x, sum_of(totals)))  # of a vector: of a number it is a call
        for j in range(0, width, lanes(x)):
            store(y, r, j, load(x, r, j) - top - rest)


@kernel
def log_softmax_backward(op, theta, work, step, first, last):
    """dx[r, j] = dy[r, j] - exp(y[r, j]) sum_k dy[r, k]; padding 0"""
    width = op[1]
    y, dy, dx = matrix(work, op, 0), matrix(work, op, 1), matrix(work, op, 2)
    for r in range(first, last):
        totals = splat(y, ZERO)
        for j in range(0, width, lanes(y)):
            totals += load(dy, r, j)
        total = sum_of(totals)
        for j in range(0, width, lanes(y)):
            slope = load(dy, r, j) - exp(load(y, r, j)) * total
            store(dx, r, j, first_lanes(slope, width - j, ZERO))


@piece
def clear_padding(dx, r, width):
    """dx[r, width : whole panels] = 0"""
    for j in range(width, -(-width // PANEL) * PANEL):
        dx[r, j] = ZERO


@kernel
def copy_forward(op, theta, work, step, first, last):
    """y[r, at + j] = x[r, j]"""
    width, at = op[1], op[2]
    x, y = matrix(work, op, 0), matrix(work, op, 1)
    whole = width // lanes(x) * lanes(x)
    for r in range(first, last):
        for j in range(0, whole, lanes(x)):
            store(y, r, at + j, load(x, r, j))
        for j in range(whole, width):
            y[r, at + j] = x[r, j]


@kernel
def copy_backward(op, theta, work, step, first, last):
    """dx[r, j] = dy[r, at + j]; padding 0"""
    width, at = op[1], op[2]
    dy, dx = matrix(work, op, 0), matrix(work, op, 1)
    whole = width // lanes(dx) * lanes(dx)
    for r in range(first, last):
        for j in range(0, whole, lanes(dx)):
            store(dx, r, j, load(dy, r, at + j))
        for j in range(whole, width):
            dx[r, j] = dy[r, at + j]
        clear_padding(dx, r, width)


@kernel
def add_forward(op, theta, work, step, first, last):
    """y[r, j] += x[r, j]"""
    width = op[1]
    x, y = matrix(work, op, 0), matrix(work, op, 1)
    for r in range(first, last):
        for j in range(0, width, lanes(x)):
            store(y, r, j, load(y, r, j) + first_lanes(load(x, r, j), width - j, ZERO))
