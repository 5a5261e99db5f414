"""Data sets, generators of classic problems, and loaders of files: everything as NumPy arrays, rows are samples.

The generators repeat for one seed and give their rows in random order (truth tables: in counting order), so that the
last tenth or every fifth row is a fair sample. Files are taken as hostile: what a header claims is compared with the
file before anything of that size is allocated, nothing is unpickled, and damage is a ValueError that names the file.
"""

from __future__ import annotations

import csv
import gzip
import io
import math
import os
import zlib
from array import array
from contextlib import contextmanager, suppress
from importlib import resources
from itertools import chain, islice

import numpy as np

from numbanet import validate
from numbanet.names import lookup

GATES = {  # y for the rows 00, 01, 10, 11; `not` has one input
    "and": (0, 0, 0, 1),
    "or": (0, 1, 1, 1),
    "nand": (1, 1, 1, 0),
    "nor": (1, 0, 0, 0),
    "xor": (0, 1, 1, 0),
    "xnor": (1, 0, 0, 1),
    "not": (1, 0),
}
MOST_BITS = 20  # 2**20 rows of 20 float32 are 84 MB
IDX_TYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
MOST_AXES = 32  # what every supported NumPy can hold
DEFLATE_RATIO = 1032  # no DEFLATE stream unpacks to more than this many times its size
PIECE = 1 << 20  # bytes read at once
MOST_LINE = 1 << 24  # characters; a longer line is no table
DELIMITERS = ("\t", ";", ",")  # where several fit: a comma is the likeliest to be part of the cells
CELLS = {"skipinitialspace": True}  # a, "b, c" is two cells
MISSING = {"", "nan", "na", "n/a", "null", "none", "?"}


# -- data sets


def load_digits():
    """The UCI optical digits, a fixed fifth held out: (X_train, y_train), (X_test, y_test).

    X: float32, shape (1438, 64) and (359, 64), ink from 0 to 1, 8 x 8 pixels row by row. y: int64 from 0 to 9.
    Sorted by digit, every fifth image is held out, so that each digit has its share. Alpaydin & Kaynak, UCI Machine
    Learning Repository (1998), doi 10.24432/C50P49, CC BY 4.0; see datasets/README.md.
    """
    file = resources.files("numbanet").joinpath("datasets", "digits.npz")
    with file.open("rb") as raw, np.load(raw, allow_pickle=False) as arrays:
        X, y = arrays["images"].astype(np.float32) / 16, arrays["labels"].astype(np.int64)
    test = np.zeros(len(y), bool)
    test[np.argsort(y, kind="stable")[4::5]] = True
    return (X[~test], y[~test]), (X[test], y[test])


# -- generators


def boolean_gate(name):
    """The truth table of a gate: X float32 (4, 2), y int64 (4,), all 0 or 1; rows 00, 01, 10, 11.

    name: and, or, nand, nor, xor or xnor; or not, whose table is X (2, 1), y (2,). ValueError for any other name.
    McCulloch & Pitts, "A logical calculus of the ideas immanent in nervous activity" (1943), made neurons of them.
    """
    y = np.array(lookup("gate", name.lower() if isinstance(name, str) else name, GATES), np.int64)
    return _bits(len(y).bit_length() - 1), y


def xor():
    """The four points of exclusive or: X float32 (4, 2), y int64 (4,) 0 or 1.

    No single layer separates them: Minsky & Papert, "Perceptrons" (1969).
    """
    return boolean_gate("xor")


def parity(n):
    """All rows of n bits and whether the number of ones is odd: X float32 (2**n, n), y int64 (2**n,) 0 or 1.

    n: 1 to 20, else ValueError. Row i is i in binary, highest bit first. Minsky & Papert, "Perceptrons" (1969).
    """
    X = _bits(validate.whole_number("the number of bits n", n, 1, MOST_BITS))
    return X, X.sum(axis=1).astype(np.int64) % 2


def _bits(n):
    return (np.arange(2**n)[:, None] >> np.arange(n - 1, -1, -1) & 1).astype(np.float32)


