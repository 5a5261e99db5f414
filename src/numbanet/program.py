"""A program: a plan on a device. The only caller of kernels.

It holds the workspace and the op table with the addresses of the kernels, binds outside arrays, and runs steps.
"""

from __future__ import annotations

import os
import threading
import weakref

import numpy as np

from numbanet import functions
from numbanet.kernels import (
    BATCH_SIZE,
    EACH,
    NOT_FINITE,
    OPERAND,
    PANEL,
    PERIOD,
    SAMPLES,
    SCRATCH,
    STEP_FIELDS,
    WORKER,
)
from numbanet.pace import Pace
from numbanet.planner import Goal, build_plan

SMALL = 2**20  # bytes of an array whose place on a device is kept for the next

_programs = weakref.WeakSet()


def _after_fork():
    """A lock that another thread held when this process was forked would never be released here."""
    for program in list(_programs):
        program.lock, program.holder = threading.Lock(), None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def compile_functions(graph, loss, device, dtype):
    """Compile users' own functions now: what is wrong with them is to be said before anything has changed."""
    mode, goal = "predict" if loss is None else "gradient", Goal(loss)
    if functions.used([*graph.layers, goal]):
        for op in build_plan(graph, mode, 1, goal=goal, geometry=device.geometry()).ops:
            if op.source is not None:
                device.address(op.name, dtype, op.source)


def new_steps(device):
    """Step records, one a worker."""
    steps = np.zeros((device.most_workers(), STEP_FIELDS), np.int64)
    steps[:, WORKER] = np.arange(len(steps))
    return steps


def total(sums):
    """Sums of the loss, penalties included, and the metrics, of what kernels have added to `sums`."""
    totals = sums["scores"].sum(axis=0)
    if "penalties" in sums:
        totals[0] += sums["penalties"].sum()
    return totals


