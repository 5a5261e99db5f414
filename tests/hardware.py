"""Is there a GPU? Without one its kernels run in Numba's simulator, which must be known before Numba is imported."""

import ctypes
import os


def gpu():
    """Is there an NVIDIA GPU with its driver?"""
    try:
        driver, count = ctypes.CDLL("libcuda.so.1"), ctypes.c_int()
        return driver.cuInit(0) == 0 and driver.cuDeviceGetCount(ctypes.byref(count)) == 0 and count.value > 0
    except OSError:
        return False


GPU = gpu()
if not GPU:
    os.environ["NUMBA_ENABLE_CUDASIM"] = "1"
