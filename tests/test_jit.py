"""Compilation: the cache's stamp, directories that cannot be written, damaged files, other builds of the same code."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import numbanet as nn
from numbanet.kernels import DTYPES, FUNCTIONS, OPS, jit

TRAIN = """
import numpy as np, numbanet as nn
from numbanet.kernels import jit
model = nn.Sequential([nn.Input(3), nn.Dense(5, "tanh"), nn.Dense(2, "softmax")], seed=0)
model.compile("adam", "cross_entropy")
model.fit(np.arange(30.).reshape(10, 3) / 30, np.arange(10) % 2, epochs=2, verbose=0)
print(jit.compilations(), float(model.get_weights()[0].sum()))
"""


def run(code, cache, check=True, **environment):
    environment = os.environ | {"NUMBA_CACHE_DIR": str(cache)} | environment
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=check, env=environment)


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """A cache filled by one training run, and what that run printed."""
    directory = tmp_path_factory.mktemp("cache")
    return directory, run(TRAIN, directory).stdout.split()


needs_jit = pytest.mark.skipif(not jit.JIT, reason="nothing is compiled")


@needs_jit
def test_each_kernel_is_compiled_once_and_then_loaded(cache):
    directory, (count, total) = cache
    assert int(count) == 11 + 1  # ops of this network, and the serial loop
    assert run(TRAIN, directory).stdout.split() == ["0", total]


@needs_jit
def test_an_edited_kernel_or_flag_is_compiled_again(cache):
    """The stamp covers all kernel sources and flags: Numba alone would not notice an edited callee in another file."""
    directory, (count, _) = cache
    changed = "from numbanet.kernels import jit; jit._STAMP = 'other'\n" + TRAIN
    assert run(changed, directory).stdout.split()[0] == count
    assert run(TRAIN, directory, NUMBA_BOUNDSCHECK="1").stdout.split()[0] == count
    run(TRAIN, directory)  # leaves the cache as the next test expects it


@needs_jit
def test_the_stamp_depends_on_every_source(tmp_path, monkeypatch):
    before = jit._stamp()
    assert before == jit._stamp()
    sources = sorted(Path(jit.__file__).parent.rglob("*.py"))
    read = Path.read_bytes
    for source in sources:
        monkeypatch.setattr(Path, "read_bytes", lambda path, s=source: read(path) + (b"#" if path == s else b""))
        assert jit._stamp() != before, source
    monkeypatch.setattr(Path, "read_bytes", read)
    monkeypatch.setitem(jit.FLAGS, "error_model", "python")
    assert jit._stamp() != before


@needs_jit
@pytest.mark.parametrize("suffix", [".nbi", ".nbc"])
def test_damaged_cache_files_are_replaced(cache, suffix):
    directory, (_, total) = cache
    files = list(directory.rglob(f"*{suffix}"))
    assert files
    for number, file in enumerate(files):
        content = file.read_bytes()
        file.write_bytes((b"", content[: len(content) // 2], b"x" * 100)[number % 3])
    shown = run(TRAIN, directory)
    assert int(shown.stdout.split()[0]) > 0
    assert shown.stdout.split()[1] == total
    assert shown.stderr == ""
    assert run(TRAIN, directory).stdout.split() == ["0", total]


@needs_jit
def test_no_writable_directory_costs_one_warning(cache, tmp_path):
    _, (count, total) = cache
    (tmp_path / "file").write_text("")  # a directory cannot be made below a file
    only = "UserProvidedCacheLocator"  # else Numba falls back to directories which this test must not fill
    shown = run(TRAIN, tmp_path / "file" / "cache", NUMBA_CACHE_LOCATOR_CLASSES=only)
    assert shown.stdout.split() == [count, total]
    assert shown.stderr.count("numbanet cannot keep compiled kernels on disk") == 1
    assert "NUMBA_CACHE_DIR" in shown.stderr


@pytest.mark.slow
@needs_jit
def test_warmup_compiles_everything_once(tmp_path):
    code = "import numbanet as nn; print(nn.warmup()); print(nn.warmup())"
    ops = OPS.keys() - FUNCTIONS  # those come with the functions
    everything = 2 * (len(ops) - 1 + len(DTYPES) + 1) + 3  # gather_rows has one for each dtype of data; a quick loop
    assert run(code, tmp_path).stdout.split() == [str(everything), "0"]
    assert run(code, tmp_path).stdout.split() == ["0", "0"]
    assert run(TRAIN, tmp_path).stdout.split()[0] == "0"


def test_without_a_compiler_the_results_are_the_same(cache):
    """NUMBA_DISABLE_JIT=1 runs the kernels as plain Python."""
    directory, (_, total) = cache
    plain = run(TRAIN, directory, NUMBA_DISABLE_JIT="1").stdout.split()
    assert plain[0] == "0"
    assert float(plain[1]) == pytest.approx(float(total), rel=1e-5)


@needs_jit
def test_bounds_are_checked_on_request(tmp_path):
    """NUMBA_BOUNDSCHECK=1 sees the operands' true extents: a kernel told a wrong width is caught."""
    code = """
import numpy as np, numbanet as nn
from numbanet.planner import Form
model = nn.Sequential([nn.Input(3), nn.Dense(2)], seed=0)
program = model._program("predict", 4, Form(direct=True))
program._ops[1, 1] = 1000  # inputs of dense_forward
model._programs["predict", Form(direct=True), None] = program
model.predict(np.zeros((4, 3), np.float32))
"""
    assert "IndexError" in run(code, tmp_path, NUMBA_BOUNDSCHECK="1").stderr


