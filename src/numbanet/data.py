"""Data sets and loaders. Generators give (X, y): X float32 (n, features); they repeat for one seed.

Files are hostile until proven otherwise: sizes are checked before anything is allocated, nothing is unpickled.
"""

from __future__ import annotations

import csv
import gzip
import math
import os
import zlib
from importlib import resources

import numpy as np

from numbanet import validate
from numbanet.names import lookup

GATES = {
    "and": [0, 0, 0, 1],
    "or": [0, 1, 1, 1],
    "nand": [1, 1, 1, 0],
    "nor": [1, 0, 0, 0],
    "xor": [0, 1, 1, 0],
    "xnor": [1, 0, 0, 1],
    "not": [1, 0],
}
GZIP = b"\x1f\x8b"
IDX_TYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
IDX_MOST = 2**36  # bytes of an IDX array: far beyond any real file, small enough to be a sensible number


def load_digits():
    """The UCI optical digits: (X_train, y_train), (X_test, y_test).

    X float32 in [0, 1], shape (n, 64) (8 x 8 pixels row by row), y int64 from 0 to 9; 1438 images to train on, and
    every fifth of the 1797, a fixed 359, held out. Alpaydin & Kaynak (1998), CC BY 4.0; see datasets/README.md.
    """
    with resources.files("numbanet").joinpath("datasets/digits.npz").open("rb") as file, np.load(file) as arrays:
        X, y = arrays["images"].astype(np.float32) / 16, arrays["labels"].astype(np.int64)
    test = np.arange(len(X)) % 5 == 4
    return (X[~test], y[~test]), (X[test], y[test])


def boolean_gate(name):
    """The truth table of a gate, (X, y): and, or, nand, nor, xor, xnor of two inputs, not of one; y int64, 0 or 1."""
    y = np.array(lookup("gate", name, GATES), np.int64)
    return _bits(len(y).bit_length() - 1), y


def xor():
    """The four points of exclusive or, which no single layer can separate (Minsky & Papert, 1969)."""
    return boolean_gate("xor")


def parity(n):
    """All 2**n rows of n bits (1 to 20) and whether the number of ones is odd, y int64."""
    bits = _bits(validate.whole_number("n", n, 1, 20))
    return bits, bits.sum(axis=1).astype(np.int64) % 2


def _bits(n):
    rows = np.arange(2**n)[:, None] >> np.arange(n - 1, -1, -1)
    return (rows & 1).astype(np.float32)


