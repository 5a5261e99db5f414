"""Register tiles: what one thread computes of a matrix product.

Values are tuples of numbers, which the compiler keeps in registers: four in a row of memory, or a tile of rows x
columns accumulators one row after the other. In the simulator they are tuples of NumPy's numbers.
"""

from __future__ import annotations

from llvmlite import ir

from numbanet.kernels.cuda.target import SIMULATED, intrinsic, types

FOUR = 4  # numbers that are read at once: 16 bytes of float32, the most that one instruction reads
INT32 = ir.IntType(32)

if SIMULATED:

    def load4(pointer, index):
        return tuple(pointer[index : index + FOUR])

    def tile_zeros(count):
        return lambda like: (like.dtype.type(0),) * count

    def outer(tile, a, b):
        products = [x * y for x in a for y in b]
        return tuple(t + product for t, product in zip(tile, products, strict=True))

    def at_least(tile, least):
        return tuple(least if value <= least else value for value in tile)

    def store_rows(tile, pointer, index, step, rows):
        for r in range(min(int(rows), len(tile) // FOUR)):
            pointer[index + r * step : index + r * step + FOUR] = tile[r * FOUR : (r + 1) * FOUR]

    def spread(tile, pointer, index, step):
        for k, value in enumerate(tile):
            pointer[index + k * step] = value

    def gathered(tile, pointer, index, step):
        return tuple(value + pointer[index + k * step] for k, value in enumerate(tile))

else:

    def _several(real):
        return ir.VectorType(ir.DoubleType() if real is types.float64 else ir.FloatType(), FOUR)

    def _place4(builder, real, pointer, index):
        return builder.bitcast(builder.gep(pointer, [index]), _several(real).as_pointer())

    def _packed(builder, values):
        """Numbers as one Numba tuple."""
        packed = ir.Constant(ir.ArrayType(values[0].type, len(values)), ir.Undefined)
        for k, value in enumerate(values):
            packed = builder.insert_value(packed, value, k)
        return packed

    def _unpacked(builder, kind, packed):
        return [builder.extract_value(packed, k) for k in range(kind.count)]

    @intrinsic
    def load4(typingctx, pointer, index):
        """Four numbers from pointer[index] on, which must lie at a multiple of 16 bytes"""
        several = types.UniTuple(pointer.dtype, FOUR)

        def codegen(context, builder, signature, arguments):
            value = builder.load(_place4(builder, pointer.dtype, *arguments))
            value.align = 16
            return _packed(builder, [builder.extract_element(value, ir.Constant(INT32, k)) for k in range(FOUR)])

        return several(pointer, types.int64), codegen

    def tile_zeros(count):
        """like -> a tile of so many zeros of a pointer's type"""

        @intrinsic
        def zeros(typingctx, like):
            tile = types.UniTuple(like.dtype, count)
            return tile(like), lambda context, builder, signature, arguments: ir.Constant(
                context.get_value_type(tile), None
            )

        return zeros

    @intrinsic
    def outer(typingctx, tile, a, b):
        """tile[i, j] + a[i] b[j]"""

        def codegen(context, builder, signature, arguments):
            sums, left, right = (
                _unpacked(builder, kind, value) for kind, value in zip(signature.args, arguments, strict=True)
            )
            real = left[0].type
            kind = ir.FunctionType(real, [real] * 3)
            fma = builder.module.declare_intrinsic("llvm.fma", [real], kind)
            products = [(x, y) for x in left for y in right]
            return _packed(builder, [builder.call(fma, [x, y, t]) for t, (x, y) in zip(sums, products, strict=True)])

        return tile(tile, a, b), codegen

    @intrinsic
    def at_least(typingctx, tile, least):
        """The larger of tile[k] and least; NaN stays NaN"""

        def codegen(context, builder, signature, arguments):
            values, least = _unpacked(builder, tile, arguments[0]), arguments[1]
            return _packed(
                builder, [builder.select(builder.fcmp_ordered("<=", value, least), least, value) for value in values]
            )

        return tile(tile, tile.dtype), codegen

    @intrinsic
    def store_rows(typingctx, tile, pointer, index, step, rows):
        """Write the first rows of a tile of four columns, row r from pointer[index + r step] on (16 bytes aligned)"""

        def codegen(context, builder, signature, arguments):
            values, (_, pointer, index, step, rows) = _unpacked(builder, tile, arguments[0]), arguments
            for r in range(tile.count // FOUR):
                with builder.if_then(builder.icmp_signed(">", rows, ir.Constant(rows.type, r))):
                    together = ir.Constant(_several(tile.dtype), ir.Undefined)
                    for k in range(FOUR):
                        together = builder.insert_element(together, values[r * FOUR + k], ir.Constant(INT32, k))
                    builder.store(together, _place4(builder, tile.dtype, pointer, index)).align = 16
                index = builder.add(index, step)
            return context.get_dummy_value()

        return types.void(tile, pointer, types.int64, types.int64, types.int64), codegen

    def _places(builder, pointer, index, step, count):
        for _ in range(count):
            yield builder.gep(pointer, [index])
            index = builder.add(index, step)

    @intrinsic
    def spread(typingctx, tile, pointer, index, step):
        """pointer[index + k step] = tile[k]"""

        def codegen(context, builder, signature, arguments):
            values = _unpacked(builder, tile, arguments[0])
            for value, place in zip(values, _places(builder, *arguments[1:], tile.count), strict=True):
                builder.store(value, place)
            return context.get_dummy_value()

        return types.void(tile, pointer, types.int64, types.int64), codegen

    @intrinsic
    def gathered(typingctx, tile, pointer, index, step):
        """tile[k] + pointer[index + k step]"""

        def codegen(context, builder, signature, arguments):
            values = _unpacked(builder, tile, arguments[0])
            places = _places(builder, *arguments[1:], tile.count)
            sums = [builder.fadd(value, builder.load(place)) for value, place in zip(values, places, strict=True)]
            return _packed(builder, sums)

        return tile(tile, pointer, types.int64, types.int64), codegen
