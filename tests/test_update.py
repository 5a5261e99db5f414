"""Optimisers: kernels, and their coefficients against the published algorithms."""

import dataclasses

import checks
import numpy as np
import pytest

import numbanet as nn

SLOTS = {
    "sgd_update": [],
    "momentum_update": ["velocity"],
    "adam_update": ["mean", "variance"],
    "adamw_update": ["mean", "variance"],
    "rmsprop_update": ["variance", "mean", "velocity"],
    "adagrad_update": ["accumulator"],
}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", [(1, 1), (5, 3), (9, 33), (1, 16)])
@pytest.mark.parametrize("name", SLOTS)
def test_agrees_with_the_reference(name, shape, dtype, device):
    rng = np.random.default_rng(0)
    operands = {key: rng.random(shape) for key in ["gradient", "parameter", *SLOTS[name]]}
    coefficients = np.array([[0.125, 0.5, 0.25, 1.5, 0.0625, 0.75]])
    checks.check_forward(name, operands | {"coefficients": coefficients}, {}, dtype)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("given", [[], ["mean"], ["velocity"]])
def test_rmsprop_without_some_of_its_slots(given, dtype, device):
    rng = np.random.default_rng(0)
    operands = {key: rng.standard_normal((9, 33)) for key in ["gradient", "parameter", *given]}
    operands |= {"variance": rng.random((9, 33)), "coefficients": np.array([[0.125, 0.5, 0.25, 1.5, 0.0625, 0.75]])}
    checks.check_forward("rmsprop_update", dict.fromkeys(("mean", "velocity")) | operands, {}, dtype)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", [(1, 1), (5, 3), (33, 49), (16, 16), (70, 10), (3, 130)])
def test_gradients_are_added_and_kept_and_kernels_transposed(shape, dtype, device):
    rng = np.random.default_rng(0)
    gradient, total = rng.random(shape), rng.random(shape)
    checks.check_forward("gradient_add", {"gradient": gradient, "total": total}, {}, dtype)
    checks.check_forward("gradient_keep", {"gradient": gradient, "kept": 0 * total}, {}, dtype)
    sizes = {"inputs": shape[0], "units": shape[1]}
    checks.check_forward("transpose", {"parameter": total, "transposed": 0 * total.T}, sizes, dtype)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", [(1, 1), (9, 33), (70, 10)])
