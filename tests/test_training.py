"""The training loop: short batches, orders of samples, compiling again, which metric is meant."""

import numpy as np
import pytest

import numbanet as nn
from numbanet import losses
from numbanet.planner import Form
from numbanet.training import shuffled


def network(*layers, seed=0, **options):
    return nn.Sequential([nn.Input(2), *layers], seed=seed, dtype="float64", **options)


@pytest.mark.parametrize("loss", ["mse", "half_squared_error", "cross_entropy", "binary_cross_entropy"])
@pytest.mark.parametrize("activation", ["softmax", "sigmoid"])
def test_a_short_last_batch_counts_only_its_own_rows(blobs, loss, activation):
    """50 samples in batches of 32 are a step on 32 and a step on 18, whatever the rows behind them still hold."""
    X, y = blobs[0][:50], np.eye(3)[blobs[1][:50]]
    models = [network(nn.Dense(7, "tanh"), nn.Dense(3, activation)) for _ in range(2)]
    for model in models:
        model.compile(nn.SGD(0.5, 0.9), loss, ["mae"])
    models[0].fit(X, y, batch_size=32, shuffle=False, epochs=2, verbose=0)
    for _ in range(2):
        fresh = [models[1].train_on_batch(X[:32], y[:32]), models[1].train_on_batch(X[32:], y[32:])]
        models[1]._programs.clear()
    assert all(np.isfinite(logs["loss"]) for logs in fresh)
    for a, b in zip(models[0].get_weights(), models[1].get_weights(), strict=True):
        assert np.allclose(a, b, rtol=1e-13, atol=1e-15)


def test_every_epoch_has_an_order_of_its_own():
    orders = [tuple(shuffled(50, seed, epoch)) for seed in (0, 1) for epoch in range(5)]
    assert len(set(orders)) == 10
    assert all(sorted(order) == list(range(50)) for order in orders)
    assert tuple(shuffled(50, 0, 3)) == orders[3]


def test_epochs_are_counted_and_set_the_order(blobs):
    """Two fits of one epoch are one fit of two; the same order twice would give something else."""
    X, y = blobs
    models = [network(nn.Dense(3, "softmax")) for _ in range(3)]
    for model in models:
        model.compile(nn.SGD(0.5), "cross_entropy")
    models[0].fit(X, y, epochs=2, verbose=0)
    models[1].fit(X, y, epochs=1, verbose=0)
    models[1].fit(X, y, epochs=1, verbose=0)
    models[2].fit(X, y, epochs=1, verbose=0)
    models[2].epochs = 0
    models[2].fit(X, y, epochs=1, verbose=0)
    assert np.array_equal(models[0]._theta, models[1]._theta)
    assert not np.array_equal(models[0]._theta, models[2]._theta)
    assert models[0].epochs == models[1].epochs == 2


def test_compiling_again_leaves_nothing_behind(blobs):
    """After compile, training, evaluation and prediction are those of a new model with the same weights."""
    X, y = blobs
    used = network(nn.Dense(5, "tanh"), nn.Dense(3, "softmax"))
    used.compile(nn.Adam(), "cross_entropy", ["accuracy"])
    used.fit(X, y, verbose=0)
    used.evaluate(X, y)
    used.predict(X)
    new = network(nn.Dense(5, "tanh"), nn.Dense(3, "softmax"))
    new.set_weights(used.get_weights())
    for model in (used, new):
        model.compile(nn.SGD(0.1), "mse", ["mae"])
        model.epochs = 0
        model.fit(X, np.eye(3)[y], verbose=0, epochs=2)
    assert np.array_equal(used._theta, new._theta)
    assert used.evaluate(X, np.eye(3)[y]) == new.evaluate(X, np.eye(3)[y])
    assert np.array_equal(used.predict(X), new.predict(X))


