"""The host's side of the GPU on hardware's path, with a driver that does nothing but keep a log (tests/driver.c).

So much can be known without a GPU: that the compiler's code is cached and loaded, what is launched and how often, what
a graph holds, how samples travel, what is said when there is no room.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

COMPILER = shutil.which("gcc") or shutil.which("cc")
pytestmark = [
    pytest.mark.compiled,
    pytest.mark.skipif(COMPILER is None, reason="needs a C compiler"),
    pytest.mark.skipif(sys.platform != "linux", reason="the driver is made for Linux"),
]

START = """
import sys
import numpy as np
import numbanet as nn
from numbanet.kernels import jit
from numbanet.pace import Pace
rng = np.random.default_rng(0)
X, y = rng.random((40, 5), np.float32), np.arange(40) % 4
def net(units=17, seed=0):
    model = nn.Sequential([nn.Input(X.shape[1]), nn.Dense(units, "relu"), nn.Dense(4, "softmax")], seed=seed)
    model.compile(nn.SGD(0.1), "cross_entropy", ["accuracy"])
    return model.to("cuda")
def always(parallel):
    Pace.next = lambda self, left: (parallel, left)
"""


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    """The driver, compiled."""
    pytest.importorskip("cuda.bindings", reason="needs numba-cuda and NVIDIA's compiler: pip install '.[cuda-test]'")
    path = tmp_path_factory.mktemp("driver") / "libcuda.so.1"
    source = Path(__file__).with_name("driver.c")
    subprocess.run([COMPILER, "-shared", "-fPIC", "-o", str(path), str(source), "-ldl"], check=True)
    return path


@pytest.fixture
def run(library, tmp_path):
    """Run a script after START; returns its output and the log of the driver."""

    def script(code, free=None, command=None):
        log = tmp_path / "log"
        log.write_text("")
        settings = {"LD_LIBRARY_PATH": str(library.parent), "NUMBANET_DRIVER": str(library), "NUMBANET_LOG": str(log)}
        settings |= {"NUMBA_CACHE_DIR": str(library.parent / "cache")}
        settings |= {} if free is None else {"NUMBANET_FREE": str(free)}
        environment = {name: value for name, value in os.environ.items() if name != "NUMBA_ENABLE_CUDASIM"} | settings
        command = command or [sys.executable, "-c", START + code]
        ran = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300)
        assert ran.returncode == 0, ran.stderr[-3000:]
        return ran.stdout.splitlines(), log.read_text().splitlines()

    return script


def test_one_launch_an_epoch(run):
    out, log = run("always(False); net().fit(X, y, batch_size=8, epochs=3, verbose=0); print(jit.compilations())")
    steps = [line for line in log if line.startswith("launch")]
    assert steps == ["launch 1 256 0 5 0 3"] * 3  # batches 0 to 5, phases 0 to 3, one block for so little work
    assert not {"graph", "together"} & set(log)
    assert int(out[0]) > 0
    again, _ = run("always(False); net(16).fit(X, y, batch_size=8, epochs=3, verbose=0); print(jit.compilations())")
    assert again == ["0"]  # another process, another network of the same ops: all from the cache


@pytest.mark.slow
def test_users_functions_are_cached_and_checked_before_anything_runs(run):
    """The loop is kept under what the functions say; what cannot be compiled is told as the model comes to the GPU."""
    code = """
import math, warnings
warnings.simplefilter("ignore")
always(False)
def model(f, loss="mse"):
    model = nn.Sequential([nn.Input(5), nn.Dense(3, f)], seed=0)
    model.compile("sgd", loss)
    return model
def count(c):
    before, y = jit.compilations(), X[:, :3]
    own = nn.activation(lambda z: c[0] * z if z > 0 else math.exp(z) - 1)
    model(own, nn.loss(lambda y, t: abs(y - t))).to("cuda").fit(X, y, batch_size=8, epochs=2, verbose=0)
    return jit.compilations() - before
