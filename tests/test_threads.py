"""Threads and processes, under every threading layer of Numba: nothing crashes or hangs, and the bits are always the
same. All of it happens in processes of its own: a process has one threading layer."""

import functools
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.compiled

LAYERS = ("omp", "workqueue", "tbb")
EXACT = ("omp", "workqueue")  # where the numbers of threads are compared on every net

# sizes, rows of a batch
NETS = {
    "2-16-16-2 batch 32": ((2, 16, 16, 2), 32),
    "64-64-10 batch 32": ((64, 64, 10), 32),
    "784-128-10 batch 32": ((784, 128, 10), 32),
    "784-128-10 batch 128": ((784, 128, 10), 128),
    "784-512-512-10 batch 128": ((784, 512, 512, 10), 128),
    "784-1024-1024-10 batch 256": ((784, 1024, 1024, 10), 256),
}
LARGE = {"784-128-10 batch 128", "784-512-512-10 batch 128", "784-1024-1024-10 batch 256"}

# What every process begins with: nets and data, a choice of loops, and a count of the parallel ones.
BEGIN = """
import os, signal, sys, threading, time, warnings
import numba
import numpy as np
import numbanet as nn
from numbanet.kernels.cpu import engine
from numbanet.pace import PARALLEL_COST, Pace

planned, learn, entered = Pace.next, Pace.took, []
parallel_loops = engine.run_parallel, engine.run_batches
engine.run_parallel = lambda *a: (entered.append("steps"), parallel_loops[0](*a))
engine.run_batches = lambda *a: (entered.append("batches"), parallel_loops[1](*a))

def always(parallel, most=3):
    Pace.next, Pace.took = lambda self, left: (parallel, min(left, most)), lambda self, *slice: None

def net(sizes, seed=0, optimizer=None):
    hidden = [nn.Dense(units, "relu") for units in sizes[1:-1]]
    model = nn.Sequential([nn.Input(sizes[0]), *hidden, nn.Dense(sizes[-1], "softmax")], seed=seed)
    model.compile(optimizer or nn.SGD(0.01), "cross_entropy", ["accuracy"])
    return model

def data(sizes, samples):
    rng = np.random.default_rng(samples)
    return rng.random((samples, sizes[0]), np.float32), rng.integers(sizes[-1], size=samples)

def results(model, X, y, batch_size, epochs=2):
    losses = model.fit(X, y, batch_size, epochs, verbose=0).history
    measured = model.evaluate(X, y, batch_size)
    return model._theta.tobytes(), model.predict(X, batch_size).tobytes(), str(losses), str(measured)

def small_results():
    sizes = 8, 40, 3
    return results(net(sizes), *data(sizes, 200), 48)
"""


def using(layer):
    """The environment of a process with this threading layer. Numba finds TBB only where the loader looks."""
    libraries = [str(Path(sys.prefix, "lib")), *filter(None, [os.environ.get("LD_LIBRARY_PATH")])]
    return os.environ | {"NUMBA_THREADING_LAYER": layer, "LD_LIBRARY_PATH": os.pathsep.join(libraries)}


def run(layer, code, *arguments, timeout=100, **environment):
    """What a process with this threading layer, and four threads, prints; it must end well."""
    environment = using(layer) | {"NUMBA_NUM_THREADS": "4"} | environment
    command = [sys.executable, "-c", BEGIN + code, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=timeout)
    assert done.returncode == 0, f"exit code {done.returncode}: {done.stderr[-3000:]}"
    return done.stdout.split()


@functools.cache
def missing(layer):
    """Why a threading layer cannot be had here; empty if it can."""
    code = "from numba.np.ufunc.parallel import _launch_threads as start; start()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=using(layer))
    return " ".join(done.stderr.split()[-12:]) if done.returncode else ""


@pytest.fixture
def layer(request):
    """A threading layer, if this machine has it."""
    if missing(request.param):
        pytest.skip(f"no threading layer {request.param}: {missing(request.param)}")
    return request.param


every_layer = pytest.mark.parametrize("layer", LAYERS, indirect=True)


@every_layer
def test_the_layer_is_the_one_asked_for(layer):
    code = "always(True); small_results(); print(numba.threading_layer(), *sorted(set(entered)))"
    assert run(layer, code) == [layer, "batches", "steps"]


# -- many Python threads

