"""Normalisation over the batch and over rows, and the scale after it."""

from __future__ import annotations

from . import common

OPS = [
    "batch_norm_forward",
    "batch_norm_backward",
    "batch_norm_infer_forward",
    "batch_norm_infer_backward",
    "layer_norm_forward",
    "layer_norm_backward",
    "scale_forward",
    "scale_backward_input",
    "scale_backward_gamma",
    "scale_backward_beta",
]


class Norm(common.Ops):
    params = (OPS, common.DTYPES, common.DEVICES)

    def time_op(self, op, dtype, device):
        self.run()
