"""Views: how a kernel sees its operands, as matrices of rows x row stride, without a copy, an allocation or a check.

A view costs 1.3 ns (slice + reshape in Numba: 26 to 33 ns and a reference count). Its shape is the operand's true
extent, so NUMBA_BOUNDSCHECK=1 catches an index beyond it.
"""

from __future__ import annotations

import ctypes

import numpy as np
from llvmlite import ir
from numba import carray, config, types
from numba.core import cgutils
from numba.extending import intrinsic

from numbanet.kernels import OPERAND, SCRATCH, SIZES, START, WORKER
from numbanet.kernels.cpu.plain import lanes_of
from numbanet.kernels.cpu.simd import Vector, lanes
from numbanet.kernels.jit import JIT, piece

FIRST = 1 + SIZES  # where the operands begin in a row: the address and the sizes come before


@intrinsic
def _shift(typingctx, pointer, count):
    """pointer + count elements"""
    return pointer(pointer, types.int64), lambda context, builder, signature, arguments: builder.gep(
        arguments[0], [arguments[1]]
    )


@intrinsic(prefer_literal=True)
def _on_stack(typingctx, like, vectors):
    vector, count = Vector(like.dtype), vectors.literal_value

    def codegen(context, builder, signature, arguments):
        whole = cgutils.alloca_once(builder, ir.ArrayType(vector.llvm, count))
        return builder.bitcast(whole, context.get_value_type(signature.return_type))

    return types.CPointer(like.dtype)(like, vectors), codegen


def _pointer_to(dtype):
    @intrinsic
    def pointer(typingctx, address):
        def codegen(context, builder, signature, arguments):
            return builder.inttoptr(arguments[0], context.get_value_type(signature.return_type))

        return types.CPointer(dtype)(types.int64), codegen

    return pointer


@intrinsic
def _float64_of(typingctx, bits):
    """The float64 of some bits."""
    return types.float64(types.int64), lambda context, builder, signature, arguments: builder.bitcast(
        arguments[0], ir.DoubleType()
    )


_int64_pointer = _pointer_to(types.int64)
_float64_pointer = _pointer_to(types.float64)


@intrinsic
def _pointer_like(typingctx, pointer, address):
    """A pointer to the pointer's type at an address."""

    def codegen(context, builder, signature, arguments):
        return builder.inttoptr(arguments[1], context.get_value_type(signature.return_type))

    return pointer(pointer, types.int64), codegen


def _vector_reader(dtype):
    """An intrinsic (source, index, like) -> as many elements as like's vectors hold, converted."""
    kind = getattr(types, dtype)

    @intrinsic
    def vector(typingctx, source, index, like):
        wanted = Vector(like.dtype)

        def codegen(context, builder, signature, arguments):
            element = context.get_value_type(kind)
            pointer = builder.gep(builder.inttoptr(arguments[0], element.as_pointer()), [arguments[1]])
            several = ir.VectorType(element, wanted.lanes)
            value = builder.load(builder.bitcast(pointer, several.as_pointer()))
            value.align = kind.bitwidth // 8
            return _converted(builder, kind, wanted, value)

        return wanted(types.int64, types.int64, like), codegen

    return vector


def _converted(builder, kind, wanted, value):
    """A vector of `kind` as one of floats"""
    if isinstance(kind, types.Integer):
        return (builder.sitofp if kind.signed else builder.uitofp)(value, wanted.llvm)
    if kind is wanted.real:
        return value
    return (builder.fpext if wanted.double else builder.fptrunc)(value, wanted.llvm)


def _element_reader(dtype):
    pointer = _pointer_to(getattr(types, dtype))

    @piece
    def element(source, index):
        return carray(pointer(source + index * size), (1,))[0]

    size = np.dtype(dtype).itemsize
    return element


