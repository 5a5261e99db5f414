"""L-BFGS: SciPy's minimum of the objective that a naive NumPy net has, an epoch an iteration, and what stops it."""

import sys
import warnings

import numpy as np
import pytest
from conftest import unchanged

import numbanet as nn
from numbanet import lbfgs

optimize = pytest.importorskip("scipy.optimize")


def curve(samples=60, seed=0):
    """A bent valley: y = x1 + (x2 - x1**2)**2 / 2, in [-1, 1]**2."""
    X = np.random.default_rng(seed).uniform(-1, 1, (samples, 2))
    return X, (X[:, :1] + 0.5 * (X[:, 1:] - X[:, :1] ** 2) ** 2)


def network(optimizer, dtype="float64", regularizer=None, metrics=()):
    hidden = nn.Dense(6, "tanh", kernel_regularizer=regularizer)
    model = nn.Sequential([nn.Input(2), hidden, nn.Dense(1)], seed=2, dtype=dtype)
    model.compile(optimizer, "mse", metrics)
    return model


def objective(vector, X, y, l2=0.0):
    """Loss and gradient of that network in NumPy."""
    A, a, B, b = np.split(vector, [12, 18, 24])
    A, B = A.reshape(2, 6), B.reshape(6, 1)
    h = np.tanh(X @ A + a)
    error = h @ B + b - y
    d = 2 * error / error.size
    dh = (d @ B.T) * (1 - h**2)
    slopes = X.T @ dh + 2 * l2 * A, dh.sum(axis=0), h.T @ d, d.sum(axis=0)
    return (error**2).mean() + l2 * (A**2).sum(), np.concatenate([slope.ravel() for slope in slopes])


def flat(model):
    return np.concatenate([array.ravel() for array in model.get_weights()])


@pytest.mark.parametrize("l2", [0.0, 0.003])
def test_the_same_as_scipy_on_the_same_objective(l2):
    """15 iterations, weights to 1e-9: rounding is all that differs, and grows with the iterations."""
    X, y = curve()
    settings = {"maxcor": 5, "ftol": 1e-12, "gtol": 1e-7, "maxls": 20}
    model = network(nn.LBFGS(history=5, ftol=1e-12, gtol=1e-7), regularizer=nn.L2(l2) if l2 else None)
    losses = []
    wanted = optimize.minimize(
        *(objective, flat(model)),
        args=(X, y, l2),
        jac=True,
        method="L-BFGS-B",
        callback=lambda x: losses.append(objective(x, X, y, l2)[0]),
        options=settings | {"maxiter": 15},
    )
    history = model.fit(X, y, epochs=15, verbose=0)
    assert history.epoch == list(range(15))
    assert np.allclose(history.history["loss"], losses, rtol=1e-9)
    assert np.abs(flat(model) - wanted.x).max() <= 1e-9 * np.abs(wanted.x).max()
    assert (model.epochs, model.updates) == (15, 15)
    assert model.evaluate(X, y)["loss"] == pytest.approx(history.history["loss"][-1], rel=1e-12)


@pytest.mark.compiled
def test_far_below_sgd_in_as_many_epochs():
    """After 150 epochs 0.0006; SGD at its best rate, 0.3, is at 0.025, and at twice that swings about."""
    X, y = curve()
    found = network(nn.LBFGS(ftol=0.0, gtol=0.0)).fit(X, y, epochs=150, verbose=0).history["loss"][-1]
    rates = (0.1, 0.2, 0.3, 0.6)
    others = [network(nn.SGD(rate)).fit(X, y, epochs=150, batch_size=60, verbose=0) for rate in rates]
    best = min(history.history["loss"][-1] for history in others)
    assert found < best / 30


def test_ends_where_it_has_converged():
    """Linear regression has one minimum, the least squares; a second fit has nothing left to do."""
    rng = np.random.default_rng(1)
    X, y = rng.standard_normal((30, 4)), rng.standard_normal((30, 1))
    model = nn.Sequential([nn.Input(4), nn.Dense(1, use_bias=False)], seed=0, dtype="float64")
    model.compile(nn.LBFGS(ftol=0.0, gtol=1e-7), "mse", ["mae"])
    history = model.fit(X, y, epochs=100, verbose=0, validation_data=(X[:5], y[:5]))
    assert 2 <= len(history.epoch) < 20
    assert np.allclose(model.get_weights()[0], np.linalg.lstsq(X, y, rcond=None)[0], rtol=1e-5)
    assert set(history.history) == {"loss", "mae", "val_loss", "val_mae"}
    assert history.history["val_mae"][-1] == pytest.approx(np.abs(X[:5] @ model.get_weights()[0] - y[:5]).mean())
    assert history.history["mae"][-1] == pytest.approx(np.abs(X @ model.get_weights()[0] - y).mean())
    assert model.fit(X, y, epochs=100, verbose=0).history == {}
    assert model.fit(X, y, epochs=0, verbose=0).history == {}


