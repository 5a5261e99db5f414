"""Clipping, regularisers and gathered gradients in whole networks, against a training loop in NumPy."""

import os
import subprocess
import sys

import numpy as np
import pytest
from networks import close

import numbanet as nn
from numbanet.pace import Pace

REGULARIZERS = {"l1": nn.L1(0.02), "l2": nn.L2(0.03), "l1_l2": nn.L1L2(0.01, 0.04)}


def network(optimizer, kernel=None, bias=None, dtype="float64", units=(7, 3)):
    """A two-layer net with tanh, regularised in its first kernel and its last bias."""
    hidden = nn.Dense(units[0], "tanh", kernel_regularizer=kernel, bias_initializer=nn.Constant(0.1))
    output = nn.Dense(units[1], bias_regularizer=bias, bias_initializer=nn.Constant(-0.2))
    model = nn.Sequential([nn.Input(4), hidden, output], seed=5, dtype=dtype)
    model.compile(optimizer, "mse")
    return model


def data(samples=40, outputs=3):
    rng = np.random.default_rng(3)
    return rng.standard_normal((samples, 4)), rng.standard_normal((samples, outputs))


def gradients(weights, X, y, kernel=None, bias=None):
    """Loss, penalties included, and its derivatives by the four arrays."""
    A, a, B, b = weights
    h = np.tanh(X @ A + a)
    error = h @ B + b - y
    d = 2 * error / error.size
    dh = (d @ B.T) * (1 - h**2)
    found, loss = [X.T @ dh, dh.sum(axis=0), h.T @ d, d.sum(axis=0)], (error**2).mean()
    for k, regularizer in ((0, kernel), (3, bias)):
        if regularizer:
            w = weights[k]
            loss += regularizer.l1 * np.abs(w).sum() + regularizer.l2 * (w**2).sum()
            found[k] = found[k] + regularizer.l1 * np.sign(w) + 2 * regularizer.l2 * w
    return loss, found


def clipped(found, clipnorm=None, global_clipnorm=None, clipvalue=None):
    """Gradients as Keras clips them."""
    if clipvalue is not None:
        return [np.minimum(np.maximum(g, -clipvalue), clipvalue) for g in found]
    norms = [np.sqrt((g**2).sum()) for g in found]
    if global_clipnorm is not None:
        norms = [np.sqrt(sum(norm**2 for norm in norms))] * len(found)
    limit = clipnorm or global_clipnorm or np.inf
    return [g * min(1.0, limit / norm) for g, norm in zip(found, norms, strict=True)]


def trained(weights, X, y, rate, momentum, period=1, kernel=None, bias=None, **clip):
    """Weights and losses of steps of SGD with momentum, written down naively."""
    weights, losses = [w.copy() for w in weights], []
    velocities, gathered = [0 * w for w in weights], [0 * w for w in weights]
    for t, (rows, targets) in enumerate(zip(X, y, strict=True), start=1):
        loss, found = gradients(weights, rows, targets, kernel, bias)
        losses.append(loss)
        gathered = [total + g for total, g in zip(gathered, found, strict=True)]
        if t % period:
            continue
        means = clipped([total / period for total in gathered], **clip)
        velocities = [momentum * v - rate * g for v, g in zip(velocities, means, strict=True)]
        weights = [w + v for w, v in zip(weights, velocities, strict=True)]
        gathered = [0 * w for w in weights]
    return weights, losses


KINDS = {
    "nothing": {},
    "clipvalue": {"clipvalue": 0.05},
    "clipnorm": {"clipnorm": 0.1},
    "global_clipnorm": {"global_clipnorm": 0.15},
}


@pytest.mark.parametrize("period", [1, 2])
@pytest.mark.parametrize("regularizer", [None, *REGULARIZERS])
@pytest.mark.parametrize("clip", KINDS)
def test_ten_steps_are_those_of_a_loop_in_numpy(clip, regularizer, period):
    """Each way of clipping with each regulariser, gradients gathered or not; a short last batch; to 1e-12."""
    X, y = data(78)
    given = {"kernel": REGULARIZERS.get(regularizer), "bias": REGULARIZERS.get(regularizer)}
    optimizer = nn.SGD(0.1, 0.9, gradient_accumulation_steps=period if period > 1 else None, **KINDS[clip])
    model = network(optimizer, **given)
    parts = [slice(8 * t, 8 * t + 8) for t in range(10)]
    batches = [X[part] for part in parts], [y[part] for part in parts]
    weights, losses = trained(model.get_weights(), *batches, 0.1, 0.9, period, **given, **KINDS[clip])
    free, _ = trained(model.get_weights(), *batches, 0.1, 0.9, period, **given)
    history = model.fit(X, y, batch_size=8, shuffle=False, verbose=0)
    for found, wanted, unclipped in zip(model.get_weights(), weights, free, strict=True):
        assert np.allclose(found, wanted, rtol=1e-12, atol=1e-14)
        assert clip == "nothing" or not np.allclose(found, unclipped, rtol=1e-3)  # the limit is met
    # Keras' loss of an epoch: the mean over batches, by their samples, of the data's loss and the penalty at that time.
    wanted = np.average(losses, weights=[len(rows) for rows in batches[0]])
    assert history.history["loss"][0] == pytest.approx(wanted, rel=1e-12)
    assert model.evaluate(X, y)["loss"] == pytest.approx(gradients(model.get_weights(), X, y, **given)[0], rel=1e-12)


