"""Optimisers, and what else is done to parameters and their gradients, on a range of rows of a parameter's panels.

w the parameter; g its gradient, in scratch memory, of the rows under way only; elementwise, a thread an element.

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

from numbanet.kernels import BATCH, OPERAND, PANEL, ROWS
from numbanet.kernels.cuda.block import meet, shared, thread
from numbanet.kernels.cuda.launch import THREADS
from numbanet.kernels.cuda.memory import FIRST, cast, matrix, outside_float64, quotient, real, remainder, scratch
from numbanet.kernels.cuda.target import kernel, piece
from numbanet.kernels.scalar import ONE, ZERO, absolute, clamp, relu, sign, sqrt


@piece
def _coefficient(op, step, column, like, k=1):
    """A coefficient of the step under way, which is operand k"""
    coefficients, stride = outside_float64(op, k)
    return cast(like, coefficients[step[BATCH] * stride + column])


@piece
def _rows(op, k):
    """Rows of operand k"""
    return op[FIRST + OPERAND * k + 1]


@kernel
def sgd_update(op, theta, work, step, first, last):
    """w -= a g; coefficients: a"""
    (g, _), (w, _) = scratch(work, op, 0, step), matrix(theta, op, 2)
    a = _coefficient(op, step, 0, w)
    for e in range(thread(), (last - first) * PANEL, THREADS):
        w[first * PANEL + e] -= a * g[e]


@kernel
def momentum_update(op, theta, work, step, first, last):
    """v = u v - a g; w += p v - q g; coefficients: a, u, p, q

    p = 1, q = 0: classical momentum (Polyak, 1964). p = u, q = a: Nesterov's (Sutskever et al., 2013).
    """
    (g, _), (w, _), (velocity, _) = scratch(work, op, 0, step), matrix(theta, op, 2), matrix(theta, op, 3)
    a, u = _coefficient(op, step, 0, w), _coefficient(op, step, 1, w)
    p, q = _coefficient(op, step, 2, w), _coefficient(op, step, 3, w)
    for e in range(thread(), (last - first) * PANEL, THREADS):
        k = first * PANEL + e
        v = u * velocity[k] - a * g[e]
        velocity[k] = v
        w[k] += p * v - q * g[e]


def _adam(name, decays):
    @kernel(name=name)
    def update(op, theta, work, step, first, last):
        """m += p (g - m); s += q (g**2 - s); w -= a m / (c sqrt(s) + e), if it decays + d w

        coefficients: a = rate / (1 - b1**t), p = 1 - b1, q = 1 - b2, c = 1 / sqrt(1 - b2**t), e, d
        """
        (g, _), (w, _) = scratch(work, op, 0, step), matrix(theta, op, 2)
        (mean, _), (variance, _) = matrix(theta, op, 3), matrix(theta, op, 4)
        a, p, q = _coefficient(op, step, 0, w), _coefficient(op, step, 1, w), _coefficient(op, step, 2, w)
        c, epsilon = _coefficient(op, step, 3, w), _coefficient(op, step, 4, w)
        d = _coefficient(op, step, 5 if decays else 0, w)
        for e in range(thread(), (last - first) * PANEL, THREADS):
            k, gradient = first * PANEL + e, g[e]
            m = mean[k] + p * (gradient - mean[k])
            s = variance[k] + q * (gradient * gradient - variance[k])
            mean[k], variance[k] = m, s
            change = a * m / (c * sqrt(s) + epsilon)
            w[k] -= change + d * w[k] if decays else change

    return update


adam_update = _adam("adam_update", decays=False)  # Kingma & Ba, 2015
adamw_update = _adam("adamw_update", decays=True)  # Loshchilov & Hutter, 2019


@kernel
def rmsprop_update(op, theta, work, step, first, last):
    """s += q (g**2 - s); m += q (g - m); v = u v + a g / (sqrt(s - m**2 + b) + e); w -= p v  (Hinton, 2012)

    coefficients: a, q, b, e, u, p; without the operand mean, m = 0; without velocity, u = 0
    """
    (g, _), (w, _), (variance, _) = scratch(work, op, 0, step), matrix(theta, op, 2), matrix(theta, op, 3)
    (mean, _), (velocity, _) = matrix(theta, op, 4), matrix(theta, op, 5)
    a, q, b = _coefficient(op, step, 0, w), _coefficient(op, step, 1, w), _coefficient(op, step, 2, w)
    epsilon, u, p = _coefficient(op, step, 3, w), _coefficient(op, step, 4, w), _coefficient(op, step, 5, w)
    for e in range(thread(), (last - first) * PANEL, THREADS):
        k, gradient = first * PANEL + e, g[e]
        s = variance[k] + q * (gradient * gradient - variance[k])
        variance[k] = s
        if _rows(op, 4) > 0:
            m = mean[k] + q * (gradient - mean[k])
            mean[k] = m
            s = relu(s - m * m)  # a variance: below 0 by rounding only
        v = a * gradient / (sqrt(s + b) + epsilon)
        if _rows(op, 5) > 0:
            v += u * velocity[k]
            velocity[k] = v
        w[k] -= p * v


@kernel
def adagrad_update(op, theta, work, step, first, last):
    """s += g**2; w -= a g / (sqrt(s + b) + e); coefficients: a, b, e  (Duchi et al., 2011)

    What the sum begins with is in b, so that accumulators begin with zero, and padding stays zero.
    """
    (g, _), (w, _), (accumulator, _) = scratch(work, op, 0, step), matrix(theta, op, 2), matrix(theta, op, 3)
    a, b, epsilon = _coefficient(op, step, 0, w), _coefficient(op, step, 1, w), _coefficient(op, step, 2, w)
    for e in range(thread(), (last - first) * PANEL, THREADS):
        k, gradient = first * PANEL + e, g[e]
        s = accumulator[k] + gradient * gradient
        accumulator[k] = s
        w[k] -= a * gradient / (sqrt(s + b) + epsilon)


@kernel
def gradient_add(op, theta, work, step, first, last):
    """total[i, j] += gradient[i, j]"""
    (gradient, _), (total, _) = scratch(work, op, 0, step), scratch(work, op, 1, step)
    for e in range(thread(), (last - first) * PANEL, THREADS):
        total[e] += gradient[e]


@kernel
def gradient_keep(op, theta, work, step, first, last):
    """kept[i, j] = gradient[i, j]"""
    (gradient, _), (kept, _) = scratch(work, op, 0, step), matrix(work, op, 1)
    for e in range(thread(), (last - first) * PANEL, THREADS):
        kept[first * PANEL + e] = gradient[e]


@kernel
def gradient_take(op, theta, work, step, first, last):
    """gradient[i, j] = factor kept[i, j]; without a factor, 1"""
    (kept, _), (factor, _), (gradient, _) = matrix(work, op, 0), matrix(work, op, 1), scratch(work, op, 2, step)
    share = cast(kept, ONE)
    if _rows(op, 1) > 0:
        share = factor[0]
    for e in range(thread(), (last - first) * PANEL, THREADS):
        gradient[e] = share * kept[first * PANEL + e]


@kernel
def gradient_accumulate(op, theta, work, step, first, last):
    """accumulated += gradient; gradient = a accumulated; accumulated = b accumulated; coefficients: ..., a, b"""
    (gradient, _), (accumulated, _) = scratch(work, op, 1, step), matrix(theta, op, 2)
    a, b = _coefficient(op, step, op[1], gradient, 0), _coefficient(op, step, op[1] + 1, gradient, 0)
    for e in range(thread(), (last - first) * PANEL, THREADS):
        k = first * PANEL + e
        total = accumulated[k] + gradient[e]
        gradient[e] = a * total
        accumulated[k] = b * total


@kernel
def gradient_clip(op, theta, work, step, first, last):
    """gradient[i, j] = min(max(gradient[i, j], -limit), limit)"""
    gradient, _ = scratch(work, op, 0, step)
    limit = cast(gradient, real(op, 1))
    for e in range(thread(), (last - first) * PANEL, THREADS):
        gradient[e] = clamp(gradient[e], limit)


@kernel
def gradient_squares(op, theta, work, step, first, last):
    """squares[i] = sum_j gradient[i, j]**2, 16 to a row"""
    (gradient, _), (squares, _) = scratch(work, op, 0, step), matrix(work, op, 1)
    for i in range(thread(), last - first, THREADS):
        total = cast(gradient, ZERO)
        for j in range(PANEL):
            total += gradient[i * PANEL + j] * gradient[i * PANEL + j]
        squares[first + i] = total


@kernel
def sum_squares(op, theta, work, step, first, last):
    """norms[column] = sum_i squares[i]"""
    (squares, _), (norms, _), slots = matrix(work, op, 0), matrix(work, op, 1), shared(work)
    found = cast(squares, ZERO)
    for e in range(thread(), _rows(op, 0) * PANEL, THREADS):
        found += squares[e]
    slots[thread()] = found
    meet()
    if thread() == 0:
        for k in range(1, THREADS):
            found += slots[k]
        norms[op[1]] = found
    meet()


@kernel
def clip_factor(op, theta, work, step, first, last):
    """factor = limit / norm where the norm, sqrt(sum_k norms[k]), is larger than the limit, else 1"""
    (norms, _), (factor, _) = matrix(work, op, 0), matrix(work, op, 1)
    if thread() == 0:
        found, limit = 0.0, real(op, 2)
        for k in range(op[1]):
            found += norms[k]
        norm = math.sqrt(found)
        factor[0] = cast(factor, 1.0 if norm <= limit else limit / norm)  # of NaN: NaN


@kernel
def regularize(op, theta, work, step, first, last):
    """gradient += l1 sign(w) + 2 l2 w; penalties[at + i] += B sum_j (l1 |w[i, j]| + l2 w[i, j]**2)"""
    (w, _), (gradient, _), (penalties, apart) = matrix(theta, op, 0), scratch(work, op, 1, step), outside_float64(op, 2)
    l1, l2, begin = cast(w, real(op, 1)), cast(w, real(op, 2)), op[3] + first
    for i in range(thread(), last - first, THREADS):
        total = cast(w, ZERO)
        for j in range(PANEL):
            value = w[(first + i) * PANEL + j]
            gradient[i * PANEL + j] += l1 * sign(value) + (l2 + l2) * value
            total += l1 * absolute(value) + l2 * value * value
        penalties[(begin + i) * apart] += step[ROWS] * total


@kernel
def transpose(op, theta, work, step, first, last):
    """transposed[o, i] = parameter[i, o]; first is the beginning of a panel, or a multiple of 16 rows after it"""
    inputs, units = op[1], op[2]
    (parameter, _), (transposed, _) = matrix(theta, op, 0), matrix(work, op, 1)
    for e in range(thread(), (last - first) * PANEL, THREADS):
        row, column = first + quotient(e, PANEL), remainder(e, PANEL)
        i, o = remainder(row, inputs), quotient(row, inputs) * PANEL + column
        if o < units:
            place = (quotient(i, PANEL) * units + o) * PANEL + remainder(i, PANEL)
            transposed[place] = parameter[row * PANEL + column]
