"""Losses with their gradients, and metrics."""

from __future__ import annotations

from . import common

OPS = [
    "half_squared_error",
    "mse",
    "cross_entropy",
    "binary_cross_entropy",
    "mae",
    "huber",
    "kl_divergence",
    "hinge",
    "poisson",
    "softmax_cross_entropy",
    "log_softmax_cross_entropy",
    "sigmoid_binary_cross_entropy",
    "weigh",
    "accuracy",
    "binary_accuracy",
    "mean_squared_error",
    "mean_absolute_error",
]


class Loss(common.Ops):
    params = (OPS, common.DTYPES, common.DEVICES)

    def time_op(self, op, dtype, device):
        self.run()
