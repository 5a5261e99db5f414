"""Losses with their gradients, and metrics."""

from __future__ import annotations

from . import common

OPS = [
    "half_squared_error",
    "mse",
    "cross_entropy",
    "binary_cross_entropy",
    "softmax_cross_entropy",
    "sigmoid_binary_cross_entropy",
    "accuracy",
    "binary_accuracy",
    "mean_squared_error",
    "mean_absolute_error",
]


class Loss:
    """common.PASSES passes of an op over 256 rows of 256 elements, on one thread."""

    params = (OPS, common.DTYPES)
    param_names = ("op", "dtype")
    repeat = common.REPEAT

    def setup(self, op, dtype):
        self.run = common.op_run(op, dtype)

    def time_op(self, op, dtype):
        self.run()
