"""The contestants of peers.py: what each library does in training, inference and products.

A contestant's method for a kind of task ("training", "inference", "product") returns run(units), which does so many
units of work, and a result on which all contestants must agree. peer_race.py runs each in a process of its own.
"""

from __future__ import annotations

import functools
import itertools
import os
import time
import warnings

import numpy as np

from benchmarks.products import factors

RATE = 0.01  # of learning
CHUNKS = (1000, 2000, 4000)  # rows that a peer is handed at a time where that is faster than all at once


def weights_of(arrays):
    """(kernel, bias) of every layer."""
    layers = len([name for name in arrays if name.startswith("kernel")])
    return [(arrays[f"kernel{layer}"], arrays[f"bias{layer}"]) for layer in range(layers)]


def rows_of(rows, features):
    """The samples to predict."""
    return np.random.default_rng(1).standard_normal((rows, features), np.float32)


def seconds(call, *arguments):
    """How long a call takes."""
    began = time.perf_counter()
    call(*arguments)
    return time.perf_counter() - began


def repeated(call):
    """run(units) that makes so many calls."""

    def run(units):
        for _ in itertools.repeat(None, units):
            call()

    return run


def chunked(predict, X):
    """The fastest of predict(X) and of predicting chunks, as a call that returns all outputs."""

    def chunks(size):
        return np.concatenate([predict(X[first : first + size]) for first in range(0, len(X), size)])

    calls = [functools.partial(predict, X), *(functools.partial(chunks, size) for size in CHUNKS if size < len(X))]
    if len(calls) == 1:
        return calls[0]
    return min(calls, key=lambda call: min(seconds(call) for _ in range(3)))


