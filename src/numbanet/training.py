"""Running epochs: slices short enough for Ctrl-C, sums over batches, the history."""

from __future__ import annotations

import contextlib
import math
import os
import threading
import time
import weakref
from dataclasses import dataclass, field

import numpy as np

from numbanet.kernels import UPDATE
from numbanet.planner import Form
from numbanet.program import total

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


class Totals:
    """Sums over batches that run one by one, to the bits those of one run over all of them."""

    def __init__(self):
        self.rows, self._sums = 0, {}

    def add(self, program, rows):
        """Add what a program has summed over so many rows."""
        self.rows += rows
        for name, found in program.fetched().items():
            kept = self._sums.get(name)
            if kept is None or len(kept) < len(found):  # a row a row of the batch, each a sum over the batches
                self._sums[name] = np.zeros_like(found)
                if kept is not None:
                    self._sums[name][: len(kept)] = kept
            self._sums[name][: len(found)] += found

    def means(self):
        """The mean of the loss and of each metric."""
        return total(self._sums) / self.rows


class Snapshot:
    """A whole model at one moment: weights, optimiser and its state, counters."""

    def take(self, model):
        """Note the model as it is now."""
        self._parts = [np.array(part) for part in _parts(model)]
        self._rest = model.optimizer, model.epochs, model.updates

    def put_back(self, model):
        """Make the model again what it was; only its weights if it was compiled for another optimiser since then."""
        places, (optimizer, *counters) = _parts(model), self._rest
        if not _but_for_the_rate(model.optimizer, optimizer):
            places = places[: len(model.graph.parameters)]  # which come first
        else:
            model.optimizer, (model.epochs, model._steps[0, UPDATE]) = optimizer, counters
        for place, part in zip(places, self._parts, strict=False):
            place[:] = part


def _but_for_the_rate(one, other):
    """Are two optimisers the same but for their learning rates, so that one's state and programs are the other's?"""
    if type(one) is not type(other) or not hasattr(one, "learning_rate"):
        return one == other
    return one.with_rate(other.learning_rate) == other


def _parts(model):
    """The model's weights, and the slots of its optimiser, where they lie."""
    theta, parameters, size = model._theta, model.graph.parameters, model.graph.size
    names = model.optimizer.slots if model.optimizer else ()
    slots = [at.slot(k, name, size) for k, name in enumerate(names) for at in parameters]
    return [theta[place.offset : place.offset + place.size] for place in (*parameters, *slots)]


class Turn:
    """Of a model: whose turn it is to train it. Counters, coefficients and state go by the update, so threads wait."""

    def __init__(self):
        self._lock, self._taken = threading.RLock(), False
        _turns.add(self)

    @contextlib.contextmanager
    def taken(self):
        """While it is this thread's turn; RuntimeError if it is already."""
        with self._lock:
            if self._taken:
                raise RuntimeError(NESTED)
            self._taken = True
            try:
                yield
            finally:
                self._taken = False


NESTED = "the model is in the middle of an epoch: what it tells callbacks there cannot train it"
_turns = weakref.WeakSet()


def _after_fork():
    """A lock that another thread held when this process was forked would never be released here."""
    for turn in list(_turns):
        turn.__init__()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def shuffled(samples, seed, epoch):
    """The order of an epoch, from its own random stream: the same after a resume."""
    generator = np.random.Generator(np.random.Philox(key=[seed, SHUFFLE + epoch]))
    return generator.permutation(samples)


def run_epoch(program, data, order, batch_size, watch=None, totals=None):
    """One pass over the data in the given order; returns the mean of the loss and of each metric, None if a sample was
    not finite.

    watch: told between slices: watch.after(done, means), with the number of finished batches and a function that gives
    the means over them; the epoch ends if it returns True. If watch.each, slices are single batches, and
    watch.before(batch) comes first. totals: Totals to add to; their means are returned instead. Calls from several
    Python threads that share a program take turns.
    """
    if program.lock.locked() and program.holder == threading.get_ident():
        raise RuntimeError(NESTED)
    batches = math.ceil(len(order) / batch_size)

    def means(done):
        return program.totals() / min(done * batch_size, len(order))

    with program.lock:
        program.holder = threading.get_ident()
        try:
            arrays, feed = program.device.feed(data.arrays, batch_size)
            for name, array in (arrays | data.others).items():
                program.bind(name, array)
            places = order if feed is None else feed.places(len(order))
            program.bind("order", np.ascontiguousarray(places, np.int64)[:, None])
            program.start(len(order), batch_size)
            with contextlib.closing(_whole(batches) if feed is None else feed.batches(order)) as chunks:
                done = _run_chunks(program, chunks, watch, means)
            if totals is not None:
                totals.add(program, len(order))
            return None if program.met_strange_samples else totals.means() if totals is not None else means(done)
        finally:
            program.holder = None
            program.release()


def _whole(batches):
    yield 0, batches


def _run_chunks(program, chunks, watch, means):
    """Run chunks of batches in slices, as the program's pace allows; returns the number of finished batches."""
    each, done = watch is not None and watch.each, 0
    for first, last in chunks:
        done = first
        while done < last:
            parallel, count = program.pace.next(last - done)
            if each:
                count = 1
                watch.before(done)
            began = time.perf_counter()
            program.run(done, done + count, parallel)
            program.pace.took(parallel, count, time.perf_counter() - began)
            done += count
            if watch is not None and watch.after(done, means):
                return done
    return done
