"""Losses with their gradients, and metrics. y the network's output, t the target, B rows, O outputs.

A loss writes the gradient of its mean over the batch and adds each row's value to column 0 of the row's scores
(float64, summed over an epoch by whoever reads them); a metric adds to its own column. Rows are independent, so the
result does not depend on who computes which.

    half_squared_error            L[r] = sum_j (y - t)**2 / 2
    mse                           L[r] = sum_j (y - t)**2 / O
    cross_entropy                 L[r] = -sum_j t log(y)
    binary_cross_entropy          L[r] = -sum_j (t log(y) + (1 - t) log(1 - y)) / O
    softmax_cross_entropy         cross_entropy of y = softmax(x),           dx = y sum_j t - t
    sigmoid_binary_cross_entropy  binary_cross_entropy of y = sigmoid(x),    dx = (y - t) / O
"""

from __future__ import annotations

import numpy as np

from numbanet.kernels import ROWS, scalar
from numbanet.kernels.cpu.memory import matrix, outside_float64
from numbanet.kernels.jit import kernel
from numbanet.kernels.scalar import ZERO


def _loss(name, value, slope, mean):
    @kernel(name=name)
    def loss(op, theta, work, step, first, last):
        """scores[r, 0] += sum_j value(y, t), dy[r, j] = slope(y, t) / B; both / O if mean"""
        width = op[1]
        y, target, dy, scores = matrix(work, op, 0), matrix(work, op, 1), matrix(work, op, 2), outside_float64(op, 3)
        share = 1.0 / width if mean else 1.0
        scale = share / step[ROWS]
        for r in range(first, last):
            total = 0.0
            for j in range(width):
                total += value(y[r, j], target[r, j])
                dy[r, j] = scale * slope(y[r, j], target[r, j])
            scores[r, 0] += share * total

    return loss


half_squared_error = _loss("half_squared_error", scalar.half_square, scalar.half_square_slope, mean=False)
mse = _loss("mse", scalar.square, scalar.square_slope, mean=True)
cross_entropy = _loss("cross_entropy", scalar.cross, scalar.cross_slope, mean=False)
binary_cross_entropy = _loss("binary_cross_entropy", scalar.binary_cross, scalar.binary_cross_slope, mean=True)


@kernel
def softmax_cross_entropy(op, theta, work, step, first, last):
    """y = softmax(x); scores[r, 0] += sum_j t[j] (log sum_k exp(x[k]) - x[j]); dx[r, j] = (y sum_k t[k] - t) / B"""
    width = op[1]
    x, target, y = matrix(work, op, 0), matrix(work, op, 1), matrix(work, op, 2)
    dx, scores = matrix(work, op, 3), outside_float64(op, 4)
    for r in range(first, last):
        top = x[r, 0]
        for j in range(1, width):
            top = max(top, x[r, j])
        total, linear, mass = ZERO, ZERO, ZERO
        for j in range(width):
            shifted, t = x[r, j] - top, target[r, j]
            linear += t * shifted
            mass += t
            y[r, j] = np.exp(shifted)  # y may be x: x is not read after this
            total += y[r, j]
        scores[r, 0] += mass * np.log(total) - linear
        for j in range(width):
            y[r, j] /= total
            dx[r, j] = (y[r, j] * mass - target[r, j]) / step[ROWS]


@kernel
def sigmoid_binary_cross_entropy(op, theta, work, step, first, last):
    """y = sigmoid(x); scores[r, 0] += sum_j (log(1 + exp(x)) - t x) / O; dx[r, j] = (y - t) / (O B)"""
    width = op[1]
    x, target, y = matrix(work, op, 0), matrix(work, op, 1), matrix(work, op, 2)
    dx, scores = matrix(work, op, 3), outside_float64(op, 4)
    for r in range(first, last):
        total = 0.0
        for j in range(width):
            total += scalar.binary_cross_logit(x[r, j], target[r, j])
            y[r, j] = scalar.sigmoid(x[r, j])
            dx[r, j] = (y[r, j] - target[r, j]) / (width * step[ROWS])
        scores[r, 0] += total / width


@kernel
def accuracy(op, theta, work, step, first, last):
    """scores[r, column] += 1 if argmax_j y = argmax_j t"""
    width, column = op[1], op[2]
    y, target, scores = matrix(work, op, 0), matrix(work, op, 1), outside_float64(op, 2)
    for r in range(first, last):
        guess, truth = 0, 0
        for j in range(1, width):
            if y[r, j] > y[r, guess]:
                guess = j
            if target[r, j] > target[r, truth]:
                truth = j
        if guess == truth:
            scores[r, column] += 1.0


def _metric(name, value):
    @kernel(name=name)
    def metric(op, theta, work, step, first, last):
        """scores[r, column] += sum_j value(y, t) / O"""
        width, column = op[1], op[2]
        y, target, scores = matrix(work, op, 0), matrix(work, op, 1), outside_float64(op, 2)
        for r in range(first, last):
            total = 0.0
            for j in range(width):
                total += value(y[r, j], target[r, j])
            scores[r, column] += total / width

    return metric


binary_accuracy = _metric("binary_accuracy", scalar.same_side)
mean_squared_error = _metric("mean_squared_error", scalar.square)
mean_absolute_error = _metric("mean_absolute_error", scalar.absolute)
