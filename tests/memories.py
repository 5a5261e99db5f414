"""Memory of our choice for kernels: operands among NaN, or between pages that must not be touched.

Kernels are called by their address on op rows made by hand.
"""

import ctypes
import mmap

import numpy as np

from numbanet.graph import Parameter, padded
from numbanet.kernels import OPERAND, OPS, PANEL, ROWS, SIZES, STEP_FIELDS, cpu
from numbanet.kernels.jit import JIT, registered

GAP = 32  # elements of NaN between operands
SIGNATURE = ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * 4, *[ctypes.c_ssize_t] * 2)


def call(name, dtype, op, memories, rows, first, last, source=None):
    """Run a kernel on theta and the workspace; rows: of the batch."""
    step = np.zeros(STEP_FIELDS, np.int64)
    step[ROWS] = rows
    address, arrays = cpu.address(name, dtype, source), [op, *memories, step]
    if JIT:
        SIGNATURE(address)(*(array.ctypes.data for array in arrays), first, last)
    else:
        with np.errstate(all="ignore"):
            registered(address)(*arrays, first, last)


def op_row(name, operands, **sizes):
    """A row of an op table; operands: (where, rows, stride) in the catalogue's order; sizes not given are 0."""
    entry = OPS[name]
    row = np.zeros(1 + SIZES + OPERAND * len(entry.operands), np.int64)
    row[1 : 1 + len(entry.sizes)] = [sizes.get(key, 0) for key in entry.sizes]
    for k, operand in enumerate(operands):
        at = 1 + SIZES + OPERAND * k
        row[at : at + OPERAND] = *operand, 0
    return row


class Memory:
    """One array that serves as theta and as workspace, with operands in it and NaN around them."""

    def __init__(self, dtype):
        self.dtype, self.parts, self.size = dtype, [], GAP

    def rows(self, values, stride=None):
        """Put a matrix, its padding zero; returns the operand."""
        stride = padded(values.shape[1]) if stride is None else stride
        matrix = np.zeros((len(values), stride), self.dtype)
        matrix[:, : values.shape[1]] = values
        return self._put(matrix.ravel(), len(values), stride)

    def panels(self, values):
        """Put a matrix in panels; returns the operand."""
        place = Parameter("", values.shape, 0)
        flat = np.zeros(place.size, self.dtype)
        place.pack(flat, values)
        return self._put(flat, place.size // PANEL, PANEL)

    def _put(self, flat, rows, stride):
        where = self.size
        self.parts.append((where, flat))
        self.size += len(flat) + GAP
        return where, rows, stride

    def filled(self):
        """The memory as an array."""
        memory = np.full(self.size, np.nan, self.dtype)
        for where, flat in self.parts:
            memory[where : where + len(flat)] = flat
        return memory

    def alone(self, memory, operand):
        """A copy of an operand's rows; fails if anything but the operands' places was written to."""
        inside = np.zeros(self.size, bool)
        for where, flat in self.parts:
            inside[where : where + len(flat)] = True
        assert np.isnan(memory[~inside]).all(), "something was written outside of the operands"
        where, rows, stride = operand
        return memory[where : where + rows * stride].reshape(rows, stride).copy()


class Guarded:
    """Arrays that end exactly where an inaccessible page begins, or begin exactly where one ends."""

    def __init__(self, at_end):
        self.at_end, self._kept = at_end, []
        self._protect = ctypes.CDLL(None, use_errno=True).mprotect
        self._protect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]

    def zeros(self, count, dtype):
        """A flat array of zeros between two guards."""
        page, dtype = mmap.PAGESIZE, np.dtype(dtype)
        size = count * dtype.itemsize
        inner = -(-size // page) * page
        memory = mmap.mmap(-1, inner + 2 * page)
        start = ctypes.addressof(ctypes.c_char.from_buffer(memory))
        for guard in (start, start + page + inner):
            assert self._protect(guard, page, 0) == 0, "mprotect"  # 0: PROT_NONE
        self._kept.append(memory)
        return np.frombuffer(memory, dtype, count, page + (inner - size if self.at_end else 0))

    def copy(self, values, dtype=None):
        """An array's values between two guards."""
        values = np.asarray(values, dtype)
        array = self.zeros(values.size, values.dtype).reshape(values.shape)
        array[...] = values
        return array


class Apart(Memory):
    """Operands in guarded memory of their own each; where: elements from the first one."""

    def __init__(self, dtype, guarded):
        super().__init__(dtype)
        self.guarded, self.arrays = guarded, {}

    def _put(self, flat, rows, stride):
        array = self.guarded.copy(flat)
        self.first = next(iter(self.arrays.values()), array)
        where, rest = divmod(array.ctypes.data - self.first.ctypes.data, array.itemsize)
        assert rest == 0
        self.arrays[where] = array
        return where, rows, stride

    def filled(self):
        return self.first

    def alone(self, memory, operand):
        where, rows, stride = operand
        return self.arrays[where].reshape(rows, stride)
