"""Gradients of whole networks against central differences, in float64."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_model import dag

import numbanet as nn
from numbanet import losses
from numbanet.gradients import gradients
from numbanet.layers import ACTIVATIONS

# Outputs must be probabilities where the loss takes logarithms of them.
OUTPUTS = {
    "half_squared_error": ACTIVATIONS,
    "mse": ACTIVATIONS,
    "cross_entropy": ["softmax", "sigmoid", "log_softmax"],
    "binary_cross_entropy": ["sigmoid", "softmax"],
    "mae": ["linear", "elu"],
    "huber": ["linear", "gelu"],
    "kl_divergence": ["softmax", "sigmoid"],
    "hinge": ["linear", "tanh"],
    "poisson": ["softplus", "sigmoid"],
}
PAIRS = [(output, loss) for loss, outputs in OUTPUTS.items() for output in outputs]
HIDDEN = [activation for activation in ACTIVATIONS if activation != "step"]
CASES = [(HIDDEN[(2 * k + j) % len(HIDDEN)], *pair) for k, pair in enumerate(PAIRS) for j in (0, 1)]


# Derivatives well above the rounding of a difference of two losses (1e-16 / eps), and no unit exactly at relu's kink.
LIVELY = {"kernel_initializer": nn.RandomNormal(stddev=0.6), "bias_initializer": nn.RandomNormal(stddev=0.3)}
EPS = 1e-5


def data(inputs, outputs, rows=6, seed=0, loss="mse"):
    rng = np.random.default_rng(seed)
    targets = rng.random((rows, outputs)) + 0.1
    if loss == "hinge":
        return rng.standard_normal((rows, inputs)), np.where(targets < 0.6, -1, 1)
    return rng.standard_normal((rows, inputs)), targets / targets.sum(axis=1, keepdims=True)


def test_every_loss_is_covered():
    assert set(OUTPUTS) == set(losses.LOSSES)
    assert {hidden for hidden, *_ in CASES} == set(HIDDEN)


@pytest.mark.parametrize(("hidden", "output", "loss"), CASES)
def test_three_hidden_layers(hidden, output, loss):
    layers = [nn.Dense(units, hidden, **LIVELY) for units in (7, 5, 6)]
    model = nn.Sequential([nn.Input(4), *layers, nn.Dense(3, output, **LIVELY)], seed=1)
    model.compile("sgd", loss)
    check = nn.gradient_check(model, *data(4, 3, loss=loss), eps=EPS)
    assert check.error <= 1e-7, check
    assert check.checked == model.graph.count


@pytest.mark.parametrize(("output", "loss"), [pair for pair in PAIRS if pair[1] != "half_squared_error"])
def test_dag_with_a_skip_connection(output, loss):
    x = nn.Input(4)
    h = nn.Dense(5, "tanh", **LIVELY)(x)
    for activation in ("sigmoid", "tanh", "relu"):
        h = nn.Add()([h, nn.Dense(5, activation, **LIVELY)(h)])
    model = nn.Model(x, nn.Activation(output)(nn.Dense(3, **LIVELY)(nn.Concatenate()([h, x]))), seed=1)
    model.compile("sgd", loss)
    check = nn.gradient_check(model, *data(4, 3, loss=loss), eps=EPS)
    assert check.error <= 1e-7, check


def test_parameters_of_formulas():
    """Other numbers than those that a name stands for, an activation shared by two layers among them."""
    x, leaky = nn.Input(4), nn.LeakyReLU(0.4)
    h = nn.ELU(1.7)(leaky(nn.Dense(6, **LIVELY)(leaky(nn.Dense(5, **LIVELY)(x)))))
    model = nn.Model(x, nn.Dense(3, **LIVELY)(h), seed=1)
    model.compile("sgd", nn.Huber(0.4))
    check = nn.gradient_check(model, *data(4, 3), eps=EPS)
    assert check.error <= 1e-7, check


def test_nothing_before_a_step_learns():
    """Its derivative is 0 wherever it has one; what comes after it has a gradient."""
    model = nn.Sequential([nn.Input(4), nn.Dense(7, "step", **LIVELY), nn.Dense(3, **LIVELY)], seed=1)
    model.compile("sgd", "mse")
    check = nn.gradient_check(model, *data(4, 3), eps=EPS)
    assert check.error <= 1e-7, check
    found = gradients(model, model._data(*data(4, 3)))
    assert not found["dense_1.kernel"].any()
    assert found["dense_2.kernel"].any()


def test_two_inputs_and_a_shared_layer():
    model = dag(seed=1)
    model.compile("sgd", "cross_entropy")
    X, y = data(8, 3)
    check = nn.gradient_check(model, [X[:, :4], X[:, 4:].reshape(-1, 2, 2)], y)
    assert check.error <= 1e-7, check


def test_integer_labels_and_softmax_in_the_middle():
    """Softmax under another loss takes its full Jacobian; so does one whose logits are used elsewhere too."""
    x = nn.Input(4)
    z = nn.Dense(3)(x)
    p = nn.Activation("softmax")(z)
    model = nn.Model(x, nn.Activation("softmax")(nn.Add()([z, nn.Dense(3, "relu")(p)])), seed=2)
    model.compile("sgd", "cross_entropy")
    check = nn.gradient_check(model, data(4, 3)[0], np.arange(6) % 3)
    assert check.error <= 1e-7, check


def test_fused_and_plain_losses_agree():
    """The fused gradient equals that through the activation's Jacobian: an Add of one more use keeps it unfused."""
    X, y = data(4, 3)
    for activation, loss in [("softmax", "cross_entropy"), ("sigmoid", "binary_cross_entropy")]:
        fused = nn.Sequential([nn.Input(4), nn.Dense(3, activation)], seed=0, dtype="float64")
        plain = nn.Sequential([nn.Input(4), nn.Dense(3, activation), nn.Dense(3)], seed=0, dtype="float64")
        plain.set_weights([*fused.get_weights(), np.eye(3), np.zeros(3)])
        found = []
        for model in (fused, plain):
            model.compile("sgd", loss)
            found.append(gradients(model, model._data(X, y))["dense_1.kernel"])
        assert fused.plan().ops[3].name != plain.plan().ops[3].name
        assert np.allclose(found[0], found[1], rtol=1e-12, atol=1e-15)
        assert fused.evaluate(X, y)["loss"] == pytest.approx(plain.evaluate(X, y)["loss"], rel=1e-13)


