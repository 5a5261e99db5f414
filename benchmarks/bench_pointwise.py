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
    "leaky_relu_forward",
    "leaky_relu_backward",
    "elu_forward",
    "elu_backward",
    "selu_forward",
    "selu_backward",
    "gelu_forward",
    "gelu_backward",
    "softplus_forward",
    "softplus_backward",
    "softsign_forward",
    "softsign_backward",
    "swish_forward",
    "swish_backward",
    "hard_sigmoid_forward",
    "hard_sigmoid_backward",
    "step_forward",
    "step_backward",
    "softmax_forward",
    "softmax_backward",
    "log_softmax_forward",
    "log_softmax_backward",
    "copy_forward",
    "copy_backward",
    "add_forward",
]


class Pointwise(common.Ops):
    params = (OPS, common.DTYPES, common.DEVICES)

    def time_op(self, op, dtype, device):
        self.run()
