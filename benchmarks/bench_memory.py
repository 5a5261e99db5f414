"""Peak memory of processes that import, train and predict, data included."""

from __future__ import annotations

import numpy as np

import numbanet as nn

from . import common

PREDICTED = 30_000  # rows of 784 float32: 94 MB


class Memory:
    """The first is what Python, NumPy, Numba and numbanet take before anything is done."""

    def peakmem_import(self):
        assert nn.__version__

    def peakmem_fit_digits(self):
        """Five epochs of digits in float32."""
        (X, y), _ = nn.data.load_digits()
        common.check_learning(common.net((64, 64, 10)).fit(X, y, batch_size=32, epochs=5, verbose=0))

    def peakmem_predict(self):
        """One call of predict on many rows of 784."""
        X = np.random.default_rng(0).random((PREDICTED, 784), np.float32)  # in place, no larger than the result
        output = common.net((784, 128, 10)).predict(X)
        assert output.shape == (PREDICTED, 10)
