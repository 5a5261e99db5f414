"""The batch's ops: rows of the data set into the workspace, and results out of it."""

from __future__ import annotations

from . import common

OPS = [
    "gather_rows",
    "check_rows",
    "gather_classes",
    "scatter_rows",
]


class Batch(common.Ops):
    params = (OPS, common.DTYPES, common.DEVICES)

    def time_op(self, op, dtype, device):
        self.run()
