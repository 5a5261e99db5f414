"""Losses with their gradients, and metrics. y the network's output, t the target, B rows, O outputs.

A loss writes the gradient of its mean over the batch and adds each row's value to column 0 of the row's scores
(float64, summed over an epoch by whoever reads them); a metric adds to its own column. A group of threads takes a row.

    half_squared_error            L[r] = sum_j (y - t)**2 / 2
    mse                           L[r] = sum_j (y - t)**2 / O
    cross_entropy                 L[r] = -sum_j t log(y)
    binary_cross_entropy          L[r] = -sum_j (t log(y) + (1 - t) log(1 - y)) / O
    mae                           L[r] = sum_j |y - t| / O
    huber                         L[r] = sum_j h / O, h = (y - t)**2 / 2 up to |y - t| = delta, linear beyond
    kl_divergence                 L[r] = sum_j t log(t / y)
    hinge                         L[r] = sum_j max(1 - t y, 0) / O
    poisson                       L[r] = sum_j (y - t log(y)) / O
    softmax_cross_entropy         cross_entropy of y = softmax(x),           dx = y sum_j t - t
    log_softmax_cross_entropy     the same, and y = log_softmax(x),          dx = exp(y) sum_j t - t
    sigmoid_binary_cross_entropy  binary_cross_entropy of y = sigmoid(x),    dx = (y - t) / O

Where samples have weights, the loss adds to `unweighted` instead of the scores, and `weigh` follows.
"""

from __future__ import annotations

import numpy as np

from numbanet.kernels import ROWS, SCORE, scalar
from numbanet.kernels.cuda.block import GROUPS, LANES, group, group_sum, lane, meet, shared, thread
from numbanet.kernels.cuda.launch import THREADS
from numbanet.kernels.cuda.memory import cast, matrix, outside_float64, quotient, remainder
from numbanet.kernels.cuda.pointwise import no_reals, one_real, row_max
from numbanet.kernels.cuda.target import kernel, piece
from numbanet.kernels.scalar import ONE, ZERO, exp, log


@piece
def _score(scores, step, r, column, value):
    """scores[r, column] += value, by the first thread of the row's group"""
    if lane() == 0:
        scores[0][(step[SCORE] + r) * scores[1] + column] += value


def _loss(name, value, slope, mean, reals=no_reals):
    @kernel(name=name)
    def loss(op, theta, work, step, first, last):
        """scores[r, 0] += sum_j value(y, t), dy[r, j] = slope(y, t) / B; both / O if mean"""
        (y, ys), (target, ts), (dy, dys) = matrix(work, op, 0), matrix(work, op, 1), matrix(work, op, 2)
        scores, slots = outside_float64(op, 3), shared(work)
        share = 1.0 / op[1] if mean else 1.0
        scale, given = cast(y, share / step[ROWS]), reals(y, op)
        for begin in range(first, last, GROUPS):  # all groups together, for they meet
            r = begin + group()
            width, total = op[1] if r < last else 0, cast(y, ZERO)
            for j in range(lane(), width, LANES):
                found, wanted = y[r * ys + j], target[r * ts + j]
                total += value(found, wanted, *given)
                dy[r * dys + j] = scale * slope(found, wanted, *given)
            total = group_sum(total, slots)
            if r < last:
                _score(scores, step, r, 0, share * total)

    return loss


half_squared_error = _loss("half_squared_error", scalar.half_square, scalar.half_square_slope, mean=False)
mse = _loss("mse", scalar.square, scalar.square_slope, mean=True)
cross_entropy = _loss("cross_entropy", scalar.cross, scalar.cross_slope, mean=False)
binary_cross_entropy = _loss("binary_cross_entropy", scalar.binary_cross, scalar.binary_cross_slope, mean=True)
mae = _loss("mae", scalar.difference, scalar.difference_slope, mean=True)
huber = _loss("huber", scalar.huber, scalar.huber_slope, mean=True, reals=one_real)
kl_divergence = _loss("kl_divergence", scalar.divergence, scalar.divergence_slope, mean=False)
hinge = _loss("hinge", scalar.hinge, scalar.hinge_slope, mean=True)
poisson = _loss("poisson", scalar.poisson, scalar.poisson_slope, mean=True)


@kernel
def softmax_cross_entropy(op, theta, work, step, first, last):
    """y = softmax(x); scores[r, 0] += sum_j t[j] (log sum_k exp(x[k]) - x[j]); dx[r, j] = (y sum_k t[k] - t) / B"""
    (x, xs), (target, ts), (y, ys) = matrix(work, op, 0), matrix(work, op, 1), matrix(work, op, 2)
    (dx, dxs), scores, slots = matrix(work, op, 3), outside_float64(op, 4), shared(work)
    batch = cast(x, ONE / step[ROWS])
    for begin in range(first, last, GROUPS):  # all groups together, for they meet
        r = begin + group()
        width = op[1] if r < last else 0
        top = row_max(x, r * xs, width, slots)
        total, mass, linear = cast(x, ZERO), cast(x, ZERO), cast(x, ZERO)
        for j in range(lane(), width, LANES):
            shifted, t = x[r * xs + j] - top, target[r * ts + j]
            power = exp(shifted)
            y[r * ys + j] = power  # y may be x: x is not read after this
            total += power
            mass += t
            linear += t * shifted
        total, mass, linear = group_sum(total, slots), group_sum(mass, slots), group_sum(linear, slots)
        share = ONE / total
        for j in range(lane(), width, LANES):
            probability = y[r * ys + j] * share
            y[r * ys + j] = probability
            dx[r * dxs + j] = (probability * mass - target[r * ts + j]) * batch
        if r < last:
            _score(scores, step, r, 0, mass * log(total) - linear)


