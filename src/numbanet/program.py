"""A program: a plan on a device. The only caller of kernels.

It holds the workspace and the op table with the addresses of the kernels, binds outside arrays, and runs steps.
"""

from __future__ import annotations

import os
import threading
import weakref

import numpy as np

from numbanet.kernels import BATCH_SIZE, EACH, NOT_FINITE, OPERAND, SAMPLES, SCRATCH, STEP_FIELDS, WORKER
from numbanet.pace import Pace

# Bytes between rows that make the 16 of a tile share one set of a first-level cache, where they drive each other out:
# rows of 1024 through 1024-128-10 take twice as long (of 512, two sets, no longer).
SAME_SETS = 4096

_programs = weakref.WeakSet()


def _after_fork():
    """A lock that another thread held when this process was forked would never be released here."""
    for program in list(_programs):
        program.lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def new_steps(device):
    """Step records, one a worker."""
    steps = np.zeros((device.most_workers(), STEP_FIELDS), np.int64)
    steps[:, WORKER] = np.arange(len(steps))
    return steps


def lies_ready(samples, dtype):
    """Can products read these samples where they lie? Dense rows of their dtype, not in the same few cache sets."""
    row, element = samples.strides
    dense = element == samples.itemsize and row >= samples.shape[1] * element
    return samples.dtype == dtype and dense and row % SAME_SETS != 0


class Program:
    """A plan bound to a device, a dtype and an array of parameters.

    `steps` are the step records (see numbanet.kernels); whoever counts steps across programs hands in shared ones.
    """

    def __init__(self, plan, device, dtype, theta, steps=None):
        self.plan, self.device, self.dtype, self.theta = plan, device, dtype, theta
        self.steps = new_steps(device) if steps is None else steps
        spaces = len(self.steps) if plan.independent else 1
        self.work = device.zeros(plan.workspace * spaces + plan.scratch * len(self.steps), dtype)
        self._apart = plan.workspace * self.work.itemsize
        addresses = {op.name: device.address(op.name, dtype) for op in plan.ops if op.name not in device.FAMILIES}
        self._ops = plan.table(addresses)
        self._board = np.zeros((2 * len(self.steps), device.BOARD_WIDTH), np.int64)
        self._tables = {}  # workers -> tables of tasks and shares
        self._places = plan.outside()
        self.lock = threading.Lock()  # workspace and bindings serve one epoch at a time
        _programs.add(self)
        self._bound = {}  # keeps the arrays alive whose addresses the table holds
        self.pace = Pace(plan.cost, plan.independent)
        self.scores = None

    def bind(self, name, array):
        """Put an outside array of two dimensions and a dtype of DTYPES into the table, if the plan has use for it."""
        if name not in self._places:
            return
        strides = [stride // array.itemsize for stride in array.strides]
        for row, column in self._places[name]:
            self._ops[row, column : column + OPERAND] = array.ctypes.data, len(array), *strides
            op = self.plan.ops[row]
            if op.name in self.device.FAMILIES and op.operands["data"].name == name:
                self._ops[row, 0] = self.device.address(op.name, self.dtype, array.dtype.name)
        self._bound[name] = array

    def start(self, samples, batch_size):
        """Set the epoch's number of samples and batch size (at most the plan's)."""
        self.steps[:, BATCH_SIZE], self.steps[:, SAMPLES], self.steps[:, NOT_FINITE] = batch_size, samples, 0
        self.steps[:, SCRATCH], self.steps[:, EACH] = self.plan.scratch, self.plan.independent
        if self.plan.columns:
            rows = samples if self.plan.independent else batch_size
            if self.scores is None or len(self.scores) != rows:
                self.scores = np.zeros((rows, self.plan.columns))
                self.bind("scores", self.scores)
            self.scores[:] = 0

    def run(self, first, last, parallel=False):
        """Run the epoch's batches from `first` to `last`, on one thread or several: the same bits."""
        device, handle = self.device, self.device.handle
        workers = device.get_num_threads() if parallel else 1
        loop = device.run_serial
        steps = self.steps[:workers]
        if workers > 1:
            loop = device.run_batches if self.plan.independent else device.run_parallel
        tasks, shares = self._tables_for(1 if self.plan.independent else workers)
        theta, work = handle(self.theta), handle(self.work)
        device.run(loop, self._ops, tasks, shares, theta, work, self._apart, steps, self._board, first, last)

    def _tables_for(self, workers):
        if workers not in self._tables:
            self._tables[workers] = self.plan.tasks(workers)
        return self._tables[workers]

    def quick_tables(self, samples, predictions):
        """What the device's quick loop wants to know."""
        tasks, shares = self._tables_for(1)
        places = self._places[predictions] + self._places[samples]
        rows = [(table.ctypes.data, *table.shape) for table in (self._ops, tasks, shares, self.steps)]
        rows.append((self.theta.ctypes.data, self.work.ctypes.data, 0))
        return np.array([*rows, *((*place, 0) for place in places)], np.int64)

    @property
    def met_strange_samples(self):
        """Was there a NaN or an infinity in the samples since `start`?"""
        return bool(self.steps[:, NOT_FINITE].any())

    def totals(self):
        """Sums of the loss and the metrics over all rows since `start`."""
        return self.scores.sum(axis=0) if self.plan.columns else np.zeros(0)

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
        self._most = self.ROWS if width * self._real.itemsize % SAME_SETS else 15  # rows, less than a tile
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
