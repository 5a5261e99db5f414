"""Optimisers, BatchNorm and LayerNorm against PyTorch in float64: whole networks, step by step.

test_update.py and test_norm.py have the formulas themselves. Each optimiser is asked for PyTorch's definition.
"""

import numpy as np
import pytest
from pytorch import off, results, torch

import numbanet as nn
from numbanet import gradients

CASES = {
    "sgd": (nn.SGD(0.1), lambda w: torch.optim.SGD(w, 0.1)),
    "momentum": (nn.SGD(0.1, 0.9), lambda w: torch.optim.SGD(w, 0.1, 0.9)),
    "nesterov": (nn.SGD(0.1, 0.9, True), lambda w: torch.optim.SGD(w, 0.1, 0.9, nesterov=True)),
    "adam": (nn.Adam(0.01, epsilon=1e-8, epsilon_hat=False), lambda w: torch.optim.Adam(w, 0.01)),
    "adam, large epsilon": (
        nn.Adam(0.01, 0.8, 0.9, 1e-2, epsilon_hat=False),
        lambda w: torch.optim.Adam(w, 0.01, (0.8, 0.9), 1e-2),
    ),
    "adamw": (nn.AdamW(0.01, 0.01, epsilon=1e-8, epsilon_hat=False), lambda w: torch.optim.AdamW(w, 0.01)),
    "adamw, large decay": (
        nn.AdamW(0.01, 0.5, epsilon=1e-8, epsilon_hat=False),
        lambda w: torch.optim.AdamW(w, 0.01, weight_decay=0.5),
    ),
    "rmsprop": (nn.RMSprop(0.01, 0.99, epsilon=1e-8, epsilon_inside=False), lambda w: torch.optim.RMSprop(w, 0.01)),
    "rmsprop, momentum": (
        nn.RMSprop(0.01, 0.9, 0.8, 1e-8, epsilon_inside=False),
        lambda w: torch.optim.RMSprop(w, 0.01, 0.9, 1e-8, momentum=0.8),
    ),
    "rmsprop, centered": (
        nn.RMSprop(0.01, 0.9, 0.0, 1e-3, True, epsilon_inside=False),
        lambda w: torch.optim.RMSprop(w, 0.01, 0.9, 1e-3, centered=True),
    ),
    "rmsprop, centered, momentum": (
        nn.RMSprop(0.01, 0.9, 0.8, 1e-3, True, epsilon_inside=False),
        lambda w: torch.optim.RMSprop(w, 0.01, 0.9, 1e-3, momentum=0.8, centered=True),
    ),
    "adagrad": (nn.Adagrad(0.01, 0.0, 1e-10, epsilon_inside=False), lambda w: torch.optim.Adagrad(w)),
    "adagrad, with a start and a decay": (
        nn.Adagrad(nn.InverseTimeDecay(0.1, 1, 0.3), 0.2, 1e-3, epsilon_inside=False),
        lambda w: torch.optim.Adagrad(w, 0.1, 0.3, initial_accumulator_value=0.2, eps=1e-3),
    ),
}
# Rates that change after every step: PyTorch's momentum then goes another way than Keras'.
HALVED = nn.StepDecay(0.1, 1, 0.8)
SCHEDULED = {
    "momentum": (nn.SGD(HALVED, 0.9, rate_in_velocity=False), lambda w: torch.optim.SGD(w, 0.1, 0.9)),
    "nesterov": (
        nn.SGD(HALVED, 0.9, True, rate_in_velocity=False),
        lambda w: torch.optim.SGD(w, 0.1, 0.9, nesterov=True),
    ),
    "adamw": (
        nn.AdamW(HALVED, 0.1, epsilon=1e-8, epsilon_hat=False),
        lambda w: torch.optim.AdamW(w, 0.1, weight_decay=0.1),
    ),
    "rmsprop": (
        nn.RMSprop(HALVED, 0.99, 0.9, 1e-8, epsilon_inside=False, rate_in_velocity=False),
        lambda w: torch.optim.RMSprop(w, 0.1, momentum=0.9),
    ),
}
CASES |= {f"{name}, scheduled": case for name, case in SCHEDULED.items()}
TOLERANCE = 1e-10  # relative to the largest weight of an array


@pytest.mark.parametrize("name", CASES)
def test_ten_steps_of_an_optimizer(name):
    ours, theirs = CASES[name]
    rng = np.random.default_rng(7)
    X, y = rng.standard_normal((16, 5)), rng.standard_normal((16, 3))
    model = nn.Sequential([nn.Input(5), nn.Dense(8, "tanh"), nn.Dense(3)], seed=1, dtype="float64")
    model.compile(ours, "mse")
    start = model.get_weights()

    def compute():
        weights, found = [torch.tensor(array, requires_grad=True) for array in start], []
        optimizer = theirs(weights)
        schedule = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.8) if name.endswith("scheduled") else None
        for _ in range(10):
            hidden = torch.tanh(torch.tensor(X) @ weights[0] + weights[1])
            optimizer.zero_grad()
            ((hidden @ weights[2] + weights[3] - torch.tensor(y)) ** 2).mean().backward()
            optimizer.step()
            if schedule:
                schedule.step()
            found.append(torch.cat([tensor.detach().flatten() for tensor in weights]))
        return [torch.stack(found)]

    ends = np.cumsum([array.size for array in start])
    for wanted in results(f"optimizer {name}", compute)[0]:
        model.train_on_batch(X, y)
        for array, expected in zip(model.get_weights(), np.split(wanted, ends[:-1]), strict=True):
            assert off(array.ravel(), expected) <= TOLERANCE


