"""Every activation and every loss against PyTorch in float64, value and gradient."""

import checks
import numpy as np
import pytest
import test_loss
import test_pointwise
from pytorch import off, results, torch

import numbanet as nn
from numbanet.layers import ACTIVATIONS
from numbanet.losses import LOSSES

CLOSE = 1e-10
SHAPE = 9, 21


def functional():
    return torch.nn.functional


TORCH = {
    "linear": lambda x: x,
    "sigmoid": lambda x: torch.sigmoid(x),
    "tanh": lambda x: torch.tanh(x),
    "relu": lambda x: torch.relu(x),
    "leaky_relu": lambda x: functional().leaky_relu(x, test_pointwise.REALS["leaky_relu"]["negative_slope"]),
    "elu": lambda x: functional().elu(x, test_pointwise.REALS["elu"]["alpha"]),
    "selu": lambda x: torch.selu(x),
    "gelu": lambda x: functional().gelu(x),
    "softplus": lambda x: functional().softplus(x, threshold=100),  # by default it is x above 20
    "softsign": lambda x: functional().softsign(x),
    "swish": lambda x: functional().silu(x),
    "hard_sigmoid": lambda x: (x / 6 + 0.5).clamp(0, 1),  # F.hardsigmoid has 1/6 in float32: 3e-8 off
    "step": lambda x: torch.heaviside(x.detach(), torch.ones_like(x)) + 0 * x,
    "softmax": lambda x: torch.softmax(x, dim=1),
    "log_softmax": lambda x: torch.log_softmax(x, dim=1),
}
TORCH_LOSSES = {  # of y or for fused ones of x, and the target; the mean over rows
    "half_squared_error": lambda y, t: functional().mse_loss(y, t, reduction="sum") / 2 / len(y),
    "mse": lambda y, t: functional().mse_loss(y, t),
    "mae": lambda y, t: functional().l1_loss(y, t),
    "huber": lambda y, t: functional().huber_loss(y, t, delta=0.3),
    "cross_entropy": lambda y, t: -(t * y.log()).sum() / len(y),
    "binary_cross_entropy": lambda y, t: functional().binary_cross_entropy(y, t),
    "kl_divergence": lambda y, t: functional().kl_div(y.log(), t, reduction="batchmean"),
    "hinge": lambda y, t: (1 - y * t).clamp(min=0).mean(),
    "poisson": lambda y, t: functional().poisson_nll_loss(y, t, log_input=False, eps=1e-7),
    "softmax_cross_entropy": lambda y, t: functional().cross_entropy(y, t),
    "log_softmax_cross_entropy": lambda y, t: functional().cross_entropy(y, t),
    "sigmoid_binary_cross_entropy": lambda y, t: functional().binary_cross_entropy_with_logits(y, t),
}


@pytest.mark.parametrize("activation", [name for name in ACTIVATIONS if name != "linear"])
def test_activations(activation):
    rng = np.random.default_rng(0)
    x, dy = 4 * rng.standard_normal(SHAPE), rng.standard_normal(SHAPE)
    sizes = test_pointwise.sizes(activation, SHAPE[1])
    y = checks.Bench(f"{activation}_forward", {"x": x, "y": 0 * x}, sizes).run()["y"]
    known = {"x": x} if activation in test_pointwise.OF_X else {"y": y}
    dx = checks.Bench(f"{activation}_backward", known | {"dy": dy, "dx": 0 * x}, sizes).run()["dx"]

    def compute():
        theirs = torch.tensor(x, requires_grad=True)
        output = TORCH[activation](theirs)
        output.backward(torch.tensor(dy))
        return output, theirs.grad

    value, gradient = results(f"activation {activation}", compute)
    assert off(y, value) <= CLOSE
    assert off(dx, gradient) <= CLOSE


@pytest.mark.parametrize("name", TORCH_LOSSES)
def test_losses(name):
    given = test_loss.operands(name, SHAPE)
    given["scores"][:] = 0
    if name.endswith("softmax_cross_entropy"):
        given["target"] /= given["target"].sum(axis=1, keepdims=True)
    found = checks.Bench(name, given, test_loss.sizes(name, SHAPE)).run()
    source = "x" if "x" in given else "y"

    def compute():
        theirs = torch.tensor(given[source], requires_grad=True)
        value = TORCH_LOSSES[name](theirs, torch.tensor(given["target"]))
        value.backward()
        return value, theirs.grad

    value, gradient = results(f"loss {name}", compute)
    assert off(found["scores"][:, 0].mean(), value) <= CLOSE
    assert off(found[f"d{source}"], gradient) <= CLOSE


def test_all_are_covered():
    assert set(TORCH) == set(ACTIVATIONS)
    assert set(LOSSES) <= set(TORCH_LOSSES)


@pytest.mark.parametrize(("output", "loss"), [("log_softmax", "cross_entropy"), ("softplus", "poisson")])
def test_a_network_trains_alike(output, loss):
    """Some steps of plain gradient descent through a layer of each activation."""
    hidden = [name for name in ACTIVATIONS if name not in ("step", "linear", *test_pointwise.REALS)]
    layers = [nn.Dense(6, name, kernel_initializer="lecun_normal") for name in hidden]
    model = nn.Sequential([nn.Input(5), *layers, nn.Dense(3, output)], seed=0, dtype="float64")
    model.compile(nn.SGD(0.1), loss)
    X, y = np.random.default_rng(0).standard_normal((9, 5)), np.eye(3)[np.arange(9) % 3]
    start = model.get_weights()

    def compute():
        weights = [torch.tensor(values, requires_grad=True) for values in start]
        losses = []
        for _ in range(5):
            h, t = torch.tensor(X), torch.tensor(y)
            for name, kernel, bias in zip([*hidden, output], weights[::2], weights[1::2], strict=True):
                h = TORCH[name](h @ kernel + bias)
            losses.append(-(t * h).sum() / 9 if output == "log_softmax" else TORCH_LOSSES[loss](h, t))
            losses[-1].backward()
            with torch.no_grad():
                for parameter in weights:
                    parameter -= 0.1 * parameter.grad
                    parameter.grad = None
        return torch.stack(losses), *weights

    losses, *weights = results(f"network {output}", compute)
    assert off(np.array([model.train_on_batch(X, y)["loss"] for _ in losses]), losses) <= CLOSE
    for ours, theirs in zip(model.get_weights(), weights, strict=True):
        assert off(ours, theirs) <= CLOSE
