"""Normalisation: kernels, and the layers BatchNorm and LayerNorm."""

import checks
import numpy as np
import pytest

import numbanet as nn
from numbanet import gradients

CASES = [(1, 1, 3), (5, 1, 17), (4, 3, 5), (9, 2, 33), (33, 1, 16)]  # rows, positions, width
SMALL = [(1, 1, 3), (4, 2, 5), (3, 1, 17)]


def rows(shape, seed=0, scale=2.0, shift=0.5):
    count, positions, width = shape
    return shift + scale * np.random.default_rng(seed).standard_normal((count, positions * width))


def vector(shape, seed):
    return np.random.default_rng(seed).uniform(0.5, 1.5, (1, shape[2]))


def sizes(shape, **more):
    return {"width": shape[2], "positions": shape[1], **more}


def batch_norm(shape, learning=True, **options):
    x = rows(shape, **options)
    moving = {"moving_mean": vector(shape, 1), "moving_variance": vector(shape, 2)}
    return {"x": x, "y": 0 * x, "spread": 0 * vector(shape, 0), **(moving if learning else dict.fromkeys(moving))}


def infer(shape):
    x = rows(shape)
    return {"x": x, "moving_mean": vector(shape, 1), "moving_variance": vector(shape, 2), "y": 0 * x}


def layer_norm(shape, **options):
    x = rows(shape, **options)
    return {"x": x, "y": 0 * x, "spread": np.zeros((shape[0], shape[1]))}


def scale(shape, gamma=True, beta=True):
    x = rows(shape)
    given = {"gamma": vector(shape, 1) if gamma else None, "beta": vector(shape, 2) if beta else None}
    return {"x": x, **given, "y": 0 * x}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", CASES)
def test_batch_norm_agrees_with_the_reference(shape, dtype, device):
    given = sizes(shape, epsilon=0.01, momentum=0.9)
    for learning in (True, False):
        checks.check_forward("batch_norm_forward", batch_norm(shape, learning), given, dtype)
    x, dy = rows(shape), rows(shape, 3)
    done = checks.expected("batch_norm_forward", batch_norm(shape, False), given)
    known = {"y": done["y"], "dy": dy, "spread": done["spread"], "dx": 0 * x}
    checks.check_forward("batch_norm_backward", known, sizes(shape), dtype)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", CASES)
def test_batch_norm_infer_agrees_with_the_reference(shape, dtype, device):
    given = infer(shape)
    checks.check_forward("batch_norm_infer_forward", given, sizes(shape, epsilon=0.01), dtype)
    known = {"dy": rows(shape, 3), "moving_variance": given["moving_variance"], "dx": 0 * given["x"]}
    checks.check_forward("batch_norm_infer_backward", known, sizes(shape, epsilon=0.01), dtype)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", CASES)
def test_layer_norm_agrees_with_the_reference(shape, dtype, device):
    given = layer_norm(shape)
    checks.check_forward("layer_norm_forward", given, sizes(shape, epsilon=0.01), dtype)
    done = checks.expected("layer_norm_forward", given, sizes(shape, epsilon=0.01))
    known = {"y": done["y"], "dy": rows(shape, 3), "spread": done["spread"], "dx": 0 * given["x"]}
    checks.check_forward("layer_norm_backward", known, sizes(shape), dtype)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", CASES)
def test_scale_agrees_with_the_reference(shape, dtype, device):
    x, dy, gamma = rows(shape), rows(shape, 3), vector(shape, 1)
    for given in ((True, True), (True, False), (False, True)):
        checks.check_forward("scale_forward", scale(shape, *given), sizes(shape), dtype)
    for some in (gamma, None):
        checks.check_forward("scale_backward_input", {"dy": dy, "gamma": some, "dx": 0 * x}, sizes(shape), dtype)
    checks.check_forward("scale_backward_gamma", {"x": x, "dy": dy, "dgamma": 0 * gamma}, sizes(shape), dtype)
    checks.check_forward("scale_backward_beta", {"dy": dy, "dbeta": 0 * gamma}, sizes(shape), dtype)


