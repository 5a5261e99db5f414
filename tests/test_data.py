"""Data: published facts and independent formulas; files come back as written, and those that lie are refused."""

import gzip
import struct
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from numbanet import data

# -- digits


def test_digits_are_the_published_ones():
    (X, y), (X_test, y_test) = data.load_digits()
    assert X.shape == (1438, 64) and X_test.shape == (359, 64)
    assert X.dtype == X_test.dtype == np.float32
    assert y.dtype == y_test.dtype == np.int64
    counts = np.bincount(np.concatenate([y, y_test]))
    assert counts.tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
    assert X.min() == 0 and X.max() == 1
    assert np.array_equal(X * 16, np.rint(X * 16))  # sixteenths: the counts as published


def test_digits_split_is_a_fifth_of_each_digit_and_nothing_is_lost():
    (X, y), (X_test, y_test) = data.load_digits()
    assert len(np.unique(np.concatenate([X, X_test]), axis=0)) == 1797  # no image twice: train and test share none
    assert y[:4].tolist() == [0, 1, 2, 3]  # the file begins by counting
    share = np.bincount(y_test) / np.bincount(np.concatenate([y, y_test]))
    assert np.all(np.abs(share - 0.2) < 0.006)  # at most one image off


# -- generators

RANDOM = {make.__name__: make for make in (data.two_spirals, data.moons, data.circles, data.blobs, data.sine)}


@pytest.mark.parametrize("make", RANDOM.values(), ids=RANDOM)
def test_generators_repeat_for_one_seed(make):
    X, y = make(samples=51, seed=3)
    again = make(samples=51, seed=3)
    other = make(samples=51, seed=4)
    assert X.dtype == np.float32 and X.shape[0] == 51 and len(y) == 51
    assert np.array_equal(X, again[0]) and np.array_equal(y, again[1])
    assert not np.array_equal(X, other[0])
    assert np.isfinite(X).all()
    assert make is data.sine or (y.dtype == np.int64 and y.shape == (51,))


