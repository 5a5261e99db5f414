"""The optimisers' updates, and what else is done to parameters and their gradients."""

from __future__ import annotations

from . import common

OPS = [
    "sgd_update",
    "momentum_update",
    "adam_update",
    "adamw_update",
    "rmsprop_update",
    "adagrad_update",
    "gradient_add",
    "gradient_keep",
    "gradient_take",
    "gradient_accumulate",
    "gradient_clip",
    "gradient_squares",
    "sum_squares",
    "clip_factor",
    "regularize",
    "transpose",
]


class Update(common.Ops):
    params = (OPS, common.DTYPES, common.DEVICES)

    def time_op(self, op, dtype, device):
        self.run()
