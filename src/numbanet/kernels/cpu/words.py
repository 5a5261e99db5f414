"""Vectors of whole numbers, 32 bits of each in use, as Numba values: what random numbers are made of.

numbanet.kernels.random.philox works on them as on numbers, one counter a lane. Four words come of a counter, for four
columns in a row: `interleave` brings what was made of them into the order of columns.

Without a compiler such a vector is a NumPy array of uint64 (see plain.py).
"""

from __future__ import annotations

import operator

from llvmlite import ir
from numba import types
from numba.core.datamodel import models, register_default
from numba.core.imputils import lower_builtin
from numba.core.typing.templates import AbstractTemplate, infer_global, signature
from numba.extending import intrinsic

from numbanet.kernels.cpu.simd import INT32, INT64, Mask, Vector
from numbanet.kernels.jit import JIT


class Words(types.Type):
    """As many whole numbers as a vector has lanes."""

    def __init__(self, vector):
        self.vector = vector
        self.llvm = ir.VectorType(INT64, vector.lanes)
        super().__init__(name=f"words of {vector.name}")


@register_default(Words)
class _WordsModel(models.PrimitiveModel):
    def __init__(self, manager, kind):
        super().__init__(manager, kind, kind.llvm)


def _spread(builder, words, number):
    undefined = ir.Constant(words.llvm, ir.Undefined)
    first = builder.insert_element(undefined, number, ir.Constant(INT32, 0))
    return builder.shuffle_vector(first, undefined, ir.Constant(ir.VectorType(INT32, words.vector.lanes), None))


def _operator(symbol, name):
    """Make an operator work on two vectors of words, or on one and a number."""

    @infer_global(symbol)
    class Template(AbstractTemplate):
        def generic(self, arguments, keywords):
            words = next((kind for kind in arguments if isinstance(kind, Words)), None)
            if words is None or not all(kind == words or isinstance(kind, types.Integer) for kind in arguments):
                return None
            return signature(words, *arguments)

    def lower(context, builder, sig, arguments):
        values = [
            value if isinstance(kind, Words) else _spread(builder, sig.return_type, value)
            for kind, value in zip(sig.args, arguments, strict=True)
        ]
        return getattr(builder, name)(*values)

    for kinds in ((Words, Words), (Words, types.Integer), (types.Integer, Words)):
        lower_builtin(symbol, *kinds)(lower)


for _symbol, _name in (
    (operator.mul, "mul"),
    (operator.xor, "xor"),
    (operator.and_, "and_"),
    (operator.rshift, "lshr"),
):
    _operator(_symbol, _name)


@intrinsic
def _same_word(typingctx, like, number):
    words = Words(Vector(like.dtype))
    return words(like, number), lambda context, builder, sig, arguments: _spread(builder, words, arguments[1])


@intrinsic
def _counting(typingctx, like, first):
    words = Words(Vector(like.dtype))

    def codegen(context, builder, sig, arguments):
        numbers = ir.Constant(words.llvm, list(range(words.vector.lanes)))
        return builder.add(_spread(builder, words, arguments[1]), numbers)

    return words(like, first), codegen


@intrinsic
def _below(typingctx, words, limit):
    def codegen(context, builder, sig, arguments):
        return builder.icmp_signed("<", arguments[0], _spread(builder, words, arguments[1]))

    return Mask(words.vector)(words, limit), codegen


@intrinsic
def _as_real(typingctx, like, words):
    vector = words.vector

    def codegen(context, builder, sig, arguments):
        short = builder.trunc(arguments[1], ir.VectorType(INT32, vector.lanes))
        return builder.uitofp(short, vector.llvm)

    return vector(like, words), codegen


@intrinsic
def _interleave(typingctx, a, b, c, d):
    if not all(kind == a for kind in (b, c, d)):
        return None

    def codegen(context, builder, sig, arguments):
        def shuffled(first, second, order):
            return builder.shuffle_vector(first, second, ir.Constant(ir.VectorType(INT32, len(order)), order))

        lanes = a.lanes
        pairs = [k // 2 + lanes * (k % 2) for k in range(2 * lanes)]
        left, right = (shuffled(*two, pairs) for two in (arguments[:2], arguments[2:]))
        parts = []
        for begin in range(0, 4 * lanes, lanes):
            numbers = [divmod(k, 4) for k in range(begin, begin + lanes)]
            parts.append(shuffled(left, right, [2 * q + w % 2 + 2 * lanes * (w // 2) for q, w in numbers]))
        return context.make_tuple(builder, sig.return_type, parts)

    return types.UniTuple(a, 4)(a, b, c, d), codegen


if JIT:
    same_word, counting, below, as_real, interleave = _same_word, _counting, _below, _as_real, _interleave
else:
    from numbanet.kernels.cpu.plain import as_real, below, counting, interleave, same_word

__all__ = ["Words", "as_real", "below", "counting", "interleave", "same_word"]
