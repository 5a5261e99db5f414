"""Normalisation: kernels, and the layers BatchNorm and LayerNorm."""

import checks
import numpy as np
import pytest

CASES = [(1, 1, 3), (5, 1, 17), (4, 3, 5), (9, 2, 33), (33, 1, 16)]  # rows, positions, width
SMALL = [(1, 1, 3), (4, 2, 5), (3, 1, 17)]


def rows(shape, seed=0, scale=2.0, shift=0.5):
    count, positions, width = shape
    return shift + scale * np.random.default_rng(seed).standard_normal((count, positions * width))


def vector(shape, seed):
    return np.random.default_rng(seed).uniform(0.5, 1.5, (1, shape[2]))


def sizes(shape, **more):
    return {"width": shape[2], "positions": shape[1], **more}


def batch_norm(shape, learning=True, **options):
    x = rows(shape, **options)
    moving = {"moving_mean": vector(shape, 1), "moving_variance": vector(shape, 2)}
    return {"x": x, "y": 0 * x, "spread": 0 * vector(shape, 0), **(moving if learning else dict.fromkeys(moving))}


def infer(shape):
    x = rows(shape)
    return {"x": x, "moving_mean": vector(shape, 1), "moving_variance": vector(shape, 2), "y": 0 * x}


def layer_norm(shape, **options):
    x = rows(shape, **options)
    return {"x": x, "y": 0 * x, "spread": np.zeros((shape[0], shape[1]))}


def scale(shape, gamma=True, beta=True):
    x = rows(shape)
    given = {"gamma": vector(shape, 1) if gamma else None, "beta": vector(shape, 2) if beta else None}
    return {"x": x, **given, "y": 0 * x}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", CASES)
def test_batch_norm_agrees_with_the_reference(shape, dtype, device):
    given = sizes(shape, epsilon=0.01, momentum=0.9)
    for learning in (True, False):
        checks.check_forward("batch_norm_forward", batch_norm(shape, learning), given, dtype)
    x, dy = rows(shape), rows(shape, 3)
    done = checks.expected("batch_norm_forward", batch_norm(shape, False), given)
    known = {"y": done["y"], "dy": dy, "spread": done["spread"], "dx": 0 * x}
    checks.check_forward("batch_norm_backward", known, sizes(shape), dtype)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", CASES)
def test_batch_norm_infer_agrees_with_the_reference(shape, dtype, device):
    given = infer(shape)
    checks.check_forward("batch_norm_infer_forward", given, sizes(shape, epsilon=0.01), dtype)
    known = {"dy": rows(shape, 3), "moving_variance": given["moving_variance"], "dx": 0 * given["x"]}
    checks.check_forward("batch_norm_infer_backward", known, sizes(shape, epsilon=0.01), dtype)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", CASES)
def test_layer_norm_agrees_with_the_reference(shape, dtype, device):
    given = layer_norm(shape)
    checks.check_forward("layer_norm_forward", given, sizes(shape, epsilon=0.01), dtype)
    done = checks.expected("layer_norm_forward", given, sizes(shape, epsilon=0.01))
    known = {"y": done["y"], "dy": rows(shape, 3), "spread": done["spread"], "dx": 0 * given["x"]}
    checks.check_forward("layer_norm_backward", known, sizes(shape), dtype)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", CASES)
def test_scale_agrees_with_the_reference(shape, dtype, device):
    x, dy, gamma = rows(shape), rows(shape, 3), vector(shape, 1)
    for given in ((True, True), (True, False), (False, True)):
        checks.check_forward("scale_forward", scale(shape, *given), sizes(shape), dtype)
    for some in (gamma, None):
        checks.check_forward("scale_backward_input", {"dy": dy, "gamma": some, "dx": 0 * x}, sizes(shape), dtype)
    checks.check_forward("scale_backward_gamma", {"x": x, "dy": dy, "dgamma": 0 * gamma}, sizes(shape), dtype)
    checks.check_forward("scale_backward_beta", {"dy": dy, "dbeta": 0 * gamma}, sizes(shape), dtype)


@pytest.mark.parametrize("shape", SMALL)
def test_gradients(shape):
    checks.check_backward("batch_norm_forward", batch_norm(shape), sizes(shape, epsilon=0.1, momentum=0.9))
    checks.check_backward("batch_norm_forward", batch_norm(shape, False), sizes(shape, epsilon=0.1, momentum=0.9))
    checks.check_backward("batch_norm_infer_forward", infer(shape), sizes(shape, epsilon=0.1))
    checks.check_backward("layer_norm_forward", layer_norm(shape), sizes(shape, epsilon=0.1))
    for given in ((True, True), (True, False), (False, True)):
        checks.check_backward("scale_forward", scale(shape, *given), sizes(shape))


@pytest.mark.parametrize("name", ["batch_norm_forward", "layer_norm_forward"])
def test_a_large_mean_costs_no_digits(name, device):
    """Variance 1 around 1000 in float32: the mean of squares less the square of the mean would be off by 0.06."""
    shape = (6, 1, 40)
    make = batch_norm if name == "batch_norm_forward" else layer_norm
    given = {key: value.astype("float32") for key, value in make(shape, scale=1.0, shift=1000.0).items()}
    found = checks.Bench(name, given, sizes(shape, epsilon=1e-3, momentum=0.9), "float32").run()
    wanted = checks.expected(name, given, sizes(shape, epsilon=1e-3, momentum=0.9))
    for key in ("y", "spread"):
        assert np.abs(found[key] - wanted[key]).max() <= 1e-4, key  # half a unit of 1000 is 3e-5


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_what_does_not_vary_becomes_zero(dtype, device):
    """A batch of one row, a column of one value, a row of one value."""
    given = sizes((1, 1, 20), epsilon=1e-3, momentum=0.5)
    for x in (rows((1, 1, 20)), np.full((5, 20), 0.1)):
        operands = {**batch_norm((1, 1, 20)), "x": x, "y": 0 * x + 1}
        found = checks.Bench("batch_norm_forward", operands, given, dtype).run()
        assert np.abs(found["y"]).max() <= 1e-6
        assert np.allclose(found["moving_variance"], 0.5 * operands["moving_variance"])
        assert np.allclose(found["spread"], 1000**0.5)
    operands = {"x": x, "y": 0 * x + 1, "spread": np.zeros((5, 1))}
    assert np.abs(checks.Bench("layer_norm_forward", operands, given, dtype).run()["y"]).max() <= 1e-6
