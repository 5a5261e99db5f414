"""An NVIDIA GPU: kernels by name, and what a program needs around them. The twin of kernels/cpu."""

from numbanet.kernels.cuda import (
    arithmetic,  # noqa: F401  (gives scalar.exp and others a meaning on the GPU)
    batch,
    dense,
    function,
    loss,
    noise,
    norm,
    pointwise,
    update,
)
from numbanet.kernels.cuda.engine import Engine
from numbanet.kernels.cuda.launch import describe, geometry, multiprocessors
from numbanet.kernels.cuda.stream import feed, fits
from numbanet.kernels.cuda.target import Kernel, PerFunction, require
from numbanet.kernels.cuda.transfer import clear, empty, fetch, host, place, start_of, zeros
from numbanet.kernels.jit import Family

KERNELS = {
    kernel.name: kernel
    for module in (batch, dense, function, pointwise, norm, noise, loss, update)
    for kernel in vars(module).values()
    if isinstance(kernel, Kernel | Family | PerFunction)
}
FAMILIES = {name for name, kernel in KERNELS.items() if isinstance(kernel, Family)}  # their number depends on the data
NAME = "cuda"
BATCHES_AT_ONCE = False  # all blocks compute one batch
ROWS_AT_ONCE = 8192  # most rows of a batch in predict and evaluate
CACHE = 2**28  # bytes of activations of such a batch
quick = {}  # no way around a program for a few rows: launching and copying takes longer than any other way on the CPU


def address(op, dtype, source=None):
    """The number of an op's kernel; source: the dtype of its data, or a user's function. ValueError without one."""
    if op not in KERNELS:
        raise ValueError(f"the GPU has no kernel for {op!r} yet; model.to('cpu') computes it")
    return KERNELS[op].address(dtype, source)


def most_workers():
    """Number of blocks that could ever be under way at once."""
    return multiprocessors()


def lies_ready(samples, dtype):
    """Can products read these samples where they lie? They read four numbers at once, which needs padded rows."""
    return False


__all__ = [
    "BATCHES_AT_ONCE",
    "CACHE",
    "FAMILIES",
    "KERNELS",
    "NAME",
    "ROWS_AT_ONCE",
    "Engine",
    "address",
    "clear",
    "describe",
    "empty",
    "feed",
    "fetch",
    "fits",
    "geometry",
    "host",
    "lies_ready",
    "most_workers",
    "place",
    "quick",
    "require",
    "start_of",
    "zeros",
]
