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
from numbanet.kernels.cuda.block import meet, shared, split, thread
from numbanet.kernels.cuda.gemm import SIDE, correlate, multiply, multiply_square
from numbanet.kernels.cuda.launch import THREADS
from numbanet.kernels.cuda.memory import cast, matrix, quotient, remainder, scratch
from numbanet.kernels.cuda.target import kernel, piece
from numbanet.kernels.scalar import ZERO


@piece
def _product(x, kernel, bias, y, part, batch, sizes, least):
    """A product's rows from first to last; or by columns, those of all panels of a group of rows, then of the next

    part: columns (rows of a group, 0: by rows), first, last
    """
    columns, first, last = part
    panels = quotient(sizes[1] + PANEL - 1, PANEL)
    while first < last:
        rows, some, after = (first, last), (columns - columns, panels), last
        if columns > 0:
            top, begin = quotient(first, panels) * columns, remainder(first, panels)
            most = min(last - first, SIDE // PANEL) if columns == SIDE else last - first
            rows, some = (top, min(batch, top + columns)), (begin, min(panels, begin + most))
            after = first + some[1] - begin
        if columns == SIDE and rows[0] < rows[1]:
            multiply_square(x, kernel, bias, y, rows, some, sizes, least)
        elif rows[0] < rows[1]:
            multiply(x, kernel, bias, y, rows, some, sizes, least)
        first = after


@kernel
def dense_forward(op, theta, work, step, first, last):
    """y[r, o] = bias[o] + sum_i x[r, i] kernel[i, o], not below 0 if relu; a layer without bias has one of no rows"""
    inputs, units, relu, columns = op[1], op[2], op[3], op[4]
    x, kernel, bias, y = matrix(work, op, 0), matrix(theta, op, 1), matrix(theta, op, 2), matrix(work, op, 3)
    least = cast(work, 0.0 if relu else -np.inf)
    _product(x, kernel, bias, y, (columns, first, last), step[ROWS], (inputs, units), least)


@kernel
def dense_backward_input(op, theta, work, step, first, last):
    """dx[r, i] = sum_o dy[r, o] kernel[i, o]"""
    inputs, units, columns = op[1], op[2], op[3]
    dy, transposed, dx = matrix(work, op, 0), matrix(work, op, 1), matrix(work, op, 2)
    bias = work, columns - columns  # none: stride 0
    _product(dy, transposed, bias, dx, (columns, first, last), step[ROWS], (units, inputs), cast(work, -np.inf))


@kernel
def dense_backward_kernel(op, theta, work, step, first, last):
    """dkernel[i, o] = sum_r x[r, i] dy[r, o], for rows of the kernel's panels from first to last"""
    inputs, units = op[1], op[2]
    x, dy, dkernel = matrix(work, op, 0), matrix(work, op, 1), scratch(work, op, 2, step)
    correlate(x, dy, dkernel, first, last, (inputs, units), step[ROWS])


@kernel
def dense_backward_bias(op, theta, work, step, first, last):
    """dbias[o] = sum_r dy[r, o], for panels from first to last"""
    (dy, stride), (dbias, _) = matrix(work, op, 0), scratch(work, op, 1, step)
    rows, pieces, slots = step[ROWS], (last - first) * PANEL, shared(work)
    start, part, parts = split(pieces)
    for mine in range(start, pieces, THREADS):
        o, total = first * PANEL + mine, cast(dy, ZERO)
        r = part if part < parts else rows
        while r < rows:  # a range with such a step would divide
            total += dy[r * stride + o]
            r += parts
        if parts > 1:
            slots[thread()] = total
            meet()
            for other in range(pieces, parts * pieces, pieces):
                total += slots[mine + other]
            meet()
        if part == 0:
            dbias[mine] = total
