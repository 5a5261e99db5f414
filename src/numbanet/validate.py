"""Checks at the library's edge. Below it nothing is checked again, so what passes here is right.

Every refusal is a sentence: what was given, what was expected.
"""

from __future__ import annotations

import math
import numbers
import os

import numpy as np

from numbanet.kernels import DTYPES


def settle(description, **values):
    """Set the checked values of a frozen description, in its __post_init__."""
    for name, value in values.items():
        object.__setattr__(description, name, value)


def whole_number(what, value, least=1, most=2**31 - 1):
    """`value` as an int between least and most."""
    if isinstance(value, bool) or not isinstance(value, numbers.Integral):
        raise TypeError(f"{what} must be a whole number, not {value!r}")
    if not least <= value <= most:
        raise ValueError(f"{what} must be {f'at least {least}' if value < least else f'at most {most}'}, not {value}")
    return int(value)


def real_number(what, value, least=-math.inf, most=math.inf, open_least=False, open_most=False):
    """`value` as a finite float between least and most, without the ends that are open."""
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise TypeError(f"{what} must be a number, not {value!r}")
    try:
        value = float(value)
    except OverflowError:
        raise ValueError(f"{what} must be a number that float64 can hold, not one beyond 1.8e308") from None
    low = value > least if open_least else value >= least
    high = value < most if open_most else value <= most
    if not (math.isfinite(value) and low and high):
        left = f"{'above' if open_least else 'at least'} {least:g}" if least > -math.inf else ""
        right = f"{'below' if open_most else 'at most'} {most:g}" if most < math.inf else ""
        raise ValueError(f"{what} must be {' and '.join(filter(None, (left, right))) or 'finite'}, not {value}")
    return value


def flag(what, value):
    """`value` as a bool."""
    if not isinstance(value, bool | np.bool_):
        raise TypeError(f"{what} must be True or False, not {value!r}")
    return bool(value)


def verbosity(value):
    """`value` as how much to tell: 0, 1 or 2, or a bool."""
    return whole_number("verbose", int(value) if isinstance(value, bool | np.bool_) else value, 0, 2)


def path(what, value):
    """`value`, a string or a path, as a str."""
    if not isinstance(value, str | bytes | os.PathLike):
        raise TypeError(f"{what} must be a path, not {value!r}")
    return os.fsdecode(value)


def text(what, value):
    """`value`, which must be a non-empty str of at most 200 printable characters."""
    if not isinstance(value, str):
        raise TypeError(f"{what} must be a string, not {value!r}")
    if not value or len(value) > 200 or not value.isprintable():
        raise ValueError(f"{what} must be 1 to 200 printable characters, not {value[:220]!r}")
    return value


def shape(what, value):
    """A shape without the batch axis, as a tuple of positive ints; a number n means (n,)."""
    sizes = (value,) if isinstance(value, numbers.Integral) else value
    if not isinstance(sizes, tuple | list) or not 1 <= len(sizes) <= 8:
        raise TypeError(f"{what} must be a whole number or a tuple of 1 to 8 of them, not {value!r}")
    sizes = tuple(whole_number(what, size) for size in sizes)
    if math.prod(sizes) >= 2**31:
        raise ValueError(f"{what} {sizes} has {math.prod(sizes)} elements, expected less than 2**31")
    return sizes


def _numeric(what, value):
    if value is None:
        raise TypeError(f"{what} must hold real numbers, not None")
    try:
        array = np.asarray(value)
    except ValueError as problem:
        raise ValueError(f"{what} is not an array: its rows differ in length ({problem})") from None
    if array.dtype == object:
        try:
            array = array.astype(np.float64)
        except OverflowError:
            raise ValueError(f"{what} holds a number beyond float64") from None
        except (TypeError, ValueError):
            raise TypeError(f"{what} must hold numbers, not Python objects like {array.flat[0]!r}") from None
    if array.dtype.kind not in "biuf":
        raise TypeError(f"{what} must hold real numbers, not {array.dtype.name}")
    return array


def _finite(what, array, dtype="float64"):
    """Refuse NaN, infinity and what the dtype cannot hold, saying where the first one is."""
    if array.dtype.kind != "f" or not array.size:
        return
    with np.errstate(over="ignore", invalid="ignore"):
        low, high = array.min(), array.max()  # NaN if there is one; no copy is made
    most = np.finfo(dtype).max
    if -most <= low and high <= most:
        return
    bad = ~(np.abs(array) <= most)
    where = tuple(int(index) for index in np.argwhere(bad)[0])
    converted = "" if not np.isfinite(array[where]) else f", beyond {dtype}"
    raise ValueError(
        f"{what} holds {array[where]} at index {where}{converted} and {int(bad.sum()) - 1} more; expected finite"
    )


def _as_rows(array, width, dtype):
    """The array as rows that a program can gather from: a view of it, a copy only of odd dtypes and memory layouts."""
    if array.dtype == bool:
        array = array.view(np.uint8)
    if array.dtype.name not in DTYPES or not array.dtype.isnative or not array.flags.aligned:
        array = array.astype(dtype)
    rows = array.reshape(len(array), width)
    if any(stride % rows.itemsize for stride in rows.strides):
        rows = np.ascontiguousarray(rows)
    return rows


