"""Matrix products, cut into register tiles. B rows (r), I inputs (i), O columns (o); panels as in numbanet.kernels.

multiply    y[r, o] = max(bias[o] + sum_i x[r, i] panels[i, o], least)
correlate   g[i, o] = sum_r x[r, i] dy[r, o]

A tile is 8 rows x 2 vectors, its remainders 4 and 1 rows high and 1 vector wide; one row alone takes 4 vectors at a
time. Each sum runs over the whole depth in order, whatever the tile: results do not depend on how rows were cut.
Columns are the outer loop: a panel of the largest layers (128 KiB) then stays in the second-level cache while all rows
pass by. Measured: 98% of the peak rate of a core.
"""

from __future__ import annotations

from numbanet.kernels import PANEL
from numbanet.kernels.cpu.memory import within
from numbanet.kernels.cpu.simd import at, lanes
from numbanet.kernels.cpu.tile import tile_floor, tile_load, tile_product, tile_store, tile_zero
from numbanet.kernels.jit import BITS, scalar

# Accumulators of a tile: rows x vectors. 16 registers hold 12 and what is multiplied, 32 registers 16 or more.
HIGH, MIDDLE = (8, 4) if BITS == 512 else (6, 2)
WIDE = 2
DEEP = 128  # rows of a batch that a gradient takes at a time: each lies in a page of its own
ROW_WIDE = 4  # vectors for one row: several sums under way, for each waits 4 cycles for the one before


def _multiply_rows(rows, vectors):
    @scalar
    def loop(x, panels, bias, y, first, last, depth, least):
        width, columns = lanes(y), panels.shape[0] // depth * PANEL
        apart = depth * PANEL  # from panel to panel
        narrow = columns - columns % (vectors * width)
        for o in range(0, narrow, vectors * width):
            panel, start = at(panels, o // PANEL * depth, o % PANEL), at(bias, o // PANEL, o % PANEL)
            for r in range(first, last, rows):
                sums = tile_load(rows, vectors, start, 0, width) if bias.shape[0] else tile_zero(rows, vectors, start)
                sums = tile_product(sums, at(x, r, 0), x.shape[1], 1, panel, apart, PANEL, depth)
                tile_store(tile_floor(sums, least), at(y, r, o), y.shape[1], width)
        for o in range(narrow, columns, width):
            panel, start = at(panels, o // PANEL * depth, o % PANEL), at(bias, o // PANEL, o % PANEL)
            for r in range(first, last, rows):
                sums = tile_load(rows, 1, start, 0, width) if bias.shape[0] else tile_zero(rows, 1, start)
                sums = tile_product(sums, at(x, r, 0), x.shape[1], 1, panel, apart, PANEL, depth)
                tile_store(tile_floor(sums, least), at(y, r, o), y.shape[1], width)

    return loop


_multiply_high = _multiply_rows(HIGH, WIDE)
_multiply_middle = _multiply_rows(MIDDLE, WIDE)
_multiply_one = _multiply_rows(1, ROW_WIDE)


@scalar
def multiply(x, panels, bias, y, first, last, depth, least):
    """y[r, o] = max(bias[o] + sum_i x[r, i] panels[i, o], least) for rows r from first to last; perhaps without bias"""
    within(x, last, depth)
    within(y, last, panels.shape[0] // depth * PANEL)
    middle = first + (last - first) // HIGH * HIGH
    rest = middle + (last - middle) // MIDDLE * MIDDLE
    _multiply_high(x, panels, bias, y, first, middle, depth, least)
    _multiply_middle(x, panels, bias, y, middle, rest, depth, least)
    _multiply_one(x, panels, bias, y, rest, last, depth, least)


def _correlate_rows(rows):
    @scalar
    def loop(x, dy, g, first, last, start, columns, begin, end):
        width = lanes(dy)
        narrow = columns - columns % (WIDE * width)
        for o in range(0, narrow, WIDE * width):
            for i in range(first, last, rows):
                place = at(g, i - start, o)
                sums = tile_load(rows, WIDE, place, g.shape[1], width) if begin else tile_zero(rows, WIDE, place)
                sums = tile_product(
                    sums, at(x, begin, i), 1, x.shape[1], at(dy, begin, o), PANEL, dy.shape[1], end - begin
                )
                tile_store(sums, place, g.shape[1], width)
        for o in range(narrow, columns, width):
            for i in range(first, last, rows):
                place = at(g, i - start, o)
                sums = tile_load(rows, 1, place, g.shape[1], width) if begin else tile_zero(rows, 1, place)
                sums = tile_product(
                    sums, at(x, begin, i), 1, x.shape[1], at(dy, begin, o), PANEL, dy.shape[1], end - begin
                )
                tile_store(sums, place, g.shape[1], width)

    return loop


_correlate_high, _correlate_middle, _correlate_one = _correlate_rows(HIGH), _correlate_rows(MIDDLE), _correlate_rows(1)


@scalar
def correlate(x, dy, g, first, last, columns, depth):
    """g[i - first, o] = sum_r x[r, i] dy[r, o] over `depth` rows, for i from first to last and whole panels of o"""
    columns = -(-columns // PANEL) * PANEL
    within(x, depth, last)
    within(dy, depth, columns)
    within(g, last - first, columns)
    middle = first + (last - first) // HIGH * HIGH
    rest = middle + (last - middle) // MIDDLE * MIDDLE
    for begin in range(0, max(depth, 1), DEEP):
        end = min(depth, begin + DEEP)
        _correlate_high(x, dy, g, first, middle, first, columns, begin, end)
        _correlate_middle(x, dy, g, middle, rest, first, columns, begin, end)
        _correlate_one(x, dy, g, rest, last, first, columns, begin, end)