if JIT:

    @piece
    def matrix(memory, op, k):
        """Operand k, which lies in memory (theta or the workspace)."""
        at = FIRST + OPERAND * k
        return carray(_shift(memory, op[at]), (op[at + 1], op[at + 2]))

    @piece
    def rows_at(memory, op, k, step):
        """Operand k, rows of the batch: in the workspace, or of the data set from the batch's first row on."""
        at = FIRST + OPERAND * k
        if op[at + 3] == 0:
            return matrix(memory, op, k)
        first = _shift(_pointer_like(memory, op[at]), step[START] * op[at + 2])
        return carray(first, (op[at + 1] - step[START], op[at + 2]))

    @piece
    def scratch(work, op, k, step):
        """Operand k, which lies in the worker's own scratch memory; its row 0 is the first row under way."""
        at = FIRST + OPERAND * k
        return carray(_shift(work, op[at] + step[WORKER] * step[SCRATCH]), (op[at + 1], op[at + 2]))

    @piece
    def nothing(memory):
        """A matrix without rows."""
        return carray(memory, (0, 0))

    @piece
    def notes(like, vectors):
        """A matrix of so many rows of one vector each on the stack, which nobody has set."""
        return carray(_on_stack(like, vectors), (vectors, lanes(like)))

    @piece
    def outside_like(memory, op, k):
        """Operand k, an array of the model's dtype outside of theta and the workspace."""
        at = FIRST + OPERAND * k
        return carray(_pointer_like(memory, op[at]), (op[at + 1], op[at + 2]))

    @piece
    def outside_int64(op, k):
        """Operand k, an int64 array outside of theta and the workspace."""
        at = FIRST + OPERAND * k
        return carray(_int64_pointer(op[at]), (op[at + 1], op[at + 2]))

    @piece
    def outside_float64(op, k):
        """Operand k, a float64 array outside of theta and the workspace."""
        at = FIRST + OPERAND * k
        return carray(_float64_pointer(op[at]), (op[at + 1], op[at + 2]))

    @piece
    def real(op, k):
        """Field k of a row, a real number, as float64"""
        return _float64_of(op[k])

    @piece
    def place(op, k):
        """Operand k, an array of any dtype outside: address, row stride and column stride in elements"""
        at = FIRST + OPERAND * k
        return op[at], op[at + 2], op[at + 3]

    @piece
    def table_at(tables, k):
        """The int64 table whose address, rows and columns row k holds"""
        return carray(_int64_pointer(tables[k, 0]), (tables[k, 1], tables[k, 2]))

    @piece
    def address_of(array):
        """The address of an array's first element"""
        return array.ctypes.data

    def read(dtype):
        """(source, index, like) -> a vector of like's dtype, and (source, index) -> an element, at an address"""
        return _vector_reader(dtype), _element_reader(dtype)

    def handle(array):
        """What the engine is given for theta or the workspace: the address of the first element."""
        return array.ctypes.data

else:

    def matrix(memory, op, k):
        at, rows, stride = op[FIRST + OPERAND * k :][:3]
        return memory[at : at + rows * stride].reshape(rows, stride)

    def rows_at(memory, op, k, step):
        if op[FIRST + OPERAND * k + 3] == 0:
            return matrix(memory, op, k)
        return outside_like(memory, op, k)[step[START] :]

    def scratch(work, op, k, step):
        at, rows, stride = op[FIRST + OPERAND * k :][:3]
        at += step[WORKER] * step[SCRATCH]
        return work[at : at + rows * stride].reshape(rows, stride)

    def nothing(memory):
        return memory[:0].reshape(0, 0)

    def notes(like, vectors):
        return np.empty((vectors, lanes(like)), like.dtype)

    def real(op, k):
        return op[k : k + 1].view(np.float64)[0]

    def place(op, k):
        at = FIRST + OPERAND * k
        return op[at], op[at + 2], op[at + 3]

    def table_at(tables, k):
        address, rows, columns = (int(field) for field in tables[k])
        return np.frombuffer((ctypes.c_int64 * (rows * columns)).from_address(address), np.int64).reshape(rows, columns)

    def address_of(array):
        return array.ctypes.data

    def read(dtype):
        kind = np.dtype(dtype)

        def vector(source, index, like):
            count = lanes_of(like.dtype)
            memory = (ctypes.c_char * (count * kind.itemsize)).from_address(int(source + index * kind.itemsize))
            return np.frombuffer(memory, kind).astype(like.dtype)

        def element(source, index):
            memory = (ctypes.c_char * kind.itemsize).from_address(int(source + index * kind.itemsize))
            return np.frombuffer(memory, kind)[0]

        return vector, element

    def _outside(op, k, dtype):
        address, rows, stride = (int(field) for field in op[FIRST + OPERAND * k :][:3])
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


if config.BOUNDSCHECK:

    @piece
    def within(matrix, rows, columns):
        """IndexError if a matrix has fewer rows or columns than a product is about to touch"""
        if rows > matrix.shape[0] or columns > matrix.shape[1]:
            raise IndexError("a product reaches beyond its operand")

else:

    @piece
    def within(matrix, rows, columns):
        """Checked under NUMBA_BOUNDSCHECK=1 only"""