@pytest.mark.parametrize("optimizer", [nn.SGD, nn.Adam, nn.RMSprop, nn.Adagrad])
def test_four_batches_of_8_are_one_of_32(optimizer):
    X, y = data(128)
    small, large = network(optimizer(0.05, gradient_accumulation_steps=4)), network(optimizer(0.05))
    losses = [
        model.fit(X, y, batch_size=size, epochs=3, shuffle=False, verbose=0).history["loss"]
        for model, size in ((small, 8), (large, 32))
    ]
    assert np.allclose(losses[0], losses[1], rtol=1e-12)
    for a, b in zip(small.get_weights(), large.get_weights(), strict=True):
        assert np.allclose(a, b, rtol=1e-11, atol=1e-13)
    assert (small.updates, large.updates) == (48, 12)


@pytest.mark.parametrize("optimizer", [nn.SGD(0.1, 0.9, gradient_accumulation_steps=4), "adamw", "rmsprop"])
def test_saved_in_the_middle_of_a_period(optimizer, tmp_path):
    """After 6 of 8 batches, two of which wait for their update: training goes on bit for bit."""
    if isinstance(optimizer, str):
        kind = {"adamw": nn.AdamW, "rmsprop": nn.RMSprop}[optimizer]
        optimizer = kind(nn.StepDecay(0.05, 1, 0.7), gradient_accumulation_steps=4, global_clipnorm=0.2)
    X, y = data(64)
    straight = network(optimizer, REGULARIZERS["l2"], dtype="float32")
    straight.fit(X[:48], y[:48], batch_size=8, shuffle=False, verbose=0)
    straight.save(tmp_path / "model")
    loaded = nn.load(tmp_path / "model")
    assert loaded.updates == 6
    accumulated = [at.slot(len(optimizer.state), "", loaded.graph.size) for at in loaded.graph.parameters]
    assert all(at.unpack(loaded._theta).any() for at in accumulated)
    for model in (straight, loaded):
        model.fit(X[48:], y[48:], batch_size=8, shuffle=False, verbose=0)
        assert not any(at.unpack(model._theta).any() for at in accumulated)
    assert np.array_equal(straight._theta, loaded._theta)


THREADS = """
import hashlib, sys
import numpy as np, numbanet as nn
from numbanet.pace import Pace
Pace.next = lambda self, left: (True, left)  # always in parallel
nn.set_num_threads(int(sys.argv[1]))
rng = np.random.default_rng(0)
X, y = rng.random((200, 30)), rng.integers(5, size=200)
hidden = nn.Dense(300, "tanh", kernel_regularizer="l1_l2")
model = nn.Sequential([nn.Input(30), hidden, nn.Dense(5, "softmax")], seed=0)
model.compile(nn.RMSprop(0.01, 0.9, 0.5, centered=True, global_clipnorm=0.5, gradient_accumulation_steps=2),
              "cross_entropy")
loss = model.fit(X, y, epochs=3, verbose=0, batch_size=70).history["loss"]
print(hashlib.sha256(model._theta.tobytes()).hexdigest(), loss)
"""


@pytest.mark.compiled
def test_any_number_of_threads():
    """1, 2 and 4 threads give the same bits: norms and penalties are sums over all parameters."""
    found = set()
    for threads in ("1", "2", "4"):
        environment = os.environ | {"NUMBA_NUM_THREADS": "4"}
        arguments = [sys.executable, "-c", THREADS, threads]
        found.add(subprocess.run(arguments, capture_output=True, text=True, check=True, env=environment).stdout)
    assert len(found) == 1


def test_all_at_once_on_the_gpu(monkeypatch):
    """Clipping, gathering and regularising there: the CPU's numbers, and the same bits in both ways to run."""
    X, y = data(17, 2)
    found = []
    for device, parallel in (("cpu", False), ("cuda", False), ("cuda", True)):
        optimizer = nn.AdamW(0.05, 0.1, global_clipnorm=0.1, gradient_accumulation_steps=2)
        with monkeypatch.context() as patch:
            if device == "cuda":
                patch.setattr(Pace, "next", lambda self, left, parallel=parallel: (parallel, min(left, 2)))
            model = network(optimizer, nn.L1L2(0.01, 0.02), nn.L1(0.1), units=(5, 2)).to(device)
            history = model.fit(X, y, batch_size=4, epochs=2, shuffle=False, verbose=0).history
        found.append((model._theta.copy(), history["loss"]))
    assert np.array_equal(found[1][0], found[2][0])
    assert found[1][1] == found[2][1]
    assert close(found[1][0], found[0][0], "float64")
    assert np.allclose(found[1][1], found[0][1], rtol=1e-12)


def test_global_clipnorm_rescues_a_diverging_run():
    """Eight linear layers, SGD at 0.05: without clipping the loss of the epochs is 12, 4.5e8, NaN; with
    global_clipnorm=1 it falls from 18 to 0.053 in 300 epochs."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((64, 6))
    y = X @ rng.standard_normal((6, 2)) * 3
    losses = {}
    for limit in (None, 1.0):
        layers = [nn.Dense(6, use_bias=False, kernel_initializer="orthogonal") for _ in range(7)]
        model = nn.Sequential([nn.Input(6), *layers, nn.Dense(2, use_bias=False)], seed=0, dtype="float64")
        model.compile(nn.SGD(0.05, global_clipnorm=limit), "mse")
        losses[limit] = model.fit(X, y, epochs=300, batch_size=16, verbose=0).history["loss"]
    assert losses[None][1] > 1e3 * losses[None][0]
    assert np.isnan(losses[None][-1])
    assert losses[1.0][-1] < 0.1 < 10 < losses[1.0][0]
