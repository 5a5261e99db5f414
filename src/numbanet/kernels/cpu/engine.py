"""The engine: the loops which walk a program's tables. One compiled call runs any number of steps.

    ops     one row an op (see numbanet.kernels)
    tasks   first op, last op, first, last, is it over the batch?    one worker's piece: some ops on some rows
    phases  first task, last task                                    tasks of a phase may run at the same time

Neither loop knows a network, a layer or a dtype, so no architecture ever compiles them again.
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

from numbanet.kernels import BATCH, BATCH_SIZE, ROWS, SAMPLES, START, UPDATE
from numbanet.kernels.jit import JIT, loop, registered, scalar

OP_BEGIN, OP_END, FIRST, LAST, ON_BATCH = range(5)
X86 = platform.machine().lower() in ("x86_64", "amd64")
FLUSH = 0x8040  # MXCSR: flush to zero, denormals are zero. Denormals made every step 3 to 8 times slower.
BYTES = ir.IntType(8).as_pointer()


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


if JIT:
    call, flush_denormals, restore_denormals = _call, _flush_denormals, _restore_denormals
else:

    def call(address, row, theta, work, step, first, last):
        registered(address)(row, theta, work, step, first, last)

    def flush_denormals():
        return 0

    def restore_denormals(old):
        pass


@scalar
def _begin(step, batch):
    step[BATCH] = batch
    step[START] = batch * step[BATCH_SIZE]
    step[ROWS] = min(step[BATCH_SIZE], step[SAMPLES] - step[START])


@scalar
def _task(ops, task, theta, work, step):
    """Run the ops of a task; rows beyond a short last batch are left out."""
    first, last = task[FIRST], task[LAST]
    if task[ON_BATCH] != 0:
        last = min(last, step[ROWS])
    if first < last:
        old = flush_denormals()
        for k in range(task[OP_BEGIN], task[OP_END]):
            call(ops[k, 0], ops[k], theta, work, step, first, last)
        restore_denormals(old)


SIGNATURE = "void(i8[:,::1], i8[:,::1], i8[:,::1], intp, intp, i8[::1], i8, i8)"


@loop(SIGNATURE)
def run_serial(ops, tasks, phases, theta, work, step, first, last):
    """Steps from batch `first` to batch `last`, on the calling thread."""
    for batch in range(first, last):
        _begin(step, batch)
        for t in range(tasks.shape[0]):
            _task(ops, tasks[t], theta, work, step)
        step[UPDATE] += 1


@loop(SIGNATURE, parallel=True)
def run_parallel(ops, tasks, phases, theta, work, step, first, last):
    """The same, the tasks of a phase shared among the threads: the same bits, because tasks are cut by the plan."""
    for batch in range(first, last):
        _begin(step, batch)
        for p in range(phases.shape[0]):
            for t in prange(phases[p, 0], phases[p, 1]):
                _task(ops, tasks[t], theta, work, step)
        step[UPDATE] += 1


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


def run(parallel, *arguments):
    """Run steps (see run_serial), in parallel if that is wanted and this process can."""
    threads = get_num_threads()
    if not JIT:
        with np.errstate(all="ignore"):  # compiled arithmetic does not warn either
            run_serial(*arguments)
        return
    if not parallel or threads == 1 or _forked:
        run_serial(*arguments)
        return
    with _parallel:
        before = numba.get_num_threads()
        numba.set_num_threads(threads)
        try:
            run_parallel(*arguments)
        finally:
            numba.set_num_threads(before)
