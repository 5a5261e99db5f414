"""The batch: rows of the data set into the workspace, and results out of it.

Data may be of any dtype; each has a kernel of its own, compiled when it is wanted. `order` holds the sample that each
row of the epoch shows; `s` below is the position of the batch's first row in it.
"""

from __future__ import annotations

from numbanet.kernels import DTYPES, NOT_FINITE, START
from numbanet.kernels.cpu.memory import matrix, outside_int64, outside_like, place, read, rows_at
from numbanet.kernels.cpu.simd import lanes, load, one_lane, splat, store, sum_of
from numbanet.kernels.jit import Family, kernel
from numbanet.kernels.scalar import ZERO


def _gather(dtype):
    read_vector, read_element = read(dtype)

    @kernel(name=f"gather_rows_{dtype}")
    def gather(op, theta, work, step, first, last):
        """x[r, j] = data[order[s + r], j]; notes in the step record if one of them is not finite"""
        width, start = op[1], step[START]
        order, x = outside_int64(op, 1), matrix(work, op, 2)
        source, row, column = place(op, 0)
        whole = width // lanes(x) * lanes(x) if column == 1 else 0
        strange, stranger = splat(x, ZERO), x.dtype.type(ZERO)  # NaN once an infinity or a NaN was multiplied by 0
        for r in range(first, last):
            begin = order[start + r, 0] * row
            for j in range(0, whole, lanes(x)):
                value = read_vector(source, begin + j, x)
                strange += value * ZERO
                store(x, r, j, value)
            for j in range(whole, width):
                x[r, j] = read_element(source, begin + j * column)
                stranger += x[r, j] * ZERO
        if sum_of(strange) + stranger != ZERO:  # true for NaN
            step[NOT_FINITE] = 1

    return gather


gather_rows = Family("gather_rows", {dtype: _gather(dtype) for dtype in DTYPES})


@kernel
def check_rows(op, theta, work, step, first, last):
    """Notes in the step record if one of data[s + r, j] is not finite, for data that a product reads where they lie"""
    width, data = op[1], rows_at(work, op, 0, step)
    pairs, whole = width // (2 * lanes(data)) * 2 * lanes(data), width // lanes(data) * lanes(data)
    even, odd, rest = splat(data, ZERO), splat(data, ZERO), data.dtype.type(ZERO)
    for r in range(first, last):
        for j in range(0, pairs, 2 * lanes(data)):
            even += load(data, r, j) * ZERO
            odd += load(data, r, j + lanes(data)) * ZERO
        for j in range(pairs, whole, lanes(data)):
            even += load(data, r, j) * ZERO
        for j in range(whole, width):
            rest += data[r, j] * ZERO
    if sum_of(even + odd) + rest != ZERO:  # true for NaN
        step[NOT_FINITE] = 1


@kernel
def gather_classes(op, theta, work, step, first, last):
    """x[r, j] = 1 if data[order[s + r]] = j else 0: integer labels as one-hot rows"""
    width, start = op[1], step[START]
    data, order, x = outside_int64(op, 0), outside_int64(op, 1), matrix(work, op, 2)
    for r in range(first, last):
        label = data[order[start + r, 0], 0]
        for j in range(0, width, lanes(x)):
            store(x, r, j, one_lane(x, label - j))


@kernel
def scatter_rows(op, theta, work, step, first, last):
    """data[s + r, j] = x[r, j]"""
    width, start = op[1], step[START]
    x, data = matrix(work, op, 0), outside_like(work, op, 1)
    whole = width // lanes(x) * lanes(x)
    for r in range(first, last):
        for j in range(0, whole, lanes(x)):
            store(data, start + r, j, load(x, r, j))
        for j in range(whole, width):
            data[start + r, j] = x[r, j]
