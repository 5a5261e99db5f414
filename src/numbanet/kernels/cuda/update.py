"""Optimisers, and what else is done to parameters and their gradients, on a range of rows of a parameter's panels.

w the parameter; g its gradient, in scratch memory, of the rows under way only; elementwise, a thread an element.

The coefficients of the step under way are row `step[BATCH]` of a float64 table which the optimiser's description
computes for all steps of an epoch at once; schedules and bias corrections therefore cost nothing here.

    sgd_update       w -= a g
    momentum_update  v = u v - a g;  w += p v - q g
    adam_update      m += (1 - b1) (g - m);  s += (1 - b2) (g**2 - s);  w -= a m / (sqrt(s) c + e)
    gradient_add     total += g              for parameters that several layers share
    gradient_keep    kept = g                where somebody wants to read it
    transpose        transposed[o, i] = w[i, o]
"""

from __future__ import annotations

from numbanet.kernels import BATCH, PANEL
from numbanet.kernels.cuda.block import thread
from numbanet.kernels.cuda.launch import THREADS
from numbanet.kernels.cuda.memory import cast, matrix, outside_float64, quotient, remainder, scratch
from numbanet.kernels.cuda.target import kernel, piece
from numbanet.kernels.scalar import sqrt


@piece
def _coefficient(op, step, column, like):
    """A coefficient of the step under way, which is operand 1"""
    coefficients, stride = outside_float64(op, 1)
    return cast(like, coefficients[step[BATCH] * stride + column])


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


@kernel
def adam_update(op, theta, work, step, first, last):
    """m += p (g - m); s += q (g**2 - s); w -= a m / (c sqrt(s) + e)  (Kingma & Ba, 2015)

    coefficients: a = rate / (1 - b1**t), p = 1 - b1, q = 1 - b2, c = 1 / sqrt(1 - b2**t), e
    """
    (g, _), (w, _) = scratch(work, op, 0, step), matrix(theta, op, 2)
    (mean, _), (variance, _) = matrix(theta, op, 3), matrix(theta, op, 4)
    a, p, q = _coefficient(op, step, 0, w), _coefficient(op, step, 1, w), _coefficient(op, step, 2, w)
    c, epsilon = _coefficient(op, step, 3, w), _coefficient(op, step, 4, w)
    for e in range(thread(), (last - first) * PANEL, THREADS):
        k, gradient = first * PANEL + e, g[e]
        m = mean[k] + p * (gradient - mean[k])
        s = variance[k] + q * (gradient * gradient - variance[k])
        mean[k], variance[k] = m, s
        w[k] -= a * m / (c * sqrt(s) + epsilon)


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
