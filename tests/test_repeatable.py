"""One seed, one result: bit for bit, on any number of threads, whatever the batch's program."""

import copy
import pickle
import subprocess
import sys

import numpy as np
import pytest

import numbanet as nn
from numbanet.kernels.cpu import engine
from numbanet.kernels.jit import JIT
from numbanet.pace import Pace
from numbanet.planner import Form


def noisy():
    """Layers with random numbers and statistics of the batch."""
    return [nn.BatchNorm(), nn.Dropout(0.3), nn.GaussianNoise(0.2)]


def trained(X, y, epochs=3, parallel=None, threads=None, seed=3, hidden=(40, 33), batch_size=48, more=()):
    layers = [*(nn.Dense(units, "tanh") for units in hidden), *more]
    model = nn.Sequential([nn.Input(X.shape[1]), *layers, nn.Dense(10, "softmax")], seed=seed)
    model.compile(nn.Adam(0.01), "cross_entropy", ["accuracy"])
    before, count = Pace.next, nn.get_num_threads()
    try:
        if parallel is not None:
            Pace.next = lambda self, left: (parallel, min(left, 3))
        if threads:
            nn.set_num_threads(threads)
        history = model.fit(X, y, epochs=epochs, verbose=0, batch_size=batch_size)
    finally:
        Pace.next = before
        nn.set_num_threads(count)
    return model, history


@pytest.mark.compiled
def test_two_runs_are_one(digits):
    a, first = trained(*digits)
    b, second = trained(*digits)
    assert np.array_equal(a._theta, b._theta)
    assert first.history == second.history


@pytest.mark.compiled
def test_another_seed_is_another_run(digits):
    a, _ = trained(*digits)
    b, _ = trained(*digits, seed=4)
    assert not np.array_equal(a._theta, b._theta)


def test_no_seed_draws_one_and_tells_it(digits):
    a, b = (nn.Sequential([nn.Input(2), nn.Dense(2)]) for _ in range(2))
    assert a.seed != b.seed
    again = nn.Sequential([nn.Input(2), nn.Dense(2)], seed=a.seed)
    assert np.array_equal(a.get_weights()[0], again.get_weights()[0])


@pytest.mark.compiled
@pytest.mark.skipif(engine.get_num_threads() < 2, reason="needs two threads")
@pytest.mark.parametrize("more", [list, noisy])
def test_serial_and_parallel_agree(digits, monkeypatch, more):
    """The parallel loop really runs (counted), on 1 and 2 threads, and gives the serial loop's bits."""
    runs = []
    parallel = engine.run_parallel
    monkeypatch.setattr(engine, "run_parallel", lambda *a: (runs.append(1), parallel(*a)))
    serial, first = trained(*digits, parallel=False, more=more())
    assert not runs
    one, _ = trained(*digits, parallel=True, threads=1, more=more())
    assert not runs  # one thread is the serial loop
    two, second = trained(*digits, parallel=True, threads=2, more=more())
    assert runs
    assert np.array_equal(serial._theta, one._theta)
    assert np.array_equal(serial._theta, two._theta)
    assert first.history == second.history


@pytest.mark.compiled
def test_any_number_of_threads():
    """1, 2 and 4 (oversubscribed) threads in processes of their own give the same bits."""
    code = """
import hashlib, sys
import numpy as np, numbanet as nn
from numbanet.pace import Pace
from numbanet.planner import Form
Pace.next = lambda self, left: (True, left)  # always in parallel
nn.set_num_threads(int(sys.argv[1]))
rng = np.random.default_rng(0)
X, y = rng.random((200, 30)), rng.integers(5, size=200)
noisy = [nn.Dropout(0.3), nn.BatchNorm(), nn.GaussianNoise(0.1), nn.Reshape((-1, 20)), nn.LayerNorm(), nn.Flatten()]
for between in ([], noisy):
    model = nn.Sequential([nn.Input(30), nn.Dense(300, "tanh"), *between, nn.Dense(5, "softmax")], seed=0)
    model.compile(nn.SGD(0.1, 0.9), "cross_entropy")
    model.fit(X, y, epochs=3, verbose=0, batch_size=70)
    print(hashlib.sha256(model._theta.tobytes()).hexdigest())
"""
    import os

    found = set()
    for threads in ("1", "2", "4"):
        environment = os.environ | {"NUMBA_NUM_THREADS": "4"}
        arguments = [sys.executable, "-c", code, threads]
        found.add(subprocess.run(arguments, capture_output=True, text=True, check=True, env=environment).stdout)
    assert len(found) == 1