@pytest.mark.parametrize("shape", SMALL)
def test_gradients(shape):
    checks.check_backward("batch_norm_forward", batch_norm(shape), sizes(shape, epsilon=0.1, momentum=0.9))
    checks.check_backward("batch_norm_forward", batch_norm(shape, False), sizes(shape, epsilon=0.1, momentum=0.9))
    checks.check_backward("batch_norm_infer_forward", infer(shape), sizes(shape, epsilon=0.1))
    checks.check_backward("layer_norm_forward", layer_norm(shape), sizes(shape, epsilon=0.1))
    for given in ((True, True), (True, False), (False, True)):
        checks.check_backward("scale_forward", scale(shape, *given), sizes(shape))


@pytest.mark.parametrize("name", ["batch_norm_forward", "layer_norm_forward"])
def test_a_large_mean_costs_no_digits(name, device):
    """Variance 1 around 1000 in float32: the mean of squares less the square of the mean would be off by 0.06."""
    shape = (6, 1, 40)
    make = batch_norm if name == "batch_norm_forward" else layer_norm
    given = {key: value.astype("float32") for key, value in make(shape, scale=1.0, shift=1000.0).items()}
    found = checks.Bench(name, given, sizes(shape, epsilon=1e-3, momentum=0.9), "float32").run()
    wanted = checks.expected(name, given, sizes(shape, epsilon=1e-3, momentum=0.9))
    for key in ("y", "spread"):
        assert np.abs(found[key] - wanted[key]).max() <= 1e-4, key  # half a unit of 1000 is 3e-5


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_what_does_not_vary_becomes_zero(dtype, device):
    """A batch of one row, a column of one value, a row of one value."""
    given = sizes((1, 1, 20), epsilon=1e-3, momentum=0.5)
    for x in (rows((1, 1, 20)), np.full((5, 20), 0.1)):
        operands = {**batch_norm((1, 1, 20)), "x": x, "y": 0 * x + 1}
        found = checks.Bench("batch_norm_forward", operands, given, dtype).run()
        assert np.abs(found["y"]).max() <= 1e-6
        assert np.allclose(found["moving_variance"], 0.5 * operands["moving_variance"])
        assert np.allclose(found["spread"], 1000**0.5)
    operands = {"x": x, "y": 0 * x + 1, "spread": np.zeros((5, 1))}
    assert np.abs(checks.Bench("layer_norm_forward", operands, given, dtype).run()["y"]).max() <= 1e-6


@pytest.mark.parametrize("value", [2.6444114e8, 1.2161188e13, 3.7797164e18])
def test_large_numbers_that_do_not_vary_become_zero(value, device):
    """Rounding would leave a variance below zero, whose root is NaN."""
    x, given = np.full((999, 3), value, np.float32), {"positions": 1, "epsilon": 1e-3}
    operands = {"x": x, "y": x, "spread": x[:1], "moving_mean": 0 * x[:1], "moving_variance": 0 * x[:1]}
    bench = checks.Bench("batch_norm_forward", operands, given | {"width": 3, "momentum": 0.5}, "float32")
    found = bench.run()
    assert np.all(found["y"] == 0)
    assert np.all(found["moving_variance"] >= 0)
    operands = {"x": x.T, "y": x.T, "spread": x[:3, :1]}
    found = checks.Bench("layer_norm_forward", operands, given | {"width": 999}, "float32").run()
    assert np.all(found["y"] == 0)


# -- the layers


def network(*layers, inputs=4, outputs=2, seed=0, dtype="float64", optimizer=None):
    model = nn.Sequential([nn.Input(inputs), *layers, nn.Flatten(), nn.Dense(outputs)], seed=seed, dtype=dtype)
    model.compile(optimizer or nn.SGD(0.1), "mse")
    return model


def samples(count=11, inputs=4, outputs=2):
    rng = np.random.default_rng(count)
    return 3 + 2 * rng.standard_normal((count, inputs)), rng.standard_normal((count, outputs))


def of(model, name):
    """The values of a parameter."""
    return next(parameter.unpack(model._theta) for parameter in model.graph.parameters if parameter.name == name)


