"""Gathering batches and scattering results: kernels."""

import checks
import numpy as np
import pytest


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("rows", "width"), [(1, 1), (5, 17), (33, 3)])
def test_gathers_rows_and_scatters_them(rows, width, dtype):
    rng = np.random.default_rng(0)
    data, order = rng.random((rows + 4, width)), rng.permutation(rows + 4)[:rows, None]
    operands = {"data": data, "order": order, "x": np.zeros((rows, width))}
    checks.check_forward("gather_rows", operands, {"width": width}, dtype)
    operands = {"x": data[:rows], "data": np.zeros((rows, width))}
    checks.check_forward("scatter_rows", operands, {"width": width}, dtype)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_gathers_classes(dtype):
    labels, order = np.array([[2], [0], [1], [2], [0]]), np.array([[4], [3], [0], [1]])
    operands = {"data": labels, "order": order, "x": np.full((4, 3), 7.0)}
    checks.check_forward("gather_classes", operands, {"width": 3}, dtype)
    found = checks.Bench("gather_classes", operands, {"width": 3}, dtype).run()["x"]
    assert found.tolist() == [[1, 0, 0], [0, 0, 1], [0, 0, 1], [1, 0, 0]]
