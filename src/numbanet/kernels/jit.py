"""How kernels are compiled: the only place with jit flags, the cache and its stamp, and the table of addresses.

Every kernel is compiled by itself, on first use, for the dtype in hand, and cached on disk by itself. Numba's cache
alone does not notice an edited callee in another file nor changed flags, so every entry carries a stamp over all
kernel sources and flags. Under NUMBA_DISABLE_JIT=1 kernels are plain Python functions and an "address" is a number
in a list; everything above this module works unchanged, slowly.
"""

from __future__ import annotations

import hashlib
import os
import pathlib
import warnings
from dataclasses import dataclass

import llvmlite.binding
from numba import config, njit, types

from numbanet.kernels import function as functions

FLAGS = {
    "error_model": "numpy",
    "fastmath": {"contract", "reassoc", "nsz", "arcp", "afn"},  # not nnan, ninf: NaN and Inf keep their meaning
    "nogil": True,
}
FAST = tuple(sorted(FLAGS["fastmath"]))  # for arithmetic that is written as LLVM's
POINTERS = {"float32": types.CPointer(types.float32), "float64": types.CPointer(types.float64)}
JIT = not config.DISABLE_JIT


def _vector_bits():
    """Bits of a SIMD vector: NUMBANET_SIMD, or the longest that the machine computes with at full speed."""
    chosen = os.environ.get("NUMBANET_SIMD")
    if chosen:
        if chosen not in ("128", "256", "512"):
            raise ValueError(f"NUMBANET_SIMD is {chosen!r}, expected 128, 256 or 512: the bits of a vector")
        return int(chosen)
    try:
        features = llvmlite.binding.get_host_cpu_features()
    except RuntimeError:  # LLVM cannot tell
        return 128
    if all(features.get(name) for name in ("avx512f", "avx512bw", "avx512dq", "avx512vl")):
        return 512
    return 256 if features.get("avx2") and features.get("fma") else 128


BITS = _vector_bits()

_compilations = 0  # kernels compiled, not loaded from the cache, in this process
_uncached = False  # has the user been told that nothing can be cached?
_functions = []  # the kernels by "address" under NUMBA_DISABLE_JIT=1


def compilations():
    """Number of kernels and loops which this process had to compile because no cache held them."""
    return _compilations


def count(compiled):
    """Count a kernel or loop that was compiled, if it was."""
    global _compilations
    _compilations += bool(compiled)


def _stamp():
    sources = pathlib.Path(__file__).parent.rglob("*.py")
    digest = hashlib.sha256(repr((sorted(FLAGS["fastmath"]), FLAGS["error_model"], config.BOUNDSCHECK, BITS)).encode())
    for source in sorted(sources):
        digest.update(source.read_bytes())
    return digest.hexdigest()


def _warn_uncached(problem):
    global _uncached
    if not _uncached:
        _uncached = True
        warnings.warn(
            f"numbanet cannot keep compiled kernels on disk ({problem}); every process will compile them again. "
            "Set NUMBA_CACHE_DIR to a writable directory.",
            RuntimeWarning,
            stacklevel=2,
        )


def _cache_of_functions():
    from numba.core.caching import FunctionCache

    return FunctionCache


def stamped_cache(function, name, kind=_cache_of_functions):
    """A cache of a kind of Numba's under the kernel's own name and our stamp; None where it cannot be had.

    Numba's caches are private to it: if they move, kernels run uncached after one warning.
    """
    try:

        class StampedCache(kind()):
            def _index_key(self, signature, codegen):
                # Not the closure's contents as Numba has it: a dispatcher there pickles differently in every process.
                return signature, codegen.magic_tuple(), name

            def load_overload(self, signature, target_context):
                try:
                    return super().load_overload(signature, target_context)
                except Exception:  # truncated or foreign file: compile again and overwrite it
                    return None

            def save_overload(self, signature, data):
                try:
                    super().save_overload(signature, data)
                except OSError as problem:
                    _warn_uncached(problem)
                except Exception:
                    self.flush()  # an index that cannot be read
                    super().save_overload(signature, data)

        function.__qualname__ = name  # names the cache file
        cache = StampedCache(function)
        cache._cache_file._source_stamp = _STAMP
        return cache
    except (ImportError, AttributeError, RuntimeError, OSError) as problem:
        _warn_uncached(problem)
        return None


_STAMP = _stamp() if JIT else ""


def scalar(function):
    """A formula on numbers or vectors that kernels, users' own compiled functions and Python may call.

    Vectors bring their flags along; numbers are computed exactly, for on a GPU any flag means all of them, and division
    by an approximation.
    """
    return njit(error_model=FLAGS["error_model"], nogil=True)(function) if JIT else function


