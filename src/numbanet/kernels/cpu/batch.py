"""The batch: rows of the data set into the workspace, and results out of it.

`order` holds the sample that each row of the epoch shows; `s` below is the position of the batch's first row in it.
"""

from __future__ import annotations

from numbanet.kernels import START
from numbanet.kernels.cpu.memory import matrix, outside_int64, outside_like
from numbanet.kernels.jit import kernel
from numbanet.kernels.scalar import ONE, ZERO


@kernel
def gather_rows(op, theta, work, step, first, last):
    """x[r, j] = data[order[s + r], j]"""
    width, start = op[1], step[START]
    data, order, x = outside_like(work, op, 0), outside_int64(op, 1), matrix(work, op, 2)
    for r in range(first, last):
        sample = order[start + r, 0]
        for j in range(width):
            x[r, j] = data[sample, j]


@kernel
def gather_classes(op, theta, work, step, first, last):
    """x[r, j] = 1 if data[order[s + r]] = j else 0: integer labels as one-hot rows"""
    width, start = op[1], step[START]
    data, order, x = outside_int64(op, 0), outside_int64(op, 1), matrix(work, op, 2)
    for r in range(first, last):
        for j in range(width):
            x[r, j] = ZERO
        x[r, data[order[start + r, 0], 0]] = ONE


@kernel
def scatter_rows(op, theta, work, step, first, last):
    """data[s + r, j] = x[r, j]"""
    width, start = op[1], step[START]
    x, data = matrix(work, op, 0), outside_like(work, op, 1)
    for r in range(first, last):
        for j in range(width):
            data[start + r, j] = x[r, j]