def two_spirals(samples=194, noise=0.0, seed=0):
    """Two interlocking spirals of three turns (Lang & Witbrock, 1988): X (samples, 2) within about 1, y 0 or 1.

    samples: 194 as published (97 a spiral). noise: standard deviation added to each coordinate, 0.
    """
    samples, noise, rng = _generator(samples, noise, seed, least=2)
    y = np.arange(samples, dtype=np.int64) % 2
    step = (np.arange(samples) // 2) * (96 / max(1, samples // 2 - 1))  # 0 to 96, as in the published 97 points
    radius, angle = (104 - step) / 104, step * np.pi / 16
    X = np.stack([radius * np.sin(angle), radius * np.cos(angle)], axis=1) * np.where(y == 0, 1, -1)[:, None]
    return _noisy(X, noise, rng), y


def moons(samples=400, noise=0.1, seed=0):
    """Two half circles that reach into each other: X (samples, 2), y 0 or 1. noise: standard deviation, 0.1."""
    samples, noise, rng = _generator(samples, noise, seed, least=2)
    y = np.arange(samples, dtype=np.int64) % 2
    angle = rng.uniform(0, np.pi, samples)
    upper = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    lower = np.stack([1 - np.cos(angle), 0.5 - np.sin(angle)], axis=1)
    return _noisy(np.where(y[:, None] == 0, upper, lower), noise, rng), y


def circles(samples=400, noise=0.05, seed=0, factor=0.5):
    """A circle of radius 1 (y 0) around one of radius `factor` (y 1): X (samples, 2). noise: standard deviation."""
    samples, noise, rng = _generator(samples, noise, seed, least=2)
    factor = validate.real_number("factor", factor, 0, 1, open_least=True, open_most=True)
    y = np.arange(samples, dtype=np.int64) % 2
    angle = rng.uniform(0, 2 * np.pi, samples)
    X = np.stack([np.cos(angle), np.sin(angle)], axis=1) * np.where(y == 0, 1, factor)[:, None]
    return _noisy(X, noise, rng), y


def blobs(samples=400, centers=3, features=2, std=1.0, seed=0):
    """Round clusters: X (samples, features), y the cluster from 0 to centers - 1.

    Centres are uniform in [-10, 10] in each feature, points normal around them with standard deviation std.
    """
    samples, std, rng = _generator(samples, std, seed)
    centers = validate.whole_number("centers", centers, 1, 10_000)
    features = validate.whole_number("features", features, 1, 10_000)
    y = np.arange(samples, dtype=np.int64) % centers
    places = rng.uniform(-10, 10, (centers, features))
    return _noisy(places[y], std, rng), y


def sine(samples=400, noise=0.0, seed=0):
    """y = sin(x) for x uniform in [-pi, pi]: X (samples, 1), y float32 (samples, 1). noise: deviation added to y."""
    samples, noise, rng = _generator(samples, noise, seed)
    X = rng.uniform(-np.pi, np.pi, (samples, 1))
    return X.astype(np.float32), _noisy(np.sin(X), noise, rng)


def _generator(samples, noise, seed, least=1):
    samples = validate.whole_number("samples", samples, least, 10_000_000)
    noise = validate.real_number("noise", noise, least=0)
    return samples, noise, np.random.default_rng(validate.whole_number("seed", seed, 0, 2**63 - 1))


def _noisy(X, noise, rng):
    return (X + noise * rng.standard_normal(X.shape)).astype(np.float32)


def _open(path):
    """A file's bytes, decompressed if they are gzip's (told by the first two bytes, not by the name)."""
    with open(path, "rb") as file:
        compressed = file.read(2) == GZIP
    return gzip.open(path, "rb") if compressed else open(path, "rb")


def load_idx(path):
    """An array from a file in MNIST's IDX format, gzip or not: native byte order, in the file's type and shape.

    ValueError if the file is not one: unknown type, sizes that the file does not hold, bytes left over.
    """
    path = os.fspath(path)
    try:
        with _open(path) as file:
            return _read_idx(file)
    except (EOFError, zlib.error, gzip.BadGzipFile) as problem:
        raise ValueError(f"{path} is a damaged gzip file: {problem}") from None
    except ValueError as problem:
        raise ValueError(f"{path} is not an IDX file: {problem}") from None


def _read_idx(file):
    magic = file.read(4)
    if len(magic) < 4 or magic[:2] != b"\0\0" or magic[2] not in IDX_TYPES:
        types = ", ".join(f"{code:#04x}" for code in IDX_TYPES)
        raise ValueError(f"it begins with {magic.hex(' ')}, expected 00 00, a type ({types}) and the number of axes")
    dtype, rank = np.dtype(IDX_TYPES[magic[2]]), magic[3]
    if not 1 <= rank <= 8:
        raise ValueError(f"it has {rank} axes, expected 1 to 8")
    sizes = file.read(4 * rank)
    if len(sizes) < 4 * rank:
        raise ValueError(f"it ends after {4 + len(sizes)} bytes, inside the sizes of its {rank} axes")
    shape = tuple(int(size) for size in np.frombuffer(sizes, ">u4"))
    wanted = math.prod(shape) * dtype.itemsize
    if wanted > IDX_MOST:
        raise ValueError(f"its sizes {shape} make {wanted} bytes, expected at most {IDX_MOST}")
    content = _read_exactly(file, wanted + 1)  # one more, to see whether anything follows
    if len(content) != wanted:
        more = "more" if len(content) > wanted else f"only {len(content)}"
        raise ValueError(f"its sizes {shape} make {wanted} bytes, but it holds {more}")
    return np.frombuffer(content, dtype).astype(dtype.newbyteorder("=")).reshape(shape)


def _read_exactly(file, count):
    """At most `count` bytes, in pieces: what a header claims is not allocated before it is there."""
    pieces = []
    while count > 0 and (piece := file.read(min(count, 1 << 20))):
        pieces.append(piece)
        count -= len(piece)
    return b"".join(pieces)


def load_csv(path, target=-1, delimiter=None):
    """Features and targets from a text table, gzip or not: (X, y), X float32 (n, features).

    target: the column with the targets, by name (the file then has a header) or number, -1 (the default) being the
    last; None if there is none, y is then None. delimiter: the one of , ; and tab that the first line has most of.
    A first line with text among the features is a header.

    y is int64 if all targets are whole numbers, float32 if they are other numbers; texts become the numbers of the
    sorted different texts. ValueError says in which line and column something is missing or is not a number.
    """
    path = os.fspath(path)
    try:
        with _open(path) as file:
            text = file.read().decode("utf-8-sig")
    except UnicodeDecodeError as problem:
        raise ValueError(f"{path} is not a text file: {problem}") from None
    except (EOFError, zlib.error, gzip.BadGzipFile) as problem:
        raise ValueError(f"{path} is a damaged gzip file: {problem}") from None
    lines = text.splitlines()
    first = next((line for line in lines if line.strip()), None)
    if first is None:
        raise ValueError(f"{path} is empty; expected rows of numbers")
    delimiter = max(",;\t", key=first.count) if delimiter is None else delimiter
    rows = [(number, [cell.strip() for cell in row]) for number, row in _csv_rows(path, lines, delimiter)]
    return _columns(path, rows, target)


def _csv_rows(path, lines, delimiter):
    """Line numbers and cells of the rows that are not blank."""
    try:
        reader = csv.reader(lines, delimiter=delimiter, strict=True)
        for row in reader:
            if any(cell.strip() for cell in row):
                yield reader.line_num, row
    except csv.Error as problem:
        raise ValueError(f"{path}, line {reader.line_num}: {problem}") from None


def _columns(path, rows, target):
    width = len(rows[0][1])
    for number, row in rows:
        if len(row) != width:
            raise ValueError(f"{path}, line {number} has {len(row)} cells, expected {width} as in the first")
    names = None
    if isinstance(target, str) or _is_header(rows, target):
        names, rows = rows[0][1], rows[1:]
    if not rows:
        raise ValueError(f"{path} has a header and no rows")
    at = _target_column(target, width, names)
    columns = [column for column in range(width) if column != at]
    if not columns:
        raise ValueError(f"{path} has no columns besides the target")
    X = np.empty((len(rows), len(columns)), np.float32)
    for i, (number, row) in enumerate(rows):
        for j, column in enumerate(columns):
            X[i, j] = _feature(path, number, names[column] if names else column + 1, row[column])
    return X, None if at is None else _targets(path, [(number, row[at]) for number, row in rows])


def _is_header(rows, target):
    """Text among the first row's features. (A text in the target's column may be a label.)"""
    first = rows[0][1]
    at = target % len(first) if isinstance(target, int) else None
    return any(_number(cell) is None for column, cell in enumerate(first) if column != at)


def _target_column(target, width, names):
    if target is None:
        return None
    if isinstance(target, str):
        return lookup("target column", target, {name: column for column, name in enumerate(names)})
    return validate.whole_number("target", target, -width, width - 1) % width


def _number(cell):
    try:
        return float(cell)
    except ValueError:
        return None


def _feature(path, line, column, cell):
    value = _number(cell)
    if value is None or not abs(value) <= float(np.finfo(np.float32).max):
        raise ValueError(f"{path}, line {line}, column {column} holds {cell[:50]!r}; expected a finite number")
    return value


def _targets(path, cells):
    for line, cell in cells:
        if cell == "" or cell.lower() in ("nan", "inf", "-inf", "infinity", "-infinity", "na", "null"):
            raise ValueError(f"{path}, line {line} has the target {cell!r}; expected a value")
    numbers = [_number(cell) for _, cell in cells]
    if any(number is None for number in numbers):
        known = {label: k for k, label in enumerate(sorted({cell for _, cell in cells}))}
        return np.array([known[cell] for _, cell in cells], np.int64)
    values = np.array(numbers)
    if np.all(values == np.floor(values)) and np.all(np.abs(values) < 2**53):
        return values.astype(np.int64)
    return values.astype(np.float32)
