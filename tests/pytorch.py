"""What PyTorch computes, kept in a file: tests compare with it everywhere, and PyTorch need not be installed.

    NUMBANET_RECORD=1 python -m pytest tests/test_torch.py tests/test_torch_training.py

computes it anew, with PyTorch, and writes pytorch.npz. Made with torch 2.13.0 in float64.
"""

import os
from pathlib import Path

import numpy as np

RECORDING = os.environ.get("NUMBANET_RECORD") == "1"
FILE = Path(__file__).with_name("pytorch.npz")

if RECORDING:
    import torch

    KNOWN = {}
else:
    torch = None  # whoever calls it has asked for results that nobody has recorded
    with np.load(FILE) as file:
        KNOWN = {name: file[name] for name in file.files}


def results(key, compute):
    """The arrays that compute() gives, a list of tensors; from the file, unless they are being recorded."""
    if RECORDING:
        found = [np.array(tensor.detach().numpy()) for tensor in compute()]
        KNOWN.update({f"{key}: {number}": array for number, array in enumerate(found)})
        np.savez_compressed(FILE, **KNOWN)
    count = sum(name.startswith(f"{key}: ") for name in KNOWN)
    assert count, f"no results of PyTorch for {key!r}: record them"
    return [KNOWN[f"{key}: {number}"] for number in range(count)]


def off(found, wanted):
    """The largest difference, relative to the largest value."""
    return np.abs(found - wanted).max() / max(np.abs(wanted).max(), 1e-300)
