"""A thread block: who a thread is, how its threads meet, and what they have in common.

The threads of a block are numbered from 0. LANES of them in a row form a group, which takes a row of a matrix.
"""

from __future__ import annotations

import threading

import numpy as np

from numbanet.kernels.cuda.launch import GROUPS, LANES, SHARED, THREADS
from numbanet.kernels.cuda.memory import quotient, remainder
from numbanet.kernels.cuda.target import SIMULATED, cuda, intrinsic, overload, piece, types

if SIMULATED:

    def thread():
        return threading.current_thread().threadIdx.x

    def this_block():
        return threading.current_thread().blockIdx.x

    def meet():
        threading.current_thread().syncthreads()

    def shared(like):
        manager = threading.current_thread()._manager  # of one block; setdefault, for threads come at once
        return vars(manager).setdefault("shared", np.zeros(SHARED, np.uint8)).view(like.dtype)

else:

    @piece
    def thread():
        """The number of this thread in its block"""
        return cuda.threadIdx.x

    @piece
    def this_block():
        """The number of this block in the grid"""
        return cuda.blockIdx.x

    @piece
    def meet():
        """Wait for the block's other threads; what they wrote before is seen after"""
        cuda.syncthreads()

    @intrinsic
    def _start(typingctx, array):
        def codegen(context, builder, signature, arguments):
            return context.make_array(signature.args[0])(context, builder, arguments[0]).data

        return types.CPointer(array.dtype)(array), codegen

    def shared(like):
        """The block's shared memory, as elements of a pointer's dtype"""

    @overload(shared)
    def _shared(like):
        dtype = like.dtype
        return lambda like: _start(cuda.shared.array(0, dtype, alignment=16))  # tiles read so many bytes at once


@piece
def lane():
    """The number of this thread in its group"""
    return remainder(thread(), LANES)


@piece
def group():
    """The number of this thread's group in its block"""
    return quotient(thread(), LANES)


@piece
def split(pieces):
    """(piece, part, parts): which of so many pieces of work this thread does, and which of how many equal parts of it

    With more pieces than threads, it goes on with piece + THREADS and so on. part = parts: nothing is left for it.
    """
    if pieces >= THREADS:
        return thread(), 0, 1
    parts = quotient(THREADS, pieces)
    return remainder(thread(), pieces), min(quotient(thread(), pieces), parts), parts


@piece
def group_sum(value, slots):
    """The sum of the values of a group's threads, for each of them; all threads of the block must call"""
    return _group(value, slots, True)


@piece
def group_max(value, slots):
    """The maximum of the values of a group's threads, NaN if one is; all threads of the block must call"""
    return _group(value, slots, False)


@piece
def _group(value, slots, add):
    first = thread() - lane()
    slots[thread()] = value
    meet()
    result = slots[first]
    for k in range(first + 1, first + LANES):
        other = slots[k]
        if add:
            result += other
        elif other > result or other != other:
            result = other
    meet()
    return result


__all__ = [
    "GROUPS",
    "LANES",
    "group",
    "group_max",
    "group_sum",
    "lane",
    "meet",
    "shared",
    "split",
    "this_block",
    "thread",
]
