"""Numba's GPU compiler: the only file that imports numba.cuda, and what a kernel is on the GPU.

A kernel is a device function which all threads of a block run together. Its "address" in the op table is its number;
engine.py compiles those that a program needs into one loop. In Numba's simulator (NUMBA_ENABLE_CUDASIM=1) kernels are
plain Python functions, which emulated threads run one after another.
"""

from __future__ import annotations

import numpy as np
from numba import config, types

from numbanet.kernels import DeviceError, jit
from numbanet.kernels import function as functions

SIMULATED = bool(config.ENABLE_CUDASIM)

try:
    from numba import cuda

    if not SIMULATED:
        from cuda.bindings import driver  # Numba's own numba.cuda, which numba-cuda replaces, does without
except ImportError as problem:
    raise DeviceError(
        "device 'cuda' needs the package numba-cuda: pip install 'numbanet[cuda]' "
        f"(or numbanet[cuda12] for a driver of CUDA 12); {problem}"
    ) from None

if not SIMULATED:
    from numba.cuda.extending import intrinsic, overload
else:
    intrinsic = overload = driver = None

_kernels = []  # by number


class Kernel:
    """A device function with the signature of all ops."""

    def __init__(self, function, name, kept=True):
        """kept: loops with it are, in the cache on disk."""
        self.function, self.name, self.kept, self.__doc__ = function, name, kept, function.__doc__
        self.on_device = piece(function)
        self._number = len(_kernels)
        _kernels.append(self)

    def address(self, dtype, source=None):
        """The kernel's number, for any dtype."""
        return self._number


class PerFunction(functions.PerFunction):
    """An op with a kernel for each function of a user."""

    kernel = Kernel

    def wrap(self, function):
        """A user's function as kernels call it."""
        return functions.quiet(function) if SIMULATED else piece(function)

    def compiled(self, kernel, functions, dtype):
        """The number of a kernel, once its functions are compiled: the loop for it is not before it runs."""
        if not SIMULATED:
            self.check(functions, dtype)
        return kernel.address(dtype)

    def result(self, function, numbers):
        """The type that a function gives for numbers of some types."""
        return function.compile_device(numbers).signature.return_type


def require():
    """DeviceError if there is no GPU to compute on."""
    if SIMULATED:
        return
    if not cuda.is_available():
        missing = "no GPU was found, or libNVVM, NVIDIA's compiler, is missing (pip install 'numbanet[cuda]')."
        reason = " ".join(str(cuda.cuda_error() or missing).split())
        raise DeviceError(f"device 'cuda' cannot be used: {reason} The model computes on the CPU as before.")


def piece(function):
    """A piece of kernels, which only they may call."""
    return function if SIMULATED else cuda.jit(device=True)(function)


def kernel(function=None, *, name=None):
    """Decorator: make a loop an op. Kernels made in a function give their name, plain ones use their own."""
    if function is None:
        return lambda f: Kernel(f, name)
    return Kernel(function, name or function.__name__)


def entry(function, signature, name):
    """A loop that the host launches, compiled for the GPU at hand, or loaded from the cache under its name, if any."""
    if SIMULATED:
        return cuda.jit(_without_warnings(function))
    dispatcher = cuda.jit(function)
    cache = jit.stamped_cache(function, name, _cache_of_kernels) if name else None
    if cache is not None:
        dispatcher._cache = cache
    dispatcher.compile(signature)
    jit.count(not sum(dispatcher.stats.cache_hits.values()))
    return dispatcher


def launch_together(entry, together):
    """Let the GPU start a loop only when all of its blocks have a place there, or refuse; or each block by itself."""
    if not SIMULATED:
        for compiled in entry.overloads.values():
            compiled.cooperative = together


def done(result):
    """The value of a driver's call, which returns its error first."""
    error, *values = result
    if error != driver.CUresult.CUDA_SUCCESS:
        raise RuntimeError(f"the CUDA driver says {error.name}")
    return values[0] if values else None


def new_stream():
    """A stream that has nothing to do with the default stream, on which other libraries may work."""
    if SIMULATED:
        return cuda.stream()
    cuda.current_context()  # makes it this thread's, too
    return cuda.external_stream(int(done(driver.cuStreamCreate(driver.CUstream_flags.CU_STREAM_NON_BLOCKING))))


def free_memory():
    """Bytes that are free on the GPU, and all of its bytes."""
    context = cuda.current_context()
    if not SIMULATED:
        context.deallocations.clear()  # what Numba has not given back yet
    return context.get_memory_info()


def _without_warnings(function):
    """For an emulated thread: arithmetic on a GPU does not warn either."""

    def emulated(*arguments):
        with np.errstate(all="ignore"):
            function(*arguments)

    return emulated


def _cache_of_kernels():
    from numba.cuda.dispatcher import CUDACache

    return CUDACache


def numbered(number):
    """The kernel of a number."""
    return _kernels[number]


__all__ = [
    "SIMULATED",
    "Kernel",
    "PerFunction",
    "cuda",
    "done",
    "driver",
    "entry",
    "free_memory",
    "intrinsic",
    "kernel",
    "launch_together",
    "new_stream",
    "numbered",
    "overload",
    "piece",
    "require",
    "types",
]
