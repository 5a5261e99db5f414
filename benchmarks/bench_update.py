"""The optimisers' updates."""

from __future__ import annotations

from . import common

OPS = [
    "sgd_update",
    "momentum_update",
    "adam_update",
]


class Update(common.Ops):
    params = (OPS, common.DTYPES)

    def time_op(self, op, dtype):
        self.run()