STRESS = """
import faulthandler, traceback
faulthandler.dump_traceback_later(float(sys.argv[1]) + 60, exit=True)  # says where it hangs
SIZES = {"small": (8, 40, 3), "large": (64, 256, 3)}
DATA = {kind: data(sizes, 300) for kind, sizes in SIZES.items()}
BATCH = {"small": 48, "large": 128}
SEEDS = 5

def one(kind, seed):
    optimizer = (nn.SGD(0.01), nn.SGD(0.01, 0.9), nn.Adam(0.01))[seed % 3]
    return results(net(SIZES[kind], seed, optimizer), *DATA[kind], BATCH[kind])

always(False)
expected = {(kind, seed): one(kind, seed) for kind in SIZES for seed in range(SEEDS)}
shared = net(SIZES["small"])
shared_X, shared_y = DATA["small"]
known, measured = shared.predict(shared_X), shared.evaluate(shared_X, shared_y)
assert not entered
always(True)
for kind in SIZES:
    assert one(kind, 0) == expected[kind, 0]  # the parallel loops, too, are compiled now
entered.clear()
shared = net(SIZES["small"])  # again without programs: the threads make them

def choose(self, left):  # the small net always in parallel, the large one as planned
    return planned(self, left) if self.cost >= PARALLEL_COST else (True, min(left, 3))

def remember(self, *slice):
    if self.cost >= PARALLEL_COST:
        learn(self, *slice)

Pace.next, Pace.took = choose, remember
assert net(SIZES["large"]).plan("train", 128).cost > PARALLEL_COST
end, wrong, rounds = time.monotonic() + float(sys.argv[1]), [], []

def check(what, right):
    if not right:
        wrong.append(what)

def work(me):
    try:
        k = 9 * me  # they differ in what they do when
        while (k < 9 * me + 8 or time.monotonic() < end) and not wrong:  # eight rounds at least
            kind, seed = "large" if k % 8 == 7 else "small", k * 7 % SEEDS
            check(f"fit {kind} {seed}", one(kind, seed) == expected[kind, seed])
            rows = 1 + k * 37 % 300
            predicted = shared.predict(shared_X[:rows], **({"batch_size": 1 + k % 70} if k % 3 == 0 else {}))
            check(f"predict {rows}", np.array_equal(predicted, known[:rows]))
            check("evaluate", shared.evaluate(shared_X, shared_y) == measured)
            if k % 4 == me % 4:
                nn.set_num_threads(1 + (k + me) % 4)
            k += 1
            rounds.append(kind)
    except BaseException:
        wrong.append(traceback.format_exc())

threads = [threading.Thread(target=work, args=(me,)) for me in range(8)]
for thread in threads: thread.start()
for thread in threads: thread.join()
assert not wrong, wrong[0]
print(rounds.count("small"), rounds.count("large"), entered.count("steps"), entered.count("batches"))
"""


def stress(layer, seconds):
    small, large, steps, batches = map(int, run(layer, STRESS, seconds, timeout=seconds + 100))
    assert small >= 56
    assert large >= 8
    assert steps, "no step ran in parallel"
    assert batches, "no batches ran in parallel"


@every_layer
def test_many_threads_for_a_moment(layer):
    """Eight Python threads fit, predict and evaluate, change the number of threads: the serial loop's bits."""
    stress(layer, 3)


@pytest.mark.slow
@every_layer
def test_many_threads_for_long(layer):
    stress(layer, 20)


# -- forked children

FORK = """
warnings.simplefilter("ignore", DeprecationWarning)  # a process with threads is forked here on purpose
import multiprocessing

always(True)
before = small_results()
assert "steps" in entered and "batches" in entered

def verdict():
    signal.alarm(60)  # ends a child that hangs
    return 0 if small_results() == before else 1

def fork(task):
    child = os.fork()
    if child == 0:
        status = 2
        try:
            status = task()
        finally:
            os._exit(status)
    return os.waitpid(child, 0)[1]

def grandchildren():
    return verdict() or int(fork(verdict) != 0) or int(fork(grandchild_of_grandchild) != 0)

def grandchild_of_grandchild():
    return int(fork(verdict) != 0)

def exits():
    sys.exit(verdict())

def fork_during(use, task):
    stop = threading.Event()
    def go_on():
        while not stop.is_set():
            use()
    thread = threading.Thread(target=go_on)
    thread.start()
    statuses = []
    for _ in range(10):
        time.sleep(0.02)
        statuses.append(fork(task))
    stop.set()
    thread.join()
    assert statuses == [0] * 10, statuses
"""

FORKED = {
    "fork": "assert [fork(verdict) for _ in range(3)] == [0, 0, 0]",
    "grandchild": "assert fork(grandchildren) == 0",
    "process": """
for _ in range(2):
    process = multiprocessing.get_context("fork").Process(target=exits)
    process.start()
    process.join()
    assert process.exitcode == 0
""",
    "pool": """
with multiprocessing.get_context("fork").Pool(3) as pool:
    assert pool.starmap(verdict, [()] * 6) == [0] * 6
""",
    "busy": """
sizes = 8, 40, 3
model, (X, y) = net(sizes), data(sizes, 20_000)
always(True, 10_000)
fork_during(lambda: model.evaluate(X, y), verdict)
""",
    "shared": """
sizes = 8, 40, 3
model, (X, y) = net(sizes), data(sizes, 20_000)
right = model.evaluate(X, y)
def same():
    signal.alarm(60)  # ends a child that hangs
    return 0 if model.evaluate(X, y) == right else 1
fork_during(lambda: model.evaluate(X, y), same)
""",
}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.parametrize("way", FORKED)
@every_layer
def test_forked_children_train(layer, way):
    """After parallel loops of the parent, or during one, of another model (busy) or of the same (shared).

    The child runs serial loops, the parent goes on.
    """
    code = f"{FORK}\n{FORKED[way]}\nassert small_results() == before\nprint('done')"
    assert run(layer, code)[-1] == "done"  # before it Numba's remarks on fork with TBB


