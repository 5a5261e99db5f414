"""Activations, and the ops that copy and add rows. Elements (r, j) of a batch of rows.

    activations   y = f(x)                          dx = f'(x) dy, with f'(x) in terms of y
    softmax       y[j] = exp(x[j]) / sum_k exp(x[k])  dx[j] = y[j] (dy[j] - sum_k dy[k] y[k])

x and y may be the same buffer, and so may dx and dy.
"""

from __future__ import annotations

import numpy as np

from numbanet.kernels import scalar
from numbanet.kernels.cpu.memory import matrix
from numbanet.kernels.jit import kernel
from numbanet.kernels.scalar import ZERO


def _activation(name, value, slope):
    @kernel(name=f"{name}_forward")
    def forward(op, theta, work, step, first, last):
        """y[r, j] = value(x[r, j])"""
        width = op[1]
        x, y = matrix(work, op, 0), matrix(work, op, 1)
        for r in range(first, last):
            for j in range(width):
                y[r, j] = value(x[r, j])

    @kernel(name=f"{name}_backward")
    def backward(op, theta, work, step, first, last):
        """dx[r, j] = slope(y[r, j]) dy[r, j]"""
        width = op[1]
        y, dy, dx = matrix(work, op, 0), matrix(work, op, 1), matrix(work, op, 2)
        for r in range(first, last):
            for j in range(width):
                dx[r, j] = slope(y[r, j]) * dy[r, j]

    return forward, backward


sigmoid_forward, sigmoid_backward = _activation("sigmoid", scalar.sigmoid, scalar.sigmoid_slope)
tanh_forward, tanh_backward = _activation("tanh", scalar.tanh, scalar.tanh_slope)
relu_forward, relu_backward = _activation("relu", scalar.relu, scalar.relu_slope)


@kernel
def softmax_forward(op, theta, work, step, first, last):
    """y[r, j] = exp(x[r, j] - m) / sum_k exp(x[r, k] - m), m the row's maximum"""
    width = op[1]
    x, y = matrix(work, op, 0), matrix(work, op, 1)
    for r in range(first, last):
        top = x[r, 0]
        for j in range(1, width):
            top = max(top, x[r, j])
        total = ZERO
        for j in range(width):
            y[r, j] = np.exp(x[r, j] - top)
            total += y[r, j]
        for j in range(width):
            y[r, j] /= total


@kernel
def softmax_backward(op, theta, work, step, first, last):
    """dx[r, j] = y[r, j] (dy[r, j] - sum_k dy[r, k] y[r, k]): the row's full Jacobian diag(y) - y y^T times dy"""
    width = op[1]
    y, dy, dx = matrix(work, op, 0), matrix(work, op, 1), matrix(work, op, 2)
    for r in range(first, last):
        mean = ZERO
        for j in range(width):
            mean += dy[r, j] * y[r, j]
        for j in range(width):
            dx[r, j] = y[r, j] * (dy[r, j] - mean)


@kernel
def copy_forward(op, theta, work, step, first, last):
    """y[r, at + j] = x[r, j]"""
    width, at = op[1], op[2]
    x, y = matrix(work, op, 0), matrix(work, op, 1)
    for r in range(first, last):
        for j in range(width):
            y[r, at + j] = x[r, j]


@kernel
def copy_backward(op, theta, work, step, first, last):
    """dx[r, j] = dy[r, at + j]"""
    width, at = op[1], op[2]
    dy, dx = matrix(work, op, 0), matrix(work, op, 1)
    for r in range(first, last):
        for j in range(width):
            dx[r, j] = dy[r, at + j]


@kernel
def add_forward(op, theta, work, step, first, last):
    """y[r, j] += x[r, j]"""
    width = op[1]
    x, y = matrix(work, op, 0), matrix(work, op, 1)
    for r in range(first, last):
        for j in range(width):
            y[r, j] += x[r, j]