@pytest.mark.parametrize(
    ("outputs", "loss", "metric", "wanted"),
    [
        (3, "cross_entropy", "accuracy", "accuracy"),
        (3, "mse", "accuracy", "accuracy"),
        (1, "mse", "accuracy", "binary_accuracy"),
        (3, "binary_cross_entropy", "accuracy", "binary_accuracy"),
        (3, "cross_entropy", "binary_accuracy", "binary_accuracy"),
        (3, "mse", "mse", "mean_squared_error"),
    ],
)
def test_which_metric_a_name_means(outputs, loss, metric, wanted):
    """ "accuracy" compares the largest outputs, or each with 1/2 for one output and for binary cross-entropy."""
    model = network(nn.Dense(outputs, "sigmoid"))
    model.compile("sgd", loss, [metric])
    assert [op.name for op in model.plan("evaluate").ops][-1] == wanted
    assert metric in model.evaluate(np.zeros((2, 2)), np.ones((2, outputs)) / outputs)


@pytest.mark.parametrize("dtype", ["float64", "float32", "int64", "uint8", "bool"])
def test_hinge_takes_0_for_minus_1(dtype):
    """As in Keras: where all targets are 0 or 1; those that hold -1 stay as they are."""
    X, y = np.random.default_rng(0).random((6, 2)), np.array([0, 1, 1, 0, 1, 0]).astype(dtype)
    model = network(nn.Dense(1))
    model.compile("sgd", "hinge")
    score, signs = model.predict(X)[:, 0], np.where(y, 1, -1)
    wanted = pytest.approx(np.maximum(1 - signs * score, 0).mean(), rel=1e-14)
    assert model.evaluate(X, y)["loss"] == wanted
    assert model.evaluate(X, signs)["loss"] == wanted
    assert model.evaluate(X, signs[:, None].astype(float))["loss"] == wanted
    assert model.evaluate(X[1:3], y[1:3]) == model.evaluate(X[1:3], signs[1:3])


def test_long_names_of_losses():
    """Keras' names mean the same as the short ones."""
    for long, short in losses.ALIASES.items():
        assert losses.get(long) == losses.LOSSES[short]
    assert losses.get("huber") == nn.Huber() == nn.Huber(1) != nn.Huber(2)


@pytest.mark.parametrize(
    "call",
    [
        lambda: nn.SGD(0.1, 0.9, True, False),
        lambda: nn.Adam(0.1, 0.9, 0.999, 1e-7, True),
        lambda: nn.AdamW(0.1, 0.01, 0.9, 0.999, 1e-7, True),
        lambda: nn.RMSprop(0.1, 0.9, 0.0, 1e-7, False, False),
        lambda: nn.Adagrad(0.1, 0.1, 1e-7, False),
    ],
)
def test_what_keras_does_not_know_is_given_by_keyword(call):
    """Keras has amsgrad or weight_decay in these places."""
    with pytest.raises(TypeError, match="positional arguments"):
        call()


def test_parameters_of_activations():
    """Layers take other ones than Keras' defaults, for which the name stands."""
    X = np.array([[-2.0, 3.0]])
    for layer, wanted in [
        (nn.LeakyReLU(), [-0.6, 3]),
        (nn.Activation("leaky_relu"), [-0.4, 3]),
        (nn.LeakyReLU(negative_slope=0.01), [-0.02, 3]),
        (nn.ELU(), [np.expm1(-2), 3]),
        (nn.Activation("elu"), [np.expm1(-2), 3]),
        (nn.ELU(alpha=0.5), [0.5 * np.expm1(-2), 3]),
    ]:
        assert np.allclose(network(layer).predict(X), [wanted], rtol=1e-15)
    names = network(nn.LeakyReLU(), nn.ELU(), nn.LeakyReLU()).graph.names.values()
    assert list(names)[1:] == ["leaky_re_lu_1", "elu_1", "leaky_re_lu_2"]  # as in Keras
    assert nn.Dense(2, "silu").activation == "swish"


