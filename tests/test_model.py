"""Whole networks: the worked example, XOR, any DAG, evaluation, history, weights, interruption."""

import signal
import threading

import numpy as np
import pytest

import numbanet as nn
from numbanet.gradients import gradients
from numbanet.kernels import jit

XOR = np.array([[0, 0], [0, 1], [1, 0], [1, 1]]), np.array([0, 1, 1, 0])


def worked_example():
    """2-2-2 with logistic units (the well-known worked example of backpropagation)."""
    hidden, output = nn.Dense(2, "sigmoid"), nn.Dense(2, "sigmoid")
    model = nn.Sequential([nn.Input(2), hidden, output], dtype="float64")
    model.set_weights([[[0.15, 0.25], [0.20, 0.30]], [0.35, 0.35], [[0.40, 0.50], [0.45, 0.55]], [0.60, 0.60]])
    model.compile(nn.SGD(0.5), "half_squared_error")
    return model, np.array([[0.05, 0.10]]), np.array([[0.01, 0.99]])


def test_worked_example():
    model, X, y = worked_example()
    assert np.round(model.predict(X), 9).tolist() == [[0.75136507, 0.772928465]]
    assert round(model.evaluate(X, y)["loss"], 9) == 0.298371109
    derivatives = gradients(model, model._data(X, y))
    assert round(derivatives["dense_2.kernel"][0, 0], 9) == 0.082167041  # w5, from h1 to o1
    assert round(derivatives["dense_1.kernel"][0, 0], 9) == 0.000438568  # w1, from i1 to h1
    logs = model.train_on_batch(X, y)
    assert round(logs["loss"], 9) == 0.298371109
    w1, b1, w5, b5 = model.get_weights()
    assert round(w5[0, 0], 9) == 0.35891648
    assert round(w1[0, 0], 9) == round(0.15 - 0.5 * 0.000438568, 9)
    assert model.evaluate(X, y)["loss"] < 0.298371109
    assert b1.shape == b5.shape == (2,)


@pytest.mark.compiled
@pytest.mark.parametrize("activation", ["sigmoid", "tanh"])
def test_xor_is_learned_from_every_seed(activation):
    """Recipe: 2-4-1, weights normal with deviation 1, Adam at 0.05, full batch, 1000 epochs, binary cross-entropy."""
    initializer = nn.RandomNormal(stddev=1.0)
    for seed in range(20):
        hidden = nn.Dense(4, activation, kernel_initializer=initializer)
        output = nn.Dense(1, "sigmoid", kernel_initializer=initializer)
        model = nn.Sequential([nn.Input(2), hidden, output], seed=seed)
        model.compile(nn.Adam(0.05), "binary_cross_entropy", ["accuracy"])
        model.fit(*XOR, batch_size=4, epochs=1000, verbose=0)
        assert model.evaluate(*XOR)["accuracy"] == 1.0, f"seed {seed}"


@pytest.mark.compiled
def test_xor_needs_a_hidden_layer():
    """No line separates XOR (Minsky & Papert, 1969): three of four points at best."""
    for seed in range(20):
        model = nn.Sequential([nn.Input(2), nn.Dense(1, "sigmoid")], seed=seed)
        model.compile(nn.Adam(0.05), "binary_cross_entropy", ["accuracy"])
        model.fit(*XOR, batch_size=4, epochs=1000, verbose=0)
        assert model.evaluate(*XOR)["accuracy"] <= 0.75


def dag(seed=0, dtype="float32"):
    """Two inputs, a skip connection, a shared layer, Add and Concatenate."""
    a, b = nn.Input(4, name="a"), nn.Input((2, 2), name="b")
    shared = nn.Dense(6, "tanh")
    h, g = shared(a), shared(nn.Flatten()(b))
    skip = nn.Add()([h, nn.Dense(6, "sigmoid")(h), g])
    joined = nn.Concatenate()([skip, a, nn.Activation("tanh")(nn.Dense(3)(g))])
    return nn.Model([a, b], nn.Dense(3, "softmax")(joined), seed=seed, dtype=dtype)


def test_a_dag_computes_what_numpy_does():
    model = dag(dtype="float64")
    rng = np.random.default_rng(0)
    a, b = rng.random((7, 4)), rng.random((7, 2, 2))
    shared, shared_bias, gate, gate_bias, extra, extra_bias, last, last_bias = model.get_weights()
    h, g = np.tanh(a @ shared + shared_bias), np.tanh(b.reshape(7, 4) @ shared + shared_bias)
    skip = h + 1 / (1 + np.exp(-(h @ gate + gate_bias))) + g
    z = np.concatenate([skip, a, np.tanh(g @ extra + extra_bias)], axis=1) @ last + last_bias
    wanted = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
    assert np.allclose(model.predict([a, b]), wanted, rtol=1e-13)
    assert np.array_equal(model.predict({"b": b, "a": a}), model.predict([a, b]))