# -- the caller's settings

SETTINGS = """
def settings():
    return numba.get_num_threads(), numba.config.THREADING_LAYER, numba.config.NUMBA_NUM_THREADS, nn.get_num_threads()

sizes = 8, 40, 3
X, y = data(sizes, 200)
found = []
for parallel in (False, True):
    for mine, ours in ((4, 2), (1, 3), (3, 1), (2, 2)):
        numba.set_num_threads(mine)
        nn.set_num_threads(ours)
        always(parallel)
        before = settings()
        assert before[0] == mine and before[3] == ours
        model = net(sizes)
        model.fit(X, y, epochs=1, verbose=0)
        model.predict(X)
        model.predict(X[:3])
        model.evaluate(X, y)
        assert settings() == before, (before, settings())
    broken = net(sizes)
    try:
        broken.fit(X * np.nan, y, verbose=0)
    except ValueError:
        found.append("refused")
    assert settings() == before
assert "steps" in entered and "batches" in entered
print(numba.config.THREADING_LAYER, *found)
"""


@every_layer
def test_numbas_settings_stay(layer):
    """Whatever number of threads the caller has given Numba: it is the same after fit, predict and evaluate."""
    assert run(layer, SETTINGS) == [layer, "refused", "refused"]


# -- numbers of threads

BITS = """
import ast, hashlib
sizes, batch_size = ast.literal_eval(sys.argv[1]), int(sys.argv[2])
samples = 3 * batch_size + batch_size // 3 + 1  # three batches and a short one
X, y = data(sizes, samples)
for threads in (1, 2, 4):
    nn.set_num_threads(threads)
    always(True)
    entered.clear()
    found = results(net(sizes), X, y, batch_size, 3)
    assert set(entered) == (set() if threads == 1 else {"steps", "batches"})
    print(hashlib.sha256(repr(found).encode()).hexdigest())
"""


@pytest.mark.parametrize("name", [pytest.param(name, marks=[pytest.mark.slow] * (name in LARGE)) for name in NETS])
@pytest.mark.parametrize("layer", EXACT, indirect=True)
def test_any_number_of_threads_gives_the_same_bits(layer, name):
    """Parameters, predictions and figures after three epochs on 1, 2 and 4 threads, more than there may be cores."""
    sizes, batch_size = NETS[name]
    found = run(layer, BITS, sizes, batch_size)
    assert len(found) == 3
    assert len(set(found)) == 1


# -- fewer cores, or fewer threads, than workers

CROWDED = """
sizes = 64, 64, 10
X, y = data(sizes, 3200)
nn.set_num_threads(4)
found = []
for most in (1, 10**9):  # a region for each step, one for all
    always(True, most)
    model = net(sizes)
    began = time.monotonic()
    model.fit(X, y, 32, 2, verbose=0)
    found.append(time.monotonic() - began)
assert entered.count("steps") == 2 * 100 + 2
print(*found)
"""


@every_layer
def test_more_workers_than_cores(layer):
    """Four workers on two cores or on one finish 200 steps of 20 us, however often they meet."""
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else [0]
    for count in {1, min(2, len(cores))}:
        pin = f"os.sched_setaffinity(0, {cores[:count]})\n" if hasattr(os, "sched_setaffinity") else ""
        for seconds in map(float, run(layer, pin + CROWDED)):
            assert seconds < 30


FEWER = """
sizes, granted = (64, 64, 10), int(sys.argv[1])
X, y = data(sizes, 300)
nn.set_num_threads(3)
always(False)
expected = results(net(sizes), X, y, 48)
workers = []

def run(loop, *arguments):
    shares, steps = arguments[2], arguments[6]
    workers.append(shares.shape[1] - 2 if loop is engine.run_parallel else len(steps))
    numba.set_num_threads(granted)
    loop(*arguments)

engine.run = run  # in place of the engine's, which would grant as many threads as there are workers
always(True)
assert results(net(sizes), X, y, 48) == expected
assert set(workers) == {3} and {"steps", "batches"} == set(entered)
print("done")
"""


@pytest.mark.parametrize("granted", [1, 2, 4])
@every_layer
def test_workers_without_a_thread_of_their_own(layer, granted):
    """Tables for three workers, but one thread, which is all of them in turn: it finishes, with the right result."""
    assert run(layer, FEWER, granted) == ["done"]
