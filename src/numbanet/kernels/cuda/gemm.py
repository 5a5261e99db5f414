"""Matrix products: what the threads of a block compute together. Sums in a fixed order.

multiply          y = bias + x @ kernel   for some rows and panels
multiply_square   the same for as many rows and columns as its threads can hold
correlate         dkernel = x.T @ dy      for some rows of a kernel's panels

A thread computes tiles of 4 x 4, reading both factors through the first-level cache: 32 numbers for 64 multiply-adds.
Threads without a tile of their own take part in another's: they sum a part of the depth, and the parts meet in shared
memory. In a square, which only large products fill, a thread has four tiles, and the factors go through shared memory.
"""

from __future__ import annotations

from numbanet.kernels import PANEL
from numbanet.kernels.cuda.block import meet, shared, split, thread
from numbanet.kernels.cuda.launch import ACROSS, THREADS
from numbanet.kernels.cuda.memory import cast, quotient, remainder, shift
from numbanet.kernels.cuda.target import piece
from numbanet.kernels.cuda.tile import FOUR, at_least, gathered, load4, outer, spread, store_rows, tile_zeros
from numbanet.kernels.scalar import ONE

SIDE, HALF = 2 * FOUR * ACROSS, FOUR * ACROSS  # of a square
DEEP = 2 * FOUR * THREADS // SIDE  # columns of x and rows of the kernel in a slab: 2 x 4 numbers of each for a thread
PITCH = SIDE + FOUR  # from one row in shared memory to the next: rows begin in different banks
small_tile, four_zeros = tile_zeros(FOUR * FOUR), tile_zeros(FOUR)
QUARTERS = PANEL // FOUR  # tiles across a panel


@piece
def _part(depth, part, parts):
    """First and last of a thread's part of the depth, in whole steps of four"""
    size = quotient(depth + FOUR * parts - 1, FOUR * parts) * FOUR
    return min(depth, part * size), min(depth, (part + 1) * size)


@piece
def _joined(tile, part, parts, pieces, slots):
    """The sum of the parts of a tile, for the threads of part 0; all threads of the block must call"""
    if parts > 1:
        spread(tile, slots, thread(), THREADS)
        meet()
        if part == 0:
            for other in range(thread() + pieces, parts * pieces, pieces):
                tile = gathered(tile, slots, other, THREADS)
        meet()
    return tile


@piece
def _rows_times_panel(tile, x, rows, kernel, first, last):
    """tile + x[four rows] @ kernel[first to last, four columns]; rows: where each begins, kernel: its column 0"""
    r0, r1, r2, r3 = rows
    whole = last - remainder(last - first, FOUR)
    for k in range(first, whole, FOUR):
        a, b, c, d = load4(x, r0 + k), load4(x, r1 + k), load4(x, r2 + k), load4(x, r3 + k)
        w0, w1 = load4(kernel, k * PANEL), load4(kernel, (k + 1) * PANEL)
        w2, w3 = load4(kernel, (k + 2) * PANEL), load4(kernel, (k + 3) * PANEL)
        tile = outer(tile, (a[0], b[0], c[0], d[0]), w0)
        tile = outer(tile, (a[1], b[1], c[1], d[1]), w1)
        tile = outer(tile, (a[2], b[2], c[2], d[2]), w2)
        tile = outer(tile, (a[3], b[3], c[3], d[3]), w3)
    for k in range(whole, last):
        tile = outer(tile, (x[r0 + k], x[r1 + k], x[r2 + k], x[r3 + k]), load4(kernel, k * PANEL))
    return tile


@piece
def multiply(x, kernel, bias, y, rows, panels, sizes, least):
    """y[r, o] = bias[o] + sum_i x[r, i] kernel[i, o], not below `least`, for some rows and panels of columns

    Operands are (pointer, row stride); a bias of stride 0 is none. sizes: inputs, units.
    """
    inputs, across = sizes[0], (panels[1] - panels[0]) * QUARTERS
    pieces = quotient(rows[1] - rows[0] + FOUR - 1, FOUR) * across
    start, part, parts = split(pieces)
    first, last = _part(inputs, part, parts)
    slots = shared(x[0])
    for mine in range(start, pieces, THREADS):
        row = rows[0] + quotient(mine, across) * FOUR
        column = panels[0] * PANEL + remainder(mine, across) * FOUR
        end = rows[1] - 1  # rows beyond it are computed as this one again, and not written
        places = row * x[1], min(row + 1, end) * x[1], min(row + 2, end) * x[1], min(row + 3, end) * x[1]
        panel = shift(kernel[0], quotient(column, PANEL) * inputs * PANEL + remainder(column, PANEL))
        tile = _rows_times_panel(small_tile(x[0]), x[0], places, panel, first, last)
        tile = _joined(tile, part, parts, pieces, slots)
        _finish(tile, bias, y, row, column, rows[1] if part == 0 else row, least)


@piece
def _finish(tile, bias, y, row, column, end, least):
    """Write a tile plus the bias, not below `least`, up to the row before `end`"""
    if bias[1] > 0:
        one = cast(y[0], ONE)
        tile = outer(tile, (one, one, one, one), load4(bias[0], column))
    store_rows(at_least(tile, least), y[0], row * y[1] + column, y[1], end - row)


