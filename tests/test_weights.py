"""Weights of samples and of classes: against plain NumPy, and what they mean."""

from collections import Counter

import numpy as np
import pytest
from conftest import unchanged
from networks import close, twins

import numbanet as nn

RNG = np.random.default_rng(0)
X = RNG.standard_normal((23, 4))
Y = RNG.integers(0, 3, 23)
W = RNG.choice([0.0, 0.3, 1.0, 2.5], 23)


def network(loss="cross_entropy", outputs=3, dtype="float64", optimizer=None, metrics=("accuracy",)):
    activation = {"cross_entropy": "softmax", "mse": "linear", "binary_cross_entropy": "sigmoid", "hinge": "tanh"}[loss]
    model = nn.Sequential([nn.Input(4), nn.Dense(5, "tanh"), nn.Dense(outputs, activation)], seed=1, dtype=dtype)
    model.compile(optimizer or nn.SGD(0.5), loss, metrics)
    return model


def naive(weights, x, targets, sample_weight, batch_size, epochs, rate):
    """Plain SGD on softmax and cross entropy, a batch at a time: L = sum_i w_i L_i / rows."""
    w1, b1, w2, b2 = (array.copy() for array in weights)
    losses = []
    for _ in range(epochs):
        total = 0.0
        for k in range(0, len(x), batch_size):
            rows = slice(k, k + batch_size)
            h = np.tanh(x[rows] @ w1 + b1)
            z = h @ w2 + b2
            p = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
            w = sample_weight[rows]
            total += (w * -np.log((p * targets[rows]).sum(axis=1))).sum()
            dz = (p - targets[rows]) * w[:, None] / len(w)
            dh = dz @ w2.T * (1 - h**2)
            w2, b2 = w2 - rate * h.T @ dz, b2 - rate * dz.sum(axis=0)
            w1, b1 = w1 - rate * x[rows].T @ dh, b1 - rate * dh.sum(axis=0)
        losses.append(total / len(x))
    return [w1, b1, w2, b2], losses


def test_a_weighted_fit_is_that_of_plain_numpy():
    model = network()
    wanted, losses = naive(model.get_weights(), X, np.eye(3)[Y], W, 8, 3, 0.5)
    history = model.fit(X, Y, sample_weight=W, batch_size=8, epochs=3, shuffle=False, verbose=0)
    assert np.allclose(history.history["loss"], losses, rtol=1e-12)
    for found, array in zip(model.get_weights(), wanted, strict=True):
        assert np.allclose(found, array, rtol=1e-11, atol=1e-14)


