"""Noise while training. Elements (r, j) of a batch of rows.

    dropout         y = x / (1 - rate) where a random word is at least 2**32 rate, else 0;  dx likewise of dy
    gaussian_noise  y = x + stddev times a normal number;  its dx is a copy of dy

Random words come of a counter, so nothing is stored: `dropout_backward` draws the mask of `dropout_forward` again. The
counter is (four columns, row of the batch, steps done, stream), the key the model's seed: an element's noise is the
same whoever computes it, on every device and after a resume; each op that draws has a stream of its own.
"""

from __future__ import annotations

import numpy as np

from numbanet.kernels import UPDATE
from numbanet.kernels.cpu.memory import matrix, real
from numbanet.kernels.cpu.simd import lanes, load, splat, store
from numbanet.kernels.cpu.words import as_real, below, counting, interleave, same_word
from numbanet.kernels.jit import kernel, piece
from numbanet.kernels.random import HALF_WORDS, ROOT_HALF, TURN, WORD, normals, philox, unit
from numbanet.kernels.scalar import ZERO, where


@piece
def _words(x, op, step, r, j):
    """Random words for row r, columns from j on: four vectors, with those of columns j, j + 4, ... in the first"""
    seed, update, stream = np.uint64(op[3]), np.uint64(step[UPDATE]) & WORD, np.uint64(op[4])
    counter = counting(x, np.uint64(j // 4)), same_word(x, np.uint64(r)), same_word(x, update), same_word(x, stream)
    return philox(counter, (seed & WORD, seed >> HALF_WORDS))


@piece
def _times(x, y, r, j, width, factor):
    """y = factor x for a vector of columns, if there are such; 0 where the factor is 0, whatever x is"""
    if j < width:
        store(y, r, j, where(factor > ZERO, factor * load(x, r, j), ZERO))


@piece
def _drop(x, y, op, step, first, last):
    width, rate = op[1], real(op, 2)
    limit, none, share = np.uint64(rate * 2.0**32), splat(x, ZERO), splat(x, 1.0 / (1.0 - rate))
    for r in range(first, last):
        for j in range(0, width, 4 * lanes(x)):
            a, b, c, d = _words(x, op, step, r, j)
            a, b = where(below(a, limit), none, share), where(below(b, limit), none, share)
            c, d = where(below(c, limit), none, share), where(below(d, limit), none, share)
            a, b, c, d = interleave(a, b, c, d)
            _times(x, y, r, j, width, a)
            _times(x, y, r, j + lanes(x), width, b)
            _times(x, y, r, j + 2 * lanes(x), width, c)
            _times(x, y, r, j + 3 * lanes(x), width, d)


@kernel
def dropout_forward(op, theta, work, step, first, last):
    """y[r, j] = x[r, j] / (1 - rate) where the element's random word is at least 2**32 rate, else 0"""
    _drop(matrix(work, op, 0), matrix(work, op, 1), op, step, first, last)


@kernel
def dropout_backward(op, theta, work, step, first, last):
    """dx[r, j] = dy[r, j] / (1 - rate) where the element's random word is at least 2**32 rate, else 0"""
    _drop(matrix(work, op, 0), matrix(work, op, 1), op, step, first, last)


@piece
def _add(x, y, r, j, width, noise):
    """y = x + noise for a vector of columns, if there are such"""
    if j < width:
        store(y, r, j, load(x, r, j) + noise)


@kernel
def gaussian_noise_forward(op, theta, work, step, first, last):
    """y[r, j] = x[r, j] + stddev z, z a normal number; of four words of a counter come those of four columns"""
    width, x, y = op[1], matrix(work, op, 0), matrix(work, op, 1)
    stddev = splat(x, real(op, 2))
    for r in range(first, last):
        for j in range(0, width, 4 * lanes(x)):
            words = _words(x, op, step, r, j)
            u, v = unit(as_real(x, words[0])), unit(as_real(x, words[1]))
            a, b = normals(u, v, TURN, ROOT_HALF)
            u, v = unit(as_real(x, words[2])), unit(as_real(x, words[3]))
            c, d = normals(u, v, TURN, ROOT_HALF)
            a, b, c, d = interleave(a, b, c, d)
            _add(x, y, r, j, width, stddev * a)
            _add(x, y, r, j + lanes(x), width, stddev * b)
            _add(x, y, r, j + 2 * lanes(x), width, stddev * c)
            _add(x, y, r, j + 3 * lanes(x), width, stddev * d)
