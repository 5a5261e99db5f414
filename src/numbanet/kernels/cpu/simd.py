"""SIMD vectors as Numba values, for float32 and float64.

LLVM vectorises Numba's loops for 256 bits only, a search for a maximum never, and keeps no tile of a product in
registers. Here a vector is a value: `load` makes one from a row of an operand, arithmetic, comparisons and the
functions of numbanet.kernels.scalar work on it as on a number, `store` writes it back.

Vectors are as long as the machine's: 512 bits with AVX-512, 256 with AVX2, else 128, which also serves ARM (see BITS
in jit.py). Rows in memory are padded to whole vectors, so that loops have no remainders.

Under NUMBA_DISABLE_JIT=1 a vector is a NumPy array of the same length: plain.py says in Python what each name does.
"""

from __future__ import annotations

import operator

from llvmlite import ir
from numba import config, types
from numba.core import cgutils
from numba.core.datamodel import models, register_default
from numba.core.imputils import lower_builtin
from numba.core.typing.templates import AbstractTemplate, infer_global, signature
from numba.extending import intrinsic

from numbanet.kernels import PANEL
from numbanet.kernels.cpu.plain import FEW, lanes_of
from numbanet.kernels.jit import FAST, JIT

INT32, INT64 = ir.IntType(32), ir.IntType(64)


class Vector(types.Type):
    """As many float32 or float64 as the machine's registers hold, or a few of them."""

    def __init__(self, real, lanes=None):
        self.real, self.lanes = real, lanes or lanes_of(real)
        self.double = real is types.float64
        self.bytes = 8 if self.double else 4  # of a lane
        element = ir.DoubleType() if self.double else ir.FloatType()
        self.llvm = ir.VectorType(element, self.lanes)
        self.integers = ir.VectorType(INT64 if self.double else INT32, self.lanes)
        super().__init__(name=f"{real}x{self.lanes}")


class Mask(types.Type):
    """The result of comparing two vectors: one bit a lane."""

    def __init__(self, vector):
        self.vector = vector
        super().__init__(name=f"mask of {vector.name}")


@register_default(Vector)
class _VectorModel(models.PrimitiveModel):
    def __init__(self, manager, kind):
        super().__init__(manager, kind, kind.llvm)


@register_default(Mask)
class _MaskModel(models.PrimitiveModel):
    def __init__(self, manager, kind):
        super().__init__(manager, kind, ir.VectorType(ir.IntType(1), kind.vector.lanes))


# -- what the intrinsics are made of


def constant(vector, value):
    """A vector with one value in all lanes, known when compiling."""
    element = vector.integers if isinstance(value, int) else vector.llvm
    return ir.Constant(element, [ir.Constant(element.element, value)] * vector.lanes)


def spread(builder, vector, value):
    """A vector with one number in all lanes."""
    undefined = ir.Constant(vector.llvm, ir.Undefined)
    first = builder.insert_element(undefined, value, ir.Constant(INT32, 0))
    zeros = ir.Constant(ir.VectorType(INT32, vector.lanes), None)
    return builder.shuffle_vector(first, undefined, zeros)


def read(builder, pointer, vector):
    """The vector at a pointer, aligned to its elements only."""
    value = builder.load(builder.bitcast(pointer, vector.llvm.as_pointer()))
    value.align = vector.bytes
    return value


def write(builder, pointer, value, vector):
    """Store a vector at a pointer."""
    builder.store(value, builder.bitcast(pointer, vector.llvm.as_pointer())).align = vector.bytes


def llvm_call(builder, name, vector, values, result=None, **flags):
    """Call an LLVM intrinsic such as llvm.sqrt on vectors."""
    kind = ir.FunctionType(result or vector.llvm, [value.type for value in values])
    full = f"llvm.{name}.v{vector.lanes}f{64 if vector.double else 32}"
    return builder.call(cgutils.get_or_insert_function(builder.module, kind, full), values, **flags)


def multiply_add(builder, vector, a, b, c):
    """a b + c. llvm.fmuladd: llvm.fma would be a library call where the machine cannot fuse."""
    return llvm_call(builder, "fmuladd", vector, [a, b, c])


