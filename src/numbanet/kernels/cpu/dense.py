"""The dense layer, y = x @ kernel + bias.

B rows of the batch (r), I inputs (i), O units (o)

dense_forward           y[r, o]       = bias[o] + sum_i x[r, i] kernel[i, o]
dense_backward_input    dx[r, i]      = sum_o dy[r, o] kernel[i, o]
dense_backward_kernel   dkernel[i, o] = sum_r x[r, i] dy[r, o]
dense_backward_bias     dbias[o]      = sum_r dy[r, o]
"""

from __future__ import annotations

import numpy as np

from numbanet.kernels import PANEL, ROWS
from numbanet.kernels.cpu.gemm import correlate, multiply
from numbanet.kernels.cpu.memory import matrix, nothing, rows_at, scratch
from numbanet.kernels.cpu.simd import lanes, load, splat, store
from numbanet.kernels.jit import kernel, piece


@piece
def _part(columns, first, last, batch, width):
    """Rows and panels that a product computes: some rows, or if `columns` some panels for the whole batch."""
    begin = first - first  # not 0: a constant would make another type of the pair, and compile the product twice
    if columns:
        return (begin, batch), (first, last)
    return (first, last), (begin, -(-width // PANEL))


@kernel
def dense_forward(op, theta, work, step, first, last):
    """y[r, o] = bias[o] + sum_i x[r, i] kernel[i, o], not below 0 if relu; a layer without bias has one of no rows"""
    inputs, units, relu, columns = op[1], op[2], op[3], op[4]
    x, kernel, bias, y = rows_at(work, op, 0, step), matrix(theta, op, 1), matrix(theta, op, 2), matrix(work, op, 3)
    least = y.dtype.type(0.0 if relu else -np.inf)
    rows, panels = _part(columns, first, last, step[ROWS], units)
    multiply(x, kernel, bias, y, rows, panels, (inputs, units), least)


@kernel
def dense_backward_input(op, theta, work, step, first, last):
    """dx[r, i] = sum_o dy[r, o] kernel[i, o]"""
    inputs, units, columns = op[1], op[2], op[3]
    dy, transposed, dx = matrix(work, op, 0), matrix(work, op, 1), matrix(work, op, 2)
    bias, least = nothing(work), dx.dtype.type(-np.inf)
    rows, panels = _part(columns, first, last, step[ROWS], inputs)
    multiply(dy, transposed, bias, dx, rows, panels, (units, inputs), least)


@kernel
def dense_backward_kernel(op, theta, work, step, first, last):
    """dkernel[i, o] = sum_r x[r, i] dy[r, o], for rows of the kernel's panels from first to last"""
    inputs, units = op[1], op[2]
    x, dy, dkernel = rows_at(work, op, 0, step), matrix(work, op, 1), scratch(work, op, 2, step)
    correlate(x, dy, dkernel, first, last, (inputs, units), step[ROWS])


@kernel
def dense_backward_bias(op, theta, work, step, first, last):
    """dbias[o] = sum_r dy[r, o], for panels from first to last"""
    dy, dbias = matrix(work, op, 0), scratch(work, op, 1, step)
    for panel in range(first, last):
        for j in range(0, PANEL, lanes(dy)):
            o, rows = panel * PANEL + j, step[ROWS]
            even, odd = splat(dy, 0.0), splat(dy, 0.0)  # two sums, for each waits 4 cycles for its last addition
            for r in range(0, rows - 1, 2):
                even += load(dy, r, o)
                odd += load(dy, r + 1, o)
            if rows % 2:
                even += load(dy, rows - 1, o)
            store(dbias, panel - first, j, even + odd)