def test_cross_entropy_of_log_probabilities():
    """A network that ends in log_softmax trains as one that ends in softmax, and predicts the logarithms."""
    X, y = data(4, 3)
    logs, plain = (nn.Sequential([nn.Input(4), nn.Dense(3, end)], seed=0, dtype="float64") for end in
                   ("log_softmax", "softmax"))  # fmt: skip
    for model in (logs, plain):
        model.compile("sgd", "cross_entropy", ["accuracy"])
    for _ in range(3):
        ours, theirs = logs.train_on_batch(X, y), plain.train_on_batch(X, y)
        assert ours == pytest.approx(theirs, rel=1e-13)
    assert np.allclose(np.exp(logs.predict(X)), plain.predict(X), rtol=1e-13)
    assert np.allclose(logs.get_weights()[0], plain.get_weights()[0], rtol=1e-12)
    assert logs.evaluate(X, np.arange(6) % 3) == pytest.approx(plain.evaluate(X, np.arange(6) % 3), rel=1e-13)


def test_a_wrong_gradient_is_found(monkeypatch):
    """The checker itself can fail: a derivative that is off by a thousandth is reported, with its place."""
    from numbanet import gradients as module

    right = module.gradients

    def wrong(model, batch):
        found = right(model, batch)
        worst = np.unravel_index(np.abs(found["dense_2.kernel"]).argmax(), (5, 3))
        found["dense_2.kernel"][worst] *= 1.001
        wrong.index = tuple(int(k) for k in worst)
        return found

    monkeypatch.setattr(module, "gradients", wrong)
    model = nn.Sequential([nn.Input(4), nn.Dense(5, "tanh"), nn.Dense(3, "softmax")], seed=0)
    model.compile("sgd", "cross_entropy")
    check = nn.gradient_check(model, *data(4, 3))
    assert check.error == pytest.approx(1e-3, rel=0.01)
    assert (check.parameter, check.index) == ("dense_2.kernel", wrong.index)


