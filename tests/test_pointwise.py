"""Activations, copies and sums: kernels."""

import checks
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

PLAIN = ["sigmoid", "tanh", "relu", "selu", "softplus", "softsign", "hard_sigmoid", "step"]
REALS = {"leaky_relu": {"negative_slope": 0.3}, "elu": {"alpha": 1.5}}
OF_X = ["gelu", "swish"]  # their slopes are computed from x; they fall before they rise
ACTIVATIONS = [*PLAIN, *REALS, *OF_X, "softmax", "log_softmax"]
SHAPES = [(1, 1), (1, 17), (5, 3), (33, 16), (4, 65)]


def sizes(activation, width):
    return {"width": width} | REALS.get(activation, {})


def operands(name, shape, seed=0, scale=3.0):
    rng = np.random.default_rng(seed)
    x, dy = scale * rng.standard_normal(shape), rng.standard_normal(shape)
    activation, _, direction = name.rpartition("_")
    if direction == "forward":
        return {"x": x, "y": np.zeros(shape)}
    if activation in OF_X:
        return {"x": x, "dy": dy, "dx": np.zeros(shape)}
    y = checks.expected(f"{activation}_forward", {"x": x}, sizes(activation, shape[1]))["y"]
    return {"y": y, "dy": dy, "dx": np.zeros(shape)}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("direction", ["forward", "backward"])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_agrees_with_the_reference(activation, direction, shape, dtype, device):
    name = f"{activation}_{direction}"
    checks.check_forward(name, operands(name, shape), sizes(activation, shape[1]), dtype)


@pytest.mark.parametrize("shape", SHAPES[:3])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_gradients(activation, shape):
    name = f"{activation}_forward"
    checks.check_backward(name, operands(name, shape), sizes(activation, shape[1]))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_extremes_stay_finite(activation, dtype, device):
    x = np.array([[-1e30, -800.0, -100.0, 0.0, 100.0, 800.0, 1e30]])
    y = checks.Bench(f"{activation}_forward", {"x": x, "y": 0 * x}, sizes(activation, 7), dtype).run()["y"]
    assert np.isfinite(y).all()
    assert activation in OF_X or np.all(np.diff(y[0]) >= 0)
    given = {"dy": np.ones((1, 7)), "dx": 0 * x} | ({"x": x} if activation in OF_X else {"y": y})
    dx = checks.Bench(f"{activation}_backward", given, sizes(activation, 7), dtype).run()["dx"]
    assert np.abs(dx).max() <= 7


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_nan_is_kept(activation, device):
    x = np.array([[1.0, np.nan, -1.0]])
    y = checks.Bench(f"{activation}_forward", {"x": x, "y": 0 * x}, sizes(activation, 3), "float32").run()["y"]
    assert np.isnan(y[0, 1])


def test_relu_of_infinity(device):
    x = np.array([[-np.inf, np.inf]])
    y = checks.Bench("relu_forward", {"x": x, "y": np.zeros((1, 2))}, {"width": 2}, "float32").run()["y"]
    assert y.tolist() == [[0, np.inf]]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("at", [0, 3])
def test_copies(at, dtype, device):
    rng = np.random.default_rng(1)
    x, y = rng.standard_normal((5, 4)), rng.standard_normal((5, 9))
    checks.check_forward("copy_forward", {"x": x, "y": y}, {"width": 4, "at": at}, dtype)
    checks.check_forward("copy_backward", {"dy": y, "dx": 0 * x}, {"width": 4, "at": at}, dtype)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", SHAPES)
def test_sums(shape, dtype, device):
    rng = np.random.default_rng(2)
    given = {"x": rng.standard_normal(shape), "y": rng.standard_normal(shape)}
    checks.check_forward("add_forward", given, {"width": shape[1]}, dtype)


@pytest.mark.parametrize("width", [3, 17])
def test_sums_leave_padding_as_it_is(width, monkeypatch):
    """Added up in every step, that of a chain of sums would reach infinity within some thousand steps."""
    monkeypatch.setattr(checks, "ANY_PADDING", set())  # that of y is zero before, and so it must be after
    for dtype in ("float32", "float64"):
        given = {"x": np.ones((5, width)), "y": np.ones((5, width))}
        bench = checks.Bench("add_forward", given, {"width": width}, dtype)
        bench.pad("x", np.inf)
        assert np.all(bench.run()["y"] == 2)


@pytest.mark.parametrize("width", [3, 8, 33])
def test_copied_gradients_have_no_padding_of_steps_before(width):
    for dtype in ("float32", "float64"):
        given = {"dy": np.ones((5, width + 4)), "dx": np.zeros((5, width))}
        bench = checks.Bench("copy_backward", given, {"width": width, "at": 4}, dtype)
        bench.pad("dx", np.nan)
        assert np.all(bench.run()["dx"] == 1)  # which also looks at the padding


@pytest.mark.parametrize("shape", SHAPES[:4])
def test_gradients_of_copies_and_sums(shape):
    rng = np.random.default_rng(3)
    given, wide = {"x": rng.standard_normal(shape), "y": rng.standard_normal(shape)}, (shape[0], shape[1] + 5)
    checks.check_backward("add_forward", given, {"width": shape[1]})
    for at in (0, 3):
        given["y"] = rng.standard_normal(wide)
        checks.check_backward("copy_forward", given, {"width": shape[1], "at": at})


@settings(deadline=None, max_examples=30)
@given(st.sampled_from(ACTIVATIONS), st.integers(1, 40), st.integers(1, 70), st.integers(0, 2**31))
def test_any_shape(activation, rows, width, seed):
    for name in (f"{activation}_forward", f"{activation}_backward"):
        checks.check_forward(name, operands(name, (rows, width), seed), sizes(activation, width), "float64")
