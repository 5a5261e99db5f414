"""What the benchmarks share: data and nets, a stopwatch, and every op of the catalogue as a program of its own.

Everything is seeded and in memory. Setup checks results before anything is timed. asv runs setup again before each
timed call, so whatever is costly to build is kept: a process measures one benchmark with one set of parameters.
"""

from __future__ import annotations

import functools
import time

import numba
import numpy as np

import numbanet as nn
from numbanet import kernels
from numbanet.graph import Parameter
from numbanet.kernels import PANEL
from numbanet.plan import Chain, Outside, Phase, Plan, Scratch
from numbanet.planner import Builder, planned
from numbanet.program import Program

DTYPES = ["float32", "float64"]

# Samples of a time: at least 10 calls, then until 100 or a second.
REPEAT = (10, 100, 1.0)


# -- data and nets


def blobs(samples, features, classes, seed=0):
    """Samples around one centre a class, the centres in the unit cube: float32 rows and integer labels."""
    generator = np.random.default_rng(seed)
    centres = generator.random((classes, features), np.float32)
    y = generator.integers(0, classes, samples)
    X = generator.standard_normal((samples, features), np.float32)
    X *= 0.1
    X += centres[y]
    return X, y


def net(sizes, seed=0):
    """A compiled classifier of dense layers, relu inside, softmax and cross entropy at the end, plain SGD at 0.01."""
    hidden = [nn.Dense(units, activation="relu") for units in sizes[1:-1]]
    layers = [nn.Input(sizes[0]), *hidden, nn.Dense(sizes[-1], activation="softmax")]
    model = nn.Sequential(layers, seed=seed)
    model.compile(nn.SGD(0.01), "cross_entropy")
    return model


def check_learning(history):
    """The losses of a fit are finite, and the last is below the first."""
    losses = history.history["loss"]
    if not (np.isfinite(losses).all() and losses[-1] < losses[0]):
        raise AssertionError(f"training does not learn: losses {losses}")


def use_threads(threads):
    """Set the number of threads; where there are not so many, asv skips the benchmark."""
    if threads > numba.config.NUMBA_NUM_THREADS:
        raise NotImplementedError(f"{threads} threads, but Numba was started with {numba.config.NUMBA_NUM_THREADS}")
    nn.set_num_threads(threads)


def best(call, seconds=0.3, least=3):
    """Seconds of the fastest of many calls: at least `least`, until `seconds` have passed."""
    fastest, calls, begin = float("inf"), 0, time.perf_counter()
    while calls < least or time.perf_counter() - begin < seconds:
        began = time.perf_counter()
        call()
        fastest = min(fastest, time.perf_counter() - began)
        calls += 1
    return fastest


# -- ops one by one: the real kernels, through a plan of one chain

ROWS = WIDTH = 256
PASSES = 10  # of the op over all its rows in one call of the engine, so that calling does not show

PARAMETERS = ("kernel", "bias", "parameter", "velocity", "mean", "variance")  # operands in theta
SCRATCH = ("gradient", "total", "dkernel", "dbias")  # in a worker's memory, in panels
PANELS = ("transposed_kernel", "transposed", "kept")  # in the workspace, in panels
OUTSIDE = ("data", "order", "scores", "coefficients")
VECTORS = ("bias", "dbias")  # operands of one row
SIZES = {"inputs": WIDTH, "units": WIDTH, "relu": 0, "columns": 0, "width": WIDTH, "at": 0, "column": 1}
COEFFICIENTS = np.array([[0.01, 0.1, 0.1, 1.0, 1e-7]])  # a row that suits every optimiser


class Ops:
    """Base of the benchmarks of ops: PASSES passes over 256 rows of 256 elements, on one thread."""

    param_names = ("op", "dtype")
    repeat = REPEAT

    def setup(self, op, dtype):
        self.run = op_run(op, dtype)


