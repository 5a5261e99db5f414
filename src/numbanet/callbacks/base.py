"""What a callback is: what is called while fit trains. Names, arguments and defaults are Keras'.

A callback sees the model as `self.model` and may change it: stop training (`self.model.stop_training = True`), set
`self.model.learning_rate`, weights, or which layers are trainable. `logs` maps names ("loss", metrics, "val_" and so
on) to numbers; what is added to those of on_epoch_end comes into the history.
"""

from __future__ import annotations

import math
import sys
import warnings

from numbanet import validate
from numbanet.names import lookup

GREATER_IS_BETTER = ("acc", "auc", "precision", "recall", "f1", "r2")  # parts of names of what should grow


class Callback:
    """Base of all callbacks: hooks that do nothing. Overwrite some and hand instances to fit(callbacks=[...]).

    What a hook raises ends the training and leaves the model at its last update. Hooks of batches make training stop
    after each batch to call them, which costs small networks much of their speed; unless one is overwritten there are
    no such stops, and on_progress comes about every 0.1 s anyway. Hooks of batches and on_progress may not train the
    model, the others may.
    """

    model = None
    params: dict = {}  # noqa: RUF012  (replaced, never changed)

    def set_model(self, model):
        """Called first, with the model that is trained."""
        self.model = model

    def set_params(self, params):
        """Called first too, with a dict: "epochs", "steps" (batches of an epoch, None if not known), "verbose"."""
        self.params = params

    def on_train_begin(self, logs=None):
        """Before the first epoch."""

    def on_train_end(self, logs=None):
        """After the last epoch, also if Ctrl-C has ended it; logs: those of the last finished epoch."""

    def on_epoch_begin(self, epoch, logs=None):
        """Before epoch number `epoch`, from 0. If training is stopped here, the epoch is left out."""

    def on_epoch_end(self, epoch, logs=None):
        """After an epoch; logs: its means, and those of validation."""

    def on_train_batch_begin(self, batch, logs=None):
        """Before batch number `batch` of the epoch, from 0."""

    def on_train_batch_end(self, batch, logs=None):
        """After a batch; logs: means over the epoch so far. If training is stopped here, the epoch ends."""

    def on_progress(self, batches, logs=None):
        """Now and then in an epoch, and at its end, when so many batches are done; else as on_train_batch_end."""

    def on_test_begin(self, logs=None):
        """Before validation."""

    def on_test_end(self, logs=None):
        """After validation; logs: its figures, without "val_"."""

    def close(self):
        """Called last, whatever has happened: let go of files and the like."""


def say(text):
    """Print a line, beside a progress bar if there is one."""
    tqdm = sys.modules.get("tqdm")
    tqdm.tqdm.write(text) if tqdm else print(text)


def rate(model):
    """The model's learning rate, for callbacks that set it: a schedule they would silently replace."""
    found = model.learning_rate
    if not isinstance(model.optimizer.learning_rate, int | float):
        raise ValueError(f"the learning rate has a schedule, {model.optimizer.learning_rate!r}; expected a number")
    return found


class Monitor(Callback):
    """Base of callbacks that look whether a figure improves."""

    def __init__(self, monitor, mode, min_delta=0.0):
        self.monitor = validate.text("monitor", monitor)
        lookup("mode", mode, dict.fromkeys(("auto", "min", "max")))
        grows = any(word in monitor for word in GREATER_IS_BETTER)
        self.mode = mode if mode != "auto" else "max" if grows else "min"
        self.min_delta = abs(validate.real_number("min_delta", min_delta))
        self._start_over()

    def _start_over(self):
        self.best = math.inf if self.mode == "min" else -math.inf
        self._warned = False

    def _improved(self, value, reference):
        """Is a value better than another by more than min_delta?"""
        if self.mode == "min":
            return value + self.min_delta < reference
        return value - self.min_delta > reference

    def _value(self, logs):
        """The monitored figure; None, and a warning the first time, if there is none."""
        if self.monitor in logs:
            return logs[self.monitor]
        if not self._warned:
            self._warned = True
            name = type(self).__name__
            warnings.warn(
                f"{name} monitors {self.monitor!r}, which there is not; known: {', '.join(logs)}", stacklevel=2
            )
        return None
