"""Activations, and the ops that copy and add rows. Elements (r, j) of a batch of rows.

    activations   y = f(x)                          dx = f'(x) dy, with f'(x) in terms of y
    softmax       y[j] = exp(x[j]) / sum_k exp(x[k])  dx[j] = y[j] (dy[j] - sum_k dy[k] y[k])

x and y may be the same buffer, and so may dx and dy. All but the copies work on whole vectors, padding included.
"""

from __future__ import annotations

import numpy as np

from numbanet.kernels import scalar
from numbanet.kernels.cpu.memory import matrix
from numbanet.kernels.cpu.simd import first_lanes, lanes, load, max_of, splat, store, sum_of
from numbanet.kernels.jit import kernel
from numbanet.kernels.scalar import ONE, ZERO, exp


def _activation(name, value, slope):
    @kernel(name=f"{name}_forward")
    def forward(op, theta, work, step, first, last):
        """y[r, j] = value(x[r, j])"""
        width = op[1]
        x, y = matrix(work, op, 0), matrix(work, op, 1)
        for r in range(first, last):
            for j in range(0, width, lanes(x)):
                store(y, r, j, value(load(x, r, j)))

    @kernel(name=f"{name}_backward")
    def backward(op, theta, work, step, first, last):
        """dx[r, j] = slope(y[r, j]) dy[r, j]"""
        width = op[1]
        y, dy, dx = matrix(work, op, 0), matrix(work, op, 1), matrix(work, op, 2)
        for r in range(first, last):
            for j in range(0, width, lanes(y)):
                store(dx, r, j, slope(load(y, r, j)) * load(dy, r, j))

    return forward, backward


sigmoid_forward, sigmoid_backward = _activation("sigmoid", scalar.sigmoid, scalar.sigmoid_slope)
tanh_forward, tanh_backward = _activation("tanh", scalar.tanh, scalar.tanh_slope)
relu_forward, relu_backward = _activation("relu", scalar.relu, scalar.relu_slope)


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
    """dx[r, j] = dy[r, at + j]"""
    width, at = op[1], op[2]
    dy, dx = matrix(work, op, 0), matrix(work, op, 1)
    whole = width // lanes(dx) * lanes(dx)
    for r in range(first, last):
        for j in range(0, whole, lanes(dx)):
            store(dx, r, j, load(dy, r, at + j))
        for j in range(whole, width):
            dx[r, j] = dy[r, at + j]


@kernel
def add_forward(op, theta, work, step, first, last):
    """y[r, j] += x[r, j]"""
    width = op[1]
    x, y = matrix(work, op, 0), matrix(work, op, 1)
    for r in range(first, last):
        for j in range(0, width, lanes(x)):
            store(y, r, j, load(y, r, j) + load(x, r, j))
