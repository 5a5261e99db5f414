"""Optimisers, and what else is done to parameters and their gradients, on a range of rows of a parameter's panels.

w the parameter; g its gradient, in scratch memory, of the rows under way only; elementwise.

The coefficients of the step under way are row `step[BATCH]` of a float64 table which the optimiser's description
computes for all steps of an epoch at once; schedules and bias corrections therefore cost nothing here.

    sgd_update       w -= a g
    momentum_update  v = u v - a g;  w += p v - q g
    adam_update      m += (1 - b1) (g - m);  s += (1 - b2) (g**2 - s);  w -= a m / (sqrt(s) c + e)
    adamw_update     the same, and w -= d w
    rmsprop_update   s += q (g**2 - s);  m += q (g - m);  v = u v + a g / (sqrt(s - m**2 + b) + e);  w -= p v
    adagrad_update   s += g**2;  w -= a g / (sqrt(s + b) + e)
    gradient_add     total += g              for parameters that several layers share
    gradient_keep    kept = g                where somebody wants to read it, or before it is clipped by a norm
    transpose        transposed[o, i] = w[i, o]

Gradients on their way to the update, each with what comes of the one before:

    regularize           g += l1 sign(w) + 2 l2 w
    gradient_accumulate  s += g;  g = a s;  s = b s      the sum over some steps; a, b coefficients
    gradient_squares     squares[i] = sum_j g[i, j]**2
    sum_squares          norms[k] = sum_i squares[i]     of parameter k
    clip_factor          factor = min(1, limit / sqrt(sum_k norms[k]))
    gradient_take        g = factor kept
    gradient_clip        g = min(max(g, -limit), limit)
"""

from __future__ import annotations

import math

from numbanet.kernels import BATCH, PANEL, ROWS
from numbanet.kernels.cpu.memory import matrix, outside_float64, real, scratch
from numbanet.kernels.cpu.simd import at, lanes, load, splat, store, sum_of
from numbanet.kernels.cpu.tile import transpose as transpose_square
from numbanet.kernels.jit import kernel
from numbanet.kernels.scalar import ONE, ZERO, absolute, clamp, relu, sign, sqrt


@kernel
def sgd_update(op, theta, work, step, first, last):
    """w -= a g; coefficients: a"""
    g, coefficients, w = scratch(work, op, 0, step), outside_float64(op, 1), matrix(theta, op, 2)
    a = splat(w, coefficients[step[BATCH], 0])
    for i in range(first, last):
        for j in range(0, PANEL, lanes(w)):
            store(w, i, j, load(w, i, j) - a * load(g, i - first, j))


@kernel
def momentum_update(op, theta, work, step, first, last):
    """v = u v - a g; w += p v - q g; coefficients: a, u, p, q

    p = 1, q = 0: classical momentum (Polyak, 1964). p = u, q = a: Nesterov's (Sutskever et al., 2013).
    """
    g, coefficients = scratch(work, op, 0, step), outside_float64(op, 1)
    w, velocity = matrix(theta, op, 2), matrix(theta, op, 3)
    now = coefficients[step[BATCH]]
    a, u, p, q = splat(w, now[0]), splat(w, now[1]), splat(w, now[2]), splat(w, now[3])
    for i in range(first, last):
        for j in range(0, PANEL, lanes(w)):
            gradient = load(g, i - first, j)
            v = u * load(velocity, i, j) - a * gradient
            store(velocity, i, j, v)
            store(w, i, j, load(w, i, j) + (p * v - q * gradient))


def _adam(name, decays):
    @kernel(name=name)
    def update(op, theta, work, step, first, last):
        """m += p (g - m); s += q (g**2 - s); w -= a m / (c sqrt(s) + e), if it decays + d w

        coefficients: a = rate / (1 - b1**t), p = 1 - b1, q = 1 - b2, c = 1 / sqrt(1 - b2**t), e, d
        """
        g, coefficients = scratch(work, op, 0, step), outside_float64(op, 1)
        w, mean, variance = matrix(theta, op, 2), matrix(theta, op, 3), matrix(theta, op, 4)
        now = coefficients[step[BATCH]]
        a, p, q, c, e = splat(w, now[0]), splat(w, now[1]), splat(w, now[2]), splat(w, now[3]), splat(w, now[4])
        d = splat(w, now[5 if decays else 0])
        for i in range(first, last):
            for j in range(0, PANEL, lanes(w)):
                gradient = load(g, i - first, j)
                m, s = load(mean, i, j), load(variance, i, j)
                m += p * (gradient - m)
                s += q * (gradient * gradient - s)
                store(mean, i, j, m)
                store(variance, i, j, s)
                value, change = load(w, i, j), a * m / (c * sqrt(s) + e)
                store(w, i, j, value - (change + d * value if decays else change))

    return update