@pytest.mark.parametrize("name", ["two_spirals", "moons", "circles", "blobs"])
def test_any_tail_or_fifth_has_all_classes(name):
    """A held-out tail or every fifth row must not be one class only, as it would be in order of class."""
    _, y = RANDOM[name](centers=5) if name == "blobs" else RANDOM[name]()
    for part in (y[-len(y) // 5 :], y[4::5]):
        assert np.bincount(part, minlength=y.max() + 1).min() >= len(part) / (y.max() + 1) / 3
    assert np.ptp(np.bincount(y)) <= 1


@pytest.mark.parametrize("make", RANDOM.values(), ids=RANDOM)
def test_generators_refuse_nonsense(make):
    noise = "std" if make is data.blobs else "noise"
    for setting, value in (("samples", 0), (noise, -1), (noise, np.nan), ("seed", -1)):
        with pytest.raises(ValueError, match=setting):
            make(**{setting: value})
    for setting, value in (("samples", 2.5), ("samples", True), (noise, "much"), ("seed", None)):
        with pytest.raises(TypeError, match=setting):
            make(**{setting: value})


GATES = {
    "and": lambda a, b: a and b,
    "or": lambda a, b: a or b,
    "nand": lambda a, b: not (a and b),
    "nor": lambda a, b: not (a or b),
    "xor": lambda a, b: a != b,
    "xnor": lambda a, b: a == b,
}


def test_truth_tables():
    for name, function in GATES.items():
        X, y = data.boolean_gate(name)
        assert X.tolist() == [[0, 0], [0, 1], [1, 0], [1, 1]] and X.dtype == np.float32
        assert y.tolist() == [int(function(bool(a), bool(b))) for a, b in X] and y.dtype == np.int64
    assert [part.tolist() for part in data.boolean_gate("NOT")] == [[[0], [1]], [1, 0]]
    assert [part.tolist() for part in data.xor()] == [part.tolist() for part in data.parity(2)]


def test_unknown_gate_gets_the_known_names_and_the_nearest():
    with pytest.raises(ValueError, match=r"unknown gate 'xorr'; known: and, or, nand, .*did you mean 'xor'\?"):
        data.boolean_gate("xorr")
    with pytest.raises(TypeError, match="gate must be a string"):
        data.boolean_gate(7)


def test_parity():
    for n in (1, 3, 8):
        X, y = data.parity(n)
        assert X.shape == (2**n, n) and X.dtype == np.float32 and y.dtype == np.int64
        for i in range(2**n):
            assert "".join(str(int(bit)) for bit in X[i]) == f"{i:0{n}b}"
            assert y[i] == i.bit_count() % 2
    for n in (0, 21, -3):
        with pytest.raises(ValueError, match=f"bits n must be .* not {n}"):
            data.parity(n)


def test_two_spirals_are_the_published_ones():
    X, y = data.two_spirals()
    assert X.shape == (194, 2) and np.bincount(y).tolist() == [97, 97]
    i = np.arange(97)
    published = 6.5 * (104 - i) / 104 * 1j * np.exp(-1j * i * np.pi / 16)  # r (sin phi + i cos phi)
    points = X @ np.array([1, 1j])
    for label, spiral in ((1, published), (0, -published)):
        gaps = np.abs(points[y == label][:, None] - spiral)
        assert gaps.min(axis=0).max() < 1e-5 and gaps.min(axis=1).max() < 1e-5
    radius = np.hypot(*X.T)
    assert np.isclose(radius.max(), 6.5) and np.isclose(radius.min(), 0.5)


def test_moons_lie_on_their_circles():
    X, y = data.moons(samples=101, noise=0)
    upper, lower = X[y == 0], X[y == 1]
    assert np.allclose(np.hypot(*upper.T), 1, atol=1e-6) and upper[:, 1].min() > -1e-6
    assert np.allclose(np.hypot(*(lower - [1, 0.5]).T), 1, atol=1e-6) and lower[:, 1].max() < 0.5 + 1e-6


def test_circles_have_their_radius():
    X, y = data.circles(samples=300, noise=0, factor=0.25)
    assert np.allclose(np.hypot(*X.T), np.where(y == 0, 1, 0.25), atol=1e-6)
    with pytest.raises(ValueError, match="factor must be above 0 and below 1"):
        data.circles(factor=1)


def test_blobs_are_normal_around_their_centres():
    X, y = data.blobs(samples=6000, centers=4, features=3, std=0.5, seed=1)
    assert X.shape == (6000, 3) and np.bincount(y).tolist() == [1500] * 4
    middles = np.array([X[y == k].mean(axis=0) for k in range(4)])
    assert np.abs(middles).max() < 10.1
    spread = X - middles[y]
    assert np.allclose(spread.std(axis=0), 0.5, rtol=0.05)
    assert np.all(np.argmin(((X[:, None] - middles) ** 2).sum(axis=2), axis=1) == y)
    with pytest.raises(ValueError, match="samples must be at least 3, not 2"):
        data.blobs(samples=2)


def test_noise_has_its_deviation():
    X, y = data.sine(samples=5000, noise=0.2)
    assert X.shape == y.shape == (5000, 1) and y.dtype == np.float32
    assert np.abs(X).max() <= np.float32(np.pi)
    assert np.isclose((y - np.sin(X)).std(), 0.2, rtol=0.05)
    X, y = data.circles(samples=5000, noise=0.01)
    assert np.isclose((np.hypot(*X.T) - np.where(y == 0, 1, 0.5)).std(), 0.01, rtol=0.05)


# -- files

TYPES = {0x08: "u1", 0x09: "i1", 0x0B: "i2", 0x0C: "i4", 0x0D: "f4", 0x0E: "f8"}
CODES = {np.dtype(name): code for code, name in TYPES.items()}


def idx(array, code=None):
    """The array as an IDX file's bytes."""
    header = bytes([0, 0, code or CODES[array.dtype], array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    return header + array.astype(array.dtype.newbyteorder(">")).tobytes()


@pytest.fixture
def file(tmp_path):
    """Write bytes or text to a file and return its path."""

    def write(content, name="table"):
        path = tmp_path / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return write


# -- IDX


@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["plain", "gzip"])
@pytest.mark.parametrize("name", TYPES.values())
def test_idx_comes_back(file, name, pack):
    values = np.nan_to_num(np.random.default_rng(0).integers(0, 256, (5, 3, 2, 8), np.uint8).view(name))
    array = data.load_idx(file(pack(idx(values)), "any.name"))
    assert array.dtype == np.dtype(name) and array.dtype.isnative
    assert array.shape == values.shape and np.array_equal(array, values)
    array[:] = 0  # the array is the caller's own


def test_idx_bytes_are_read_as_the_format_says(file):
    labels = bytes.fromhex("00000801 00000003 050004")
    assert data.load_idx(str(file(labels))).tolist() == [5, 0, 4]
    assert data.load_idx(file(bytes.fromhex("00000b02 00000001 00000002 0102 fffe"))).tolist() == [[258, -2]]
    assert data.load_idx(file(bytes.fromhex("00000d01 00000001 3fc00000"))).tolist() == [1.5]


ARRAYS = st.builds(
    lambda name, shape, seed: np.random.default_rng(seed).integers(0, 100, shape).astype(name),
    st.sampled_from(list(TYPES.values())),
    st.lists(st.integers(1, 4), min_size=1, max_size=4),
    st.integers(0, 99),
)


@settings(deadline=None, max_examples=60)
@given(array=ARRAYS, packed=st.booleans(), cut=st.floats(0, 1, exclude_max=True))
def test_idx_of_any_shape_comes_back_and_is_refused_when_cut(tmp_path_factory, array, packed, cut):
    path = tmp_path_factory.getbasetemp() / "any.idx"
    content = gzip.compress(idx(array)) if packed else idx(array)
    path.write_bytes(content)
    assert np.array_equal(data.load_idx(path), array)
    path.write_bytes(content[: int(cut * len(content))])
    with pytest.raises(ValueError, match=r"any\.idx"):
        data.load_idx(path)


@settings(deadline=None, max_examples=150)
@given(content=st.binary(max_size=60), head=st.sampled_from([b"", b"\0\0\x08\1", b"\0\0\x0e\2", b"\x1f\x8b\x08\0"]))
def test_idx_of_any_bytes_is_an_array_or_a_value_error(tmp_path_factory, content, head):
    path = tmp_path_factory.getbasetemp() / "any.idx"
    path.write_bytes(head + content)
    try:
        array = data.load_idx(path)
    except ValueError as problem:
        assert "any.idx" in str(problem)
    else:
        assert idx(array) == head + content


@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["plain", "gzip"])
def test_idx_cut_at_every_byte_is_refused(file, pack):
    content = pack(idx(np.arange(6, dtype=np.int16).reshape(2, 3)))
    assert data.load_idx(file(content)).shape == (2, 3)
    for length in range(len(content)):
        with pytest.raises(ValueError, match="table"):
            data.load_idx(file(content[:length]))


@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["plain", "gzip"])
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "ends after 0 bytes, expected an IDX file"),
        (b"PK\3\4 a zip file", r"begins with the bytes 50 4b 03 04, expected 00 00, a type \(08, 09, 0b, 0c, 0d, 0e\)"),
        (b"\0\0\x0a\1\0\0\0\1\0", "begins with the bytes 00 00 0a 01"),
        (b"\0\0\x08\0\7", "begins with the bytes 00 00 08 00"),
        (b"\0\0\x08\x21" + b"\0\0\0\1" * 33 + b"\7", "begins with the bytes 00 00 08 21"),
        (b"\0\0\x08\3\0\0\0\1\0\0\0\1", "ends after 12 bytes, expected the sizes of 3 axes"),
        (b"\0\0\x08\2\0\0\0\0\0\0\0\3", r"holds no values: shape \(0, 3\)"),
        (b"\0\0\x08\1\0\0\0\3\1\2\3\4", r"goes on after its values, expected nothing after the 3 bytes"),
        (b"\0\0\x0e\1\0\0\0\3" + bytes(23), r"expected the 24 bytes .* shape \(3,\) of float64|ends after 23 bytes"),
        (b"\0\0\x08\4" + b"\xff" * 16 + b"\7", "is too short: it can hold at most"),
        (b"\0\0\x0e\x20" + b"\xff" * 128, "is too short: it can hold at most"),
    ],
)
def test_idx_that_is_not_one_is_refused(file, pack, content, message):
    with pytest.raises(ValueError, match=f"table.*({message})"):
        data.load_idx(file(pack(content)))


