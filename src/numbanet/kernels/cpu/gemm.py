"""Matrix products, cut into register tiles. B rows (r), I inputs (i), O columns (o); panels as in numbanet.kernels.

multiply    y[r, o] = max(bias[o] + sum_i x[r, i] panels[i, o], least)
correlate   g[i, o] = sum_r x[r, i] dy[r, o], g in panels

A tile is 16 rows of a panel where that is one vector, 8 rows where it is two (6 with 16 registers); its remainders are
4 or 2 rows, and one. Each sum runs over the whole depth in order, whatever the tile: results do not depend on how rows
and columns were cut. Columns are the outer loop: a panel then stays in a near cache while all rows pass by. Measured:
98% of the peak rate of a core. A last panel of few columns, as at the end of most networks, has tiles of its own, which
leave out what lies beyond.
"""

from __future__ import annotations

from numbanet.kernels import PANEL
from numbanet.kernels.cpu.memory import within
from numbanet.kernels.cpu.plain import FEW
from numbanet.kernels.cpu.simd import at, lanes
from numbanet.kernels.cpu.tile import (
    few_load,
    few_zero,
    panel_load,
    panel_rows,
    panel_width,
    panel_zero,
    tile_floor,
    tile_load,
    tile_product,
    tile_store,
    tile_zero,
    transpose,
)
from numbanet.kernels.jit import BITS, inlined, piece

# Accumulators of a tile: 16 registers hold 12 and what is multiplied, 32 registers 16 or more.
SUMS = (16, 4, 1) if BITS == 512 else (12, 4, 1)
ROW = 4  # vectors of the tile of a single row
DEEP = 128  # rows of a batch that a gradient takes at a time: each lies in a page of its own
HIGH = 8  # rows at a time of a panel of few columns
ACROSS = 4  # columns at a time then
NARROW = 12  # columns of a panel up to which it is not taken as a whole


