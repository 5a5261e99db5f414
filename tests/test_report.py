"""The gradient report: its numbers against NumPy, its verdict on nets that are known to be well or ill."""

import math
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from conftest import unchanged

import numbanet as nn
from numbanet import report as module
from numbanet.gradients import gradients, in_float64, loss
from numbanet.kernels import OPS

RNG = np.random.default_rng(0)
X, LABELS, VALUES = RNG.standard_normal((128, 32)), RNG.integers(0, 10, 128), RNG.standard_normal((128, 1))
TEN_TIMES = nn.VarianceScaling(10.0, "fan_avg", "uniform")  # glorot_uniform with ten times the variance


def chain(depth, activation, initializer="glorot_uniform", output="softmax", seed=0, dtype="float32"):
    """A chain of layers with 32 units, the last with 10 for classes or 1 for values."""
    layers = [nn.Dense(32, activation, kernel_initializer=initializer) for _ in range(depth - 1)]
    layers.append(nn.Dense(10 if output == "softmax" else 1, output))
    model = nn.Sequential([nn.Input(32), *layers], seed=seed, dtype=dtype)
    model.compile("sgd", "cross_entropy" if output == "softmax" else "mse")
    return model


def residual(blocks=20, layers=1, output="softmax", seed=0):
    """Blocks x + f(x), f of one or two layers of relus."""
    x = nn.Input(32)
    h = nn.Dense(32, "relu", kernel_initializer="he_normal")(x)
    for _ in range(blocks):
        f = h
        for _ in range(layers):
            f = nn.Dense(32, "relu", kernel_initializer="he_normal")(f)
        h = nn.Add()([h, f])
    model = nn.Model(x, nn.Dense(10 if output == "softmax" else 1, output)(h), seed=seed)
    model.compile("sgd", "cross_entropy" if output == "softmax" else "mse")
    return model


def report_of(model):
    return nn.gradient_report(model, X, LABELS if model.loss.classes else VALUES, verbose=False)


@pytest.mark.parametrize("output", ["softmax", "linear"])
@pytest.mark.parametrize("seed", range(3))
def test_twenty_layers_of_sigmoids_vanish(seed, output):
    """Slopes of at most 1/4, nineteen times: a factor of 1e-12."""
    found = report_of(chain(20, "sigmoid", output=output, seed=seed))
    assert found.verdict == "vanishing"
    assert found.ratio < 1e-10
    assert found.delta_ratio < 1e-10
    assert all(a.gradient < b.gradient for a, b in pairwise(found.rows[:-1]))  # from layer to layer
    assert "dense_1 is" in found.reason


@pytest.mark.parametrize("output", ["softmax", "linear"])
@pytest.mark.parametrize("seed", range(3))
def test_twenty_linear_layers_with_ten_times_the_variance_explode(seed, output):
    """Each layer multiplies by sqrt(10), forward and backward: gradients of weights are huge everywhere, and alike."""
    found = report_of(chain(20, "linear", TEN_TIMES, output, seed))
    assert found.verdict == "exploding"
    assert math.sqrt(10) ** 19 / 10 < found.delta_ratio < math.sqrt(10) ** 19 * 10
    assert 0.01 < found.ratio < 100  # which is why the verdict looks at deltas
    assert min(row.relative for row in found.rows) > 1e6


@pytest.mark.parametrize("output", ["softmax", "linear"])
@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("seed", range(3))
def test_twenty_residual_blocks_of_relus_are_healthy(seed, layers, output):
    """A block adds to the variance, a factor of about sqrt(2): far from what a chain does."""
    found = report_of(residual(20, layers, output, seed))
    assert found.verdict == "healthy"
    assert 10 < found.delta_ratio < 1e5
    assert 0.01 < found.ratio < 100
    assert "small steps" in found.reason  # its outputs are large all the same


HEALTHY = {
    "tanh, 10 layers": lambda: chain(10, "tanh"),
    "tanh, 50 layers": lambda: chain(50, "tanh"),
    "linear, 20 layers": lambda: chain(20, "linear"),
    "relu, 20 layers": lambda: chain(20, "relu", "he_normal"),
    "sigmoid, 4 layers": lambda: chain(4, "sigmoid"),
    "one layer": lambda: chain(1, "linear"),
}


