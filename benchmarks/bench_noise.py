"""Noise while training: random numbers, drawn anew for the backward pass."""

from __future__ import annotations

from . import common

OPS = ["dropout_forward", "dropout_backward", "gaussian_noise_forward"]


class Noise(common.Ops):
    params = (OPS, common.DTYPES, common.DEVICES)

    def time_op(self, op, dtype, device):
        self.run()
