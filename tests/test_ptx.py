"""Every kernel compiles for a GPU, and fits: PTX for sm_90, made without one, and what it needs of a multiprocessor."""

import json
import os
import subprocess
import sys
from pathlib import Path

import ptx
import pytest

from numbanet.kernels import OPS

REGISTERS = 65536  # of a multiprocessor
THREADS = 256  # of a block on hardware (kernels/cuda/launch.py; in the simulator there are fewer)


@pytest.fixture(scope="module")
def compiled():
    """What tests/ptx.py says of each kernel."""
    pytest.importorskip("cuda.bindings", reason="needs numba-cuda and NVIDIA's compiler: pip install '.[cuda-test]'")
    environment = {name: value for name, value in os.environ.items() if name != "NUMBA_ENABLE_CUDASIM"}
    command = [sys.executable, str(Path(__file__).with_name("ptx.py"))]
    ran = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=900)
    assert ran.returncode == 0, ran.stderr[-3000:]
    return json.loads(ran.stdout)


@pytest.mark.slow
@pytest.mark.compiled
def test_every_kernel_compiles_to_ptx(compiled):
    names = {f"{name} float32" for name in {*map(ptx.group, OPS), "all"}} | {"all float64", "philox"}
    assert set(compiled) == names | {f"{name} float64" for name in OPS if name.startswith("dense")}
    assert {kernel["target"] for kernel in compiled.values()} == {"sm_90"}
    shared = [bytes for kernel in compiled.values() for bytes in kernel.get("aligned", [])]
    assert shared  # and read 16 bytes at once
    assert min(shared) >= 16


@pytest.mark.slow
@pytest.mark.compiled
def test_kernels_fit_a_multiprocessor(compiled):
    """Numbers stay in registers, of which a block has enough; shared memory is asked for at the launch."""
    measured = {name: kernel for name, kernel in compiled.items() if "registers" in kernel}
    if not measured:
        pytest.skip("needs a ptxas as new as the PTX")
    for name, kernel in measured.items():
        assert 0 < kernel["registers"] <= REGISTERS // THREADS, f"{name}: {kernel}"
        assert kernel["shared"] == 0, f"{name}: {kernel}"
        assert kernel["spilled"] == 0, f"{name}: {kernel}"
