"""Gathering batches and scattering results: kernels, and data of every dtype and memory order from end to end."""

import tracemalloc

import checks
import numpy as np
import pytest

import numbanet as nn
from numbanet.kernels import DTYPES, NOT_FINITE, cpu
from numbanet.planner import Form


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("rows", "width"), [(1, 1), (5, 17), (33, 3)])
def test_gathers_rows_and_scatters_them(rows, width, dtype, device):
    rng = np.random.default_rng(0)
    data, order = rng.random((rows + 4, width)), rng.permutation(rows + 4)[:rows, None]
    operands = {"data": data, "order": order, "x": np.zeros((rows, width))}
    checks.check_forward("gather_rows", operands, {"width": width}, dtype)
    operands = {"x": data[:rows], "data": np.zeros((rows, width))}
    checks.check_forward("scatter_rows", operands, {"width": width}, dtype)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("width", [1, 17, 37, 64])
def test_checks_rows(width, dtype, device):
    data = np.random.default_rng(0).standard_normal((3, width))
    for strange in (np.finfo(dtype).max, np.nan, np.inf, -np.inf):
        for place in (0, width // 2, width - 1):
            data[1, place] = strange
            bench = checks.Bench("check_rows", {"data": data}, {"width": width}, dtype)
            bench.run()
            assert bench.program.met_strange_samples == (not np.isfinite(strange))
            data[1, place] = 0


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_gathers_classes(dtype, device):
    labels, order = np.array([[2], [0], [1], [2], [0]]), np.array([[4], [3], [0], [1]])
    operands = {"data": labels, "order": order, "x": np.full((4, 3), 7.0)}
    checks.check_forward("gather_classes", operands, {"width": 3}, dtype)
    found = checks.Bench("gather_classes", operands, {"width": 3}, dtype).run()["x"]
    assert found.tolist() == [[1, 0, 0], [0, 0, 1], [0, 0, 1], [1, 0, 0]]


# Views of an array of twice the rows and columns: what the kernel sees are addresses and strides.
VIEWS = {
    "C": lambda a: np.ascontiguousarray(a[::2, ::2]),
    "Fortran": lambda a: np.asfortranarray(a[::2, ::2]),
    "rows apart": lambda a: np.ascontiguousarray(a[:, ::2])[::2],
    "columns apart": lambda a: np.ascontiguousarray(a[::2])[:, ::2],
    "both apart": lambda a: a[::2, ::2],
    "rows reversed": lambda a: np.ascontiguousarray(a[::2, ::2])[::-1],
    "columns reversed": lambda a: np.ascontiguousarray(a[::2, ::2])[:, ::-1],
    "both reversed": lambda a: np.asfortranarray(a[::2, ::2])[::-1, ::-1],
    "one row again and again": lambda a: np.broadcast_to(a[0, ::2], (len(a) // 2, a.shape[1] // 2)),
}


def gathered(data, order, dtype):
    """The rows that the kernel gathers, and whether it found one that is not finite."""
    operands = {"data": data, "order": order[:, None], "x": np.zeros((len(order), data.shape[1]))}
    bench = checks.Bench("gather_rows", operands, {"width": data.shape[1]}, dtype)
    with np.errstate(over="ignore"):
        found = bench.run()["x"]
    noted = bench.program.steps[0, NOT_FINITE]
    assert noted in (0, 1)
    assert bench.program.met_strange_samples == noted
    return found, bool(noted)


def anything(source, shape):
    """Numbers of a dtype from end to end of its range, its least and its largest among them."""
    rng = np.random.default_rng(0)
    if np.dtype(source).kind == "f":
        values = rng.standard_normal(shape).astype(source)
        values[0, 0], values[-1, -1] = 1e30, -1e-30
        return values
    limits = np.iinfo(source)
    values = rng.integers(limits.min, limits.max, shape, source, endpoint=True)
    values[0, 0], values[-2, -2], values[2, 0] = limits.min, limits.max, 0
    return values


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("source", DTYPES)
def test_gathers_every_dtype_in_every_memory_order(source, view, dtype, device):
    """Exactly the data, rounded once where the model's dtype has too few digits."""
    for width in (1, 8, 16, 21, 37) if device == "cpu" else (21,):
        data = VIEWS[view](anything(source, (14, 2 * width)))
        order = np.random.default_rng(1).permutation(len(data))[:5]
        found, strange = gathered(data, order, dtype)
        assert np.array_equal(found, data[order].astype(dtype))
        assert not strange


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("source", ["float32", "float64"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e300, -1e300, 3.4028236e38, 3.4028234e38, -1e-300])
def test_notes_what_is_not_finite(value, source, dtype, device):
    """At every place of a row, whole vectors and the rest, near and strided; and only in rows that are shown."""
    if source == "float32" and np.isfinite(value) and not -3.5e38 < value < 3.4028235e38:
        return  # infinity or nothing new
    with np.errstate(all="ignore"):
        wanted = not np.isfinite(np.array(value, source).astype(dtype))
    for view in ("C", "columns apart"):
        for place in range(37) if device == "cpu" else (0, 20, 36):
            data = VIEWS[view](np.ones((10, 74), source))
            data[3, place] = value
            assert gathered(data, np.array([0, 3, 1]), dtype)[1] is wanted
        assert not gathered(data, np.array([0, 2, 1]), dtype)[1]


def test_a_start_forgets_what_was_not_finite():
    data = np.full((2, 3), np.nan)
    operands = {"data": data, "order": np.array([[0]]), "x": np.zeros((1, 3))}
    bench = checks.Bench("gather_rows", operands, {"width": 3}, "float32")
    bench.run()
    assert bench.program.met_strange_samples
    data[:] = 1
    for key in operands:
        bench.write(key, operands[key])
    bench.program.start(1, 1)
    bench.program.run(0, 1)
    assert not bench.program.met_strange_samples


# -- from end to end


def read_only(array):
    array = array.copy()
    array.flags.writeable = False
    return array


def memmap(array, path):
    """The array in a file, mapped."""
    array.tofile(path)
    return np.memmap(path, array.dtype, "r", shape=array.shape)


def fitted(X, y, dtype):
    """All weights after a fit and an evaluation, and predictions: few rows at once and many."""
    model = nn.Sequential([nn.Input(X.shape[1]), nn.Dense(5, "tanh"), nn.Dense(3, "softmax")], seed=0, dtype=dtype)
    model.compile("adam", "cross_entropy", ["accuracy"])
    history = model.fit(X, y, batch_size=16, epochs=2, verbose=0, validation_split=0.2).history
    predictions = [model.predict(X), model.predict(X), model.predict(X[:3]), model.predict(X[::-7], batch_size=5)]
    return model._theta.tobytes(), str(history), [array.tobytes() for array in predictions]


KINDS = {
    "big-endian": lambda a: a.astype(">f8"),
    "big-endian integers": lambda a: a.astype(">i2"),
    "float16": lambda a: a.astype(np.float16),
    "Fortran": np.asfortranarray,
    "float64, Fortran": lambda a: np.asfortranarray(a, dtype=np.float64),
    "strided": lambda a: np.repeat(np.repeat(a, 2, axis=0), 3, axis=1)[::2, ::3],
    "reversed": lambda a: np.ascontiguousarray(a[::-1, ::-1])[::-1, ::-1],
    "read-only": read_only,
    "uint8, read-only": lambda a: read_only(a.astype(np.uint8)),
    "int64, Fortran": lambda a: np.asfortranarray(a, dtype=np.int64),
}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_same_bits_from_every_kind_of_array(dtype, tmp_path):
    whole = np.random.default_rng(0).integers(0, 9, (60, 19)).astype(dtype)
    y = np.arange(60) % 3
    wanted = fitted(whole, y, dtype)
    for name, kind in KINDS.items():
        assert fitted(kind(whole), y, dtype) == wanted, name
    for source in ("float32", "uint8", ">f4", "float64"):
        assert fitted(memmap(whole.astype(source), tmp_path / "samples"), y, dtype) == wanted, f"memmap of {source}"
    assert fitted(whole > 4, y, dtype) == fitted((whole > 4).astype(dtype), y, dtype)


@pytest.mark.compiled
@pytest.mark.parametrize(("source", "width"), [("float32", 500), ("uint8", 2000)])
def test_a_mapped_file_is_not_copied(source, width, tmp_path):
    """20 MB are trained on, evaluated and predicted from in place: less than a tenth of them is ever allocated."""
    pattern = np.random.default_rng(0).integers(0, 9, (100, width)).astype(source)
    X = memmap(np.tile(pattern, (100, 1)), tmp_path / "samples")
    assert X.nbytes == 20_000_000
    y = np.arange(len(X)) % 3
    model = nn.Sequential([nn.Input(width), nn.Dense(3, "softmax")], seed=0)
    model.compile("sgd", "cross_entropy")
    model.fit(X[:300], y[:300], verbose=0)
    model.evaluate(X[:300], y[:300])
    model.predict(X[:300])  # kernels are compiled and workspaces are there
    for loop in cpu.LOOPS:
        loop.ready()
    tracemalloc.start()
    try:
        model.fit(X, y, verbose=0, validation_split=0.1)
        model.evaluate(X, y)
        model.predict(X)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < X.nbytes / 10


READ = {
    "C": lambda a: np.ascontiguousarray(a[:, :-5]),
    "rows apart": lambda a: a[:, :-5],
    "from the middle": lambda a: a[3:, 2:-3],
    "last rows": lambda a: a[-1:, :-5],
}
GATHERED = {
    "Fortran": lambda a: np.asfortranarray(a[:, :-5]),
    "columns apart": lambda a: np.repeat(a[:, :-5], 2, axis=1)[:, ::2],
    "rows reversed": lambda a: a[::-1, :-5],
    "one row again and again": lambda a: np.broadcast_to(a[0, :-5], (len(a), a.shape[1] - 5)),
    "another dtype": lambda a: (9 * a[:, :-5]).astype(np.int8),
}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("way", [*READ, *GATHERED])
def test_samples_read_where_they_lie_give_the_same_bits(way, dtype):
    model = nn.Sequential([nn.Input(37), nn.Dense(20, activation="relu"), nn.Dense(3)], seed=0, dtype=dtype)
    model.compile(loss="mse", metrics=["mae"])
    whole = np.random.default_rng(0).standard_normal((150, 42)).astype(np.float16).astype(dtype)
    X = (READ | GATHERED)[way](whole)
    y = np.zeros((len(X), 3))
    right = model.predict(np.asfortranarray(X), batch_size=50)
    score = model.evaluate(np.asfortranarray(X), y)
    model._programs.clear()
    for batch_size in (7, 64, None):
        assert np.array_equal(model.predict(X, batch_size=batch_size), right)
    assert model.evaluate(X, y) == score
    kinds = {kind for kind in model._programs if kind != "quick"}
    assert kinds == {(mode, Form(direct=way in READ), None) for mode in ("predict", "evaluate")}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("way", [*READ, *GATHERED])
def test_samples_trained_on_where_they_lie_give_the_same_bits(way, dtype):
    """In their own order: fit without shuffling, and train_on_batch. The last batch is short."""
    whole = np.random.default_rng(0).standard_normal((45, 42)).astype(np.float16).astype(dtype)
    X = (READ | GATHERED)[way](whole)
    y = np.arange(len(X)) % 3
    found = []
    for samples in (X, np.asfortranarray(X).astype("float64" if dtype == "float32" else "float32")):
        layers = [nn.Input(37), nn.Dense(20, activation="relu"), nn.Dense(3, "softmax")]
        model = nn.Sequential(layers, seed=0, dtype=dtype)
        model.compile("adam", "cross_entropy", ["accuracy"])
        logs = model.fit(samples, y, batch_size=8, epochs=2, verbose=0, shuffle=False, validation_split=0.2).history
        found.append((logs, model.train_on_batch(samples, y), model._theta))
        assert {kind[1].direct for kind in model._programs} == {samples is X and way in READ}
    assert found[0][:2] == found[1][:2]
    assert np.array_equal(found[0][2], found[1][2])
    model.fit(X, y, epochs=1, verbose=0)
    assert ("train", Form(classes=True), frozenset()) in model._programs  # shuffled samples are gathered


def test_only_products_read_samples_where_they_lie():
    """A net of two inputs, one of which is also copied; then a width that would crowd one set of a cache."""
    a, b = nn.Input(5, name="a"), nn.Input(4, name="b")
    joined = nn.Concatenate()([nn.Dense(3)(a), nn.Dense(3)(a), nn.Dense(2)(b), b])
    model = nn.Model([a, b], nn.Dense(2)(joined), seed=0)
    gathers, checks_ = (
        [op for op in model._program("predict", 8, Form(direct=True)).plan.ops if op.name == name]
        for name in ("gather_rows", "check_rows")
    )
    assert [op.operands["data"].name for op in gathers] == ["samples of b"]
    assert [op.operands["data"].name for op in checks_] == ["samples of a"]
    model.compile("sgd", "mse")
    plan = model._program("train", 8, Form(direct=True)).plan
    assert [op.operands["data"].name for op in plan.ops if op.name == "gather_rows"] == ["samples of b", "targets"]
    assert not [op for op in plan.ops if op.name == "check_rows"]  # fit has looked at them
    rng = np.random.default_rng(0)
    X = [rng.random((40, 5), np.float32), rng.random((40, 4), np.float32)]
    assert np.array_equal(model.predict(X), model.predict([np.asfortranarray(x) for x in X]))
    wide = nn.Sequential([nn.Input(1024), nn.Dense(2)], seed=0)
    X = rng.random((40, 1024), np.float32)
    for rows in (40, 40, 15):  # prepared for few rows after the first
        assert np.array_equal(wide.predict(X[:rows]), wide.predict(np.asfortranarray(X))[:rows])
    assert next(iter(wide._programs)) == ("predict", Form(), None)
    assert ("predict", False, True) not in wide._programs


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("strange", [np.nan, np.inf, -np.inf])
def test_strange_samples_are_met_where_they_lie(strange, dtype):
    model = nn.Sequential([nn.Input(37), nn.Dense(20, activation="relu"), nn.Dense(3)], seed=0, dtype=dtype)
    for rows in (200, 30, 1):
        X = np.zeros((rows, 37), dtype)
        for place in (0, 15, 16, 31, 32, 36):
            X[rows // 2, place] = strange
            with pytest.raises(ValueError, match=rf"{strange} at index \({rows // 2}, {place}\)"):
                model.predict(X)
            X[rows // 2, place] = 0
        assert np.isfinite(model.predict(X)).all()
