"""Data sets and loaders."""

import gzip
import itertools
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from numbanet import data

CODES = {"u1": 0x08, "i1": 0x09, "i2": 0x0B, "i4": 0x0C, "f4": 0x0D, "f8": 0x0E}


def test_digits_are_the_published_ones():
    (X, y), (X_test, y_test) = data.load_digits()
    assert (X.shape, X_test.shape, X.dtype, y.dtype) == ((1438, 64), (359, 64), np.float32, np.int64)
    assert np.bincount(np.concatenate([y, y_test])).tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
    assert X.min() == 0
    assert X.max() == 1
    assert np.array_equal(X * 16, np.round(X * 16))
    first = "0 0 5 13 9 1 0 0 0 0 13 15 10 15 5 0"  # the first two rows of the first image, a zero
    assert (X[0, :16] * 16).astype(int).tolist() == [int(pixel) for pixel in first.split()]
    assert y[:4].tolist() == [0, 1, 2, 3]
    assert y_test[0] == 4
    rows = {row.tobytes() for row in X}
    assert not [row for row in X_test if row.tobytes() in rows]  # nothing held out is trained on


@pytest.mark.parametrize("name", ["and", "or", "nand", "nor", "xor", "xnor"])
def test_gates(name):
    X, y = data.boolean_gate(name)
    truth = {"and": all, "or": any, "xor": lambda bits: bits[0] != bits[1]}
    positive = truth.get(name) or truth[{"nand": "and", "nor": "or", "xnor": "xor"}[name]]
    assert [tuple(row) for row in X] == list(itertools.product([0, 1], repeat=2))
    assert y.tolist() == [int(positive(row) != (name not in truth)) for row in X]


def test_gate_of_one_input_and_unknown_gates():
    X, y = data.boolean_gate("not")
    assert (X.tolist(), y.tolist()) == ([[0], [1]], [1, 0])
    with pytest.raises(ValueError, match=r"unknown gate 'xorr'; known: and, or, nand.*did you mean 'xor'\?"):
        data.boolean_gate("xorr")
    assert all(np.array_equal(a, b) for a, b in zip(data.xor(), data.boolean_gate("xor"), strict=True))


@pytest.mark.parametrize("n", [1, 2, 5])
def test_parity(n):
    X, y = data.parity(n)
    assert [tuple(row) for row in X] == list(itertools.product([0, 1], repeat=n))
    assert y.tolist() == [sum(row) % 2 for row in itertools.product([0, 1], repeat=n)]


GENERATORS = [data.two_spirals, data.moons, data.circles, data.blobs, data.sine]


@pytest.mark.parametrize("generator", GENERATORS)
def test_generators_repeat_for_a_seed(generator):
    a, b, c = generator(seed=1), generator(seed=1), generator(seed=2)
    assert all(np.array_equal(p, q) for p, q in zip(a, b, strict=True))
    assert generator is data.two_spirals or not np.array_equal(a[0], c[0])  # spirals without noise need no seed
    X, y = generator(samples=31, seed=0)
    assert X.dtype == np.float32
    assert len(X) == len(y) == 31
    assert np.isfinite(X).all()


@pytest.mark.parametrize("generator", GENERATORS)
def test_generators_refuse_nonsense(generator):
    for arguments, kind in [
        ({"samples": 0}, ValueError),
        ({"samples": 2.0}, TypeError),
        ({"seed": -1}, ValueError),
        ({"std" if generator is data.blobs else "noise": -1}, ValueError),
    ]:
        with pytest.raises(kind, match=next(iter(arguments)) if "std" not in arguments else "noise"):
            generator(**arguments)
    with pytest.raises(ValueError, match="n must be at most 20"):
        data.parity(40)


def test_shapes_of_the_generators():
    X, y = data.circles(noise=0)
    assert np.allclose(np.hypot(*X.T), np.where(y == 0, 1, 0.5), atol=1e-6)
    X, y = data.moons(noise=0)
    centre = np.where(y[:, None] == 0, [0, 0], [1, 0.5])
    assert np.allclose(np.hypot(*(X - centre).T), 1, atol=1e-6)
    X, y = data.sine(noise=0)
    assert np.allclose(np.sin(X), y, atol=1e-6)
    X, y = data.blobs(samples=3000, centers=5, features=3, std=0.5)
    spread = [X[y == k].std(axis=0) for k in range(5)]
    assert np.allclose(spread, 0.5, rtol=0.1)
    X, y = data.two_spirals()
    assert np.bincount(y).tolist() == [97, 97]
    assert np.array_equal(X[y == 0], -X[y == 1])  # each is the other turned by half a turn
    radius = np.hypot(*X[y == 0].T)
    assert np.all(np.diff(radius) < 0)
    turns = np.abs(np.diff(np.unwrap(np.arctan2(*X[y == 0].T)))).sum() / (2 * np.pi)
    assert turns == pytest.approx(3, abs=0.01)


def idx(array, code):
    header = struct.pack(">BBBB", 0, 0, code, array.ndim) + struct.pack(f">{array.ndim}I", *array.shape)
    return header + array.astype(array.dtype.newbyteorder(">")).tobytes()


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("kind", CODES)
def test_idx_round_trip(kind, compressed, tmp_path):
    array = (np.arange(2 * 3 * 4).reshape(2, 3, 4) * 5 - 60).astype(kind)
    content = idx(array, CODES[kind])
    (tmp_path / "file").write_bytes(gzip.compress(content) if compressed else content)
    found = data.load_idx(tmp_path / "file")
    assert np.array_equal(found, array)
    assert found.dtype == array.dtype
    assert found.dtype.isnative
    assert found.flags.writeable


