"""Losses with their gradients, and metrics. y the network's output, t the target, B rows, O outputs.

A loss writes the gradient of its mean over the batch and adds each row's value to column 0 of the row's scores
(float64, summed over an epoch by whoever reads them); a metric adds to its own column. Rows are independent, so the
result does not depend on who computes which. The padding of gradients is zero.

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

from numbanet.kernels import ROWS, SCORE, jit, scalar
from numbanet.kernels.cpu.memory import matrix, notes, outside_float64
from numbanet.kernels.cpu.plain import FEW
from numbanet.kernels.cpu.pointwise import no_reals, one_real, row_max
from numbanet.kernels.cpu.simd import first_lanes, lanes, load, load_few, max_of, splat, store, sum_of
from numbanet.kernels.jit import kernel
from numbanet.kernels.scalar import ONE, ZERO, exp, log


def _loss(name, value, slope, mean, reals=no_reals):
    @kernel(name=name)
    def loss(op, theta, work, step, first, last):
        """scores[r, 0] += sum_j value(y, t), dy[r, j] = slope(y, t) / B; both / O if mean"""
        width = op[1]
        y, target, dy, scores = matrix(work, op, 0), matrix(work, op, 1), matrix(work, op, 2), outside_float64(op, 3)
        share = 1.0 / width if mean else 1.0
        scale, given = splat(y, share / step[ROWS]), reals(y, op)
        for r in range(first, last):
            total = splat(y, ZERO)
            for j in range(0, width, lanes(y)):
                found, wanted = load(y, r, j), load(target, r, j)
                total += first_lanes(value(found, wanted, *given), width - j, ZERO)
                store(dy, r, j, first_lanes(scale * slope(found, wanted, *given), width - j, ZERO))
            scores[step[SCORE] + r, 0] += share * sum_of(total)

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


@jit.piece
def _narrow_softmax(logits, t, y, dx, batch, width, r):
    """One row in one vector; returns sum_k exp(x[k] - top), sum_k t[k], sum_k t[k] (x[k] - top), top = max_k x[k]"""
    shifted = logits - max_of(first_lanes(logits, width, -np.inf))
    power = first_lanes(exp(shifted), width, ZERO)
    total, mass = sum_of(power), sum_of(t)
    probability = power * (ONE / total)
    store(y, r, 0, probability)  # y may be x
    store(dx, r, 0, first_lanes((probability * mass - t) * batch, width, ZERO))
    return total, mass, sum_of(t * shifted)


@jit.inlined
def _wide_softmax(x, target, y, dx, batch, width, r):
    """The same for any number of columns"""
    tops = splat(x, -np.inf)
    for j in range(0, width, lanes(x)):
        value = first_lanes(load(x, r, j), width - j, -np.inf)
        tops = scalar.where(value > tops, value, tops)
    top = max_of(tops)
    totals, linears, masses = splat(x, ZERO), splat(x, ZERO), splat(x, ZERO)
    for j in range(0, width, lanes(x)):
        shifted, t = load(x, r, j) - top, load(target, r, j)
        power = first_lanes(exp(shifted), width - j, ZERO)
        linears += first_lanes(t * shifted, width - j, ZERO)
        masses += first_lanes(t, width - j, ZERO)
        totals += power
        store(y, r, j, power)  # y may be x: x is not read after this
    total, mass = sum_of(totals), sum_of(masses)
    share = ONE / total
    for j in range(0, width, lanes(x)):
        probability = load(y, r, j) * share
        store(y, r, j, probability)
        store(dx, r, j, first_lanes((probability * mass - load(target, r, j)) * batch, width - j, ZERO))
    return total, mass, sum_of(linears)


@kernel
def softmax_cross_entropy(op, theta, work, step, first, last):
    """y = softmax(x); scores[r, 0] += sum_j t[j] (log sum_k exp(x[k]) - x[j]); dx[r, j] = (y sum_k t[k] - t) / B

    Logarithms are taken of a vector of rows at a time: one by one they were a third of the time of two columns.
    """
    width = op[1]
    x, target, y = matrix(work, op, 0), matrix(work, op, 1), matrix(work, op, 2)
    dx, scores = matrix(work, op, 3), outside_float64(op, 4)
    batch, figures = x.dtype.type(ONE / step[ROWS]), notes(x, 3)
    for begin in range(first, last, lanes(x)):
        end = min(begin + lanes(x), last)
        for r in range(begin, end):
            if width <= FEW <= lanes(x):
                figured = _narrow_softmax(load_few(x, r, 0), load_few(target, r, 0), y, dx, batch, width, r)
            elif width <= lanes(x):
                figured = _narrow_softmax(load(x, r, 0), load(target, r, 0), y, dx, batch, width, r)
            else:
                figured = _wide_softmax(x, target, y, dx, batch, width, r)
            for k in range(3):
                figures[k, r - begin] = figured[k]
        store(figures, 0, 0, load(figures, 1, 0) * log(load(figures, 0, 0)) - load(figures, 2, 0))
        for r in range(begin, end):
            scores[step[SCORE] + r, 0] += figures[0, r - begin]


@kernel
def log_softmax_cross_entropy(op, theta, work, step, first, last):
    """y = log_softmax(x); scores[r, 0] -= sum_j t[j] y[j]; dx[r, j] = (exp(y) sum_k t[k] - t) / B"""
    width = op[1]
    x, target, y = matrix(work, op, 0), matrix(work, op, 1), matrix(work, op, 2)
    dx, scores = matrix(work, op, 3), outside_float64(op, 4)
    batch = x.dtype.type(ONE / step[ROWS])
    for r in range(first, last):
        top, totals, masses, values = row_max(x, r, width), splat(x, ZERO), splat(x, ZERO), splat(x, ZERO)
        for j in range(0, width, lanes(x)):
            power = first_lanes(exp(load(x, r, j) - top), width - j, ZERO)
            totals += power
            masses += first_lanes(load(target, r, j), width - j, ZERO)
            store(dx, r, j, power)
        total = sum_of(totals)
        share, rest = sum_of(masses) / total, log(splat(x, total))
        for j in range(0, width, lanes(x)):
            t, likelihood = load(target, r, j), load(x, r, j) - top - rest
            values -= first_lanes(t * likelihood, width - j, ZERO)
            store(y, r, j, likelihood)  # y may be x
            store(dx, r, j, first_lanes((load(dx, r, j) * share - t) * batch, width - j, ZERO))
        scores[step[SCORE] + r, 0] += sum_of(values)


@kernel
def sigmoid_binary_cross_entropy(op, theta, work, step, first, last):
    """y = sigmoid(x); scores[r, 0] += sum_j (log(1 + exp(x)) - t x) / O; dx[r, j] = (y - t) / (O B)"""
    width = op[1]
    x, target, y = matrix(work, op, 0), matrix(work, op, 1), matrix(work, op, 2)
    dx, scores = matrix(work, op, 3), outside_float64(op, 4)
    scale = splat(x, 1.0 / (width * step[ROWS]))
    for r in range(first, last):
        total = splat(x, ZERO)
        for j in range(0, width, lanes(x)):
            logit, t = load(x, r, j), load(target, r, j)
            total += first_lanes(scalar.binary_cross_logit(logit, t), width - j, ZERO)
            probability = scalar.sigmoid(logit)
            store(y, r, j, probability)
            store(dx, r, j, first_lanes((probability - t) * scale, width - j, ZERO))
        scores[step[SCORE] + r, 0] += sum_of(total) / width


@kernel
def weigh(op, theta, work, step, first, last):
    """scores[r, 0] += weights[r] unweighted[r]; dy[r, j] *= weights[r]; unweighted[r] = 0 for the next step"""
    width, weights, dy = op[1], matrix(work, op, 0), matrix(work, op, 1)
    unweighted, scores = outside_float64(op, 2), outside_float64(op, 3)
    for r in range(first, last):
        weight, row = weights[r, 0], step[SCORE] + r
        for j in range(0, width, lanes(dy)):
            store(dy, r, j, load(dy, r, j) * weight)
        scores[row, 0] += weight * unweighted[row, 0]
        unweighted[row, 0] = 0.0


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
            scores[step[SCORE] + r, column] += 1.0


def _metric(name, value):
    @kernel(name=name)
    def metric(op, theta, work, step, first, last):
        """scores[r, column] += sum_j value(y, t) / O"""
        width, column = op[1], op[2]
        y, target, scores = matrix(work, op, 0), matrix(work, op, 1), outside_float64(op, 2)
        for r in range(first, last):
            total = splat(y, ZERO)
            for j in range(0, width, lanes(y)):
                total += first_lanes(value(load(y, r, j), load(target, r, j)), width - j, ZERO)
            scores[step[SCORE] + r, column] += sum_of(total) / width

    return metric


binary_accuracy = _metric("binary_accuracy", scalar.same_side)
mean_squared_error = _metric("mean_squared_error", scalar.square)
mean_absolute_error = _metric("mean_absolute_error", scalar.difference)
