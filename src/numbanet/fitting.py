"""The loop of fit: epochs over samples or batches, validation after each, and the callbacks that are told."""

from __future__ import annotations

import contextlib
import time
import warnings
from dataclasses import replace

import numpy as np

from numbanet import intake, lbfgs, validate
from numbanet.callbacks import Callback, Lines, ProgressBar
from numbanet.optimizers import LBFGS
from numbanet.pace import SLICE
from numbanet.training import History, Totals, run_epoch, shuffled

BATCH_SIZE = 32
AT_HAND = "needs all samples at hand: X and y, not batches (x, y) or (x, y, sample_weight)"


def fit(model, X, y, *, epochs, verbose, callbacks, validation_split, validation_data, initial_epoch, tol, **how):
    """See Model.fit; how: what is left of its arguments, `source` names them."""
    epochs = validate.whole_number("epochs", epochs, 0)
    first = validate.whole_number("initial_epoch", initial_epoch, 0)
    verbose = validate.verbosity(verbose)
    tol = -1.0 if tol is None else validate.real_number("tol", tol, 0)
    callbacks = with_shown(checked(callbacks), verbose)
    share = validate.real_number("validation_split", validation_split, 0, 1, open_most=True)
    share = share if validation_data is None else 0.0
    samples, held_out = source(model, X, y, share, **how)
    if validation_data is not None:
        held_out = held_out_of(model, validation_data)
    told = Told(model, callbacks, {"epochs": epochs, "steps": samples.steps, "verbose": verbose})
    history = History()
    try:
        with contextlib.closing(told):
            try:
                samples.place()
                if held_out:
                    held_out.place()
                _epochs(samples, held_out, told, history, range(first, epochs), tol)
            except KeyboardInterrupt:
                pass
            if told.begun:
                told.tell("on_train_end", told.logs)
    except KeyboardInterrupt:
        pass
    return history


def _epochs(samples, held_out, told, history, numbers, tol):
    """All epochs, until somebody asks to stop, the loss stays as it is (`tol`) or the samples have run out."""
    told.model.stop_training = False
    told.tell("on_train_begin", {})
    told.begun = True
    course = Course(held_out, told, history, tol)
    if isinstance(told.model.optimizer, LBFGS):
        samples.minimise(numbers, course)
        return
    for epoch in numbers:
        if not samples.more():
            _ran_out(samples, epoch, numbers)
            return
        if course.begin(epoch) or course.end(samples.train(told)):
            return


class Course:
    """What happens around the updates of every epoch."""

    def __init__(self, held_out, told, history, tol):
        self._held_out, self.told, self._history, self._tol = held_out, told, history, tol
        self._epoch, self._last = 0, np.inf

    def begin(self, epoch):
        """An epoch is about to begin; returns whether somebody asks to stop."""
        self._epoch = epoch
        self.told.tell("on_epoch_begin", epoch, {})
        return self.told.model.stop_training

    def end(self, logs):
        """Its updates are done, with these figures; returns whether training shall stop."""
        told, last = self.told, self._last
        if self._held_out:
            told.tell("on_test_begin", {})
            found = self._held_out.evaluate()
            told.tell("on_test_end", found)
            logs |= {f"val_{name}": value for name, value in found.items()}
        told.logs = logs
        try:
            told.tell("on_epoch_end", self._epoch, logs)
        finally:  # it has been trained, whatever a callback or Ctrl-C makes of it
            self._history.append(self._epoch, logs)
        self._last = logs["loss"]
        return told.model.stop_training or abs(self._last - last) <= self._tol


def _ran_out(samples, epoch, numbers):
    if epoch == numbers[0]:
        raise ValueError("X has no batches; expected an iterable of (x, y)")
    if samples.batches.short:  # it has been said
        return
    warnings.warn(
        f"the batches have ended after {epoch - numbers[0]} of {len(numbers)} epochs; expected what can be iterated "
        "anew each epoch, or an iterator with as many batches as steps_per_epoch * epochs",
        stacklevel=5,
    )


# -- where samples come from


def source(model, X, y, share, batch_size, shuffle, class_weight, sample_weight, steps_per_epoch):
    """What is trained on, and what of it is held out or None."""
    shuffle = validate.flag("shuffle", shuffle)
    if batch_size is not None:
        batch_size = validate.whole_number("batch_size", batch_size)
    if steps_per_epoch is not None:
        steps_per_epoch = validate.whole_number("steps_per_epoch", steps_per_epoch)
    if y is None and not intake.are_batches(X):
        raise TypeError("y must hold real numbers, not None; without y, X must be an iterable of batches (x, y)")
    if y is not None:
        if steps_per_epoch is not None:
            raise ValueError("steps_per_epoch is for batches that come one by one; X is all samples, give batch_size")
        data, held_out = intake.hold_out(intake.data(model, X, y, sample_weight), share)
        data = intake.by_class(model, data, class_weight)
        return Samples(model, data, batch_size or BATCH_SIZE, shuffle), held_out and Samples(model, held_out)
    given = {
        "batch_size": batch_size is not None,
        "sample_weight": sample_weight is not None,
        "validation_split": share > 0,
        "class_weight='balanced'": isinstance(class_weight, str),
    }
    for name in (name for name, is_given in given.items() if is_given):
        raise ValueError(f"{name} {AT_HAND}")
    return Stream(model, intake.Batches(model, X, steps_per_epoch, class_weight)), None


