"""Noise while training. Elements (r, j) of a batch of rows, a thread to four columns.

    dropout         y = x / (1 - rate) where a random word is at least 2**32 rate, else 0;  dx likewise of dy
    gaussian_noise  y = x + stddev times a normal number;  its dx is a copy of dy

Random words come of a counter, so nothing is stored: `dropout_backward` draws the mask of `dropout_forward` again. The
counter is (four columns, row of the batch, steps done, stream), the key the model's seed: an element's noise is the
same whoever computes it, on every device and after a resume; each op that draws has a stream of its own.
"""

from __future__ import annotations

import numpy as np

from numbanet.kernels import UPDATE
from numbanet.kernels.cuda.block import thread
from numbanet.kernels.cuda.launch import THREADS
from numbanet.kernels.cuda.memory import cast, matrix, quotient, real, remainder, shift
from numbanet.kernels.cuda.target import kernel, piece
from numbanet.kernels.random import HALF_WORDS, ROOT_HALF, TURN, WORD, normals, philox, unit
from numbanet.kernels.scalar import ZERO


@piece
def _words(op, step, r, j):
    """Random words for row r, columns j to j + 3"""
    seed, update, stream = np.uint64(op[3]), np.uint64(step[UPDATE]) & WORD, np.uint64(op[4])
    counter = np.uint64(quotient(j, 4)), np.uint64(r), update, stream
    return philox(counter, (seed & WORD, seed >> HALF_WORDS))


@piece
def _keep(x, y, j, width, keep, share):
    """y[j] = share x[j], or 0, if there is such a column"""
    if j < width:
        y[j] = share * x[j] if keep else cast(x, ZERO)


@piece
def _drop(op, work, step, first, last):
    width, rate, (x, xs), (y, ys) = op[1], real(op, 2), matrix(work, op, 0), matrix(work, op, 1)
    limit, share, fours = np.uint64(rate * 2.0**32), cast(x, 1.0 / (1.0 - rate)), quotient(width + 3, 4)
    for e in range(thread(), (last - first) * fours, THREADS):
        r, j = first + quotient(e, fours), 4 * remainder(e, fours)
        words, row, out = _words(op, step, r, j), shift(x, r * xs), shift(y, r * ys)
        _keep(row, out, j, width, words[0] >= limit, share)
        _keep(row, out, j + 1, width, words[1] >= limit, share)
        _keep(row, out, j + 2, width, words[2] >= limit, share)
        _keep(row, out, j + 3, width, words[3] >= limit, share)


@kernel
def dropout_forward(op, theta, work, step, first, last):
    """y[r, j] = x[r, j] / (1 - rate) where the element's random word is at least 2**32 rate, else 0"""
    _drop(op, work, step, first, last)


@kernel
def dropout_backward(op, theta, work, step, first, last):
    """dx[r, j] = dy[r, j] / (1 - rate) where the element's random word is at least 2**32 rate, else 0"""
    _drop(op, work, step, first, last)


@piece
def _add(x, y, j, width, stddev, words):
    """y = x + noise for columns j and j + 1, if there are such, from two words"""
    u, v = unit(cast(x, words[0])), unit(cast(x, words[1]))
    a, b = normals(u, v, cast(x, TURN), cast(x, ROOT_HALF))
    if j < width:
        y[j] = x[j] + stddev * a
    if j + 1 < width:
        y[j + 1] = x[j + 1] + stddev * b


@kernel
def gaussian_noise_forward(op, theta, work, step, first, last):
    """y[r, j] = x[r, j] + stddev z, z a normal number; of four words of a counter come those of four columns"""
    width, (x, xs), (y, ys) = op[1], matrix(work, op, 0), matrix(work, op, 1)
    stddev, fours = cast(x, real(op, 2)), quotient(width + 3, 4)
    for e in range(thread(), (last - first) * fours, THREADS):
        r, j = first + quotient(e, fours), 4 * remainder(e, fours)
        words, row, out = _words(op, step, r, j), shift(x, r * xs), shift(y, r * ys)
        _add(row, out, j, width, stddev, (words[0], words[1]))
        _add(row, out, j + 2, width, stddev, (words[2], words[3]))
