"""Inference: one call of predict on one row and on a thousand."""

from __future__ import annotations

import functools

import numpy as np

from . import common

CASES = {"4-32-32-2": (4, 32, 32, 2), "784-128-10": (784, 128, 10)}


@functools.cache
def prediction(case, rows):
    """A call of predict on so many rows, whose result has been checked."""
    sizes = CASES[case]
    X, _ = common.blobs(rows, sizes[0], sizes[-1])
    predict = functools.partial(common.net(sizes).predict, X)
    output = predict()
    if output.shape != (rows, sizes[-1]) or not np.allclose(output.sum(axis=1), 1, atol=1e-5):
        raise AssertionError(f"not the probabilities of {rows} rows: {output}")
    return predict


class Predict:
    """predict in float32, arguments checked as for any user."""

    params = (list(CASES), [1, 1000], [1, 2])
    param_names = ("net", "rows", "threads")
    repeat = common.REPEAT

    def setup(self, case, rows, threads):
        common.use_threads(threads)
        self.predict = prediction(case, rows)

    def time_predict(self, case, rows, threads):
        self.predict()

    def track_call(self, case, rows, threads):
        """Microseconds of the fastest call."""
        return round(1e6 * common.best(self.predict, least=20), 2)

    track_call.unit = "us"
