"""The CPU: kernels by name, and what a program needs around them."""

from numbanet.kernels.cpu import (
    batch,
    dense,
    loss,
    pointwise,
    polynomial,  # noqa: F401  (gives scalar.exp and others a meaning for vectors)
    update,
)
from numbanet.kernels.cpu.engine import (
    BOARD_WIDTH,
    get_num_threads,
    most_workers,
    quick,
    run,
    run_batches,
    run_parallel,
    run_serial,
    set_num_threads,
)
from numbanet.kernels.cpu.memory import handle, zeros
from numbanet.kernels.jit import Family, Kernel

KERNELS = {
    kernel.name: kernel
    for module in (batch, dense, pointwise, loss, update)
    for kernel in vars(module).values()
    if isinstance(kernel, Kernel | Family)
}
FAMILIES = {name for name, kernel in KERNELS.items() if isinstance(kernel, Family)}  # their address depends on the data


def address(op, dtype, source=None):
    """Address of an op's kernel, compiled or loaded from the cache the first time; source: the dtype of its data."""
    return KERNELS[op].address(dtype, source)


__all__ = [
    "BOARD_WIDTH",
    "FAMILIES",
    "KERNELS",
    "address",
    "get_num_threads",
    "handle",
    "most_workers",
    "quick",
    "run",
    "run_batches",
    "run_parallel",
    "run_serial",
    "set_num_threads",
    "zeros",
]
