"""Initialisers: statistics of many draws, and the values that a model begins with."""

import math

import numpy as np
import pytest

import numbanet as nn
from numbanet import initializers
from numbanet.kernels import PANEL

SHAPE = (2000, 500)  # a million draws; fan_in 2000, fan_out 500
STATISTICS = {  # mean, variance, largest magnitude
    "zeros": (0, 0, 0),
    "random_normal": (0, 0.05**2, None),
    "glorot_uniform": (0, 2 / 2500, math.sqrt(6 / 2500)),
    "glorot_normal": (0, 2 / 2500, 2 * math.sqrt(2 / 2500) / initializers.TRUNCATED),
    "he_normal": (0, 2 / 2000, 2 * math.sqrt(2 / 2000) / initializers.TRUNCATED),
}


def check(initializer, mean, variance, largest):
    draws = initializer.draw(SHAPE, np.random.default_rng(0))
    assert draws.shape == SHAPE
    assert abs(draws.mean() - mean) <= 5 * math.sqrt(variance / draws.size)
    assert draws.var() == pytest.approx(variance, rel=0.01)
    if largest is not None:
        assert np.abs(draws).max() == pytest.approx(largest, rel=0.01)
        assert np.abs(draws).max() <= largest
    else:
        assert np.abs(draws).max() > 4 * math.sqrt(variance)


@pytest.mark.parametrize("name", initializers.INITIALIZERS)
def test_named_initialisers(name):
    check(initializers.get(name), *STATISTICS[name])


@pytest.mark.parametrize(
    ("initializer", "statistics"),
    [
        (nn.Constant(1.5), (1.5, 0, 1.5)),
        (nn.RandomNormal(2.0, 0.5), (2, 0.25, None)),
        (nn.VarianceScaling(3.0, "fan_out", "normal"), (0, 3 / 500, None)),
        (nn.VarianceScaling(0.5, "fan_avg", "uniform"), (0, 1 / 2500, math.sqrt(3 / 2500))),  # 1 / (inputs + outputs)
        (nn.VarianceScaling(), (0, 1 / 2000, 2 * math.sqrt(1 / 2000) / initializers.TRUNCATED)),
    ],
)
def test_initialisers_with_parameters(initializer, statistics):
    check(initializer, *statistics)


def test_a_cut_normal_is_rescaled():
    """The factor is the standard deviation of a normal distribution cut at two: from its closed form."""
    density = math.exp(-2) / math.sqrt(2 * math.pi)
    deviation = math.sqrt(1 - 4 * density / math.erf(math.sqrt(2)))
    assert pytest.approx(deviation, rel=1e-12) == initializers.TRUNCATED


def test_a_model_begins_as_its_layers_say():
    """Glorot-uniform kernels and zero biases by default; each parameter has a stream of its own."""
    dense = nn.Dense(500, bias_initializer=nn.Constant(0.25))
    model = nn.Sequential([nn.Input(500), nn.Dense(500), dense], seed=0)
    first, zeros, second, quarter = model.get_weights()
    assert not zeros.any()
    assert np.all(quarter == 0.25)
    assert not np.array_equal(first, second)
    assert abs(np.corrcoef(first.ravel(), second.ravel())[0, 1]) < 0.01
    assert np.abs(first).max() == pytest.approx(math.sqrt(6 / 1000), rel=0.01)


def test_rows_begin_on_cache_lines():
    """Theta and workspaces are aligned to 64 bytes: an unaligned vector load crosses a cache line."""
    for dtype in ("float32", "float64"):
        models = [nn.Sequential([nn.Input(3), nn.Dense(2)], dtype=dtype) for _ in range(20)]
        assert all(model._theta.ctypes.data % 64 == 0 for model in models)
        assert all(parameter.offset % PANEL == 0 for parameter in models[0].graph.parameters)