def _multiply_tiles(sums_at_once):
    @inlined
    def loop(x, panels, bias, y, first, last, columns, depth, least):
        rows, width = panel_rows(y, sums_at_once), panel_width(y)
        for o in range(columns[0] * PANEL, columns[1] * PANEL, width):
            panel, start = at(panels, o // PANEL * depth, o % PANEL), at(bias, o // PANEL, o % PANEL)
            for r in range(first, last, rows):
                sums = panel_load(sums_at_once, start, 0) if bias.shape[0] else panel_zero(sums_at_once, start)
                sums = tile_product(sums, at(x, r, 0), x.shape[1], 1, panel, PANEL, PANEL, depth)
                tile_store(tile_floor(sums, least), at(y, r, o), y.shape[1], lanes(y))

    return loop


def _narrow_tiles(zero, fetch):
    @inlined
    def loop(x, panels, bias, y, first, last, o, depth, least):
        panel, start = at(panels, o // PANEL * depth, o % PANEL), at(bias, o // PANEL, o % PANEL)
        for r in range(first, last, HIGH):
            sums = fetch(HIGH, 1, start, 0, PANEL) if bias.shape[0] else zero(HIGH, 1, start)
            sums = tile_product(sums, at(x, r, 0), x.shape[1], 1, panel, PANEL, PANEL, depth)
            tile_store(tile_floor(sums, least), at(y, r, o), y.shape[1], PANEL)

    return loop


_multiply_vector, _multiply_few = _narrow_tiles(tile_zero, tile_load), _narrow_tiles(few_zero, few_load)


_multiply_high, _multiply_middle, _multiply_one = map(_multiply_tiles, SUMS)


@inlined
def _multiply_row(x, panels, bias, y, r, columns, depth, least):
    """A single row: four vectors of columns at a time, for a sum must wait 4 cycles between two of its additions"""
    for o in range(columns[0] * PANEL, columns[1] * PANEL, ROW * lanes(y)):
        panel, start = at(panels, o // PANEL * depth, o % PANEL), at(bias, o // PANEL, o % PANEL)
        sums = tile_load(1, ROW, start, 0, lanes(y)) if bias.shape[0] else tile_zero(1, ROW, start)
        sums = tile_product(sums, at(x, r, 0), x.shape[1], 1, panel, depth * PANEL, PANEL, depth)
        tile_store(tile_floor(sums, least), at(y, r, o), y.shape[1], lanes(y))


@piece
def _multiply_panels(x, panels, bias, y, rows, columns, depth, least):
    """Whole panels: as many rows as possible in high tiles, then in middle ones, the last one by one"""
    first, last = rows
    high, middle = panel_rows(y, SUMS[0]), panel_rows(y, SUMS[1])
    to_middle = first + (last - first) // high * high
    to_one = to_middle + (last - to_middle) // middle * middle
    _multiply_high(x, panels, bias, y, first, to_middle, columns, depth, least)
    _multiply_middle(x, panels, bias, y, to_middle, to_one, columns, depth, least)
    wide = columns[1] - (columns[1] - columns[0]) % max(1, ROW * lanes(y) // PANEL)
    for r in range(to_one, last):
        _multiply_row(x, panels, bias, y, r, (columns[0], wide), depth, least)
    _multiply_one(x, panels, bias, y, to_one, last, (wide, columns[1]), depth, least)


@piece
def multiply(x, panels, bias, y, rows, columns, shape, least):
    """y[r, o] = max(bias[o] + sum_i x[r, i] panels[i, o], least) for rows and panels (from, to); perhaps no bias

    shape: of the panels' matrix.
    """
    (first, last), (depth, width) = rows, shape
    within(x, last, depth)
    within(y, last, columns[1] * PANEL)
    within(panels, columns[1] * depth, PANEL)
    narrow = (columns[1] - 1) * PANEL  # the last panel, if it has few columns
    if width - narrow > (FEW if lanes(y) == PANEL else NARROW):
        _multiply_panels(x, panels, bias, y, rows, columns, depth, least)
        return
    rest = first + (last - first) // HIGH * HIGH
    for o in range(narrow, width, lanes(y)):
        if width - o <= FEW:
            _multiply_few(x, panels, bias, y, first, rest, o, depth, least)
        else:
            _multiply_vector(x, panels, bias, y, first, rest, o, depth, least)
    _multiply_panels(x, panels, bias, y, rows, (columns[0], columns[1] - 1), depth, least)
    _multiply_panels(x, panels, bias, y, (rest, last), (columns[1] - 1, columns[1]), depth, least)


def _correlate_tiles(sums_at_once):
    @inlined
    def loop(x, dy, g, first, last, part, depth):
        (i_first, g_first, o), (r_first, r_last) = part, depth
        rows, width = panel_rows(g, sums_at_once), panel_width(g)
        for i in range(first, last, rows):
            for j in range(0, PANEL, width):
                place, a, b = at(g, g_first + i - i_first, j), at(x, r_first, i), at(dy, r_first, o + j)
                sums = panel_load(sums_at_once, place, PANEL) if r_first else panel_zero(sums_at_once, place)
                sums = tile_product(sums, a, 1, x.shape[1], b, PANEL, dy.shape[1], r_last - r_first)
                tile_store(sums, place, PANEL, lanes(g))

    return loop


_correlate_high, _correlate_middle, _correlate_one = map(_correlate_tiles, SUMS)


def _across_tiles(vectors):
    @inlined
    def loop(x, dy, g, part, columns, depth):
        (i, g_row, o), width = part, lanes(g)
        for j in range(0, columns, ACROSS):
            place, a, b = at(g, g_row + j % width, j // width * width), at(dy, 0, o + j), at(x, 0, i)
            sums = tile_product(tile_zero(ACROSS, vectors, place), a, 1, dy.shape[1], b, PANEL, x.shape[1], depth)
            tile_store(sums, place, PANEL, width * PANEL)

    return loop


_across_two, _across_one = _across_tiles(2), _across_tiles(1)


@inlined
def _correlate_across(x, dy, g, begin, end, part, columns, depth):
    """A panel of few columns: tiles of columns x inputs, transposed in squares where they lie; returns the end

    With 10 columns 12 multiply-adds instead of 16. A last part of the inputs that fills no vector is left over.
    """
    first, g_first, o = part
    width = lanes(g)
    two = begin + (end - begin) // (2 * width) * 2 * width
    one = two + (end - two) // width * width
    for i in range(begin, two, 2 * width):
        _across_two(x, dy, g, (i, g_first + i - first, o), columns, depth)
    for i in range(two, one, width):
        _across_one(x, dy, g, (i, g_first + i - first, o), columns, depth)
    for row in range(g_first + begin - first, g_first + one - first, width):
        for j in range(0, PANEL, width):
            square = at(g, row, j)
            transpose(square, PANEL, columns - j, square, PANEL, width)
    return one


@inlined
def correlate(x, dy, g, first, last, shape, depth):
    """g[i, o] = sum_r x[r, i] dy[r, o] over `depth` rows, for rows of panels from first to last; g's row 0 is first"""
    inputs, units = shape
    within(x, depth, inputs)
    within(g, last - first, PANEL)
    high, middle, done = panel_rows(g, SUMS[0]), panel_rows(g, SUMS[1]), first - first
    while first + done < last:
        panel, begin = (first + done) // inputs, (first + done) % inputs
        end = min(inputs, begin + last - first - done)
        within(dy, depth, (panel + 1) * PANEL)
        columns, across = min(PANEL, units - panel * PANEL), begin
        if columns <= NARROW and lanes(g) >= ACROSS:
            across = _correlate_across(x, dy, g, begin, end, (begin, done, panel * PANEL), columns, depth)
        to_middle = across + (end - across) // high * high
        to_one = to_middle + (end - to_middle) // middle * middle
        for r in range(0, max(depth, 1), DEEP):
            part, rows = (begin, done, panel * PANEL), (r, min(depth, r + DEEP))
            _correlate_high(x, dy, g, across, to_middle, part, rows)
            _correlate_middle(x, dy, g, to_middle, to_one, part, rows)
            _correlate_one(x, dy, g, to_one, end, part, rows)
        done += end - begin
