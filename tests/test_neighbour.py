"""A busy neighbour: another process that takes a core for itself slows small nets little."""

import os
import statistics
import subprocess
import sys

import pytest
from test_threads import missing

pytestmark = [pytest.mark.slow, pytest.mark.compiled]

ROUNDS = 7
WORST = 2.5  # times as long as undisturbed, of which an even share of the cores would already take up to 2

CODE = """
import ast, os, subprocess, sys, time
import numpy as np
import numbanet as nn
from numbanet.planner import Form

sizes, batch_size, threads, rounds = map(ast.literal_eval, sys.argv[1:])
nn.set_num_threads(threads)
rng = np.random.default_rng(0)
X, y = rng.random((64 * batch_size, sizes[0]), np.float32), rng.integers(sizes[-1], size=64 * batch_size)
layers = [nn.Input(sizes[0]), nn.Dense(sizes[1], "relu"), nn.Dense(sizes[2], "softmax")]
model = nn.Sequential(layers, seed=0)
model.compile(nn.SGD(0.01), "cross_entropy")

def seconds(copies):
    # One epoch over the samples, so many times in a row.
    indices = np.tile(np.arange(len(X)), copies)
    data = model._data(X, y)
    program = model._program("train", batch_size, Form(classes=True))
    began = time.perf_counter()
    model._train(program, data, indices, batch_size)
    return time.perf_counter() - began

copies = 1
while seconds(copies) < 0.2:  # the first ones compile, start threads and try both ways
    copies *= 2
copies = max(1, round(copies * 0.3 / seconds(copies)))

BUSY = '''
import os
if hasattr(os, "sched_setaffinity"):
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
print("begun", flush=True)
while True:
    pass
'''
for _ in range(rounds):
    quiet = seconds(copies)
    neighbour = subprocess.Popen([sys.executable, "-c", BUSY], stdout=subprocess.PIPE)
    try:
        neighbour.stdout.readline()
        busy = seconds(copies)
    finally:
        neighbour.kill()
        neighbour.communicate()
    print(quiet, busy)
"""


def measure(layer, sizes, batch_size, threads, rounds=ROUNDS):
    """Seconds of an epoch, undisturbed and next to a busy process, in every round."""
    environment = os.environ | {"NUMBA_THREADING_LAYER": layer}
    arguments = [sys.executable, "-c", CODE, *map(str, (sizes, batch_size, threads, rounds))]
    done = subprocess.run(arguments, capture_output=True, text=True, env=environment, timeout=120)
    assert done.returncode == 0, done.stderr
    return [tuple(map(float, line.split())) for line in done.stdout.splitlines()]


@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="needs two cores")
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("sizes", [(64, 64, 10), (784, 128, 10)], ids=lambda sizes: "-".join(map(str, sizes)))
@pytest.mark.parametrize("layer", ["omp", "workqueue"])
def test_a_busy_neighbour_slows_small_nets_little(layer, sizes, threads, record_property):
    """Medians of rounds in which quiet and busy epochs follow each other."""
    if missing(layer):
        pytest.skip(f"no threading layer {layer}: {missing(layer)}")
    quiet, busy = (statistics.median(times) for times in zip(*measure(layer, sizes, 32, threads), strict=True))
    record_property("ratio", busy / quiet)
    assert 0.1 < quiet < 2
    assert busy <= WORST * quiet, f"{busy / quiet:.2f} times as long: {busy:.3f} s instead of {quiet:.3f} s"
