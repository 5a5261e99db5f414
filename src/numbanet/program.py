"""A program: a plan on a device. The only caller of kernels.

It holds the workspace and the op table with the addresses of the kernels, binds outside arrays, and runs steps.
"""

from __future__ import annotations

import threading

import numpy as np

from numbanet.kernels import BATCH_SIZE, SAMPLES, STEP_FIELDS
from numbanet.pace import Pace

# Multiply-adds of a step from which several threads are tried, about 100 us of work: below that they never gain.
PARALLEL_COST = 2_000_000


class Program:
    """A plan bound to a device, a dtype and an array of parameters.

    `step` is the step record (see numbanet.kernels); whoever counts steps across programs hands in a shared one.
    """

    def __init__(self, plan, device, dtype, theta, step=None):
        self.plan, self.device, self.theta = plan, device, theta
        self.work = device.zeros(plan.workspace, dtype)
        self.step = np.zeros(STEP_FIELDS, np.int64) if step is None else step
        addresses = {op.name: device.address(op.name, dtype) for op in plan.ops}
        self._ops = plan.table(addresses)
        self._tasks, self._phases = plan.tasks()
        self._places = plan.outside()
        self.lock = threading.Lock()  # workspace and bindings serve one epoch at a time
        self._bound = {}  # keeps the arrays alive whose addresses the table holds
        self.pace = Pace(plan.cost >= PARALLEL_COST)
        self.scores = np.zeros((plan.batch_size, max(1, plan.columns)))
        if plan.columns:
            self.bind("scores", self.scores)

    def bind(self, name, array):
        """Put an outside array, C-contiguous and two-dimensional, into the table."""
        for row, column in self._places[name]:
            self._ops[row, column : column + 3] = array.ctypes.data, *array.shape
        self._bound[name] = array

    def wants(self, name):
        """Does the plan read or write an outside array of this name?"""
        return name in self._places

    def start(self, samples, batch_size):
        """Set the epoch's number of samples and batch size (at most the plan's)."""
        self.step[BATCH_SIZE], self.step[SAMPLES] = batch_size, samples
        self.scores[:] = 0

    def run(self, first, last, parallel=False):
        """Run the epoch's batches from `first` to `last`, on one thread or several: the same bits."""
        handle = self.device.handle
        theta, work = handle(self.theta), handle(self.work)
        self.device.run(parallel, self._ops, self._tasks, self._phases, theta, work, self.step, first, last)

    def totals(self):
        """Sums of the loss and the metrics over all rows since `start`."""
        return self.scores.sum(axis=0)

    def read(self, buffer):
        """A copy of a buffer's rows."""
        rows = self.work[buffer.offset : buffer.offset + buffer.rows * buffer.stride]
        return rows.reshape(buffer.rows, buffer.stride)[:, : buffer.width].copy()
