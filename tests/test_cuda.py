"""Networks on an NVIDIA GPU, or without one in Numba's simulator: they compute what the CPU computes."""

import types

import hardware
import numpy as np
import pytest
from networks import OPTIMIZERS, close, network, samples, twins, wide_network, with_a_skip, with_every_activation

import numbanet as nn
from numbanet import kernels
from numbanet.gradients import gradients
from numbanet.kernels import cuda
from numbanet.kernels.cuda import gemm, graph, launch, stream
from numbanet.model import DTYPES
from numbanet.pace import Pace


def check(models, X, y, dtype, steps=10):
    """Forward, loss and metrics, gradients and some optimiser steps are the same on both devices."""
    cpu, gpu = models
    assert (cpu.device, gpu.device) == ("cpu", "cuda")
    assert close(gpu.predict(X), cpu.predict(X), dtype)
    measured = [list(model.evaluate(X, y).values()) for model in models]
    assert close(np.array(measured[1]), np.array(measured[0]), dtype)
    found, wanted = (gradients(model, model._data(X, y)) for model in (gpu, cpu))
    for name in wanted:
        assert close(found[name], wanted[name], dtype), name
    for _ in range(steps):
        logs = [list(model.train_on_batch(X, y).values()) for model in models]
        assert close(np.array(logs[1]), np.array(logs[0]), dtype)
    assert close(gpu._theta, cpu._theta, dtype)
    assert cpu.updates == gpu.updates == steps


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_every_activation(dtype):
    check(twins(with_every_activation, dtype), *samples(), dtype, steps=2)


LOSSES = [
    ("linear", "mse"),
    ("linear", "half_squared_error"),
    ("tanh", "mse"),
    ("softmax", "cross_entropy"),
    ("log_softmax", "cross_entropy"),
    ("sigmoid", "cross_entropy"),
    ("sigmoid", "binary_cross_entropy"),
    ("softmax", "binary_cross_entropy"),
    ("linear", "mae"),
    ("linear", nn.Huber(0.3)),
    ("softmax", "kl_divergence"),
    ("linear", "hinge"),
    ("softplus", "poisson"),
]


@pytest.mark.parametrize(("output", "loss", "dtype"), [(*case, DTYPES[k % 2]) for k, case in enumerate(LOSSES)])
def test_every_loss(output, loss, dtype):
    """In one of the dtypes each; the kernels by themselves are tested in both."""
    X, y = samples()
    targets = np.eye(3)[y] if loss == "hinge" else np.eye(3)[y] * 0.8 + 0.1
    models = twins(network, "tanh", output, loss, "sgd", dtype, ["accuracy", "mse", "mae"])
    check(models, X, targets, dtype, steps=3)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_every_optimizer(optimizer, dtype):
    check(twins(network, "relu", "softmax", "cross_entropy", optimizer, dtype), *samples(), dtype)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_graph_with_skips_and_shared_layers(dtype):
    rng = np.random.default_rng(0)
    X = {"a": rng.standard_normal((9, 4)), "b": rng.standard_normal((9, 6))}
    check(twins(with_a_skip, dtype), X, rng.integers(0, 2, (9, 2)), dtype)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_norms_and_noise(dtype):
    """Statistics of the batch and of rows, of vectors and of several positions, and the same random numbers."""

    def make(dtype):
        layers = [nn.Dense(18, "tanh"), nn.BatchNorm(), nn.Dropout(0.3), nn.Reshape((2, 3, 3)), nn.LayerNorm()]
        layers += [nn.GaussianNoise(0.2), nn.BatchNorm(scale=False), nn.Flatten(), nn.Dense(3, "softmax")]
        model = nn.Sequential([nn.Input(5), *layers], seed=3, dtype=dtype)
        model.compile(nn.SGD(0.1), "cross_entropy", ["accuracy"])
        return model

    check(twins(make, dtype), *samples(), dtype, steps=3)


@pytest.mark.parametrize(("batch_size", "count"), [(16, 21), (40, 43)])
def test_products_by_columns(batch_size, count):
    """Kernels large enough for a phase of their own, cut into groups of rows or into squares; a short last batch."""
    X, y = samples(count, features=70)

    models = twins(wide_network)
    chains = [chain for phase in models[1].plan("train", batch_size).phases for chain in phase.chains]
    groups = {chain.ops[0].sizes["columns"] for chain in chains if chain.axis == "columns"}
    assert hardware.GPU or groups == {8 if batch_size == 16 else gemm.SIDE}
    losses = [model.fit(X, y, batch_size=batch_size, epochs=1, verbose=0).history["loss"] for model in models]
    assert np.allclose(losses[0], losses[1], rtol=1e-5)
    assert close(models[1]._theta, models[0]._theta, "float32")
    assert close(models[1].predict(X), models[0].predict(X), "float32")