def piece(function):
    """A piece of kernels, which only they may call: without a way in from Python and C they compile sooner.

    A cold start takes 6.7 s instead of 8. Called from Python, one would crash.
    """
    return njit(no_cpython_wrapper=True, no_cfunc_wrapper=True, **FLAGS)(function) if JIT else function


def inlined(function):
    """A piece that one place calls: it becomes part of that function before anything is compiled."""
    return njit(inline="always", no_cpython_wrapper=True, no_cfunc_wrapper=True, **FLAGS)(function) if JIT else function


class Kernel:
    """A loop with the signature of all ops, compiled for a dtype when its address is first asked for."""

    def __init__(self, function, name, kept=True):
        """kept: in the cache on disk."""
        self.function, self.name, self.kept, self.__doc__ = function, name, kept, function.__doc__
        self._entries = {}

    def address(self, dtype, source=None):
        """The machine address of the kernel for "float32" or "float64"."""
        if dtype not in self._entries:  # and stay with the first, if two threads compile it
            self._entries.setdefault(dtype, self._compile(dtype))
        return self._entries[dtype][0]

    def _compile(self, dtype):
        if not JIT:
            _functions.append(self.function)
            return len(_functions) - 1, self.function
        index, real = types.CPointer(types.int64), POINTERS[dtype]
        signature = types.void(index, real, real, index, types.intp, types.intp)
        entry = _c_function(self.function, signature, self.name if self.kept else None)
        count(not entry.cache_hits)
        return entry.address, entry


def _c_function(function, signature, name):
    """numba.cfunc(signature) with our cache, but for functions without a name."""
    from numba.core.ccallback import CFunc

    entry = CFunc(function, (signature.args, signature.return_type), locals={}, options=dict(FLAGS))
    cache = stamped_cache(function, name) if name else None
    if cache is not None:
        entry._cache = cache
    entry.compile()
    return entry


def kernel(function=None, *, name=None):
    """Decorator: make a loop an op. Kernels made in a function give their name, plain ones use their own."""
    if function is None:
        return lambda f: Kernel(f, name)
    return Kernel(function, name or function.__name__)


@dataclass(frozen=True)
class Family:
    """An op with one kernel for each dtype of the data that it reads."""

    name: str
    members: dict[str, Kernel]

    @property
    def function(self):
        return self.members["float32"].function

    def address(self, dtype, source=None):
        """The machine address of the kernel for the model's dtype and the data's (by default the same)."""
        return self.members[source or dtype].address(dtype)


class PerFunction(functions.PerFunction):
    """An op with a kernel for each function of a user."""

    kernel = Kernel

    def wrap(self, function):
        """A user's function as kernels call it: computed as it is written, without fast arithmetic."""
        if not JIT:
            return functions.quiet(function)
        exact = {"error_model": FLAGS["error_model"], "nogil": True}
        return njit(no_cpython_wrapper=True, no_cfunc_wrapper=True, **exact)(function)

    def compiled(self, kernel, functions, dtype):
        """The address of a kernel. If there is none, the functions by themselves may tell more clearly why."""
        try:
            return kernel.address(dtype)
        except Exception:
            self.check(functions, dtype)
            raise

    def result(self, function, numbers):
        """The type that a function gives for numbers of some types."""
        function.compile(numbers)
        return function.overloads[numbers].signature.return_type


class Loop:
    """An engine loop: one explicit signature, compiled or loaded on the first call."""

    def __init__(self, function, signature, parallel, name):
        self.function, self.signature, self.parallel, self.name = function, signature, parallel, name
        self._compiled = None

    def __call__(self, *arguments):
        return self.ready()(*arguments)

    def ready(self):
        """The compiled loop."""
        if self._compiled is None:
            self._compiled = self._compile() if JIT else self.function
        return self._compiled

    def _compile(self):
        dispatcher = njit(parallel=self.parallel, **FLAGS)(self.function)
        cache = stamped_cache(self.function, self.name)
        if cache is not None:
            dispatcher._cache = cache
        dispatcher.compile(self.signature)
        count(not sum(dispatcher.stats.cache_hits.values()))
        return dispatcher


def loop(signature, parallel=False, name=None):
    """Decorator for the engine's loops. Loops made in a function give their name, plain ones use their own."""
    return lambda function: Loop(function, signature, parallel, name or function.__name__)


def registered(address):
    """The kernel behind an "address" under NUMBA_DISABLE_JIT=1."""
    return _functions[address]