@pytest.mark.parametrize("rows", [7, 25, 60])
def test_chunks_are_summed(monkeypatch, rows):
    """60 samples in chunks: the objective of one, to rounding; the workspace is that of a chunk."""
    X, y = curve()
    whole, parts = network(nn.LBFGS(), regularizer="l1_l2"), network(nn.LBFGS(), regularizer="l1_l2")
    first = whole.fit(X, y, epochs=4, verbose=0)
    monkeypatch.setattr(lbfgs, "ROWS", rows)
    second = parts.fit(X, y, epochs=4, verbose=0)
    assert np.allclose(first.history["loss"], second.history["loss"], rtol=1e-10)
    assert np.allclose(flat(whole), flat(parts), rtol=1e-8)
    assert [program.plan.batch_size for key, program in parts._programs.items() if key[0] == "gradient"] == [rows]


def test_labels_metrics_and_the_gpu():
    """A classifier in float32, on the CPU and with the GPU's kernels."""
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((10, 3)).astype(np.float32), np.arange(10) % 2
    models = [nn.Sequential([nn.Input(3), nn.Dense(2, "softmax")], seed=0) for _ in range(2)]
    histories = []
    for model, device in zip(models, ("cpu", "cuda"), strict=True):
        model.compile("lbfgs", "cross_entropy", ["accuracy"])
        histories.append(model.to(device).fit(X, y, epochs=3, verbose=0).history)
    assert np.allclose(histories[0]["loss"], histories[1]["loss"], rtol=1e-4)
    assert histories[0]["loss"][-1] < histories[0]["loss"][0]
    assert np.abs(flat(models[0]) - flat(models[1])).max() < 1e-3
    assert not models[0]._theta[models[0].graph.size :].size  # no slots


def test_frozen_layers_stay_and_count():
    X, y = curve()
    model = network(nn.LBFGS(), regularizer=nn.L2(0.5))
    model.layers[1].trainable = False
    before = model.get_weights()
    history = model.fit(X, y, epochs=5, verbose=0)
    after = model.get_weights()
    assert all(np.array_equal(a, b) for a, b in zip(before[:2], after[:2], strict=True))
    assert not np.array_equal(before[2], after[2])
    assert history.history["loss"][-1] == pytest.approx(model.evaluate(X, y)["loss"], rel=1e-12)
    model.layers[2].trainable = False
    with pytest.raises(ValueError, match="the model has no parameters to train"):
        model.fit(X, y, verbose=0)


@pytest.mark.parametrize("problem", [KeyboardInterrupt, RuntimeError])
def test_an_interrupt_leaves_the_last_iteration(monkeypatch, problem):
    """In the middle of a line search the model is at a trial point; afterwards it is not."""
    X, y = curve()
    model, straight = network(nn.LBFGS()), network(nn.LBFGS())
    calls, call = [], lbfgs._Objective.__call__

    def failing(self, weights):
        result = call(self, weights)
        calls.append(1)
        if len(calls) == 8:
            raise problem
        return result

    with monkeypatch.context() as patch:
        patch.setattr(lbfgs._Objective, "__call__", failing)
        if problem is KeyboardInterrupt:
            done = len(model.fit(X, y, epochs=20, verbose=0).epoch)
        else:
            with pytest.raises(RuntimeError):
                model.fit(X, y, epochs=20, verbose=0)
            done = model.epochs
    assert 2 <= done < 8
    straight.fit(X, y, epochs=done, verbose=0)
    assert np.array_equal(model._theta, straight._theta)
    assert model.updates == model.epochs == done


@pytest.mark.parametrize("change", [lambda model: model.to("cuda"), lambda model: model.compile("adam", "mse")])
def test_a_model_that_changes_while_it_trains(change):
    """Moved by a callback, say: weights are not written where they lay before."""
    X, y = curve()
    model, seen = network(nn.LBFGS()), []

    def on_epoch(epoch, logs):
        change(model)
        seen.append(model._theta.copy())

    with pytest.raises(RuntimeError, match="was compiled, moved or changed in training"):
        lbfgs.minimise(model, model._data(X, y), 5, on_epoch)
    assert len(seen) == 1
    assert np.array_equal(model._theta, seen[0])