def held_out_of(model, given):
    """What is evaluated after each epoch, from validation_data."""
    if not isinstance(given, list | tuple) and intake.are_batches(given):
        batches = intake.Batches(model, given)
        if batches.once:
            raise ValueError("validation_data is an iterator, which can be read once only; give what can be read anew")
        return Stream(model, batches)
    return Samples(model, intake.data(model, *intake.pair("validation_data", given)))


class Samples:
    """Samples that are all at hand. batch_size: None for that of evaluation."""

    def __init__(self, model, data, batch_size=None, shuffle=False):
        self.model, self.data, self._shuffle, self._program = model, data, shuffle, None
        self._batch_size = min(model._device.ROWS_AT_ONCE if batch_size is None else batch_size, data.samples)
        self.steps = -(-data.samples // self._batch_size)

    def place(self):
        """Put them where the device reads them; may take a while."""
        self._direct = not self._shuffle and self.model._lie_ready(self.data.arrays)
        self.data = self.data.on(self.model._device)

    def more(self):
        """Is there an epoch's worth of them?"""
        return True

    def train(self, told):
        """An epoch of updates; its logs."""
        model, data = self.model, self.data
        model._need_compiled()  # a callback may have changed it
        if self._program is None or told.callbacks:  # who may have frozen a layer, or compiled the model anew
            self._program = model._program("train", self._batch_size, data.form(self._direct))
        with model._turn.taken():
            order = shuffled(data.samples, model.seed, model.epochs) if self._shuffle else np.arange(data.samples)
            before, model.epochs = model.updates, model.epochs + 1
            logs = train(model, self._program, data, order, self._batch_size, told)
            done = model.updates - before
        return told.finished(logs, done)

    def minimise(self, numbers, course):
        """All epochs by L-BFGS, an iteration each."""
        coming = iter(numbers)

        def after(means, steady):
            logs = course.told.finished(logs_of(self.model, means, steady), 1)
            following = next(coming, None)
            return course.end(logs) or following is None or course.begin(following)

        if numbers and not course.begin(next(coming)):
            lbfgs.minimise(self.model, self.data, len(numbers), after)

    def evaluate(self):
        """Mean loss and metrics."""
        return evaluate(self.model, self.data, self._batch_size, self._direct)


class Stream:
    """Batches that come one by one."""

    def __init__(self, model, batches):
        self.model, self.batches, self.steps = model, batches, batches.steps

    def place(self):
        """They are placed as they come."""

    def more(self):
        """Is there another epoch?"""
        return self.batches.more()

    def train(self, told):
        """An epoch of updates; its logs."""
        self.model._need_compiled()
        totals, steady = Totals(), penalty(self.model, frozen=True)
        for number, data in enumerate(self.batches.epoch()):
            self.model.epochs += number == 0  # once a batch has been found right
            told.before(number)
            train_once(self.model, data, totals)
            if told.after(number + 1, lambda done: totals.means()):
                break
        return told.finished(logs_of(self.model, totals.means(), steady), number + 1)

    def minimise(self, numbers, course):
        """Not with these."""
        raise ValueError(f"LBFGS {AT_HAND}")

    def evaluate(self):
        """Mean loss and metrics."""
        model, totals = self.model, Totals()
        if not self.more():
            raise ValueError("there are no batches to evaluate; expected an iterable of (x, y)")
        for data in self.batches.epoch():
            program = model._program("evaluate", data.samples, data.form(model._lie_ready(data.arrays)))
            run_epoch(program, data, np.arange(data.samples), data.samples, totals=totals)
        return logs_of(model, totals.means(), penalty(model))


# -- one epoch


def train(model, program, data, order, batch_size, told=None):
    """One epoch of updates; its logs."""
    updates = model.updates + np.arange(-(-len(order) // batch_size))
    data = replace(data, others={"coefficients": model.optimizer.coefficients(updates)})
    steady = penalty(model, frozen=True)
    watch = told and told.watch(program, data.others["coefficients"], updates, steady)
    means = run_epoch(program, data, order, batch_size, watch)
    _need_memory(model, program)
    return logs_of(model, means, steady)


def _need_memory(model, program):
    """What was trained must be what the model has."""
    if not program.trains(model._memory):
        raise RuntimeError("the model, or one that shares its weights, was compiled, moved or changed while it trained")


def train_once(model, data, totals=None):
    """One update on all of the data; the means before it."""
    program = model._program("train", data.samples, data.form(model._lie_ready(data.arrays)))
    with model._turn.taken():
        data = replace(data, others={"coefficients": model.optimizer.coefficients(model.updates + np.arange(1))})
        means = run_epoch(program, data, np.arange(data.samples), data.samples, totals=totals)
    _need_memory(model, program)
    return means


def evaluate(model, data, rows, direct):
    """Mean loss and metrics, so many rows at a time."""
    batch_size = min(rows, data.samples)
    program = model._program("evaluate", batch_size, data.form(direct))
    return logs_of(model, run_epoch(program, data, np.arange(data.samples), batch_size), penalty(model))


def penalty(model, frozen=False):
    """What regularisers add to the loss; frozen: for those parameters only, for training adds that of the others."""
    if not any(spec.regularizer for spec in model.graph.specs):
        return 0.0
    return float(model.graph.penalty(model._theta, model.graph.frozen() if frozen else None))


def logs_of(model, means, steady):
    """Figures by name; steady: a penalty to add to the loss."""
    names = ("loss", *(metric.name for metric in model.metrics))
    logs = {name: float(value) for name, value in zip(names, means, strict=True)}
    return logs | {"loss": logs["loss"] + steady}


# -- callbacks


def checked(callbacks):
    """The callbacks, which must be some."""
    if callbacks is None:
        return []
    if isinstance(callbacks, Callback):
        return [callbacks]
    if not isinstance(callbacks, list | tuple):
        raise TypeError(f"callbacks must be a list of nn.Callback, not {callbacks!r}")
    for callback in callbacks:
        if not isinstance(callback, Callback):
            raise TypeError(f"callbacks must be instances of nn.Callback, not {callback!r}")
    return list(callbacks)


def with_shown(callbacks, verbose):
    """The callbacks, and what `verbose` shows."""
    if verbose == 1 and not any(isinstance(callback, ProgressBar) for callback in callbacks):
        return [*callbacks, ProgressBar()]
    return [*callbacks, Lines()] if verbose == 2 else callbacks


class Told:
    """The callbacks of a fit, and what run_epoch may tell them while an epoch is under way."""

    def __init__(self, model, callbacks, params):
        self.model, self.callbacks, self.logs, self.begun = model, callbacks, {}, False
        for callback in callbacks:
            callback.set_params(params)
            callback.set_model(model)
        self._begins, self._ends, self._progress = (
            self._overwritten(hook) for hook in ("on_train_batch_begin", "on_train_batch_end", "on_progress")
        )
        self.each = bool(self._begins or self._ends)
        self._due, self._steady, self._program = 0.0, 0.0, None

    def _overwritten(self, name):
        hooks = [getattr(callback, name) for callback in self.callbacks]
        return [hook for hook in hooks if getattr(hook, "__func__", None) is not getattr(Callback, name)]

    def tell(self, hook, *arguments):
        """Call a hook of all callbacks."""
        for callback in self.callbacks:
            getattr(callback, hook)(*arguments)

    def close(self):
        """Call `close` of all callbacks, of the others too if one fails."""
        with contextlib.ExitStack() as stack:
            for callback in self.callbacks:
                stack.callback(callback.close)

    def watch(self, program, coefficients, updates, steady):
        """What run_epoch shall tell, if anything; the rest is what it computes with."""
        if not (self.each or self._progress):
            return None
        self._steady = steady
        self._program, self._coefficients, self._updates = program, coefficients, updates
        self._optimizer = self.model.optimizer
        return self

    def before(self, batch):
        """A batch is about to begin. A learning rate that a callback has set counts from here on."""
        for hook in self._begins:
            hook(batch, {})
        optimizer = self.model.optimizer
        if self._program is not None and optimizer is not self._optimizer:
            self._coefficients[batch] = optimizer.coefficients(self._updates[batch : batch + 1])[0]
            self._program.bind("coefficients", self._coefficients)

    def after(self, done, means):
        """So many batches of the epoch are done; returns whether somebody asks to stop."""
        now = time.perf_counter()
        progress = self._progress if now >= self._due else []
        if not self._ends and not progress:
            return False
        logs = logs_of(self.model, means(done), self._steady)
        for hook in self._ends:
            hook(done - 1, logs)
        for hook in progress:
            hook(done, logs)
            self._due = now + SLICE / 2  # not more often, however short the epochs
        return self.model.stop_training

    def finished(self, logs, done):
        """An epoch's updates are done; returns its logs."""
        for hook in self._progress:
            hook(done, logs)
        return logs