def address(context, builder, array_type, array, row, column):
    """Pointer to array[row, column], without Numba's wrap-around of negative indices."""
    struct = context.make_array(array_type)(context, builder, array)
    stride = cgutils.unpack_tuple(builder, struct.shape, 2)[1]
    return builder.gep(struct.data, [builder.add(builder.mul(row, stride), column)])


def check_inside(context, builder, array_type, place, count):
    """Under NUMBA_BOUNDSCHECK=1: IndexError if `count` elements from array[row, column] leave the row or the rows."""
    if not config.BOUNDSCHECK:
        return
    array, row, column = place
    rows, stride = cgutils.unpack_tuple(builder, context.make_array(array_type)(context, builder, array).shape, 2)
    end = builder.add(column, ir.Constant(column.type, count))
    outside = builder.or_(builder.icmp_unsigned(">=", row, rows), builder.icmp_unsigned(">", end, stride))
    with builder.if_then(outside, likely=False):
        context.call_conv.return_user_exc(builder, IndexError, ("a vector reaches beyond its operand",))


# -- memory


def _loader(most):
    @intrinsic
    def load(typingctx, array, row, column):
        vector = Vector(array.dtype, min(most, lanes_of(array.dtype)))

        def codegen(context, builder, sig, arguments):
            check_inside(context, builder, sig.args[0], arguments, vector.lanes)
            return read(builder, address(context, builder, sig.args[0], *arguments), vector)

        return vector(array, types.intp, types.intp), codegen

    return load


@intrinsic
def _store(typingctx, array, row, column, value):
    def codegen(context, builder, sig, arguments):
        check_inside(context, builder, sig.args[0], arguments[:3], value.lanes)
        write(builder, address(context, builder, sig.args[0], *arguments[:3]), arguments[3], value)
        return context.get_dummy_value()

    return types.void(array, types.intp, types.intp, value), codegen


@intrinsic
def _at(typingctx, array, row, column):
    def codegen(context, builder, sig, arguments):
        return address(context, builder, sig.args[0], *arguments)

    return types.CPointer(array.dtype)(array, types.intp, types.intp), codegen


@intrinsic
def _splat(typingctx, like, value):
    vector = Vector(like.dtype)

    def codegen(context, builder, sig, arguments):
        return spread(builder, vector, context.cast(builder, arguments[1], sig.args[1], vector.real))

    return vector(like, value), codegen


@intrinsic
def _first_lanes(typingctx, value, count, other):
    def codegen(context, builder, sig, arguments):
        wide = ir.VectorType(INT32, value.lanes)
        numbers = ir.Constant(wide, list(range(value.lanes)))
        undefined = ir.Constant(wide, ir.Undefined)
        first = builder.insert_element(undefined, builder.trunc(arguments[1], INT32), ir.Constant(INT32, 0))
        zeros = ir.Constant(ir.VectorType(INT32, value.lanes), None)
        count = builder.shuffle_vector(first, undefined, zeros)
        other = spread(builder, value, context.cast(builder, arguments[2], sig.args[2], value.real))
        return builder.select(builder.icmp_signed("<", numbers, count), arguments[0], other)

    return value(value, types.intp, other), codegen


@intrinsic
def _one_lane(typingctx, array, lane):
    vector = Vector(array.dtype)

    def codegen(context, builder, sig, arguments):
        numbers = ir.Constant(ir.VectorType(INT64, vector.lanes), list(range(vector.lanes)))
        undefined = ir.Constant(numbers.type, ir.Undefined)
        first = builder.insert_element(undefined, arguments[1], ir.Constant(INT32, 0))
        wanted = builder.shuffle_vector(first, undefined, ir.Constant(ir.VectorType(INT32, vector.lanes), None))
        return builder.select(builder.icmp_signed("==", numbers, wanted), constant(vector, 1.0), constant(vector, 0.0))

    return vector(array, types.intp), codegen


