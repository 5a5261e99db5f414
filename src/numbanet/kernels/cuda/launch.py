"""Launch geometry: the only place with sizes of blocks and grids.

A thread block is what a worker is on the CPU: it takes rows of the batch, panels of columns or tiles of parameters,
all its threads together. Blocks stay on the GPU for many steps, one on each multiprocessor.
"""

from __future__ import annotations

import contextlib
import sys
import warnings

from numbanet.kernels import Geometry
from numbanet.kernels.cuda.target import SIMULATED, cuda, free_memory

# Threads of a block. 256 may use all 255 registers a thread can have, and hide each other's waits for memory; an
# emulated thread costs 0.2 ms to start.
THREADS = 16 if SIMULATED else 256
LANES = 4 if SIMULATED else 16  # threads that share a row: 64 bytes of float32, two sectors of memory
GROUPS = THREADS // LANES  # rows under way in a block
ACROSS = 4 if SIMULATED else 16  # threads on a side of the square that computes a large tile
SHARED = 40 * 1024  # bytes of shared memory of a block; above 48 KB a kernel must ask the driver
SMALL = 2**15  # multiply-adds of a step that one block does alone, for then blocks need not meet
CHUNK = 2**26  # bytes of samples that are brought to the GPU at once where not all fit
SHARE = 0.8  # of the GPU's free memory that samples may take


def multiprocessors():
    """Multiprocessors of the GPU; 1 in the simulator, whose blocks cannot meet."""
    return 1 if SIMULATED else cuda.get_current_device().MULTIPROCESSOR_COUNT


def describe():
    """What this device is, in a few words."""
    if SIMULATED:
        return "Numba's simulator (NUMBA_ENABLE_CUDASIM=1), some thousand times slower than a GPU"
    device, (free, total) = cuda.get_current_device(), free_memory()
    name = device.name.decode() if isinstance(device.name, bytes) else device.name
    capability = ".".join(map(str, device.compute_capability))
    return (
        f"{name}, compute capability {capability}, {multiprocessors()} multiprocessors, "
        f"{free / 2**30:.1f} of {total / 2**30:.1f} GiB free"
    )


def blocks(cost):
    """Blocks for steps of so many multiply-adds."""
    return 1 if cost <= SMALL else multiprocessors()


def geometry():
    """How plans are cut for this GPU."""
    side, workers = 8 * ACROSS, multiprocessors()
    if SIMULATED:
        return Geometry(block=4, grain=4, tile=16, group=8, side=side, squares=4, workers=workers)
    return Geometry(block=64, grain=4, tile=256, group=64, side=side, squares=3 * workers // 4, workers=workers)


def configured(loop, grid, stream):
    """A loop ready to be launched with so many blocks."""
    with warnings.catch_warnings():  # that few blocks leave some of the GPU idle: a small network does
        warnings.simplefilter("ignore")
        return loop[grid, THREADS, stream, SHARED]


@contextlib.contextmanager
def running():
    """Around launches: the simulator, which polls its threads, takes a tenth of the time if they switch often."""
    before = sys.getswitchinterval()
    if SIMULATED:
        sys.setswitchinterval(1e-4)
    try:
        yield
    finally:
        if SIMULATED:
            sys.setswitchinterval(before)
