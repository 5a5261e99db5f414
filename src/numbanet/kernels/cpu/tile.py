"""Register tiles: rows x vectors of accumulators, the inner part of every matrix product.

A tile is a Numba value. It stays in registers from tile_zero or tile_load to tile_store; between them, tile_product
does two or more fused multiply-adds for each number that it broadcasts. A tile of 8 x 2 vectors runs at 98% of the
peak rate of one core.

Pointers come from simd.at. Row r, vector v of a tile lies at pointer + r row_step + v vector_step, in elements.

Under NUMBA_DISABLE_JIT=1 a tile is a NumPy array (rows, vectors, lanes), a pointer a flat array.
"""

from __future__ import annotations

from llvmlite import ir
from numba import types
from numba.core.datamodel import models, register_default
from numba.extending import intrinsic

from numbanet.kernels import PANEL
from numbanet.kernels.cpu.plain import FEW, lanes_of, panel_shape
from numbanet.kernels.cpu.simd import INT32, INT64, Vector, constant, known, multiply_add, read, spread, write
from numbanet.kernels.jit import JIT


class Tile(types.Type):
    """rows x vectors vectors."""

    def __init__(self, vector, rows, vectors):
        self.vector, self.rows, self.vectors = vector, rows, vectors
        super().__init__(name=f"tile {rows}x{vectors} of {vector.name}")

    @property
    def places(self):
        """(row, vector) of each accumulator in order."""
        return [(r, v) for r in range(self.rows) for v in range(self.vectors)]


@register_default(Tile)
class _TileModel(models.PrimitiveModel):
    def __init__(self, manager, kind):
        super().__init__(manager, kind, ir.ArrayType(kind.vector.llvm, kind.rows * kind.vectors))


def _packed(builder, tile, values):
    """Accumulators as one Numba value."""
    packed = ir.Constant(ir.ArrayType(tile.vector.llvm, len(values)), ir.Undefined)
    for k, value in enumerate(values):
        packed = builder.insert_value(packed, value, k)
    return packed


def _unpacked(builder, tile, packed):
    return [builder.extract_value(packed, k) for k in range(len(tile.places))]


def _step(builder, pointer, step, count):
    """pointer + count steps"""
    return builder.gep(pointer, [builder.mul(step, ir.Constant(INT64, count))])


def _place(builder, pointer, row_step, vector_step, place):
    row, vector = place
    return _step(builder, _step(builder, pointer, row_step, row), vector_step, vector)


def _tile_of(rows, vectors, pointer, most):
    vector = Vector(pointer.dtype, min(most, lanes_of(pointer.dtype)))
    return Tile(vector, rows.literal_value, vectors.literal_value)


def _zeros(most):
    @intrinsic(prefer_literal=True)
    def zero(typingctx, rows, vectors, pointer):
        tile = _tile_of(rows, vectors, pointer, most)

        def codegen(context, builder, signature, arguments):
            return ir.Constant(ir.ArrayType(tile.vector.llvm, len(tile.places)), None)

        return tile(rows, vectors, pointer), codegen

    return zero


def _loader(most):
    @intrinsic(prefer_literal=True)
    def load(typingctx, rows, vectors, pointer, row_step, vector_step):
        tile = _tile_of(rows, vectors, pointer, most)

        def codegen(context, builder, signature, arguments):
            where = arguments[2:]
            values = [read(builder, _place(builder, *where, place), tile.vector) for place in tile.places]
            return _packed(builder, tile, values)

        return tile(rows, vectors, pointer, types.intp, types.intp), codegen

    return load


def _panel_tile(sums, pointer):
    vector = Vector(pointer.dtype)
    return Tile(vector, *panel_shape(sums.literal_value, vector.lanes))


@intrinsic(prefer_literal=True)
def _panel_zero(typingctx, sums, pointer):
    tile = _panel_tile(sums, pointer)

    def codegen(context, builder, signature, arguments):
        return ir.Constant(ir.ArrayType(tile.vector.llvm, len(tile.places)), None)

    return tile(sums, pointer), codegen


@intrinsic(prefer_literal=True)
def _panel_load(typingctx, sums, pointer, row_step):
    tile = _panel_tile(sums, pointer)

    def codegen(context, builder, signature, arguments):
        where = *arguments[1:], ir.Constant(INT64, tile.vector.lanes)
        values = [read(builder, _place(builder, *where, place), tile.vector) for place in tile.places]
        return _packed(builder, tile, values)

    return tile(sums, pointer, types.intp), codegen


@intrinsic
def _tile_store(typingctx, tile, pointer, row_step, vector_step):
    def codegen(context, builder, signature, arguments):
        for place, value in zip(tile.places, _unpacked(builder, tile, arguments[0]), strict=True):
            write(builder, _place(builder, *arguments[1:], place), value, tile.vector)
        return context.get_dummy_value()

    return types.void(tile, pointer, types.intp, types.intp), codegen


@intrinsic
def _tile_floor(typingctx, tile, least):
    def codegen(context, builder, signature, arguments):
        floor = spread(builder, tile.vector, arguments[1])
        values = [
            builder.select(builder.fcmp_ordered("<", value, floor), floor, value)
            for value in _unpacked(builder, tile, arguments[0])
        ]
        return _packed(builder, tile, values)

    return tile(tile, tile.vector.real), codegen