@kernel
def log_softmax_cross_entropy(op, theta, work, step, first, last):
    """y = log_softmax(x); scores[r, 0] -= sum_j t[j] y[j]; dx[r, j] = (exp(y) sum_k t[k] - t) / B"""
    (x, xs), (target, ts), (y, ys) = matrix(work, op, 0), matrix(work, op, 1), matrix(work, op, 2)
    (dx, dxs), scores, slots = matrix(work, op, 3), outside_float64(op, 4), shared(work)
    batch = cast(x, ONE / step[ROWS])
    for begin in range(first, last, GROUPS):  # all groups together, for they meet
        r = begin + group()
        width = op[1] if r < last else 0
        top, total, mass, value = row_max(x, r * xs, width, slots), cast(x, ZERO), cast(x, ZERO), cast(x, ZERO)
        for j in range(lane(), width, LANES):
            power = exp(x[r * xs + j] - top)
            total += power
            mass += target[r * ts + j]
            dx[r * dxs + j] = power
        total, mass = group_sum(total, slots), group_sum(mass, slots)
        share, rest = mass / total, log(total)
        for j in range(lane(), width, LANES):
            t, likelihood = target[r * ts + j], x[r * xs + j] - top - rest
            value -= t * likelihood
            y[r * ys + j] = likelihood  # y may be x
            dx[r * dxs + j] = (dx[r * dxs + j] * share - t) * batch
        value = group_sum(value, slots)
        if r < last:
            _score(scores, step, r, 0, value)


@kernel
def sigmoid_binary_cross_entropy(op, theta, work, step, first, last):
    """y = sigmoid(x); scores[r, 0] += sum_j (log(1 + exp(x)) - t x) / O; dx[r, j] = (y - t) / (O B)"""
    (x, xs), (target, ts), (y, ys) = matrix(work, op, 0), matrix(work, op, 1), matrix(work, op, 2)
    (dx, dxs), scores, slots = matrix(work, op, 3), outside_float64(op, 4), shared(work)
    scale = cast(x, 1.0 / (op[1] * step[ROWS]))
    for begin in range(first, last, GROUPS):  # all groups together, for they meet
        r = begin + group()
        width, total = op[1] if r < last else 0, cast(x, ZERO)
        for j in range(lane(), width, LANES):
            logit, t = x[r * xs + j], target[r * ts + j]
            total += scalar.binary_cross_logit(logit, t)
            probability = scalar.sigmoid(logit)
            y[r * ys + j] = probability
            dx[r * dxs + j] = (probability - t) * scale
        total = group_sum(total, slots)
        if r < last:
            _score(scores, step, r, 0, total / op[1])


@kernel
def weigh(op, theta, work, step, first, last):
    """scores[r, 0] += weights[r] unweighted[r]; dy[r, j] *= weights[r]; unweighted[r] = 0 for the next step"""
    width, (weights, ws), (dy, dys) = op[1], matrix(work, op, 0), matrix(work, op, 1)
    (unweighted, us), (scores, ss) = outside_float64(op, 2), outside_float64(op, 3)
    for e in range(thread(), (last - first) * width, THREADS):
        r, j = first + quotient(e, width), remainder(e, width)
        dy[r * dys + j] *= weights[r * ws]
    for r in range(first + thread(), last, THREADS):
        row = step[SCORE] + r
        scores[row * ss] += weights[r * ws] * unweighted[row * us]
        unweighted[row * us] = 0.0


@piece
def _argmax(x, begin, width, slots):
    """The column of the largest value of the row from x[begin] on, the first of several, for a group of threads"""
    top, best = cast(x, -np.inf), width
    for j in range(lane(), width, LANES):
        if x[begin + j] > top or best == width:
            top, best = x[begin + j], j
    slots[thread()], slots[THREADS + thread()] = top, cast(x, best)  # exact up to 2**24 columns
    meet()
    for k in range(thread() - lane(), thread() - lane() + LANES):
        other, column = slots[k], np.int64(slots[THREADS + k])
        if column < width and (other > top or best == width or (other == top and column < best)):
            top, best = other, column
    meet()
    return best


@kernel
def accuracy(op, theta, work, step, first, last):
    """scores[r, column] += 1 if argmax_j y = argmax_j t"""
    (y, ys), (target, ts), column = matrix(work, op, 0), matrix(work, op, 1), op[2]
    scores, slots = outside_float64(op, 2), shared(work)
    for begin in range(first, last, GROUPS):  # all groups together, for they meet
        r = begin + group()
        width = op[1] if r < last else 0
        right = _argmax(y, r * ys, width, slots) == _argmax(target, r * ts, width, slots)
        if r < last and right:
            _score(scores, step, r, column, 1.0)


def _metric(name, value):
    @kernel(name=name)
    def metric(op, theta, work, step, first, last):
        """scores[r, column] += sum_j value(y, t) / O"""
        (y, ys), (target, ts) = matrix(work, op, 0), matrix(work, op, 1)
        scores, slots = outside_float64(op, 2), shared(work)
        for begin in range(first, last, GROUPS):  # all groups together, for they meet
            r = begin + group()
            width, total = op[1] if r < last else 0, cast(y, ZERO)
            for j in range(lane(), width, LANES):
                total += value(y[r * ys + j], target[r * ts + j])
            total = group_sum(total, slots)
            if r < last:
                _score(scores, step, r, op[2], total / op[1])

    return metric


binary_accuracy = _metric("binary_accuracy", scalar.same_side)
mean_squared_error = _metric("mean_squared_error", scalar.square)
mean_absolute_error = _metric("mean_absolute_error", scalar.difference)
