"""What lies on the GPU, and how it comes there and back."""

from __future__ import annotations

import contextlib

import numpy as np

from numbanet.kernels.cuda.target import SIMULATED, cuda

ALIGNMENT = 256  # bytes; what cudaMalloc aligns to


class Memory:
    """A flat array on the GPU with a copy on the host, each brought up to date when somebody wants it.

    Whoever looks at the host's copy may also write to it, so it is sent again before the next run.
    """

    def __init__(self, count, dtype):
        self.array = _told(lambda: cuda.device_array(count, dtype), count * np.dtype(dtype).itemsize)
        self._host = np.zeros(count, dtype)
        self._host_is_newer, self._device_is_newer = True, False

    def host(self):
        """The host's copy, to read and to write."""
        if self._device_is_newer:
            self.array.copy_to_host(self._host)
        self._host_is_newer, self._device_is_newer = True, False
        return self._host

    def lend(self):
        """The array on the GPU, to a run that will write to it."""
        if self._host_is_newer:
            self.array.copy_to_device(self._host)
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
        free, total = cuda.current_context().get_memory_info()
        raise MemoryError(
            f"the GPU has {free / 2**20:.0f} of {total / 2**20:.0f} MiB left, {wanted / 2**20:.0f} MiB are needed: "
            "take a smaller batch_size, or model.to('cpu')"
        ) from None


def _told(make, wanted):
    with out_of_memory_is_told(wanted):
        return make()


def zeros(count, dtype):
    """A flat array of zeros on the GPU."""
    return Memory(max(1, count), dtype)


def host(memory):
    """The host's copy of an array of `zeros`, to read and to write."""
    return memory.host()


def place(array, into=None):
    """An array of two dimensions where kernels can read it; one that is there already stays.

    into: what an earlier call gave; it is used again for an array of the same shape.
    """
    if not isinstance(array, np.ndarray):
        return array
    array = np.ascontiguousarray(array)
    if _suits(into, array.shape, array.dtype):
        into.copy_to_device(array)
        return into
    return _told(lambda: cuda.to_device(array), array.nbytes)


def empty(shape, dtype):
    """A new array that kernels can write to and `fetch` brings back."""
    return _told(lambda: cuda.device_array(shape, dtype), int(np.prod(shape)) * np.dtype(dtype).itemsize)


def _suits(array, shape, dtype):
    return array is not None and tuple(array.shape) == tuple(shape) and array.dtype == dtype


def clear(array):
    """Set all of an array of `place` or `empty` to zero."""
    array.copy_to_device(np.zeros(array.shape, array.dtype))


def fetch(array):
    """A NumPy array with what `place` or `empty` gave."""
    return array.copy_to_host()


def start_of(array):
    """The address of an array's first element."""
    return array.ctypes.data if SIMULATED else array.device_ctypes_pointer.value or 0


__all__ = ["Memory", "clear", "empty", "fetch", "host", "place", "start_of", "zeros"]