def _never_unroll(module, branch):
    """Mark a loop: its 16 or more multiply-adds need no unrolling, which would only make compiling slow."""
    disable = module.add_metadata([ir.MetaDataString(module, "llvm.loop.unroll.disable")])
    identity = module.add_metadata([disable, disable])  # LLVM knows a loop by a node whose first operand is itself
    identity.operands = (identity, disable)
    branch.set_metadata("llvm.loop", identity)


@intrinsic
def _tile_product(typingctx, tile, a, a_row, a_depth, b, b_panel, b_depth, depth):
    def codegen(context, builder, signature, arguments):
        start, a, a_row, a_depth, b, b_panel, b_depth, depth = arguments
        before, body, after = builder.block, *(builder.append_basic_block(name) for name in ("depth", "done"))
        zero = ir.Constant(INT64, 0)
        started = _unpacked(builder, tile, start)
        builder.cbranch(builder.icmp_signed(">", depth, zero), body, after)
        builder.position_at_end(body)
        carried = [builder.phi(value.type) for value in (zero, a, b, *started)]
        for value, first in zip(carried, (zero, a, b, *started), strict=True):
            value.add_incoming(first, before)
        k, a_here, b_here, *sums = carried
        vectors = []
        for v in range(tile.vectors):
            panel, column = divmod(v * tile.vector.lanes, PANEL)
            place = builder.gep(_step(builder, b_here, b_panel, panel), [ir.Constant(INT64, column)])
            vectors.append(read(builder, place, tile.vector))
        added = []
        for row in range(tile.rows):
            number = spread(builder, tile.vector, builder.load(_step(builder, a_here, a_row, row)))
            for v in range(tile.vectors):
                added.append(multiply_add(builder, tile.vector, number, vectors[v], sums[len(added)]))
        k_next = builder.add(k, ir.Constant(INT64, 1))
        ahead = [k_next, builder.gep(a_here, [a_depth]), builder.gep(b_here, [b_depth]), *added]
        for value, following in zip(carried, ahead, strict=True):
            value.add_incoming(following, body)
        back = builder.cbranch(builder.icmp_signed("<", k_next, depth), body, after)
        _never_unroll(builder.module, back)
        builder.position_at_end(after)
        results = [builder.phi(tile.vector.llvm) for _ in started]
        for result, first, last in zip(results, started, added, strict=True):
            result.add_incoming(first, before)
            result.add_incoming(last, body)
        return _packed(builder, tile, results)

    n = types.intp
    return tile(tile, a, n, n, b, n, n, n), codegen


def _swapped(builder, vector, rows, distance):
    """One stage of transposing a square: elements `distance` apart in rows and lanes change places."""
    lanes = vector.lanes
    low = [k if not k & distance else lanes + k - distance for k in range(lanes)]
    high = [k + distance if not k & distance else lanes + k for k in range(lanes)]
    result = list(rows)
    for k in range(lanes):
        if not k & distance:
            for target, order in ((k, low), (k + distance, high)):
                mask = ir.Constant(ir.VectorType(INT32, lanes), order)
                result[target] = builder.shuffle_vector(rows[k], rows[k + distance], mask)
    return result


@intrinsic
def _transpose(typingctx, source, source_step, rows, target, target_step, columns):
    vector = Vector(source.dtype)

    def codegen(context, builder, signature, arguments):
        source, source_step, rows, target, target_step, columns = arguments
        square = []
        for k in range(vector.lanes):
            before = builder.block
            with builder.if_then(builder.icmp_signed("<", ir.Constant(INT64, k), rows)):
                value, inside = read(builder, _step(builder, source, source_step, k), vector), builder.block
            row = builder.phi(vector.llvm)
            row.add_incoming(constant(vector, 0.0), before)
            row.add_incoming(value, inside)
            square.append(row)
        distance = vector.lanes // 2
        while distance:
            square = _swapped(builder, vector, square, distance)
            distance //= 2
        for k, row in enumerate(square):
            with builder.if_then(builder.icmp_signed("<", ir.Constant(INT64, k), columns)):
                write(builder, _step(builder, target, target_step, k), row, vector)
        return context.get_dummy_value()

    n = types.intp
    return types.void(source, n, n, target, n, n), codegen


_panel_rows = known(lambda array, sums: panel_shape(sums, lanes_of(array.dtype))[0], prefer_literal=True)
_panel_width = known(lambda array: panel_shape(1, lanes_of(array.dtype))[1] * lanes_of(array.dtype))

if JIT:
    tile_zero, tile_load, tile_store = _zeros(PANEL), _loader(PANEL), _tile_store
    few_zero, few_load = _zeros(FEW), _loader(FEW)
    tile_floor, tile_product, transpose = _tile_floor, _tile_product, _transpose
    panel_zero, panel_load = _panel_zero, _panel_load

    panel_rows, panel_width = _panel_rows, _panel_width

else:
    from numbanet.kernels.cpu.plain import (
        few_load,
        few_zero,
        panel_load,
        panel_rows,
        panel_width,
        panel_zero,
        tile_floor,
        tile_load,
        tile_product,
        tile_store,
        tile_zero,
        transpose,
    )

__all__ = [
    "few_load",
    "few_zero",
    "panel_load",
    "panel_rows",
    "panel_width",
    "panel_zero",
    "tile_floor",
    "tile_load",
    "tile_product",
    "tile_store",
    "tile_zero",
    "transpose",
]
