"""The engine: the loop which walks a program's tables on the GPU. The twin of kernels/cpu/engine.py.

    ops, tasks, shares, steps     as on the CPU; a worker is a thread block, all of whose threads run each op together
    tables                        all of them in one buffer of int64, with a header that says where each begins

There are two ways to run. In one, the blocks stay for many steps and meet after every phase: one launch. In the other,
every phase is a launch of its own and a step is a CUDA graph: blocks need not wait for each other, launches cost about
2 us each. Both compute the same bits; the pace takes whichever was faster (see numbanet.pace).

Kernels are compiled together, for a GPU loop cannot call by address at the speed of a CPU: one loop for each set of ops
and dtype. It is cached on disk, so a new architecture of the same ops compiles nothing.
"""

from __future__ import annotations

import functools
import hashlib

import numpy as np

from numbanet.kernels import (
    BATCH,
    BATCH_SIZE,
    EACH,
    EVERY_STEP,
    FIRST,
    FIRST_STEP,
    LAST,
    LAST_STEP,
    NOT_FINITE,
    ON_BATCH,
    OP_BEGIN,
    OP_END,
    PERIOD,
    ROWS,
    SAMPLES,
    SCORE,
    START,
    TASK_FIELDS,
    UPDATE,
)
from numbanet.kernels.cuda import launch
from numbanet.kernels.cuda.block import meet, this_block, thread
from numbanet.kernels.cuda.graph import Graph
from numbanet.kernels.cuda.memory import atomic_add, fence, real_at, shift, table_at
from numbanet.kernels.cuda.target import entry, launch_together, numbered, piece
from numbanet.kernels.cuda.transfer import busy, empty, fetch, send, start_of, stream

# The header: where in the buffer each table begins, how many columns it has; where theta and the workspace lie.
SIZE, OPS, OP_FIELDS, TASKS, SHARES, PHASES, SHARE_FIELDS, STEPS, STEP_FIELDS, BOARD = range(10)
THETA, THETA_SIZE, WORK, WORK_SIZE, BLOCKS = range(10, 15)
HEADER = 16

NEXT, SAME = -1, -2  # in place of a batch's number: the one after the last, and the one under way


@piece
def _begin(step, batch):
    step[BATCH] = batch
    step[START] = batch * step[BATCH_SIZE]
    step[ROWS] = min(step[BATCH_SIZE], step[SAMPLES] - step[START])
    step[SCORE] = step[START] * step[EACH]
    step[UPDATE] += 1


@piece
def _meet_all(board, blocks, meeting):
    """Wait until all blocks are here for the so-manieth time; what they wrote before is seen after"""
    meet()
    if blocks > 1:
        if thread() == 0:
            fence()
            atomic_add(board, 0, 1)
            while atomic_add(board, 0, 0) < blocks * meeting:
                pass
            fence()
        meet()


