"""The dense layer, y = x @ kernel + bias.

B rows of the batch (r), I inputs (i), O units (o)

dense_forward           y[r, o]       = bias[o] + sum_i x[r, i] kernel[i, o]
dense_backward_input    dx[r, i]      = sum_o dy[r, o] kernel[i, o]
dense_backward_kernel   dkernel[i, o] = sum_r x[r, i] dy[r, o]
dense_backward_bias     dbias[o]      = sum_r dy[r, o]
"""

from __future__ import annotations

from numbanet.kernels import ROWS
from numbanet.kernels.cpu.memory import matrix
from numbanet.kernels.jit import kernel
from numbanet.kernels.scalar import ZERO


@kernel
def dense_forward(op, theta, work, step, first, last):
    """y[r, o] = bias[o] + sum_i x[r, i] kernel[i, o]; a layer without bias has one of no rows"""
    inputs, units = op[1], op[2]
    x, kernel, bias, y = matrix(work, op, 0), matrix(theta, op, 1), matrix(theta, op, 2), matrix(work, op, 3)
    for r in range(first, last):
        for o in range(units):
            y[r, o] = bias[0, o] if bias.shape[0] > 0 else ZERO
        for i in range(inputs):
            value = x[r, i]
            for o in range(units):
                y[r, o] += value * kernel[i, o]


@kernel
def dense_backward_input(op, theta, work, step, first, last):
    """dx[r, i] = sum_o dy[r, o] kernel[i, o]"""
    inputs, units = op[1], op[2]
    dy, kernel, dx = matrix(work, op, 0), matrix(theta, op, 1), matrix(work, op, 2)
    for r in range(first, last):
        for i in range(inputs):
            total = ZERO
            for o in range(units):
                total += dy[r, o] * kernel[i, o]
            dx[r, i] = total


@kernel
def dense_backward_kernel(op, theta, work, step, first, last):
    """dkernel[i, o] = sum_r x[r, i] dy[r, o], for rows i of the kernel from first to last"""
    units = op[2]
    x, dy, dkernel = matrix(work, op, 0), matrix(work, op, 1), matrix(work, op, 2)
    for i in range(first, last):
        for o in range(units):
            dkernel[i, o] = ZERO
        for r in range(step[ROWS]):
            value = x[r, i]
            for o in range(units):
                dkernel[i, o] += value * dy[r, o]


@kernel
def dense_backward_bias(op, theta, work, step, first, last):
    """dbias[o] = sum_r dy[r, o]"""
    units = op[1]
    dy, dbias = matrix(work, op, 0), matrix(work, op, 1)
    for o in range(units):
        dbias[0, o] = ZERO
    for r in range(step[ROWS]):
        for o in range(units):
            dbias[0, o] += dy[r, o]
