"""Start-up: processes from their start to a trained epoch of digits, and what importing numbanet adds to Numba."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import tempfile
import time

IMPORT = """
import json, time
began = time.perf_counter()
import numba
between = time.perf_counter()
import numbanet
print(json.dumps({"numba": between - began, "numbanet": time.perf_counter() - between}))
"""

FIT = """
import json
import numbanet as nn
from numbanet.kernels import jit
(X, y), _ = nn.data.load_digits()
model = nn.Sequential([nn.Input(64), nn.Dense(64, activation="relu"), nn.Dense(10, activation="softmax")], seed=0)
model.compile(nn.SGD(0.01), "cross_entropy", metrics=["accuracy"])
history = model.fit(X, y, batch_size=32, epochs=1, verbose=0)
print(json.dumps({"losses": history.history["loss"], "compiled": jit.compilations()}))
"""


def run(script, cache):
    """Run a script in a new process with a directory for compiled kernels; returns what it printed and its seconds."""
    environment = os.environ | {"NUMBA_CACHE_DIR": cache}
    began = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, timeout=120)
    seconds = time.perf_counter() - began
    if done.returncode:
        raise RuntimeError(f"the process ended with status {done.returncode}: {done.stderr[-2000:]}")
    return json.loads(done.stdout), seconds


def first_fit(cache, populated):
    """Seconds of a process that trains one epoch of digits; its loss and its use of the cache are checked."""
    told, seconds = run(FIT, cache)
    if len(told["losses"]) != 1 or not 0 < told["losses"][0] < 1.1 * math.log(10):
        raise AssertionError(f"one epoch of digits ended with losses {told['losses']}")
    if populated != (told["compiled"] == 0):
        raise AssertionError(f"{told['compiled']} kernels compiled with {'a full' if populated else 'an empty'} cache")
    return seconds


class Startup:
    """Seconds, each from new processes with a temporary NUMBA_CACHE_DIR; best of three but for the empty cache."""

    timeout = 300

    def setup(self):
        self.directory = tempfile.TemporaryDirectory(prefix="numbanet-benchmark-")
        self.cache = self.directory.name

    def teardown(self):
        self.directory.cleanup()

    def track_import(self):
        """import numbanet after import numba."""
        return min(run(IMPORT, self.cache)[0]["numbanet"] for _ in range(3))

    def track_first_fit_cold(self):
        """Process start to a trained epoch, all kernels compiled on the way."""
        return first_fit(self.cache, populated=False)

    def track_first_fit_warm(self):
        """Process start to a trained epoch, all kernels found in the cache."""
        first_fit(self.cache, populated=False)
        return min(first_fit(self.cache, populated=True) for _ in range(3))

    track_import.unit = track_first_fit_cold.unit = track_first_fit_warm.unit = "seconds"
