"""Optimisers, and what else is done to parameters and their gradients, on a range of rows of a parameter's panels.

w the parameter; g its gradient, in scratch memory, of the rows under way only; elementwise.

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
from numbanet.kernels.cpu.memory import matrix, outside_float64, scratch
from numbanet.kernels.cpu.simd import at, lanes, load, splat, store
from numbanet.kernels.cpu.tile import transpose as transpose_square
from numbanet.kernels.jit import kernel
from numbanet.kernels.scalar import sqrt


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


@kernel
def adam_update(op, theta, work, step, first, last):
    """m += p (g - m); s += q (g**2 - s); w -= a m / (c sqrt(s) + e)  (Kingma & Ba, 2015)

    coefficients: a = rate / (1 - b1**t), p = 1 - b1, q = 1 - b2, c = 1 / sqrt(1 - b2**t), e
    """
    g, coefficients = scratch(work, op, 0, step), outside_float64(op, 1)
    w, mean, variance = matrix(theta, op, 2), matrix(theta, op, 3), matrix(theta, op, 4)
    now = coefficients[step[BATCH]]
    a, p, q, c, e = splat(w, now[0]), splat(w, now[1]), splat(w, now[2]), splat(w, now[3]), splat(w, now[4])
    for i in range(first, last):
        for j in range(0, PANEL, lanes(w)):
            gradient = load(g, i - first, j)
            m, s = load(mean, i, j), load(variance, i, j)
            m += p * (gradient - m)
            s += q * (gradient * gradient - s)
            store(mean, i, j, m)
            store(variance, i, j, s)
            store(w, i, j, load(w, i, j) - a * m / (c * sqrt(s) + e))


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
