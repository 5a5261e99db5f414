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
from numbanet.builder import Builder, planned
from numbanet.graph import Parameter
from numbanet.kernels import PANEL
from numbanet.kernels.function import Function
from numbanet.plan import Chain, Outside, Phase, Plan, Scratch
from numbanet.planner import columns_chain, features_chain
from numbanet.program import Program

DTYPES = ["float32", "float64"]
DEVICES = ["cpu", "cuda"]

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


def need(device):
    """Where there is no such device, asv skips the benchmark."""
    if device == "cuda" and numba.config.ENABLE_CUDASIM:
        raise NotImplementedError("Numba's simulator is not measured")
    try:
        kernels.load(device)
    except RuntimeError as problem:
        raise NotImplementedError(str(problem)) from None


def use_threads(threads, device="cpu"):
    """Set the number of threads; where there are not so many, or they are of no use, asv skips the benchmark."""
    if threads > 1 and device != "cpu":
        raise NotImplementedError(f"{threads} threads are not another way to run on {device}")
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
PASSES = {"cpu": 10, "cuda": 250}  # of the op over all its rows in one run, so that calling does not show
TOLERANCE = {"float32": 1e-5, "float64": 1e-12}  # of results on a GPU, relative to the largest

PARAMETERS = ("kernel", "bias", "parameter", "velocity", "mean", "variance", "accumulated")  # operands in theta
PARAMETERS += ("accumulator", "gamma", "beta", "moving_mean", "moving_variance")
SCRATCH = ("gradient", "total", "dkernel", "dbias", "dgamma", "dbeta")  # in a worker's memory, in panels
PANELS = ("transposed_kernel", "transposed", "kept")  # in the workspace, in panels
OUTSIDE = ("data", "order", "scores", "unweighted", "coefficients", "penalties")
SUMS = ("scores", "unweighted", "penalties")  # that a program makes itself
VECTORS = ("bias", "dbias", "norms", "factor")  # operands of one row
VECTORS += ("gamma", "dgamma", "beta", "dbeta", "moving_mean", "moving_variance")
SIZES = {"inputs": WIDTH, "units": WIDTH, "relu": 0, "columns": 0, "width": WIDTH, "at": 0, "column": 1}
FUNCTION = Function.of("softsign", lambda x: x / (1 + abs(x)), lambda x: 1 / (1 + abs(x)) ** 2)
LOSS = Function.of("square", lambda y, t: (y - t) ** 2, lambda y, t: 2 * (y - t))
SOURCES = {"function_forward": FUNCTION, "function_backward": FUNCTION, "function_loss": LOSS}
CHANGED = {"gradient_accumulate", "gradient_clip", "weigh"}  # ops that change what they are given
SIZES |= {"limit": 0.5, "l1": 0.01, "l2": 0.01, "negative_slope": 0.2, "alpha": 1.0, "delta": 0.5}
SIZES |= {"positions": 1, "epsilon": 1e-3, "momentum": 0.99, "rate": 0.5, "stddev": 0.1, "seed": 1, "stream": 1}
COEFFICIENTS = np.array([[0.01, 0.1, 0.1, 1.0, 1e-7, 0.1]])  # a row that suits every optimiser


class Ops:
    """Base of the benchmarks of ops: passes over 256 rows of 256 elements, on one thread or on all of a GPU."""

    param_names = ("op", "dtype", "device")
    repeat = REPEAT

    def setup(self, op, dtype, device):
        self.run = op_run(op, dtype, device)


@functools.cache
def op_run(name, dtype, device="cpu"):
    """A call that runs passes of an op over ROWS rows of WIDTH elements and waits for them; its results are checked."""
    need(device)
    check_op(name, dtype, device)
    run = functools.partial(OpProgram(name, dtype, device, PASSES[device]).program.run, 0, 1)
    run()  # what the host has written goes to the device with the first run
    return run


def check_op(name, dtype, device):
    """An op leaves no row of what it writes empty or not finite, and writes on a GPU what it writes on the CPU."""
    found = OpProgram(name, dtype, device).results()
    wanted = found if device == "cpu" else OpProgram(name, dtype, "cpu").results()
    for key, array in found.items():
        if (name == "weigh" and key in SUMS) or name == "step_backward":  # of a loss that was not computed; zero
            continue
        if not (np.isfinite(array).all() and array[0].any() and array[-1].any()):
            raise AssertionError(f"{name} in {dtype} leaves rows of {key} empty or not finite")
        worst = np.abs(array - wanted[key]).max() / np.abs(wanted[key]).max()
        if worst > TOLERANCE[dtype]:
            raise AssertionError(f"{name} in {dtype}: {key} on {device} is {worst:.1e} off that of the CPU")


class Large(Plan):
    """A plan of which a GPU thinks that it is worth all of its blocks, as in a large network."""

    cost = 2**40


