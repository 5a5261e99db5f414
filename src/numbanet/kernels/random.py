"""Random numbers, written once for all devices: the same from a counter and a key, whoever draws them.

Like scalar.py, on numbers and on what a device has in their place.
"""

from __future__ import annotations

import math

import numpy as np

from numbanet.kernels.jit import scalar
from numbanet.kernels.scalar import HALF, TWO, cos_eighth, log, sin_eighth, sqrt, where

MULTIPLIERS = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)
WEYL = np.uint64(0x9E3779B9), np.uint64(0xBB67AE85)
WORD, HALF_WORDS = np.uint64(0xFFFFFFFF), np.uint64(32)


@scalar
def philox(counter, key):
    """Philox4x32-10 (Salmon et al., 2011): four random words of 32 bits, from a counter of four and a key of two.

    All are uint64 numbers below 2**32. The same counter and key give the same words on every device and thread.
    """
    a, b, c, d = counter
    first, second = key
    for _ in range(10):
        left, right = MULTIPLIERS[0] * a, MULTIPLIERS[1] * c
        a, b = (right >> HALF_WORDS) ^ b ^ first, right & WORD
        c, d = (left >> HALF_WORDS) ^ d ^ second, left & WORD
        first, second = (first + WEYL[0]) & WORD, (second + WEYL[1]) & WORD
    return a, b, c, d


UNIT = np.float32(2.0**-32)
QUARTER, EIGHTH = np.float32(0.25), np.float32(0.125)
TURN, ROOT_HALF = 2 * math.pi, math.sqrt(0.5)


@scalar
def unit(word):
    """A random word, as a real number, brought into (0, 1]"""
    return (word + HALF) * UNIT


@scalar
def direction(turns, turn, root_half):
    """(cos, sin) of 2 pi turns, for turns from 0 to 1; turn = 2 pi and root_half = sqrt(1/2) in the precision wanted

    The angle is some quarters of a turn, an eighth, and what is left: -pi/4 to pi/4.
    """
    second_half = turns > HALF
    turns = where(second_half, turns - HALF, turns)
    odd = turns > QUARTER
    left = (where(odd, turns - QUARTER, turns) - EIGHTH) * turn
    c, s = cos_eighth(left), sin_eighth(left)
    c, s = (c - s) * root_half, (c + s) * root_half
    c, s = where(odd, -s, c), where(odd, c, s)
    return where(second_half, -c, c), where(second_half, -s, s)


@scalar
def normals(u, v, turn, root_half):
    """Two independent normal numbers from two that are uniform in (0, 1] (Box & Muller, 1958); as in `direction`"""
    radius = sqrt(-TWO * log(u))
    c, s = direction(v, turn, root_half)
    return radius * c, radius * s
