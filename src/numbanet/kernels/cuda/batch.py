"""The batch: rows of the data set into the workspace, and results out of it.

Data may be of any dtype; each has a kernel of its own. `order` holds the sample that each row of the epoch shows; `s`
below is the position of the batch's first row in it.
"""

from __future__ import annotations

from numbanet.kernels import DTYPES, NOT_FINITE, START
from numbanet.kernels.cuda.block import thread
from numbanet.kernels.cuda.launch import THREADS
from numbanet.kernels.cuda.memory import (
    cast,
    matrix,
    outside_int64,
    outside_like,
    place,
    quotient,
    read,
    remainder,
)
from numbanet.kernels.cuda.target import kernel, piece
from numbanet.kernels.cuda.tile import FOUR
from numbanet.kernels.jit import Family
from numbanet.kernels.scalar import ONE, ZERO


def _gather(dtype):
    read_element = read(dtype)

    @piece
    def look(op, x, start, first, e):
        """Element e of the rows from `first` on, one after the other"""
        width, (order, apart), (source, row, column) = op[1], outside_int64(op, 1), place(op, 0)
        r, j = first + quotient(e, width), remainder(e, width)
        return read_element(source, order[(start + r) * apart] * row + j * column, x)

    @kernel(name=f"gather_rows_{dtype}")
    def gather(op, theta, work, step, first, last):
        """x[r, j] = data[order[s + r], j]; notes in the step record if one of them is not finite

        Four elements at a time are under way: one after the other, each would wait for memory twice, for some 700 ns.
        """
        width, start, (x, stride) = op[1], step[START], matrix(work, op, 2)
        count, strange = (last - first) * width, cast(x, ZERO)  # NaN once an infinity or a NaN was multiplied by 0
        for e in range(thread(), count, FOUR * THREADS):
            one, two, three, four = e, e + THREADS, e + 2 * THREADS, e + 3 * THREADS
            a, b = look(op, x, start, first, one), look(op, x, start, first, min(two, count - 1))
            c, d = look(op, x, start, first, min(three, count - 1)), look(op, x, start, first, min(four, count - 1))
            strange += (a * ZERO + b * ZERO) + (c * ZERO + d * ZERO)
            x[(first + quotient(one, width)) * stride + remainder(one, width)] = a
            if two < count:
                x[(first + quotient(two, width)) * stride + remainder(two, width)] = b
            if three < count:
                x[(first + quotient(three, width)) * stride + remainder(three, width)] = c
            if four < count:
                x[(first + quotient(four, width)) * stride + remainder(four, width)] = d
        if strange != ZERO:  # true for NaN
            step[NOT_FINITE] = 1

    return gather


gather_rows = Family("gather_rows", {dtype: _gather(dtype) for dtype in DTYPES})


@kernel
def check_rows(op, theta, work, step, first, last):
    """Notes in the step record if one of data[s + r, j] is not finite"""
    width, (data, stride) = op[1], outside_like(work, op, 0)
    strange = cast(data, ZERO)
    for e in range(thread(), (last - first) * width, THREADS):
        strange += data[(step[START] + first + quotient(e, width)) * stride + remainder(e, width)] * ZERO
    if strange != ZERO:  # true for NaN
        step[NOT_FINITE] = 1


@kernel
def gather_classes(op, theta, work, step, first, last):
    """x[r, j] = 1 if data[order[s + r]] = j else 0: integer labels as one-hot rows"""
    width, start = op[1], step[START]
    (data, row), (order, apart), (x, stride) = outside_int64(op, 0), outside_int64(op, 1), matrix(work, op, 2)
    for e in range(thread(), (last - first) * width, THREADS):
        r, j = first + quotient(e, width), remainder(e, width)
        label = data[order[(start + r) * apart] * row]
        x[r * stride + j] = cast(x, ONE if j == label else ZERO)


@kernel
def scatter_rows(op, theta, work, step, first, last):
    """data[s + r, j] = x[r, j]"""
    width, start = op[1], step[START]
    (x, stride), (data, row) = matrix(work, op, 0), outside_like(work, op, 1)
    for e in range(thread(), (last - first) * width, THREADS):
        r, j = first + quotient(e, width), remainder(e, width)
        data[(start + r) * row + j] = x[r * stride + j]