class OpProgram:
    """An op as a program of its own, with its operands filled.

    passes: how many times a run does it, over all its rows; 0 is once, in a plan that keeps what stays in a worker's
    memory otherwise.
    """

    def __init__(self, name, dtype, device, passes=0):
        self.entry, self.device = kernels.OPS[name], kernels.load(device)
        build, theta = Builder(ROWS, self.device.geometry()), 0
        self.operands = {}
        for key in self.entry.operands:
            rows = 1 if key in VECTORS or (key, self.entry.axis) == ("spread", "features") else ROWS
            whole = Parameter(key, (rows, WIDTH), theta)
            if key in OUTSIDE:
                self.operands[key] = Outside(key)
            elif key in PARAMETERS:
                self.operands[key], theta = whole, theta + whole.size
            elif key in SCRATCH:
                self.operands[key] = Scratch(key, (PANEL,), whole.size // PANEL, build.scratch)
                build.scratch += whole.size
            elif key in PANELS:
                self.operands[key] = build.buffer((PANEL,), key, whole.size // PANEL)
            else:
                self.operands[key] = build.buffer((WIDTH,), key, rows)
        chain = self._chain(planned(name, self.operands | SIZES | {"source": SOURCES.get(name)}), build)
        chain.ops = chain.ops * (passes or 1) + ([] if passes else self._keep(build))
        columns = 2 * bool(self.entry.writes & set(SUMS))  # the loss and a metric
        given = "benchmark", ROWS, [Phase([chain])], build.buffers, build.size, theta, build.scratch
        plan = (Large if passes else Plan)(*given, columns=columns)
        self.program = Program(plan, self.device, dtype, self.device.zeros(theta, dtype))
        self.program.start(ROWS, ROWS)
        self._fill(_values(np.random.default_rng(0), name, dtype))

    def _chain(self, op, build):
        if self.entry.axis == "whole":
            return Chain(op.name, [op], "whole", 1)
        if self.entry.axis == "features":
            return features_chain(op)
        if self.entry.axis == "parameter":
            rows = 1 if {"dbias", "dgamma", "dbeta"} & set(self.operands) else ROWS
            extent = rows * WIDTH // PANEL
            return Chain(op.name, [op], "parameter", extent, extent, rows)
        if "columns" in self.entry.sizes and build.geometry.group:
            return columns_chain(op, ROWS, build.geometry)
        return Chain(op.name, [op], block=ROWS, grain=build.geometry.grain)

    def _keep(self, build):
        """Ops that copy what the op writes to a worker's memory, and for each of it where to read it."""
        self.kept = {}
        for key in self.entry.writes & set(SCRATCH):
            self.kept[key] = build.buffer((PANEL,), f"{key} kept", self.operands[key].rows)
        return [planned("gradient_keep", {"gradient": self.operands[key], "kept": at}) for key, at in self.kept.items()]

    def _rows(self, place):
        """The memory of an operand, to read and to write."""
        memory = self.program.theta if isinstance(place, Parameter) else self.program.work
        offset, rows, stride = place.operand
        offset += self.program.plan.workspace if isinstance(place, Scratch) else 0
        width = PANEL if stride == PANEL else place.width
        return memory[offset : offset + rows * stride].reshape(rows, stride)[:, :width]

    def _fill(self, values):
        """Values for all operands which the op reads; those which it only writes stay zero."""
        self.outside = self.program.sums
        for key, operand in self.operands.items():
            if isinstance(operand, Outside):
                if key not in SUMS:  # bound already
                    self.outside[key] = self.device.place(np.ascontiguousarray(values[key]))
                    self.program.bind(key, self.outside[key])
            elif key not in self.entry.writes or (self.entry.name in CHANGED and key in values):
                self._rows(operand)[:] = np.resize(values[key], self._rows(operand).shape)
        if "target" in self.operands:  # one-hot, and right, so that every row scores
            output = self._rows(self.operands["x" if "x" in self.operands else "y"])
            self._rows(self.operands["target"])[:] = np.eye(WIDTH)[output.argmax(axis=1)]

    def results(self):
        """What the op writes, by name, after one run."""
        self.program.run(0, 1)
        return {
            key: np.array(
                self.device.fetch(self.outside[key])
                if key in self.outside
                else self._rows(self.kept.get(key, self.operands[key]))
            )
            for key in self.entry.writes
        }


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
        "weights": generator.uniform(0.5, 1.5, shape),
        "kept": generator.standard_normal(shape),
        "factor": np.full(shape, 0.5),
        "squares": generator.uniform(0.5, 1.5, shape),
        "norms": generator.uniform(0.5, 1.5, shape),
        "spread": generator.uniform(0.5, 1.5, shape),
        "gamma": generator.uniform(0.5, 1.5, shape),
        "beta": 0.1 * generator.standard_normal(shape),
        "moving_mean": 0.1 * generator.standard_normal(shape),
        "moving_variance": generator.uniform(0.5, 1.5, shape),
    }