class Program:
    """A plan bound to a device, a dtype and an array of parameters.

    `steps` are the step records (see numbanet.kernels); whoever counts steps across programs hands in shared ones.
    """

    def __init__(self, plan, device, dtype, theta, steps=None):
        """theta: the device's memory of the parameters."""
        self.plan, self.device, self.dtype = plan, device, dtype
        self.steps = new_steps(device) if steps is None else steps
        spaces = len(self.steps) if plan.independent and device.BATCHES_AT_ONCE else 1
        self._theta, self._work = theta, device.zeros(plan.workspace * spaces + plan.scratch * len(self.steps), dtype)
        families = device.FAMILIES  # their kernels are known when their data are
        self._ops = plan.table(lambda op: 0 if op.name in families else device.address(op.name, dtype, op.source))
        self._places = plan.outside()
        self._engine = device.Engine(
            self._ops,
            plan.tasks,
            theta,
            self._work,
            self.steps,
            cost=plan.cost,
            apart=plan.workspace,
            independent=plan.independent,
        )
        self.lock = threading.Lock()  # workspace and bindings serve one epoch at a time
        self.holder = None  # the thread whose epoch that is
        _programs.add(self)
        self._bound = {}  # keeps the arrays alive whose addresses the table holds
        self._placed = {}  # small arrays that `bind` has placed, for the next of the same shape
        self.pace = Pace(plan.cost, plan.independent and device.BATCHES_AT_ONCE)
        self.sums = {}  # outside arrays that kernels add to, by name

    @property
    def theta(self):
        """The parameters, for the host to read and to write."""
        return self.device.host(self._theta)

    @property
    def work(self):
        """The workspace, for the host to read and to write."""
        return self.device.host(self._work)

    def bind(self, name, array):
        """Put an outside array of two dimensions and a dtype of DTYPES into the table, if the plan has use for it."""
        if name not in self._places:
            return
        if isinstance(array, np.ndarray):
            given, array = array, self.device.place(array, self._placed.get(name))
            if array is not given and array.nbytes <= SMALL:
                self._placed[name] = array
        strides = [stride // array.dtype.itemsize for stride in array.strides]
        for row, column in self._places[name]:
            self._ops[row, column : column + OPERAND] = self.device.start_of(array), len(array), *strides
            op = self.plan.ops[row]
            if op.name in self.device.FAMILIES and op.operands["data"].name == name:
                self._ops[row, 0] = self.device.address(op.name, self.dtype, array.dtype.name)
        self._bound[name] = array

    def trains(self, theta):
        """Is that the memory of the parameters?"""
        return theta is self._theta

    def release(self):
        """Let go of outside arrays: they may be large, and are the user's."""
        self._bound.clear()

    def start(self, samples, batch_size):
        """Set the epoch's number of samples and batch size (at most the plan's)."""
        self.steps[:, BATCH_SIZE], self.steps[:, SAMPLES], self.steps[:, NOT_FINITE] = batch_size, samples, 0
        self.steps[:, SCRATCH], self.steps[:, EACH] = self.plan.scratch, self.plan.independent
        self.steps[:, PERIOD] = self.plan.period
        if self.plan.columns:
            rows = samples if self.plan.independent else batch_size
            self._zeros("scores", (rows, self.plan.columns))
            self._zeros("unweighted", (rows, 1))
            self._zeros("penalties", (self.plan.theta // PANEL, 1))

    def _zeros(self, name, shape):
        """An outside array of zeros that kernels add to, if the plan has use for it."""
        if name not in self._places:
            return
        if name not in self.sums or tuple(self.sums[name].shape) != shape:
            self.sums[name] = self.device.empty(shape, np.float64)
            self.bind(name, self.sums[name])
        self.device.clear(self.sums[name])

    def run(self, first, last, parallel=False):
        """Run the epoch's batches from `first` to `last`; parallel: in the device's other way, with the same bits.

        On the CPU that is several threads instead of one.
        """
        self._engine.run(first, last, parallel)

    def quick_tables(self, samples, predictions):
        """What the device's quick loop wants to know."""
        tasks, shares = self._engine.tables(1)
        places = self._places[predictions] + self._places[samples]
        rows = [(table.ctypes.data, *table.shape) for table in (self._ops, tasks, shares, self.steps)]
        rows.append((self.theta.ctypes.data, self.work.ctypes.data, 0))
        return np.array([*rows, *((*place, 0) for place in places)], np.int64)

    @property
    def met_strange_samples(self):
        """Was there a NaN or an infinity in the samples since `start`?"""
        return bool(self.steps[:, NOT_FINITE].any())

    def totals(self):
        """Sums of the loss, penalties included, and the metrics over all rows since `start`."""
        return total(self.fetched()) if self.plan.columns else np.zeros(0)

    def fetched(self):
        """What `totals` adds up, by name; on the CPU no copies."""
        return {name: self.device.fetch(self.sums[name]) for name in ("scores", "penalties") if name in self.sums}

    def read(self, buffer):
        """A copy of a buffer's rows."""
        rows = self.work[buffer.offset : buffer.offset + buffer.rows * buffer.stride]
        return rows.reshape(buffer.rows, buffer.stride)[:, : buffer.width].copy()


class Quick:
    """Predictions for a few rows of the right dtype, with all that can be prepared prepared: a call costs 2 us."""

    ROWS = 64

    def __init__(self, program, samples, width, shape):
        """program: of a predict plan of at least ROWS rows. samples: their name; width: their elements; shape: of one
        prediction."""
        self._program, self._width, self._shape = program, width, shape
        self._real = np.dtype(program.dtype)
        self._outputs = int(np.prod(shape))
        apart = width * self._real.itemsize % program.device.SAME_SETS != 0
        self._most = self.ROWS if apart else 15  # rows, less than a tile
        self._loop = program.device.quick[program.dtype].ready()
        program.bind(samples, np.empty((self.ROWS, width), self._real))
        program.bind("predictions", np.zeros((self.ROWS, self._outputs), self._real))
        program.bind("order", np.arange(self.ROWS)[:, None])
        program.start(self.ROWS, self.ROWS)
        self._tables = program.quick_tables(samples, "predictions")

    def __call__(self, X):
        """Predictions, or None if X needs to be looked at."""
        if X.dtype != self._real or X.ndim != 2 or not X.flags.c_contiguous:
            return None
        rows, width = X.shape
        if width != self._width or not 0 < rows <= self._most:
            return None
        predictions = np.empty((rows, self._outputs), self._real)
        with self._program.lock:
            strange = self._loop(self._tables, X, predictions)
        if strange:
            return None
        return predictions if len(self._shape) == 1 else predictions.reshape(rows, *self._shape)
