"""Settings of the whole suite."""

import signal

import hardware  # noqa: F401  (before Numba)
import numpy as np
import pytest
from hypothesis import settings

import numbanet as nn
from numbanet.kernels.jit import JIT


def pytest_collection_modifyitems(items):
    """Plain Python is some hundred times slower: leave out what only trains for long, not what checks the code."""
    if not JIT:
        for item in items:
            if item.get_closest_marker("compiled"):
                item.add_marker(pytest.mark.skip(reason="needs the compiler"))


settings.register_profile("numbanet", deadline=None, derandomize=True)
settings.load_profile("numbanet")


@pytest.fixture(params=["cpu", "cuda"])
def device(request, monkeypatch):
    """Each device's name in turn; kernels that are checked run on it."""
    monkeypatch.setattr("checks.DEVICE", request.param)
    return request.param


@pytest.fixture
def interruptible():
    """Ctrl-C raises, here and in processes started from here; a job in the background inherits that it is ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def digits():
    """A small slice of the digits: 300 images and labels."""
    (X, y), _ = nn.data.load_digits()
    return X[:300], y[:300]


@pytest.fixture
def blobs():
    """Three separable clusters: 120 points in the plane, labels 0, 1, 2."""
    rng = np.random.default_rng(0)
    y = np.arange(120) % 3
    X = np.array([[0, 3], [3, -2], [-3, -2]])[y] + rng.normal(size=(120, 2))
    return X.astype(np.float32), y


def unchanged(model):
    """What must be the same after an error: weights, optimiser state, settings and counters."""
    return model._theta.copy(), model.optimizer, model.loss, model.metrics, model.epochs, model.updates


@pytest.fixture
def same():
    """Assert that two states from `unchanged` are the same."""

    def check(before, after):
        assert np.array_equal(before[0], after[0])
        assert before[1:] == after[1:]

    return check
