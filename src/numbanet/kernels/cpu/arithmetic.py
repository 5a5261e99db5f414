"""What scalar.py leaves to the device: on the CPU polynomials for SIMD vectors, the C library's functions for numbers.

The twin of kernels/cuda/arithmetic.py.
"""

from __future__ import annotations

import math

import numpy as np
from numba import types
from numba.extending import intrinsic, overload

from numbanet.kernels import scalar
from numbanet.kernels.cpu import polynomial
from numbanet.kernels.cpu.simd import Mask, Vector, magnitude, root, select
from numbanet.kernels.jit import JIT


@intrinsic
def _choice(typingctx, condition, a, b):
    """a if condition else b, for numbers, without a branch"""
    number = typingctx.unify_types(a, b)

    def codegen(context, builder, sig, arguments):
        values = [context.cast(builder, arguments[k], sig.args[k], number) for k in (1, 2)]
        return builder.select(arguments[0], *values)

    return number(types.boolean, a, b), codegen


def _supply(name, single, double, number):
    """Compile scalar.NAME on vectors to one of two functions, on numbers to a third."""

    @overload(getattr(scalar, name), inline="always")
    def supplied(x):
        if not isinstance(x, Vector):
            return lambda x: number(x)
        return (lambda x: double(x)) if x.double else (lambda x: single(x))


if JIT:

    @overload(scalar.constant, inline="always")
    def _constant(like, value):
        if isinstance(like, Vector):
            return lambda like, value: value  # which arithmetic spreads, rounded once
        real = np.float32 if like is types.float32 else np.float64
        return lambda like, value: real(value)

    @overload(scalar.where, inline="always")
    def _where(condition, a, b):
        if isinstance(condition, Mask):
            return lambda condition, a, b: select(condition, a, b)
        return lambda condition, a, b: _choice(condition, a, b)

    _supply("sqrt", root, root, math.sqrt)
    _supply("absolute", magnitude, magnitude, math.fabs)
    _supply("exp", polynomial.exp_f32, polynomial.exp_f64, math.exp)
    _supply("log", polynomial.log_f32, polynomial.log_f64, math.log)
    _supply("log1p_unit", polynomial.log1p_unit_f32, polynomial.log1p_unit_f64, math.log1p)
    _supply("tanh", polynomial.tanh_f32, polynomial.tanh_f64, math.tanh)
    _supply("erf", polynomial.erf_f32, polynomial.erf_f64, math.erf)
    _supply("sin_eighth", polynomial.sin_eighth_f32, polynomial.sin_eighth_f64, math.sin)
    _supply("cos_eighth", polynomial.cos_eighth_f32, polynomial.cos_eighth_f64, math.cos)