@pytest.mark.parametrize("name", HEALTHY)
def test_ordinary_networks_are_healthy(name):
    found = report_of(HEALTHY[name]())
    assert found.verdict == "healthy", found.reason
    assert 0.01 < found.delta_ratio < 10
    assert "small steps" not in found.reason


@pytest.mark.compiled
def test_the_digits_are_healthy_before_and_after_training(digits):
    """At a minimum gradients of weights cancel and are tiny; deltas do not cancel."""
    model = nn.Sequential([nn.Input(64), nn.Dense(64, "relu"), nn.Dense(10, "softmax")], seed=0)
    model.compile(nn.Adam(0.01), "cross_entropy", ["accuracy"])
    for epochs in (0, 3, 300):
        model.fit(*digits, epochs=epochs, verbose=0)
        found = nn.gradient_report(model, *digits, verbose=False)
        assert found.verdict == "healthy", found.reason
        assert "small steps" not in found.reason
    assert model.evaluate(*digits)["accuracy"] == 1
    assert found.rows[0].gradient < 1e-3


@pytest.mark.compiled
@pytest.mark.parametrize("activation", ["tanh", "sigmoid", "relu"])
def test_xor_is_healthy_before_and_after_training(activation):
    corners, y = np.array([[0, 0], [0, 1], [1, 0], [1, 1]]), np.array([0, 1, 1, 0])
    model = nn.Sequential([nn.Input(2), nn.Dense(8, activation), nn.Dense(1, "sigmoid")], seed=0)
    model.compile(nn.SGD(1.0), "binary_cross_entropy", ["accuracy"])
    for epochs in (0, 3000):
        model.fit(corners, y, batch_size=4, epochs=epochs, verbose=0)
        assert nn.gradient_report(model, corners, y, verbose=False).verdict == "healthy"
    assert model.evaluate(corners, y)["accuracy"] == 1


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_norms_are_those_of_the_gradients(dtype):
    model = chain(4, "tanh", dtype=dtype)
    found, wanted = report_of(model), gradients(model, model._data(X, LABELS))
    for row in found.rows:
        flat = np.concatenate([wanted[f"{row.layer}.{part}"].ravel() for part in ("kernel", "bias")]).astype(float)
        assert row.gradient == pytest.approx(np.linalg.norm(flat), rel=1e-12)
        assert row.mean == pytest.approx(np.abs(flat).mean(), rel=1e-12)
    weights = model.get_weights()
    assert found.rows[1].weights == pytest.approx(math.hypot(*map(np.linalg.norm, weights[2:4])), rel=1e-6)
    assert found.rows[1].relative == found.rows[1].gradient / found.rows[1].weights
    assert found.loss == pytest.approx(model.evaluate(X, LABELS)["loss"], rel=1e-5)
    assert found.ratio == found.rows[0].gradient / found.rows[-1].gradient


def test_norms_are_those_of_central_differences():
    """Regularisers included, in float64."""
    hidden = nn.Dense(3, "tanh", kernel_regularizer=nn.L2(0.05))
    model = nn.Sequential([nn.Input(4), hidden, nn.Dense(2, "softmax")], seed=0, dtype="float64")
    model.compile("sgd", "cross_entropy")
    rng, y, eps = np.random.default_rng(0), np.arange(5) % 2, 1e-6
    inputs = rng.standard_normal((5, 4))
    found = nn.gradient_report(model, inputs, y, verbose=False)
    twin = in_float64(model)
    data, squares = twin._data(inputs, y), {}
    for parameter in twin.graph.parameters:
        start = parameter.unpack(twin._theta)
        for index in np.ndindex(parameter.shape):
            ends = []
            for step in (eps, -eps):
                moved = start.copy()
                moved[index] += step
                parameter.pack(twin._theta, moved)
                ends.append(loss(twin, data))
            layer = parameter.name.split(".")[0]
            squares[layer] = squares.get(layer, 0) + ((ends[0] - ends[1]) / (2 * eps)) ** 2
        parameter.pack(twin._theta, start)
    for row in found.rows:
        assert row.gradient == pytest.approx(math.sqrt(squares[row.layer]), rel=1e-7)
    assert found.loss == pytest.approx(loss(twin, data), rel=1e-12)