@functools.cache
def op_run(name, dtype):
    """A call that runs an op PASSES times over ROWS rows of WIDTH elements, on one thread; its results are checked."""
    entry = kernels.OPS[name]
    build, operands, theta, scratch = Builder(ROWS), {}, 0, 0
    for key in entry.operands:
        rows = 1 if key in VECTORS else ROWS
        whole = Parameter(key, (rows, WIDTH), theta)
        if key in OUTSIDE:
            operands[key] = Outside(key)
        elif key in PARAMETERS:
            operands[key], theta = whole, theta + whole.size
        elif key in SCRATCH:
            operands[key] = Scratch(key, (PANEL,), whole.size // PANEL, scratch)
            scratch += whole.size
        elif key in PANELS:
            operands[key] = build.buffer((PANEL,), key, whole.size // PANEL)
        else:
            operands[key] = build.buffer((WIDTH,), key, rows)
    columns = ("scores" in operands) + ("column" in entry.sizes)
    chain = Chain(name, [planned(name, operands | SIZES)] * PASSES, block=ROWS)
    if entry.axis == "parameter":
        rows = 1 if set(VECTORS) & set(operands) else ROWS
        extent = rows * WIDTH // PANEL
        chain = Chain(name, chain.ops, "parameter", extent, extent, rows)
    plan = Plan("benchmark", ROWS, [Phase([chain])], build.buffers, build.size, theta, scratch, columns=columns)
    device = kernels.load("cpu")
    program = Program(plan, device, dtype, device.zeros(theta, dtype))
    program.start(ROWS, ROWS)
    arrays = _fill(program, name, operands, dtype)
    program.run(0, 1)
    for key in entry.writes:
        array = arrays[key]
        if not (np.isfinite(array).all() and array[0].any() and array[-1].any()):
            raise AssertionError(f"{name} in {dtype} leaves rows of {key} empty or not finite")
    return functools.partial(program.run, 0, 1)


def _fill(program, name, operands, dtype):
    """Views of all operands by name; those which the op reads are filled, those which it only writes stay zero."""
    generator, entry = np.random.default_rng(0), kernels.OPS[name]
    values = _values(generator, name, dtype)
    arrays = {}
    for key, operand in operands.items():
        if isinstance(operand, Outside):
            arrays[key] = program.scores if key == "scores" else values[key]
            if key != "scores":  # bound already
                program.bind(key, arrays[key])
            continue
        memory = program.theta if isinstance(operand, Parameter) else program.work
        offset, rows, stride = operand.operand
        offset += program.plan.workspace if isinstance(operand, Scratch) else 0
        width = PANEL if stride == PANEL else operand.width
        arrays[key] = memory[offset : offset + rows * stride].reshape(rows, stride)[:, :width]
        if key not in entry.writes:
            arrays[key][:] = np.resize(values[key], arrays[key].shape)
    if "target" in arrays:  # one-hot, and right, so that every row scores
        output = arrays["x" if "x" in arrays else "y"]
        arrays["target"][:] = np.eye(WIDTH)[output.argmax(axis=1)]
    return arrays


def _values(generator, name, dtype):
    """Values for every operand that some op reads."""
    shape = (ROWS, WIDTH)
    signed = name.endswith("_backward")  # y: an activation's output of either sign, or for a loss a probability
    labels = generator.integers(0, WIDTH, (ROWS, 1))
    return {
        "x": generator.standard_normal(shape),
        "y": generator.uniform(-0.95 if signed else 0.05, 0.95, shape),
        "dy": generator.standard_normal(shape),
        "gradient": generator.standard_normal(shape),
        "kernel": 0.1 * generator.standard_normal(shape),
        "transposed_kernel": 0.1 * generator.standard_normal(shape),
        "parameter": generator.standard_normal(shape),
        "bias": 0.1 * generator.standard_normal(shape),
        "target": np.zeros(shape),  # settled when the rest is known
        "data": labels if name == "gather_classes" else generator.standard_normal(shape).astype(dtype),
        "order": generator.permutation(ROWS)[:, None],
        "coefficients": COEFFICIENTS,
    }
