"""Matrix products and transposes: any shape, any cut, NaN, and pages that must not be touched.

Everything around an operand is NaN (see memories.py), so that what is read beyond it shows in a result.
"""

import itertools
import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from memories import Apart, Guarded, Memory, call, op_row

import numbanet as nn
from numbanet.graph import Parameter, padded
from numbanet.kernels import DTYPES, OPERAND, PANEL, SIZES, cpu
from numbanet.kernels.jit import JIT

REALS = ["float32", "float64"]
EXTENTS = [1, 2, 3, 5, 7, 8, 9, 13, 16, 17, 31, 33, 48, 65, 100]
DEEP = [127, 128, 129, 256, 257, 300]  # rows around those that a gradient takes at a time


def cuts(first, last, block):
    """Pieces of at most `block` rows."""
    return [(at, min(at + block, last)) for at in range(first, last, block)]


def multiplied(x, kernel, bias=None, relu=0, dtype="float32", pieces=None, name="dense_forward", columns=0):
    """y = x @ kernel + bias by one of the two ops that multiply, computed in pieces; y was 7 before.

    Pieces are of rows, or with columns=1 of panels of columns.
    """
    memory, (inputs, units) = Memory(dtype), kernel.shape
    given_x, panels = memory.rows(x), memory.panels(kernel)
    result = memory.rows(np.full((len(x), padded(units)), 7.0))
    if name == "dense_forward":
        given_bias = (0, 0, PANEL) if bias is None else memory.panels(bias[None])
        row = op_row(
            name, [given_x, panels, given_bias, result], inputs=inputs, units=units, relu=relu, columns=columns
        )
    else:  # dx = dy @ transposed kernel: inputs and units change places
        row = op_row(name, [given_x, panels, result], inputs=units, units=inputs, columns=columns)
    flat = memory.filled()
    for first, last in pieces or [(0, len(x))]:
        call(name, dtype, row, (flat, flat), len(x), first, last)
    return memory.alone(flat, result)[:, :units]


def correlated(x, dy, dtype="float32", block=None, depth=None):
    """g = x.T @ dy over the first `depth` rows, computed in blocks of rows of g's panels."""
    memory, inputs, units = Memory(dtype), x.shape[1], dy.shape[1]
    found = []
    given_x, given_dy = memory.rows(x), memory.rows(dy)
    result = memory.panels(np.full((inputs, padded(units)), 7.0))
    row = op_row("dense_backward_kernel", [given_x, given_dy, result], inputs=inputs, units=units)
    for first, last in cuts(0, result[1], block or result[1]):  # each lies at the beginning of scratch memory
        flat = memory.filled()
        call("dense_backward_kernel", dtype, row, (flat, flat), len(x) if depth is None else depth, first, last)
        g = memory.alone(flat, result)
        assert np.all(g[last - first :] == 7), "rows beyond the block were written to"
        found.append(g[: last - first])
    whole = Parameter("", (inputs, padded(units)), 0).unpack(np.concatenate(found).ravel())
    if np.isfinite(x).all() and np.isfinite(dy).all():
        assert not whole[:, units:].any(), "padding of a gradient is not zero"
    return whole[:, :units]


def transposed(values, dtype="float32", block=None):
    """The transpose, in panels and back, computed in whole panels or in blocks of their rows."""
    memory, rows = Memory(dtype), len(values)
    source, target = memory.panels(values), memory.panels(np.zeros(values.shape[::-1]))
    row = op_row("transpose", [source, target], inputs=rows, units=values.shape[1])
    flat = memory.filled()
    panels = range(0, source[1], rows)
    pieces = [(panel + a, panel + b) for panel in panels for a, b in cuts(0, rows, block)] if block else []
    for first, last in pieces or [(0, source[1])]:
        call("transpose", dtype, row, (flat, flat), 1, first, last)
    panels = memory.alone(flat, target)
    whole = Parameter("", (values.shape[1], padded(rows)), 0).unpack(panels.ravel())
    assert not whole[:, rows:].any(), "padding of the transpose is not zero"
    return whole[:, :rows]