@pytest.mark.parametrize("where", ["cpu", "cuda"])
def test_deltas_dead_and_saturated_units_by_hand(where):
    """One relu of three is dead, one tanh of two saturated, on both devices."""
    model = nn.Sequential([nn.Input(2), nn.Dense(3, "relu"), nn.Dense(2, "tanh"), nn.Dense(1)], seed=0, dtype="float64")
    first = np.array([[0.5, -1.0, 2.0], [1.0, 0.5, -1.0]])
    second, third = np.array([[0.3, 5.0], [-0.7, 0.2], [1.1, 0.4]]), np.array([[0.8], [-0.6]])
    biases = np.array([0.1, -50.0, 0.2]), np.array([0.1, 9.0]), np.array([0.0])
    model.set_weights([first, biases[0], second, biases[1], third, biases[2]])
    model.compile("sgd", "half_squared_error")
    rng = np.random.default_rng(1)
    inputs, y = rng.random((6, 2)), rng.random((6, 1))
    a = np.maximum(inputs @ first + biases[0], 0)
    b = np.tanh(a @ second + biases[1])
    delta3 = (b @ third + biases[2] - y) / 6
    delta2 = delta3 @ third.T * (1 - b**2)
    delta1 = delta2 @ second.T * (a > 0)
    found = nn.gradient_report(model.to(where), inputs, y, verbose=False)
    for row, delta in zip(found.rows, (delta1, delta2, delta3), strict=True):
        assert row.delta == pytest.approx(np.linalg.norm(delta), rel=1e-10)
    assert [row.dead for row in found.rows] == [pytest.approx(1 / 3), None, None]
    assert [row.saturated for row in found.rows] == [None, (np.abs(b) > 0.98).mean(), None]
    assert found.rows[1].saturated >= 0.5
    assert "in dense_2: outputs are saturated" in found.reason


def test_dead_relus_are_named():
    dead = nn.Dense(32, "relu", bias_initializer=nn.Constant(-100.0))
    model = nn.Sequential([nn.Input(32), nn.Dense(32, "relu"), dead, nn.Dense(10, "softmax")], seed=0)
    model.compile("sgd", "cross_entropy")
    found = report_of(model)
    assert found.verdict == "vanishing"
    assert "no gradient reaches dense_1, dense_2" in found.reason
    assert "100% in dense_2: units are dead" in found.reason
    assert [row.dead for row in found.rows] == [0, 1, None]
    assert [row.gradient for row in found.rows][:2] == [0, 0]
    assert found.ratio == 0


def test_an_activation_that_follows_belongs_to_its_layer():
    """Also after a sum; what has parameters in between, or is cut in two, does not."""
    x = nn.Input(32)
    h = nn.Activation("sigmoid")(nn.Dense(8, kernel_initializer="zeros", bias_initializer=nn.Constant(9.0))(x))
    g = nn.Activation("relu")(nn.Add()([nn.Dense(8, bias_initializer=nn.Constant(-500.0))(h), h]))
    model = nn.Model(x, nn.Dense(10, "softmax")(nn.Dense(8)(g)), seed=0)
    model.compile("sgd", "cross_entropy")
    rows = report_of(model).rows
    assert [(row.dead, row.saturated) for row in rows] == [(None, 1.0), (1.0, None), (None, None), (None, None)]


def test_frozen_layers_are_shown_as_such():
    layers = [nn.Dense(9, "tanh", kernel_regularizer=nn.L2(0.01)) for _ in range(3)]
    model = nn.Sequential([nn.Input(32), *layers, nn.Dense(10, "softmax")], seed=0)
    model.compile("sgd", "cross_entropy")
    model.layers[1].trainable = model.layers[3].trainable = False
    found = report_of(model)
    assert found.loss == pytest.approx(model.evaluate(X, LABELS)["loss"], rel=1e-5)
    assert [row.note for row in found.rows] == ["frozen", "", "frozen", ""]
    assert [row.gradient is None for row in found.rows] == [True, False, True, False]
    assert [row.delta is None for row in found.rows] == [True, False, False, False]  # it passes through the third
    assert found.ratio == found.rows[1].gradient / found.rows[3].gradient
    assert str(found).count("frozen") == 2
    for layer in model.layers[1:]:
        layer.trainable = False
    with pytest.raises(ValueError, match="no layer of the model is trainable"):
        report_of(model)


