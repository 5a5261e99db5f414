"""Matrix products alone: GFLOP/s on one thread."""

from __future__ import annotations

import functools

from . import common, products

CASES = {f"{case} {m} x {k} x {n}": (case, m, k, n) for case, m, k, n in products.CASES}


@functools.cache
def product(name, dtype):
    """The product's run(units), and how many units take about 2 ms."""
    case = CASES[name]
    run = products.product(*case, dtype)
    seconds = common.best(functools.partial(run, 1), seconds=0.05)
    return run, max(1, int(2e-3 / seconds))


class Products:
    params = (list(CASES), common.DTYPES)
    param_names = ("product", "dtype")

    def setup(self, name, dtype):
        self.run, self.units = product(name, dtype)

    def track_rate(self, name, dtype):
        """GFLOP/s of the fastest of many runs."""
        _, m, k, n = CASES[name]
        seconds = common.best(functools.partial(self.run, self.units), seconds=0.2) / self.units
        return round(2e-9 * m * k * n / seconds, 1)

    track_rate.unit = "GFLOP/s"