RATE, MOMENTUM, EPSILON, SAMPLES, STEPS = 0.1, 0.8, 1e-3, 10, 5
WORST = 1e-12  # of the largest value


def normalising(kind, positions, channels):
    """A network: dense, norm, tanh, dense."""
    width = positions * channels
    norm = nn.BatchNorm(momentum=MOMENTUM, epsilon=EPSILON) if kind == "batch" else nn.LayerNorm(epsilon=EPSILON)
    shape = (channels,) if positions == 1 else (positions, channels)
    layers = [nn.Dense(width, use_bias=False), nn.Reshape(shape), norm, nn.Activation("tanh"), nn.Flatten()]
    model = nn.Sequential([nn.Input(6), *layers, nn.Dense(3)], seed=1, dtype="float64")
    model.compile(nn.SGD(RATE), "mse")
    rng = np.random.default_rng(2)
    model.set_weights([w + 0.1 * rng.random(w.shape) for w in model.get_weights()])
    return model


def theirs(kind, positions, channels, start):
    """PyTorch's layers with the same weights, and their forward pass; its images have channels first."""
    width = positions * channels
    norm = torch.nn.LayerNorm(channels, EPSILON)
    if kind == "batch":
        norm = torch.nn.BatchNorm1d(channels, EPSILON, 1 - MOMENTUM)
    layers = [torch.nn.Linear(6, width, bias=False), norm, torch.nn.Linear(width, 3)]
    layers = torch.nn.ModuleList(layers).double()
    kernel, gamma, beta, *moving, end, bias = (torch.tensor(w) for w in start)
    places = [layers[0].weight, norm.weight, norm.bias, layers[2].weight, layers[2].bias]
    with torch.no_grad():
        for place, values in zip(places, (kernel.T, gamma, beta, end.T, bias), strict=True):
            place.copy_(values)
        if moving:
            norm.running_mean.copy_(moving[0])
            norm.running_var.copy_(moving[1])

    def forward(x):
        h = layers[0](x)
        first = kind == "batch" and positions > 1
        h = h.reshape(-1, positions, channels) if positions > 1 else h
        h = torch.tanh(norm(h.transpose(1, 2))).transpose(1, 2) if first else torch.tanh(norm(h))
        return layers[2](h.reshape(-1, width))

    return layers, places, forward


def their_training(kind, positions, channels, start, X, y):
    """First gradients, losses of all steps, weights after them, moving statistics, predictions."""
    layers, places, forward = theirs(kind, positions, channels, start)
    first, losses = None, []
    for _ in range(STEPS):
        layers.zero_grad()
        losses.append(torch.square(forward(torch.tensor(X)) - torch.tensor(y)).mean())
        losses[-1].backward()
        first = first or [place.grad.clone() for place in places]
        with torch.no_grad():
            for place in places:
                place -= RATE * place.grad
    found = [*first, torch.stack(losses), *(place.detach().clone() for place in places)]
    if kind == "batch":
        # torch keeps the unbiased variance, n / (n - 1) times Keras': what each batch has added is so much larger.
        norm, count, kept = layers[1], SAMPLES * positions, MOMENTUM**STEPS * torch.tensor(start[4])
        with torch.no_grad():
            norm.running_var.copy_((norm.running_var - kept) * (count - 1) / count + kept)
        found += [norm.running_mean.clone(), norm.running_var.clone()]
    layers.eval()
    return [*found, forward(torch.tensor(X))]


@pytest.mark.parametrize(("positions", "channels"), [(1, 20), (3, 5)])
@pytest.mark.parametrize("kind", ["batch", "layer"])
def test_norms_gradients_training_and_statistics(kind, positions, channels):
    model, rng = normalising(kind, positions, channels), np.random.default_rng(0)
    X, y = 2 + rng.standard_normal((SAMPLES, 6)), rng.standard_normal((SAMPLES, 3))
    start = model.get_weights()
    wanted = results(
        f"{kind} norm {positions} {channels}", lambda: their_training(kind, positions, channels, start, X, y)
    )
    found = gradients.gradients(model, model._data(X, y))
    first = [found[name] for name in found if ".moving_" not in name]
    losses = np.array([model.train_on_batch(X, y)["loss"] for _ in range(STEPS)])
    kernel, gamma, beta, *moving, end, bias = model.get_weights()
    ours = [first[0].T, first[1], first[2], first[3].T, first[4], losses, kernel.T, gamma, beta, end.T, bias]
    for values, expected in zip([*ours, *moving, model.predict(X)], wanted, strict=True):
        assert np.abs(values - expected).max() <= WORST * max(1.0, np.abs(expected).max())
