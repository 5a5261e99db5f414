"""Users' functions: an activation and a loss."""

from __future__ import annotations

from . import common

OPS = [
    "function_forward",
    "function_backward",
    "function_loss",
]


class Function(common.Ops):
    params = (OPS, common.DTYPES, common.DEVICES)

    def time_op(self, op, dtype, device):
        self.run()
