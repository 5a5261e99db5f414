"""Noise: kernels, and the layers Dropout and GaussianNoise."""

import math

import checks
import numpy as np
import pytest
import reference
from networks import close

import numbanet as nn
from numbanet.kernels import UPDATE
from numbanet.training import run_epoch

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


# -- the layers


def network(*layers, inputs, seed=0, dtype="float32"):
    model = nn.Sequential([nn.Input(inputs), *layers], seed=seed, dtype=dtype)
    model.compile("sgd", "mse")
    return model


def seen(model, X, update=0):
    """The network's output as training computes it in the step after so many updates."""
    data = model._data(X, np.zeros((len(X), model.graph.output.shape[0])))
    program = model._program("loss", len(X), data.form())
    program.steps[:, UPDATE] = update
    run_epoch(program, data, np.arange(len(X)), len(X))
    return program.read(program.plan.outputs[model.graph.output])


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
def test_a_share_is_dropped_and_the_mean_stays(rate):
    """Of 40,000 ones, within four standard deviations of what is expected."""
    X = np.ones((400, 100))
    y = seen(network(nn.Dropout(rate), inputs=100), X)
    deviation = np.sqrt(rate * (1 - rate) / y.size)
    assert abs((y == 0).mean() - rate) <= 4 * deviation
    assert abs(y.mean() - 1) <= 4 * deviation / (1 - rate)
    assert np.array_equal(np.unique(y), np.array([0, 1 / (1 - rate)], np.float32))
    for axis in (0, 1):  # no row and no column has more of its share than chance gives
        spread = np.abs((y == 0).mean(axis=axis) - rate) / np.sqrt(rate * (1 - rate) / y.shape[axis])
        assert spread.max() <= 5


def test_masks_differ():
    """Those of two steps, two calls of one layer, two layers and two seeds agree in as many places as by chance."""
    x, drop = nn.Input(100), nn.Dropout(0.5)
    joined = nn.Concatenate()([drop(x), drop(x), nn.Dropout(0.5)(x)])
    models = [nn.Model(x, joined, seed=seed) for seed in (3, 4, 3 + 2**32)]
    for model in models:
        model.compile("sgd", "mse")
    X = np.ones((100, 100))
    masks = [mask for model in models for mask in np.split(seen(model, X) > 0, 3, axis=1)]
    masks += [seen(models[0], X, update)[:, :100] > 0 for update in (1, 2, 255, 2**31)]
    for k, one in enumerate(masks):
        for other in masks[:k]:
            assert abs((one == other).mean() - 0.5) <= 5 * 0.5 / 100
    assert np.array_equal(masks[0], seen(models[0], X)[:, :100] > 0)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_noise_is_normal(dtype):
    """Mean, standard deviation, no correlation of neighbours, and the distribution (Kolmogorov & Smirnov)."""
    X = np.full((300, 100), 2.0)
    z = (seen(network(nn.GaussianNoise(0.5), inputs=100, dtype=dtype), X).astype(np.float64) - 2) / 0.5
    count = z.size
    assert abs(z.mean()) <= 4 / count**0.5
    assert abs(z.std() - 1) <= 4 / (2 * count) ** 0.5
    for one, other in ((z[:, :-1], z[:, 1:]), (z[:-1], z[1:]), (z[:, :-1] ** 2 - 1, z[:, 1:] ** 2 - 1)):
        assert abs((one * other).mean()) <= 4 * (one * other).std() / one.size**0.5
    wanted = np.array([0.5 * (1 + math.erf(value / 2**0.5)) for value in np.sort(z.ravel())])
    assert np.abs(wanted - (np.arange(count) + 0.5) / count).max() <= 1.95 / count**0.5  # a chance of 1 in 1000


def test_only_training_is_disturbed():
    X = np.random.default_rng(0).random((30, 5), np.float32)
    model = network(nn.Dropout(0.5), nn.GaussianNoise(1.0), nn.Dropout(0), nn.GaussianNoise(0), inputs=5)
    assert np.array_equal(model.predict(X), X)
    assert model.evaluate(X, X)["loss"] == 0
    assert model.train_on_batch(X, X)["loss"] > 0.1
    names = [op.name for op in model.plan("train").ops]
    assert [names.count(name) for name in ("dropout_forward", "gaussian_noise_forward")] == [1, 1]  # 0 costs nothing
    assert not [op for mode in ("predict", "evaluate") for op in model.plan(mode).ops if "noise" in op.name]


def test_each_step_has_its_noise_and_a_fit_repeats_it():
    X, y = np.ones((8, 3)), np.zeros((8, 3))
    losses = []
    for _ in range(2):
        model = network(nn.Dropout(0.5), nn.Dense(3, use_bias=False), inputs=3, seed=5)
        model.compile(nn.SGD(1e-9), "mse")
        losses.append([model.train_on_batch(X, y)["loss"] for _ in range(5)])
    assert losses[0] == losses[1]
    assert len(set(losses[0])) == 5


def test_what_is_dropped_is_not_learnt():
    """The kernel's rows of inputs that the mask left out for the whole batch stay; others move."""
    X, y = np.ones((1, 50)), np.ones((1, 2))
    model = network(nn.Dropout(0.5), nn.Dense(2), inputs=50)
    before = model.get_weights()[0]
    kept = seen(network(nn.Dropout(0.5), inputs=50), X)[0] > 0  # the first stream of the same seed
    model.train_on_batch(X, y)
    assert np.array_equal((model.get_weights()[0] != before).any(axis=1), kept)


def test_both_devices_draw_the_same():
    X = np.random.default_rng(0).standard_normal((6, 21))
    for layer, dtype in ((nn.Dropout(0.4), "float32"), (nn.GaussianNoise(0.5), "float64")):
        model = network(layer, inputs=21, seed=7, dtype=dtype)
        ours = seen(model, X, 9)
        theirs = seen(model.to("cuda"), X, 9)
        assert np.array_equal(ours == 0, theirs == 0)
        assert close(theirs, ours, dtype)