def test_layers_that_no_gradient_can_reach_are_shown_as_such(monkeypatch):
    """Behind an activation without a derivative."""
    monkeypatch.setitem(OPS, "tanh_forward", replace(OPS["tanh_forward"], backward=()))
    layers = [nn.Dense(4, "relu"), nn.Dense(4), nn.Activation("tanh"), nn.Dense(4, "relu"), nn.Dense(10, "softmax")]
    model = nn.Sequential([nn.Input(32), *layers], seed=0)
    model.compile("sgd", "cross_entropy")
    found = report_of(model)
    assert [row.note for row in found.rows] == ["no gradient", "no gradient", "", ""]
    assert (found.verdict, found.reason) == ("vanishing", "no gradient reaches dense_1, dense_2.")


def test_a_shared_layer_has_one_row():
    x = nn.Input(32)
    shared = nn.Dense(32, "relu")
    model = nn.Model(x, nn.Dense(10, "softmax")(shared(shared(x))), seed=0)
    model.compile("sgd", "cross_entropy")
    assert [row.layer for row in report_of(model).rows] == ["dense_1", "dense_2"]


def test_nothing_left_to_learn_is_no_illness():
    """All gradients 0: at a loss of 0 that is well, at another it is not."""
    model = nn.Sequential([nn.Input(2), nn.Dense(2, "relu"), nn.Dense(1, "sigmoid")], seed=0)
    model.set_weights([np.eye(2), np.zeros(2), np.ones((2, 1)), np.full(1, 500.0)])
    model.compile("sgd", "mse")
    inputs = np.ones((3, 2))
    well, ill = (nn.gradient_report(model, inputs, np.full((3, 1), y), verbose=False) for y in (1.0, 0.0))
    assert (well.verdict, well.loss) == ("healthy", 0)
    assert (ill.verdict, ill.loss) == ("vanishing", 1)
    assert math.isnan(ill.ratio)


def test_numbers_beyond_all_others_explode():
    model = chain(30, "linear", nn.RandomNormal(stddev=30.0), "linear")
    found = report_of(model)
    assert found.verdict == "exploding"
    assert "beyond all numbers" in found.reason


@pytest.mark.parametrize(
    ("name", "dead", "alive"),
    [
        ("relu", [-1.0, 0.0], [1e-9]),
        ("leaky_relu", [], [-1.0, 1.0]),
        ("elu", [-1.0, -0.995], [-0.98, 0.1]),
        ("selu", [-1.758], [-1.7, 0.1]),
        ("softplus", [0.0, 0.005], [0.02]),
        ("gelu", [0.0, -1e-5], [-0.1, 0.1]),
        ("swish", [0.0, -1e-5], [-0.2, 0.1]),
    ],
)
def test_where_activations_are_flat(name, dead, alive):
    """In terms of the output, where the slope is below a hundredth."""
    assert not module.ALIVE[name](np.array(dead), 1.0).any()
    assert module.ALIVE[name](np.array(alive), 1.0).all()


def test_it_is_printed_as_a_table(capsys):
    found = nn.gradient_report(chain(3, "tanh"), X, LABELS)
    shown = capsys.readouterr().out
    assert shown == f"{found}\n"
    lines = shown.splitlines()
    assert len(lines) == 3 + 5
    assert lines[0].split() == ["layer", "gradient", "mean", "weights", "grad/weights", "delta", "dead", "saturated"]
    assert lines[2].startswith("dense_1 (Dense, tanh)")
    assert f"{found.rows[0].gradient:.2e}" in lines[2]
    assert lines[-1] == f"{found.verdict}: {found.reason}"
    nn.gradient_report(chain(3, "tanh"), X, LABELS, verbose=False)
    assert capsys.readouterr().out == ""


def test_the_model_is_not_touched(same):
    model = chain(3, "tanh")
    model.fit(X, LABELS, epochs=1, verbose=0)
    before, programs = unchanged(model), dict(model._programs)
    report_of(model)
    same(before, unchanged(model))
    assert model._programs == programs  # a program for all samples at once would keep its memory


def test_bad_arguments():
    with pytest.raises(TypeError, match="model must be a numbanet model, not list"):
        nn.gradient_report([], X, LABELS)
    with pytest.raises(ValueError, match="not compiled"):
        nn.gradient_report(nn.Sequential([nn.Input(32), nn.Dense(10)]), X, LABELS)
    with pytest.raises(ValueError, match="expected \\(n, 32\\)"):
        nn.gradient_report(chain(2, "tanh"), X[:, :5], LABELS)