def close(found, left, right, bias=0.0, relu=0):
    """Is it left @ right + bias to the rounding of each of its terms?"""
    left, right = left.astype(np.float64), right.astype(np.float64)
    exact, size = left @ right + bias, np.abs(left) @ np.abs(right) + np.abs(bias)
    if relu:
        exact = np.maximum(exact, 0)
    return np.all(np.abs(found - exact) <= (left.shape[1] + 2) * np.finfo(found.dtype).eps * size)


def drawn(shape, dtype, seed=0):
    return np.random.default_rng([seed, *shape]).standard_normal(shape).astype(dtype)


def check_products(rows, depth, columns, dtype, bias, relu, seed=0):
    """All three products and the transpose of one shape."""
    x, kernel, dy = (drawn(s, dtype, seed) for s in ((rows, depth), (depth, columns), (rows, columns)))
    added = drawn((columns,), dtype, seed) if bias else None
    label = f"{rows} x {depth} x {columns}, {dtype}, bias {bias}, relu {relu}"
    found = multiplied(x, kernel, added, relu, dtype)
    assert close(found, x, kernel, added.astype(np.float64) if bias else 0.0, relu), label
    assert close(multiplied(dy, kernel.T, dtype=dtype, name="dense_backward_input"), dy, kernel.T), label
    assert close(correlated(x, dy, dtype), x.T, dy), label
    assert np.array_equal(transposed(kernel, dtype), kernel.T), label


# -- right


@pytest.mark.parametrize("dtype", REALS)
@pytest.mark.parametrize("columns", [1, 5, 16, 17, 33, 48, 65])
def test_products_of_small_shapes(columns, dtype):
    for rows, depth in [(1, 1), (1, 9), (2, 3), (7, 1), (8, 8), (9, 5), (13, 17)]:
        check_products(rows, depth, columns, dtype, bias=rows % 2, relu=depth % 2)


