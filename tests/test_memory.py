"""Memory: a step allocates nothing, an epoch only its order of samples and its optimiser's coefficients."""

import os
import subprocess
import sys
import tracemalloc

import numpy as np
import pytest

import numbanet as nn
from numbanet.planner import Form

pytestmark = pytest.mark.compiled

SAMPLES, BATCH = 320, 32
FEW, MANY = 10, 1000  # steps
PER_RUN = 8  # most allocations of Numba's in a call of Program.run: one for each array that it is handed
COEFFICIENTS = 40  # bytes a step: five of Adam's
ORDER = 8  # bytes a sample


def network(optimizer="adam"):
    model = nn.Sequential([nn.Input(64), nn.Dense(64, "relu"), nn.Dense(10, "softmax")], seed=0)
    model.compile(optimizer, "cross_entropy", ["accuracy"])
    return model


def samples(count=SAMPLES):
    rng = np.random.default_rng(0)
    return rng.random((count, 64), np.float32), rng.integers(10, size=count)


def prepared(model, mode, steps, data):
    """A program that is ready to run so many steps, over and over the same few samples."""
    X, y = data
    program = model._program(mode, BATCH, Form(classes=True))
    arrays = {
        "order": np.arange(steps * BATCH)[:, None] % len(X),
        "targets": y[:, None],
        "coefficients": model.optimizer.coefficients(model.updates + np.arange(steps)),
    }
    arrays |= {name: X for name in program._places if name.startswith("samples of ")}
    for name, array in arrays.items():
        program.bind(name, array)
    program.start(steps * BATCH, BATCH)
    return program


def traced(call):
    """Bytes at most, and at the end, that a call has allocated through Python and NumPy."""
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        call()
        after, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    return peak - before, after - before


@pytest.mark.parametrize("parallel", [False, True])
@pytest.mark.parametrize("mode", ["train", "evaluate"])
def test_steps_allocate_nothing(mode, parallel):
    """What Python and NumPy allocate in a call of run is the same, and little, for 10 steps and for 1000."""
    model, data = network(), samples()
    peaks = {}
    for steps in (MANY, FEW, MANY, FEW):  # the first two have tables, threads and loops to make
        program = prepared(model, mode, steps, data)
        peaks[steps], left = traced(lambda: program.run(0, steps, parallel))  # noqa: B023
    assert left < 1000
    assert peaks[MANY] < 4000
    assert abs(peaks[MANY] - peaks[FEW]) <= 300


def test_numbas_allocations_do_not_grow_with_steps():
    """Numba's own statistics: as many allocations for 10 steps as for 1000, and all of them freed."""
    code = f"""
import sys
sys.path[:0] = {[os.path.dirname(__file__)]}
from numba.core.runtime import rtsys
from test_memory import network, prepared, samples

def run(steps):
    program = prepared(model, mode, steps, data)
    before = rtsys.get_allocation_stats()
    program.run(0, steps, parallel)
    return [now - then for then, now in zip(before, rtsys.get_allocation_stats())]

model, data = network(), samples()
for mode in "train", "evaluate":
    for parallel in False, True:
        run({FEW})
        print(*run({FEW}), *run({MANY}))
"""
    environment = os.environ | {"NUMBA_NRT_STATS": "1"}
    arguments = [sys.executable, "-c", code]
    shown = subprocess.run(arguments, capture_output=True, text=True, check=True, env=environment).stdout
    lines = [list(map(int, line.split())) for line in shown.splitlines()]
    assert len(lines) == 4
    for line in lines:
        few, many = line[:4], line[4:]
        assert few == many
        allocated, freed, opened, closed = many
        assert 0 < allocated == freed <= PER_RUN
        assert opened == closed <= PER_RUN


def fit_peak(epochs, count, batch_size, optimizer="adam"):
    """Bytes that a fit allocates at most, after one that has made the program."""
    model, (X, y) = network(optimizer), samples(count)
    model.fit(X, y, batch_size=batch_size, epochs=1, verbose=0)
    return traced(lambda: model.fit(X, y, batch_size=batch_size, epochs=epochs, verbose=0))[0]


def test_an_epoch_allocates_what_it_needs():
    """The next epoch's order and coefficients are made while the last one's are still bound; a step adds no more."""
    count, steps = 32_000, {16: 2000, 3200: 10}
    order = ORDER * count
    for batch_size, batches in steps.items():
        for epochs in (1, 5):
            coefficients = COEFFICIENTS * batches
            assert fit_peak(epochs, count, batch_size) <= 3 * order + 3 * coefficients + 32_000
    many, few = (fit_peak(5, count, batch_size) for batch_size in steps)
    assert many - few <= 3 * COEFFICIENTS * (2000 - 10) + 8000


def test_epochs_leave_nothing_behind_but_the_history():
    peaks = {epochs: fit_peak(epochs, SAMPLES, BATCH) for epochs in (5, 25)}
    assert peaks[25] - peaks[5] <= 20 * 500


def test_predict_allocates_its_result():
    """And an order of the samples; once warm, no workspace."""
    model, (X, _) = network(), samples(20_000)
    model.predict(X)
    result = 10 * 4 * len(X)
    peak, left = traced(lambda: model.predict(X))
    assert peak <= result + 2 * ORDER * len(X) + 16_000
    assert left <= result + ORDER * len(X) + 8000  # the order stays bound, and the result until the next call
    few = X[:8].copy()
    model.predict(few)
    peak, left = traced(lambda: [model.predict(few) for _ in range(100)] and None)
    assert peak <= 100 * (10 * 4 * len(few) + 250)
    assert left <= 1000
