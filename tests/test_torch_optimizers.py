"""Optimisers beside PyTorch's, where that is installed: ten steps of a two-layer net in float64.

test_update.py has the formulas themselves. Here each optimiser is asked for PyTorch's definition.
"""

import numpy as np
import pytest

import numbanet as nn

torch = pytest.importorskip("torch")
optim = torch.optim

CASES = {
    "sgd": (nn.SGD(0.1), lambda w: optim.SGD(w, 0.1)),
    "momentum": (nn.SGD(0.1, 0.9), lambda w: optim.SGD(w, 0.1, 0.9)),
    "nesterov": (nn.SGD(0.1, 0.9, True), lambda w: optim.SGD(w, 0.1, 0.9, nesterov=True)),
    "adam": (nn.Adam(0.01, epsilon=1e-8, epsilon_hat=False), lambda w: optim.Adam(w, 0.01)),
    "adam, large epsilon": (
        nn.Adam(0.01, 0.8, 0.9, 1e-2, epsilon_hat=False),
        lambda w: optim.Adam(w, 0.01, (0.8, 0.9), 1e-2),
    ),
    "adamw": (nn.AdamW(0.01, 0.01, epsilon=1e-8, epsilon_hat=False), lambda w: optim.AdamW(w, 0.01)),
    "adamw, large decay": (
        nn.AdamW(0.01, 0.5, epsilon=1e-8, epsilon_hat=False),
        lambda w: optim.AdamW(w, 0.01, weight_decay=0.5),
    ),
    "rmsprop": (nn.RMSprop(0.01, 0.99, epsilon=1e-8, epsilon_inside=False), lambda w: optim.RMSprop(w, 0.01)),
    "rmsprop, momentum": (
        nn.RMSprop(0.01, 0.9, 0.8, 1e-8, epsilon_inside=False),
        lambda w: optim.RMSprop(w, 0.01, 0.9, 1e-8, momentum=0.8),
    ),
    "rmsprop, centered": (
        nn.RMSprop(0.01, 0.9, 0.0, 1e-3, True, False),
        lambda w: optim.RMSprop(w, 0.01, 0.9, 1e-3, centered=True),
    ),
    "rmsprop, centered, momentum": (
        nn.RMSprop(0.01, 0.9, 0.8, 1e-3, True, False),
        lambda w: optim.RMSprop(w, 0.01, 0.9, 1e-3, momentum=0.8, centered=True),
    ),
    "adagrad": (nn.Adagrad(0.01, 0.0, 1e-10, False), lambda w: optim.Adagrad(w)),
    "adagrad, with a start and a decay": (
        nn.Adagrad(nn.InverseTimeDecay(0.1, 1, 0.3), 0.2, 1e-3, False),
        lambda w: optim.Adagrad(w, 0.1, 0.3, initial_accumulator_value=0.2, eps=1e-3),
    ),
}
# Rates that change after every step: PyTorch's momentum then goes another way than Keras'.
HALVED = nn.StepDecay(0.1, 1, 0.8)
SCHEDULED = {
    "momentum": (nn.SGD(HALVED, 0.9, rate_in_velocity=False), lambda w: optim.SGD(w, 0.1, 0.9)),
    "nesterov": (nn.SGD(HALVED, 0.9, True, False), lambda w: optim.SGD(w, 0.1, 0.9, nesterov=True)),
    "adamw": (nn.AdamW(HALVED, 0.1, epsilon=1e-8, epsilon_hat=False), lambda w: optim.AdamW(w, 0.1, weight_decay=0.1)),
    "rmsprop": (
        nn.RMSprop(HALVED, 0.99, 0.9, 1e-8, epsilon_inside=False, rate_in_velocity=False),
        lambda w: optim.RMSprop(w, 0.1, momentum=0.9),
    ),
}
CASES |= {f"{name}, scheduled": case for name, case in SCHEDULED.items()}
TOLERANCE = 1e-10  # relative to the largest weight of an array


def worst(name, steps=10):
    """The largest difference of a weight after any of the steps, relative to the largest weight of its array."""
    ours, theirs = CASES[name]
    rng = np.random.default_rng(7)
    X, y = rng.standard_normal((16, 5)), rng.standard_normal((16, 3))
    model = nn.Sequential([nn.Input(5), nn.Dense(8, "tanh"), nn.Dense(3)], seed=1, dtype="float64")
    model.compile(ours, "mse")
    weights = [torch.tensor(array, requires_grad=True) for array in model.get_weights()]
    optimizer = theirs(weights)
    schedule = optim.lr_scheduler.ExponentialLR(optimizer, 0.8) if name.endswith("scheduled") else None
    found = 0.0
    for _ in range(steps):
        model.train_on_batch(X, y)
        hidden = torch.tanh(torch.tensor(X) @ weights[0] + weights[1])
        optimizer.zero_grad()
        ((hidden @ weights[2] + weights[3] - torch.tensor(y)) ** 2).mean().backward()
        optimizer.step()
        if schedule:
            schedule.step()
        for array, tensor in zip(model.get_weights(), weights, strict=True):
            wanted = tensor.detach().numpy()
            found = max(found, np.abs(array - wanted).max() / np.abs(wanted).max())
    return found


@pytest.mark.parametrize("name", CASES)
def test_ten_steps_are_those_of_pytorch(name):
    assert worst(name) <= TOLERANCE