def moved(moving, batch, momentum):
    """(moving_mean, moving_variance) after a batch, whose last axis are channels."""
    axes = tuple(range(batch.ndim - 1))
    found = batch.mean(axis=axes), batch.var(axis=axes)
    return [momentum * old + (1 - momentum) * new for old, new in zip(moving, found, strict=True)]


@pytest.mark.parametrize("shape", [(4,), (2, 2), (2, 1, 2)])
def test_statistics_follow_the_batches(shape):
    """Two epochs of 7 and 4 samples, the second batch short: Keras' formula, per channel; then they are what counts."""
    X, y = samples()
    model = network(nn.Reshape(shape), nn.BatchNorm(momentum=0.7))
    model.fit(X, y, batch_size=7, epochs=2, shuffle=False, verbose=0)
    moving, batches = [np.zeros(shape[-1:]), np.ones(shape[-1:])], X.reshape(-1, *shape)
    for batch in (batches[:7], batches[7:]) * 2:
        moving = moved(moving, batch, 0.7)
    gamma, beta, mean, variance, kernel, bias = model.get_weights()
    assert np.allclose(mean, moving[0], rtol=1e-14)
    assert np.allclose(variance, moving[1], rtol=1e-14)
    z = (batches - mean) / np.sqrt(variance + 1e-3) * gamma + beta
    wanted = z.reshape(len(X), -1) @ kernel + bias
    assert np.allclose(model.predict(X), wanted, rtol=1e-13)
    assert model.evaluate(X, y)["loss"] == pytest.approx(np.square(wanted - y).mean(), rel=1e-13)


def test_training_sees_the_batch():
    """The loss of train_on_batch is that of the batch's own statistics; of evaluate, of the moving ones."""
    X, y = samples()
    model = network(nn.BatchNorm(epsilon=0.01))
    gamma, beta, _, _, kernel, bias = model.get_weights()
    z = (X - X.mean(axis=0)) / np.sqrt(X.var(axis=0) + 0.01) * gamma + beta
    wanted = np.square(z @ kernel + bias - y).mean()
    assert model.train_on_batch(X, y)["loss"] == pytest.approx(wanted, rel=1e-13)
    assert model.evaluate(X, y)["loss"] != pytest.approx(wanted, rel=1e-3)


def test_looking_changes_no_statistics():
    """Neither predictions and evaluations nor checks of gradients."""
    X, y = samples()
    model = network(nn.Dense(5), nn.BatchNorm())
    model.train_on_batch(X, y)
    before = model._theta.copy()
    model.predict(X)
    model.evaluate(X, y)
    gradients.gradients(model, model._data(X, y))
    gradients.loss(model, model._data(X, y))
    assert np.array_equal(model._theta, before)


def test_a_layer_used_twice_sees_both():
    X, y = samples()
    a, norm = nn.Input(4), nn.BatchNorm(momentum=0.5)
    h = norm(norm(a))
    model = nn.Model(a, nn.Dense(2)(h), seed=0, dtype="float64")
    model.compile("sgd", "mse")
    model.train_on_batch(X, y)
    moving = moved([np.zeros(4), np.ones(4)], X, 0.5)
    once = (X - X.mean(axis=0)) / np.sqrt(X.var(axis=0) + 1e-3)
    moving = moved(moving, once, 0.5)
    assert np.allclose(model.get_weights()[2], moving[0], rtol=1e-14, atol=1e-16)
    assert np.allclose(model.get_weights()[3], moving[1], rtol=1e-14)


@pytest.mark.parametrize("scaled", [True, False])
def test_a_frozen_layer_computes_as_in_prediction(scaled):
    """Its four arrays keep their bits, the layers before it learn through it, and it can be thawed again."""
    X, y = samples()
    norm = nn.BatchNorm(center=scaled, scale=scaled)
    model = network(nn.Dense(3), norm)
    model.fit(X, y, batch_size=4, epochs=3, verbose=0)
    norm.trainable = False
    names = [parameter.name for parameter in model.graph.parameters]
    before = {name: of(model, name) for name in names}
    wanted = model.evaluate(X, y)["loss"]
    assert model.train_on_batch(X, y)["loss"] == pytest.approx(wanted, rel=1e-13)
    after = {name: of(model, name) for name in names}
    for name in names:
        assert np.array_equal(before[name], after[name]) is name.startswith("batch_norm"), name
    norm.trainable = True
    model.train_on_batch(X, y)
    assert not np.array_equal(of(model, "batch_norm_1.moving_mean"), after["batch_norm_1.moving_mean"])


