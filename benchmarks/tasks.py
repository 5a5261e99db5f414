"""What contestants are told to do: the same data, the same initial weights, and results on which they must agree."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np

from benchmarks import common


def name_of(sizes):
    """784-128-10."""
    return "-".join(map(str, sizes))


def initial_weights(model):
    """kernel0, bias0, kernel1, ...: the initial weights for all contestants."""
    names = itertools.chain.from_iterable((f"kernel{layer}", f"bias{layer}") for layer in itertools.count())
    return dict(zip(names, model.get_weights(), strict=False))


def training(folder, sizes, batch_size, steps):
    """The task of training a net, its data in a file.

    Labels have nothing to do with the samples, so that there is always something left to learn: gradients that die
    away while it is measured would reach denormals.
    """
    model, samples = common.net(sizes), batch_size * steps
    generator = np.random.default_rng(0)
    arrays = initial_weights(model) | {
        "X": generator.standard_normal((samples, sizes[0]), np.float32),
        "y": generator.integers(0, sizes[-1], samples),
    }
    path = Path(folder) / "task.npz"
    np.savez(path, **arrays)
    return {
        "name": f"{name_of(sizes)}, {batch_size}",
        "kind": "training",
        "sizes": sizes,
        "batch_size": batch_size,
        "arrays": str(path),
        "least": {"numbanet": 2},  # epochs in a sample
    }


def inference(folder, sizes, rows):
    """The task of predicting rows with a net, its weights in a file."""
    path = Path(folder) / "task.npz"
    np.savez(path, **initial_weights(common.net(sizes)))
    name = f"{name_of(sizes)}, {rows:,} row{'s' * (rows > 1)}"
    return {"name": name, "kind": "inference", "sizes": sizes, "rows": rows, "arrays": str(path)}


def product(case, m, k, n, dtype):
    """The task of a matrix product (m, k) x (k, n)."""
    return {"name": f"{case} {m}, {k}, {n}", "kind": "product", "product": (case, m, k, n, dtype)}


def disagreement(task, results, relative, absolute):
    """The sentence that says that contestants which did the same have got different results, or None."""
    results = {worker: np.array(result) for worker, result in results.items() if result}
    for (one, first), (other, second) in itertools.pairwise(results.items()):
        if first.shape != second.shape or not np.allclose(first, second, rtol=relative, atol=absolute):
            apart = abs(first - second).max() if first.shape == second.shape else "in shape"
            return f"{task['name']}: {one} and {other} do not compute the same, they differ by {apart}"
    return None
