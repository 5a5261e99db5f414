"""The engine: the loops which walk a program's tables. One compiled call runs any number of steps.

    ops     one row an op (see numbanet.kernels)
    tasks   first op, last op, first, last, is it over the batch?    one worker's piece: some ops on some rows
    shares  when?, first task of each worker ..., end                one row a phase: who does which of its tasks
    steps   one step record a worker
    board   where workers meet: for each worker the next task of its share, and how many tasks it has done

A parallel call is one parallel region, however many steps it runs: starting a region takes 5 us here, meeting on the
board 0.2 us. A worker does its own share, then waits, and after a while helps with the shares of others. So nobody
waits for a worker that has not started, and it does not matter how many threads the threading layer really grants.

No loop knows a network, a layer or a dtype, so no architecture ever compiles them again.
"""

from __future__ import annotations

import numbers
import os
import platform
import threading

import numba
import numpy as np
from llvmlite import ir
from numba import prange, types
from numba.core import cgutils
from numba.extending import intrinsic

from numbanet.kernels import (
    BATCH,
    BATCH_SIZE,
    EACH,
    EVERY_STEP,
    FIRST,
    FIRST_STEP,
    LAST,
    NOT_FINITE,
    ON_BATCH,
    OP_BEGIN,
    OP_END,
    PERIOD,
    ROWS,
    SAMPLES,
    SCORE,
    START,
    UPDATE,
)
from numbanet.kernels.cpu.memory import address_of, handle, table_at
from numbanet.kernels.jit import JIT, POINTERS, loop, piece, registered

X86 = platform.machine().lower() in ("x86_64", "amd64")
FLUSH = 0x8040  # MXCSR: flush to zero, denormals are zero. Denormals made every step 3 to 8 times slower.
BYTES = ir.IntType(8).as_pointer()
BOARD_WIDTH = 16  # int64 of a row of the board: two cache lines, which are fetched in pairs
MOST_TASKS = 2**32  # of a share: the board's words are round * MOST_TASKS + next task
HELP = 50  # looks at the board, about 1 us, until a waiting worker helps others
SPINS = 1000  # and until it offers its core to other threads, for whoever it waits for may need it


@intrinsic
def _call(typingctx, address, row, theta, work, step, first, last):
    """Call the kernel at an address: 16 ns."""

    def codegen(context, builder, signature, arguments):
        entry = ir.FunctionType(ir.VoidType(), [BYTES] * 4 + [ir.IntType(64)] * 2)
        row, step = (
            builder.bitcast(context.make_array(signature.args[k])(context, builder, arguments[k]).data, BYTES)
            for k in (1, 4)
        )
        theta, work = (builder.inttoptr(arguments[k], BYTES) for k in (2, 3))
        builder.call(builder.inttoptr(arguments[0], entry.as_pointer()), [row, theta, work, step, *arguments[5:]])
        return context.get_dummy_value()

    return types.void(types.int64, row, types.intp, types.intp, step, types.int64, types.int64), codegen


def _mxcsr(builder, instruction, slot):
    function = ir.FunctionType(ir.VoidType(), [BYTES])
    builder.call(
        cgutils.get_or_insert_function(builder.module, function, f"llvm.x86.sse.{instruction}"),
        [builder.bitcast(slot, BYTES)],
    )


@intrinsic
def _flush_denormals(typingctx):
    """Treat denormals as zero from here on; returns the state to restore. On other machines than x86: nothing."""

    def codegen(context, builder, signature, arguments):
        slot = cgutils.alloca_once(builder, ir.IntType(32), zfill=True)
        if X86:
            _mxcsr(builder, "stmxcsr", slot)
            old = builder.load(slot)
            builder.store(builder.or_(old, ir.Constant(ir.IntType(32), FLUSH)), slot)
            _mxcsr(builder, "ldmxcsr", slot)
            return old
        return builder.load(slot)

    return types.int32(), codegen


@intrinsic
def _restore_denormals(typingctx, old):
    def codegen(context, builder, signature, arguments):
        if X86:
            slot = cgutils.alloca_once_value(builder, arguments[0])
            _mxcsr(builder, "ldmxcsr", slot)
        return context.get_dummy_value()

    return types.void(types.int32), codegen