IMAGES = idx(np.arange(60, dtype=np.uint8).reshape(5, 3, 4), 0x08)


@pytest.mark.parametrize("compressed", [False, True])
def test_every_truncation_is_refused(compressed, tmp_path):
    content = gzip.compress(IMAGES, mtime=0) if compressed else IMAGES
    for length in range(len(content)):
        (tmp_path / "file").write_bytes(content[:length])
        with pytest.raises(ValueError, match=r"file is (not an IDX|a damaged gzip) file: "):
            data.load_idx(tmp_path / "file")


@given(st.binary(max_size=40))
def test_any_bytes_are_an_array_or_refused(content):
    import tempfile
    from pathlib import Path

    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "file"
        path.write_bytes(b"\0\0" + content)
        try:
            assert data.load_idx(path).nbytes <= 40
        except ValueError as problem:
            assert str(path) in str(problem)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (IMAGES + b"x", "make 60 bytes, but it holds more"),
        (IMAGES[:-1], "make 60 bytes, but it holds only 59"),
        (b"\0\0\x0a\x01", r"begins with 00 00 0a 01, expected 00 00, a type \(0x08"),
        (b"\0\0\x08\x00", "0 axes, expected 1 to 8"),
        (b"\0\0\x08\x02\0\0\0\1", "ends after 8 bytes, inside the sizes of its 2 axes"),
        (b"\0\0\x08\x03" + b"\xff" * 12, "expected at most"),
        (b"\0\0\x0e\x02" + struct.pack(">2I", 2**16, 2**14), "but it holds only 0"),
        (gzip.compress(IMAGES[:-60] + bytes(10_000_000)), "but it holds more"),
        (b"PNG", "begins with 50 4e 47"),
    ],
)
def test_idx_files_that_lie(content, sentence, tmp_path):
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(ValueError, match=sentence):
        data.load_idx(tmp_path / "file")


def table(tmp_path, text, **options):
    (tmp_path / "table.csv").write_bytes(text if isinstance(text, bytes) else text.encode())
    return data.load_csv(tmp_path / "table.csv", **options)


@pytest.mark.parametrize(
    ("text", "options", "X", "y"),
    [
        ("1,2,0\n3,4,1\n", {}, [[1, 2], [3, 4]], [0, 1]),
        ("a,b,class\n1,2,0\n3,4,1\n", {}, [[1, 2], [3, 4]], [0, 1]),
        ("a;b;class\n1;2;0\n3;4;1\n", {"target": "a"}, [[2, 0], [4, 1]], [1, 3]),
        ("1\t2\t0\n3\t4\t1", {"target": 0}, [[2, 0], [4, 1]], [1, 3]),
        ("1,2,no\r\n3,4,yes\r\n5,6,no\r\n", {}, [[1, 2], [3, 4], [5, 6]], [0, 1, 0]),
        ('x,"the, class"\n 1 , 2.5 \n\n3,-1e3\n', {"target": "the, class"}, [[1], [3]], [2.5, -1000]),
        ("1,2\n3,4\n", {"target": None}, [[1, 2], [3, 4]], None),
        ("\ufeff1,2\n3,4\n", {}, [[1], [3]], [2, 4]),
        ("1|2\n3|4\n", {"delimiter": "|"}, [[1], [3]], [2, 4]),
        (gzip.compress(b"1,2,0\n3,4,1\n"), {}, [[1, 2], [3, 4]], [0, 1]),
    ],
)
def test_tables(text, options, X, y, tmp_path):
    found, targets = table(tmp_path, text, **options)
    assert found.dtype == np.float32
    assert found.tolist() == X
    assert y is None if targets is None else targets.tolist() == y
    assert y is None or targets.dtype == (np.float32 if isinstance(y[0], float) else np.int64)


@pytest.mark.parametrize(
    ("text", "options", "sentence"),
    [
        ("", {}, "is empty"),
        ("\n \n", {}, "is empty"),
        ("1,2,3\n4,5\n", {}, "line 2 has 2 cells, expected 3"),
        ("a,b\n", {}, "has a header and no rows"),
        ("1,2\nx,4\n", {}, "line 2, column 1 holds 'x'; expected a finite number"),
        ("a,b\n1,2\n,4\n", {}, "line 3, column a holds ''"),
        ("1,2\nnan,4\n", {}, "line 2, column 1 holds 'nan'"),
        ("1,2\n1e39,4\n", {}, "line 2, column 1 holds '1e39'"),
        ("1,2\n3,\n", {}, "line 2 has the target ''; expected a value"),
        ("1,2\n3,NaN\n", {}, "line 2 has the target 'NaN'"),
        ("height,width,kind\n1,2,3\n", {"target": "kid"}, r"unknown target column 'kid'.*did you mean 'kind'"),
        ("1,2\n3,4\n", {"target": 5}, "target must be at most 1, not 5"),
        ("1\n2\n", {}, "no columns besides the target"),
        ('1,"2\n', {}, "line 1: unexpected end of data"),
        (b"\xff\xfe1,2\n", {}, "is not a text file"),
        (gzip.compress(b"1,2,0\n3,4,1\n")[:-5], {}, "is a damaged gzip file"),
    ],
)
def test_tables_with_errors(text, options, sentence, tmp_path):
    with pytest.raises(ValueError, match=sentence):
        table(tmp_path, text, **options)
