"""Activations and their slopes, and the ops that copy and add rows."""

from __future__ import annotations

from . import common

OPS = [
    "sigmoid_forward",
    "sigmoid_backward",
    "tanh_forward",
    "tanh_backward",
    "relu_forward",
    "relu_backward",
    "softmax_forward",
    "softmax_backward",
    "copy_forward",
    "copy_backward",
    "add_forward",
]


class Pointwise:
    """common.PASSES passes of an op over 256 rows of 256 elements, on one thread."""

    params = (OPS, common.DTYPES)
    param_names = ("op", "dtype")
    repeat = common.REPEAT

    def setup(self, op, dtype):
        self.run = common.op_run(op, dtype)

    def time_op(self, op, dtype):
        self.run()
