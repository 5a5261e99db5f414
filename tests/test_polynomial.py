"""The elementary functions on vectors: worst errors in units in the last place, special values, symmetry.

Compiled, each function is reached as kernels reach it, through numbanet.kernels.scalar on a vector. Without a compiler
the polynomials run on NumPy arrays, with multiplications and additions that are not fused.
"""

import math

import numpy as np
import pytest

from numbanet.kernels import scalar
from numbanet.kernels.cpu import polynomial
from numbanet.kernels.cpu.engine import flush_denormals, restore_denormals
from numbanet.kernels.cpu.simd import lanes, load, store
from numbanet.kernels.jit import JIT
from numbanet.kernels.jit import scalar as inlined

# Worst errors in units in the last place, and a quarter to a half more for machines that cannot fuse.
ULPS = {"exp": 2.5, "log": 2.0, "log1p_unit": 2.5, "tanh": 3.0, "erf": 3.0, "sigmoid": 3.5, "softplus": 3.5}
ULPS |= {"sin_eighth": 1.5, "cos_eighth": 1.5}
BITS = {"float32": np.uint32, "float64": np.uint64}
LONG = np.longdouble if np.finfo(np.longdouble).nmant > 60 else np.float64
WIDE = {"float32": np.float64, "float64": LONG}  # what the exact result is computed in

erf = np.vectorize(math.erf, otypes=[np.float64])
EXACT = {
    "exp": np.exp,
    "log": np.log,
    "log1p_unit": np.log1p,
    "tanh": np.tanh,
    "erf": lambda x: erf(x).astype(x.dtype),
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "softplus": lambda x: np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x))),
    "sin_eighth": np.sin,
    "cos_eighth": np.cos,
}
NAMES = sorted(EXACT)
DTYPES = ["float32", "float64"]

# Where each function has its interesting arguments, in float32 and in float64.
RANGES = {
    "exp": {"float32": (-90, 90), "float64": (-712, 712)},
    "log": {"float32": (0, 4), "float64": (0, 4)},
    "log1p_unit": {"float32": (0, 1), "float64": (0, 1)},
    "tanh": {"float32": (-10, 10), "float64": (-20, 20)},
    "erf": {"float32": (-5, 5), "float64": (-7, 7)},
    "sigmoid": {"float32": (-90, 90), "float64": (-712, 712)},
    "softplus": {"float32": (-90, 90), "float64": (-712, 712)},
    "sin_eighth": {"float32": (-1, 1), "float64": (-1, 1)},
    "cos_eighth": {"float32": (-1, 1), "float64": (-1, 1)},
}
DOMAIN = {"log": (0, np.inf), "log1p_unit": (0, 1)}
DOMAIN |= dict.fromkeys(["sin_eighth", "cos_eighth"], (-math.pi / 4, math.pi / 4))
HALF_LN2 = math.log(2) / 2
THRESHOLDS = [0.5, math.sqrt(0.5), 1, math.sqrt(2), 2, 4, 4.375, 6, 6.25, 9, 9.125, 19.0, 19.1, 20]
THRESHOLDS += [k * HALF_LN2 for k in (0.5, 1, 1.5, 2, 3, 5, 20)]
EDGES = {
    "float32": [k * HALF_LN2 for k in (245, 247, 250, 252, 253, 254, 255, 256)] + [87, 88, 88.5, 89],
    "float64": [k * HALF_LN2 for k in (2041, 2043, 2044, 2045, 2046, 2047, 2048)] + [708, 709, 709.5, 710],
}

_ready = {}


def applied(name):
    """y[:] = name(x), for rows of whole vectors, as a kernel computes it; flush: with denormals as zero."""
    function = getattr(scalar, name)

    @inlined
    def loop(x, y, flush):
        old = flush_denormals() if flush else 0
        for j in range(0, x.shape[1], lanes(x)):
            store(y, 0, j, function(load(x, 0, j)))
        if flush:
            restore_denormals(old)

    return loop


