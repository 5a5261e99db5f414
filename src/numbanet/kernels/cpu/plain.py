"""Vectors and tiles in plain Python: what each name of simd.py and tile.py means, and what runs without a compiler.

A vector is a NumPy array of as many elements as the machine's vectors have, a tile an array (rows, vectors, lanes), a
pointer a flat array that begins there.
"""

from __future__ import annotations

import numpy as np

from numbanet.kernels import PANEL
from numbanet.kernels.jit import BITS

FEW = 4  # lanes of a short vector


def lanes_of(real):
    """Elements of a vector of a dtype: "float32" or "float64", NumPy's or Numba's."""
    return BITS // (64 if str(real) == "float64" else 32)


def panel_shape(sums, lanes):
    """(rows, vectors) of a tile of so many accumulators on a panel: one vector wide if that is the panel, else two."""
    vectors = 1 if lanes == PANEL else 2
    return max(1, sums // vectors), vectors


def lanes(array):
    """Elements of a vector of the array's dtype."""
    return lanes_of(array.dtype)


def load(array, row, column):
    """array[row, column : column + lanes]"""
    return array[row, column : column + lanes(array)].copy()


def load_few(array, row, column):
    """array[row, column : column + FEW], at most a vector: where no more are wanted, sums over lanes cost half"""
    return load(array, row, column)[:FEW]


def store(array, row, column, value):
    """array[row, column : column + lanes] = value"""
    array[row, column : column + len(value)] = value


def at(array, row, column):
    """What begins at array[row, column], flat: a pointer."""
    return array.reshape(-1)[row * array.shape[1] + column :]


def splat(array, value):
    """A vector of the array's dtype with one value in all lanes."""
    return np.full(lanes(array), value, array.dtype)


def first_lanes(value, count, other):
    """value in the first `count` lanes, `other` in the rest"""
    return np.where(np.arange(len(value)) < count, value, value.dtype.type(other))


def one_lane(array, lane):
    """A vector of the array's dtype, 1 in one lane and 0 in the others; all 0 if there is no such lane."""
    return (np.arange(lanes(array)) == lane).astype(array.dtype)


def fma(a, b, c):
    """a b + c, rounded once where the machine can."""
    return a * b + c


def nearest(x):
    """x rounded to a whole number, halves to even."""
    return np.rint(x)


def copysign(size, sign):
    """size with the sign of `sign`"""
    return np.copysign(size, sign)


def scale(x, n):
    """x 2**n for whole n such that 2**n is a normal number"""
    return np.ldexp(x, n.astype(np.int32))


def exponent(x):
    """e of x = m 2**e, m in [sqrt(1/2), sqrt(2))"""
    m, e = np.frexp(x)
    return (e - (m < np.sqrt(0.5))).astype(x.dtype)


def mantissa(x):
    """m of x = m 2**e, m in [sqrt(1/2), sqrt(2))"""
    return np.ldexp(x, -exponent(x).astype(np.int32))


def sum_of(value):
    """The sum of all lanes."""
    return value.sum(dtype=value.dtype)


def max_of(value):
    """The largest of all lanes."""
    return value.max()


def same_word(array, number):
    """As many words as a vector of the array's dtype has lanes, all of one number."""
    return np.full(lanes(array), number, np.uint64)


def counting(array, first):
    """As many words: first, first + 1, ..."""
    return np.uint64(first) + np.arange(lanes(array), dtype=np.uint64)


def below(words, limit):
    """Which of the words lie below a limit?"""
    return words < limit


def as_real(array, words):
    """The words as a vector of the array's dtype."""
    return words.astype(array.dtype)


def interleave(a, b, c, d):
    """Four vectors with the elements a[0], b[0], c[0], d[0], a[1], ..."""
    return tuple(np.stack([a, b, c, d], axis=1).reshape(4, -1))


def tile_zero(rows, vectors, pointer):
    """A tile of zeros, of the pointer's dtype"""
    return np.zeros((rows, vectors, lanes_of(pointer.dtype)), pointer.dtype)


def _filled(tile, pointer, row_step, vector_step):
    for (r, v, k), _ in np.ndenumerate(tile):
        tile[r, v, k] = pointer[r * row_step + v * vector_step + k]
    return tile


def tile_load(rows, vectors, pointer, row_step, vector_step):
    """The tile at a pointer"""
    return _filled(tile_zero(rows, vectors, pointer), pointer, row_step, vector_step)


def few_zero(rows, vectors, pointer):
    """A tile of zeros in short vectors"""
    return tile_zero(rows, vectors, pointer)[:, :, :FEW]


def few_load(rows, vectors, pointer, row_step, vector_step):
    """The tile of short vectors at a pointer"""
    return _filled(few_zero(rows, vectors, pointer), pointer, row_step, vector_step)


def tile_store(tile, pointer, row_step, vector_step):
    """Write a tile to a pointer"""
    for (r, v, k), value in np.ndenumerate(tile):
        pointer[r * row_step + v * vector_step + k] = value


def tile_floor(tile, least):
    """The tile, nowhere less than `least`; NaN stays"""
    return np.where(tile < least, tile.dtype.type(least), tile)


def tile_product(tile, a, a_row, a_depth, b, b_panel, b_depth, depth):
    """tile[r, v] + sum_k a[r a_row + k a_depth] * (vector v of the row of b at k b_depth), panels b_panel apart"""
    rows, vectors, lanes = tile.shape
    deep = np.arange(depth)[:, None]
    left = a[deep * a_depth + np.arange(rows) * a_row]
    panel, column = np.divmod(np.arange(vectors) * lanes, PANEL)
    right = b[(deep * b_depth + panel * b_panel + column)[:, :, None] + np.arange(lanes)]
    return tile + np.einsum("kr,kvl->rvl", left, right)


def transpose(source, source_step, rows, target, target_step, columns):
    """target[c, r] = source[r, c], also in place, for a square of lanes x lanes of which `rows` and `columns` exist"""
    lanes, source = lanes_of(source.dtype), source.copy()
    for c in range(min(columns, lanes)):
        for r in range(lanes):
            target[c * target_step + r] = source[r * source_step + c] if r < rows else 0


def panel_rows(array, sums):
    """Rows of a tile of so many accumulators on a panel of the array's dtype."""
    return panel_shape(sums, lanes(array))[0]


def panel_width(array):
    """Columns of such a tile."""
    return panel_shape(1, lanes(array))[1] * lanes(array)


def panel_zero(sums, pointer):
    """A tile of zeros on a panel."""
    return tile_zero(*panel_shape(sums, lanes_of(pointer.dtype)), pointer)


def panel_load(sums, pointer, row_step):
    """The tile on a panel at a pointer."""
    lanes = lanes_of(pointer.dtype)
    return tile_load(*panel_shape(sums, lanes), pointer, row_step, lanes)
