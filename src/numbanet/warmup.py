"""Compiling everything once, so that nobody waits later."""

from __future__ import annotations

from numbanet import kernels
from numbanet.kernels import jit
from numbanet.names import lookup


def warmup(dtypes=("float32", "float64")):
    """Compile every kernel and loop for the dtypes and leave them in the cache on disk; returns how many were new."""
    dtypes = [dtypes] if isinstance(dtypes, str) else list(dtypes)
    for dtype in dtypes:
        lookup("dtype", dtype, jit.POINTERS)
    before = jit.compilations()
    device = kernels.load("cpu")
    for dtype in dtypes:
        for op in (op for op in kernels.OPS if op not in kernels.FUNCTIONS):
            for source in kernels.DTYPES if op in device.FAMILIES else [None]:
                device.address(op, dtype, source)
    for loop in [*device.LOOPS, *(device.quick[dtype] for dtype in dtypes)]:
        loop.ready()
    return jit.compilations() - before
