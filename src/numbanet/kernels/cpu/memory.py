"""Views: how a kernel sees its operands, as matrices of rows x row stride, without a copy, an allocation or a check.

A view costs 1.3 ns (slice + reshape in Numba: 26 to 33 ns and a reference count). Its shape is the operand's true
extent, so NUMBA_BOUNDSCHECK=1 catches an index beyond it.
"""

from __future__ import annotations

import ctypes

import numpy as np
from numba import carray, types
from numba.extending import intrinsic

from numbanet.kernels import OPERAND, SIZES
from numbanet.kernels.jit import JIT, scalar

FIRST = 1 + SIZES  # where the operands begin in a row: the address and the sizes come before
ALIGNMENT = 64  # bytes; a vector load across a cache line costs 15 to 20% of a matrix product


@intrinsic
def _shift(typingctx, pointer, count):
    """pointer + count elements"""
    return pointer(pointer, types.int64), lambda context, builder, signature, arguments: builder.gep(
        arguments[0], [arguments[1]]
    )


def _pointer_to(dtype):
    @intrinsic
    def pointer(typingctx, address):
        def codegen(context, builder, signature, arguments):
            return builder.inttoptr(arguments[0], context.get_value_type(signature.return_type))

        return types.CPointer(dtype)(types.int64), codegen

    return pointer


_int64_pointer = _pointer_to(types.int64)
_float64_pointer = _pointer_to(types.float64)


@intrinsic
def _pointer_like(typingctx, pointer, address):
    """A pointer to the pointer's type at an address."""

    def codegen(context, builder, signature, arguments):
        return builder.inttoptr(arguments[1], context.get_value_type(signature.return_type))

    return pointer(pointer, types.int64), codegen


if JIT:

    @scalar
    def matrix(memory, op, k):
        """Operand k, which lies in memory (theta or the workspace)."""
        at = FIRST + OPERAND * k
        return carray(_shift(memory, op[at]), (op[at + 1], op[at + 2]))

    @scalar
    def outside_like(memory, op, k):
        """Operand k, an array of the model's dtype outside of theta and the workspace."""
        at = FIRST + OPERAND * k
        return carray(_pointer_like(memory, op[at]), (op[at + 1], op[at + 2]))

    @scalar
    def outside_int64(op, k):
        """Operand k, an int64 array outside of theta and the workspace."""
        at = FIRST + OPERAND * k
        return carray(_int64_pointer(op[at]), (op[at + 1], op[at + 2]))

    @scalar
    def outside_float64(op, k):
        """Operand k, a float64 array outside of theta and the workspace."""
        at = FIRST + OPERAND * k
        return carray(_float64_pointer(op[at]), (op[at + 1], op[at + 2]))

    def handle(array):
        """What the engine is given for theta or the workspace: the address of the first element."""
        return array.ctypes.data

else:

    def matrix(memory, op, k):
        at, rows, stride = op[FIRST + OPERAND * k : FIRST + OPERAND * (k + 1)]
        return memory[at : at + rows * stride].reshape(rows, stride)

    def _outside(op, k, dtype):
        address, rows, stride = (int(field) for field in op[FIRST + OPERAND * k : FIRST + OPERAND * (k + 1)])
        memory = (ctypes.c_char * (rows * stride * dtype.itemsize)).from_address(address)
        return np.frombuffer(memory, dtype).reshape(rows, stride)

    def outside_like(memory, op, k):
        return _outside(op, k, memory.dtype)

    def outside_int64(op, k):
        return _outside(op, k, np.dtype(np.int64))

    def outside_float64(op, k):
        return _outside(op, k, np.dtype(np.float64))

    def handle(array):
        return array


def zeros(count, dtype):
    """A flat array of zeros whose first element is aligned to a cache line (np.zeros aligns to 16 bytes)."""
    itemsize = np.dtype(dtype).itemsize
    raw = np.zeros(count * itemsize + ALIGNMENT, np.uint8)
    skip = -raw.ctypes.data % ALIGNMENT
    return raw[skip : skip + count * itemsize].view(dtype)
