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


class Pointwise(common.Ops):
    params = (OPS, common.DTYPES, common.DEVICES)

    def time_op(self, op, dtype, device):
        self.run()
