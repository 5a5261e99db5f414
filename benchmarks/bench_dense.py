"""The dense layer's ops, forward and backward."""

from __future__ import annotations

from . import common

OPS = [
    "dense_forward",
    "dense_backward_input",
    "dense_backward_kernel",
    "dense_backward_bias",
]


class Dense(common.Ops):
    params = (OPS, common.DTYPES, common.DEVICES)

    def time_op(self, op, dtype, device):
        self.run()