def peak_memory(function):
    tracemalloc.start()
    try:
        function()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_idx_allocates_nothing_that_is_only_claimed(file):
    """Bombs: a header of 4 GB on a small file, a small header on a packed 64 MB, and packed junk with a bold header."""
    bold = b"\0\0\x08\1" + struct.pack(">I", 2**32 - 1)
    junk = np.random.default_rng(0).bytes(1 << 16)
    within = b"\0\0\x08\1" + struct.pack(">I", 1 << 26) + junk  # so much could be packed in the file, but is not
    bomb = b"\0\0\x08\1\0\0\0\3" + bytes(1 << 26)
    for content in (bold + junk, *map(gzip.compress, (bold, bomb, within))):
        path = file(content)

        def refused(path=path):
            with pytest.raises(ValueError, match="table"):
                data.load_idx(path)

        assert peak_memory(refused) < 8 << 20


def test_idx_checks_the_sum_of_its_packing(file):
    content = bytearray(gzip.compress(idx(np.arange(100, dtype=np.uint8))))
    content[-6] ^= 1  # of the CRC
    with pytest.raises(ValueError, match="damaged or cut short, expected a whole gzip file"):
        data.load_idx(file(bytes(content)))


@pytest.mark.parametrize("load", [data.load_idx, data.load_csv])
def test_what_is_no_path_is_refused(load, tmp_path):
    with pytest.raises(TypeError, match="path must be a string or a path, not 0"):
        load(0)
    with pytest.raises(FileNotFoundError):
        load(tmp_path / "nowhere")