adam_update = _adam("adam_update", decays=False)  # Kingma & Ba, 2015
adamw_update = _adam("adamw_update", decays=True)  # Loshchilov & Hutter, 2019


@kernel
def rmsprop_update(op, theta, work, step, first, last):
    """s += q (g**2 - s); m += q (g - m); v = u v + a g / (sqrt(s - m**2 + b) + e); w -= p v  (Hinton, 2012)

    coefficients: a, q, b, e, u, p; without the operand mean, m = 0; without velocity, u = 0
    """
    g, coefficients = scratch(work, op, 0, step), outside_float64(op, 1)
    w, variance = matrix(theta, op, 2), matrix(theta, op, 3)
    mean, velocity = matrix(theta, op, 4), matrix(theta, op, 5)
    now = coefficients[step[BATCH]]
    a, q, b, e = splat(w, now[0]), splat(w, now[1]), splat(w, now[2]), splat(w, now[3])
    u, p = splat(w, now[4]), splat(w, now[5])
    for i in range(first, last):
        for j in range(0, PANEL, lanes(w)):
            gradient, s = load(g, i - first, j), load(variance, i, j)
            s += q * (gradient * gradient - s)
            store(variance, i, j, s)
            if mean.shape[0]:
                m = load(mean, i, j)
                m += q * (gradient - m)
                store(mean, i, j, m)
                s = relu(s - m * m)  # a variance: below 0 by rounding only
            v = a * gradient / (sqrt(s + b) + e)
            if velocity.shape[0]:
                v += u * load(velocity, i, j)
                store(velocity, i, j, v)
            store(w, i, j, load(w, i, j) - p * v)


@kernel
def adagrad_update(op, theta, work, step, first, last):
    """s += g**2; w -= a g / (sqrt(s + b) + e); coefficients: a, b, e  (Duchi et al., 2011)

    What the sum begins with is in b, so that accumulators begin with zero, and padding stays zero.
    """
    g, coefficients = scratch(work, op, 0, step), outside_float64(op, 1)
    w, accumulator = matrix(theta, op, 2), matrix(theta, op, 3)
    now = coefficients[step[BATCH]]
    a, b, e = splat(w, now[0]), splat(w, now[1]), splat(w, now[2])
    for i in range(first, last):
        for j in range(0, PANEL, lanes(w)):
            gradient = load(g, i - first, j)
            s = load(accumulator, i, j) + gradient * gradient
            store(accumulator, i, j, s)
            store(w, i, j, load(w, i, j) - a * gradient / (sqrt(s + b) + e))


@kernel
def gradient_add(op, theta, work, step, first, last):
    """total[i, j] += gradient[i, j]"""
    gradient, total = scratch(work, op, 0, step), scratch(work, op, 1, step)
    for i in range(last - first):
        for j in range(0, PANEL, lanes(total)):
            store(total, i, j, load(total, i, j) + load(gradient, i, j))


@kernel
def gradient_keep(op, theta, work, step, first, last):
    """kept[i, j] = gradient[i, j]"""
    gradient, kept = scratch(work, op, 0, step), matrix(work, op, 1)
    for i in range(first, last):
        for j in range(0, PANEL, lanes(kept)):
            store(kept, i, j, load(gradient, i - first, j))


@kernel
def gradient_take(op, theta, work, step, first, last):
    """gradient[i, j] = factor kept[i, j]; without a factor, 1"""
    kept, factor, gradient = matrix(work, op, 0), matrix(work, op, 1), scratch(work, op, 2, step)
    share = splat(kept, factor[0, 0] if factor.shape[0] else ONE)
    for i in range(first, last):
        for j in range(0, PANEL, lanes(kept)):
            store(gradient, i - first, j, share * load(kept, i, j))