@pytest.mark.compiled
def test_a_forked_child_trains():
    """An OpenMP region in a forked child would kill it; the child falls back to the serial loop."""
    code = """
import os, sys
import numpy as np, numbanet as nn
from numbanet.pace import Pace
Pace.next = lambda self, left: (True, left)  # always in parallel
def train():
    model = nn.Sequential([nn.Input(3), nn.Dense(40, "tanh"), nn.Dense(2, "softmax")], seed=0)
    model.compile("adam", "cross_entropy")
    model.fit(np.arange(300.).reshape(100, 3) / 300, np.arange(100) % 2, epochs=2, verbose=0)
    return model._theta.tobytes()
before = train()
child = os.fork()
if child == 0:
    os._exit(0 if train() == before else 1)
assert os.waitpid(child, 0)[1] == 0
assert train() == before
print("done")
"""
    arguments = [sys.executable, "-c", code]
    assert subprocess.run(arguments, capture_output=True, text=True, check=True, timeout=120).stdout == "done\n"


@pytest.mark.compiled
def test_several_threads_train_at_once():
    """The parallel loop is entered by one Python thread at a time, under the workqueue layer too."""
    code = """
import threading
import numpy as np, numbanet as nn
from numbanet.pace import Pace
Pace.next = lambda self, left: (True, left)  # always in parallel
rng = np.random.default_rng(0)
X, y = rng.random((300, 8)), rng.integers(3, size=300)
found = []
def train():
    model = nn.Sequential([nn.Input(8), nn.Dense(64, "tanh"), nn.Dense(3, "softmax")], seed=0)
    model.compile("adam", "cross_entropy")
    model.fit(X, y, epochs=5, verbose=0)
    found.append(model._theta.tobytes())
workers = [threading.Thread(target=train) for _ in range(4)]
for worker in workers: worker.start()
for worker in workers: worker.join()
assert len(found) == 4 and len(set(found)) == 1
print("done")
"""
    arguments = [sys.executable, "-c", code]
    for layer in ("default", "workqueue"):
        environment = os.environ | {"NUMBA_THREADING_LAYER": layer}
        done = subprocess.run(arguments, capture_output=True, text=True, env=environment, timeout=120)
        assert (done.returncode, done.stdout) == (0, "done\n"), done.stderr


def test_threads_are_told():
    assert 1 <= nn.get_num_threads() <= (os.cpu_count() or 1) or "NUMBA_NUM_THREADS" in os.environ
