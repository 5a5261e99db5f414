"""Compiles every kernel for the GPU to PTX for sm_90, without a GPU; run as a script, apart from the simulator.

Prints one JSON object: for each dtype and op (of a family, all members) the PTX's target and, where ptxas is found,
what it needs: registers, bytes of stack and spills, bytes of shared memory. Products are compiled by themselves, other
ops with their module, which is no more than a program may have. "all" are all ops in one loop, not assembled.
"""

import functools
import json
import math
import os
import re
import shutil
import subprocess
import sys
import tempfile
import types
from pathlib import Path

from numbanet.kernels import OPS

CAPABILITY = (9, 0)


def compile_ptx(function, signature):
    """PTX of a function."""
    from numba import cuda
    from numba.core import sigutils

    arguments, _ = sigutils.normalize_signature(signature)
    return cuda.compile_ptx(function, arguments, cc=CAPABILITY)[0]


@functools.cache
def assembler():
    """The path of a ptxas which is as new as the PTX, or None."""
    beside = [str(path) for place in sys.path for path in Path(place).glob("nvidia/*/bin/ptxas")]
    return next((path for path in [*beside, shutil.which("ptxas")] if path and os.access(path, os.X_OK)), None)


def needs(ptx):
    """What ptxas says that the one kernel in some PTX needs; empty where there is no ptxas that knows this PTX."""
    if assembler() is None:
        return {}
    with tempfile.TemporaryDirectory() as directory:
        source = Path(directory, "kernel.ptx")
        source.write_text(ptx)
        command = [assembler(), "-v", "-arch=sm_90", str(source), "-o", str(source.with_suffix(".cubin"))]
        said = subprocess.run(command, capture_output=True, text=True)
    if "Unsupported .version" in said.stderr:
        return {}
    said.check_returncode()
    figures = {
        "registers": r"Used (\d+) registers",
        "stack": r"(\d+) bytes stack frame",
        "spilled": r"(\d+) bytes spill stores",
        "shared": r"(\d+) bytes smem",
    }
    found = {name: re.search(pattern, said.stderr) for name, pattern in figures.items()}
    return {name: int(match[1]) if match else 0 for name, match in found.items()}


def group(op):
    """The name under which an op is compiled: that of its module, or its own."""
    from numbanet.kernels import cuda

    for module in (cuda.batch, cuda.pointwise, cuda.norm, cuda.noise, cuda.loss, cuda.update):
        if cuda.KERNELS[op] in vars(module).values():
            return module.__name__.rsplit(".", 1)[1]
    return op


def value(x, t=0.0):
    """A user's function."""
    return math.exp(x - t) - 1.0 if x < t else x - t


def slope(x, t=0.0):
    """Its derivative."""
    return math.exp(x - t) if x < t else 1.0


def main():
    import numba.cuda.dispatcher
    from test_random import draw

    from numbanet.kernels import DTYPES, FUNCTIONS, cuda
    from numbanet.kernels.cuda import engine
    from numbanet.kernels.function import Function

    # Numba asks the GPU at hand what to compile a called function for; here there is none.
    numba.cuda.dispatcher.get_current_device = lambda: types.SimpleNamespace(compute_capability=CAPABILITY)
    functions = Function.of("elu", value, slope), Function.of("elu", value)  # the second without a slope
    everything = {}
    for dtype in ("float32", "float64"):
        numbers = {}
        for op in OPS:
            sources = DTYPES if op in cuda.FAMILIES else functions if op in FUNCTIONS else [None]
            numbers[group(op)] = numbers.get(group(op), ()) + tuple(cuda.address(op, dtype, kind) for kind in sources)
        everyone = tuple(sorted({number for some in numbers.values() for number in some}))
        if dtype == "float64":  # by themselves only those that need most; all are among all
            numbers = {op: some for op, some in numbers.items() if op.startswith("dense")}
        numbers["all"] = everyone
        for name, those in numbers.items():
            ptx = compile_ptx(engine.walker(dtype, those), engine.SIGNATURE)
            found = {"target": re.search(r"\.target (\w+)", ptx)[1]}
            found["aligned"] = [int(bytes) for bytes in re.findall(r"\.shared \.align (\d+)", ptx)]
            everything[f"{name} {dtype}"] = found | (needs(ptx) if name != "all" else {})
    everything["philox"] = {"target": re.search(r"\.target (\w+)", compile_ptx(draw, "void(int64, int64)"))[1]}
    print(json.dumps(everything))


if __name__ == "__main__":
    main()
