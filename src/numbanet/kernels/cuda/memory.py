"""Operands: how a kernel sees them, as (pointer to the first element, row stride), without a copy or a check.

Element (r, j) is pointer[r * stride + j]. In the simulator a pointer is a flat array of the operand's own extent, so
that an index beyond it is an IndexError.
"""

from __future__ import annotations

import ctypes

import numpy as np
from llvmlite import ir

from numbanet.kernels import OPERAND, SCRATCH, SIZES, WORKER
from numbanet.kernels.cuda.target import SIMULATED, cuda, intrinsic, piece, types

FIRST = 1 + SIZES  # where the operands begin in a row: the address and the sizes come before
GLOBAL = 1  # the address space of the GPU's memory; from one the compiler does not know, reading is slower

if SIMULATED:

    def _array(address, count, dtype):
        dtype = np.dtype(dtype)
        memory = (ctypes.c_char * (int(count) * dtype.itemsize)).from_address(int(address))
        return np.frombuffer(memory, dtype)

    def table_at(address, count):
        return _array(address, count, np.int64)

    def real_at(dtype):
        return lambda address, count: _array(address, count, dtype)

    def shift(pointer, count):
        return pointer[count:]

    def matrix(memory, op, k):
        at, rows, stride = op[FIRST + OPERAND * k :][:3]
        return memory[at : at + rows * stride], stride

    def scratch(work, op, k, step):
        at, rows, stride = op[FIRST + OPERAND * k :][:3]
        at += step[WORKER] * step[SCRATCH]
        return work[at : at + rows * stride], stride

    def _outside(op, k, dtype):
        address, rows, stride = op[FIRST + OPERAND * k :][:3]
        return _array(address, rows * stride, dtype), stride

    def outside_like(memory, op, k):
        return _outside(op, k, memory.dtype)

    def outside_int64(op, k):
        return _outside(op, k, np.int64)

    def outside_float64(op, k):
        return _outside(op, k, np.float64)

    def real(op, k):
        return op[k : k + 1].view(np.float64)[0]

    def read(dtype):
        def element(address, index, like):
            return like.dtype.type(_array(address + index * np.dtype(dtype).itemsize, 1, dtype)[0])

        return element

    def cast(like, value):
        return like.dtype.type(value)

    def quotient(a, b):
        return a // b

    def remainder(a, b):
        return a % b

    def atomic_add(pointer, index, value):
        pointer[index] += value  # there is one block in the simulator
        return pointer[index] - value

    def fence():
        pass

else:

    def _global(context, builder, address, kind):
        """An address as a pointer, of which the compiler knows that it leads to global memory"""
        pointer = context.get_value_type(kind)
        known = builder.inttoptr(address, ir.PointerType(pointer.pointee, GLOBAL))
        return builder.addrspacecast(known, pointer)

    def _pointer_to(dtype):
        @intrinsic
        def pointer(typingctx, address):
            def codegen(context, builder, signature, arguments):
                return _global(context, builder, arguments[0], signature.return_type)

            return types.CPointer(dtype)(types.int64), codegen

        return pointer

    _int64_at, _float64_at = _pointer_to(types.int64), _pointer_to(types.float64)

    @piece
    def table_at(address, count):
        """int64 integers at an address"""
        return _int64_at(address)

    def real_at(dtype):
        """(address, count) -> that many elements of a dtype at an address"""
        at = _pointer_to(getattr(types, dtype))

        @piece
        def elements(address, count):
            return at(address)

        return elements

    @intrinsic
    def shift(typingctx, pointer, count):
        """pointer + count elements"""
        return pointer(pointer, types.int64), lambda context, builder, signature, arguments: builder.gep(
            arguments[0], [arguments[1]]
        )

    @intrinsic
    def _pointer_like(typingctx, pointer, address):
        """A pointer to the pointer's type at an address"""

        def codegen(context, builder, signature, arguments):
            return _global(context, builder, arguments[1], signature.return_type)

        return pointer(pointer, types.int64), codegen

    @intrinsic
    def cast(typingctx, pointer, value):
        """A number as an element of the pointer's type"""

        def codegen(context, builder, signature, arguments):
            return context.cast(builder, arguments[1], signature.args[1], signature.return_type)

        return pointer.dtype(pointer, value), codegen

    def _of_counts(operation):
        """An intrinsic on two whole numbers from 0 to 2**32; Python's own on 64 bits take 100 instructions here."""

        @intrinsic
        def computed(typingctx, a, b):
            def codegen(context, builder, signature, arguments):
                short = [builder.trunc(value, ir.IntType(32)) for value in arguments]
                return builder.zext(getattr(builder, operation)(*short), ir.IntType(64))

            return types.int64(types.int64, types.int64), codegen

        return computed

    quotient, remainder = _of_counts("udiv"), _of_counts("urem")

    @intrinsic
    def _float64_of(typingctx, bits):
        """The float64 of some bits"""
        return types.float64(types.int64), lambda context, builder, signature, arguments: builder.bitcast(
            arguments[0], ir.DoubleType()
        )

    @piece
    def real(op, k):
        """Field k of a row, a real number, as float64"""
        return _float64_of(op[k])

    @intrinsic
    def atomic_add(typingctx, pointer, index, value):
        """pointer[index] += value as one operation; returns what it was"""

        def codegen(context, builder, signature, arguments):
            place = builder.gep(arguments[0], [arguments[1]])
            return builder.atomic_rmw("add", place, arguments[2], "monotonic")

        return types.int64(pointer, types.int64, types.int64), codegen

    @piece
    def fence():
        """What this thread wrote before is seen by all who see what it writes after"""
        cuda.threadfence()

    @piece
    def matrix(memory, op, k):
        """Operand k, which lies in memory (theta or the workspace)"""
        at = FIRST + OPERAND * k
        return shift(memory, op[at]), op[at + 2]

    @piece
    def scratch(work, op, k, step):
        """Operand k, which lies in the block's own scratch memory; its row 0 is the first row under way"""
        at = FIRST + OPERAND * k
        return shift(work, op[at] + step[WORKER] * step[SCRATCH]), op[at + 2]

    @piece
    def outside_like(memory, op, k):
        """Operand k, an array of the model's dtype outside of theta and the workspace"""
        at = FIRST + OPERAND * k
        return _pointer_like(memory, op[at]), op[at + 2]

    @piece
    def outside_int64(op, k):
        """Operand k, an int64 array outside of theta and the workspace"""
        at = FIRST + OPERAND * k
        return _int64_at(op[at]), op[at + 2]

    @piece
    def outside_float64(op, k):
        """Operand k, a float64 array outside of theta and the workspace"""
        at = FIRST + OPERAND * k
        return _float64_at(op[at]), op[at + 2]

    def read(dtype):
        """(address, index, like) -> the element at an index from the address on, as one of like's type"""
        at = _pointer_to(getattr(types, dtype))

        @piece
        def element(address, index, like):
            return cast(like, at(address)[index])

        return element


@piece
def place(op, k):
    """Operand k, an array of any dtype outside: address, row stride and column stride in elements"""
    at = FIRST + OPERAND * k
    return op[at], op[at + 2], op[at + 3]
