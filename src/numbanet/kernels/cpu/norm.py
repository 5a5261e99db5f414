"""Normalisation. A row of the batch is `positions` vectors of `width` elements (channels), one after the other.

B rows of the batch (r), positions (p), width (c); n = B positions; e = epsilon

batch_norm_forward         over r and p:  m[c] = mean x,  v[c] = mean (x - m)**2,  spread = 1 / sqrt(v + e),
                           y = spread (x - m);  moving_mean and moving_variance go on by (1 - momentum) (m, v - theirs)
batch_norm_backward        dx = spread (dy - mean dy - y mean (y dy))
batch_norm_infer_forward   y = (x - moving_mean) / sqrt(moving_variance + e)
batch_norm_infer_backward  dx = dy / sqrt(moving_variance + e)
layer_norm_forward         over c:  as batch_norm_forward, for each r and p by itself
layer_norm_backward        dx = spread (dy - mean dy - y mean (y dy))
scale_forward              y = gamma x + beta                    without gamma 1, without beta 0
scale_backward_input       dx = gamma dy
scale_backward_gamma       dgamma[c] = sum x dy                  over r and p
scale_backward_beta        dbeta[c] = sum dy

Means are taken first and squares of what is left of them then: the difference of two large sums would lose its digits.
What rounding has left of the mean is taken off too (Chan, Golub & LeVeque, 1983); where all is equal and large, what is
left then may be below 0.

Where there is one position, vectors are whole, and reach into the padding of a row. Else the last vector of a position
reaches into the next, which may belong to another worker: it is read and written element by element.
"""

from __future__ import annotations

from numbanet.kernels import PANEL, ROWS
from numbanet.kernels.cpu.memory import matrix, notes, real, scratch
from numbanet.kernels.cpu.simd import first_lanes, lanes, load, splat, store, sum_of
from numbanet.kernels.jit import kernel, piece
from numbanet.kernels.scalar import ONE, ZERO, relu, sqrt


@piece
def _few(x, r, begin, count):
    """x[r, begin : begin + count] as a vector, zero after it, where the row may end before the vector"""
    few = notes(x, 1)
    store(few, 0, 0, splat(x, ZERO))
    for k in range(count):
        few[0, k] = x[r, begin + k]
    return load(few, 0, 0)


@piece
def _part(x, r, begin, count):
    """x[r, begin : begin + count] as a vector, zero after it"""
    if begin + lanes(x) <= x.shape[1]:
        return first_lanes(load(x, r, begin), count, ZERO)
    return _few(x, r, begin, count)


@piece
def _put(y, r, begin, count, positions, value):
    """y[r, begin : begin + count] = value; with one position a whole vector"""
    if positions == 1 or count >= lanes(y):
        store(y, r, begin, value)
    else:
        few = notes(y, 1)
        store(few, 0, 0, value)
        for k in range(count):
            y[r, begin + k] = few[0, k]


@piece
def _column_sums(x, c, count, sizes, mean):
    """(sum of x - mean, sum of (x - mean)**2) over all rows and positions, of the columns from c on; sizes: rows,
    positions, width"""
    rows, positions, width = sizes
    total, squares = splat(x, ZERO), splat(x, ZERO)
    for r in range(rows):
        for p in range(positions):
            left = _part(x, r, p * width + c, count) - mean
            total += left
            squares += left * left
    return total, squares


@kernel
def batch_norm_forward(op, theta, work, step, first, last):
    """y[r, p, c] = spread[c] (x[r, p, c] - m[c]), spread[c] = 1 / sqrt(v[c] + epsilon), of panels of columns

    m, v: mean and variance (over n) of x over r and p. moving_mean = momentum moving_mean + (1 - momentum) m, and so
    does moving_variance with v, if they are given.
    """
    width, positions, momentum = op[1], op[2], real(op, 4)
    x, y, spread = matrix(work, op, 0), matrix(work, op, 1), matrix(work, op, 2)
    means, variances = matrix(theta, op, 3), matrix(theta, op, 4)
    sizes, share = (step[ROWS], positions, width), splat(x, 1.0 / (step[ROWS] * positions))
    keep, learn, epsilon = splat(x, momentum), splat(x, 1.0 - momentum), splat(x, real(op, 3))
    for c in range(first * PANEL, min(last * PANEL, width), lanes(x)):
        count = width - c
        mean = _column_sums(x, c, count, sizes, splat(x, ZERO))[0] * share
        left, squares = _column_sums(x, c, count, sizes, mean)
        left *= share
        variance = relu(squares * share - left * left)
        mean += left
        scale = first_lanes(ONE / sqrt(variance + epsilon), count, ZERO)
        store(spread, 0, c, scale)
        for r in range(step[ROWS]):
            for p in range(positions):
                begin = p * width + c
                _put(y, r, begin, count, positions, (_part(x, r, begin, count) - mean) * scale)
        if means.shape[0]:
            panel, j = c // PANEL, c % PANEL
            store(means, panel, j, keep * load(means, panel, j) + learn * mean)
            store(variances, panel, j, keep * load(variances, panel, j) + learn * variance)


