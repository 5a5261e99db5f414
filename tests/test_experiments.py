"""Classic experiments: whole networks on problems with a known answer."""

import pytest

import numbanet as nn

pytestmark = pytest.mark.compiled


def classifier(units, activation, seed):
    hidden = [nn.Dense(units, activation) for _ in range(2)]
    return nn.Sequential([nn.Input(2), *hidden, nn.Dense(1, "sigmoid")], seed=seed)


@pytest.mark.parametrize("seed", range(3))
def test_two_spirals_are_told_apart(seed):
    """All 194 points (Lang & Witbrock, 1988). Recipe: 2-64-64-1, tanh, Adam at 0.003, full batch, 4000 epochs."""
    X, y = nn.data.two_spirals()
    model = classifier(64, "tanh", seed)
    model.compile(nn.Adam(0.003), "binary_cross_entropy", ["accuracy"])
    model.fit(X, y, batch_size=len(X), epochs=4000, verbose=0)
    assert model.evaluate(X, y)["accuracy"] == 1.0


@pytest.mark.parametrize("seed", range(3))
def test_moons_generalise(seed):
    """1000 points of noise 0.1 to learn from, 1000 others to test on: at least 99% right."""
    model = classifier(32, "relu", seed)
    model.compile(nn.Adam(0.01), "binary_cross_entropy", ["accuracy"])
    model.fit(*nn.data.moons(1000, seed=seed), epochs=60, verbose=0)
    assert model.evaluate(*nn.data.moons(1000, seed=seed + 100))["accuracy"] >= 0.99
