"""Optimisers, and what else is done to parameters and their gradients, on a range of rows of a parameter.

w the parameter, in panels; g its gradient, in scratch memory, of the rows under way only; elementwise.

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
    rows = op[1]
    g, coefficients, w = scratch(work, op, 0, step), outside_float64(op, 1), matrix(theta, op, 2)
    a = splat(w, coefficients[step[BATCH], 0])
    for panel in range(w.shape[0] // rows):
        for i in range(first, last):
            at_row = panel * rows + i
            for j in range(0, PANEL, lanes(w)):
                store(w, at_row, j, load(w, at_row, j) - a * load(g, i - first, panel * PANEL + j))


@kernel
def momentum_update(op, theta, work, step, first, last):
    """v = u v - a g; w += p v - q g; coefficients: a, u, p, q

    p = 1, q = 0: classical momentum (Polyak, 1964). p = u, q = a: Nesterov's (Sutskever et al., 2013).
    """
    rows = op[1]
    g, coefficients = scratch(work, op, 0, step), outside_float64(op, 1)
    w, velocity = matrix(theta, op, 2), matrix(theta, op, 3)
    now = coefficients[step[BATCH]]
    a, u, p, q = splat(w, now[0]), splat(w, now[1]), splat(w, now[2]), splat(w, now[3])
    for panel in range(w.shape[0] // rows):
        for i in range(first, last):
            at_row = panel * rows + i
            for j in range(0, PANEL, lanes(w)):
                gradient = load(g, i - first, panel * PANEL + j)
                v = u * load(velocity, at_row, j) - a * gradient
                store(velocity, at_row, j, v)
                store(w, at_row, j, load(w, at_row, j) + (p * v - q * gradient))


@kernel
def adam_update(op, theta, work, step, first, last):
    """m += p (g - m); s += q (g**2 - s); w -= a m / (c sqrt(s) + e)  (Kingma & Ba, 2015)

    coefficients: a = rate / (1 - b1**t), p = 1 - b1, q = 1 - b2, c = 1 / sqrt(1 - b2**t), e
    """
    rows = op[1]
    g, coefficients = scratch(work, op, 0, step), outside_float64(op, 1)
    w, mean, variance = matrix(theta, op, 2), matrix(theta, op, 3), matrix(theta, op, 4)
    now = coefficients[step[BATCH]]
    a, p, q, c, e = splat(w, now[0]), splat(w, now[1]), splat(w, now[2]), splat(w, now[3]), splat(w, now[4])
    for panel in range(w.shape[0] // rows):
        for i in range(first, last):
            at_row = panel * rows + i
            for j in range(0, PANEL, lanes(w)):
                gradient = load(g, i - first, panel * PANEL + j)
                m, s = load(mean, at_row, j), load(variance, at_row, j)
                m += p * (gradient - m)
                s += q * (gradient * gradient - s)
                store(mean, at_row, j, m)
                store(variance, at_row, j, s)
                store(w, at_row, j, load(w, at_row, j) - a * m / (c * sqrt(s) + e))


@kernel
def gradient_add(op, theta, work, step, first, last):
    """total[i, j] += gradient[i, j]"""
    width = op[1]
    gradient, total = scratch(work, op, 0, step), scratch(work, op, 1, step)
    for i in range(last - first):
        for j in range(0, width, lanes(total)):
            store(total, i, j, load(total, i, j) + load(gradient, i, j))


@kernel
def gradient_keep(op, theta, work, step, first, last):
    """kept[i, j] = gradient[i, j]"""
    width = op[1]
    gradient, kept = scratch(work, op, 0, step), matrix(work, op, 1)
    for i in range(first, last):
        for j in range(0, width, lanes(kept)):
            store(kept, i, j, load(gradient, i - first, j))


@kernel
def transpose(op, theta, work, step, first, last):
    """transposed[o, i] = parameter[i, o], both in panels; first is a multiple of 16"""
    inputs, units = op[1], op[2]
    parameter, transposed = matrix(theta, op, 0), matrix(work, op, 1)
    width = lanes(parameter)
    for i in range(first, last, width):
        for o in range(0, units, width):
            source = at(parameter, (o // PANEL) * inputs + i, o % PANEL)
            target = at(transposed, (i // PANEL) * units + o, i % PANEL)
            transpose_square(source, PANEL, last - i, target, PANEL, units - o)
