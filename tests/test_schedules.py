"""Schedules: Keras' formulas at many steps, every optimiser follows them, and they are saved with the model."""

import math

import numpy as np
import pytest

import numbanet as nn
from numbanet import optimizers, schedules

STEPS = [0, 1, 2, 3, 7, 9, 10, 11, 19, 20, 99, 100, 101, 149, 150, 151, 999, 1000, 12345, 2**40]


def exponential(t, start, steps, rate, staircase):
    part = t / steps
    return start * rate ** (math.floor(part) if staircase else part)


def inverse_time(t, start, steps, rate, staircase):
    part = t / steps
    return start / (1 + rate * (math.floor(part) if staircase else part))


def cosine(t, start, steps, alpha, target=None, warm=0):
    if target is not None and t < warm:
        return start + (target - start) * t / warm
    t = min(t - warm, steps)
    return (start if target is None else target) * ((1 - alpha) * (1 + math.cos(math.pi * t / steps)) / 2 + alpha)


CASES = [
    (nn.ExponentialDecay(0.1, 100, 0.96), lambda t: exponential(t, 0.1, 100, 0.96, False)),
    (nn.ExponentialDecay(0.1, 10, 0.5, staircase=True), lambda t: exponential(t, 0.1, 10, 0.5, True)),
    (nn.StepDecay(0.2, 10), lambda t: 0.2 * 0.1 ** (t // 10)),
    (nn.StepDecay(0.2, 7, factor=0.5), lambda t: 0.2 * 0.5 ** (t // 7)),
    (nn.InverseTimeDecay(0.1, 1, 0.5), lambda t: inverse_time(t, 0.1, 1, 0.5, False)),
    (nn.InverseTimeDecay(0.1, 10, 2.0, True), lambda t: inverse_time(t, 0.1, 10, 2.0, True)),
    (nn.CosineDecay(0.1, 100), lambda t: cosine(t, 0.1, 100, 0)),
    (nn.CosineDecay(0.1, 100, alpha=0.25), lambda t: cosine(t, 0.1, 100, 0.25)),
    (nn.CosineDecay(0.0, 100, 0.1, 0.5, 50), lambda t: cosine(t, 0.0, 100, 0.1, 0.5, 50)),
    (nn.CosineDecay(0.3, 100, 0.0, 0.1, 0), lambda t: cosine(t, 0.3, 100, 0.0, 0.1, 0)),
]


@pytest.mark.parametrize(("schedule", "formula"), CASES, ids=[repr(schedule) for schedule, _ in CASES])
def test_formulas(schedule, formula):
    found = schedule(np.array(STEPS))
    assert found.dtype == np.float64
    assert np.allclose(found, [formula(t) for t in STEPS], rtol=1e-12, atol=1e-17)
    assert [schedule(t) for t in STEPS] == found.tolist()
    assert type(schedule(3)) is float
    assert schedule(np.array(STEPS).reshape(4, 5)).shape == (4, 5)


def test_every_schedule_is_covered_and_public():
    assert {type(schedule).__name__ for schedule, _ in CASES} == set(schedules.CLASSES)
    assert all(getattr(nn, name) is kind for name, kind in schedules.CLASSES.items())


def descended(rates, optimizer, period=1):
    """The weight after a gradient of 1 in each of some steps, the changes of which are the rates."""
    model = nn.Sequential([nn.Input(1), nn.Dense(1, use_bias=False, kernel_initializer="zeros")], dtype="float64")
    model.compile(optimizer, "half_squared_error")
    found = []
    for _ in range(rates * period):
        before = model.get_weights()[0][0, 0]
        shown = model.learning_rate
        model.train_on_batch([[1.0]], [[before - 1]])
        found.append((shown, before - model.get_weights()[0][0, 0]))
    return np.array(found)


@pytest.mark.parametrize(("schedule", "formula"), CASES[::3], ids=[repr(schedule) for schedule, _ in CASES[::3]])
def test_the_step_number_is_the_number_of_updates(schedule, formula):
    wanted = [formula(t) for t in range(15)]
    found = descended(15, nn.SGD(schedule))
    assert np.allclose(found, np.column_stack([wanted, wanted]), rtol=1e-12)
    gathered = descended(5, nn.SGD(schedule, gradient_accumulation_steps=3), 3)
    assert np.allclose(gathered[:, 0], np.repeat(wanted[:5], 3), rtol=1e-12)
    assert np.allclose(gathered[:, 1], np.kron(wanted[:5], [0, 0, 1]), rtol=1e-12)


@pytest.mark.parametrize("optimizer", [name for name in optimizers.CLASSES if name != "LBFGS"])
def test_every_optimizer_follows_one(optimizer):
    """The same as setting the rate by hand before every step, in one call of fit and in several."""
    kind = optimizers.CLASSES[optimizer]
    schedule = nn.CosineDecay(0.02, 12, 0.1, 0.05, 4)
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((24, 3)), rng.standard_normal((24, 2))
    models = [nn.Sequential([nn.Input(3), nn.Dense(2, "tanh")], seed=0, dtype="float64") for _ in range(2)]
    models[0].compile(kind(schedule), "mse")
    models[0].fit(X, y, batch_size=4, epochs=2, shuffle=False, verbose=0)
    models[1].compile(kind(1.0), "mse")
    for t in range(12):
        models[1].learning_rate = schedule(t) or 1e-300
        assert models[1].learning_rate == (schedule(t) or 1e-300)
        at = 4 * t % 24
        models[1].train_on_batch(X[at : at + 4], y[at : at + 4])
    for a, b in zip(models[0].get_weights(), models[1].get_weights(), strict=True):
        assert np.allclose(a, b, rtol=1e-13, atol=1e-15)


def test_the_learning_rate_of_a_model():
    """Read and set; state, settings and programs stay, and a schedule may take a number's place."""
    model = nn.Sequential([nn.Input(2), nn.Dense(1)], seed=0)
    with pytest.raises(ValueError, match="not compiled"):
        model.learning_rate  # noqa: B018
    with pytest.raises(ValueError, match="not compiled"):
        model.learning_rate = 0.1
    model.compile(nn.SGD(0.1, 0.9, clipvalue=5.0), "mse")
    model.fit(np.ones((4, 2)), np.ones((4, 1)), verbose=0)
    before, programs = model._theta.copy(), dict(model._programs)
    model.learning_rate = 0.05
    assert (model.learning_rate, model.optimizer) == (0.05, nn.SGD(0.05, 0.9, clipvalue=5.0))
    assert np.array_equal(model._theta, before)
    assert model._programs == programs
    assert model.updates == 1
    model.learning_rate = nn.StepDecay(0.5, 1)
    assert model.learning_rate == pytest.approx(0.05)
    for bad, kind in (
        (0, ValueError),
        (-1.0, ValueError),
        (np.nan, ValueError),
        ("fast", TypeError),
        (None, TypeError),
    ):
        with pytest.raises(kind, match="learning_rate must be"):
            model.learning_rate = bad
        assert model.optimizer.learning_rate == nn.StepDecay(0.5, 1)
    model.compile(nn.LBFGS(), "mse")
    with pytest.raises(ValueError, match="LBFGS has no learning rate"):
        model.learning_rate  # noqa: B018
    with pytest.raises(ValueError, match="LBFGS has no learning rate"):
        model.learning_rate = 0.1


@pytest.mark.parametrize("schedule", [schedule for schedule, _ in CASES], ids=repr)
def test_saved_with_the_model(schedule, tmp_path):
    """Training goes on in the middle of a schedule, bit for bit."""
    model = nn.Sequential([nn.Input(2), nn.Dense(2)], seed=0)
    model.compile(nn.Adam(schedule), "mse")
    X = y = np.eye(2)
    for _ in range(3):
        model.train_on_batch(X, y)
    model.save(tmp_path / "model")
    loaded = nn.load(tmp_path / "model")
    assert loaded.optimizer == model.optimizer
    assert repr(schedule) in repr(loaded.optimizer)
    assert repr(schedule) in str(loaded)
    for each in (model, loaded):
        each.fit(X, y, epochs=3, batch_size=1, verbose=0)
    assert np.array_equal(model._theta, loaded._theta)


@pytest.mark.parametrize(
    ("build", "kind", "sentence"),
    [
        (lambda: nn.ExponentialDecay(0, 10, 0.5), ValueError, "initial_learning_rate must be above 0, not 0"),
        (lambda: nn.ExponentialDecay(0.1, 0, 0.5), ValueError, "decay_steps must be at least 1, not 0"),
        (lambda: nn.ExponentialDecay(0.1, 2.5, 0.5), TypeError, "decay_steps must be a whole number, not 2.5"),
        (lambda: nn.ExponentialDecay(0.1, 10, -1), ValueError, "decay_rate must be above 0, not -1"),
        (lambda: nn.ExponentialDecay(0.1, 10, 0.5, 1), TypeError, "staircase must be True or False, not 1"),
        (lambda: nn.InverseTimeDecay(0.1, 10, np.inf), ValueError, "decay_rate must be above 0, not inf"),
        (lambda: nn.StepDecay(0.1, 10, 1.5), ValueError, "factor must be above 0 and at most 1, not 1.5"),
        (lambda: nn.CosineDecay(0.0, 10), ValueError, "initial_learning_rate must be above 0, not 0"),
        (lambda: nn.CosineDecay(0.1, 10, 2), ValueError, "alpha must be at least 0 and at most 1, not 2"),
        (lambda: nn.CosineDecay(0.1, 10, 0, 0.0), ValueError, "warmup_target must be above 0, not 0"),
        (lambda: nn.CosineDecay(0.1, 10, 0, None, 5), ValueError, "warmup_steps is 5 and warmup_target None"),
        (lambda: nn.SGD("fast"), TypeError, r"must be a number or a schedule \(ExponentialDecay, .*\), not 'fast'"),
        (lambda: nn.SGD(nn.Constant(0.1)), TypeError, r"a number or a schedule \(.*\), not Constant"),
        (lambda: nn.Dense(1, kernel_initializer=nn.StepDecay(0.1, 2)), TypeError, "initializer must be a string"),
    ],
)
def test_bad_schedules(build, kind, sentence):
    with pytest.raises(kind, match=sentence):
        build()
