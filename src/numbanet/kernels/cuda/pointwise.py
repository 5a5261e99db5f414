"""Activations, and the ops that copy and add rows. Elements (r, j) of a batch of rows, a thread to each.

    activations   y = f(x)                               dx = f'(x) dy, with f'(x) in terms of y, or of x
    softmax       y[j] = exp(x[j]) / sum_k exp(x[k])     dx[j] = y[j] (dy[j] - sum_k dy[k] y[k])
    log_softmax   y[j] = x[j] - log sum_k exp(x[k])      dx[j] = dy[j] - exp(y[j]) sum_k dy[k]

x and y may be the same buffer, and so may dx and dy. Padding is left as it is. Softmax gives a group of threads a row.
"""

from __future__ import annotations

import numpy as np

from numbanet.kernels import scalar
from numbanet.kernels.cuda.block import GROUPS, LANES, group, group_max, group_sum, lane, shared, thread
from numbanet.kernels.cuda.launch import THREADS
from numbanet.kernels.cuda.memory import cast, matrix, quotient, real, remainder
from numbanet.kernels.cuda.target import kernel, piece
from numbanet.kernels.scalar import ONE, ZERO, exp, log


@piece
def no_reals(like, op):
    """What a formula without parameters takes beside its variables"""
    return ()


@piece
def one_real(like, op):
    """What a formula with one parameter takes beside its variables: the op's size after the width"""
    return (cast(like, real(op, 2)),)


def _activation(name, value, slope, reals=no_reals):
    @kernel(name=f"{name}_forward")
    def forward(op, theta, work, step, first, last):
        """y[r, j] = value(x[r, j])"""
        width, (x, xs), (y, ys) = op[1], matrix(work, op, 0), matrix(work, op, 1)
        given = reals(x, op)
        for e in range(thread(), (last - first) * width, THREADS):
            r, j = first + quotient(e, width), remainder(e, width)
            y[r * ys + j] = value(x[r * xs + j], *given)

    @kernel(name=f"{name}_backward")
    def backward(op, theta, work, step, first, last):
        """dx[r, j] = slope(y[r, j]) dy[r, j]; of x[r, j] where the op reads x"""
        width, (y, ys), (dy, dys), (dx, dxs) = op[1], matrix(work, op, 0), matrix(work, op, 1), matrix(work, op, 2)
        given = reals(y, op)
        for e in range(thread(), (last - first) * width, THREADS):
            r, j = first + quotient(e, width), remainder(e, width)
            dx[r * dxs + j] = slope(y[r * ys + j], *given) * dy[r * dys + j]

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
def log_softmax_forward(op, theta, work, step, first, last):
    """y[r, j] = x[r, j] - m - log sum_k exp(x[r, k] - m), m the row's maximum"""
    (x, xs), (y, ys), slots = matrix(work, op, 0), matrix(work, op, 1), shared(work)
    for begin in range(first, last, GROUPS):  # all groups together, for they meet
        r = begin + group()
        width = op[1] if r < last else 0
        top, total = row_max(x, r * xs, width, slots), cast(x, ZERO)
        for j in range(lane(), width, LANES):
            total += exp(x[r * xs + j] - top)
        rest = log(group_sum(total, slots))
        for j in range(lane(), width, LANES):
            y[r * ys + j] = x[r * xs + j] - top - rest


@kernel
def log_softmax_backward(op, theta, work, step, first, last):
    """dx[r, j] = dy[r, j] - exp(y[r, j]) sum_k dy[r, k]"""
    (y, ys), (dy, dys), (dx, dxs) = matrix(work, op, 0), matrix(work, op, 1), matrix(work, op, 2)
    slots = shared(work)
    for begin in range(first, last, GROUPS):
        r = begin + group()
        width, total = op[1] if r < last else 0, cast(y, ZERO)
        for j in range(lane(), width, LANES):
            total += dy[r * dys + j]
        total = group_sum(total, slots)
        for j in range(lane(), width, LANES):
            dx[r * dxs + j] = dy[r * dys + j] - exp(y[r * ys + j]) * total


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
