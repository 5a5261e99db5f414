"""Noise: kernels, and the layers Dropout and GaussianNoise."""

import checks
import numpy as np
import pytest
import reference

SHAPES = [(1, 1), (5, 3), (3, 70), (9, 16), (2, 133)]
DROP = {"rate": 0.3, "seed": 2**40 + 12345, "stream": 3}
NOISE = {"stddev": 0.5, "seed": 2**63 - 1, "stream": 2}


def rows(shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", SHAPES)
def test_agrees_with_the_reference(shape, dtype, device):
    x, width = rows(shape), {"width": shape[1]}
    checks.check_forward("dropout_forward", {"x": x, "y": 0 * x}, DROP | width, dtype)
    checks.check_forward("dropout_backward", {"dy": x, "dx": 0 * x}, DROP | width, dtype)
    checks.check_forward("gaussian_noise_forward", {"x": x, "y": 0 * x}, NOISE | width, dtype)


@pytest.mark.parametrize("shape", SHAPES[:3])
def test_gradients(shape):
    x, width = rows(shape), {"width": shape[1]}
    checks.check_backward("dropout_forward", {"x": x, "y": 0 * x}, DROP | width)
    checks.check_backward("gaussian_noise_forward", {"x": x, "y": 0 * x}, NOISE | width)


@pytest.mark.parametrize("rate", [1e-9, 0.5, 1 - 2.0**-33])
def test_extreme_rates(rate, device):
    """Rates that no word of 32 bits can tell from 0 or 1: everything passes, or nothing; and what is dropped is 0."""
    x = np.array([[1.0, np.inf, -np.inf, np.nan] * 5])
    y = checks.Bench("dropout_forward", {"x": x, "y": np.zeros_like(x)}, {"width": 20, **DROP, "rate": rate}).run()["y"]
    dropped = reference.words(1, 20, DROP["seed"], DROP["stream"]) < rate * 2**32
    assert dropped.mean() == (rate > 0.6) or rate == 0.5
    assert np.array_equal(y, np.where(dropped, 0, x / (1 - rate)), equal_nan=True)