def test_gradients_on_their_way_to_the_update(shape, dtype, device):
    rng = np.random.default_rng(0)
    gradient, other = rng.standard_normal(shape), rng.standard_normal(shape)
    rows = shape[0] * -(-shape[1] // 16)
    for factor in (None, np.array([[0.25]])):
        checks.check_forward("gradient_take", {"kept": other, "factor": factor, "gradient": gradient}, {}, dtype)
    given = {"coefficients": np.array([[7.0, 0.5, 0.25]]), "gradient": gradient, "accumulated": other}
    checks.check_forward("gradient_accumulate", given, {"column": 1}, dtype)
    checks.check_forward("gradient_clip", {"gradient": gradient}, {"limit": 0.5}, dtype)
    squares = np.zeros((-(-rows // 16), 16))
    checks.check_forward("gradient_squares", {"gradient": gradient, "squares": squares}, {}, dtype)
    given = {"squares": squares + gradient[0, 0], "norms": np.ones((1, 3))}
    checks.check_forward("sum_squares", given, {"column": 1}, dtype)
    given = {"parameter": np.where(other > 1, 0, other), "gradient": gradient, "penalties": rng.random((rows + 3, 1))}
    checks.check_forward("regularize", given, {"l1": 0.5, "l2": 0.25, "at": 2}, dtype)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("limit", [1.5, 2.0, 8.0])
def test_a_factor_brings_a_norm_to_its_limit(limit, dtype, device):
    given = {"norms": np.array([[1.0, 2.0, 1.0, 50.0]]), "factor": np.zeros((1, 1))}
    checks.check_forward("clip_factor", given, {"width": 3, "limit": limit}, dtype)


def sgd(w, g, t, state, rate, momentum, nesterov):
    """Keras' SGD."""
    state["v"] = momentum * state.get("v", 0) - rate * g
    return w + (momentum * state["v"] - rate * g if nesterov else state["v"])


def sgd_of_gradients(w, g, t, state, rates, momentum, nesterov):
    """PyTorch's SGD, whose velocity holds gradients."""
    state["v"] = momentum * state.get("v", 0) + g
    return w - rates(t) * (g + momentum * state["v"] if nesterov else state["v"])


def adam(w, g, t, state, rate, b1, b2, epsilon, decay=0.0):
    """Kingma & Ba (2015), algorithm 1; the decay is Loshchilov & Hutter's (2019), as Keras and PyTorch have it."""
    state["m"] = b1 * state.get("m", 0) + (1 - b1) * g
    state["v"] = b2 * state.get("v", 0) + (1 - b2) * g**2
    m, v = state["m"] / (1 - b1 ** (t + 1)), state["v"] / (1 - b2 ** (t + 1))
    return w - rate * decay * w - rate * m / (np.sqrt(v) + epsilon)


def adam_hat(w, g, t, state, rate, b1, b2, epsilon, decay=0.0):
    """Kingma & Ba (2015), the formula before section 2.1: Keras' Adam."""
    state["m"] = b1 * state.get("m", 0) + (1 - b1) * g
    state["v"] = b2 * state.get("v", 0) + (1 - b2) * g**2
    alpha = rate * np.sqrt(1 - b2 ** (t + 1)) / (1 - b1 ** (t + 1))
    return (1 - rate * decay) * w - alpha * state["m"] / (np.sqrt(state["v"]) + epsilon)


def rmsprop(w, g, t, state, rates, rho, momentum, inside, outside, centered, scaled=True):
    """Hinton (2012), with Graves' (2013) variance; scaled: momentum gathers steps (Keras), not directions (PyTorch)."""
    state["s"] = rho * state.get("s", 0) + (1 - rho) * g**2
    state["m"] = rho * state.get("m", 0) + (1 - rho) * g
    spread = state["s"] - state["m"] ** 2 if centered else state["s"]
    direction = g / (np.sqrt(spread + inside) + outside)
    state["v"] = momentum * state.get("v", 0) + (rates(t) if scaled else 1) * direction
    return w - (1 if scaled else rates(t)) * state["v"]


def adagrad(w, g, t, state, rate, start, inside, outside):
    """Duchi et al. (2011)."""
    state["s"] = state.get("s", start) + g**2
    return w - rate * g / (np.sqrt(state["s"] + inside) + outside)


def steady(rate):
    return lambda t: rate


HALVING = nn.ExponentialDecay(0.1, 2, 0.5)


def halved(t):
    return 0.1 * 0.5 ** (t / 2)


CASES = [
    (nn.SGD(0.3), lambda *a: sgd(*a, 0.3, 0.0, False)),
    (nn.SGD(0.1, 0.9), lambda *a: sgd(*a, 0.1, 0.9, False)),
    (nn.SGD(0.1, 0.9, nesterov=True), lambda *a: sgd(*a, 0.1, 0.9, True)),
    (nn.SGD(0.3, rate_in_velocity=False), lambda *a: sgd(*a, 0.3, 0.0, False)),
    (nn.SGD(HALVING, 0.9), lambda w, g, t, state: sgd(w, g, t, state, halved(t), 0.9, False)),
    (nn.SGD(HALVING, 0.9, True), lambda w, g, t, state: sgd(w, g, t, state, halved(t), 0.9, True)),
    (nn.SGD(HALVING, 0.9, False, rate_in_velocity=False), lambda *a: sgd_of_gradients(*a, halved, 0.9, False)),
    (nn.SGD(HALVING, 0.9, True, rate_in_velocity=False), lambda *a: sgd_of_gradients(*a, halved, 0.9, True)),
    (nn.Adam(0.05), lambda *a: adam_hat(*a, 0.05, 0.9, 0.999, 1e-7)),
    (nn.Adam(0.05, 0.8, 0.95, 1e-3), lambda *a: adam_hat(*a, 0.05, 0.8, 0.95, 1e-3)),
    (nn.Adam(0.05, 0.8, 0.95, 1e-3, epsilon_hat=False), lambda *a: adam(*a, 0.05, 0.8, 0.95, 1e-3)),
    (nn.Adam(HALVING), lambda w, g, t, state: adam_hat(w, g, t, state, halved(t), 0.9, 0.999, 1e-7)),
    (nn.AdamW(0.05), lambda *a: adam_hat(*a, 0.05, 0.9, 0.999, 1e-7, 0.004)),
    (nn.AdamW(0.05, 0.2, 0.8, 0.95, 1e-3), lambda *a: adam_hat(*a, 0.05, 0.8, 0.95, 1e-3, 0.2)),
    (nn.AdamW(0.05, 0.2, 0.8, 0.95, 1e-3, epsilon_hat=False), lambda *a: adam(*a, 0.05, 0.8, 0.95, 1e-3, 0.2)),
    (nn.RMSprop(0.05), lambda *a: rmsprop(*a, steady(0.05), 0.9, 0.0, 1e-7, 0, False)),
    (nn.RMSprop(0.05, 0.8, 0.7, 1e-3, True), lambda *a: rmsprop(*a, steady(0.05), 0.8, 0.7, 1e-3, 0, True)),
    (
        nn.RMSprop(0.05, 0.8, 0.7, 1e-3, True, epsilon_inside=False),
        lambda *a: rmsprop(*a, steady(0.05), 0.8, 0.7, 0, 1e-3, True),
    ),
    (nn.RMSprop(HALVING, 0.8, 0.7, 1e-3), lambda *a: rmsprop(*a, halved, 0.8, 0.7, 1e-3, 0, False)),
    (
        nn.RMSprop(HALVING, 0.8, 0.7, 1e-3, rate_in_velocity=False),
        lambda *a: rmsprop(*a, halved, 0.8, 0.7, 1e-3, 0, False, False),
    ),
    (nn.Adagrad(0.5), lambda *a: adagrad(*a, 0.5, 0.1, 1e-7, 0)),
    (nn.Adagrad(0.5, 0.0, 1e-3, epsilon_inside=False), lambda *a: adagrad(*a, 0.5, 0, 0, 1e-3)),
]
IDS = [f"{k} {optimizer!r}"[:50] for k, (optimizer, _) in enumerate(CASES)]


@pytest.mark.parametrize(("optimizer", "published"), CASES, ids=IDS)
def test_ten_steps_follow_the_published_algorithm(optimizer, published):
    """Linear regression, whose gradient is known: g = 2 X^T (X w - y) / n."""
    rng = np.random.default_rng(1)
    X, y = rng.standard_normal((20, 3)), rng.standard_normal((20, 1))
    model = nn.Sequential([nn.Input(3), nn.Dense(1, use_bias=False)], seed=5, dtype="float64")
    model.compile(optimizer, "mse")
    (w,), state = model.get_weights(), {}
    for t in range(10):
        w = published(w, 2 * X.T @ (X @ w - y) / 20, t, state)
        model.train_on_batch(X, y)
        assert np.allclose(model.get_weights()[0], w, rtol=1e-12, atol=1e-14)
    assert model.updates == 10


def test_padding_stays_zero():
    """Rows are padded to whole vectors; whatever the optimiser, padding must not grow."""
    X, y = np.random.default_rng(2).random((40, 5)), np.arange(40) % 3
    for optimizer in (
        *(nn.SGD(0.1, 0.9), nn.SGD(0.1, 0.9, True), nn.Adam(), nn.AdamW(), nn.Adagrad()),
        *(nn.RMSprop(), nn.RMSprop(momentum=0.9, centered=True)),
        *(
            nn.Adam(epsilon=0),
            nn.RMSprop(epsilon=0, centered=True),
            nn.Adagrad(0.1, 0, 0),
            nn.Adagrad(0.1, 0, 0, epsilon_inside=False),
        ),
    ):
        model = nn.Sequential([nn.Input(5), nn.Dense(17, "tanh"), nn.Dense(3, "softmax")], seed=0)
        model.compile(optimizer, "cross_entropy")
        model.fit(X, y, epochs=3, verbose=0)
        inside = np.zeros(model._theta.size, bool)
        for slot in range(1 + len(optimizer.slots)):
            for parameter in model.graph.parameters:
                start = parameter.offset + slot * model.graph.size
                place = dataclasses.replace(parameter, offset=start)
                place.pack(inside, np.ones(parameter.shape, bool))
        assert inside.sum() == model.graph.count * (1 + len(optimizer.slots))
        assert not model._theta[~inside].any()