def test_history_and_validation(blobs):
    X, y = blobs
    model = nn.Sequential([nn.Input(2), nn.Dense(8, "tanh"), nn.Dense(3, "softmax")], seed=0)
    model.compile("adam", "cross_entropy", ["accuracy"])
    history = model.fit(X, y, epochs=4, verbose=0, validation_split=0.25)
    assert history.epoch == [0, 1, 2, 3]
    assert set(history.history) == {"loss", "accuracy", "val_loss", "val_accuracy"}
    assert all(len(values) == 4 for values in history.history.values())
    figures = model.evaluate(X[90:], y[90:])  # the end is held out
    assert history.history["val_loss"][-1] == figures["loss"]
    assert history.history["val_accuracy"][-1] == figures["accuracy"]
    again = nn.Sequential([nn.Input(2), nn.Dense(8, "tanh"), nn.Dense(3, "softmax")], seed=0)
    again.compile("adam", "cross_entropy", ["accuracy"])
    other = again.fit(X[:90], y[:90], epochs=4, verbose=0, validation_data=(X[90:], y[90:]))
    assert other.history == history.history


def test_loss_of_an_epoch_counts_each_sample_once(blobs):
    """With a rate of almost nothing the epoch's mean equals evaluate's, though the last batch is short."""
    X, y = blobs
    model = nn.Sequential([nn.Input(2), nn.Dense(3, "softmax")], seed=0, dtype="float64")
    model.compile(nn.SGD(1e-15), "cross_entropy", ["accuracy", "mae"])
    for batch_size in (1, 7, 32, 120, 1000):
        logs = model.fit(X, y, batch_size=batch_size, verbose=0).history
        for name, value in model.evaluate(X, y).items():
            assert logs[name][0] == pytest.approx(value, rel=1e-12)


def test_one_hot_and_labels_agree(blobs):
    X, y = blobs
    results = []
    for targets in (y, y[:, None], y.astype(float), np.eye(3)[y], y.tolist()):
        model = nn.Sequential([nn.Input(2), nn.Dense(8, "tanh"), nn.Dense(3, "softmax")], seed=0)
        model.compile("adam", "cross_entropy")
        model.fit(X, targets, epochs=2, verbose=0)
        results.append(model.predict(X))
    assert all(np.array_equal(results[0], result) for result in results)


def test_shuffle_off_keeps_the_order():
    """One sample a batch, in order: SGD on the identity is a recurrence that can be followed by hand."""
    X, y = np.ones((5, 1)), np.arange(5.0)
    model = nn.Sequential([nn.Input(1), nn.Dense(1, use_bias=False, kernel_initializer="zeros")], dtype="float64")
    model.compile(nn.SGD(0.25), "half_squared_error")
    model.fit(X, y, batch_size=1, shuffle=False, verbose=0)
    w = 0.0
    for target in y:
        w -= 0.25 * (w - target)
    assert model.get_weights()[0][0, 0] == pytest.approx(w, rel=1e-15)


def test_weights_are_copies_in_keras_order():
    model = nn.Sequential([nn.Input(3), nn.Dense(17), nn.Dense(2, use_bias=False)], seed=0)
    weights = model.get_weights()
    assert [array.shape for array in weights] == [(3, 17), (17,), (17, 2)]
    weights[0][:] = 7
    assert not np.any(model.get_weights()[0] == 7)
    model.set_weights(weights)
    assert np.all(model.get_weights()[0] == 7)


def test_compile_keeps_weights_and_starts_the_optimiser_anew(blobs):
    X, y = blobs
    model = nn.Sequential([nn.Input(2), nn.Dense(3, "softmax")], seed=0)
    model.compile("adam", "cross_entropy")
    model.fit(X, y, verbose=0)
    before = model.get_weights()
    model.compile(nn.SGD(0.1, 0.9), "cross_entropy")
    assert all(np.array_equal(a, b) for a, b in zip(before, model.get_weights(), strict=True))
    assert model.updates == 0


@pytest.mark.compiled
def test_fits_a_sine_by_regression():
    X = np.linspace(-3, 3, 200)[:, None]
    model = nn.Sequential([nn.Input(1), nn.Dense(32, "tanh"), nn.Dense(1)], seed=0)
    model.compile(nn.Adam(0.01), "mse", ["mae"])
    model.fit(X, np.sin(X), epochs=300, verbose=0)
    assert model.evaluate(X, np.sin(X))["mae"] < 0.02


def test_a_new_architecture_compiles_nothing(blobs):
    """Only kernels are compiled, never networks. Numba's own events are the witness."""
    from numba.core import event

    X, y = blobs

    def train(layers):
        model = nn.Sequential([nn.Input(2), *layers, nn.Dense(3, "softmax")], seed=0)
        model.compile("adam", "cross_entropy", ["accuracy"])
        model.fit(X, y, epochs=2, verbose=0)
        model.predict(X)

    train([nn.Dense(8, "tanh"), nn.Dense(5, "relu")])
    before = jit.compilations()
    with event.install_recorder("numba:compile") as recorder:
        train([])
        train([nn.Dense(33, "relu")])
        train([nn.Dense(7, "tanh"), nn.Dense(6, "relu"), nn.Dense(11, "tanh"), nn.Dense(1, "relu", use_bias=False)])
    assert jit.compilations() == before
    assert not recorder.buffer


