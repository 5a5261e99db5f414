"""Arrays where kernels can read them: on the CPU that is everywhere. The twin of kernels/cuda/transfer.py."""

from __future__ import annotations

import numpy as np

ALIGNMENT = 64  # bytes; a vector load across a cache line costs 15 to 20% of a matrix product
# Bytes between rows that make the 16 of a tile share one set of a first-level cache, where they drive each other out:
# rows of 1024 through 1024-128-10 take twice as long (of 512, two sets, no longer).
SAME_SETS = 4096


def zeros(count, dtype):
    """A flat array of zeros whose first element is aligned to a cache line (np.zeros aligns to 16 bytes)."""
    itemsize = np.dtype(dtype).itemsize
    raw = np.zeros(count * itemsize + ALIGNMENT, np.uint8)
    skip = -raw.ctypes.data % ALIGNMENT
    return raw[skip : skip + count * itemsize].view(dtype)


def host(memory):
    """An array of `zeros` for the host to read and to write: on the CPU the array itself, as with the others here."""
    return memory


def place(array, into=None):
    """An array where kernels can read it."""
    return array


def empty(shape, dtype):
    """A new array that kernels can write to and `fetch` brings back."""
    return np.empty(shape, dtype)


def clear(array):
    """Set all of an array of `place` or `empty` to zero."""
    array[:] = 0


def fetch(array):
    """A NumPy array with what `place` or `empty` gave."""
    return array


def start_of(array):
    """The address of an array's first element, for the op table."""
    return array.ctypes.data


def lies_ready(samples, dtype):
    """Can products read these samples where they lie? Dense rows of their dtype, not in the same few cache sets."""
    row, element = samples.strides
    dense = element == samples.itemsize and row >= samples.shape[1] * element
    return samples.dtype == dtype and dense and row % SAME_SETS != 0


def fits(arrays):
    """Is there room for these arrays? They are there already."""
    return True


def feed(arrays, batch_size):
    """(the arrays of samples, None: nothing has to be fed to them chunk by chunk)"""
    return arrays, None
