"""The Model: networks as users see them. Checks happen here, once; below are only programs.

A method either does what it says or raises before anything has changed.
"""

from __future__ import annotations

import math
import secrets

import numpy as np

from numbanet import fitting, intake, kernels, losses, metrics, optimizers, sharing, summary, validate
from numbanet.graph import Graph
from numbanet.layers import Input, Layer, as_node, connect
from numbanet.names import lookup
from numbanet.parts import Parts, lenders, part
from numbanet.planner import MODES, TRAINING, Form, Goal, build_plan, samples_of
from numbanet.program import Program, Quick, compile_functions
from numbanet.training import Data, Turn, run_epoch

DTYPES = ("float32", "float64")


class Model(Parts):
    """A network from `inputs` (one nn.Input or a list of them) to `outputs`: any graph of layers without cycles.

    Its weights are its own, even if other models have the same layers. To share weights take a `submodel`, or call a
    model like a layer.

    seed: whole number from 0 that settles initial weights and the order of samples; None draws one (see `model.seed`).
    dtype: "float32" (default) or "float64", of weights and all arithmetic.
    """

    def __init__(self, inputs, outputs, seed=None, dtype="float32"):
        inputs = inputs if isinstance(inputs, list | tuple) else [inputs]
        for value in inputs:
            if not isinstance(value, Input):
                raise TypeError(f"a model's inputs must be nn.Input, not {value!r}")
        if isinstance(outputs, list | tuple):
            if len(outputs) != 1:
                raise ValueError(f"a model has one output, not {len(outputs)}; join them with nn.Concatenate()")
            outputs = outputs[0]
        graph = Graph([value.node for value in inputs], as_node("a model's output", outputs))
        borrowed = lenders(graph)
        self._build(graph, seed, dtype)
        self.graph.initialise(self._theta, self.seed)
        if borrowed:
            sharing.borrow(self, borrowed)

    def _build(self, graph, seed, dtype):
        """An uncompiled model with all weights zero."""
        lookup("dtype", dtype, dict.fromkeys(DTYPES))
        self.seed = secrets.randbits(32) if seed is None else validate.whole_number("seed", seed, 0, 2**63 - 1)
        self.dtype = dtype
        self.graph = graph.placed()
        self.optimizer = self.loss = None
        self.metrics = ()
        self.stop_training = False  # True: fit stops after the epoch or batch under way
        self.epochs = 0  # begun since the model was built; each has its own order of samples
        self._device = kernels.load("cpu")
        self._programs = {}
        self._steps = sharing.steps_of(self._device)
        self._memory = self._device.zeros(graph.size, dtype)
        self._sharers = sharing.alone(self)
        self._turn = Turn()
        compile_functions(self.graph, None, self._device, dtype)

    @property
    def _theta(self):
        """All parameters and optimiser state, laid out as in numbanet.graph, to read and to write."""
        return self._device.host(self._memory)

    # -- what it is

    @property
    def device(self):
        """Where the model computes: "cpu" or "cuda"."""
        return self._device.NAME

    def to(self, device):
        """Move the model to a device, "cpu" or "cuda" (an NVIDIA GPU, one program for all of an epoch); returns it.

        Weights and optimiser state move along, and so do models that share the weights; a saved model does not remember
        its device. DeviceError (a RuntimeError) if there is no GPU or no numba-cuda to compile for it, MemoryError if
        it has no room: the model stays as it is.
        """
        device = kernels.load(device)
        if device is not self._device:
            for model in sharing.sharers(self):
                for op in model._plan("predict", 1).ops:
                    device.address(op.name, self.dtype, op.source or "float32")
                compile_functions(model.graph, model.loss, device, self.dtype)
            sharing.move(self, device)
        return self

    @property
    def updates(self):
        """Optimiser steps done since compile."""
        return int(self._steps[0, kernels.UPDATE])

    @property
    def learning_rate(self):
        """The learning rate of the next update, a float. Set to a number or a schedule, it is another from the next
        epoch on, and the optimiser's state stays as it is."""
        self._need_compiled()
        return float(self.optimizer.rates(self.updates // self.optimizer.period))

    @learning_rate.setter
    def learning_rate(self, learning_rate):
        self._need_compiled()
        self.optimizer = self.optimizer.with_rate(learning_rate)

    def __repr__(self):
        return summary.table(self)

    def summary(self):
        """Print the table of layers, output shapes and parameters."""
        print(self)

    def plan(self, mode="train", batch_size=32):
        """The plan for a mode: "predict", "evaluate", "gradient" or "train" (all but the first need compile)."""
        if lookup("mode", mode, dict.fromkeys(MODES, mode)) != "predict":
            self._need_compiled()
        return self._plan(mode, validate.whole_number("batch_size", batch_size))

    def submodel(self, inputs=None, outputs=None):
        """A part of the network as a model that shares the weights: an encoder, a decoder, what a layer computes.

        outputs: the layer it ends with, by name, or the result of a layer's call; None is this model's output.
        inputs: one or a list of these, in whose place samples enter; None are this model's inputs that are needed.

        The weights are common: what either trains, sets or moves to a device, both have, whether compiled before or
        after. The part is not compiled; compiled, it has its own loss, optimiser state and count of updates. Layers
        keep their names. A layer that one of them adds or removes is nothing to the other: a removed one stays where it
        is used. A copy, a pickle or a file of either is a model by itself.

        Training while another thread compiles, moves or changes a model that shares the weights ends in a RuntimeError.
        ValueError for unknown names, listing the known ones, and for what is not a network.
        """
        model = Model.__new__(Model)
        model._build(part(self.graph, inputs, outputs), self.seed, self.dtype)
        sharing.view(model, self)
        return model

    def get_weights(self):
        """The weights layer by layer, a list of new arrays: for Dense the kernel (inputs, units), then the bias."""
        return [parameter.unpack(self._theta) for parameter in self.graph.parameters]

    def set_weights(self, weights):
        """Set all weights, given as get_weights lists them."""
        wanted = self.graph.parameters
        if not isinstance(weights, list | tuple):
            raise TypeError(f"weights must be a list of arrays, as get_weights gives it, not {type(weights).__name__}")
        if len(weights) != len(wanted):
            names = ", ".join(parameter.name for parameter in wanted)
            raise ValueError(f"{len(weights)} arrays given, expected {len(wanted)}: {names}")
        arrays = [
            validate.parameter(parameter.name, value, parameter.shape, self.dtype)
            for parameter, value in zip(wanted, weights, strict=True)
        ]
        for parameter, array in zip(wanted, arrays, strict=True):
            parameter.pack(self._theta, array)

    # -- training

    def compile(self, optimizer="adam", loss=None, metrics=()):
        """Settle how to train: an optimiser or its name, a loss's name or nn.loss(...), a list of metrics' names.

        Losses, means over rows; y an output, t its target, m the mean over a row's outputs, s the sum over them:
        half_squared_error s (t - y)^2 / 2, mse m (t - y)^2, mae m |t - y|, huber (see nn.Huber), cross_entropy
        -s t log y (t class numbers, or probabilities), binary_cross_entropy -m (t log y + (1 - t) log(1 - y)),
        kl_divergence s t log(t / y), hinge m max(1 - t y, 0) (t -1 and 1, or 0 and 1), poisson m (y - t log y).
        Metrics: mse, mae; accuracy, the share of rows whose largest output is the right one (with binary_cross_entropy
        or a single output as binary_accuracy, the share of outputs on the target's side of 1/2).

        Weights stay; the optimiser starts anew. ValueError for unknown names, listing the known ones.
        """
        if loss is None:
            raise ValueError(f"compile needs a loss; known: {', '.join(losses.LOSSES)}")
        names = [] if metrics is None else [metrics] if isinstance(metrics, str) else metrics
        if not isinstance(names, list | tuple):
            raise TypeError(f"metrics must be a list of names, not {metrics!r}")
        loss = losses.get(loss)
        if loss.classes and self.graph.output.shape == (1,):
            raise ValueError(f"{loss.name} needs two or more outputs, the network has 1; try binary_cross_entropy")
        self._compile(optimizers.get(optimizer), loss, names)

    def _compile(self, optimizer, loss, names):
        chosen = tuple(metrics.get(name) for name in names)
        if len({metric.name for metric in chosen}) != len(chosen):
            raise ValueError(f"metrics {names} name one metric twice")
        compile_functions(self.graph, loss, self._device, self.dtype)
        steps = sharing.steps_of(self._device)
        sharing.rearrange(self, optimizer=optimizer, loss=loss, metrics=chosen, _steps=steps)

    def fit(
        self,
        X,
        y=None,
        batch_size=None,
        epochs=1,
        verbose=1,
        callbacks=None,
        validation_split=0.0,
        validation_data=None,
        shuffle=True,
        class_weight=None,
        sample_weight=None,
        initial_epoch=0,
        steps_per_epoch=None,
        tol=None,
    ):
        """Train for a number of epochs; returns a History with one value an epoch.

        X: array (n, ...) of samples (several inputs: a list of arrays, or a dict by input name).
        y: targets (n, outputs), or integer labels (n,) where the loss takes classes. Any numeric dtype, memory order
        or nesting of lists will do, and np.memmap is read where it lies.
        Or X: batches (x, y) or (x, y, sample_weight), one update each, and no y: an iterator, which is read once, or
        what can be iterated anew each epoch, such as a list of batches or a DataLoader, or has a length and items.
        steps_per_epoch: batches of an epoch of those; None: all there are.
        batch_size: 32 rows. verbose: 1 (or True) a progress bar, 2 a line an epoch, 0 (or False) nothing.
        callbacks: a list of nn.Callback. initial_epoch: the number of the first epoch; `epochs` is that of the end.
        validation_split: share in [0, 1) of the samples, taken from the end, that is evaluated instead of trained on;
        validation_data: (X, y) or (X, y, sample_weight) to evaluate after each epoch, or batches that can be iterated
        anew. shuffle: a new order of samples each epoch; without it, samples of the model's dtype are read where they
        lie, which saves a tenth to a third of the time.
        sample_weight: (n,), at least 0: the loss is the sum of weight times loss over the number of rows; metrics are
        not weighted. class_weight: a dict of class numbers to weights (1 for those left out), or "balanced",
        n / (classes * samples of the class); multiplies with sample_weight, not used in validation.
        tol: stop after an epoch whose loss differs from that of the one before by at most this.
        With nn.LBFGS an epoch is an iteration on all samples at once, whatever batch_size and shuffle.

        Ctrl-C stops within about 0.1 s: the model is at its last finished update, the epochs so far are returned.
        """
        self._need_compiled()
        return fitting.fit(
            self,
            X,
            y,
            batch_size=batch_size,
            epochs=epochs,
            verbose=verbose,
            callbacks=callbacks,
            validation_split=validation_split,
            validation_data=validation_data,
            shuffle=shuffle,
            class_weight=class_weight,
            sample_weight=sample_weight,
            initial_epoch=initial_epoch,
            steps_per_epoch=steps_per_epoch,
            tol=tol,
        )

    def train_on_batch(self, X, y, sample_weight=None, class_weight=None):
        """One update on one batch; returns its loss and metrics from before the update, as evaluate does.

        sample_weight, class_weight: as in fit.
        """
        self._need_compiled()
        data = intake.by_class(self, self._data(X, y, sample_weight), class_weight)
        program = self._program("train", data.samples, data.form(self._lie_ready(data.arrays)))
        return self._train(program, data, np.arange(data.samples), data.samples)

    def evaluate(self, X, y=None, batch_size=None, sample_weight=None):
        """Mean loss and metrics over samples: {"loss": ..., "accuracy": ...}.

        X, y, sample_weight: as in fit; without y, X is an iterable of batches.
        batch_size: rows at a time, by default 256 (8192 on a GPU); it settles how much memory is used, not the result.
        """
        self._need_compiled()
        rows = self._device.ROWS_AT_ONCE if batch_size is None else validate.whole_number("batch_size", batch_size)
        if y is None and intake.are_batches(X):
            if sample_weight is not None:
                raise ValueError(f"sample_weight {fitting.AT_HAND}")
            return fitting.Stream(self, intake.Batches(self, X)).evaluate()
        data = self._data(X, y, sample_weight)
        return fitting.evaluate(self, data, rows, self._lie_ready(data.arrays))

    def predict(self, X, batch_size=None):
        """The network's output, an array (n, outputs) or (n, *shape) of the model's dtype.

        batch_size: rows at a time; it settles how much memory is used, not the result. By default as many as stay in
        a cache, 16 to 256 (on a GPU up to 8192).
        """
        quick = self._programs.get("quick")
        if quick is not None and batch_size is None and type(X) is np.ndarray:
            predictions = quick(X)
            if predictions is not None:
                return predictions
        rows = self._cached_rows() if batch_size is None else validate.whole_number("batch_size", batch_size)
        arrays, samples = intake.features(self.graph, self.dtype, X, check=False)
        program = self._program("predict", min(rows, samples), Form(direct=self._lie_ready(arrays)))
        predictions = self._device.empty((samples, math.prod(self.graph.output.shape)), self.dtype)
        data = Data(arrays, samples, others={"predictions": predictions})
        if run_epoch(program, data, np.arange(samples), min(rows, samples)) is None:
            intake.features(self.graph, self.dtype, X)  # says what is wrong with them
        if quick is None:
            self._prepare_quick()
        return self._device.fetch(predictions).reshape(samples, *self.graph.output.shape)

    def save(self, path):
        """Write the model to one safetensors file: weights, optimiser state and architecture (see nn.load).

        Of your own functions (nn.activation, nn.loss) only the names are written. The file appears whole or not at all:
        it is written under another name, synced and renamed.
        """
        from numbanet.io import checkpoint  # io stands above the model

        checkpoint.save(self, path)

    def __reduce__(self):
        """Pickled and copied as what it is saved as: compiled programs hold addresses and are made anew."""
        from numbanet.io import checkpoint

        return checkpoint.assemble, (type(self), *checkpoint.parts(self))

    # -- below the edge: nothing is checked again

    def _cached_rows(self):
        """Rows of a batch whose activations stay in a second-level cache."""
        row = sum(math.prod(node.shape) for node in self.graph.nodes) * np.dtype(self.dtype).itemsize
        return max(16, min(self._device.ROWS_AT_ONCE, self._device.CACHE // row // 16 * 16))

    def _prepare_quick(self):
        """Make predict quick for the next call with a few rows. Samples of one input only, compiled code only."""
        if self._device.quick and len(self.graph.inputs) == 1 and kernels.compiled():
            node = self.graph.inputs[0]
            width, name = math.prod(node.shape), samples_of(self.graph.names[node.layer])
            if len(node.shape) == 1:
                with sharing.lock:
                    plan = self._plan("predict", Quick.ROWS, Form(direct=True))
                    program = Program(plan, self._device, self.dtype, self._memory)
                    self._programs["quick"] = Quick(program, name, width, self.graph.output.shape)

    def _need_compiled(self):
        if self.loss is None:
            raise ValueError("the model is not compiled; call model.compile(optimizer=..., loss=...) first")

    def _plan(self, mode, batch_size, form=Form()):  # noqa: B008  (frozen)
        goal = Goal(self.loss, self.metrics, self.optimizer, self.seed)
        return build_plan(self.graph, mode, batch_size, form, goal, self._device.geometry())

    def _program(self, mode, batch_size, form=Form()):  # noqa: B008  (frozen)
        """The program of a mode and kind of data, kept until a larger batch is wanted; smaller ones fit in."""
        kind = mode, form, self.graph.resting() if mode in TRAINING else None
        program = self._programs.get(kind)
        if program is None or program.plan.batch_size < batch_size:
            with sharing.lock:  # nobody moves what the plan says is there
                plan = self._plan(mode, batch_size, form)
                steps = self._steps if mode == "train" else None
                program = self._programs[kind] = Program(plan, self._device, self.dtype, self._memory, steps)
        return program

    def _lie_ready(self, arrays):
        """Can the samples of every input be read where they lie?"""
        names = [samples_of(self.graph.names[node.layer]) for node in self.graph.inputs]
        return all(self._device.lies_ready(arrays[name], self.dtype) for name in names)

    def _train(self, program, data, order, batch_size):
        with self._turn.taken():
            return fitting.train(self, program, data, order, batch_size)

    def _data(self, X, y, weights=None):
        """Checked inputs, targets and weights."""
        return intake.data(self, X, y, weights)


class Sequential(Model):
    """A network of layers one after the other, the first an nn.Input. See Model for seed and dtype."""

    def __init__(self, layers, seed=None, dtype="float32"):
        layers = list(layers)
        for layer in layers:
            if not isinstance(layer, Layer):
                raise TypeError(f"Sequential takes a list of layers, not one with {repr(layer)[:60]}")
        if not layers or not isinstance(layers[0], Input):
            given = type(layers[0]).__name__ if layers else "nothing"
            raise ValueError(f"Sequential begins with {given}, expected nn.Input(shape) first")
        node = layers[0].node
        for layer in layers[1:]:
            if isinstance(layer, Input):
                raise ValueError("Sequential takes one nn.Input, the first layer; for several use nn.Model")
            node = connect(layer, [node])
        self._build(Graph([layers[0].node], node), seed, dtype)
        self.graph.initialise(self._theta, self.seed)

    def add(self, layer):
        """Append a layer, whose weights are drawn as if it had been there when the model was built; compile again then.

        All other weights stay, bit for bit. ValueError if it does not fit, TypeError if it is no layer.
        """
        if not isinstance(layer, Layer) or isinstance(layer, Input):
            raise TypeError(f"add takes a layer other than nn.Input, not {repr(layer)[:60]}")
        self._end_with(connect(layer, [self.graph.output]))

    def pop(self):
        """Remove the last layer, with its weights, and return it; compile again then. ValueError if there is none."""
        node = self.graph.output
        if isinstance(node.layer, Input):
            raise ValueError("the model has no layer left but its input; nothing to pop")
        self._end_with(node.inputs[0])
        return node.layer

    def _end_with(self, node):
        """Become the uncompiled model which ends there; layers keep names and weights."""
        graph, steps = Graph(self.graph.inputs, node, self.graph.names), sharing.steps_of(self._device)
        compile_functions(graph, None, self._device, self.dtype)
        sharing.rearrange(self, graph=graph, optimizer=None, loss=None, metrics=(), _steps=steps)
