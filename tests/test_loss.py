"""Losses and metrics: kernels."""

import checks
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

SHAPES = [(1, 1), (1, 17), (5, 3), (33, 16), (4, 65), (18, 4), (17, 5)]
PLAIN = ["half_squared_error", "mse", "cross_entropy", "binary_cross_entropy"]
PLAIN += ["mae", "huber", "kl_divergence", "hinge", "poisson"]
FUSED = ["softmax_cross_entropy", "log_softmax_cross_entropy", "sigmoid_binary_cross_entropy"]
METRICS = ["accuracy", "binary_accuracy", "mean_squared_error", "mean_absolute_error"]


def operands(name, shape, seed=0, scale=2.0):
    rng = np.random.default_rng(seed)
    target, scores = rng.random(shape), rng.random((shape[0], 3))
    if name == "accuracy":
        target = np.eye(shape[1])[rng.integers(shape[1], size=shape[0])]
    if name == "hinge":
        target = np.where(target < 0.5, -1.0, 1.0)
    given = {"target": target, "scores": scores}
    if name in FUSED:
        return given | {"x": scale * rng.standard_normal(shape), "y": np.zeros(shape), "dx": np.zeros(shape)}
    y = 0.02 + (2 if name == "hinge" else 0.96) * rng.random(shape)  # some beyond the margin
    return given | ({"y": y} if name in METRICS else {"y": y, "dy": np.zeros(shape)})


def sizes(name, shape):
    return {"width": shape[1]} | ({"column": 2} if name in METRICS else {"delta": 0.3} if name == "huber" else {})


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", PLAIN + FUSED + METRICS)
def test_agrees_with_the_reference(name, shape, dtype, device):
    checks.check_forward(name, operands(name, shape), sizes(name, shape), dtype)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", SHAPES)
def test_weigh(shape, dtype, device):
    rng, rows = np.random.default_rng(0), shape[0]
    given = {"weights": rng.random((rows, 1)), "dy": rng.standard_normal(shape)}
    given |= {"unweighted": rng.random((rows, 1)), "scores": rng.random((rows, 2))}
    checks.check_forward("weigh", given, {"width": shape[1]}, dtype)


@pytest.mark.parametrize("shape", SHAPES[:3])
@pytest.mark.parametrize("name", PLAIN + FUSED)
def test_gradients(name, shape):
    checks.check_loss(name, operands(name, shape), sizes(name, shape))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", FUSED)
def test_extreme_logits_stay_exact(name, dtype, device):
    x = np.array([[-500.0, 0.0, 500.0]])
    given = {"x": x, "y": 0 * x, "dx": 0 * x, "target": np.array([[1.0, 0.0, 0.0]]), "scores": np.zeros((1, 1))}
    found = checks.Bench(name, given, {"width": 3}, dtype).run()
    wanted = (500 + np.log(2) + 500) / 3 if name.startswith("sigmoid") else 1000.0
    assert found["scores"][0, 0] == pytest.approx(wanted, rel=1e-6)
    assert np.isfinite(found["dx"]).all()


@pytest.mark.parametrize("name", ["cross_entropy", "binary_cross_entropy", "kl_divergence", "poisson"])
def test_certain_probabilities_stay_finite(name, device):
    y, target = np.array([[0.0, 1.0, 0.0, 1.0]]), np.array([[0.0, 1.0, 1.0, 0.0]])
    found = checks.Bench(name, {"y": y, "target": target, "dy": 0 * y, "scores": np.zeros((1, 1))}, {"width": 4}).run()
    assert np.isfinite(found["dy"]).all()
    assert np.isfinite(found["scores"]).all()


@pytest.mark.parametrize("name", PLAIN + FUSED)
def test_nan_is_kept(name, device):
    given = operands(name, (1, 3))
    given["x" if name in FUSED else "y"][0, 1] = np.nan
    assert np.isnan(checks.Bench(name, given, sizes(name, (1, 3)), "float32").run()["scores"][0, 0])


@settings(deadline=None, max_examples=40)
@given(st.sampled_from(PLAIN + FUSED + METRICS), st.integers(1, 40), st.integers(1, 70), st.integers(0, 2**31))
def test_any_shape(name, rows, width, seed):
    checks.check_forward(name, operands(name, (rows, width), seed), sizes(name, (rows, width)), "float64")


def test_the_first_of_several_largest_counts(device):
    """Ties far apart and near, and rows of one value, minus infinity among them."""
    y, target = np.zeros((5, 21)), np.eye(21)[[0, 3, 20, 19, 0]]
    y[0], y[4] = 1.0, -np.inf
    y[1, [3, 8, 20]] = 2.0
    y[2, [19, 20]] = y[3, [19, 20]] = 3.0
    bench = checks.Bench("accuracy", {"y": y, "target": target, "scores": np.zeros((5, 2))}, {"width": 21, "column": 1})
    assert bench.run()["scores"][:, 1].tolist() == [1, 1, 0, 1, 1]