@pytest.mark.parametrize("blocks", [2, 3])
@pytest.mark.parametrize("case", ["skips", "groups", "squares"])
def test_blocks_share_the_work(monkeypatch, case, blocks):
    """Several blocks, each with a part of every phase.

    The simulator runs the blocks of a launch one after another, so every phase is one; on a GPU they also meet.
    """
    for module in (launch, cuda):
        monkeypatch.setattr(module, "multiprocessors", lambda: blocks)
    monkeypatch.setattr(launch, "SMALL", 0)
    monkeypatch.setattr(Pace, "next", lambda self, left: (not hardware.GPU, left))
    rng = np.random.default_rng(0)
    if case == "skips":
        models, features = twins(with_a_skip, "float64"), {"a": 4, "b": 6}
        X, y = {name: rng.standard_normal((19, width)) for name, width in features.items()}, rng.integers(0, 2, (19, 2))
    else:
        models = twins(wide_network, "float64")
        X, y = samples(43, features=70)
    ran = []
    share = cuda.Engine._launch
    monkeypatch.setattr(cuda.Engine, "_launch", lambda self, *a: (ran.append(self._blocks), share(self, *a)))
    batch_size = {"skips": 16, "groups": 12, "squares": 40}[case]
    losses = [model.fit(X, y, batch_size=batch_size, epochs=1, verbose=0).history["loss"] for model in models]
    assert set(ran) == {blocks}
    assert np.allclose(losses[0], losses[1], rtol=1e-12)
    assert close(models[1]._theta, models[0]._theta, "float64")
    assert close(models[1].predict(X), models[0].predict(X), "float64")


def test_digits():
    """A slice of the digits, three epochs with a short last batch: the CPU's losses to 1e-4."""
    (X, y), (X_test, y_test) = nn.data.load_digits()

    def make():
        model = nn.Sequential([nn.Input(64), nn.Dense(12, "relu"), nn.Dense(10, "softmax")], seed=0)
        model.compile(nn.Adam(5e-3), "cross_entropy", ["accuracy"])
        return model

    some = slice(None) if hardware.GPU else slice(70)
    histories = [
        model.fit(X[some], y[some], epochs=3, verbose=0, validation_data=(X_test[:20], y_test[:20])).history
        for model in twins(make)
    ]
    for name in histories[0]:
        assert np.abs(np.subtract(histories[1][name], histories[0][name])).max() <= 1e-4, name


@pytest.mark.parametrize("labelled", [True, False])
def test_samples_that_do_not_fit_are_fed_in_chunks(monkeypatch, labelled):
    """Shuffled epochs, a short last batch, evaluation and prediction: the same bits as with all samples on the GPU."""
    X, y = samples(23)
    y = y if labelled else np.eye(3)[y]
    found, sizes = [], []
    copy = stream.Feed._copy
    monkeypatch.setattr(stream.Feed, "_copy", lambda self, order, k: (sizes.append(self._rows), copy(self, order, k)))
    for free in (None, 200):
        if free:
            monkeypatch.setattr(stream, "fits", lambda arrays: False)
            monkeypatch.setattr(cuda, "fits", lambda arrays: False)
            monkeypatch.setattr(launch, "CHUNK", 8 * (5 * 8 + (8 if labelled else 24)))  # 8 samples
        model = network("tanh", "softmax", "cross_entropy", "adam", "float64", ["accuracy"]).to("cuda")
        history = model.fit(X, y, batch_size=4, epochs=2, verbose=0, validation_split=0.2).history
        found.append(
            (model._theta.tobytes(), str(history), model.predict(X, 4).tobytes(), str(model.evaluate(X, y, 4)))
        )
    assert found[0] == found[1]
    assert set(sizes) >= {8}
    assert len(sizes) > 10


def test_what_fits(monkeypatch):
    arrays = {"a": np.zeros(10), "b": np.zeros(30)}
    for free, wanted in ((401, True), (399, False)):
        context = types.SimpleNamespace(get_memory_info=lambda free=free: (free, 1000))
        monkeypatch.setattr(stream.cuda, "current_context", lambda context=context: context)
        assert cuda.fits(arrays) is wanted


def test_both_ways_to_run_give_the_same_bits(monkeypatch):
    """One launch for many steps, and one launch a phase."""
    X, y = samples(13)
    found = []
    for parallel in (False, True):
        monkeypatch.setattr(Pace, "next", lambda self, left, parallel=parallel: (parallel, min(left, 2)))
        model = network("relu", "softmax", "cross_entropy", "adam", metrics=["accuracy"]).to("cuda")
        history = model.fit(X, y, batch_size=4, epochs=2, verbose=0).history
        found.append((model._theta.tobytes(), model.updates, model.predict(X).tobytes(), str(history)))
    assert found[0] == found[1]
    assert found[0][1] == 8