def _board_place(context, builder, kind, board, row):
    struct = context.make_array(kind)(context, builder, board)
    return builder.gep(struct.data, [builder.mul(row, ir.Constant(ir.IntType(64), BOARD_WIDTH))])


@intrinsic
def _atomic_load(typingctx, board, row):
    def codegen(context, builder, signature, arguments):
        return builder.load_atomic(_board_place(context, builder, signature.args[0], *arguments), "acquire", 8)

    return types.int64(board, types.int64), codegen


@intrinsic
def _atomic_add(typingctx, board, row, value):
    def codegen(context, builder, signature, arguments):
        place = _board_place(context, builder, signature.args[0], *arguments[:2])
        return builder.atomic_rmw("add", place, arguments[2], "acq_rel")

    return types.int64(board, types.int64, types.int64), codegen


@intrinsic
def _atomic_replace(typingctx, board, row, known, value):
    """Was it still `known`? Then it is `value` now."""

    def codegen(context, builder, signature, arguments):
        place = _board_place(context, builder, signature.args[0], *arguments[:2])
        result = builder.cmpxchg(place, arguments[2], arguments[3], "acq_rel", "acquire")
        return builder.extract_value(result, 1)

    return types.boolean(board, types.int64, types.int64, types.int64), codegen


@intrinsic
def _pause(typingctx):
    """Tell the core that this is a loop that waits."""

    def codegen(context, builder, signature, arguments):
        if X86:
            kind = ir.FunctionType(ir.VoidType(), [])
            builder.call(cgutils.get_or_insert_function(builder.module, kind, "llvm.x86.sse2.pause"), [])
        return context.get_dummy_value()

    return types.void(), codegen


_yield = types.ExternalFunction("sched_yield", types.int32()) if os.name == "posix" else _pause

if JIT:
    atomic_load, atomic_add, atomic_replace, pause = _atomic_load, _atomic_add, _atomic_replace, _pause

    @piece
    def offer_core():
        """Let another thread have the core"""
        _yield()

    call, flush_denormals, restore_denormals = _call, _flush_denormals, _restore_denormals
else:

    def call(address, row, theta, work, step, first, last):
        registered(address)(row, theta, work, step, first, last)

    def flush_denormals():
        return 0

    def restore_denormals(old):
        pass


@piece
def _begin(step, batch):
    step[BATCH] = batch
    step[START] = batch * step[BATCH_SIZE]
    step[ROWS] = min(step[BATCH_SIZE], step[SAMPLES] - step[START])
    step[SCORE] = step[START] * step[EACH]


@piece
def _wanted(when, step, batch, first):
    """Does a phase run in this step of a call that began with batch `first`?"""
    if when == FIRST_STEP:
        return batch == first
    return when == EVERY_STEP or (step[UPDATE] + 1) % step[PERIOD] == 0


@piece
def _share(ops, tasks, begin, end, theta, work, step):
    """Run some tasks; rows beyond a short last batch are left out."""
    for t in range(begin, end):
        task = tasks[t]
        first, last = task[FIRST], task[LAST]
        if task[ON_BATCH] != 0:
            last = min(last, step[ROWS])
        if first < last:
            for k in range(task[OP_BEGIN], task[OP_END]):
                call(ops[k, 0], ops[k], theta, work, step, first, last)


@piece
def _serially(ops, tasks, shares, theta, work, step, first, last):
    """Steps from batch `first` to batch `last`, all tasks of all workers one after the other."""
    old = flush_denormals()
    for batch in range(first, last):
        _begin(step, batch)
        for p in range(shares.shape[0]):
            if _wanted(shares[p, 0], step, batch, first):
                _share(ops, tasks, shares[p, 1], shares[p, shares.shape[1] - 1], theta, work, step)
        step[UPDATE] += 1
    restore_denormals(old)


SIGNATURE = "void(i8[:,::1], i8[:,::1], i8[:,::1], intp, intp, intp, i8[:,::1], i8[:,::1], i8, i8)"