def test_weights_that_models_share():
    """A model that calls another trains its weights too, and leaves its optimiser's state alone."""
    X, y = curve()
    inner = network(nn.Adam(0.01))
    inner.fit(X, y, epochs=2, verbose=0)
    x = nn.Input(2)
    outer = nn.Model(x, nn.Dense(1)(inner(x)), seed=1, dtype="float64")
    outer.compile("lbfgs", "mse")
    before, slots = inner.get_weights(), inner._theta[outer.graph.size :].copy()
    history = outer.fit(X, y, epochs=5, verbose=0)
    assert history.history["loss"][-1] == pytest.approx(outer.evaluate(X, y)["loss"], rel=1e-12)
    assert not any(np.array_equal(a, b) for a, b in zip(before, inner.get_weights(), strict=True))
    assert slots.any()
    assert np.array_equal(inner._theta[outer.graph.size :], slots)
    history = inner.fit(X, y, epochs=1, verbose=0)
    assert np.isfinite(history.history["loss"]).all()


def test_a_true_answer_ends_it():
    X, y = curve()
    model, seen = network(nn.LBFGS()), []
    lbfgs.minimise(model, model._data(X, y), 20, lambda means, steady: seen.append(means[0]) or len(seen) == 3)
    assert len(seen) == 3
    assert model.evaluate(X, y)["loss"] == pytest.approx(seen[-1], rel=1e-12)


def test_a_loss_that_overflows_does_no_harm():
    """Steps beyond float32 give a loss that is no number: the line search goes back, or ends."""
    X = np.array([[1e18], [-1e18]], np.float32)
    model = nn.Sequential([nn.Input(1), nn.Dense(1, kernel_initializer=nn.Constant(1.0))], seed=0)
    model.compile("lbfgs", "mse")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # SciPy's own arithmetic with infinity
        model.fit(X, X[:, :1] * 0, epochs=5, verbose=0)
    assert all(np.isfinite(array).all() for array in model.get_weights())


def test_saved_and_loaded(tmp_path):
    X, y = curve()
    model = network(nn.LBFGS(history=7, gtol=1e-6))
    model.fit(X, y, epochs=3, verbose=0)
    model.save(tmp_path / "model")
    loaded = nn.load(tmp_path / "model")
    assert loaded.optimizer == nn.LBFGS(history=7, gtol=1e-6)
    assert repr(loaded.optimizer) == "LBFGS(history=7, ftol=2.220446049250313e-09, gtol=1e-06, maxls=20)"
    assert (loaded.epochs, loaded.updates) == (3, 3)
    for each in (model, loaded):
        each.fit(X, y, epochs=3, verbose=0)
    assert np.array_equal(model._theta, loaded._theta)


def test_one_batch_is_refused(same):
    X, y = curve()
    model = network("lbfgs")
    before = unchanged(model)
    for call in (lambda: model.train_on_batch(X, y), lambda: model.plan("train")):
        with pytest.raises(ValueError, match="LBFGS has no update of a single batch: call fit"):
            call()
    same(before, unchanged(model))


@pytest.mark.parametrize("verbose", [1, 2])
def test_shows_its_progress(verbose, capsys):
    model = network("lbfgs")
    model.fit(*curve(), epochs=2, verbose=verbose)
    shown = capsys.readouterr()
    assert "epoch 2/2" in (shown.err if verbose == 1 else shown.out)


def test_without_scipy(monkeypatch, same):
    """A sentence that names the extra; nothing else needs SciPy."""
    model = network("lbfgs")
    before = unchanged(model)
    monkeypatch.setitem(sys.modules, "scipy.optimize", None)
    with pytest.raises(ImportError, match=r"LBFGS needs SciPy: pip install 'numbanet\[lbfgs\]'"):
        model.fit(*curve(), verbose=0)
    same(before, unchanged(model))


@pytest.mark.parametrize(
    ("build", "sentence"),
    [
        (lambda: nn.LBFGS(history=0), "history must be at least 1, not 0"),
        (lambda: nn.LBFGS(ftol=-1), "ftol must be at least 0, not -1"),
        (lambda: nn.LBFGS(gtol=np.inf), "gtol must be at least 0, not inf"),
        (lambda: nn.LBFGS(maxls=0), "maxls must be at least 1, not 0"),
        (lambda: nn.LBFGS(clipnorm=1.0), "LBFGS takes gradients as they are, of all samples: expected no clipnorm"),
        (lambda: nn.LBFGS(gradient_accumulation_steps=2), "expected no gradient_accumulation_steps"),
    ],
)
def test_bad_settings(build, sentence):
    with pytest.raises(ValueError, match=sentence):
        build()