def known(find, prefer_literal=False):
    """An intrinsic whose result is a whole number that follows from the arguments' types: find(array, *literals)."""

    def typed(array, *literals):
        number = find(array, *(literal.literal_value for literal in literals))
        return types.intp(array, *literals), lambda context, builder, sig, arguments: ir.Constant(INT64, number)

    if prefer_literal:
        return intrinsic(prefer_literal=True)(lambda typingctx, array, literal: typed(array, literal))
    return intrinsic(lambda typingctx, array: typed(array))


_lanes = known(lambda array: lanes_of(array.dtype))


# -- arithmetic


def _elementwise(build, count):
    """An intrinsic of one, two or three vectors (numbers among them are spread) with a vector as its result."""

    def typed(*kinds):
        vector = next((kind for kind in kinds if isinstance(kind, Vector)), None)
        if vector is None:
            return None

        def codegen(context, builder, sig, arguments):
            return build(builder, vector, *_as_vectors(context, builder, vector, sig.args, arguments))

        return vector(*kinds), codegen

    one, two, three = (
        lambda typingctx, a: typed(a),
        lambda typingctx, a, b: typed(a, b),
        lambda typingctx, a, b, c: typed(a, b, c),
    )
    return intrinsic((one, two, three)[count - 1])


def _as_vectors(context, builder, vector, kinds, values):
    """Values as vectors: numbers are spread."""
    return [
        value if isinstance(kind, Vector) else spread(builder, vector, context.cast(builder, value, kind, vector.real))
        for kind, value in zip(kinds, values, strict=True)
    ]


def _bits(builder, vector, value):
    return builder.bitcast(value, vector.integers)


def _scale(builder, vector, x, n):
    """x 2**n for whole n: n goes into the exponent of 1, and one below the least exponent gives 0. NaN gives anything.

    Adding 1.5 2**23 (2**52) leaves n in the low bits of the sum, which is defined for all n; LLVM's conversion is not.
    """
    mantissa, bias = (52, 1023) if vector.double else (23, 127)
    magic, bits = (1.5 * 2**52, 0x4338000000000000) if vector.double else (1.5 * 2**23, 0x4B400000)
    number = _bits(builder, vector, builder.fadd(n, constant(vector, magic)))
    power = builder.add(number, constant(vector, bias - bits))
    return builder.fmul(x, builder.bitcast(builder.shl(power, constant(vector, mantissa)), vector.llvm))


# The exponent and mantissa of x: subtracting the bits of sqrt(1/2) makes the exponent field the wanted one.
_ROOT = {True: 0x3FE6A09E667F3BCD, False: 0x3F3504F3}


def _exponent(builder, vector, x):
    shift = constant(vector, 52 if vector.double else 23)
    number = builder.ashr(builder.sub(_bits(builder, vector, x), constant(vector, _ROOT[vector.double])), shift)
    return builder.sitofp(number, vector.llvm)


def _mantissa(builder, vector, x):
    shift = constant(vector, 52 if vector.double else 23)
    bits = _bits(builder, vector, x)
    number = builder.ashr(builder.sub(bits, constant(vector, _ROOT[vector.double])), shift)
    return builder.bitcast(builder.sub(bits, builder.shl(number, shift)), vector.llvm)


def _called(name):
    return lambda builder, vector, *values: llvm_call(builder, name, vector, list(values))


_fma = _elementwise(multiply_add, 3)
magnitude = _elementwise(_called("fabs"), 1)
root = _elementwise(_called("sqrt"), 1)
_nearest = _elementwise(_called("rint"), 1)
_copysign = _elementwise(_called("copysign"), 2)
_scaled = _elementwise(_scale, 2)
_exponent_of = _elementwise(_exponent, 1)
_mantissa_of = _elementwise(_mantissa, 1)


@intrinsic
def select(typingctx, mask, a, b):
    if not isinstance(mask, Mask):
        return None
    vector = mask.vector

    def codegen(context, builder, sig, arguments):
        a, b = _as_vectors(context, builder, vector, sig.args[1:], arguments[1:])
        return builder.select(arguments[0], a, b)

    return vector(mask, a, b), codegen