@piece
def multiply_square(x, kernel, bias, y, rows, panels, sizes, least):
    """`multiply` for at most SIDE rows and SIDE columns: each number is read from memory once for all threads

    Each thread brings four times four numbers of the next slab while all compute with this one: waiting for memory
    would take about a fifth of the time.
    """
    inputs, left = sizes[0], shared(x[0])
    right = shift(left, DEEP * PITCH)
    down, across = quotient(thread(), ACROSS) * FOUR, remainder(thread(), ACROSS) * FOUR
    a, b, c, d = small_tile(x[0]), small_tile(x[0]), small_tile(x[0]), small_tile(x[0])
    p, q = thread(), thread() + THREADS
    x0, x1 = _four_of_rows(x, rows, 0, p), _four_of_rows(x, rows, 0, q)
    w0, w1 = _four_of_panels(kernel[0], panels, 0, inputs, p), _four_of_panels(kernel[0], panels, 0, inputs, q)
    for begin in range(0, inputs, DEEP):
        _lay_rows(x0, left, p)
        _lay_rows(x1, left, q)
        _lay_panels(w0, right, p)
        _lay_panels(w1, right, q)
        meet()
        after = begin + DEEP if begin + DEEP < inputs else begin
        x0, x1 = _four_of_rows(x, rows, after, p), _four_of_rows(x, rows, after, q)
        w0 = _four_of_panels(kernel[0], panels, after, inputs, p)
        w1 = _four_of_panels(kernel[0], panels, after, inputs, q)
        for k in range(DEEP):
            upper, lower = load4(left, k * PITCH + down), load4(left, k * PITCH + HALF + down)
            west, east = load4(right, k * PITCH + across), load4(right, k * PITCH + HALF + across)
            a, b = outer(a, upper, west), outer(b, upper, east)
            c, d = outer(c, lower, west), outer(d, lower, east)
        meet()
    row, column, end = rows[0] + down, panels[0] * PANEL + across, panels[1] * PANEL
    if column < end:
        _finish(a, bias, y, row, column, rows[1], least)
        _finish(c, bias, y, row + HALF, column, rows[1], least)
    if column + HALF < end:
        _finish(b, bias, y, row, column + HALF, rows[1], least)
        _finish(d, bias, y, row + HALF, column + HALF, rows[1], least)


@piece
def _four_of_rows(x, rows, begin, q):
    """Four numbers of a slab of x from column `begin` on; of rows beyond the last those of the last"""
    r, k = quotient(q, DEEP // FOUR), remainder(q, DEEP // FOUR) * FOUR
    return load4(x[0], min(rows[0] + r, rows[1] - 1) * x[1] + begin + k)


@piece
def _lay_rows(four, left, q):
    """left[k, r] = x[rows[0] + r, begin + k] for what _four_of_rows brought"""
    r, k = quotient(q, DEEP // FOUR), remainder(q, DEEP // FOUR) * FOUR
    spread(four, left, k * PITCH + r, PITCH)


@piece
def _four_of_panels(kernel, panels, begin, inputs, q):
    """Four numbers of a slab of the kernel from row `begin` on, 0 where there are none"""
    panel, k = panels[0] + quotient(q, DEEP * QUARTERS), remainder(quotient(q, QUARTERS), DEEP)
    if panel < panels[1] and begin + k < inputs:
        return load4(kernel, (panel * inputs + begin + k) * PANEL + remainder(q, QUARTERS) * FOUR)
    return four_zeros(kernel)


@piece
def _lay_panels(four, right, q):
    """right[k, o] = kernel[begin + k, o] from the first panel on for what _four_of_panels brought"""
    panel, k = quotient(q, DEEP * QUARTERS), remainder(quotient(q, QUARTERS), DEEP)
    store_rows(four, right, k * PITCH + panel * PANEL + remainder(q, QUARTERS) * FOUR, 0, 1)


@piece
def correlate(x, dy, dkernel, first, last, sizes, depth):
    """dkernel[i, o] = sum_r x[r, i] dy[r, o] over `depth` rows r, for rows of the kernel's panels from first to last

    They are some rows of one panel, from a multiple of four on, or some whole panels. Row 0 of dkernel is the first.
    """
    inputs = sizes[0]
    panels = max(1, quotient(last - first, inputs))
    rows, top, left = quotient(last - first, panels), remainder(first, inputs), quotient(first, inputs)
    down = quotient(rows + FOUR - 1, FOUR)
    pieces = panels * down * QUARTERS
    start, part, parts = split(pieces)
    begin, end = _part(depth, part, parts)
    slots = shared(x[0])
    for mine in range(start, pieces, THREADS):
        panel, row = quotient(mine, down * QUARTERS), remainder(quotient(mine, QUARTERS), down) * FOUR
        column = remainder(mine, QUARTERS) * FOUR
        tile = _columns_times_columns(small_tile(x[0]), x, top + row, dy, (left + panel) * PANEL + column, begin, end)
        tile = _joined(tile, part, parts, pieces, slots)
        count = rows - row if part == 0 else 0
        store_rows(tile, dkernel[0], (panel * rows + row) * PANEL + column, PANEL, count)


@piece
def _columns_times_columns(tile, x, i, dy, o, first, last):
    """tile + x[first to last, i to i + 4].T @ dy[first to last, o to o + 4]"""
    whole = last - remainder(last - first, FOUR)
    for r in range(first, whole, FOUR):
        a, b = load4(x[0], r * x[1] + i), load4(x[0], (r + 1) * x[1] + i)
        c, d = load4(x[0], (r + 2) * x[1] + i), load4(x[0], (r + 3) * x[1] + i)
        e, f = load4(dy[0], r * dy[1] + o), load4(dy[0], (r + 1) * dy[1] + o)
        g, h = load4(dy[0], (r + 2) * dy[1] + o), load4(dy[0], (r + 3) * dy[1] + o)
        tile = outer(outer(outer(outer(tile, a, e), b, f), c, g), d, h)
    for r in range(whole, last):
        tile = outer(tile, load4(x[0], r * x[1] + i), load4(dy[0], r * dy[1] + o))
    return tile
