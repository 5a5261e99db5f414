"""The contestants of gpu.py. See peer_workers.py for what a contestant is; these compute on the GPU.

Every run(units) waits for the GPU before it returns. numbanet contests twice, once for each of its ways to run.
"""

from __future__ import annotations

import functools
import importlib.util
import os
import subprocess
import warnings

import numpy as np

from benchmarks import peer_workers
from benchmarks.peer_workers import checked_product, repeated, rows_of, shown, weights_of
from benchmarks.products import factors

ORDER = 2**22  # most samples of one run of a program: 32 MiB of their order, 0.1 s of steps and more
WARM_UP = 3  # steps before a capture: torch's libraries allocate what they need in the first


# -- numbanet


def difference(found, wanted):
    """The largest difference, relative to the largest value."""
    found, wanted = np.asarray(found, np.float64), np.asarray(wanted, np.float64)
    return float(abs(found - wanted).max() / abs(wanted).max())


class OneKernel:
    """numbanet, the blocks of one launch meeting after every phase."""

    packages = ("numba-cuda" if importlib.util.find_spec("numba_cuda") else "numba",)  # older Numbas have it inside
    parallel = False

    def __init__(self, threads):
        from benchmarks import common
        from numbanet import kernels

        try:
            self.device = kernels.load("cuda")
        except RuntimeError as problem:
            raise NotImplementedError(str(problem)) from None
        self.net, self.blobs = common.net, common.blobs

    def machine(self, task, arrays):
        """The result: the GPU's name, its driver, its multiprocessors."""
        from numba import config, cuda

        if config.ENABLE_CUDASIM:
            return None, ["simulator", "none", self.device.most_workers()]
        gpu = cuda.get_current_device()
        name = gpu.name.decode() if isinstance(gpu.name, bytes) else gpu.name
        return None, [name, _driver(), int(gpu.MULTIPROCESSOR_COUNT)]

    # what is measured

    def training(self, task, arrays):
        """Steps over data on the GPU: many epochs are one run of the program, in the order in which samples lie."""
        model = self.net(task["sizes"])
        model.set_weights([array for pair in weights_of(arrays) for array in pair])
        size, samples = task["batch_size"], len(arrays["X"])
        steps, most = samples // size, max(1, ORDER // samples)
        program = self._bound(model.to("cuda"), arrays["X"], arrays["y"], size, most)
        program.run(0, steps, self.parallel)
        loss = program.totals()[0] / samples

        def run(epochs):
            for first in range(0, epochs, most):
                program.run(0, min(most, epochs - first) * steps, self.parallel)

        return run, [loss]

    def _bound(self, model, X, y, batch_size, epochs):
        """The program that trains a model, with all that it needs for so many epochs on the GPU."""
        data = model._data(X, y).on(model._device)
        program = model._program("train", batch_size, data.form())
        order = np.tile(np.arange(data.samples), epochs)
        arrays = {"order": order[:, None], "coefficients": self._coefficients(model, len(order), batch_size)}
        for name, array in (data.arrays | arrays).items():
            program.bind(name, array)
        program.start(len(order), batch_size)
        return program

    @staticmethod
    def _coefficients(model, samples, batch_size):
        return model.optimizer.coefficients(np.arange(-(-samples // batch_size)))

    def inference(self, task, arrays):
        """predict, NumPy array in, NumPy array out; arguments checked as for any user."""
        model = self.net(task["sizes"])
        model.set_weights([array for pair in weights_of(arrays) for array in pair])
        predict = functools.partial(model.to("cuda").predict, rows_of(task["rows"], task["sizes"][0]))
        return repeated(predict), shown(predict())

    def product(self, task, arrays):
        """As in a network: a chain of panels of columns for all blocks, many products in one run."""
        from benchmarks import products

        return products.product(*task["product"], device="cuda", parallel=self.parallel), []

    def idle(self, task, arrays):
        """Steps of phases in which every block has a task and no task has any work: what is left is the way to run."""
        program = self._idle(task["phases"])
        return functools.partial(program.run, 0, parallel=self.parallel), []

    def call(self, task, arrays):
        """Calls of the program's run with one such step, one after the other."""
        program = self._idle(task["phases"])
        return repeated(functools.partial(program.run, 0, 1, self.parallel)), []

    def _idle(self, phases):
        from numbanet.builder import Builder, planned
        from numbanet.kernels import PANEL
        from numbanet.plan import Phase, Plan
        from numbanet.planner import rows_chain
        from numbanet.program import Program

        geometry = self.device.geometry()
        rows = self.device.most_workers() * geometry.block
        build = Builder(rows, geometry)
        given = {"x": build.buffer((PANEL,), "x"), "y": build.buffer((PANEL,), "y"), "width": 0}
        chains = [rows_chain([planned("copy_forward", given)], geometry) for _ in range(phases)]
        plan = Plan("benchmark", rows, [Phase([chain]) for chain in chains], build.buffers, build.size, 0)
        program = Program(plan, self.device, "float32", self.device.zeros(0, "float32"))
        program.start(rows * 2**40, rows)
        return program

    def launch(self, task, arrays):
        """An empty kernel launched and waited for."""
        from numba import cuda

        warnings.simplefilter("ignore")  # that one block leaves most of the GPU idle
        stream = cuda.stream()
        empty = cuda.jit(_nothing)[1, 32, stream]

        def launch():
            empty()
            stream.synchronize()

        return repeated(launch), []

    # what is checked: the result is how far off it is

    def losses(self, task, arrays):
        """The loss of every epoch, on the GPU beside the CPU."""
        histories = []
        for device in ("cpu", "cuda"):
            model, X, y = self._case(task)
            history = model.to(device).fit(X, y, task["batch_size"], task["epochs"], verbose=0).history
            histories.append(history["loss"])
        return None, [difference(histories[1], histories[0])]

    def predictions(self, task, arrays):
        """Predictions with the same weights, after an epoch of training on the CPU."""
        model, X, y = self._case(task)
        model.fit(X, y, task["batch_size"], epochs=1, verbose=0)
        wanted = model.predict(X)
        return None, [difference(model.to("cuda").predict(X), wanted)]

    def ways(self, task, arrays):
        """How many numbers of parameters, optimiser state and loss differ, trained one way, the other, and in turns."""
        found = []
        for ways in ((False, False), (True, True), (True, False)):
            model, X, y = self._case(task)
            program = self._bound(model.to("cuda"), X, y, task["batch_size"], task["epochs"])
            batches = -(-len(X) * task["epochs"] // task["batch_size"])
            for parallel, first, last in zip(ways, (0, batches // 2), (batches // 2, batches), strict=True):
                program.run(first, last, parallel)
            found.append(np.concatenate([program.theta.astype(np.float64), program.totals()]))
        if not np.isfinite(found[0]).all():
            raise AssertionError("training leaves numbers that are not finite")
        return None, [int(sum((other != found[0]).sum() for other in found[1:]))]

    def _case(self, task):
        """A new model, its samples and labels."""
        import numbanet as nn

        sizes, samples = task["sizes"], task["samples"]
        model = self.net(sizes)
        model.compile(task["optimizer"], "cross_entropy")
        X, y = nn.data.load_digits()[0] if sizes[0] == 64 else self.blobs(samples, sizes[0], sizes[-1])
        return model, X[:samples], y[:samples]


class Graph(OneKernel):
    """numbanet, one launch a phase in a CUDA graph."""

    parallel = True


def _nothing():
    pass


def _driver():
    """The version of the GPU's driver."""
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=20, check=True).stdout.split()[0]
    except (OSError, subprocess.SubprocessError, IndexError):
        return "unknown"


# -- peers


class Torch(peer_workers.Torch):
    """PyTorch, eager: the loop that everyone writes. float32 as it is, without TF32."""

    device = "cuda"

    def __init__(self, threads):
        import torch

        if not torch.cuda.is_available():
            raise NotImplementedError("torch finds no GPU")
        torch.backends.cuda.matmul.allow_tf32 = False
        self.torch = torch

    def _finished(self, run):
        """run(units), and wait for the GPU."""

        def finished(units):
            run(units)
            self.torch.cuda.synchronize()

        return finished

    def training(self, task, arrays):
        """Epochs of batches that are slices of tensors on the GPU."""
        run, result = super().training(task, arrays)
        return self._finished(run), result

    def inference(self, task, arrays):
        """NumPy array in, NumPy array out, under inference_mode."""
        torch, X = self.torch, rows_of(task["rows"], task["sizes"][0])
        model = self.net(arrays, torch.nn.Softmax(1))

        def predict():
            with torch.inference_mode():
                return model(torch.from_numpy(X).to(self.device)).cpu().numpy()

        return repeated(predict), shown(predict())

    def product(self, task, arrays):
        """torch.mm into memory made beforehand."""
        a, b = (self.torch.from_numpy(factor).to(self.device) for factor in factors(*task["product"]))
        out = self.torch.empty(a.shape[0], b.shape[1], dtype=a.dtype, device=self.device)
        multiply = functools.partial(self.torch.mm, a, b, out=out)
        _, result = checked_product(lambda: multiply().cpu(), *task["product"])
        return self._finished(repeated(multiply)), result


class TorchGraph(Torch):
    """PyTorch, a whole step captured in a CUDA graph and replayed."""

    def training(self, task, arrays):
        """Epochs of replays. The step finds its batch by a counter on the GPU, so nothing but replays is launched."""
        torch, size = self.torch, task["batch_size"]
        model = self.net(arrays)
        initial = [parameter.detach().clone() for parameter in model.parameters()]
        optimizer = torch.optim.SGD(model.parameters(), lr=peer_workers.RATE)
        X = torch.from_numpy(arrays["X"].reshape(-1, size, task["sizes"][0])).to(self.device)
        y = torch.from_numpy(arrays["y"].reshape(-1, size)).to(self.device)
        batch = torch.zeros(1, dtype=torch.int64, device=self.device)

        def step():
            samples, labels = X.index_select(0, batch)[0], y.index_select(0, batch)[0]
            loss = torch.nn.functional.cross_entropy(model(samples), labels)
            loss.backward()
            optimizer.step()
            batch.add_(1).remainder_(len(X))
            return loss

        replay, loss = self._captured(step, optimizer)
        with torch.no_grad():  # from the start again
            batch.zero_()
            for parameter, value in zip(model.parameters(), initial, strict=True):
                parameter.copy_(value)
        losses = []
        for _ in range(len(X)):
            replay()
            losses.append(loss.item())

        def run(epochs):
            for _ in range(epochs * len(X)):
                replay()

        return self._finished(run), [float(np.mean(losses))]

    def _captured(self, step, optimizer):
        """A call that replays the step, and where it leaves the loss; as torch's notes on CUDA graphs have it."""
        torch = self.torch
        aside = torch.cuda.Stream()
        aside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(aside):
            for _ in range(WARM_UP):
                optimizer.zero_grad(set_to_none=True)
                step()
        torch.cuda.current_stream().wait_stream(aside)
        optimizer.zero_grad(set_to_none=True)  # gradients are made in the capture: replays overwrite them
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            loss = step()
        return graph.replay, loss


class Jax(peer_workers.Jax):
    """JAX: the whole epoch is one jitted scan. float32 as it is, without TF32."""

    def __init__(self, threads):
        os.environ["XLA_PYTHON_CLIENT_PREALLOCATE"] = "false"  # the GPU's memory is the others' too
        import jax

        if not any(device.platform == "gpu" for device in jax.devices()):
            raise NotImplementedError("jax finds no GPU")
        jax.config.update("jax_default_matmul_precision", "highest")
        self.jax = jax


PEERS = {
    "one kernel": OneKernel,
    "graph": Graph,
    "torch eager": Torch,
    "torch graph": TorchGraph,
    "jax scan": Jax,
}