@kernel
def batch_norm_backward(op, theta, work, step, first, last):
    """dx[r, p, c] = spread[c] (dy[r, p, c] - mean dy - y[r, p, c] mean (y dy)), means over r and p"""
    width, positions, rows = op[1], op[2], step[ROWS]
    y, dy, spread, dx = matrix(work, op, 0), matrix(work, op, 1), matrix(work, op, 2), matrix(work, op, 3)
    share = splat(y, 1.0 / (rows * positions))
    for c in range(first * PANEL, min(last * PANEL, width), lanes(y)):
        count, mean, slope = width - c, splat(y, ZERO), splat(y, ZERO)
        for r in range(rows):
            for p in range(positions):
                d = _part(dy, r, p * width + c, count)
                mean += d
                slope += d * _part(y, r, p * width + c, count)
        mean, slope, scale = mean * share, slope * share, load(spread, 0, c)
        for r in range(rows):
            for p in range(positions):
                begin = p * width + c
                change = _part(dy, r, begin, count) - mean - _part(y, r, begin, count) * slope
                _put(dx, r, begin, count, positions, scale * change)


@kernel
def batch_norm_infer_forward(op, theta, work, step, first, last):
    """y[r, p, c] = (x[r, p, c] - moving_mean[c]) / sqrt(moving_variance[c] + epsilon)"""
    width, positions = op[1], op[2]
    x, mean, variance, y = matrix(work, op, 0), matrix(theta, op, 1), matrix(theta, op, 2), matrix(work, op, 3)
    epsilon = splat(x, real(op, 3))
    for c in range(0, width, lanes(x)):
        m, scale = load(mean, c // PANEL, c % PANEL), ONE / sqrt(load(variance, c // PANEL, c % PANEL) + epsilon)
        for r in range(first, last):
            for p in range(positions):
                begin = p * width + c
                _put(y, r, begin, width - c, positions, (_part(x, r, begin, width - c) - m) * scale)


@kernel
def batch_norm_infer_backward(op, theta, work, step, first, last):
    """dx[r, p, c] = dy[r, p, c] / sqrt(moving_variance[c] + epsilon)"""
    width, positions = op[1], op[2]
    dy, variance, dx = matrix(work, op, 0), matrix(theta, op, 1), matrix(work, op, 2)
    epsilon = splat(dy, real(op, 3))
    for c in range(0, width, lanes(dy)):
        scale = ONE / sqrt(load(variance, c // PANEL, c % PANEL) + epsilon)
        for r in range(first, last):
            for p in range(positions):
                begin = p * width + c
                _put(dx, r, begin, width - c, positions, _part(dy, r, begin, width - c) * scale)


@kernel
def layer_norm_forward(op, theta, work, step, first, last):
    """y[r, p, c] = spread[r, p] (x[r, p, c] - m), spread = 1 / sqrt(v + epsilon), m, v the mean and variance over c"""
    width, positions, epsilon = op[1], op[2], real(op, 3)
    x, y, spread = matrix(work, op, 0), matrix(work, op, 1), matrix(work, op, 2)
    for r in range(first, last):
        for p in range(positions):
            total, begin, end = splat(x, ZERO), p * width, (p + 1) * width
            for j in range(begin, end, lanes(x)):
                total += _part(x, r, j, end - j)
            mean = splat(x, sum_of(total) / width)
            total, squares = splat(x, ZERO), splat(x, ZERO)
            for j in range(begin, end, lanes(x)):
                left = first_lanes(_part(x, r, j, end - j) - mean, end - j, ZERO)
                total += left
                squares += left * left
            rest = sum_of(total) / width
            mean += splat(x, rest)
            spread[r, p] = ONE / sqrt(relu(sum_of(squares) / width - rest * rest) + epsilon)
            scale = splat(x, spread[r, p])
            for j in range(begin, end, lanes(x)):
                _put(y, r, j, end - j, positions, (_part(x, r, j, end - j) - mean) * scale)


@kernel
def layer_norm_backward(op, theta, work, step, first, last):
    """dx[r, p, c] = spread[r, p] (dy[r, p, c] - mean dy - y[r, p, c] mean (y dy)), means over c"""
    width, positions = op[1], op[2]
    y, dy, spread, dx = matrix(work, op, 0), matrix(work, op, 1), matrix(work, op, 2), matrix(work, op, 3)
    for r in range(first, last):
        for p in range(positions):
            mean, slope, begin, end = splat(y, ZERO), splat(y, ZERO), p * width, (p + 1) * width
            for j in range(begin, end, lanes(y)):
                d = _part(dy, r, j, end - j)
                mean += d
                slope += d * _part(y, r, j, end - j)
            mean, slope = splat(y, sum_of(mean) / width), splat(y, sum_of(slope) / width)
            scale = splat(y, spread[r, p])
            for j in range(begin, end, lanes(y)):
                change = _part(dy, r, j, end - j) - mean - _part(y, r, j, end - j) * slope
                _put(dx, r, j, end - j, positions, first_lanes(scale * change, end - j, ZERO))


@kernel
def scale_forward(op, theta, work, step, first, last):
    """y[r, p, c] = gamma[c] x[r, p, c] + beta[c]; gamma or beta may have no rows"""
    width, positions = op[1], op[2]
    x, gamma, beta, y = matrix(work, op, 0), matrix(theta, op, 1), matrix(theta, op, 2), matrix(work, op, 3)
    for r in range(first, last):
        for p in range(positions):
            for c in range(0, width, lanes(x)):
                begin = p * width + c
                value = _part(x, r, begin, width - c)
                if gamma.shape[0]:
                    value *= load(gamma, c // PANEL, c % PANEL)
                if beta.shape[0]:
                    value += load(beta, c // PANEL, c % PANEL)
                _put(y, r, begin, width - c, positions, value)


@kernel
def scale_backward_input(op, theta, work, step, first, last):
    """dx[r, p, c] = gamma[c] dy[r, p, c]; gamma may have no rows"""
    width, positions = op[1], op[2]
    dy, gamma, dx = matrix(work, op, 0), matrix(theta, op, 1), matrix(work, op, 2)
    for r in range(first, last):
        for p in range(positions):
            for c in range(0, width, lanes(dy)):
                begin = p * width + c
                value = _part(dy, r, begin, width - c)
                if gamma.shape[0]:
                    value *= load(gamma, c // PANEL, c % PANEL)
                _put(dx, r, begin, width - c, positions, value)


@kernel
def scale_backward_gamma(op, theta, work, step, first, last):
    """dgamma[c] = sum_r sum_p x[r, p, c] dy[r, p, c], for panels from first to last"""
    width, positions = op[1], op[2]
    x, dy, dgamma = matrix(work, op, 0), matrix(work, op, 1), scratch(work, op, 2, step)
    for c in range(first * PANEL, last * PANEL, lanes(dy)):
        total = splat(dy, ZERO)
        for r in range(step[ROWS]):
            for p in range(positions):
                total += _part(x, r, p * width + c, width - c) * _part(dy, r, p * width + c, width - c)
        store(dgamma, c // PANEL - first, c % PANEL, total)


@kernel
def scale_backward_beta(op, theta, work, step, first, last):
    """dbeta[c] = sum_r sum_p dy[r, p, c], for panels from first to last"""
    width, positions = op[1], op[2]
    dy, dbeta = matrix(work, op, 0), scratch(work, op, 1, step)
    for c in range(first * PANEL, last * PANEL, lanes(dy)):
        total = splat(dy, ZERO)
        for r in range(step[ROWS]):
            for p in range(positions):
                total += _part(dy, r, p * width + c, width - c)
        store(dbeta, c // PANEL - first, c % PANEL, total)
