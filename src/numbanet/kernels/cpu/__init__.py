"""The CPU: kernels by name, and what a program needs around them."""

from numbanet.kernels import Geometry
from numbanet.kernels.cpu import (
    arithmetic,  # noqa: F401  (gives scalar.exp and others a meaning for vectors)
    batch,
    dense,
    function,
    loss,
    noise,
    norm,
    pointwise,
    update,
)
from numbanet.kernels.cpu.engine import (
    Engine,
    get_num_threads,
    most_workers,
    quick,
    run_batches,
    run_parallel,
    run_serial,
    set_num_threads,
)
from numbanet.kernels.cpu.transfer import (
    SAME_SETS,
    clear,
    empty,
    feed,
    fetch,
    fits,
    host,
    lies_ready,
    place,
    start_of,
    zeros,
)
from numbanet.kernels.jit import BITS, Family, Kernel, PerFunction

KERNELS = {
    kernel.name: kernel
    for module in (batch, dense, function, pointwise, norm, noise, loss, update)
    for kernel in vars(module).values()
    if isinstance(kernel, Kernel | Family | PerFunction)
}
NAME = "cpu"
BATCHES_AT_ONCE = True  # workers take whole batches of a plan in which they are independent
ROWS_AT_ONCE = 256  # most rows of a batch in predict and evaluate
CACHE = 2**18  # bytes of activations of such a batch in predict: a quarter or more of a second-level cache
LOOPS = (run_serial, run_parallel, run_batches)
FAMILIES = {name for name, kernel in KERNELS.items() if isinstance(kernel, Family)}  # their address depends on the data


def address(op, dtype, source=None):
    """Address of an op's kernel, compiled or loaded from the cache the first time.

    source: the dtype of its data, or a user's function. ValueError if that cannot be compiled.
    """
    return KERNELS[op].address(dtype, source)


def require():
    """DeviceError if the device cannot be used."""


def describe():
    """What this device is, in a few words."""
    return f"{get_num_threads()} threads, vectors of {BITS} bits"


def geometry():
    """How plans are cut for the CPU."""
    return Geometry()


__all__ = [
    "BATCHES_AT_ONCE",
    "CACHE",
    "FAMILIES",
    "KERNELS",
    "LOOPS",
    "NAME",
    "ROWS_AT_ONCE",
    "SAME_SETS",
    "Engine",
    "address",
    "clear",
    "describe",
    "empty",
    "feed",
    "fetch",
    "fits",
    "geometry",
    "get_num_threads",
    "host",
    "lies_ready",
    "most_workers",
    "place",
    "quick",
    "require",
    "set_num_threads",
    "start_of",
    "zeros",
]