def _any_of(numbers):
    """A call of the kernel that a row of the op table names, found by halves: a chain of 50 is too deep for Numba."""
    if len(numbers) == 1:
        return numbered(numbers[0]).on_device
    middle = numbers[len(numbers) // 2]
    below, above = _any_of(numbers[: len(numbers) // 2]), _any_of(numbers[len(numbers) // 2 :])

    @piece
    def call(op, theta, work, step, first, last):
        if op[0] < middle:
            below(op, theta, work, step, first, last)
        else:
            above(op, theta, work, step, first, last)

    return call


def walker(dtype, numbers):
    """The loop for some kernels: phases begin to end of the batches first to last, among them NEXT and SAME."""
    call, real = _any_of(numbers), real_at(dtype)

    @piece
    def share(tables, phase, block, theta, work, step):
        """The block's tasks of a phase; rows beyond a short last batch are left out"""
        shares = shift(tables, tables[SHARES] + phase * tables[SHARE_FIELDS])
        for t in range(shares[1 + block], shares[2 + block]):
            task = shift(tables, tables[TASKS] + t * TASK_FIELDS)
            begin, end = task[FIRST], task[LAST]
            if task[ON_BATCH] != 0:
                end = min(end, step[ROWS])
            if begin < end:
                for k in range(task[OP_BEGIN], task[OP_END]):
                    call(shift(tables, tables[OPS] + k * tables[OP_FIELDS]), theta, work, step, begin, end)
                    meet()

    def walk(address, size, first, last, begin, end):
        tables, block = table_at(address, size), this_block()
        theta, work = real(tables[THETA], tables[THETA_SIZE]), real(tables[WORK], tables[WORK_SIZE])
        board, step = shift(tables, tables[BOARD]), shift(tables, tables[STEPS] + block * tables[STEP_FIELDS])
        several, meeting = (last - first) * (end - begin) > 1, 0
        for batch in range(first, last):
            if batch != SAME:
                meet()  # nobody reads the record of the step before any more
                if thread() == 0:
                    _begin(step, step[BATCH] + 1 if batch == NEXT else batch)
                meet()
            for phase in range(begin, end):
                when = tables[tables[SHARES] + phase * tables[SHARE_FIELDS]]
                last_step = (step[UPDATE] + 1) % step[PERIOD] == 0
                if when == EVERY_STEP or (when == FIRST_STEP and batch == first) or (when == LAST_STEP and last_step):
                    share(tables, phase, block, theta, work, step)
                    meeting += 1
                    if several:
                        _meet_all(board, tables[BLOCKS], meeting)

    return walk


SIGNATURE = "void(int64, int64, int64, int64, int64, int64)"


@functools.cache
def loop(dtype, numbers):
    """The compiled loop for some kernels."""
    kernels = [numbered(number) for number in numbers]
    names = ", ".join(kernel.name for kernel in kernels)
    name = f"walk_{dtype}_{hashlib.sha256(names.encode()).hexdigest()[:16]}"
    return entry(walker(dtype, numbers), SIGNATURE, name if all(kernel.kept for kernel in kernels) else None)


class Engine:
    """Runs the steps of a program. Arrays are those of the program, and may change between two runs.

    ops: the op table. tasks(workers): the tables of tasks and shares. theta, work: memory of `transfer.zeros`. steps:
    one step record a block. cost: multiply-adds of a step. apart, independent: for the CPU; here all blocks compute one
    batch.
    """

    def __init__(self, ops, tasks, theta, work, steps, cost, apart, independent):
        self._ops, self._theta, self._work, self._steps = ops, theta, work, steps
        self._tasks, self._shares = tasks(min(launch.blocks(cost), len(steps)))
        self._blocks = 1 + int(np.flatnonzero((np.diff(self._shares[:, 1:]) > 0).any(axis=0)).max(initial=0))
        self._tables, self._begin = self._packed()
        self._buffer = empty(self._tables.shape, np.int64)
        self._compiled = self._walk = self._graph = None  # the loop, ready to be launched, in a graph
        self._begun = None  # the first batch of a run that has not been counted

    def _packed(self):
        """All tables in one, and where each begins."""
        parts = {SIZE: np.zeros(HEADER, np.int64), OPS: self._ops, TASKS: self._tasks, SHARES: self._shares,
                 STEPS: self._steps[: self._blocks], BOARD: np.zeros(1, np.int64)}  # fmt: skip
        begins = dict(zip(parts, np.cumsum([0, *(part.size for part in parts.values())]), strict=False))
        tables = np.concatenate([part.ravel() for part in parts.values()])  # all int64: the bits of real sizes are many
        for field, begin in begins.items():
            tables[field] = begin
        for field, part in ((OP_FIELDS, self._ops), (SHARE_FIELDS, self._shares), (STEP_FIELDS, self._steps)):
            tables[field] = part.shape[1]
        tables[SIZE], tables[PHASES], tables[BLOCKS] = tables.size, len(self._shares), self._blocks
        tables[THETA_SIZE], tables[WORK_SIZE] = self._theta.array.size, self._work.array.size
        return tables, begins

    def _part(self, field, count):
        return self._tables[self._begin[field] : self._begin[field] + count]

    def run(self, first, last, parallel):
        """Steps from batch `first` to batch `last`; parallel: every phase a launch of its own."""
        with busy, launch.running():
            compiled = self._upload(first)
            launch_together(compiled, not parallel and self._blocks > 1)  # for then they meet
            self._begun, interrupt = first, None
            try:
                if parallel:
                    self._step_by_step(last - first)
                else:
                    self._launch(first, last, 0, len(self._shares))
                stream().synchronize()
            finally:  # Ctrl-C comes when waiting is over, or between two steps: what was launched is done and counts
                while self._begun is not None:
                    try:
                        self._settle()
                    except KeyboardInterrupt as another:  # once more while counting
                        interrupt = another
            if interrupt:
                raise interrupt

    def _upload(self, first):
        """Bring the tables to the GPU, for steps from batch `first` on; returns the compiled loop."""
        steps = self._steps[: self._blocks]
        self._tables[THETA], self._tables[WORK] = start_of(self._theta.lend()), start_of(self._work.lend())
        self._part(OPS, self._ops.size)[:] = self._ops.ravel()
        records = self._part(STEPS, steps.size).reshape(steps.shape)
        records[:] = steps
        records[:, BATCH], records[:, UPDATE] = first - 1, self._steps[0, UPDATE] - 1  # beginning a step adds one
        send(self._tables, self._buffer)
        compiled = loop(self._work.array.dtype.name, tuple(sorted(set(self._ops[:, 0].tolist()))))
        if self._compiled is not compiled:
            self._compiled, self._graph = compiled, None
            self._walk = launch.configured(compiled, self._blocks, stream())
        return compiled

    def _settle(self):
        """Wait, and read from the step records what the run has done."""
        steps = self._steps[: self._blocks]
        stream().synchronize()
        found = fetch(self._buffer)[self._begin[STEPS] :][: steps.size].reshape(steps.shape)
        steps[:, NOT_FINITE] |= found[:, NOT_FINITE]
        count, self._begun = found[0, BATCH] - (self._begun - 1), None
        self._steps[0, UPDATE] += count

    def _launch(self, first, last, begin, end):
        self._walk(start_of(self._buffer), self._tables.size, first, last, begin, end)

    def _step_by_step(self, count):
        """`count` steps, each a graph of one launch a phase."""
        once = [phase for phase, share in enumerate(self._shares) if share[0] == FIRST_STEP]
        each = [phase for phase in range(len(self._shares)) if phase not in once]
        for phase in once:
            self._launch(SAME, SAME + 1, phase, phase + 1)
        if self._graph is None:
            self._launch(0, 0, 0, 0)  # loads the code, which a capture must not do
            batches = [NEXT] + [SAME] * (len(each) - 1)
            launches = [
                functools.partial(self._launch, batch, batch + 1, phase, phase + 1)
                for batch, phase in zip(batches, each, strict=True)
            ]
            self._graph = Graph(stream(), launches)
        for _ in range(count):
            self._graph.launch()