def test_the_model_is_not_touched():
    model = nn.Sequential([nn.Input(4), nn.Dense(3, "softmax")], seed=0)
    model.compile("sgd", "cross_entropy")
    before = model._theta.copy()
    nn.gradient_check(model, *data(4, 3))
    assert np.array_equal(before, model._theta)
    assert model.dtype == "float32"


DISTURBING = ["dropout", "gaussian_noise", "batch_norm", "layer_norm"]


def disturbed(draw, kind, node):
    """A layer of noise, or one that normalises what is not linear in what came before.

    Batches do not see what is added to all of their rows, so the gradient of a bias right before BatchNorm is zero, and
    its difference rounding. epsilon is large enough for what hardly varies.
    """
    if kind == "dropout":
        return nn.Dropout(draw(st.sampled_from([0.2, 0.5])))(node)
    if kind == "gaussian_noise":
        return nn.GaussianNoise(0.3)(node)
    normal = {"gamma_initializer": nn.RandomNormal(1, 0.2), "beta_initializer": nn.RandomNormal(0, 0.2), "epsilon": 0.1}
    if len(node.shape) == 1 and node.shape[0] % 2 == 0 and draw(st.booleans()):
        node = nn.Reshape((-1, 2))(node)
    node = nn.Activation("tanh")(node)
    return nn.Flatten()((nn.BatchNorm if kind == "batch_norm" else nn.LayerNorm)(**normal)(node))


SMOOTH = ["linear", "sigmoid", "tanh", "elu", "gelu", "softplus", "softsign", "swish", "softmax", "log_softmax"]
KINKED = ["relu", "leaky_relu", "selu", "hard_sigmoid"]  # after a random bias: no unit is exactly at a kink


def gaussian(z):
    """A user's activation."""
    return math.exp(-z * z)


OWN = nn.activation(gaussian, lambda z: -2 * z * math.exp(-z * z))


def dense(draw, node):
    """A Dense layer with a random activation, with or without a bias."""
    units = draw(st.integers(1, 20))
    if draw(st.booleans()):
        return nn.Dense(units, draw(st.sampled_from(KINKED)), bias_initializer=nn.RandomNormal(stddev=0.3))(node)
    return nn.Dense(units, draw(st.sampled_from([*SMOOTH, OWN])), use_bias=draw(st.booleans()))(node)


@st.composite
def networks(draw):
    """A random DAG of up to eight layers of all kinds, each on one or two of the nodes before, one layer shared."""
    x = nn.Input(draw(st.integers(1, 5)))
    shared = nn.Dense(4, "tanh")
    nodes, kinds = [shared(x)], ["dense", "activation", "add", "concatenate", "shared", "elu", "reshape", *DISTURBING]
    for _ in range(draw(st.integers(1, 7))):
        a, b = (nodes[draw(st.integers(0, len(nodes) - 1))] for _ in range(2))
        kind = draw(st.sampled_from(kinds))
        if kind == "dense":
            nodes.append(dense(draw, a))
        elif kind == "shared" and a.shape == x.shape:
            nodes.append(shared(a))
        elif kind == "activation":
            nodes.append(nn.Activation(draw(st.sampled_from([*SMOOTH, OWN])))(a))
        elif kind == "elu":
            nodes.append(nn.ELU(1.0)(a))
        elif kind == "reshape":
            nodes.append(nn.Flatten()(nn.Reshape((1, -1))(a)))
        elif kind in DISTURBING:
            nodes.append(disturbed(draw, kind, a))
        elif kind == "add" and a.shape == b.shape:
            nodes.append(nn.Add()([a, b]))
        else:
            nodes.append(nn.Concatenate()([a, b]))
    outputs = draw(st.integers(1, 3))
    activation = draw(st.sampled_from(["sigmoid", "linear"]))
    return nn.Model(x, nn.Dense(outputs, activation)(nodes[-1]), seed=draw(st.integers(0, 1000)))


@settings(max_examples=200)
@given(networks(), st.sampled_from(["mse", "half_squared_error", "huber"]), st.integers(1, 5))
def test_random_graphs(model, loss, rows):
    """Noise is that of the first step, statistics are the batch's own."""
    model.compile("sgd", loss)
    X, y = data(model.graph.inputs[0].shape[0], model.graph.output.shape[0], rows)
    check = nn.gradient_check(model, X, y, eps=EPS)
    assert check.error <= 1e-6, check
