"""Running epochs: slices short enough for Ctrl-C, the history, the progress bar."""

from __future__ import annotations

import contextlib
import math
import sys
import time
from dataclasses import dataclass, field

import numpy as np
from tqdm import tqdm

from numbanet.planner import Form

SHUFFLE = 2**32  # first stream of the orders of samples; streams below belong to the parameters


@dataclass
class History:
    """What fit returns: `history` maps "loss", each metric and their "val_" twins to one value an epoch."""

    epoch: list[int] = field(default_factory=list)
    history: dict[str, list[float]] = field(default_factory=dict)

    def append(self, epoch, logs):
        """Add an epoch's figures."""
        self.epoch.append(epoch)
        for name, value in logs.items():
            self.history.setdefault(name, []).append(value)


@dataclass(frozen=True)
class Data:
    """Checked samples, ready for a program: arrays by the names under which the plan reads them, a row a sample.

    others: arrays that are no samples, or not to be read.
    """

    arrays: dict[str, np.ndarray]
    samples: int
    classes: bool = False
    others: dict[str, np.ndarray] = field(default_factory=dict)

    def form(self, direct=False):
        """What the plan is told; direct: the features can be read where they lie."""
        return Form(self.classes, direct, "weights" in self.arrays)

    def on(self, device):
        """The same samples where the device's kernels read them, for several epochs; if there is room for them."""
        if not device.fits(self.arrays):
            return self
        arrays = {name: device.place(array) for name, array in self.arrays.items()}
        return Data(arrays, self.samples, self.classes)

    def part(self, first, last):
        """Samples from first to last, without a copy."""
        arrays = {name: array[first:last] for name, array in self.arrays.items()}
        return Data(arrays, last - first, self.classes)


def shuffled(samples, seed, epoch):
    """The order of an epoch, from its own random stream: the same after a resume."""
    generator = np.random.Generator(np.random.Philox(key=[seed, SHUFFLE + epoch]))
    return generator.permutation(samples)


def run_epoch(program, data, order, batch_size, report=None):
    """One pass over the data in the given order; returns the mean of the loss and of each metric, None if a sample was
    not finite.

    report(done) is called between slices with the number of finished batches. Calls from several Python threads that
    share a program take turns.
    """
    with program.lock:
        arrays, feed = program.device.feed(data.arrays, batch_size)
        for name, array in (arrays | data.others).items():
            program.bind(name, array)
        places = order if feed is None else feed.places(len(order))
        program.bind("order", np.ascontiguousarray(places, np.int64)[:, None])
        program.start(len(order), batch_size)
        try:
            if feed is None:
                _run_slices(program, 0, math.ceil(len(order) / batch_size), report)
            else:
                with contextlib.closing(feed.batches(order)) as chunks:
                    for first, last in chunks:
                        _run_slices(program, first, last, report)
        finally:
            program.release()
        return None if program.met_strange_samples else program.totals() / len(order)


def _run_slices(program, first, last, report):
    """Run batches in slices, as the program's pace allows."""
    while first < last:
        parallel, count = program.pace.next(last - first)
        began = time.perf_counter()
        program.run(first, first + count, parallel)
        program.pace.took(parallel, count, time.perf_counter() - began)
        first += count
        if report:
            report(first)


class Progress:
    """One bar for the whole of a fit (verbose 1), a line an epoch (2), or nothing (0)."""

    def __init__(self, verbose, epochs, batches):
        self.verbose, self.epochs, self.batches, self.epoch = verbose, epochs, batches, 0
        self.bar = tqdm(total=epochs * batches, unit="batch", disable=verbose != 1, file=sys.stderr, dynamic_ncols=True)

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.bar.close()

    def start_epoch(self, epoch):
        self.epoch = epoch
        self.bar.set_description(f"epoch {epoch + 1}/{self.epochs}", refresh=False)

    def batch(self, done):
        """`done` batches of the epoch are finished."""
        self.bar.update(self.epoch * self.batches + done - self.bar.n)

    def end_epoch(self, logs):
        shown = {name: f"{value:.4g}" for name, value in logs.items()}
        self.bar.set_postfix(shown, refresh=False)
        if self.verbose == 2:
            print(f"epoch {self.epoch + 1}/{self.epochs}", *(f"{name} {value}" for name, value in shown.items()))
