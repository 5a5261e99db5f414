"""Activations, and the ops that copy and add rows. Elements (r, j) of a batch of rows, a thread to each.

    activations   y = f(x)                          dx = f'(x) dy, with f'(x) in terms of y
    softmax       y[j] = exp(x[j]) / sum_k exp(x[k])  dx[j] = y[j] (dy[j] - sum_k dy[k] y[k])

x and y may be the same buffer, and so may dx and dy. Padding is left as it is. Softmax gives a group of threads a row.
"""

from __future__ import annotations

import numpy as np

from numbanet.kernels import scalar
from numbanet.kernels.cuda.block import GROUPS, LANES, group, group_max, group_sum, lane, shared, thread
from numbanet.kernels.cuda.launch import THREADS
from numbanet.kernels.cuda.memory import cast, matrix, quotient, remainder
from numbanet.kernels.cuda.target import kernel, piece
from numbanet.kernels.scalar import ONE, ZERO, exp


def _activation(name, value, slope):
    @kernel(name=f"{name}_forward")
    def forward(op, theta, work, step, first, last):
        """y[r, j] = value(x[r, j])"""
        width, (x, xs), (y, ys) = op[1], matrix(work, op, 0), matrix(work, op, 1)
        for e in range(thread(), (last - first) * width, THREADS):
            r, j = first + quotient(e, width), remainder(e, width)
            y[r * ys + j] = value(x[r * xs + j])

    @kernel(name=f"{name}_backward")
    def backward(op, theta, work, step, first, last):
        """dx[r, j] = slope(y[r, j]) dy[r, j]"""
        width, (y, ys), (dy, dys), (dx, dxs) = op[1], matrix(work, op, 0), matrix(work, op, 1), matrix(work, op, 2)
        for e in range(thread(), (last - first) * width, THREADS):
            r, j = first + quotient(e, width), remainder(e, width)
            dx[r * dxs + j] = slope(y[r * ys + j]) * dy[r * dys + j]

    return forward, backward


sigmoid_forward, sigmoid_backward = _activation("sigmoid", scalar.sigmoid, scalar.sigmoid_slope)
tanh_forward, tanh_backward = _activation("tanh", scalar.tanh, scalar.tanh_slope)
relu_forward, relu_backward = _activation("relu", scalar.relu, scalar.relu_slope)


@piece
def row_max(x, begin, width, slots):
    """The maximum of the row from x[begin] on, for a group of threads; width 0: none"""
    top = cast(x, -np.inf)
    for j in range(lane(), width, LANES):
        value = x[begin + j]
        top = value if value > top or value != value else top
    return group_max(top, slots)


@kernel
def softmax_forward(op, theta, work, step, first, last):
    """y[r, j] = exp(x[r, j] - m) / sum_k exp(x[r, k] - m), m the row's maximum"""
    (x, xs), (y, ys), slots = matrix(work, op, 0), matrix(work, op, 1), shared(work)
    for begin in range(first, last, GROUPS):  # all groups together, for they meet
        r = begin + group()
        width = op[1] if r < last else 0
        top, total = row_max(x, r * xs, width, slots), cast(x, ZERO)
        for j in range(lane(), width, LANES):
            power = exp(x[r * xs + j] - top)
            y[r * ys + j] = power
            total += power
        share = ONE / group_sum(total, slots)
        for j in range(lane(), width, LANES):
            y[r * ys + j] *= share


@kernel
def softmax_backward(op, theta, work, step, first, last):
    """dx[r, j] = y[r, j] (dy[r, j] - sum_k dy[r, k] y[r, k]): the row's full Jacobian diag(y) - y y^T times dy"""
    (y, ys), (dy, dys), (dx, dxs) = matrix(work, op, 0), matrix(work, op, 1), matrix(work, op, 2)
    slots = shared(work)
    for begin in range(first, last, GROUPS):
        r = begin + group()
        width, total = op[1] if r < last else 0, cast(y, ZERO)
        for j in range(lane(), width, LANES):
            total += dy[r * dys + j] * y[r * ys + j]
        mean = group_sum(total, slots)
        for j in range(lane(), width, LANES):
            dx[r * dxs + j] = y[r * ys + j] * (dy[r * dys + j] - mean)


@kernel
def copy_forward(op, theta, work, step, first, last):
    """y[r, at + j] = x[r, j]"""
    width, at, (x, xs), (y, ys) = op[1], op[2], matrix(work, op, 0), matrix(work, op, 1)
    for e in range(thread(), (last - first) * width, THREADS):
        r, j = first + quotient(e, width), remainder(e, width)
        y[r * ys + at + j] = x[r * xs + j]


@kernel
def copy_backward(op, theta, work, step, first, last):
    """dx[r, j] = dy[r, at + j]"""
    width, at, (dy, dys), (dx, dxs) = op[1], op[2], matrix(work, op, 0), matrix(work, op, 1)
    for e in range(thread(), (last - first) * width, THREADS):
        r, j = first + quotient(e, width), remainder(e, width)
        dx[r * dxs + j] = dy[r * dys + at + j]


@kernel
def add_forward(op, theta, work, step, first, last):
    """y[r, j] += x[r, j]"""
    width, (x, xs), (y, ys) = op[1], matrix(work, op, 0), matrix(work, op, 1)
    for e in range(thread(), (last - first) * width, THREADS):
        r, j = first + quotient(e, width), remainder(e, width)
        y[r * ys + j] += x[r * xs + j]