def shown(outputs):
    """Outputs of a hundred rows at most, to compare."""
    return outputs[:: max(1, len(outputs) // 100)].ravel().tolist()


def checked_product(call, case, m, k, n, dtype):
    """run(units) for a call that returns the product, once it has been right."""
    a, b = (factor.astype(np.float64) for factor in factors(case, m, k, n, dtype))
    right, error = a @ b, 1e-4 if dtype == "float32" else 1e-11
    if not np.allclose(np.asarray(call()), right, rtol=0, atol=error * abs(right).max()):
        raise AssertionError(f"not the product of {m} x {k} and {k} x {n} in {dtype}")
    return repeated(call), []


# -- numbanet


def fma_rate():
    """run(units) of multiply-adds in registers, and the floating-point operations of a unit.

    12 independent accumulators a = a * factor + term, of the widest vectors the processor has.
    """
    import numba
    from llvmlite import binding, ir
    from numba.core import cgutils
    from numba.extending import intrinsic

    features = binding.get_host_cpu_features()
    lanes = 16 if features.get("avx512f") else 8 if features.get("avx") else 4
    accumulators = 12
    real, index = ir.FloatType(), ir.IntType(32)
    vector = ir.VectorType(real, lanes)

    def splat(builder, value):
        first = builder.insert_element(ir.Constant(vector, ir.Undefined), value, ir.Constant(index, 0))
        return builder.shuffle_vector(first, first, ir.Constant(ir.VectorType(index, lanes), [0] * lanes))

    @intrinsic
    def multiply_add(typing, rounds, factor, term):
        def codegen(context, builder, signature, arguments):
            name = f"llvm.fmuladd.v{lanes}f32"
            fused = cgutils.get_or_insert_function(builder.module, ir.FunctionType(vector, [vector] * 3), name)
            factor, term = (splat(builder, value) for value in arguments[1:])
            starts = [
                ir.Constant(vector, [float(i * lanes + lane) for lane in range(lanes)]) for i in range(accumulators)
            ]
            places = [cgutils.alloca_once_value(builder, start) for start in starts]
            with cgutils.for_range(builder, arguments[0]):
                for place in places:
                    builder.store(builder.call(fused, [builder.load(place), factor, term]), place)
            total = functools.reduce(builder.fadd, map(builder.load, places))
            return functools.reduce(
                builder.fadd, [builder.extract_element(total, ir.Constant(index, lane)) for lane in range(lanes)]
            )

        return term(rounds, factor, term), codegen

    half = np.float32(0.5)  # halved and a half added: towards 1, so neither overflow nor denormals
    run = numba.njit(error_model="numpy", nogil=True)(lambda units: multiply_add(units, half, half))
    return run, 2 * accumulators * lanes


class Numbanet:
    """numbanet itself, as its users call it."""

    packages = ("numbanet", "numba")

    def __init__(self, threads):
        import numbanet
        from benchmarks import common

        numbanet.set_num_threads(threads)
        self.net = common.net

    def training(self, task, arrays):
        """fit, with all that it checks."""
        model = self.net(task["sizes"])
        model.set_weights([array for pair in weights_of(arrays) for array in pair])
        fit = functools.partial(model.fit, arrays["X"], arrays["y"], task["batch_size"], verbose=0, shuffle=False)
        return lambda epochs: fit(epochs=epochs), fit(epochs=1).history["loss"]

    def inference(self, task, arrays):
        """predict, arguments checked as for any user."""
        model = self.net(task["sizes"])
        model.set_weights([array for pair in weights_of(arrays) for array in pair])
        predict = functools.partial(model.predict, rows_of(task["rows"], task["sizes"][0]))
        return repeated(predict), shown(predict())

    def product(self, task, arrays):
        """As in training, inside compiled code: many products a call, operands padded and in panels."""
        from benchmarks import products

        return products.product(*task["product"]), []

    def peak(self, task, arrays):
        """The result is the peak rate of one core, operations a second: the fastest of many runs of some 10 ms."""
        run, operations = fma_rate()
        units = 2**22
        run(1)  # compiles
        return run, [operations * units / min(seconds(run, units) for _ in range(50))]


# -- peers


class Torch:
    """PyTorch, eager: the loop that everyone writes."""

    packages = ("torch",)
    device = "cpu"

    def __init__(self, threads):
        import torch

        self.torch = torch
        torch.set_num_threads(threads)

    def net(self, arrays, *last):
        """Linear layers with the given weights and relu between them, and what is to follow the last."""
        torch, layers = self.torch, []
        for kernel, bias in weights_of(arrays):
            linear = torch.nn.Linear(*kernel.shape)
            with torch.no_grad():
                linear.weight.copy_(torch.from_numpy(kernel.T))
                linear.bias.copy_(torch.from_numpy(bias))
            layers += [linear, torch.nn.ReLU()]
        return torch.nn.Sequential(*layers[:-1], *last).to(self.device)

    def training(self, task, arrays):
        """Epochs of batches that are slices of tensors."""
        torch, batch_size = self.torch, task["batch_size"]
        model = self.net(arrays)
        optimizer = torch.optim.SGD(model.parameters(), lr=RATE)
        X, y = (torch.from_numpy(arrays[name]).to(self.device).split(batch_size) for name in "Xy")

        def epoch():
            for samples, labels in zip(X, y, strict=True):
                optimizer.zero_grad()
                loss = torch.nn.functional.cross_entropy(model(samples), labels)
                loss.backward()
                optimizer.step()
                yield loss

        losses = [loss.item() for loss in epoch()]
        return repeated(lambda: [None for _ in epoch()]), [float(np.mean(losses))]

    def inference(self, task, arrays):
        """NumPy array in, NumPy array out, under inference_mode."""
        torch = self.torch
        model = self.net(arrays, torch.nn.Softmax(1))

        def predict(X):
            with torch.inference_mode():
                return model(torch.from_numpy(X)).numpy()

        call = chunked(predict, rows_of(task["rows"], task["sizes"][0]))
        return repeated(call), shown(call())

    def product(self, task, arrays):
        """torch.mm into memory made beforehand."""
        a, b = map(self.torch.from_numpy, factors(*task["product"]))
        out = self.torch.empty(a.shape[0], b.shape[1], dtype=a.dtype)
        return checked_product(functools.partial(self.torch.mm, a, b, out=out), *task["product"])


class Jax:
    """JAX: the whole epoch is one jitted scan."""

    packages = ("jax",)

    def __init__(self, threads):
        if threads == 1 and hasattr(os, "sched_setaffinity"):  # its threads are settled by the cores it sees at start
            os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
        os.environ["JAX_PLATFORMS"] = "cpu"
        import jax

        self.jax = jax

    def training(self, task, arrays):
        """Epochs by a scan over the batches of device arrays, weights donated."""
        jax, jnp = self.jax, self.jax.numpy

        def loss(weights, X, y):
            for kernel, bias in weights[:-1]:
                X = jax.nn.relu(X @ kernel + bias)
            scores = jax.nn.log_softmax(X @ weights[-1][0] + weights[-1][1])
            return -jnp.take_along_axis(scores, y[:, None], axis=1).mean()

        @functools.partial(jax.jit, donate_argnums=0)
        def epoch(weights, X, y):
            def step(weights, batch):
                value, gradient = jax.value_and_grad(loss)(weights, *batch)
                return jax.tree.map(lambda w, dw: w - RATE * dw, weights, gradient), value

            weights, losses = jax.lax.scan(step, weights, (X, y))
            return weights, losses.mean()

        size = task["batch_size"]
        X = jnp.asarray(arrays["X"].reshape(-1, size, task["sizes"][0]))
        y = jnp.asarray(arrays["y"].reshape(-1, size), jnp.int32)
        weights, first = epoch(jax.tree.map(jnp.asarray, weights_of(arrays)), X, y)

        def run(epochs):
            nonlocal weights
            for _ in range(epochs):
                weights, value = epoch(weights, X, y)
            jax.block_until_ready((weights, value))

        return run, [float(first)]


class ScikitLearn:
    """scikit-learn's MLPClassifier, with initial weights of its own."""

    packages = ("scikit-learn",)

    def __init__(self, threads):
        from sklearn.neural_network import MLPClassifier

        self.classifier = MLPClassifier

    def training(self, task, arrays):
        """fit, going on from where it was; no result, as it starts from other weights."""
        warnings.simplefilter("ignore")  # that it has not converged
        model = self.classifier(
            task["sizes"][1:-1],
            solver="sgd",
            alpha=0,
            batch_size=task["batch_size"],
            learning_rate_init=RATE,
            momentum=0,
            nesterovs_momentum=False,
            tol=0,
            n_iter_no_change=np.inf,
            warm_start=True,
            shuffle=False,
            random_state=0,
        )

        def run(epochs):
            model.set_params(max_iter=epochs).fit(arrays["X"], arrays["y"])

        return run, []


class OnnxRuntime:
    """onnxruntime, on a model of the same weights."""

    packages = ("onnxruntime", "onnx")

    def __init__(self, threads):
        import onnx
        import onnxruntime

        self.onnx, self.runtime, self.threads = onnx, onnxruntime, threads

    def model(self, arrays):
        """Gemm and Relu for every layer, Softmax at the end, as the bytes of an ONNX file."""
        helper, real = self.onnx.helper, self.onnx.TensorProto.FLOAT
        weights, nodes, constants, x = weights_of(arrays), [], [], "x"
        for layer, pair in enumerate(weights):
            names = [f"kernel{layer}", f"bias{layer}"]
            constants += map(self.onnx.numpy_helper.from_array, pair, names)
            last = layer == len(weights) - 1
            nodes.append(helper.make_node("Gemm", [x, *names], [f"z{layer}"]))
            x = "y" if last else f"h{layer}"
            nodes.append(helper.make_node("Softmax" if last else "Relu", [f"z{layer}"], [x]))
        ends = [
            helper.make_tensor_value_info(name, real, [None, width])
            for name, width in [("x", len(weights[0][0])), ("y", len(weights[-1][1]))]
        ]
        graph = helper.make_graph(nodes, "classifier", ends[:1], ends[1:], constants)
        # An old opset and file version, which every onnxruntime of recent years reads.
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString()

    def inference(self, task, arrays):
        """NumPy array in, NumPy array out."""
        options = self.runtime.SessionOptions()
        options.intra_op_num_threads = 1 if self.threads == 1 else 0  # 0: as it likes
        session = self.runtime.InferenceSession(self.model(arrays), options, providers=["CPUExecutionProvider"])
        call = chunked(lambda X: session.run(None, {"x": X})[0], rows_of(task["rows"], task["sizes"][0]))
        return repeated(call), shown(call())


class NumPy:
    """NumPy's BLAS; the number of its threads is in the environment of the process."""

    packages = ("numpy",)

    def __init__(self, threads):
        pass

    def product(self, task, arrays):
        """np.matmul into memory made beforehand."""
        a, b = factors(*task["product"])
        out = np.empty((a.shape[0], b.shape[1]), a.dtype)
        return checked_product(functools.partial(np.matmul, a, b, out=out), *task["product"])


PEERS = {
    "numbanet": Numbanet,
    "torch": Torch,
    "jax": Jax,
    "scikit-learn": ScikitLearn,
    "onnxruntime": OnnxRuntime,
    "numpy": NumPy,
}
