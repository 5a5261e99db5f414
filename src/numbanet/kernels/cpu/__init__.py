"""The CPU: kernels by name, and what a program needs around them."""

from numbanet.kernels.cpu import batch, dense, loss, pointwise, update
from numbanet.kernels.cpu.engine import get_num_threads, run, run_parallel, run_serial, set_num_threads
from numbanet.kernels.cpu.memory import handle, zeros
from numbanet.kernels.jit import Kernel

KERNELS = {
    kernel.name: kernel
    for module in (batch, dense, pointwise, loss, update)
    for kernel in vars(module).values()
    if isinstance(kernel, Kernel)
}


def address(op, dtype):
    """Address of an op's kernel, compiled or loaded from the cache the first time."""
    return KERNELS[op].address(dtype)


__all__ = [
    "KERNELS",
    "address",
    "get_num_threads",
    "handle",
    "run",
    "run_parallel",
    "run_serial",
    "set_num_threads",
    "zeros",
]