def features(value, expected, dtype, what="X", check=True):
    """Samples as rows: an array (n, width) of a dtype of DTYPES, from anything shaped (n, *expected).

    check: look for what is not finite; who leaves it out must look at what the program met.
    """
    array = _numeric(what, value)
    wanted = f"(n, {', '.join(map(str, expected))})"
    if array.ndim == 0 or array.shape[1:] != expected:
        hint = f"; for one sample give {what}[None]" if array.shape == expected else ""
        raise ValueError(f"{what} has shape {array.shape}, expected {wanted}: rows are samples{hint}")
    if len(array) == 0:
        raise ValueError(f"{what} is empty: shape {array.shape}, expected {wanted} with n at least 1")
    if check:
        _finite(what, array, dtype)
    return _as_rows(array, math.prod(expected), dtype)


TARGETS = {  # kinds of targets: what to call them, the least and the largest
    "numbers": ("numbers", -math.inf, math.inf),
    "probabilities": ("probabilities between 0 and 1", 0, 1),
    "counts": ("counts or rates from 0", 0, math.inf),
    "signs": ("-1 and 1, or 0 and 1,", -1, 1),
}


def values(value, samples, width, dtype, what="y", kind="numbers"):
    """Targets as rows of numbers, an array (samples, width) of a dtype of DTYPES; (samples,) will do for one output.

    kind: of TARGETS. Signs are -1 and 1 in the end; where all are 0 or 1, 0 means -1, as in Keras.
    """
    array = _numeric(what, value)
    if array.ndim == 1 and width == 1:
        array = array[:, None]
    _same_length(what, array, samples)
    if array.shape != (samples, width):
        raise ValueError(f"{what} has shape {array.shape}, expected ({samples}, {width}): one column an output")
    _finite(what, array, dtype)
    rows, (name, least, most) = _as_rows(array, width, dtype), TARGETS[kind]
    if rows.min() < least or rows.max() > most:
        raise ValueError(f"{what} must hold {name} for this loss, not {rows.min():g} to {rows.max():g}")
    return _signs(what, rows, name) if kind == "signs" else rows


def _signs(what, rows, name):
    """Targets from -1 to 1 as -1 and 1."""
    other = rows[(rows != 1) & (rows != 0) & (rows != -1)]
    if other.size:
        raise ValueError(f"{what} must hold {name} for this loss, not {other[0]:g}")
    if rows.min() < 0 and (rows == 0).any():
        raise ValueError(f"{what} must hold {name} for this loss, not all three of -1, 0 and 1")
    return rows if rows.min() < 0 else np.where(rows > 0, 1, -1).astype(np.int8)


def classes(value, samples, width, what="y"):
    """Integer labels as an int64 array (samples, 1), each from 0 to width - 1."""
    array = _numeric(what, value)
    _same_length(what, array, samples)
    array = array.reshape(samples)
    _finite(what, array)
    with np.errstate(invalid="ignore"):
        labels = np.ascontiguousarray(array, dtype=np.int64)
    if not np.array_equal(labels, array):
        raise ValueError(f"{what} must hold whole class numbers, not {array[labels != array][0]}")
    if labels.min() < 0 or labels.max() >= width:
        raise ValueError(
            f"{what} has labels from {labels.min()} to {labels.max()}, expected 0 to {width - 1} "
            f"for a network with {width} outputs"
        )
    return labels[:, None]


def weights(value, samples, dtype, what="sample_weight", some=True):
    """Weights of samples, an array (samples, 1): finite, none below 0 and, if there must be some, not all 0."""
    array = _numeric(what, value)
    _same_length(what, array, samples)
    if array.shape not in ((samples,), (samples, 1)):
        raise ValueError(f"{what} has shape {array.shape}, expected ({samples},): one weight a sample")
    _finite(what, array, dtype)
    array = np.ascontiguousarray(array.reshape(samples, 1), dtype)
    good_weights(what, array, some)
    return array


def good_weights(what, array, some=True):
    """Refuse weights below 0, those that are not finite and, if there must be some, those that are all 0."""
    if array.min() < 0:
        raise ValueError(f"{what} holds {array.min():g}, expected weights of at least 0")
    if not np.isfinite(array.max()):
        raise ValueError(f"{what} gives a sample a weight beyond {array.dtype.name}")
    if some and not array.any():
        raise ValueError(f"{what} leaves all samples with a weight of 0, expected at least one above it")


def is_classes(value, width):
    """Do the targets look like integer labels, one a row, rather than one row of probabilities a sample?"""
    array = _numeric("y", value)
    return width > 1 and (array.ndim == 1 or array.shape[1:] == (1,))


def _same_length(what, array, samples):
    if array.ndim == 0 or len(array) != samples:
        length = 0 if array.ndim == 0 else len(array)
        raise ValueError(f"X has {samples} samples and {what} has {length}; expected the same number")


def parameter(what, value, expected, dtype):
    """A parameter's values: a finite array of exactly the expected shape."""
    array = _numeric(what, value)
    if array.shape != tuple(expected):
        raise ValueError(f"{what} has shape {array.shape}, expected {tuple(expected)}")
    _finite(what, array, dtype)
    return array.astype(dtype)