print(*(count(c) for c in ((2.0,), (2.0,), (3.0,), np.array([3.0]))))
bad = model(lambda z: np.median(np.array([z, 1.0])))
try:
    bad.to("cuda")
except ValueError as problem:
    print(str(problem).splitlines()[0][:38], bad.device)
"""
    out, log = run(code)
    assert [int(count) > 0 for count in out[0].split()] == [True, False, True, True]
    assert out[1].startswith("Numba cannot compile <lambda>: ")
    assert out[1].endswith(" cpu")
    assert len([line for line in log if line.startswith("launch")]) == 4 * 2
    again, _ = run(code)
    assert again[0].split()[:3] == ["0", "0", "0"]  # but for the array, which may change unseen


def test_a_graph_is_captured_once_and_launched_for_every_step(run):
    _, log = run("always(True); net().fit(X, y, batch_size=8, epochs=3, verbose=0)")
    assert log.count("capture") == log.count("captured") == 1
    inside = log[log.index("capture") + 1 : log.index("captured")]
    assert inside == ["launch 1 256 -1 0 1 2", "launch 1 256 -2 -1 2 3"]  # the next batch's rows, then its parameters
    assert log.count("graph") == 3 * 5
    assert log.count("launch 1 256 -2 -1 0 1") == 3  # the transposed kernels, once for each epoch


def test_large_networks_take_all_multiprocessors(run):
    """Their blocks meet, so they must all have a place at once; launches of a phase need not."""
    code = "always(%s); X = rng.random((40, 700), np.float32); net(512).fit(X, y, batch_size=8, verbose=0)"
    for parallel in (False, True):
        _, log = run(code % parallel)
        assert {line.split()[1] for line in log if line.startswith("launch")} == {"132"}
        assert log.count("together") == (0 if parallel else 1)


def test_samples_that_do_not_fit_travel_in_chunks(run):
    code = """
from numbanet.kernels.cuda import launch
launch.CHUNK = 48 * 50 * (100 * 4 + 8)  # batches, samples, bytes of one and its label
always(False)
X, y = rng.random((20000, 100), np.float32), np.arange(20000) % 4
model = net()
model.fit(X, y, batch_size=50, epochs=2, verbose=0)
print(jit.compilations())
"""
    _, log = run(code, free=9_000_000)
    assert log.count("pinned") == 2 * 2  # samples and labels, for each epoch
    launches = [line.split()[3:5] for line in log if line.startswith("launch")]
    assert len(launches) == 2 * 9  # chunks of 48 batches
    assert launches[:3] == [["0", "48"], ["48", "96"], ["96", "144"]]
    assert launches[8] == ["384", "400"]
    _, whole = run(code)
    assert "pinned" not in whole
    assert len([line for line in whole if line.startswith("launch")]) == 2


def test_no_room_is_told_by_the_driver(run):
    code = """
X = rng.random((100, 5), np.float32)
model = net()
model.train_on_batch(X[:40], y)
before = model.get_weights()
try:
    model.predict(rng.random((40000, 5), np.float32), batch_size=40000)
except MemoryError as problem:
    print(problem)
print(all(np.array_equal(a, b) for a, b in zip(before, model.get_weights())))
print(model.to("cpu").predict(X).shape)
"""
    out, _ = run(code, free=4_000_000)
    assert out[0].startswith("the GPU has 4 of 16384 MiB left, ")
    assert out[0].endswith(" MiB are needed: take a smaller batch_size, or model.to('cpu')")
    assert out[1:] == ["True", "(100, 4)"]


def test_info_describes_the_gpu(run):
    out, _ = run("", command=[sys.executable, "-m", "numbanet", "info", "--devices"])
    assert out[1] == "cuda: Absent GPU, compute capability 9.0, 132 multiprocessors, 8.0 of 16.0 GiB free"
