"""The batch: rows of the data set into the workspace, and results out of it.

Data may be of any dtype; each has a kernel of its own. `order` holds the sample that each row of the epoch shows; `s`
below is the position of the batch's first row in it.
"""

from __future__ import annotations

from numbanet.kernels import DTYPES, NOT_FINITE, START
from numbanet.kernels.cuda.block import GROUPS, LANES, group, lane
from numbanet.kernels.cuda.memory import cast, matrix, outside_int64, outside_like, place, read
from numbanet.kernels.cuda.target import kernel
from numbanet.kernels.jit import Family
from numbanet.kernels.scalar import ONE, ZERO


def _gather(dtype):
    read_element = read(dtype)

    @kernel(name=f"gather_rows_{dtype}")
    def gather(op, theta, work, step, first, last):
        """x[r, j] = data[order[s + r], j]; notes in the step record if one of them is not finite"""
        width, start = op[1], step[START]
        (order, step_of_order), (x, stride) = outside_int64(op, 1), matrix(work, op, 2)
        source, row, column = place(op, 0)
        strange = cast(x, ZERO)  # NaN once an infinity or a NaN was multiplied by 0
        for r in range(first + group(), last, GROUPS):
            begin = order[(start + r) * step_of_order] * row
            for j in range(lane(), width, LANES):
                value = read_element(source, begin + j * column, x)
                strange += value * ZERO
                x[r * stride + j] = value
        if strange != ZERO:  # true for NaN
            step[NOT_FINITE] = 1

    return gather


gather_rows = Family("gather_rows", {dtype: _gather(dtype) for dtype in DTYPES})


@kernel
def check_rows(op, theta, work, step, first, last):
    """Notes in the step record if one of data[s + r, j] is not finite"""
    width, (data, stride) = op[1], outside_like(work, op, 0)
    strange = cast(data, ZERO)
    for r in range(step[START] + first + group(), step[START] + last, GROUPS):
        for j in range(lane(), width, LANES):
            strange += data[r * stride + j] * ZERO
    if strange != ZERO:  # true for NaN
        step[NOT_FINITE] = 1


@kernel
def gather_classes(op, theta, work, step, first, last):
    """x[r, j] = 1 if data[order[s + r]] = j else 0: integer labels as one-hot rows"""
    width, start = op[1], step[START]
    (data, row), (order, step_of_order), (x, stride) = outside_int64(op, 0), outside_int64(op, 1), matrix(work, op, 2)
    for r in range(first + group(), last, GROUPS):
        label = data[order[(start + r) * step_of_order] * row]
        for j in range(lane(), width, LANES):
            x[r * stride + j] = cast(x, ONE if j == label else ZERO)


@kernel
def scatter_rows(op, theta, work, step, first, last):
    """data[s + r, j] = x[r, j]"""
    width, start = op[1], step[START]
    (x, stride), (data, row) = matrix(work, op, 0), outside_like(work, op, 1)
    for r in range(first + group(), last, GROUPS):
        for j in range(lane(), width, LANES):
            data[(start + r) * row + j] = x[r * stride + j]
