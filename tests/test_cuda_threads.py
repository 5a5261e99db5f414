"""The GPU, or its simulator, shared by several threads, too small, not there, or without a kernel."""

import gc
import os
import subprocess
import sys
import threading
import weakref

import numpy as np
import pytest
from networks import close, network, samples

from numbanet.kernels import cuda
from numbanet.kernels.cuda import stream, transfer
from numbanet.pace import Pace

# -- several threads


def between_slices(monkeypatch, model, call):
    """Have another thread do something after every slice of a model's training, while that waits."""
    run = cuda.Engine.run

    def interrupted(self, first, last, parallel):
        run(self, first, last, parallel)
        if self._steps is model._steps:
            other = threading.Thread(target=call)
            other.start()
            other.join(60)
            assert not other.is_alive()

    monkeypatch.setattr(cuda.Engine, "run", interrupted)
    monkeypatch.setattr(Pace, "next", lambda self, left: (False, min(left, 1)))


def test_weights_are_read_while_training_goes_on(monkeypatch):
    X, y = samples()
    quiet, watched = (network("tanh", "softmax", "cross_entropy", "adam").to("cuda") for _ in range(2))
    quiet.fit(X, y, batch_size=4, epochs=2, verbose=0)
    seen = []
    between_slices(monkeypatch, watched, lambda: seen.append(watched.get_weights()[0]))
    watched.fit(X, y, batch_size=4, epochs=2, verbose=0)
    assert np.array_equal(watched._theta, quiet._theta)
    assert len(seen) == 6
    assert len({array.tobytes() for array in seen}) == 6


def test_other_samples_are_evaluated_while_training_goes_on(monkeypatch):
    """Arrays of one shape, in programs of one model, do not get into each other's place."""
    X, y = samples(12)
    histories = []
    for watched in (False, True):
        model = network("tanh", "softmax", "cross_entropy").to("cuda")
        with monkeypatch.context() as patch:
            if watched:
                between_slices(patch, model, lambda model=model: model.evaluate(X + 1, (y + 1) % 3))
            history = model.fit(X, y, batch_size=4, epochs=3, verbose=0, validation_data=(X * 2, y)).history
        histories.append(history)
    assert histories[0] == histories[1]


def test_samples_are_let_go():
    """A model does not keep the arrays of the last call, here or on the GPU."""
    for device in ("cpu", "cuda"):
        model = network("tanh", "softmax", "cross_entropy").to(device)
        X, y = samples(40)
        X = np.array(X, np.float32)
        alive = weakref.ref(X)
        model.fit(X, y, verbose=0)
        model.predict(X)
        del X
        gc.collect()
        assert alive() is None


def test_the_buffers_of_a_feed_are_no_larger_than_needed(monkeypatch):
    arrays = {"X": np.zeros((100, 4)), "y": np.zeros((100, 1))}
    assert len(stream.Feed(arrays, 8).buffers["X"]) == 2 * 13 * 8
    monkeypatch.setattr(stream, "free_memory", lambda: (8 * 3 * 8 * 40, 1))  # an eighth of it: three batches
    assert len(stream.Feed(arrays, 8).buffers["X"]) == 2 * 3 * 8


# -- bad news


class OutOfMemory(Exception):
    """What the driver raises."""


def no_room(*arguments, **settings):
    raise OutOfMemory("[CUresult.CUDA_ERROR_OUT_OF_MEMORY] Call to cuMemAlloc results in CUDA_ERROR_OUT_OF_MEMORY")


def test_no_room_on_the_gpu(monkeypatch):
    """A sentence with figures; the model stays where it is, and works."""
    X, y = samples()
    model = network("tanh", "softmax", "cross_entropy")
    wanted = model.predict(X)
    with monkeypatch.context() as patch:
        patch.setattr(transfer.cuda, "device_array", no_room)
        with pytest.raises(MemoryError, match=r"MiB left, .* MiB are needed: take a smaller batch_size"):
            model.to("cuda")
    assert model.device == "cpu"
    assert np.array_equal(model.predict(X), wanted)
    model.to("cuda")
    with monkeypatch.context() as patch:
        patch.setattr(transfer.cuda, "device_array", no_room)
        with pytest.raises(MemoryError, match="MiB are needed"):
            model.fit(X, y, verbose=0)
    assert close(model.predict(X), wanted, "float32")
    assert np.array_equal(model.to("cpu").predict(X), wanted)


def test_other_errors_of_the_driver_are_not_hidden(monkeypatch):
    def broken(*arguments):
        raise OutOfMemory("CUDA_ERROR_LAUNCH_FAILED")

    monkeypatch.setattr(transfer.cuda, "device_array", broken)
    with pytest.raises(OutOfMemory, match="LAUNCH_FAILED"):
        network("tanh", "softmax", "cross_entropy").to("cuda")


def test_an_op_without_a_kernel_for_the_gpu(monkeypatch):
    monkeypatch.delitem(cuda.KERNELS, "tanh_forward")
    model = network("tanh", "softmax", "cross_entropy")
    with pytest.raises(ValueError, match=r"the GPU has no kernel for 'tanh_forward' yet; model.to\('cpu'\)"):
        model.to("cuda")
    assert model.device == "cpu"
    model.train_on_batch(*samples())


def test_unknown_device():
    with pytest.raises(ValueError, match="unknown device 'tpu'; known: cpu, cuda"):
        network("tanh", "softmax", "cross_entropy").to("tpu")


ALONE = """
import sys
if sys.argv[1] != "driver":
    sys.modules[sys.argv[1]] = None
import numpy as np
import numbanet as nn
model = nn.Sequential([nn.Input(3), nn.Dense(2, "softmax")], seed=0)
model.compile("sgd", "cross_entropy")
X, y = np.eye(3), [0, 1, 0]
model.fit(X, y, verbose=0)
assert not any(name == "numba.cuda" or name.startswith(("numba.cuda.", "numbanet.kernels.cuda", "cuda."))
               for name in sys.modules if sys.modules[name] is not None), "loaded"
try:
    model.to("cuda")
except RuntimeError as problem:
    print(problem)
print(model.device, len(model.predict(X)))
"""


def alone(*arguments):
    """The output of a process of its own, without the simulator and with no GPU to be seen."""
    environment = {name: value for name, value in os.environ.items() if name != "NUMBA_ENABLE_CUDASIM"}
    environment["CUDA_VISIBLE_DEVICES"] = ""
    command = [sys.executable, "-W", "error", "-c", ALONE, *arguments]
    ran = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout.splitlines()


def test_no_gpu_is_told_and_the_cpu_never_asks_for_one():
    """Importing numbanet and training on the CPU load neither numba.cuda nor a driver; `to` says what is missing."""
    message, after = alone("driver")
    assert message.startswith("device 'cuda' cannot be used: ")
    assert message.endswith("The model computes on the CPU as before.")
    assert after == "cpu 3"


@pytest.mark.parametrize("package", ["numba.cuda", "cuda", "cuda.bindings"])
def test_no_package_is_told(package):
    """Neither a Numba without numba.cuda nor one whose own, which numba-cuda replaces, stands alone."""
    message, after = alone(package)
    assert message.startswith("device 'cuda' needs the package numba-cuda: pip install 'numbanet[cuda]'")
    assert after == "cpu 3"
