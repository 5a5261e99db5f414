"""What lies on the GPU, and how it comes there and back.

All of it travels on one stream, on which loops are launched too, and whoever uses it holds a lock: what other threads
and libraries do on the GPU comes neither in between nor into a capture.
"""

from __future__ import annotations

import contextlib
import functools
import threading

import numpy as np

from numbanet.kernels.cuda.target import SIMULATED, cuda, free_memory, new_stream

busy = threading.RLock()  # also: two loops at once, each with half of its blocks on the GPU, would wait for ever


@functools.cache
def stream():
    """The stream of all copies and launches."""
    return new_stream()


class Memory:
    """A flat array on the GPU with a copy on the host, each brought up to date when somebody wants it.

    Whoever looks at the host's copy may also write to it, so it is sent again before the next run.
    """

    def __init__(self, count, dtype):
        self.array = empty(count, dtype)
        self._host = np.zeros(count, dtype)
        self._host_is_newer, self._device_is_newer = True, False

    def host(self):
        """The host's copy, to read and to write."""
        with busy:
            if self._device_is_newer:
                self._host[:] = fetch(self.array)
            self._host_is_newer, self._device_is_newer = True, False
        return self._host

    def lend(self):
        """The array on the GPU, to a run that will write to it, and that holds the lock until it is over."""
        if self._host_is_newer:
            send(self._host, self.array)
        self._host_is_newer, self._device_is_newer = False, True
        return self.array


@contextlib.contextmanager
def out_of_memory_is_told(wanted):
    """MemoryError instead of the driver's error; wanted: bytes."""
    try:
        yield
    except MemoryError:
        raise
    except Exception as problem:
        if "OUT_OF_MEMORY" not in str(problem) and "out of memory" not in str(problem).lower():
            raise
        free, total = free_memory()
        raise MemoryError(
            f"the GPU has {free / 2**20:.0f} of {total / 2**20:.0f} MiB left, {wanted / 2**20:.0f} MiB are needed: "
            "take a smaller batch_size, or model.to('cpu')"
        ) from None


def send(array, into):
    """Copy a NumPy array into one on the GPU."""
    with busy:
        into.copy_to_device(array, stream=stream())
        stream().synchronize()


def fetch(array):
    """A NumPy array with what `place` or `empty` gave."""
    with busy:
        found = array.copy_to_host(stream=stream())
        stream().synchronize()
    return found


def zeros(count, dtype):
    """A flat array of zeros on the GPU."""
    return Memory(max(1, count), dtype)


def host(memory):
    """The host's copy of an array of `zeros`, to read and to write."""
    return memory.host()


def empty(shape, dtype):
    """A new array that kernels can write to and `fetch` brings back."""
    with busy, out_of_memory_is_told(int(np.prod(shape)) * np.dtype(dtype).itemsize):
        return cuda.device_array(shape, dtype)


def place(array, into=None):
    """An array of two dimensions where kernels can read it; one that is there already stays.

    into: what an earlier call gave; it is used again for an array of the same shape.
    """
    if not isinstance(array, np.ndarray):
        return array
    array = np.array(array) if 0 in array.strides else array  # Numba takes a stride of 0 for a dimension less
    array = np.ascontiguousarray(array)
    if into is None or tuple(into.shape) != array.shape or into.dtype != array.dtype:
        into = empty(array.shape, array.dtype)
    send(array, into)
    return into


def clear(array):
    """Set all of an array of `place` or `empty` to zero."""
    send(np.zeros(array.shape, array.dtype), array)


def start_of(array):
    """The address of an array's first element."""
    return array.ctypes.data if SIMULATED else array.device_ctypes_pointer.value or 0


__all__ = [
    "Memory",
    "busy",
    "clear",
    "empty",
    "fetch",
    "host",
    "out_of_memory_is_told",
    "place",
    "send",
    "start_of",
    "stream",
    "zeros",
]
