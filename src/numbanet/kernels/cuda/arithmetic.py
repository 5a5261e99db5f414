"""What scalar.py leaves to the device: on the GPU, CUDA's own functions of a number (1 to 2 roundings off).

In the simulator the CPU's stand.
"""

from __future__ import annotations

import math

import numpy as np

from numbanet.kernels import scalar
from numbanet.kernels.cuda.target import SIMULATED, overload, types

if not SIMULATED:

    @overload(scalar.constant)
    def _constant(like, value):
        real = np.float32 if like is types.float32 else np.float64
        return lambda like, value: real(value)

    @overload(scalar.where)
    def _where(condition, a, b):
        return lambda condition, a, b: a if condition else b

    def _supply(name, function):
        overload(getattr(scalar, name))(lambda x: lambda x: function(x))

    _supply("absolute", math.fabs)
    _supply("sqrt", math.sqrt)
    _supply("exp", math.exp)
    _supply("log", math.log)
    _supply("log1p_unit", math.log1p)
    _supply("erf", math.erf)
    _supply("tanh", math.tanh)
    _supply("sin_eighth", math.sin)
    _supply("cos_eighth", math.cos)
