"""BatchNorm and LayerNorm against PyTorch, where it is installed: the same numbers in float64."""

import numpy as np
import pytest

import numbanet as nn
from numbanet import gradients

torch = pytest.importorskip("torch")

RATE, MOMENTUM, EPSILON, SAMPLES = 0.1, 0.8, 1e-3, 10
WORST = 1e-12  # of the largest value


def models(kind, positions, channels):
    """Dense, norm, tanh, dense in both libraries, with the same weights; torch's images have channels first."""
    width = positions * channels
    norm = nn.BatchNorm(momentum=MOMENTUM, epsilon=EPSILON) if kind == "batch" else nn.LayerNorm(epsilon=EPSILON)
    shape = (channels,) if positions == 1 else (positions, channels)
    layers = [nn.Dense(width, use_bias=False), nn.Reshape(shape), norm, nn.Activation("tanh"), nn.Flatten()]
    ours = nn.Sequential([nn.Input(6), *layers, nn.Dense(3)], seed=1, dtype="float64")
    ours.compile(nn.SGD(RATE), "mse")
    rng = np.random.default_rng(2)
    ours.set_weights([w + 0.1 * rng.random(w.shape) for w in ours.get_weights()])
    their_norm = torch.nn.LayerNorm(channels, EPSILON)
    if kind == "batch":
        their_norm = torch.nn.BatchNorm1d(channels, EPSILON, 1 - MOMENTUM)
    first, last = torch.nn.Linear(6, width, bias=False), torch.nn.Linear(width, 3)
    theirs = torch.nn.ModuleList([first, their_norm, last]).double()
    kernel, gamma, beta, *moving, end, bias = (torch.tensor(w) for w in ours.get_weights())
    with torch.no_grad():
        for place, values in [(first.weight, kernel.T), (their_norm.weight, gamma), (their_norm.bias, beta),
                              (last.weight, end.T), (last.bias, bias)]:  # fmt: skip
            place.copy_(values)
        if moving:
            their_norm.running_mean.copy_(moving[0])
            their_norm.running_var.copy_(moving[1])

    def forward(x):
        h = first(x)
        if positions > 1:
            h = h.reshape(-1, positions, channels)
        h = h.transpose(1, 2) if kind == "batch" and positions > 1 else h
        h = torch.tanh(their_norm(h))
        h = h.transpose(1, 2) if kind == "batch" and positions > 1 else h
        return last(h.reshape(-1, width))

    return ours, theirs, forward


def same(found, wanted):
    wanted = wanted.detach().numpy()
    worst = np.abs(found - wanted).max() / max(1.0, np.abs(wanted).max())
    assert worst <= WORST, worst


@pytest.mark.parametrize(("positions", "channels"), [(1, 20), (3, 5)])
@pytest.mark.parametrize("kind", ["batch", "layer"])
def test_forward_gradients_training_and_statistics(kind, positions, channels):
    ours, theirs, forward = models(kind, positions, channels)
    rng = np.random.default_rng(0)
    X, y = 2 + rng.standard_normal((SAMPLES, 6)), rng.standard_normal((SAMPLES, 3))
    x, target = torch.tensor(X), torch.tensor(y)
    start, steps = ours.get_weights(), 5
    found = gradients.gradients(ours, ours._data(X, y))
    for step in range(steps):
        theirs.zero_grad()
        loss = torch.square(forward(x) - target).mean()
        loss.backward()
        wanted = [theirs[0].weight.grad.T, theirs[1].weight.grad, theirs[1].bias.grad,
                  theirs[2].weight.grad.T, theirs[2].bias.grad]  # fmt: skip
        if step == 0:
            trained = [name for name in found if ".moving_" not in name]
            for name, gradient in zip(trained, wanted, strict=True):
                same(found[name], gradient)
        with torch.no_grad():
            for place in theirs.parameters():
                place -= RATE * place.grad
        assert ours.train_on_batch(X, y)["loss"] == pytest.approx(float(loss.detach()), rel=WORST)
    weights = ours.get_weights()
    wanted = [theirs[0].weight.T, theirs[1].weight, theirs[1].bias, theirs[2].weight.T, theirs[2].bias]
    for values, theirs_now in zip([*weights[:3], *weights[-2:]], wanted, strict=True):
        same(values, theirs_now)
    if kind == "batch":
        same(weights[3], theirs[1].running_mean)
        # torch keeps the unbiased variance, n / (n - 1) times Keras': what each batch has added is so much larger.
        count, kept = SAMPLES * positions, MOMENTUM**steps * start[4]
        same((weights[4] - kept) * count / (count - 1), theirs[1].running_var - torch.tensor(kept))
        with torch.no_grad():
            theirs[1].running_var.copy_(torch.tensor(weights[4]))
    theirs.eval()
    same(ours.predict(X), forward(x))
