"""Optimisers: one step on a range of rows of a parameter. w the parameter, g its gradient, elementwise.

The coefficients of the step under way are row `step[BATCH]` of a float64 table which the optimiser's description
computes for all steps of an epoch at once; schedules and bias corrections therefore cost nothing here.

    sgd_update       w -= a g
    momentum_update  v = u v - a g;  w += p v - q g
    adam_update      m += (1 - b1) (g - m);  s += (1 - b2) (g**2 - s);  w -= a m / (sqrt(s) c + e)
"""

from __future__ import annotations

import numpy as np

from numbanet.kernels import BATCH
from numbanet.kernels.cpu.memory import matrix, outside_float64
from numbanet.kernels.jit import kernel


@kernel
def sgd_update(op, theta, work, step, first, last):
    """w -= a g; coefficients: a"""
    g, coefficients, w = matrix(work, op, 0), outside_float64(op, 1), matrix(theta, op, 2)
    rate = w.dtype.type(coefficients[step[BATCH], 0])
    for i in range(first, last):
        for j in range(w.shape[1]):
            w[i, j] -= rate * g[i, j]


@kernel
def momentum_update(op, theta, work, step, first, last):
    """v = u v - a g; w += p v - q g; coefficients: a, u, p, q

    p = 1, q = 0: classical momentum (Polyak, 1964). p = u, q = a: Nesterov's (Sutskever et al., 2013).
    """
    g, coefficients = matrix(work, op, 0), outside_float64(op, 1)
    w, v = matrix(theta, op, 2), matrix(theta, op, 3)
    real = w.dtype.type
    now = coefficients[step[BATCH]]
    a, u, p, q = real(now[0]), real(now[1]), real(now[2]), real(now[3])
    for i in range(first, last):
        for j in range(w.shape[1]):
            v[i, j] = u * v[i, j] - a * g[i, j]
            w[i, j] += p * v[i, j] - q * g[i, j]


@kernel
def adam_update(op, theta, work, step, first, last):
    """m += p (g - m); s += q (g**2 - s); w -= a m / (c sqrt(s) + e)  (Kingma & Ba, 2015)

    coefficients: a = rate / (1 - b1**t), p = 1 - b1, q = 1 - b2, c = 1 / sqrt(1 - b2**t), e
    """
    g, coefficients = matrix(work, op, 0), outside_float64(op, 1)
    w, m, s = matrix(theta, op, 2), matrix(theta, op, 3), matrix(theta, op, 4)
    real = w.dtype.type
    now = coefficients[step[BATCH]]
    rate, p, q, c, e = real(now[0]), real(now[1]), real(now[2]), real(now[3]), real(now[4])
    for i in range(first, last):
        for j in range(w.shape[1]):
            gradient = g[i, j]
            m[i, j] += p * (gradient - m[i, j])
            s[i, j] += q * (gradient * gradient - s[i, j])
            w[i, j] -= rate * m[i, j] / (c * np.sqrt(s[i, j]) + e)