def computed(name, x, flush=True):
    """The function of a flat array."""
    x = np.asarray(x)
    if not JIT:
        short = {"float32": "f32", "float64": "f64"}[x.dtype.name]
        function = getattr(polynomial, f"{name}_{short}", None) or getattr(scalar, name)
        with np.errstate(all="ignore"):
            found = np.asarray(function(x)).astype(x.dtype)
        flushed = np.where(np.abs(found) < np.finfo(x.dtype).tiny, np.copysign(0, found), found)
        return flushed if flush else found
    if name not in _ready:
        _ready[name] = applied(name)
    rows = np.zeros((1, -(-len(x) // 16) * 16), x.dtype)
    rows[0, : len(x)] = x
    found = np.full_like(rows, -7)
    _ready[name](rows, found, flush)
    return found[0, : len(x)]


def every_magnitude(dtype, count):
    """Finite numbers of every sign and exponent: all patterns of bits are equally likely."""
    bits = np.random.default_rng(0).integers(0, 2 ** (8 * np.dtype(dtype).itemsize), count, BITS[dtype], endpoint=False)
    numbers = bits.view(dtype)
    return numbers[np.isfinite(numbers)]


def around(points, dtype, steps=40):
    """Each point and its next neighbours on both sides, of both signs."""
    near = np.array(points, dtype).view(BITS[dtype])[:, None] + np.arange(-steps, steps + 1).astype(BITS[dtype])
    near = near.ravel().view(dtype)
    return np.concatenate([near, -near])


def samples(name, dtype, count=60_000):
    """Arguments in a function's domain: of every magnitude, dense where something happens, and around thresholds."""
    rng = np.random.default_rng(1)
    least, most = RANGES[name][dtype]
    tiny, small = np.finfo(dtype).tiny, np.finfo(dtype).eps
    parts = [
        every_magnitude(dtype, count),
        rng.uniform(least, most, count),
        rng.uniform(-1, 1, count),
        rng.uniform(-1, 1, count) * 2.0 ** rng.uniform(-40, 0, count),
        1 + rng.uniform(-1, 1, count) * 2.0 ** rng.uniform(-30, 0, count),
        around(THRESHOLDS + EDGES[dtype] + [tiny * 2**k for k in (1, 2, 24)] + [small, small / 2], dtype),
    ]
    x = np.concatenate([np.asarray(part, dtype) for part in parts])
    low, high = DOMAIN.get(name, (-np.inf, np.inf))
    return x[(x >= low) & (x <= high) & (np.abs(x) >= tiny)]


def errors(name, x, found):
    """Errors in units in the last place of the exact result; for results too small to be normal, 0 if flushed well."""
    dtype, wide = x.dtype.name, WIDE[x.dtype.name]
    limits = np.finfo(dtype)
    with np.errstate(all="ignore"):
        exact = EXACT[name](x.astype(wide))
        beyond = wide(2) ** limits.maxexp  # what infinity stands for
        exact, found = (np.clip(np.asarray(values, wide), -beyond, beyond) for values in (exact, found))
        unit = np.ldexp(wide(1), np.maximum(np.frexp(exact)[1] - 1, limits.minexp) - limits.nmant)
        error = np.abs(found - exact) / unit
    flushed = (np.abs(exact) < limits.tiny) & (np.abs(found) <= limits.tiny)
    return np.where(flushed, 0, error).astype(np.float64)


def allowance(name, dtype):
    """Units that the exact result may be off: nothing, but 1 where it was computed in the very dtype."""
    return float(WIDE[dtype] is np.dtype(dtype).type or (name == "erf" and dtype == "float64"))


@pytest.mark.parametrize("flush", [True, False])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", NAMES)
def test_few_units_in_the_last_place(name, dtype, flush):
    x = samples(name, dtype)
    error = errors(name, x, computed(name, x, flush))
    worst = int(np.argmax(np.where(np.isnan(error), np.inf, error)))
    assert error[worst] <= ULPS[name] + allowance(name, dtype), f"{name}({x[worst]!r}) is off by {error[worst]:.2f} ulp"


INF, NAN = np.inf, np.nan
SPECIAL = {
    "exp": {0.0: 1, -INF: 0, INF: INF, 1e5: INF, -1e5: 0, 1e30: INF, -1e30: 0},
    "log": {1.0: 0, 0.0: -INF, -1.0: NAN, -INF: NAN, INF: INF, -1e-30: NAN},
    "log1p_unit": {0.0: 0},
    "tanh": {0.0: 0, INF: 1, -INF: -1, 1e30: 1, -1e30: -1, 100.0: 1, -100.0: -1},
    "erf": {0.0: 0, INF: 1, -INF: -1, 1e30: 1, -1e30: -1, 100.0: 1, -100.0: -1},
    "sigmoid": {0.0: 0.5, INF: 1, -INF: 0, 1e5: 1, -1e5: 0, 1e30: 1, -1e30: 0},
    "softplus": {INF: INF, -INF: 0, 1e5: 1e5, -1e5: 0, -1e30: 0},
    "sin_eighth": {0.0: 0},
    "cos_eighth": {0.0: 1},
}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", NAMES)
def test_special_values(name, dtype):
    """Limits are exact and NaN gives NaN, in every lane and whatever its neighbours."""
    x = np.array([*SPECIAL[name], NAN, -NAN], dtype)
    wanted = np.array([*SPECIAL[name].values(), NAN, NAN], dtype)
    for turn in range(16):
        found = computed(name, np.tile(np.roll(x, turn), 3))
        assert np.array_equal(found, np.tile(np.roll(wanted, turn), 3), equal_nan=True), (x, found)


@pytest.mark.parametrize("dtype", DTYPES)
def test_zero_and_denormals(dtype):
    """log of either zero is -infinity; tanh and erf keep the sign of zero; what is not normal counts as zero or not."""
    zeros = np.array([0.0, -0.0], dtype)
    assert computed("log", zeros).tolist() == [-INF, -INF]
    assert computed("exp", zeros).tolist() == [1, 1]
    tiny = np.finfo(dtype).tiny / np.array([2, -2, 1000, -1000], dtype)
    for name in ("tanh", "erf"):
        found = computed(name, zeros)
        assert found.tolist() == [0, 0]
        assert np.signbit(found).tolist() == [False, True]
        for flush in (True, False):
            found = computed(name, tiny, flush)
            assert np.all(np.abs(found) <= np.finfo(dtype).tiny)
            assert np.array_equal(np.signbit(found), np.signbit(tiny))
    for flush in (True, False):
        assert computed("exp", tiny, flush).tolist() == [1] * 4
        assert computed("sigmoid", tiny, flush).tolist() == [0.5] * 4
        assert np.all(computed("log", np.abs(tiny), flush) < np.log(np.finfo(dtype).tiny))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ["tanh", "erf"])
def test_odd_and_bounded(name, dtype):
    x = np.abs(samples(name, dtype, 5000))
    found = computed(name, x)
    assert np.array_equal(computed(name, -x), -found)
    assert np.all(found <= 1)
    assert np.all(found >= 0)


@pytest.mark.parametrize("dtype", DTYPES)
def test_sigmoid_lies_between_zero_and_one(dtype):
    x = samples("sigmoid", dtype, 5000)
    found = computed("sigmoid", x)
    assert np.all((found >= 0) & (found <= 1))
    assert np.all((found >= 0.5) == (x >= 0) | (found == 0.5))
    assert np.all(computed("softplus", x) >= np.maximum(x, 0))


@pytest.mark.parametrize("dtype", DTYPES)
def test_overflow_comes_where_it_should(dtype):
    """exp is finite up to the logarithm of the largest number, and infinite from just above it."""
    limits = np.finfo(dtype)
    last = np.log(WIDE[dtype](limits.max)).astype(dtype)
    last = last if np.exp(last.astype(WIDE[dtype])) <= limits.max else np.nextafter(last, last - last)
    found = computed("exp", np.array([last, np.nextafter(last, np.array(INF, dtype))], dtype))
    assert np.isfinite(found[0])
    assert np.isinf(found[1])