@kernel
def gradient_accumulate(op, theta, work, step, first, last):
    """accumulated += gradient; gradient = a accumulated; accumulated = b accumulated; coefficients: ..., a, b"""
    coefficients, gradient = outside_float64(op, 0), scratch(work, op, 1, step)
    accumulated, column = matrix(theta, op, 2), op[1]
    now = coefficients[step[BATCH]]
    a, b = splat(gradient, now[column]), splat(gradient, now[column + 1])
    for i in range(first, last):
        for j in range(0, PANEL, lanes(gradient)):
            total = load(accumulated, i, j) + load(gradient, i - first, j)
            store(gradient, i - first, j, a * total)
            store(accumulated, i, j, b * total)


@kernel
def gradient_clip(op, theta, work, step, first, last):
    """gradient[i, j] = min(max(gradient[i, j], -limit), limit)"""
    gradient = scratch(work, op, 0, step)
    limit = splat(gradient, real(op, 1))
    for i in range(last - first):
        for j in range(0, PANEL, lanes(gradient)):
            store(gradient, i, j, clamp(load(gradient, i, j), limit))


@kernel
def gradient_squares(op, theta, work, step, first, last):
    """squares[i] = sum_j gradient[i, j]**2, 16 to a row"""
    gradient, squares = scratch(work, op, 0, step), matrix(work, op, 1)
    for i in range(first, last):
        total = splat(gradient, ZERO)
        for j in range(0, PANEL, lanes(gradient)):
            g = load(gradient, i - first, j)
            total += g * g
        squares[i // PANEL, i % PANEL] = sum_of(total)


@kernel
def sum_squares(op, theta, work, step, first, last):
    """norms[column] = sum_i squares[i]"""
    squares, norms, column = matrix(work, op, 0), matrix(work, op, 1), op[1]
    found = splat(squares, ZERO)
    for i in range(squares.shape[0]):
        for j in range(0, PANEL, lanes(squares)):
            found += load(squares, i, j)
    norms[0, column] = sum_of(found)


@kernel
def clip_factor(op, theta, work, step, first, last):
    """factor = limit / norm where the norm, sqrt(sum_k norms[k]), is larger than the limit, else 1"""
    norms, factor, width, limit = matrix(work, op, 0), matrix(work, op, 1), op[1], real(op, 2)
    found = 0.0
    for k in range(width):
        found += norms[0, k]
    norm = math.sqrt(found)
    factor[0, 0] = 1.0 if norm <= limit else limit / norm  # of NaN: NaN


@kernel
def regularize(op, theta, work, step, first, last):
    """gradient += l1 sign(w) + 2 l2 w; penalties[at + i] += B sum_j (l1 |w[i, j]| + l2 w[i, j]**2)"""
    w, gradient, penalties = matrix(theta, op, 0), scratch(work, op, 1, step), outside_float64(op, 2)
    l1, l2, begin = splat(w, real(op, 1)), splat(w, real(op, 2)), op[3]
    for i in range(first, last):
        total = splat(w, ZERO)
        for j in range(0, PANEL, lanes(w)):
            value = load(w, i, j)
            slope = l1 * sign(value) + (l2 + l2) * value
            store(gradient, i - first, j, load(gradient, i - first, j) + slope)
            total += l1 * absolute(value) + l2 * value * value
        penalties[begin + i, 0] += step[ROWS] * sum_of(total)


@kernel
def transpose(op, theta, work, step, first, last):
    """transposed[o, i] = parameter[i, o]; first is the beginning of a panel, or a multiple of 16 rows after it"""
    inputs, units = op[1], op[2]
    parameter, transposed = matrix(theta, op, 0), matrix(work, op, 1)
    width = lanes(parameter)
    while first < last:
        panel, begin = first // inputs, first % inputs
        end = min(inputs, begin + last - first)
        for i in range(begin, end, width):
            for o in range(panel * PANEL, min(units, (panel + 1) * PANEL), width):
                source = at(parameter, panel * inputs + i, o % PANEL)
                target = at(transposed, (i // PANEL) * units + o, i % PANEL)
                transpose_square(source, PANEL, end - i, target, PANEL, units - o)
        first += end - begin