@pytest.mark.compiled
@pytest.mark.parametrize("more", [list, noisy])
def test_programs_of_other_capacities_agree(digits, more):
    """The bits of a step do not depend on how large a batch the program was planned for."""
    X, y = digits
    a, _ = trained(X, y, epochs=2, batch_size=48, more=more())
    b, _ = trained(X, y, epochs=1, batch_size=48, more=more())
    b.evaluate(X, y)
    b._programs.clear()
    b._program("train", 200, Form(classes=True))  # larger than needed: kept for the batches of 48
    assert np.array_equal(b.predict(X, batch_size=7), b.predict(X))
    b.fit(X, y, epochs=1, batch_size=48, verbose=0)
    assert b._programs["train", Form(classes=True), frozenset()].plan.batch_size == 200
    assert np.array_equal(a._theta, b._theta)


@pytest.mark.compiled
@pytest.mark.parametrize("more", [list, noisy])
@pytest.mark.parametrize("optimizer", [nn.SGD(0.1), nn.SGD(0.1, 0.9), nn.SGD(0.1, 0.9, True), nn.Adam(0.01)])
def test_save_load_continue(digits, tmp_path, optimizer, more):
    """Save at epoch 3, load, go on to 6: the same as 6 straight."""
    X, y = digits
    models = []
    for _ in range(2):
        model = nn.Sequential([nn.Input(64), nn.Dense(20, "relu"), *more(), nn.Dense(10, "softmax")], seed=0)
        model.compile(optimizer, "cross_entropy", ["accuracy"])
        models.append(model)
    straight = models[0].fit(X, y, epochs=6, verbose=0)
    models[1].fit(X, y, epochs=3, verbose=0)
    models[1].save(tmp_path / "model.safetensors")
    loaded = nn.load(tmp_path / "model.safetensors")
    rest = loaded.fit(X, y, epochs=3, verbose=0)
    assert np.array_equal(models[0]._theta, loaded._theta)
    assert models[0].updates == loaded.updates
    assert straight.history["loss"][3:] == rest.history["loss"]


@pytest.mark.compiled
def test_prediction_does_not_depend_on_company(digits):
    """A row's output is the same bits alone and among others."""
    X, y = digits
    model, _ = trained(X, y)
    together = model.predict(X)
    for row in (0, 17, 255, 256, 299):
        assert np.array_equal(model.predict(X[row : row + 1])[0], together[row])


def test_denormals_are_flushed_and_the_callers_state_restored():
    """Inside a compiled call a product below 1e-38 is zero; after it the caller's arithmetic is as before."""
    model = nn.Sequential([nn.Input(1), nn.Dense(1, use_bias=False)], seed=0)
    model.set_weights([np.array([[1e-30]], np.float32)])
    tiny = model.predict(np.array([[1e-10]], np.float32))[0, 0]
    assert tiny == (0 if engine.X86 and JIT else np.float32(1e-30) * np.float32(1e-10))
    assert np.float32(1e-30) * np.float32(1e-10) > 0


@pytest.mark.compiled
@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
def test_copies_are_models_of_their_own(digits, duplicate):
    """A copy goes on as the original would have, and neither disturbs the other."""
    X, y = digits
    model, _ = trained(X, y)
    other = duplicate(model)
    assert type(other) is type(model)
    before = other._theta.copy()
    model.fit(X, y, epochs=2, verbose=0)
    assert np.array_equal(other._theta, before)
    other.fit(X, y, epochs=2, verbose=0)
    assert np.array_equal(other._theta, model._theta)
    assert other.epochs == model.epochs


def test_deep_networks_can_be_copied():
    """No recursion over layers: 2000 of them."""
    model = nn.Sequential([nn.Input(1), *(nn.Dense(1) for _ in range(2000))], seed=0)
    assert np.array_equal(pickle.loads(pickle.dumps(model)).predict([[1.0]]), model.predict([[1.0]]))
