"""Vectors of every length that NUMBANET_SIMD allows: the same results, but for the order of sums, and caches apart."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from numbanet.kernels.jit import BITS

ROOT = Path(__file__).parent.parent
WIDTHS = [512, 256, 128]
OTHERS = [bits for bits in WIDTHS if bits != BITS]
FILES = ["dense", "pointwise", "norm", "noise", "loss", "update", "batch", "gemm", "polynomial", "gradients", "model"]

FIT = """
import json
import numpy as np, numbanet as nn
from numbanet.kernels import jit
def fit():
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(50, 37)), rng.integers(0, 19, 50)
    found = {}
    for dtype in ("float32", "float64"):
        model = nn.Sequential([nn.Input(37), nn.Dense(19, "softmax")], seed=0, dtype=dtype)
        model.compile("sgd", "cross_entropy")
        model.fit(X, y, batch_size=16, epochs=2, verbose=0)
        found[dtype] = [weights.tolist() for weights in (*model.get_weights(), model.predict(X))]
    return found
"""

PREDICT = """
import numpy as np, numbanet as nn
from numbanet.kernels import jit
print(nn.Sequential([nn.Input(3), nn.Dense(2)], seed=0).predict(np.ones((1, 3))).shape, jit.compilations())
"""


def run(arguments, bits, cache, timeout=300):
    environment = os.environ | {"NUMBANET_SIMD": str(bits), "NUMBA_CACHE_DIR": str(cache)}
    return subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, env=environment, timeout=timeout, cwd=ROOT
    )


def test_an_unknown_length_gets_a_sentence(tmp_path):
    for bits in ("123", "avx2", "0"):
        done = run(["-c", "import numbanet"], bits, tmp_path)
        assert done.returncode != 0
        assert f"ValueError: NUMBANET_SIMD is {bits!r}, expected 128, 256 or 512" in done.stderr


def test_an_empty_setting_is_none(tmp_path):
    code = "from numbanet.kernels import jit; print(jit.BITS)"
    assert int(run(["-c", code], "", tmp_path).stdout) in WIDTHS


@pytest.fixture(scope="module")
def caches(tmp_path_factory):
    """For each other length a cache filled by a fit, and what the fit found."""
    made = {}
    for bits in OTHERS:
        directory = tmp_path_factory.mktemp("cache")
        done = run(["-c", FIT + "print(json.dumps([jit.BITS, fit()]))"], bits, directory)
        assert done.returncode == 0, done.stderr
        used, found = json.loads(done.stdout)
        assert used == bits
        made[bits] = directory, found
    return made


@pytest.mark.slow
@pytest.mark.compiled
def test_all_lengths_agree(caches):
    """Nothing but sums over lanes depends on the length."""
    names = {}
    exec(FIT, names)
    ours = names["fit"]()
    for dtype, tolerance in (("float32", 1e-5), ("float64", 1e-12)):
        for bits, (_, found) in caches.items():
            for one, other in zip(ours[dtype], found[dtype], strict=True):
                assert np.allclose(one, other, rtol=0, atol=tolerance), (dtype, bits)


@pytest.mark.slow
@pytest.mark.compiled
def test_a_cache_serves_one_length_only(caches):
    """What was compiled for vectors of one length is not loaded for another."""
    bits, other = OTHERS
    directory, _ = caches[bits]
    for asked, wanted in ((bits, False), (other, True), (other, False)):
        done = run(["-c", PREDICT], asked, directory)
        assert done.returncode == 0, done.stderr
        assert (int(done.stdout.split()[-1]) > 0) is wanted


@pytest.mark.slow
@pytest.mark.compiled
@pytest.mark.parametrize("bits", OTHERS)
def test_the_tests_of_kernels_pass(bits, tmp_path):
    files = [f"tests/test_{name}.py" for name in FILES]
    chosen = "not cuda and not random_graphs"  # a GPU has no such vectors; the graphs take long and say nothing new
    arguments = ["-m", "pytest", "-q", "-m", "not slow", "-k", chosen, "-p", "no:cacheprovider", *files]
    done = run(arguments, bits, tmp_path, timeout=1800)
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-1000:]
