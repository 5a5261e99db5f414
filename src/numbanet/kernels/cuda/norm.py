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

Where rows are mixed a column is one thread's, or several threads' that take every so-manieth row and position of it; in
layer_norm a group of threads takes a position; else every element has a thread.
"""

from __future__ import annotations

from numbanet.kernels import OPERAND, PANEL, ROWS
from numbanet.kernels.cuda.block import GROUPS, LANES, group, group_sum, lane, meet, shared, split, thread
from numbanet.kernels.cuda.launch import THREADS
from numbanet.kernels.cuda.memory import FIRST, cast, matrix, quotient, real, remainder, scratch
from numbanet.kernels.cuda.target import kernel, piece
from numbanet.kernels.scalar import ONE, ZERO, relu, sqrt


@piece
def _given(op, k):
    """Has operand k any rows?"""
    return op[FIRST + OPERAND * k + 1] > 0


@piece
def _all_parts(value, pieces, parts, mine, slots):
    """The sum of the values of all threads that share a column, for each of them; all threads of the block must call"""
    if parts == 1:
        return value
    slots[thread()] = value
    meet()
    total, other = slots[mine], mine + pieces
    while other < parts * pieces:
        total += slots[other]
        other += pieces
    meet()
    return total


@kernel
def batch_norm_forward(op, theta, work, step, first, last):
    """y[r, p, c] = spread[c] (x[r, p, c] - m[c]), spread[c] = 1 / sqrt(v[c] + epsilon), of panels of columns

    m, v: mean and variance (over n) of x over r and p. moving_mean = momentum moving_mean + (1 - momentum) m, and so
    does moving_variance with v, if they are given.
    """
    width, positions, momentum = op[1], op[2], real(op, 4)
    (x, xs), (y, ys), (spread, _) = matrix(work, op, 0), matrix(work, op, 1), matrix(work, op, 2)
    (means, _), (variances, _), slots = matrix(theta, op, 3), matrix(theta, op, 4), shared(work)
    pieces, count = (last - first) * PANEL, step[ROWS] * positions
    start, part, parts = split(pieces)
    share, epsilon = cast(x, 1.0 / count), cast(x, real(op, 3))
    keep, learn = cast(x, momentum), cast(x, 1.0 - momentum)
    for mine in range(start, pieces, THREADS):
        c = first * PANEL + mine
        end, total = count if c < width and part < parts else 0, cast(x, ZERO)
        k = part
        while k < end:
            total += x[quotient(k, positions) * xs + remainder(k, positions) * width + c]
            k += parts
        mean = _all_parts(total, pieces, parts, mine, slots) * share
        total, squares, k = cast(x, ZERO), cast(x, ZERO), part
        while k < end:
            left = x[quotient(k, positions) * xs + remainder(k, positions) * width + c] - mean
            total += left
            squares += left * left
            k += parts
        rest = _all_parts(total, pieces, parts, mine, slots) * share
        variance = relu(_all_parts(squares, pieces, parts, mine, slots) * share - rest * rest)
        mean += rest
        scale, k = ONE / sqrt(variance + epsilon), part
        while k < end:
            r, j = quotient(k, positions), remainder(k, positions) * width + c
            y[r * ys + j] = (x[r * xs + j] - mean) * scale
            k += parts
        if part == 0 and c < width:
            spread[c] = scale
            if _given(op, 3):
                means[c] = keep * means[c] + learn * mean
                variances[c] = keep * variances[c] + learn * variance


@kernel
def batch_norm_backward(op, theta, work, step, first, last):
    """dx[r, p, c] = spread[c] (dy[r, p, c] - mean dy - y[r, p, c] mean (y dy)), means over r and p"""
    width, positions, slots = op[1], op[2], shared(work)
    (y, ys), (dy, dys), (spread, _), (dx, dxs) = (
        matrix(work, op, 0),
        matrix(work, op, 1),
        matrix(work, op, 2),
        matrix(work, op, 3),
    )
    pieces, count = (last - first) * PANEL, step[ROWS] * positions
    start, part, parts = split(pieces)
    share = cast(y, 1.0 / count)
    for mine in range(start, pieces, THREADS):
        c = first * PANEL + mine
        end, mean, slope, k = count if c < width and part < parts else 0, cast(y, ZERO), cast(y, ZERO), part
        while k < end:
            r, j = quotient(k, positions), remainder(k, positions) * width + c
            mean += dy[r * dys + j]
            slope += dy[r * dys + j] * y[r * ys + j]
            k += parts
        mean = _all_parts(mean, pieces, parts, mine, slots) * share
        slope = _all_parts(slope, pieces, parts, mine, slots) * share
        k = part
        while k < end:
            r, j = quotient(k, positions), remainder(k, positions) * width + c
            dx[r * dxs + j] = spread[c] * (dy[r * dys + j] - mean - y[r * ys + j] * slope)
            k += parts


@kernel
def batch_norm_infer_forward(op, theta, work, step, first, last):
    """y[r, p, c] = (x[r, p, c] - moving_mean[c]) / sqrt(moving_variance[c] + epsilon)"""
    width, elements, (x, xs), (mean, _) = op[1], op[1] * op[2], matrix(work, op, 0), matrix(theta, op, 1)
    (variance, _), (y, ys), epsilon = matrix(theta, op, 2), matrix(work, op, 3), cast(work, real(op, 3))
    for e in range(thread(), (last - first) * elements, THREADS):
        r, j = first + quotient(e, elements), remainder(e, elements)
        c = remainder(j, width)
        y[r * ys + j] = (x[r * xs + j] - mean[c]) * (ONE / sqrt(variance[c] + epsilon))


@kernel
def batch_norm_infer_backward(op, theta, work, step, first, last):
    """dx[r, p, c] = dy[r, p, c] / sqrt(moving_variance[c] + epsilon)"""
    width, elements, epsilon = op[1], op[1] * op[2], cast(work, real(op, 3))
    (dy, dys), (variance, _), (dx, dxs) = matrix(work, op, 0), matrix(theta, op, 1), matrix(work, op, 2)
    for e in range(thread(), (last - first) * elements, THREADS):
        r, j = first + quotient(e, elements), remainder(e, elements)
        dx[r * dxs + j] = dy[r * dys + j] * (ONE / sqrt(variance[remainder(j, width)] + epsilon))


@kernel
def layer_norm_forward(op, theta, work, step, first, last):
    """y[r, p, c] = spread[r, p] (x[r, p, c] - m), spread = 1 / sqrt(v + epsilon), m, v the mean and variance over c"""
    positions, epsilon, slots = op[2], cast(work, real(op, 3)), shared(work)
    (x, xs), (y, ys), (spread, ss) = matrix(work, op, 0), matrix(work, op, 1), matrix(work, op, 2)
    share = cast(x, 1.0 / op[1])
    for begin in range(first * positions, last * positions, GROUPS):  # all groups together, for they meet
        r, p = quotient(begin + group(), positions), remainder(begin + group(), positions)
        width, total = op[1] if r < last else 0, cast(x, ZERO)
        row, out = r * xs + p * op[1], r * ys + p * op[1]
        for j in range(lane(), width, LANES):
            total += x[row + j]
        mean = group_sum(total, slots) * share
        total, squares = cast(x, ZERO), cast(x, ZERO)
        for j in range(lane(), width, LANES):
            left = x[row + j] - mean
            total += left
            squares += left * left
        rest = group_sum(total, slots) * share
        scale = ONE / sqrt(relu(group_sum(squares, slots) * share - rest * rest) + epsilon)
        mean += rest
        for j in range(lane(), width, LANES):
            y[out + j] = (x[row + j] - mean) * scale
        if r < last and lane() == 0:
            spread[r * ss + p] = scale


@kernel
def layer_norm_backward(op, theta, work, step, first, last):
    """dx[r, p, c] = spread[r, p] (dy[r, p, c] - mean dy - y[r, p, c] mean (y dy)), means over c"""
    positions, slots, (y, ys), (dy, dys) = op[2], shared(work), matrix(work, op, 0), matrix(work, op, 1)
    (spread, ss), (dx, dxs), share = matrix(work, op, 2), matrix(work, op, 3), cast(work, 1.0 / op[1])
    for begin in range(first * positions, last * positions, GROUPS):  # all groups together, for they meet
        r, p = quotient(begin + group(), positions), remainder(begin + group(), positions)
        width, mean, slope = op[1] if r < last else 0, cast(y, ZERO), cast(y, ZERO)
        at = p * op[1]
        for j in range(at + lane(), at + width, LANES):
            mean += dy[r * dys + j]
            slope += dy[r * dys + j] * y[r * ys + j]
        mean, slope = group_sum(mean, slots) * share, group_sum(slope, slots) * share
        for j in range(at + lane(), at + width, LANES):
            dx[r * dxs + j] = spread[r * ss + p] * (dy[r * dys + j] - mean - y[r * ys + j] * slope)


@kernel
def scale_forward(op, theta, work, step, first, last):
    """y[r, p, c] = gamma[c] x[r, p, c] + beta[c]; gamma or beta may have no rows"""
    width, elements, (x, xs), (gamma, _) = op[1], op[1] * op[2], matrix(work, op, 0), matrix(theta, op, 1)
    (beta, _), (y, ys) = matrix(theta, op, 2), matrix(work, op, 3)
    for e in range(thread(), (last - first) * elements, THREADS):
        r, j = first + quotient(e, elements), remainder(e, elements)
        c, value = remainder(j, width), x[r * xs + j]
        if _given(op, 1):
            value *= gamma[c]
        if _given(op, 2):
            value += beta[c]
        y[r * ys + j] = value


@kernel
def scale_backward_input(op, theta, work, step, first, last):
    """dx[r, p, c] = gamma[c] dy[r, p, c]; gamma may have no rows"""
    width, elements = op[1], op[1] * op[2]
    (dy, dys), (gamma, _), (dx, dxs) = matrix(work, op, 0), matrix(theta, op, 1), matrix(work, op, 2)
    for e in range(thread(), (last - first) * elements, THREADS):
        r, j = first + quotient(e, elements), remainder(e, elements)
        value = dy[r * dys + j]
        if _given(op, 1):
            value *= gamma[remainder(j, width)]
        dx[r * dxs + j] = value


@kernel
def scale_backward_gamma(op, theta, work, step, first, last):
    """dgamma[c] = sum_r sum_p x[r, p, c] dy[r, p, c], for panels from first to last"""
    width, positions, (x, xs), (dy, dys) = op[1], op[2], matrix(work, op, 0), matrix(work, op, 1)
    (dgamma, _), slots = scratch(work, op, 2, step), shared(work)
    pieces, count = (last - first) * PANEL, step[ROWS] * positions
    start, part, parts = split(pieces)
    for mine in range(start, pieces, THREADS):
        c = first * PANEL + mine
        end, total, k = count if c < width and part < parts else 0, cast(dy, ZERO), part
        while k < end:
            r, j = quotient(k, positions), remainder(k, positions) * width + c
            total += x[r * xs + j] * dy[r * dys + j]
            k += parts
        total = _all_parts(total, pieces, parts, mine, slots)
        if part == 0:
            dgamma[mine] = total


@kernel
def scale_backward_beta(op, theta, work, step, first, last):
    """dbeta[c] = sum_r sum_p dy[r, p, c], for panels from first to last"""
    width, positions, (dy, dys), (dbeta, _) = op[1], op[2], matrix(work, op, 0), scratch(work, op, 1, step)
    pieces, count, slots = (last - first) * PANEL, step[ROWS] * positions, shared(work)
    start, part, parts = split(pieces)
    for mine in range(start, pieces, THREADS):
        c = first * PANEL + mine
        end, total, k = count if c < width and part < parts else 0, cast(dy, ZERO), part
        while k < end:
            total += dy[quotient(k, positions) * dys + remainder(k, positions) * width + c]
            k += parts
        total = _all_parts(total, pieces, parts, mine, slots)
        if part == 0:
            dbeta[mine] = total
