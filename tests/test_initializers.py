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
    "ones": (1, 0, 1),
    "constant": (0, 0, 0),
    "random_normal": (0, 0.05**2, None),
    "random_uniform": (0, 0.1**2 / 12, 0.05),
    "glorot_uniform": (0, 2 / 2500, math.sqrt(6 / 2500)),
    "glorot_normal": (0, 2 / 2500, 2 * math.sqrt(2 / 2500) / initializers.TRUNCATED),
    "he_uniform": (0, 2 / 2000, math.sqrt(6 / 2000)),
    "he_normal": (0, 2 / 2000, 2 * math.sqrt(2 / 2000) / initializers.TRUNCATED),
    "lecun_uniform": (0, 1 / 2000, math.sqrt(3 / 2000)),
    "lecun_normal": (0, 1 / 2000, 2 * math.sqrt(1 / 2000) / initializers.TRUNCATED),
    "orthogonal": (0, 1 / 2000, None),  # 500 columns of length 1
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
        (nn.RandomUniform(1.0, 4.0), (2.5, 9 / 12, 4.0)),
        (nn.Orthogonal(3.0), (0, 9 / 2000, None)),
        (nn.VarianceScaling(3.0, "fan_out", "normal"), (0, 3 / 500, None)),
        (nn.VarianceScaling(0.5, "fan_avg", "uniform"), (0, 1 / 2500, math.sqrt(3 / 2500))),  # 1 / (inputs + outputs)
        (nn.VarianceScaling(), (0, 1 / 2000, 2 * math.sqrt(1 / 2000) / initializers.TRUNCATED)),
    ],
)
def test_initialisers_with_parameters(initializer, statistics):
    check(initializer, *statistics)


@pytest.mark.parametrize("shape", [(5, 5), (40, 7), (7, 40), (3, 3, 4, 6), (3, 3, 4, 50), (1, 1), (6,)])
def test_orthogonal(shape):
    """Orthonormal columns, or rows where they are fewer, to rounding; different ones for every draw."""
    generator = np.random.default_rng(0)
    first, second = (nn.Orthogonal(2.0).draw(shape, generator) for _ in range(2))
    assert first.shape == shape
    matrix = first.reshape(-1, shape[-1]) / 2
    product = matrix.T @ matrix if len(matrix) >= shape[-1] else matrix @ matrix.T
    assert np.abs(product - np.eye(len(product))).max() <= 1e-12
    assert np.allclose(first, second) == (shape == (1, 1) and first == second)


def test_orthogonal_matrices_are_uniformly_distributed():
    """Without the signs of R the diagonal of Q would lean to one side: its mean is 0."""
    generator = np.random.default_rng(0)
    diagonals = np.array([np.diag(nn.Orthogonal().draw((3, 3), generator)) for _ in range(4000)])
    assert np.abs(diagonals.mean(axis=0)).max() < 5 * np.sqrt(1 / 3 / 4000)


@pytest.mark.parametrize(
    ("shape", "fans"),
    [
        ((64, 128), (64, 128)),  # Dense, Embedding
        ((3, 3, 16, 32), (144, 288)),  # a 3 x 3 convolution of 16 channels into 32
        ((5, 8, 4), (40, 20)),  # one axis
        ((20, 80), (20, 80)),  # a kernel of an LSTM: four gates of 20 units
        ((10,), (10, 10)),
    ],
)
def test_fans(shape, fans):
    assert initializers.fans(shape) == fans
    for mode, fan in (("fan_in", fans[0]), ("fan_out", fans[1]), ("fan_avg", sum(fans) / 2)):
        draws = [
            nn.VarianceScaling(1.5, mode, "normal").draw(shape, np.random.default_rng(seed)) for seed in range(200)
        ]
        assert np.var(draws) == pytest.approx(1.5 / fan, rel=0.15)


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


@pytest.mark.compiled
def test_selu_keeps_mean_and_variance_through_32_layers():
    """Self-normalising: selu with lecun_normal (Klambauer et al., 2017), each of 32 layers 256 wide."""
    layers = [nn.Dense(256, "selu", kernel_initializer="lecun_normal") for _ in range(32)]
    model = nn.Sequential([nn.Input(256), *layers], seed=0)
    X = np.random.default_rng(0).standard_normal((1024, 256))
    for name in list(model.graph.names.values())[1:]:
        y = model.submodel(outputs=name).predict(X)
        assert abs(y.mean()) <= 0.1, name
        assert abs(y.var() - 1) <= 0.1, name
