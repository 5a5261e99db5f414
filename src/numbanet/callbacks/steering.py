"""Callbacks that steer training: they end it, or set the learning rate."""

from __future__ import annotations

import inspect

import numpy as np

from numbanet import validate
from numbanet.callbacks.base import Callback, Monitor, rate, say
from numbanet.training import Snapshot


class EarlyStopping(Monitor):
    """Stops training when a figure has not improved for `patience` epochs (Prechelt, 1998).

    min_delta: least change that is an improvement. mode: "min", "max", or "auto": by the name of the figure. baseline:
    waiting goes on unless the figure is better than this. start_from_epoch: the first epoch to look at.
    restore_best_weights: in the end the whole model is put back to where it was after the best epoch: weights,
    optimiser, counters; bit for bit as if training had ended there. Ctrl-C puts it back too, an error does not.
    verbose: 1 says what is done.
    """

    def __init__(
        self,
        monitor="val_loss",
        min_delta=0,
        patience=0,
        verbose=0,
        mode="auto",
        baseline=None,
        restore_best_weights=False,
        start_from_epoch=0,
    ):
        super().__init__(monitor, mode, min_delta)
        self.patience = validate.whole_number("patience", patience, 0)
        self.verbose = validate.verbosity(verbose)
        self.baseline = None if baseline is None else validate.real_number("baseline", baseline)
        self.restore_best_weights = validate.flag("restore_best_weights", restore_best_weights)
        self.start_from_epoch = validate.whole_number("start_from_epoch", start_from_epoch, 0)
        self._snapshot = None

    def on_train_begin(self, logs=None):
        self._start_over()
        self.wait = self.stopped_epoch = self.best_epoch = 0
        self._snapshot = None

    def on_epoch_end(self, epoch, logs=None):
        value = self._value(logs)
        if value is None or epoch < self.start_from_epoch:
            return
        self.wait += 1
        better = self._improved(value, self.best)
        if better or (self.restore_best_weights and self._snapshot is None):
            self._keep(epoch)
        if better:
            self.best = value
            if self.baseline is None or self._improved(value, self.baseline):
                self.wait = 0
        elif self.wait >= self.patience and epoch > 0:
            self.stopped_epoch = epoch
            self.model.stop_training = True

    def _keep(self, epoch):
        self.best_epoch = epoch
        if self.restore_best_weights:
            self._snapshot = self._snapshot or Snapshot()
            self._snapshot.take(self.model)

    def on_train_end(self, logs=None):
        if self.stopped_epoch and self.verbose:
            say(f"epoch {self.stopped_epoch + 1}: stopped early, the best was epoch {self.best_epoch + 1}")
        if self._snapshot is not None:
            self._snapshot.put_back(self.model)

    def close(self):
        self._snapshot = None


class ReduceLROnPlateau(Monitor):
    """Multiplies the learning rate with `factor` when a figure has not improved for `patience` epochs.

    mode, min_delta as in EarlyStopping. cooldown: epochs after a reduction in which nothing is counted. min_lr: the
    least rate. The rate of each epoch comes into the history as "learning_rate".
    """

    def __init__(
        self,
        monitor="val_loss",
        factor=0.1,
        patience=10,
        verbose=0,
        mode="auto",
        min_delta=1e-4,
        cooldown=0,
        min_lr=0.0,
    ):
        super().__init__(monitor, mode, min_delta)
        self.factor = validate.real_number("factor", factor, 0, 1, open_least=True, open_most=True)
        self.patience = validate.whole_number("patience", patience, 0)
        self.verbose = validate.verbosity(verbose)
        self.cooldown = validate.whole_number("cooldown", cooldown, 0)
        self.min_lr = validate.real_number("min_lr", min_lr, 0)

    def on_train_begin(self, logs=None):
        self._start_over()
        self.wait = self.cooldown_counter = 0
        rate(self.model)

    def on_epoch_end(self, epoch, logs=None):
        old = logs["learning_rate"] = rate(self.model)
        value = self._value(logs)
        if value is None:
            return
        if self.cooldown_counter > 0:
            self.cooldown_counter -= 1
            self.wait = 0
        if self._improved(value, self.best):
            self.best, self.wait = value, 0
        elif self.cooldown_counter == 0:
            self.wait += 1
            new = max(old * self.factor, self.min_lr)
            if self.wait >= self.patience and old > new > 0:  # 0 is below the smallest number, and no rate
                self.model.learning_rate = new
                self.cooldown_counter, self.wait = self.cooldown, 0
                if self.verbose:
                    say(f"epoch {epoch + 1}: learning rate reduced to {rate(self.model):.3g}")


class LearningRateScheduler(Callback):
    """Sets the learning rate of each epoch to schedule(epoch, rate), or schedule(epoch); epochs from 0.

    The rate of each epoch comes into the history as "learning_rate".
    """

    def __init__(self, schedule, verbose=0):
        if not callable(schedule):
            raise TypeError(f"schedule must be a function of the epoch and the learning rate, not {schedule!r}")
        self.schedule = schedule
        self.verbose = validate.verbosity(verbose)
        if not _takes(schedule, 0, 0.0):
            if not _takes(schedule, 0):
                raise TypeError(f"schedule must take the epoch and the learning rate, or the epoch, not {schedule!r}")
            self.schedule = lambda epoch, rate: schedule(epoch)

    def on_train_begin(self, logs=None):
        rate(self.model)

    def on_epoch_begin(self, epoch, logs=None):
        new = self.schedule(epoch, rate(self.model))
        self.model.learning_rate = validate.real_number("what schedule returns", new, 0, open_least=True)
        if self.verbose:
            say(f"epoch {epoch + 1}: learning rate {rate(self.model):.3g}")

    def on_epoch_end(self, epoch, logs=None):
        logs["learning_rate"] = rate(self.model)


def _takes(function, *arguments):
    """Can a function be called so? Also if it does not tell."""
    try:
        inspect.signature(function).bind(*arguments)
    except TypeError:
        return False
    except ValueError:
        return True
    return True


class TerminateOnNaN(Callback):
    """Stops training when the loss is NaN or infinite: within about 0.1 s, at the latest after the epoch."""

    def on_progress(self, batches, logs=None):
        if not np.isfinite(logs["loss"]):
            say(f"batch {batches}: the loss is {logs['loss']}, training stops")
            self.model.stop_training = True