@pytest.mark.compiled
@pytest.mark.parametrize("dtype", REALS)
@pytest.mark.parametrize("rows", EXTENTS)
def test_products_of_all_shapes(rows, dtype):
    for number, (depth, columns) in enumerate(itertools.product(EXTENTS, EXTENTS)):
        check_products(rows, depth, columns, dtype, bias=number % 2, relu=number // 2 % 2)


@pytest.mark.parametrize("dtype", REALS)
@pytest.mark.parametrize("rows", DEEP)
def test_gradients_of_many_rows(rows, dtype):
    x, dy = drawn((rows, 9), dtype), drawn((rows, 21), dtype)
    whole = correlated(x, dy, dtype)
    assert close(whole, x.T, dy)
    if JIT:
        assert np.array_equal(correlated(x, dy, dtype, block=1), whole)
    x = np.vstack([x, np.full((3, 9), np.nan, dtype)])  # beyond a short batch
    assert np.array_equal(correlated(x, np.vstack([dy, dy[:3]]), dtype, depth=rows), whole)


ROWS = st.integers(1, 300)
SIZE = st.integers(1, 120)


@pytest.mark.compiled
@settings(deadline=None, max_examples=60)
@given(ROWS, SIZE, SIZE, st.sampled_from(REALS), st.booleans(), st.booleans(), st.integers(0, 999))
def test_products_of_any_shape(rows, depth, columns, dtype, bias, relu, seed):
    check_products(rows, depth, columns, dtype, bias, int(relu), seed)


@pytest.mark.parametrize("dtype", REALS)
def test_only_the_rows_asked_for_are_written(dtype):
    x, kernel = drawn((21, 6), dtype), drawn((6, 37), dtype)
    whole = multiplied(x, kernel, dtype=dtype)
    for first, last in [(0, 1), (3, 17), (20, 21), (5, 5)]:
        found = multiplied(x, kernel, dtype=dtype, pieces=[(first, last)])
        assert close(found[first:last], x[first:last], kernel)
        assert np.all(np.delete(found, np.s_[first:last], axis=0) == 7)
        assert whole.shape == found.shape


@pytest.mark.parametrize("dtype", REALS)
def test_transposes_in_pieces(dtype):
    for shape in [(1, 1), (17, 3), (40, 33), (65, 16)]:
        values = drawn(shape, dtype)
        assert np.array_equal(transposed(values, dtype, PANEL), values.T)


@pytest.mark.parametrize("dtype", REALS)
def test_strides_wider_than_rows(dtype):
    """Rows may lie further apart than they are wide; what lies between them is not looked at."""
    x, kernel = drawn((11, 5), dtype), drawn((5, 20), dtype)
    memory = Memory(dtype)
    wide = np.full((11, 48), np.nan, dtype)
    wide[:, :5] = x
    operands = [memory.rows(wide, 48), memory.panels(kernel), (0, 0, PANEL), memory.rows(np.full((11, 80), 7.0))]
    flat = memory.filled()
    row = op_row("dense_forward", operands, inputs=5, units=20, relu=0)
    call("dense_forward", dtype, row, (flat, flat), 11, 0, 11)
    y = memory.alone(flat, operands[3])
    assert close(y[:, :20], x, kernel)
    assert np.all(y[:, 32:] == 7)


# -- the same bits however rows are cut


@pytest.mark.compiled
@settings(deadline=None, max_examples=40)
@given(ROWS, SIZE, SIZE, st.sampled_from(REALS), st.booleans(), st.integers(1, 20))
def test_bits_do_not_depend_on_the_cut(rows, depth, columns, dtype, relu, block):
    x, kernel, dy = drawn((rows, depth), dtype), drawn((depth, columns), dtype), drawn((rows, columns), dtype)
    bias = drawn((columns,), dtype)
    forward = multiplied(x, kernel, bias, int(relu), dtype)
    backward = multiplied(dy, kernel.T, dtype=dtype, name="dense_backward_input")
    gradient = correlated(x, dy, dtype)
    for size in (1, 3, block):
        pieces = cuts(0, rows, size)
        assert np.array_equal(multiplied(x, kernel, bias, int(relu), dtype, pieces), forward)
        assert np.array_equal(
            multiplied(dy, kernel.T, dtype=dtype, pieces=pieces, name="dense_backward_input"), backward
        )
        assert np.array_equal(correlated(x, dy, dtype, size), gradient)
        pieces = cuts(0, padded(columns) // PANEL, size)
        assert np.array_equal(multiplied(x, kernel, bias, int(relu), dtype, pieces, columns=1), forward)
        pieces = cuts(0, padded(depth) // PANEL, size)
        found = multiplied(dy, kernel.T, dtype=dtype, pieces=pieces, name="dense_backward_input", columns=1)
        assert np.array_equal(found, backward)


@pytest.mark.compiled
@pytest.mark.parametrize("dtype", REALS)
def test_bits_of_a_row_do_not_depend_on_its_neighbours(dtype):
    x, kernel = drawn((40, 33), dtype), drawn((33, 50), dtype)
    whole = multiplied(x, kernel, dtype=dtype)
    assert np.array_equal(multiplied(x[::-1], kernel, dtype=dtype), whole[::-1])
    for row in (0, 5, 39):
        assert np.array_equal(multiplied(x[row : row + 1], kernel, dtype=dtype), whole[row : row + 1])
    assert np.array_equal(multiplied(x, kernel[:, 7:24], dtype=dtype), whole[:, 7:24])


# -- NaN and infinity


@pytest.mark.parametrize("dtype", REALS)
@pytest.mark.parametrize("strange", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_stays_in_its_row_and_column(strange, dtype):
    rows, depth, columns = 19, 7, 37
    clean = x, kernel, dy = drawn((rows, depth), dtype), drawn((depth, columns), dtype), drawn((rows, columns), dtype)
    for r, i, o in [(0, 0, 0), (7, 3, 15), (8, 6, 16), (18, 2, 36)]:
        x, kernel, dy = (array.copy() for array in clean)
        x[r, i] = strange
        y, g = multiplied(x, kernel, dtype=dtype), correlated(x, dy, dtype)
        assert not np.isfinite(y[r]).any()
        assert np.isfinite(np.delete(y, r, axis=0)).all()
        assert not np.isfinite(g[i]).any()
        assert np.isfinite(np.delete(g, i, axis=0)).all()
        if np.isinf(strange):
            assert np.array_equal(y[r], strange * np.sign(kernel[i]))
            assert np.array_equal(g[i], strange * np.sign(dy[r]))
        kernel[i, o], x[r, i] = strange, 1
        y = multiplied(x, kernel, relu=0, dtype=dtype)
        assert not np.isfinite(y[:, o]).any()
        assert np.isfinite(np.delete(y, o, axis=1)).all()
        dy[r, o] = strange
        g = correlated(x, dy, dtype)
        assert not np.isfinite(g[:, o]).any()
        assert np.isfinite(np.delete(g, o, axis=1)).all()


@pytest.mark.parametrize("dtype", REALS)
def test_relu_keeps_nan_and_positive_infinity(dtype):
    x = np.array([[np.nan], [np.inf], [-np.inf], [0]], dtype)
    y = multiplied(x, np.array([[1.0, -2.0]], dtype), relu=1, dtype=dtype)
    wanted = [[np.nan, np.nan], [np.inf, 0], [0, np.inf], [0, 0]]
    assert np.array_equal(y, np.array(wanted, dtype), equal_nan=True)
    bias = np.array([np.nan, -np.inf], dtype)
    y = multiplied(np.ones((3, 1), dtype), np.ones((1, 2), dtype), bias, relu=1, dtype=dtype)
    assert np.isnan(y[:, 0]).all()
    assert not y[:, 1].any()


@pytest.mark.parametrize("dtype", REALS)
def test_rows_beyond_a_short_batch_are_not_read(dtype):
    x, dy = drawn((20, 9), dtype), drawn((20, 21), dtype)
    x[13:], dy[13:] = np.nan, np.inf
    assert close(correlated(x, dy, dtype, depth=13), x[:13].T, dy[:13])
    assert not correlated(x, dy, dtype, depth=0).any()


# -- pages that must not be touched


def products_between_guards():
    """All products, the transpose and the sum of rows, each operand with a guard on either side."""
    for at_end, dtype in itertools.product([True, False], REALS):
        globals()["Memory"] = partial(Apart, guarded=Guarded(at_end))
        for rows, depth, columns in itertools.product([1, 3, 8, 13, 129], [1, 5, 16, 17], [1, 16, 17, 33, 48]):
            check_products(rows, depth, columns, dtype, bias=rows % 2, relu=depth % 2)


def batches_between_guards():
    """Gathering from and scattering to arrays outside, of every dtype, with guards around them."""
    for at_end, dtype, width in itertools.product([True, False], REALS, [1, 3, 5, 8, 15, 16, 17, 19, 33, 64]):
        guarded = Guarded(at_end)
        order = guarded.copy(np.array([[2], [0], [3], [1]]))
        for source in DTYPES:
            data = guarded.copy(np.arange(4 * width).reshape(4, width) % 100, source)
            for view in (data, data[::-1], data[:, ::-1], data[::3, ::2]):
                x = guarded.zeros(4 * padded(width), dtype).reshape(4, -1)
                count, wide = min(len(view), 2), view.shape[1]
                rows = order if len(view) == 4 else guarded.copy(np.array([[1], [0]]))
                row = op_row(
                    "gather_rows", [(0, 0, 0), (rows.ctypes.data, len(rows), 1), (0, 4, x.shape[1])], width=wide
                )
                strides = [stride // view.itemsize for stride in view.strides]
                row[1 + SIZES : 1 + SIZES + OPERAND] = view.ctypes.data, len(view), *strides
                call("gather_rows", dtype, row, (x, x), count, 0, count, source)
                assert np.array_equal(x[:count, :wide], view[rows[:count, 0]])
        x, data = guarded.copy(drawn((4, padded(width)), dtype)), guarded.zeros(4 * width, dtype).reshape(4, width)
        row = op_row("scatter_rows", [(0, 4, padded(width)), (data.ctypes.data, 4, width)], width=width)
        call("scatter_rows", dtype, row, (x, x), 4, 0, 4)
        assert np.array_equal(data, x[:, :width])


def networks_between_guards():
    """Whole networks whose parameters, workspaces and samples have guards around them: every op, as it is used."""
    rng = np.random.default_rng(0)
    for at_end, dtype in itertools.product([True, False], REALS):
        guarded = Guarded(at_end)
        cpu.zeros = guarded.zeros
        for optimizer, loss, end, width in [
            ("adam", "cross_entropy", "softmax", 3),
            (nn.SGD(0.1, momentum=0.9), "binary_cross_entropy", "sigmoid", 1),
            ("sgd", "mse", "linear", 17),
            ("sgd", "half_squared_error", "tanh", 2),
        ]:
            x = nn.Input(7)
            h = nn.Dense(19, "relu")(x)
            h = nn.Add()([nn.Dense(19, "tanh")(h), h])
            model = nn.Model(x, nn.Dense(width, end)(nn.Concatenate()([h, x])), seed=0, dtype=dtype)
            model.compile(optimizer, loss, ["mse", "mae"])
            samples = guarded.copy(rng.random((21, 7)), dtype)
            targets = rng.integers(0, 2, (21, width)) if end != "softmax" else rng.integers(0, width, 21)
            targets = guarded.copy(targets)
            model.fit(samples, targets, batch_size=8, epochs=2, verbose=0)
            assert np.isfinite(model.evaluate(samples, targets)["loss"])
            whole = model.predict(samples)
            assert np.array_equal(model.predict(guarded.copy(samples[:5])), whole[:5])
        for width in (1, 7, 16, 17, 33, 70):  # samples that are read where they lie
            model = nn.Sequential([nn.Input(width), nn.Dense(19, "relu"), nn.Dense(2)], seed=0, dtype=dtype)
            samples = rng.random((21, width)).astype(dtype)
            model.compile("sgd", "mse")
            model.fit(guarded.copy(samples), np.zeros((21, 2)), batch_size=8, epochs=1, verbose=0, shuffle=False)
            whole = model.predict(np.asfortranarray(samples))
            for rows in (21, 5):
                assert np.array_equal(model.predict(guarded.copy(samples[:rows])), whole[:rows])
                assert np.array_equal(model.predict(guarded.copy(samples[:rows]), batch_size=8), whole[:rows])


def in_a_process(statement):
    """Run a statement in which this module is `m`; returns the exit code and what was said."""
    code = f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r}); import test_gemm as m; {statement}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    return done.returncode, done.stderr


needs_pages = pytest.mark.skipif(os.name != "posix", reason="mprotect")


@needs_pages
@pytest.mark.compiled
@pytest.mark.parametrize("at_end", [True, False])
def test_a_guard_guards(at_end):
    """Otherwise the next test would tell nothing."""
    read = f"import ctypes; a = m.Guarded({at_end}).zeros(5, 'int64'); a += 1; ctypes.string_at(a.ctypes.data + %d, 1)"
    assert in_a_process(read % 0) == (0, "")
    code, said = in_a_process(read % (40 if at_end else -1))
    assert code < 0, said  # ended by a signal


@needs_pages
@pytest.mark.compiled
@pytest.mark.parametrize("what", ["products", "batches", "networks"])
def test_nothing_beyond_the_operands_is_touched(what):
    code, said = in_a_process(f"m.{what}_between_guards()")
    assert code == 0, said or f"signal {-code}"