@pytest.mark.parametrize(
    ("loss", "shown"),
    [(nn.Huber(1.5), "huber(delta=1.5)"), ("huber", "huber(delta=1.0)"), ("kld", "kl_divergence")],
)
def test_parameters_of_formulas_are_saved(tmp_path, loss, shown):
    layers = [nn.LeakyReLU(0.3), nn.Dense(4, "silu"), nn.ELU(alpha=2, name="elu"), nn.Activation("softmax")]
    model = network(nn.Dense(4), *layers)
    model.compile("adam", loss)
    model.save(tmp_path / "m")
    loaded = nn.load(tmp_path / "m")
    assert repr(loaded) == repr(model)
    assert shown in repr(model)
    assert loaded.loss == model.loss
    assert (loaded.layers[2].negative_slope, loaded.layers[4].alpha) == (0.3, 2.0)
    X, y = np.random.default_rng(0).random((2, 5, 4))
    for one in (model, loaded):
        one.fit(X[:, :2], y, verbose=0)
    assert model._theta.tobytes() == loaded._theta.tobytes()


def test_a_layer_may_overwrite_what_its_slope_does_not_need():
    """gelu and swish read x in the backward pass, so they need a buffer more."""
    model = network(nn.Dense(3, "swish"), nn.Dense(3, "softplus"), nn.Dense(3, "gelu"), nn.Dense(3, "elu"))
    ops = {op.name: op.operands for op in model.plan("predict").ops}
    kept = {name: ops[name]["x"] is not ops[name]["y"] for name in ops if "_forward" in name and "dense" not in name}
    assert kept == {"swish_forward": True, "softplus_forward": False, "gelu_forward": True, "elu_forward": False}


def test_ties_go_to_the_first_class():
    """As numpy.argmax has it."""
    model = network(nn.Activation("linear"), nn.Dense(2))
    model.set_weights([np.zeros((2, 2)), np.zeros(2)])
    model.compile("sgd", "mse", ["accuracy"])
    assert model.evaluate(np.zeros((4, 2)), np.array([[1, 0], [0, 1], [1, 1], [0, 1]]))["accuracy"] == 0.5


@pytest.mark.compiled
def test_programs_are_kept_and_do_not_grow_without_need(blobs):
    X, y = blobs
    model = network(nn.Dense(3, "softmax"))
    model.compile("sgd", "cross_entropy")
    model.fit(X, y, batch_size=32, verbose=0)
    program = model._programs["train", Form(classes=True), frozenset()]
    model.fit(X, y, batch_size=30, verbose=0)
    assert model._programs["train", Form(classes=True), frozenset()] is program
    model.fit(X, y, batch_size=33, verbose=0)
    assert model._programs["train", Form(classes=True), frozenset()].plan.batch_size == 33
    model.predict(np.zeros((100_000, 2)))
    assert (
        model._programs["predict", Form(direct=True), None].plan.batch_size <= 1024
    )  # the workspace does not grow with the data


def test_zero_epochs_and_one_sample(blobs):
    X, y = blobs
    model = network(nn.Dense(3, "softmax"))
    model.compile("sgd", "cross_entropy")
    before = model._theta.copy()
    assert model.fit(X, y, epochs=0, verbose=0).history == {}
    assert np.array_equal(model._theta, before)
    history = model.fit(X[:1], y[:1], verbose=0, validation_split=0.9)  # too few to hold any out
    assert list(history.history) == ["loss"]
    assert model.updates == 1


@pytest.mark.parametrize("activation", ["tanh", "softmax"])
def test_nothing_stays_of_steps_that_were_not_finite(activation):
    """Weights put back after a learning rate that was too high train as those of a new model, their padding too."""
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((64, 4)), rng.integers(0, 3, 64)
    models = []
    for _ in range(2):
        x = nn.Input(4)
        h = nn.Dense(6, activation, kernel_regularizer="l2")(nn.Dense(5, "relu")(x))
        h = nn.Concatenate()([nn.Dense(6, activation, kernel_regularizer="l2")(h), x])
        models.append(nn.Model(x, nn.Dense(3, "softmax")(h), seed=0))
        models[-1].compile(nn.SGD(0.1), "cross_entropy")
    start = models[0].get_weights()
    models[0].learning_rate = 1e30
    models[0].fit(X, y, epochs=4, verbose=0)
    assert not np.isfinite(models[0].get_weights()[0]).all()
    models[0].set_weights(start)
    models[0].learning_rate = 0.1
    again, fresh = (model.fit(X, y, epochs=3, verbose=0, shuffle=False) for model in models)
    assert again.history == fresh.history
    assert np.array_equal(models[0]._theta, models[1]._theta)
