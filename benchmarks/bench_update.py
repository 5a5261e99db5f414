"""The optimisers' updates."""

from __future__ import annotations

from . import common

OPS = [
    "sgd_update",
    "momentum_update",
    "nesterov_update",
    "adam_update",
]


class Update:
    """common.PASSES passes of an op over 256 rows of 256 elements, on one thread."""

    params = (OPS, common.DTYPES)
    param_names = ("op", "dtype")
    repeat = common.REPEAT

    def setup(self, op, dtype):
        self.run = common.op_run(op, dtype)

    def time_op(self, op, dtype):
        self.run()