def test_shuffled_weights_go_with_their_samples():
    a, b = network(), network()
    a.fit(X, Y, sample_weight=W, batch_size=8, epochs=2, verbose=0)
    from numbanet.training import shuffled

    for epoch in range(2):
        order = shuffled(23, 1, epoch)
        b.fit(X[order], Y[order], sample_weight=W[order], batch_size=8, shuffle=False, verbose=0)
    assert np.allclose(a._theta, b._theta, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("loss", ["cross_entropy", "mse"])
def test_weight_2_is_the_sample_twice(loss):
    """But for the number of rows that the sum is divided by: 20 rows with the weights scaled to 24 / 20."""
    x, targets = X[:20], Y[:20] if loss == "cross_entropy" else X[:20, :3]
    twice = np.r_[np.arange(20), 3, 5, 5, 7]
    weights = np.bincount(twice)
    a, b = network(loss), network(loss)
    for _ in range(3):
        logs = a.train_on_batch(x, targets, sample_weight=weights * 20 / 24)
        others = b.train_on_batch(x[twice], targets[twice])
        assert logs["loss"] == pytest.approx(others["loss"], rel=1e-12)
    assert np.allclose(a._theta, b._theta, rtol=1e-12, atol=1e-15)


def test_weight_0_is_absence():
    there = np.arange(23) % 4 != 1
    a, b = network(), network()
    for _ in range(3):
        a.train_on_batch(X, Y, sample_weight=there * 23 / there.sum())
        b.train_on_batch(X[there], Y[there])
    assert np.allclose(a._theta, b._theta, rtol=1e-12, atol=1e-15)


def test_evaluate_weighs_the_loss_and_not_the_metrics():
    model = network()
    p = model.predict(X)
    losses = -np.log(p[np.arange(23), Y])
    plain, weighted = model.evaluate(X, Y), model.evaluate(X, Y, sample_weight=W, batch_size=7)
    assert weighted["loss"] == pytest.approx((W * losses).sum() / 23, rel=1e-13)
    assert plain["loss"] == pytest.approx(losses.mean(), rel=1e-13)
    assert plain["accuracy"] == weighted["accuracy"]
    ones = model.evaluate(X, Y, sample_weight=np.ones(23))
    assert ones["loss"] == pytest.approx(plain["loss"], rel=1e-15)


def test_validation_weighs_too():
    """A split splits the weights; validation_data may bring its own; weights of classes are not for validation."""
    a, b = network(), network()
    first = a.fit(X, Y, sample_weight=W, class_weight={0: 3}, validation_split=0.3, verbose=0).history
    n = 23 - int(0.3 * 23)
    rest = (X[n:], Y[n:], W[n:])
    second = b.fit(X[:n], Y[:n], sample_weight=W[:n], class_weight={0: 3}, validation_data=rest, verbose=0).history
    assert first == second
    assert np.array_equal(a._theta, b._theta)
    assert first["val_loss"][0] == pytest.approx(a.evaluate(X[n:], Y[n:], sample_weight=W[n:])["loss"], rel=1e-14)
    assert first["val_loss"][0] != pytest.approx(a.evaluate(X[n:], Y[n:])["loss"], rel=1e-3)


BINARY = (Y > 0).astype(float)


@pytest.mark.parametrize(
    ("loss", "outputs", "targets"),
    [
        ("cross_entropy", 3, Y),
        ("cross_entropy", 3, np.eye(3)[Y]),
        ("mse", 3, np.eye(3)[Y]),
        ("binary_cross_entropy", 1, BINARY),
        ("binary_cross_entropy", 1, BINARY[:, None].astype(bool)),
        ("hinge", 1, BINARY),
        ("hinge", 1, 2 * BINARY - 1),
        ("hinge", 3, 2 * np.eye(3)[Y] - 1),
    ],
)
def test_weights_of_classes_are_weights_of_their_samples(loss, outputs, targets):
    classes = Y if outputs == 3 else (Y > 0).astype(int)
    counts = np.bincount(classes)
    for given, of_class in [({0: 2.0, 1: 0.5}, np.array([2.0, 0.5, 1.0])), ("balanced", 23 / (len(counts) * counts))]:
        models = [network(loss, outputs) for _ in range(3)]
        models[0].fit(X, targets, class_weight=given, epochs=2, verbose=0)
        models[1].fit(X, targets, sample_weight=of_class[classes], epochs=2, verbose=0)
        assert np.array_equal(models[0]._theta, models[1]._theta)
        models[2].train_on_batch(X, targets, class_weight=given, sample_weight=W)
        models[0].compile(nn.SGD(0.5), loss)
        models[0].set_weights(network(loss, outputs).get_weights())
        models[0].train_on_batch(X, targets, sample_weight=of_class[classes] * W)
        assert np.allclose(models[2]._theta, models[0]._theta, rtol=1e-13, atol=1e-16)


def test_balanced_knows_only_the_classes_that_there_are():
    """As in scikit-learn: n / (classes * count) over what is in the data."""
    y = np.array([0, 0, 0, 2])
    a, b = network(), network()
    a.train_on_batch(X[:4], y, class_weight="balanced")
    b.train_on_batch(X[:4], y, sample_weight=[4 / 6, 4 / 6, 4 / 6, 2.0])
    assert np.allclose(a._theta, b._theta, rtol=1e-14)


@pytest.mark.compiled
def test_balanced_lifts_the_recall_of_the_rare_class():
    """1 : 50, two blobs that overlap (2 apart, deviation 1): the mean over 5 seeds rises from 0.23 to 0.86; the best
    line between classes of one size has 0.84."""

    def recall(seed, class_weight):
        rng = np.random.default_rng(seed)

        def blobs(common, rare):
            y = np.r_[np.zeros(common, int), np.ones(rare, int)]
            return rng.normal(size=(len(y), 2)) + np.outer(y, [2.0, 0.0]), y

        x, y = blobs(2000, 40)
        model = nn.Sequential([nn.Input(2), nn.Dense(8, "tanh"), nn.Dense(1, "sigmoid")], seed=seed)
        model.compile(nn.Adam(0.01), "binary_cross_entropy")
        model.fit(x, y, epochs=20, class_weight=class_weight, verbose=0)
        x, y = blobs(100, 1000)
        return np.mean(model.predict(x)[y == 1] > 0.5)

    plain, balanced = (np.mean([recall(seed, given) for seed in range(5)]) for given in (None, "balanced"))
    assert plain < 0.35
    assert balanced > 0.8


def test_float32_and_integer_weights():
    a, b = network(dtype="float32"), network(dtype="float32")
    whole = (2 * W).astype(int)
    a.fit(X, Y, sample_weight=whole, verbose=0)
    b.fit(X, Y, sample_weight=list(map(float, whole)), verbose=0)
    assert np.array_equal(a._theta, b._theta)


def test_weights_that_are_not_given_cost_nothing():
    model = network()
    model.fit(X, Y, verbose=0)
    model.fit(X, Y, sample_weight=W, verbose=0)
    plain, weighted = ([op.name for op in program.plan.ops] for program in model._programs.values())
    assert Counter(weighted) - Counter(plain) == Counter(["gather_rows", "weigh"])
    assert not Counter(plain) - Counter(weighted)


def test_a_weighted_fit_on_the_gpu():
    models = twins(network, "cross_entropy", 3, "float64", nn.Adam(0.05))
    histories = [
        model.fit(X[:11], Y[:11], sample_weight=W[:11], class_weight={1: 2}, batch_size=4, validation_split=0.2,
            epochs=2, verbose=0).history for model in models
    ]  # fmt: skip
    for name, values in histories[0].items():
        assert np.allclose(values, histories[1][name], rtol=1e-12)
    assert close(models[1]._theta, models[0]._theta, "float64")
    assert models[1].evaluate(X, Y, sample_weight=W) == pytest.approx(models[0].evaluate(X, Y, sample_weight=W))


BAD = [
    ({"sample_weight": W[:5]}, ValueError, "X has 23 samples and sample_weight has 5"),
    ({"sample_weight": np.ones((23, 2))}, ValueError, r"sample_weight has shape \(23, 2\), expected \(23,\)"),
    ({"sample_weight": -W}, ValueError, "sample_weight holds -2.5, expected weights of at least 0"),
    ({"sample_weight": W * np.nan}, ValueError, "sample_weight holds nan"),
    ({"sample_weight": 0 * W}, ValueError, "sample_weight leaves all samples with a weight of 0"),
    ({"sample_weight": ["a"] * 23}, TypeError, "sample_weight must hold real numbers"),
    ({"class_weight": "fair"}, ValueError, "class_weight must be a dict or 'balanced', not 'fair'"),
    ({"class_weight": [1, 2, 3]}, TypeError, "class_weight must be a dict of class numbers"),
    ({"class_weight": {3: 1.0}}, ValueError, "a class of class_weight must be at most 2, not 3"),
    ({"class_weight": {"a": 1.0}}, TypeError, "a class of class_weight must be a whole number, not 'a'"),
    ({"class_weight": {0: -1}}, ValueError, r"class_weight\[0\] must be at least 0, not -1"),
    ({"class_weight": {0: 0, 1: 0, 2: 0}}, ValueError, "class_weight leaves all samples with a weight of 0"),
]


@pytest.mark.parametrize("method", ["fit", "train_on_batch"])
@pytest.mark.parametrize(("given", "kind", "sentence"), BAD)
def test_bad_weights(same, method, given, kind, sentence):
    model = network()
    before = unchanged(model)
    with pytest.raises(kind, match=sentence):
        getattr(model, method)(X, Y, **given)
    same(before, unchanged(model))


def test_weights_beyond_float32(same):
    model = network(dtype="float32")
    before = unchanged(model)
    for given in ({"class_weight": {0: 1e300}}, {"class_weight": {0: 1e30}, "sample_weight": 1e30 * W}):
        with pytest.raises(ValueError, match="class_weight gives a sample a weight beyond float32"):
            model.fit(X, Y, verbose=0, **given)
    same(before, unchanged(model))


@pytest.mark.parametrize(
    ("loss", "targets", "sentence"),
    [
        ("mse", X[:, :3], "class_weight needs classes as targets: y must hold integer labels or one-hot rows"),
        ("binary_cross_entropy", np.ones((23, 3)), "class_weight needs classes"),
    ],
)
def test_classes_need_labels(loss, targets, sentence):
    with pytest.raises(ValueError, match=sentence):
        network(loss).fit(X, targets, class_weight="balanced")
    model = network("mse", 1)
    with pytest.raises(ValueError, match="y must hold 0 or 1"):
        model.fit(X, X[:, 0], class_weight={0: 2})