@loop(SIGNATURE)
def run_serial(ops, tasks, shares, theta, work, apart, steps, board, first, last):
    """Steps from batch `first` to batch `last`, on the calling thread."""
    _serially(ops, tasks, shares, theta, work, steps[0], first, last)


@piece
def _claim(board, owner, meeting, size):
    """The number of a task of the owner's share that nobody has begun, or -1; the first claim opens the share"""
    while True:
        known = atomic_load(board, owner)
        taken = known - meeting * MOST_TASKS if known >= meeting * MOST_TASKS else 0
        if taken >= size:  # all are taken, or this round is long over
            return -1
        if atomic_replace(board, owner, known, meeting * MOST_TASKS + taken + 1):
            return taken


@piece
def _all_done(board, workers, count):
    """Have all workers together done so many tasks?"""
    total = 0
    for w in range(workers):
        total += atomic_load(board, workers + w)
    return total >= count


@piece
def _do_share(tables, board, meeting, phase, owner, step):
    """Do what is left of a worker's share of a phase; returns the number of tasks done"""
    ops, tasks, shares, theta, work = tables
    begin, end, count = shares[phase, 1 + owner], shares[phase, 2 + owner], 0
    task = _claim(board, owner, meeting, end - begin)
    while task >= 0:
        _share(ops, tasks, begin + task, begin + task + 1, theta, work, step)
        count += 1
        task = _claim(board, owner, meeting, end - begin)
    return count


@piece
def _help(tables, board, meeting, phase, worker, step, absent):
    """Do what is left of the shares of others; absent: only of those that have done nothing yet"""
    workers = tables[2].shape[1] - 2
    for w in range(1, workers):
        other = (worker + w) % workers
        if not absent or atomic_load(board, workers + other) == 0:
            atomic_add(board, workers + worker, _do_share(tables, board, meeting, phase, other, step))


@piece
def _work(tables, steps, board, worker, updates, first, last):
    """A worker's part of the steps from batch `first`, after so many updates, to batch `last`."""
    old = flush_denormals()
    shares, step = tables[2], steps[worker]
    workers, meeting, count = shares.shape[1] - 2, 0, 0
    for batch in range(first, last):
        _begin(step, batch)
        step[UPDATE] = updates + batch - first
        for phase in range(shares.shape[0]):
            if not _wanted(shares[phase, 0], step, batch, first):
                continue
            meeting += 1
            count += shares[phase, workers + 1] - shares[phase, 1]
            atomic_add(board, workers + worker, _do_share(tables, board, meeting, phase, worker, step))
            spins = 0
            while not _all_done(board, workers, count):
                if spins % HELP == 0:  # At first those who have not come: a thread that slept needs 5 ms to wake up,
                    _help(tables, board, meeting, phase, worker, step, spins == 0)  # 700 steps of 64-64-10. Later all.
                pause()
                spins += 1
                if spins > SPINS:
                    offer_core()
    restore_denormals(old)


@loop(SIGNATURE, parallel=True)
def run_parallel(ops, tasks, shares, theta, work, apart, steps, board, first, last):
    """The same, each phase shared among workers: the same bits, whatever their number."""
    workers = shares.shape[1] - 2
    updates = steps[0, UPDATE]
    board[:] = 0
    for w in prange(workers):
        _work((ops, tasks, shares, theta, work), steps, board, w, updates, first, last)
    steps[0, UPDATE] = updates + last - first


@loop(SIGNATURE, parallel=True)
def run_batches(ops, tasks, shares, theta, work, apart, steps, board, first, last):
    """The same for batches that do not depend on each other: every worker takes some, in a workspace of its own.

    Workspaces lie `apart` bytes from each other; the tables are those of one worker.
    """
    workers = steps.shape[0]
    for w in prange(workers):
        begin, end = first + (last - first) * w // workers, first + (last - first) * (w + 1) // workers
        _serially(ops, tasks, shares, theta, work + w * apart, steps[w], begin, end)


