"""Every activation and every loss against PyTorch in float64, value and gradient, where PyTorch is installed.

It is not needed: the same formulas are checked against tests/reference/ everywhere.
"""

import checks
import numpy as np
import pytest
import test_loss
import test_pointwise

import numbanet as nn
from numbanet.layers import ACTIVATIONS
from numbanet.losses import LOSSES

torch = pytest.importorskip("torch", reason="PyTorch is not installed, and need not be")
F = torch.nn.functional

CLOSE = 1e-10
TORCH = {
    "linear": lambda x: x,
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    "relu": F.relu,
    "leaky_relu": lambda x: F.leaky_relu(x, test_pointwise.REALS["leaky_relu"]["negative_slope"]),
    "elu": lambda x: F.elu(x, test_pointwise.REALS["elu"]["alpha"]),
    "selu": F.selu,
    "gelu": F.gelu,
    "softplus": lambda x: F.softplus(x, threshold=100),  # by default it is x above 20
    "softsign": F.softsign,
    "swish": F.silu,
    "hard_sigmoid": lambda x: (x / 6 + 0.5).clamp(0, 1),  # F.hardsigmoid has 1/6 in float32: 3e-8 off
    "step": lambda x: torch.heaviside(x.detach(), torch.ones_like(x)) + 0 * x,
    "softmax": lambda x: F.softmax(x, dim=1),
    "log_softmax": lambda x: F.log_softmax(x, dim=1),
}
TORCH_LOSSES = {  # of y or for fused ones of x, and the target; the mean over rows
    "half_squared_error": lambda y, t: F.mse_loss(y, t, reduction="sum") / 2 / len(y),
    "mse": F.mse_loss,
    "mae": F.l1_loss,
    "huber": lambda y, t: F.huber_loss(y, t, delta=0.3),
    "cross_entropy": lambda y, t: -(t * y.log()).sum() / len(y),
    "binary_cross_entropy": F.binary_cross_entropy,
    "kl_divergence": lambda y, t: F.kl_div(y.log(), t, reduction="batchmean"),
    "hinge": lambda y, t: (1 - y * t).clamp(min=0).mean(),
    "poisson": lambda y, t: F.poisson_nll_loss(y, t, log_input=False, eps=1e-7),
    "softmax_cross_entropy": F.cross_entropy,
    "log_softmax_cross_entropy": F.cross_entropy,
    "sigmoid_binary_cross_entropy": F.binary_cross_entropy_with_logits,
}


def off(found, wanted):
    """The largest difference, relative to the largest value."""
    return np.abs(found - wanted.detach().numpy()).max() / max(np.abs(wanted.detach().numpy()).max(), 1e-300)


@pytest.mark.parametrize("activation", [name for name in ACTIVATIONS if name != "linear"])
def test_activations(activation):
    width = 65
    rng = np.random.default_rng(0)
    x, dy = 4 * rng.standard_normal((33, width)), rng.standard_normal((33, width))
    sizes = test_pointwise.sizes(activation, width)
    y = checks.Bench(f"{activation}_forward", {"x": x, "y": 0 * x}, sizes).run()["y"]
    known = {"x": x} if activation in test_pointwise.OF_X else {"y": y}
    dx = checks.Bench(f"{activation}_backward", known | {"dy": dy, "dx": 0 * x}, sizes).run()["dx"]
    theirs = torch.tensor(x, requires_grad=True)
    output = TORCH[activation](theirs)
    output.backward(torch.tensor(dy))
    assert off(y, output) <= CLOSE
    assert off(dx, theirs.grad) <= CLOSE


@pytest.mark.parametrize("name", TORCH_LOSSES)
def test_losses(name):
    shape = (33, 65)
    given = test_loss.operands(name, shape)
    given["scores"][:] = 0
    if name.endswith("softmax_cross_entropy"):
        given["target"] /= given["target"].sum(axis=1, keepdims=True)
    found = checks.Bench(name, given, test_loss.sizes(name, shape)).run()
    source = "x" if "x" in given else "y"
    theirs = torch.tensor(given[source], requires_grad=True)
    value = TORCH_LOSSES[name](theirs, torch.tensor(given["target"]))
    value.backward()
    assert off(found["scores"][:, 0].mean(), value) <= CLOSE
    assert off(found[f"d{source}"], theirs.grad) <= CLOSE


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
    weights = [torch.tensor(values, requires_grad=True) for values in model.get_weights()]
    X, y = np.random.default_rng(0).standard_normal((9, 5)), np.eye(3)[np.arange(9) % 3]
    for _ in range(5):
        h = torch.tensor(X)
        for name, kernel, bias in zip([*hidden, output], weights[::2], weights[1::2], strict=True):
            h = TORCH[name](h @ kernel + bias)
        value = -(torch.tensor(y) * h).sum() / 9 if output == "log_softmax" else TORCH_LOSSES[loss](h, torch.tensor(y))
        value.backward()
        assert off(model.train_on_batch(X, y)["loss"], value) <= CLOSE
        with torch.no_grad():
            for parameter in weights:
                parameter -= 0.1 * parameter.grad
                parameter.grad = None
    for ours, theirs in zip(model.get_weights(), weights, strict=True):
        assert off(ours, theirs) <= CLOSE