def two_spirals(samples=194, noise=0.0, seed=0):
    """Two interlocking spirals of three turns: X float32 (samples, 2), y int64 (samples,) 0 or 1.

    samples: 194 (97 a spiral), the published ones; any other number from 2 runs along the same curves in equal steps
    of angle. noise: standard deviation added to each coordinate, 0. The radius falls from 6.5 to 0.5; -x is on the
    other spiral than x. Lang & Witbrock, "Learning to tell two spirals apart", Connectionist Models School (1988).
    """
    rng, samples = _generator(samples, seed, least=2)
    y, along = _halves(samples)
    step = 96 * along  # 0 to 96, whole numbers for the 97 published points
    radius = np.where(y == 1, 6.5, -6.5) * (104 - step) / 104
    angle = step * (np.pi / 16)
    return _scattered(rng, radius[:, None] * np.stack([np.sin(angle), np.cos(angle)], axis=1), y, noise)


def moons(samples=400, noise=0.1, seed=0):
    """Two half circles that reach into each other: X float32 (samples, 2), y int64 (samples,) 0 or 1.

    Radius 1, in equal steps; y = 0 above (0, 0), y = 1 below (1, 0.5). samples: 400, at least 2. noise: standard
    deviation added to each coordinate, 0.1. As in scikit-learn's make_moons: Pedregosa et al., JMLR 12 (2011).
    """
    rng, samples = _generator(samples, seed, least=2)
    y, along = _halves(samples)
    x, height = np.cos(np.pi * along), np.sin(np.pi * along)
    X = np.stack([np.where(y == 0, x, 1 - x), np.where(y == 0, height, 0.5 - height)], axis=1)
    return _scattered(rng, X, y, noise)