def test_layer_norm_is_the_same_in_training():
    X, y = samples(inputs=6)
    model = network(nn.Reshape((-1, 3)), nn.LayerNorm(epsilon=0.01, gamma_initializer=nn.Constant(2)), inputs=6)
    gamma, beta, kernel, bias = model.get_weights()
    rows = X.reshape(-1, 2, 3)
    z = (rows - rows.mean(axis=2, keepdims=True)) / np.sqrt(rows.var(axis=2, keepdims=True) + 0.01) * gamma + beta
    wanted = z.reshape(-1, 6) @ kernel + bias
    assert np.allclose(model.predict(X), wanted, rtol=1e-13)
    assert model.train_on_batch(X, y)["loss"] == pytest.approx(np.square(wanted - y).mean(), rel=1e-13)


@pytest.mark.parametrize("scaled", [(True, True), (True, False), (False, True), (False, False)])
@pytest.mark.parametrize("layer", [nn.BatchNorm, nn.LayerNorm])
def test_gradients_with_and_without_scale_and_shift(layer, scaled):
    """Of everything, after tanh, so that a bias before it is not lost in the mean."""
    X, y = samples(inputs=6)
    norm = layer(center=scaled[0], scale=scaled[1], gamma_regularizer="l2", beta_regularizer="l1")
    model = network(nn.Dense(6, "tanh", kernel_initializer=nn.RandomNormal(stddev=0.3)), norm, inputs=6)
    model.set_weights([w + 0.1 if w.ndim == 1 else w for w in model.get_weights()])
    check = nn.gradient_check(model, X, y, eps=1e-5)
    assert check.error <= 1e-7, check
    names = [parameter.name.split(".")[1] for parameter in model.graph.parameters][2:-2]
    wanted = ["gamma"] * scaled[1] + ["beta"] * scaled[0]
    assert names == wanted + ["moving_mean", "moving_variance"] * (layer is nn.BatchNorm)


def test_padding_of_statistics_stays_zero():
    X, y = samples(inputs=17)
    layers = [nn.BatchNorm(), nn.Dense(34, "tanh"), nn.Reshape((2, 17)), nn.LayerNorm(), nn.BatchNorm()]
    model = network(*layers, inputs=17, dtype="float32", optimizer=nn.Adam())
    model.fit(X, y, batch_size=4, epochs=2, verbose=0)
    inside = np.zeros(model.graph.size, bool)
    for parameter in model.graph.parameters:
        parameter.pack(inside, np.ones(parameter.shape, bool))
    for slot in model._theta.reshape(-1, model.graph.size):
        assert not slot[~inside].any()


def test_a_batch_of_one_row():
    """Its variance is 0: what comes out is beta, and nothing is learnt before it."""
    X, y = samples(1)
    model = network(nn.Dense(3), nn.BatchNorm(beta_initializer=nn.Constant(0.5)))
    kernel = model.get_weights()[0]
    assert np.isfinite(model.train_on_batch(X, y)["loss"])
    assert np.array_equal(model.get_weights()[0], kernel)
    assert all(np.isfinite(weights).all() for weights in model.get_weights())


def test_norms_teach_a_deep_network(digits):
    """Six layers of sigmoids hardly learn, normalised they do."""
    X, y = digits
    losses = []
    for norm in (False, True):
        layers = [nn.Input(64)]
        for _ in range(6):
            layers += [nn.Dense(32), nn.BatchNorm(), nn.Activation("sigmoid")] if norm else [nn.Dense(32, "sigmoid")]
        model = nn.Sequential([*layers, nn.Dense(10, "softmax")], seed=0)
        model.compile(nn.SGD(0.1), "cross_entropy")
        losses.append(model.fit(X, y, epochs=10, verbose=0).history["loss"][-1])
    assert losses[0] > 2.2
    assert losses[1] < 1
