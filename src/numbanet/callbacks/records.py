"""Callbacks that keep a record of training: the model itself, its figures, a bar on the screen."""

from __future__ import annotations

import csv
import os
import string
import sys

from numbanet import validate
from numbanet.callbacks.base import Callback, Monitor, say


class ModelCheckpoint(Monitor):
    """Saves the model after each epoch, whole or not at all (see Model.save); missing directories are made.

    filepath: a name with fields like "{epoch:02d}-{val_loss:.2f}.safetensors"; epochs are counted from 1.
    save_best_only: only when `monitor` has improved (mode as in EarlyStopping), on what initial_value_threshold says.
    save_freq: "epoch", or a number of batches, with the figures of the epoch so far; {batch} is a field then.
    """

    def __init__(
        self,
        filepath,
        monitor="val_loss",
        verbose=0,
        save_best_only=False,
        mode="auto",
        save_freq="epoch",
        initial_value_threshold=None,
    ):
        super().__init__(monitor, mode)
        self.filepath = validate.path("filepath", filepath)
        try:
            list(string.Formatter().parse(self.filepath))
        except ValueError as problem:
            raise ValueError(f"filepath {self.filepath!r} is no format: {problem}") from None
        self.verbose = validate.verbosity(verbose)
        self.save_best_only = validate.flag("save_best_only", save_best_only)
        self.save_freq = save_freq if save_freq == "epoch" else validate.whole_number("save_freq", save_freq)
        if initial_value_threshold is not None:
            self.best = validate.real_number("initial_value_threshold", initial_value_threshold)
        if self.save_freq != "epoch":
            self.on_train_batch_end = self._after_batch  # a hook of batches only where it is wanted

    def on_train_begin(self, logs=None):
        self._warned, self._batches = False, 0

    def on_epoch_begin(self, epoch, logs=None):
        self._epoch = epoch

    def on_epoch_end(self, epoch, logs=None):
        if self.save_freq == "epoch":
            self._save(logs, {"epoch": epoch + 1})

    def _after_batch(self, batch, logs=None):
        self._batches += 1
        if self._batches % self.save_freq == 0:
            self._save(logs, {"epoch": self._epoch + 1, "batch": batch + 1})

    def _save(self, logs, numbers):
        value = self._value(logs) if self.save_best_only else None
        if self.save_best_only and (value is None or not self._improved(value, self.best)):
            return
        path = self._path(numbers | logs)
        if os.path.dirname(path):
            os.makedirs(os.path.dirname(path), exist_ok=True)
        self.model.save(path)
        self.best = self.best if value is None else value
        if self.verbose:
            say(
                f"epoch {numbers['epoch']}: saved to {path}"
                + ("" if value is None else f", {self.monitor} {value:.5g}")
            )

    def _path(self, fields):
        try:
            return self.filepath.format_map(fields)
        except (KeyError, IndexError, ValueError, AttributeError) as problem:
            known = ", ".join(fields)
            raise ValueError(f"filepath {self.filepath!r} cannot be filled in ({problem}); known: {known}") from None


class CSVLogger(Callback):
    """Writes a row an epoch to a CSV file: the epoch, from 0, and its figures.

    append: go on with a file that is there, in the columns that it has. Each row is written when its epoch ends.
    """

    def __init__(self, filename, separator=",", append=False):
        self.filename = validate.path("filename", filename)
        if not isinstance(separator, str) or len(separator) != 1 or separator in '"\r\n':
            raise ValueError(f"separator must be one character, not {separator!r}")
        self.separator, self.append = separator, validate.flag("append", append)

    def on_train_begin(self, logs=None):
        self._columns = None
        if self.append and os.path.exists(self.filename):
            with open(self.filename, newline="") as file:
                self._columns = next(csv.reader(file, delimiter=self.separator), None)
        else:
            open(self.filename, "w").close()

    def on_epoch_end(self, epoch, logs=None):
        with open(self.filename, "a", newline="") as file:
            begin = self._columns is None
            if begin:
                self._columns = ["epoch", *logs]
            rows = csv.DictWriter(
                file, self._columns, restval="NA", extrasaction="ignore", delimiter=self.separator, lineterminator="\n"
            )
            if begin:
                rows.writeheader()
            rows.writerow({"epoch": epoch, **logs})


class TensorBoard(Callback):
    """Writes each epoch's figures where TensorBoard shows them: log_dir/train and log_dir/validation, as Keras names
    them ("epoch_loss" and so on).

    Needs tensorboardX: pip install 'numbanet[tensorboard]'; ImportError says so.
    """

    def __init__(self, log_dir="logs"):
        try:
            from tensorboardX import SummaryWriter
        except ImportError as problem:
            raise ImportError(
                f"nn.TensorBoard needs tensorboardX: pip install 'numbanet[tensorboard]' ({problem})"
            ) from None
        self.log_dir, self._writer, self._writers = validate.path("log_dir", log_dir), SummaryWriter, {}

    def on_epoch_end(self, epoch, logs=None):
        for name, value in logs.items():
            folder = "validation" if name.startswith("val_") else "train"
            if folder not in self._writers:
                self._writers[folder] = self._writer(os.path.join(self.log_dir, folder))
            self._writers[folder].add_scalar(f"epoch_{name.removeprefix('val_')}", value, epoch)
        for writer in self._writers.values():
            writer.flush()

    def close(self):
        for writer in self._writers.values():
            writer.close()
        self._writers = {}


class ProgressBar(Callback):
    """One bar (tqdm) for the whole of a fit, on standard error: what fit(verbose=1) shows."""

    def __init__(self):
        self._bar = None

    def on_epoch_begin(self, epoch, logs=None):
        epochs, steps = self.params["epochs"], self.params["steps"]
        if self._bar is None:
            from tqdm import tqdm  # silent runs do without

            total = steps and epochs * steps
            self._bar = tqdm(
                total=total, initial=epoch * (steps or 0), unit="batch", file=sys.stderr, dynamic_ncols=True
            )
        self._bar.set_description(f"epoch {epoch + 1}/{epochs}", refresh=False)
        self._begin = epoch * steps if steps else self._bar.n

    def on_progress(self, batches, logs=None):
        self._bar.set_postfix(_shown(logs), refresh=False)
        self._bar.update(self._begin + batches - self._bar.n)

    def on_epoch_end(self, epoch, logs=None):
        self._bar.set_postfix(_shown(logs), refresh=False)
        if not self._bar.total:  # now it is known how many there are
            self._bar.total = self._bar.n * (self.params["epochs"] - epoch)

    def close(self):
        if self._bar is not None:
            self._bar.close()
            self._bar = None


class Lines(Callback):
    """A line an epoch on standard output: what fit(verbose=2) shows."""

    def on_epoch_end(self, epoch, logs=None):
        figures = (f"{name} {value}" for name, value in _shown(logs).items())
        print(f"epoch {epoch + 1}/{self.params['epochs']}", *figures)


def _shown(logs):
    return {name: f"{value:.4g}" for name, value in logs.items()}