@pytest.mark.compiled
def test_ctrl_c_returns_the_history_and_a_usable_model(interruptible, digits):
    X, y = digits
    model = nn.Sequential([nn.Input(64), nn.Dense(64, "relu"), nn.Dense(10, "softmax")], seed=0)
    model.compile("adam", "cross_entropy")
    model.fit(X, y, epochs=1, verbose=0)
    timer = threading.Timer(0.3, signal.raise_signal, [signal.SIGINT])
    timer.start()
    history = model.fit(X, y, epochs=1_000_000, verbose=0)
    timer.join()
    assert 0 < len(history.epoch) < 1_000_000
    assert len(history.history["loss"]) == len(history.epoch)
    updates = model.updates
    assert updates >= 10 * (1 + len(history.epoch))
    assert np.isfinite(model.predict(X)).all()
    model.fit(X, y, epochs=1, verbose=0)
    assert model.updates == updates + 10


@pytest.mark.parametrize("verbose", [0, 1, 2])
def test_progress(blobs, capsys, verbose):
    X, y = blobs
    model = nn.Sequential([nn.Input(2), nn.Dense(3, "softmax")], seed=0)
    model.compile("adam", "cross_entropy", ["accuracy"])
    model.fit(X, y, epochs=3, verbose=verbose, validation_split=0.5)
    shown = capsys.readouterr()
    if verbose == 0:
        assert shown.out == shown.err == ""
    elif verbose == 1:
        assert shown.out == ""
        for word in ("epoch 3/3", "loss=", "accuracy=", "val_loss=", "100%"):
            assert word in shown.err
    else:
        assert [line.split()[:2] for line in shown.out.splitlines()] == [["epoch", f"{k}/3"] for k in (1, 2, 3)]


def test_summary_is_a_table(capsys):
    model = dag()
    model.summary()
    text = capsys.readouterr().out
    assert text == repr(model) + "\n"
    for word in (
        "a (Input)",
        "(n, 2, 2)",
        "dense_1 (Dense, tanh)",
        f"{model.graph.count:,} parameters",
        "not compiled",
    ):
        assert word in text
    model.compile("adam", "cross_entropy", ["accuracy"])
    assert "Adam(learning_rate=0.001" in repr(model)
    plan = str(model.plan("train"))
    for word in (", once, ", "phase 1, rows", "phase 2, dense_1.kernel", "softmax_cross_entropy", "adam_update"):
        assert word in plan


def test_inputs_may_have_any_name(blobs):
    """Names of a plan's own arrays are no names of inputs."""
    X, y = blobs
    models = []
    for name in ("order", "targets", "scores", "coefficients", "predictions", "samples of order", None):
        model = nn.Sequential([nn.Input(2, name=name), nn.Dense(3, "softmax")], seed=0)
        model.compile("adam", "cross_entropy", ["accuracy"])
        model.fit(X, y, epochs=2, verbose=0)
        models.append(model)
    assert all(np.array_equal(models[0].predict(X), model.predict(X)) for model in models)


def test_threads_may_train_a_model_in_turn(digits):
    """Each update has the coefficients of its number, however threads take turns: as if one had done all."""
    X, y = digits[0][:40], digits[1][:40]
    models = [nn.Sequential([nn.Input(64), nn.Dense(10, "softmax")], seed=0) for _ in range(2)]
    for model in models:
        model.compile(nn.SGD(nn.StepDecay(0.1, 20), gradient_accumulation_steps=3), "cross_entropy")

    def train(model):
        for _ in range(200):
            model.train_on_batch(X, y)

    threads = [threading.Thread(target=train, args=[models[0]]) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    train(models[1])
    train(models[1])
    assert models[0].updates == 400
    assert np.array_equal(models[0]._theta, models[1]._theta)


@pytest.mark.compiled
def test_threads_may_share_a_model(digits):
    """Predictions from several Python threads on one model, of different sizes, while another model trains."""
    X, y = digits
    shared, other = (nn.Sequential([nn.Input(64), nn.Dense(32, "tanh"), nn.Dense(10)], seed=k) for k in range(2))
    other.compile("adam", "mse")
    wanted, wrong = shared.predict(X), []

    def predict(count):
        for _ in range(100):
            if not np.array_equal(shared.predict(X[:count]), wanted[:count]):
                wrong.append(count)

    threads = [threading.Thread(target=predict, args=[count]) for count in (1, 7, 100, 300)]
    threads.append(threading.Thread(target=lambda: other.fit(X, np.eye(10)[y], epochs=20, verbose=0)))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