@pytest.mark.parametrize("parallel", [False, True])
def test_an_interrupt_leaves_the_last_finished_update(monkeypatch, parallel):
    """Ctrl-C after the third slice of two steps, or between two graphs: weights and counters fit each other."""
    X, y = samples(40)
    steps, done = 6 if not parallel else 5, []

    def after(method, count):
        def called(self, *arguments):
            result = method(self, *arguments)
            done.append(1)
            if len(done) == count:
                raise KeyboardInterrupt
            return result

        return called

    cpu, gpu = twins(network, "tanh", "softmax", "cross_entropy", "adam")
    monkeypatch.setattr(Pace, "next", lambda self, left: (parallel, min(left, 2)))
    with monkeypatch.context() as patch:
        if parallel:
            patch.setattr(graph.Graph, "launch", after(graph.Graph.launch, 5))
        else:
            patch.setattr(cuda.Engine, "_launch", after(cuda.Engine._launch, 3))
        assert gpu.fit(X, y, batch_size=4, epochs=1, verbose=0, shuffle=False).history == {}
    assert gpu.updates == steps
    cpu.fit(X[: 4 * steps], y[: 4 * steps], batch_size=4, verbose=0, shuffle=False)
    assert close(gpu._theta, cpu._theta, "float32")


def test_there_and_back():
    """Weights and optimiser state move along, and training goes on as if nothing had happened."""
    X, y = samples()
    stayed, moved = (network("tanh", "softmax", "cross_entropy", "adam", "float64") for _ in range(2))
    for device in ("cpu", "cuda", "cuda", "cpu"):
        stayed.fit(X, y, batch_size=4, verbose=0)
        assert moved.to(device) is moved
        moved.fit(X, y, batch_size=4, verbose=0)
        assert moved.device == device
        assert close(moved._theta, stayed._theta, "float64")
    assert moved.updates == stayed.updates == 12


def test_saving_does_not_care_about_the_device(tmp_path):
    X, y = samples()
    model = network("tanh", "softmax", "cross_entropy", "adam").to("cuda")
    model.fit(X, y, batch_size=4, verbose=0)
    model.save(tmp_path / "model.safetensors")
    loaded = nn.load(tmp_path / "model.safetensors")
    assert loaded.device == "cpu"
    assert np.array_equal(loaded._theta, model._theta)
    assert loaded.updates == model.updates == 3
    model.train_on_batch(X, y)
    loaded.train_on_batch(X, y)
    assert close(model._theta, loaded._theta, "float32")


def test_weights_are_set_and_read_on_the_gpu():
    X, _ = samples()
    model = network("tanh", "softmax", "cross_entropy").to("cuda")
    other = nn.Sequential(model.layers, seed=9)
    model.predict(X)
    model.set_weights(other.get_weights())
    assert close(model.predict(X), other.predict(X), "float32")
    assert all(np.array_equal(a, b) for a, b in zip(model.get_weights(), other.get_weights(), strict=True))


def test_gradient_check_uses_the_gpus_kernels():
    X, y = samples(3)
    model = nn.Sequential([nn.Input(5), nn.Dense(2, "tanh"), nn.Dense(3, "softmax")], seed=0).to("cuda")
    model.compile("sgd", "cross_entropy")
    found = nn.gradient_check(model, X, y)
    assert found.error < 1e-6
    assert found.checked == 5 * 2 + 2 + 2 * 3 + 3


@pytest.mark.parametrize("strange", [np.nan, np.inf])
def test_strange_samples_are_refused(strange):
    X, y = samples()
    model = network("tanh", "softmax", "cross_entropy").to("cuda")
    X[3, 2] = strange
    before = model._theta.copy()
    for call in (lambda: model.fit(X, y, verbose=0), lambda: model.predict(X), lambda: model.evaluate(X, y)):
        with pytest.raises(ValueError, match="X holds"):
            call()
    assert np.array_equal(model._theta, before)


def test_every_op_is_known_on_every_device():
    for device in kernels.DEVICES:
        assert set(kernels.load(device).KERNELS) == set(kernels.OPS)


def test_an_interrupt_while_counting(monkeypatch):
    """A second Ctrl-C, while the first one's steps are counted."""
    X, y = samples(12)
    settle, calls = cuda.Engine._settle, []

    def impatient(self):
        calls.append(1)
        if len(calls) == 1:
            raise KeyboardInterrupt
        settle(self)

    cpu, gpu = twins(network, "tanh", "softmax", "cross_entropy", "adam")
    monkeypatch.setattr(Pace, "next", lambda self, left: (False, min(left, 2)))
    with monkeypatch.context() as patch:
        patch.setattr(cuda.Engine, "_settle", impatient)
        assert gpu.fit(X, y, batch_size=4, verbose=0, shuffle=False).history == {}
    assert (gpu.updates, len(calls)) == (2, 2)
    cpu.fit(X[:8], y[:8], batch_size=4, verbose=0, shuffle=False)
    assert close(gpu._theta, cpu._theta, "float32")