def circles(samples=400, noise=0.05, seed=0, factor=0.5):
    """A circle within a circle: X float32 (samples, 2), y int64 (samples,), 0 outside and 1 inside.

    Radius 1 and `factor` (0.5, between 0 and 1), angles uniform. samples: 400, at least 2. noise: standard deviation
    added to each coordinate, 0.05. After scikit-learn's make_circles: Pedregosa et al., JMLR 12 (2011).
    """
    rng, samples = _generator(samples, seed, least=2)
    factor = validate.real_number("factor", factor, 0, 1, open_least=True, open_most=True)
    y, _ = _halves(samples)
    angle = rng.uniform(0, 2 * np.pi, samples)
    X = np.where(y == 0, 1, factor)[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    return _scattered(rng, X, y, noise)


def blobs(samples=400, centers=3, features=2, std=1.0, seed=0):
    """Round clusters: X float32 (samples, features), y int64 (samples,) from 0 to centers - 1, equally many of each.

    Centres are uniform in [-10, 10] in each feature; points are normal around them with standard deviation std.
    samples: 400, at least `centers`. After scikit-learn's make_blobs: Pedregosa et al., JMLR 12 (2011).
    """
    centers = validate.whole_number("centers", centers)
    features = validate.whole_number("features", features)
    rng, samples = _generator(samples, seed, least=centers)
    y = np.arange(samples, dtype=np.int64) % centers
    return _scattered(rng, rng.uniform(-10, 10, (centers, features))[y], y, std, "std")


def sine(samples=400, noise=0.0, seed=0):
    """A wave to fit, y = sin(x): X float32 (samples, 1) uniform in [-pi, pi], y float32 (samples, 1).

    samples: 400. noise: standard deviation added to y, 0.
    """
    rng, samples = _generator(samples, seed)
    noise = validate.real_number("noise", noise, least=0)
    X = rng.uniform(-np.pi, np.pi, (samples, 1))
    y = np.sin(X) + noise * rng.standard_normal(X.shape)
    return X.astype(np.float32), y.astype(np.float32)


def _generator(samples, seed, least=1):
    samples = validate.whole_number("samples", samples, least)
    return np.random.default_rng(validate.whole_number("seed", seed, 0, 2**63 - 1)), samples


def _halves(samples):
    """Labels 0 and 1, 0 once more if samples is odd, and how far each point is along its own class, from 0 to 1."""
    zeros = samples - samples // 2
    y = np.repeat(np.arange(2), [zeros, samples // 2])
    return y, np.concatenate([np.linspace(0, 1, zeros), np.linspace(0, 1, samples // 2)])


def _scattered(rng, X, y, noise, what="noise"):
    """X with noise, as float32, and y, both in the same random order: in order of class, a held-out part is unfair."""
    noise = validate.real_number(what, noise, least=0)
    X = X + noise * rng.standard_normal(X.shape)
    order = rng.permutation(len(X))
    return X.astype(np.float32)[order], y.astype(np.int64)[order]


# -- files


def _path(path):
    if not isinstance(path, str | os.PathLike):
        raise TypeError(f"path must be a string or a path, not {path!r}")
    return os.fspath(path)


@contextmanager
def _opened(path):
    """The file's bytes as a stream, and how many there can be at most. Packed by gzip or not, whatever its name."""
    with open(path, "rb") as raw:
        size = os.fstat(raw.fileno()).st_size
        packed = raw.read(2) == b"\x1f\x8b"
        raw.seek(0)
        if not packed:
            yield raw, size
            return
        try:
            with gzip.GzipFile(fileobj=raw) as file:
                yield file, size * DEFLATE_RATIO
        except (EOFError, zlib.error, gzip.BadGzipFile) as problem:
            raise ValueError(f"{path} is damaged or cut short, expected a whole gzip file: {problem}") from None


def load_idx(path):
    """The array in a file of MNIST's IDX format, packed by gzip or not: its type and shape, in native byte order.

    Types: uint8, int8, int16, int32, float32, float64. Shape: 1 to 32 axes; images are (n, rows, columns), labels (n,).
    ValueError if the file is not exactly that: another magic number or type, no values, cut short, bytes left over,
    damaged packing. What a header claims beyond the file's size is never allocated, nor unpacked.
    Format: LeCun, Cortes & Burges, "The MNIST database of handwritten digits" (1998).
    """
    path = _path(path)
    with _opened(path) as (file, most):
        kind, shape = _idx_header(path, file)
        size = math.prod(shape) * kind.itemsize
        promise = f"the {size} bytes that its header promises for shape {shape} of {kind.name}"
        if size == 0:
            raise ValueError(f"{path} holds no values: shape {shape}, expected at least 1 along each axis")
        if size > most:
            raise ValueError(f"{path} is too short: it can hold at most {most} bytes, expected {promise}")
        content = bytearray()
        # One byte more than promised shows that something follows, and makes gzip check its own sum at the end.
        while piece := file.read(min(PIECE, size + 1 - len(content))):
            content += piece
    if len(content) < size:
        raise ValueError(f"{path} ends after {len(content)} bytes of values, expected {promise}")
    if len(content) > size:
        raise ValueError(f"{path} goes on after its values, expected nothing after {promise}")
    return np.frombuffer(content, kind).reshape(shape).astype(kind.newbyteorder("="), copy=False)


def _idx_header(path, file):
    """Type and shape: two zero bytes, the type's code, the number of axes, and each axis as a big-endian uint32."""
    magic = file.read(4)
    if len(magic) < 4:
        raise ValueError(f"{path} ends after {len(magic)} bytes, expected an IDX file of at least 9")
    if magic[:2] != b"\0\0" or magic[2] not in IDX_TYPES or not 1 <= magic[3] <= MOST_AXES:
        codes = ", ".join(f"{code:02x}" for code in IDX_TYPES)
        raise ValueError(
            f"{path} is not an IDX file: it begins with the bytes {magic.hex(' ')}, "
            f"expected 00 00, a type ({codes}) and the number of axes (01 to {MOST_AXES:02x})"
        )
    sizes = file.read(4 * magic[3])
    if len(sizes) < 4 * magic[3]:
        raise ValueError(f"{path} ends after {4 + len(sizes)} bytes, expected the sizes of {magic[3]} axes")
    return np.dtype(IDX_TYPES[magic[2]]), tuple(np.frombuffer(sizes, ">u4").tolist())


def load_csv(path, target=-1, *, delimiter=None, header=None):
    """Features and targets from a text table, packed by gzip or not: X float32 (n, features), y (n,).

    target: the targets' column, by name (the table then needs a header) or index, -1 (the default) the last; None for
    a table of features alone, y is then None. delimiter: one character; None finds a comma, semicolon or tab by itself.
    header: whether the first row holds names; None (the default) says so if a feature's cell there is text: a first
    row of data with a mistyped number needs header=False to be told. Text is UTF-8; blank lines are skipped.

    y is int64 if all targets are whole numbers (below 2**53), float32 if they are other numbers. Text targets become
    int64 class indices, in the order of the sorted distinct texts: `sorted(set(texts))[y[i]]` is the text of row i.

    ValueError, with line and column: no rows, a row of another length, a feature that is not a number, a missing, NaN
    or infinite value (also: beyond float32), an unknown target, text among targets that are not whole numbers.
    """
    path = _path(path)
    if delimiter is not None and (not isinstance(delimiter, str) or len(delimiter) != 1 or delimiter in '"\r\n'):
        raise ValueError(f"delimiter is {delimiter!r}; expected one character like ',', ';' or a tab, or None")
    if header is not None:
        validate.flag("header", header)
    if target is not None and not isinstance(target, str):
        validate.whole_number("target (a column's name or index)", target, -(2**31))
    with _opened(path) as (file, _), io.TextIOWrapper(file, encoding="utf-8-sig", newline="") as text:
        try:
            return _read_table(path, text, target, delimiter, header)
        except UnicodeDecodeError as problem:
            raise ValueError(f"{path} is not UTF-8 text: {problem}") from None


def _read_table(path, text, target, delimiter, header):
    lines = _lines(path, text)
    head = list(islice(lines, 10))
    rows = _rows(path, chain(head, lines), delimiter or _delimiter(head))
    line, first = next(rows, (0, None))
    if first is None:
        raise ValueError(f"{path} is empty, expected rows of numbers")
    names = first if _has_names(first, target, header) else None
    column = _target_column(path, target, names, len(first))
    if len(first) == 1 and column is not None:
        raise ValueError(f"{path} has one column, the target; expected features too, cut by a comma, semicolon or tab")
    table = _Table(path, names, len(first), column)
    if names is None:
        table.add(line, first)
    for line, cells in rows:
        table.add(line, cells)
    if not table.lines:
        raise ValueError(f"{path} has a header and no rows, expected at least one")
    return table.features(), table.targets()


def _lines(path, text):
    """Lines one by one; a line without end (which gzip packs into nothing) is refused before it fills the memory."""
    number = 0
    while line := text.readline(MOST_LINE):
        number += 1
        if len(line) == MOST_LINE:
            raise ValueError(f"{path}, line {number} is longer than {MOST_LINE} characters, expected a table")
        yield line


def _delimiter(head):
    """The delimiter that cuts all first lines into equally many cells; else the one that cuts the first into most."""
    counts = {delimiter: [] for delimiter in DELIMITERS}
    for delimiter, found in counts.items():
        with suppress(csv.Error):  # reported with its line when the rows are read
            found.extend(len(cells) for cells in csv.reader(head, delimiter=delimiter, **CELLS) if cells)
    even = [delimiter for delimiter, found in counts.items() if len(set(found)) == 1 and found[0] > 1]
    return even[0] if even else max(DELIMITERS, key=lambda delimiter: counts[delimiter][:1])


def _rows(path, lines, delimiter):
    """Rows that are not blank: the number of the line where the row begins, and its cells without outer spaces."""
    reader = csv.reader(lines, delimiter=delimiter, strict=True, **CELLS)
    while True:
        line = reader.line_num + 1  # a quoted cell may go on for lines, so counted before the row is read
        try:
            cells = [cell.strip() for cell in next(reader)]
        except StopIteration:
            return
        except csv.Error as problem:
            raise ValueError(f"{path}, line {line} is not a row of a table: {problem}") from None
        if cells not in ([], [""]):
            yield line, cells


def _has_names(first, target, header):
    if header is not None or isinstance(target, str):
        return header is not False
    skipped = None if target is None else target % len(first)
    return any(_number(cell) is None and cell.lower() not in MISSING for j, cell in enumerate(first) if j != skipped)


def _target_column(path, target, names, columns):
    if target is None:
        return None
    if not isinstance(target, str):
        if not -columns <= target < columns:
            raise ValueError(f"{path} has {columns} columns, target is {target}; expected {-columns} to {columns - 1}")
        return int(target) % columns
    if names is None or (target not in names and all(_number(name) is not None for name in names)):
        raise ValueError(f"{path} has no header, target is {target!r}; expected a column's index instead of a name")
    if names.count(target) > 1:
        raise ValueError(f"{path} has {names.count(target)} columns named {target!r}; expected one, or give its index")
    try:
        return lookup("target column", target, {name: j for j, name in enumerate(names)})
    except ValueError as problem:
        raise ValueError(f"{path}: {problem}") from None


def _number(cell):
    try:
        return float(cell)
    except ValueError:
        return None


class _Table:
    """Rows of a CSV file as they come: features go to packed float32 at once, since text takes twenty times as much."""

    def __init__(self, path, names, columns, target):
        self.path, self.names, self.columns, self.target = path, names, columns, target
        self.chosen = [j for j in range(columns) if j != target]
        self.values, self.lines, self.texts = array("f"), array("q"), []

    def column(self, j):
        return f"column {self.names[j]!r}" if self.names else f"column index {j}"

    def fail(self, line, j, found):
        raise ValueError(f"{self.path}, line {line}, {self.column(j)}: {found}")

    def add(self, line, cells):
        if len(cells) != self.columns:
            count = f"{len(cells)} cell{'s' if len(cells) > 1 else ''}"
            raise ValueError(f"{self.path}, line {line} has {count}, expected {self.columns} as in the first row")
        if self.target is not None:
            self.texts.append(cells.pop(self.target))
        try:
            self.values.extend(map(float, cells))
        except ValueError:
            k, cell = next((k, cell) for k, cell in enumerate(cells) if _number(cell) is None)
            found = "missing value" if cell.lower() in MISSING else "not a number"
            self.fail(line, self.chosen[k], f"{found} {cell[:50]!r}, expected a finite number")
        self.lines.append(line)

    def features(self):
        X = np.frombuffer(self.values, np.float32).reshape(len(self.lines), -1)
        bad = np.argwhere(~np.isfinite(X))
        if len(bad):
            i, k = bad[0].tolist()
            self.fail(self.lines[i], self.chosen[k], f"{X[i, k]}, expected a finite number within float32's range")
        return X

    def targets(self):
        if self.target is None:
            return None
        found = [_number(text) for text in self.texts]
        # A gap among numbers is a missing number; among texts NA, None or ? may well be a class.
        rows = list(zip(self.lines, found, self.texts, strict=True))
        numeric = all(value is not None or text.lower() in MISSING for _, value, text in rows)
        for line, value, text in rows:
            if text == "" or text.lower() == "nan" or (numeric and value is None):
                self.fail(line, self.target, f"missing target {text!r}, expected a value")
        return self.numbers(np.array(found, np.float64)) if numeric else self.classes(rows)

    def numbers(self, y):
        if np.all(np.abs(y) < 2**53) and np.array_equal(y, np.rint(y)):
            return y.astype(np.int64)
        beyond = np.flatnonzero(~(np.abs(y) <= np.finfo(np.float32).max))
        if len(beyond):
            at = int(beyond[0])
            wrong = f"target {self.texts[at][:50]!r}, expected a finite number within float32's range"
            self.fail(self.lines[at], self.target, wrong)
        return y.astype(np.float32)

    def classes(self, rows):
        other = next(text for _, value, text in rows if value is None)
        for line, value, text in rows:
            if value is not None and not value.is_integer():  # a slip in a column of numbers, not a class
                self.fail(line, self.target, f"target {text[:50]!r} beside the text {other[:50]!r}, expected one kind")
        index = {text: k for k, text in enumerate(sorted(set(self.texts)))}
        return np.array([index[text] for text in self.texts], np.int64)