def _quick(dtype):
    real = getattr(types, dtype)

    @loop(
        types.int64(types.int64[:, ::1], types.Array(real, 2, "C", readonly=True), real[:, ::1]), name=f"quick_{dtype}"
    )
    def quick(tables, samples, predictions):
        """All tasks for one batch of samples, without anything to prepare; returns 1 if a sample is not finite.

        tables: address, rows and columns of the ops, tasks, shares and step; address of theta, of the workspace;
        place in the table of ops of the predictions, and the places of the samples, each as row and column
        """
        ops, tasks = table_at(tables, 0), table_at(tables, 1)
        shares, step = table_at(tables, 2), table_at(tables, 3)[0]
        theta, work = tables[4, 0], tables[4, 1]
        ops[tables[5, 0], tables[5, 1]] = address_of(predictions)
        for k in range(6, len(tables)):
            ops[tables[k, 0], tables[k, 1]] = address_of(samples)
        step[BATCH_SIZE] = step[SAMPLES] = len(samples)
        step[NOT_FINITE] = 0
        _serially(ops, tasks, shares, theta, work, step, 0, 1)
        return step[NOT_FINITE]

    return quick


quick = {dtype: _quick(dtype) for dtype in POINTERS}  # by dtype of the model and its samples

_threads = None  # None: all that Numba was started with
_parallel = threading.Lock()  # the workqueue layer aborts the process when two threads enter a parallel region
_forked = False  # an OpenMP region in a forked child kills or hangs it


def _after_fork():
    global _forked, _parallel
    _forked, _parallel = True, threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def get_num_threads() -> int:
    """Number of threads that numbanet's parallel loops use."""
    return _threads or numba.config.NUMBA_NUM_THREADS


def most_workers() -> int:
    """Number of workers that could ever be under way at once."""
    return numba.config.NUMBA_NUM_THREADS if JIT else 1


def set_num_threads(count: int) -> None:
    """Use `count` threads from now on; at most as many as Numba was started with (NUMBA_NUM_THREADS).

    Results do not depend on it: any number of threads computes the same bits.
    """
    global _threads
    most = numba.config.NUMBA_NUM_THREADS
    if isinstance(count, bool) or not isinstance(count, numbers.Integral):
        raise TypeError(f"the number of threads must be a whole number, not {count!r}")
    if not 1 <= count <= most:
        raise ValueError(
            f"{count} threads: expected 1 to {most}, which is what Numba was started with (NUMBA_NUM_THREADS)"
        )
    _threads = int(count)


def run(loop, *arguments):
    """Run steps with one of the loops above, in parallel if this process can."""
    if not JIT:
        with np.errstate(all="ignore"):  # compiled arithmetic does not warn either
            run_serial(*arguments)
        return
    if loop is run_serial or _forked:
        run_serial(*arguments)
        return
    with _parallel:
        before = numba.get_num_threads()
        numba.set_num_threads(get_num_threads())
        try:
            loop(*arguments)
        finally:
            numba.set_num_threads(before)


class Engine:
    """Runs the steps of a program. Arrays are those of the program, and may change between two runs.

    ops: the op table. tasks(workers): the tables of tasks and shares. theta, work: arrays of `memory.zeros`. steps: one
    step record a worker. cost: multiply-adds of a step. apart: elements between two workers' workspaces. independent:
    may batches be computed in any order?
    """

    def __init__(self, ops, tasks, theta, work, steps, cost, apart, independent):
        self._ops, self._tasks, self._theta, self._work, self._steps = ops, tasks, theta, work, steps
        self._apart, self._independent = apart * work.itemsize, independent
        self._board = np.zeros((2 * len(steps), BOARD_WIDTH), np.int64)
        self._tables = {}  # workers -> tables of tasks and shares

    def run(self, first, last, parallel):
        """Steps from batch `first` to batch `last`, on one thread or several."""
        workers = get_num_threads() if parallel else 1
        loop = run_serial
        if workers > 1:
            loop = run_batches if self._independent else run_parallel
        tasks, shares = self.tables(1 if self._independent else workers)
        theta, work, steps = handle(self._theta), handle(self._work), self._steps[:workers]
        run(loop, self._ops, tasks, shares, theta, work, self._apart, steps, self._board, first, last)

    def tables(self, workers):
        """Tasks and shares for so many workers."""
        if workers not in self._tables:
            self._tables[workers] = self._tasks(workers)
        return self._tables[workers]