# -- CSV


@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["plain", "gzip"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_csv_is_read(file, delimiter, end, pack):
    text = end.join(["a,b,kind", "1,2.5,0", "", "-3e2, 4,1", ""]).replace(",", delimiter)
    X, y = data.load_csv(file(pack(text.encode("utf-8-sig"))))
    assert X.dtype == np.float32 and X.tolist() == [[1, 2.5], [-300, 4]]
    assert y.dtype == np.int64 and y.tolist() == [0, 1]


def test_csv_targets(file):
    text = "a,b,c\n1,2,3\n4,5,6\n"
    for target, features, targets in [
        (-1, [[1, 2], [4, 5]], [3, 6]),
        ("b", [[1, 3], [4, 6]], [2, 5]),
        (np.int64(-3), [[2, 3], [5, 6]], [1, 4]),
    ]:
        X, y = data.load_csv(file(text), target=target)
        assert X.tolist() == features and y.tolist() == targets
    X, y = data.load_csv(file(text), target=None)
    assert X.tolist() == [[1, 2, 3], [4, 5, 6]] and y is None


@pytest.mark.parametrize(
    ("targets", "expected", "dtype"),
    [
        (["2", "-7", "3.0"], [2, -7, 3], np.int64),
        (["2", "0.5", "1e3"], [2, 0.5, 1000], np.float32),
        (["1e300", "1", "2"], None, "line 1, column index 1: target '1e300', expected a finite number"),
        (["1e30", "1", "2"], [np.float32(1e30), 1, 2], np.float32),
        (["versicolor", "setosa", "versicolor"], [1, 0, 1], np.int64),
        (["10", "9", "A"], [0, 1, 2], np.int64),
        (['"b, c"', "a", '"b\nc"'], [2, 0, 1], np.int64),
        (["1.5", "2", "abc"], None, "line 1, column index 1: target '1.5' beside the text 'abc'"),
        (["1", "2", "NA"], None, "line 3, column index 1: missing target 'NA'"),
        (["NA", "DE", "FR"], [2, 0, 1], np.int64),
        (["a", "nan", "b"], None, "line 2, column index 1: missing target 'nan'"),
        (["1", "-inf", "2"], None, "line 2, column index 1: target '-inf', expected a finite number"),
    ],
)
def test_csv_kinds_of_targets(file, targets, expected, dtype):
    path = file("".join(f"{k},{target}\n" for k, target in enumerate(targets)))
    if expected is None:
        with pytest.raises(ValueError, match=dtype):
            data.load_csv(path)
    else:
        _, y = data.load_csv(path)
        assert y.dtype == dtype and y.shape == (3,) and y.tolist() == expected


def test_csv_header_is_found(file):
    X, y = data.load_csv(file("5.1,3.5,setosa\n4.9,3,setosa\n"))  # text in the target's column is no header
    assert len(X) == len(y) == 2
    assert len(data.load_csv(file("2019,2020,x\n1,2,3\n"), header=True)[0]) == 1
    assert data.load_csv(file("2019,2020,2021\n1,2,3\n"), target="2020")[1].tolist() == [2]
    with pytest.raises(ValueError, match=r"line 1, column index 1: not a number '2\.O'"):
        data.load_csv(file("1,2.O,3\n1,2,3\n"), header=False)
    with pytest.raises(ValueError, match="line 1, column index 1: missing value ''"):  # a gap makes no header
        data.load_csv(file("1,,3\n1,2,3\n"))


def test_csv_delimiter_is_found(file):
    quoted = data.load_csv(file('"a, b; c","d, e",y\n1,2,3\n'))[0]
    assert quoted.tolist() == [[1, 2]]
    assert data.load_csv(file("a,1;b;y\n1;2;3\n"))[0].tolist() == [[1, 2]]
    with pytest.raises(ValueError, match="column 'a': not a number '1,5'"):
        data.load_csv(file("a;b;y\n1,5;2,5;0\n"))
    with pytest.raises(ValueError, match="delimiter is '::'; expected"):
        data.load_csv(file("1:2\n"), delimiter="::")


@pytest.mark.parametrize(
    ("text", "settings", "message"),
    [
        ("", {}, "is empty, expected rows of numbers"),
        ("\n \n\r\n", {}, "is empty, expected rows of numbers"),
        ("a,b\n", {}, "has a header and no rows"),
        ("1\n2\n", {}, "has one column, the target; expected features too"),
        ("a,b\n1,2\n\n3\n", {}, "line 4 has 1 cell, expected 2 as in the first row"),
        ("1,2\n3,4\n5,6,7\n", {}, "line 3 has 3 cells, expected 2"),
        ('a,b\n1,"x\ny"\n1,2,3\n', {}, "line 4 has 3 cells, expected 2"),
        ("width,kind\n1,2\nwide,3\n", {}, "line 3, column 'width': not a number 'wide'"),
        ("1,2,3\n4,five,6\n", {}, "line 2, column index 1: not a number 'five'"),
        ("1,2\n,2\n", {}, "line 2, column index 0: missing value ''"),
        ("1,2\nnan,2\n", {}, "line 2, column index 0: nan, expected a finite number"),
        ("1,2\n1,2\n1e39,2\n", {}, "line 3, column index 0: inf, expected a finite number within float32"),
        ("a,width,height\n1,2,3\n", {"target": "wdth"}, "'wdth'; known: a, width, height; did you mean 'width'"),
        ("1,2\n3,4\n", {"target": "kind"}, "has no header, target is 'kind'; expected a column's index"),
        ("a,b\n3,4\n", {"target": "b", "header": False}, "has no header, target is 'b'"),
        ("a,b,a\n3,4,5\n", {"target": "a"}, "has 2 columns named 'a'"),
        ("1,2\n3,4\n", {"target": 2}, "has 2 columns, target is 2; expected -2 to 1"),
        ('1,2\n3,"4\n5,6\n', {}, "line 2 is not a row of a table"),
        ("1,2\n3," + "4" * 200_000 + "\n", {}, "line 2 is not a row of a table: field larger"),
        (b"1,2\n3,\xff\n", {}, "is not UTF-8 text"),
        (b"\x1f\x8b\x08 not gzip", {}, "damaged or cut short, expected a whole gzip file"),
        (gzip.compress(b"1,2\n3,4\n")[:-3], {}, "damaged or cut short, expected a whole gzip file"),
        (gzip.compress(b"1" * ((1 << 24) + 9)), {}, "line 1 is longer than 16777216 characters"),
    ],
)
def test_csv_errors_say_where(file, text, settings, message):
    with pytest.raises(ValueError, match=f"table.*{message}"):
        data.load_csv(file(text), **settings)


def test_csv_settings_of_another_type_are_refused(file):
    for name, value in (("target", 1.0), ("target", True), ("header", "yes")):
        with pytest.raises(TypeError, match=name):
            data.load_csv(file("1,2\n"), **{name: value})


@settings(deadline=None, max_examples=60)
@given(
    rows=st.lists(st.tuples(st.floats(-(2.0**100), 2.0**100, width=32), st.integers(-99, 99)), min_size=1),
    header=st.booleans(),
    delimiter=st.sampled_from(",;\t"),
)
def test_csv_of_any_numbers_comes_back(tmp_path_factory, rows, header, delimiter):
    path = tmp_path_factory.getbasetemp() / "any.csv"
    lines = [f"{value!r}{delimiter}{label}" for value, label in rows]
    path.write_text("\n".join([f"value{delimiter}label"] * header + lines))
    X, y = data.load_csv(path)
    assert X[:, 0].tolist() == [value for value, _ in rows]
    assert y.tolist() == [label for _, label in rows]


@settings(deadline=None, max_examples=150)
@given(text=st.text(alphabet='1.5-en,;\t"\n\r a\0\ufeff', max_size=40))
def test_csv_of_any_text_is_arrays_or_a_value_error(tmp_path_factory, text):
    path = tmp_path_factory.getbasetemp() / "any.csv"
    path.write_text(text, newline="")
    try:
        X, y = data.load_csv(path)
    except ValueError as problem:
        assert "any.csv" in str(problem)
    else:
        assert X.dtype == np.float32 and np.isfinite(X).all() and len(X) == len(y) > 0
        assert y.dtype in (np.int64, np.float32) and np.isfinite(y).all()
