"""Inference: one call of predict on one row and on a thousand."""

from __future__ import annotations

import functools

import numpy as np

from . import common

CASES = {"4-32-32-2": (4, 32, 32, 2), "784-128-10": (784, 128, 10)}


@functools.cache
def prediction(case, rows, device):
    """A call of predict on so many rows, whose result has been checked."""
    sizes = CASES[case]
    X, _ = common.blobs(rows, sizes[0], sizes[-1])
    predict = functools.partial(common.net(sizes).to(device).predict, X)
    output = predict()
    if output.shape != (rows, sizes[-1]) or not np.allclose(output.sum(axis=1), 1, atol=1e-5):
        raise AssertionError(f"not the probabilities of {rows} rows: {output}")
    if device != "cpu" and not np.allclose(output, common.net(sizes).predict(X), rtol=0, atol=1e-5):
        raise AssertionError(f"the predictions of {rows} rows are not those of the CPU")
    return predict


class Predict:
    """predict in float32, arguments checked as for any user; threads are the CPU's."""

    params = (list(CASES), [1, 1000], [1, 2], common.DEVICES)
    param_names = ("net", "rows", "threads", "device")
    repeat = common.REPEAT

    def setup(self, case, rows, threads, device):
        common.need(device)
        common.use_threads(threads, device)
        self.predict = prediction(case, rows, device)

    def time_predict(self, case, rows, threads, device):
        self.predict()

    def track_call(self, case, rows, threads, device):
        """Microseconds of the fastest call."""
        return round(1e6 * common.best(self.predict, least=20), 2)

    track_call.unit = "us"