def _reduction(build):
    @intrinsic
    def operation(typingctx, value):
        if isinstance(value, Vector):
            return value.real(value), lambda context, builder, sig, arguments: build(builder, value, arguments[0])
        return None

    return operation


def _folded(builder, vector, value, join):
    """All lanes joined, by halves. (LLVM's own reduction to a maximum goes lane by lane: 3 times as slow.)"""
    distance = vector.lanes // 2
    while distance:
        order = [(k + distance) % vector.lanes for k in range(vector.lanes)]
        mask = ir.Constant(ir.VectorType(INT32, vector.lanes), order)
        value = join(value, builder.shuffle_vector(value, value, mask))
        distance //= 2
    return builder.extract_element(value, ir.Constant(INT32, 0))


def _sum(builder, vector, value):
    return _folded(builder, vector, value, lambda a, b: builder.fadd(a, b))


def _maximum(builder, vector, value):
    return _folded(builder, vector, value, lambda a, b: builder.select(builder.fcmp_ordered(">", a, b), a, b))


_sum_of, _max_of = _reduction(_sum), _reduction(_maximum)


def _operator(symbol, build, compares=False):
    """Make an operator work on two vectors, or on a vector and a number."""

    @infer_global(symbol)
    class Template(AbstractTemplate):
        def generic(self, arguments, keywords):
            vector = next((kind for kind in arguments if isinstance(kind, Vector)), None)
            if vector is None or not all(kind == vector or isinstance(kind, types.Number) for kind in arguments):
                return None
            return signature(Mask(vector) if compares else vector, *arguments)

    def lower(context, builder, sig, arguments):
        vector = next(kind for kind in sig.args if isinstance(kind, Vector))
        return build(builder, *_as_vectors(context, builder, vector, sig.args, arguments))

    for kinds in ((Vector, Vector), (Vector, types.Number), (types.Number, Vector)):
        lower_builtin(symbol, *kinds)(lower)


def _fast(name):
    return lambda builder, *values: getattr(builder, name)(*values, flags=FAST)


for _name, _symbols in {
    "fadd": (operator.add, operator.iadd),
    "fsub": (operator.sub, operator.isub),
    "fmul": (operator.mul, operator.imul),
    "fdiv": (operator.truediv, operator.itruediv),
}.items():
    for _symbol in _symbols:
        _operator(_symbol, _fast(_name))
for _symbol, _name in ((operator.lt, "<"), (operator.le, "<="), (operator.gt, ">"), (operator.ge, ">=")):
    _operator(_symbol, lambda builder, a, b, name=_name: builder.fcmp_ordered(name, a, b), compares=True)


@infer_global(operator.neg)
class _Negative(AbstractTemplate):
    def generic(self, arguments, keywords):
        return signature(arguments[0], arguments[0]) if isinstance(arguments[0], Vector) else None


@lower_builtin(operator.neg, Vector)
def _negative(context, builder, sig, arguments):
    return builder.fneg(arguments[0])


# -- the names that kernels use

if JIT:
    load, load_few, store, at, splat, first_lanes = _loader(PANEL), _loader(FEW), _store, _at, _splat, _first_lanes
    lanes, one_lane = _lanes, _one_lane
    fma, nearest, copysign, scale = _fma, _nearest, _copysign, _scaled
    exponent, mantissa, sum_of, max_of = _exponent_of, _mantissa_of, _sum_of, _max_of

else:
    from numbanet.kernels.cpu.plain import (
        at,
        copysign,
        exponent,
        first_lanes,
        fma,
        lanes,
        load,
        load_few,
        mantissa,
        max_of,
        nearest,
        one_lane,
        scale,
        splat,
        store,
        sum_of,
    )

__all__ = [
    "at",
    "copysign",
    "exponent",
    "first_lanes",
    "fma",
    "lanes",
    "load",
    "load_few",
    "mantissa",
    "max_of",
    "nearest",
    "one_lane",
    "scale",
    "splat",
    "store",
    "sum_of",
]
