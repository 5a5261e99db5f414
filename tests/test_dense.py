"""The dense layer's kernels."""

import checks
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

SHAPES = [(1, 1, 1), (1, 3, 2), (5, 7, 3), (17, 16, 33), (4, 65, 10), (33, 1, 17)]


def operands(rows, inputs, units, bias=True, seed=0):
    rng = np.random.default_rng(seed)
    draw = rng.standard_normal
    given = {"x": draw((rows, inputs)), "kernel": draw((inputs, units)), "bias": draw((1, units)) if bias else None}
    gradients = {"dy": draw((rows, units)), "transposed_kernel": given["kernel"].T}
    zeros = {"y": (rows, units), "dx": (rows, inputs), "dkernel": (inputs, units), "dbias": (1, units)}
    return given | gradients | {key: np.zeros(shape) for key, shape in zeros.items()}


def pick(everything, name):
    return {key: everything[key] for key in checks.OPS[name].operands}


def sizes(name, inputs, units, relu=0):
    known = {"inputs": inputs, "units": units, "relu": relu, "columns": 0}
    return {key: size for key, size in known.items() if key in checks.OPS[name].sizes}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(
    "name", ["dense_forward", "dense_backward_input", "dense_backward_kernel", "dense_backward_bias"]
)
def test_agrees_with_the_reference(name, shape, dtype, device):
    checks.check_forward(name, pick(operands(*shape), name), sizes(name, *shape[1:]), dtype)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("relu", [0, 1])
def test_with_and_without_bias_and_relu(relu, bias, dtype, device):
    everything = operands(13, 7, 50, bias=bias)
    checks.check_forward("dense_forward", pick(everything, "dense_forward"), sizes("dense_forward", 7, 50, relu), dtype)


def test_nan_and_infinity_pass_through(device):
    """A NaN spoils its row's outputs and no others, relu or not; infinity gives infinity, below zero zero."""
    everything = operands(9, 3, 5)
    everything["x"][2, 1], everything["x"][4, 0] = np.nan, np.inf
    for relu in (0, 1):
        y = checks.Bench(
            "dense_forward", pick(everything, "dense_forward"), sizes("dense_forward", 3, 5, relu), "float32"
        ).run()["y"]
        assert np.isnan(y[2]).all()
        assert np.isfinite(np.delete(y, [2, 4], axis=0)).all()
        wanted = np.where(everything["kernel"][0] > 0, np.inf, 0 if relu else -np.inf)
        assert y[4].tolist() == wanted.tolist()


@pytest.mark.parametrize("shape", SHAPES[:4])
def test_gradients(shape):
    name = "dense_forward"
    checks.check_backward(name, pick(operands(*shape), name), sizes(name, *shape[1:]))


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 40), st.integers(0, 2**31))
def test_any_shape(rows, inputs, units, seed):
    everything = operands(rows, inputs, units, seed=seed)
    for name in ("dense_forward", "dense_backward_input", "dense_backward_kernel", "dense_backward_bias"):
        checks.check_forward(name, pick(everything, name), sizes(name, inputs, units), "float64")
