"""What users hand to a model, checked and turned into Data: arrays, labels, weights, batches that come one by one."""

from __future__ import annotations

import itertools
import math
import warnings
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace

import numpy as np

from numbanet import validate
from numbanet.planner import samples_of
from numbanet.training import Data


def features(graph, dtype, X, check=True):
    """Checked inputs by name, and the number of samples; check: that they are finite, too."""
    nodes = graph.inputs
    names = [graph.names[node.layer] for node in nodes]
    if isinstance(X, dict):
        if set(X) != set(names):
            raise ValueError(f"X has inputs {sorted(map(str, X))}, expected {sorted(names)}")
        X = [X[name] for name in names]
    elif len(nodes) == 1:
        X = [X]
    if not isinstance(X, list | tuple) or len(X) != len(nodes):
        raise ValueError(f"X must be a list of {len(nodes)} arrays, one for each input: {', '.join(names)}")
    what = [f"X[{name!r}]" for name in names] if len(nodes) > 1 else ["X"]
    arrays = {
        samples_of(name): validate.features(value, node.shape, dtype, label, check)
        for name, node, value, label in zip(names, nodes, X, what, strict=True)
    }
    lengths = {len(array) for array in arrays.values()}
    if len(lengths) > 1:
        raise ValueError(f"the inputs have {sorted(lengths)} samples; expected the same number")
    return arrays, lengths.pop()


def data(model, X, y, weights=None, some=True):
    """Checked inputs, targets and, if there are any, weights of the samples; some: not all of them 0."""
    arrays, samples = features(model.graph, model.dtype, X)
    width = _outputs(model)
    labelled = model.loss.classes and validate.is_classes(y, width)
    if labelled:
        arrays["targets"] = validate.classes(y, samples, width)
    else:
        arrays["targets"] = validate.values(y, samples, width, model.dtype, kind=model.loss.targets)
    if weights is not None:
        arrays["weights"] = validate.weights(weights, samples, model.dtype, some=some)
    return Data(arrays, samples, labelled)


def hold_out(data, share):
    """The samples without a share at their end, and that share, or None."""
    held = int(data.samples * share)
    if not held:
        return data, None
    return data.part(0, data.samples - held), data.part(data.samples - held, data.samples)


def by_class(model, data, class_weight, some=True):
    """The samples, their weights multiplied with that of their class; see Model.fit. some: not all of them 0."""
    if class_weight is None:
        return data
    labels, classes = _labels(model, data)
    if isinstance(class_weight, str):
        if class_weight != "balanced":
            raise ValueError(f"class_weight must be a dict or 'balanced', not {class_weight!r}")
        counts = np.bincount(labels, minlength=classes)
        of_class = data.samples / (np.count_nonzero(counts) * np.maximum(counts, 1))
    else:
        of_class = _given(class_weight, classes)
    with np.errstate(over="ignore"):
        weights = of_class[labels][:, None].astype(model.dtype)
        if "weights" in data.arrays:
            weights *= data.arrays["weights"]
    validate.good_weights("class_weight", weights, some)
    return replace(data, arrays=data.arrays | {"weights": weights})


def _given(class_weight, classes):
    """The weight of each class, 1 where none is given."""
    if not isinstance(class_weight, Mapping):
        raise TypeError(f"class_weight must be a dict of class numbers to weights, or 'balanced', not {class_weight!r}")
    of_class = np.ones(classes)
    for key, weight in class_weight.items():
        of_class[validate.whole_number("a class of class_weight", key, 0, classes - 1)] = validate.real_number(
            f"class_weight[{key}]", weight, 0
        )
    return of_class


def _labels(model, data):
    """The class of each sample, and the number of classes."""
    targets, width = data.arrays["targets"], _outputs(model)
    if data.classes:
        return targets[:, 0], width
    if model.loss.targets == "signs":  # -1 is the first class
        targets = targets > 0
    if not np.isin(targets, (0, 1)).all() or (width > 1 and not (targets.sum(axis=1) == 1).all()):
        wanted = "0 or 1" if width == 1 else "integer labels or one-hot rows"
        raise ValueError(f"class_weight needs classes as targets: y must hold {wanted}")
    return (targets.argmax(axis=1), width) if width > 1 else (targets[:, 0].astype(np.int64), 2)


def _outputs(model):
    return math.prod(model.graph.output.shape)


def pair(what, given):
    """(X, y, weights or None) from such a pair or triple."""
    if not isinstance(given, list | tuple) or len(given) not in (2, 3):
        length = f" with {len(given)}" if isinstance(given, list | tuple) else ""
        raise ValueError(
            f"{what} must be a pair (X, y) or a triple (X, y, sample_weight), not a {type(given).__name__}{length}"
        )
    return given if len(given) == 3 else (*given, None)


def are_batches(source):
    """Can batches be taken from it, rather than being arrays or a number?"""
    if isinstance(source, np.ndarray | dict | str | bytes) or hasattr(source, "__array__"):
        return False
    return isinstance(source, Iterable) or (hasattr(source, "__getitem__") and hasattr(source, "__len__"))


class Batches:
    """Batches (x, y) or (x, y, sample_weight) that come one by one, checked as they come.

    From an iterator, which is read once; or from anything that can be iterated anew, or that has a length and an item
    for each number below it. steps: batches of an epoch; None: all there are. With steps, an epoch goes on where the
    one before has stopped, and what can be iterated anew begins anew when it ends.
    """

    def __init__(self, model, source, steps=None, class_weight=None):
        self.model, self.steps, self.class_weight = model, steps, class_weight
        self.once, self.short = isinstance(source, Iterator), False  # short: did the last epoch lack some?
        self._source, self._items, self._next = source, None, []

    def more(self):
        """Is there a batch to begin an epoch with? It is taken, and kept for the epoch."""
        if not self._next:
            if self._items is None or (self.steps is None and not self.once):
                self._items = self._anew()
            self._take()
            if not self._next and self.steps is not None and not self.once:
                self._items = self._anew()
                self._take()
        return bool(self._next)

    def _anew(self):
        source = self._source
        return iter(source) if isinstance(source, Iterable) else (source[k] for k in range(len(source)))

    def _take(self):
        self._next = list(itertools.islice(self._items, 1))

    def _has(self, number):
        """Is there a batch of this number in the epoch?"""
        if number == 0 or self.steps is not None:
            return self.more()
        self._take()
        return bool(self._next)

    def epoch(self):
        """The Data of an epoch's batches; warns if there are fewer than `steps`."""
        number = 0
        while number != self.steps and self._has(number):
            yield self._checked(number, self._next.pop())
            number += 1
        self.short = self.steps is not None and number < self.steps
        if self.short:
            warnings.warn(f"the batches have ended after {number} of {self.steps} steps of an epoch", stacklevel=6)

    def _checked(self, number, item):
        try:
            found = data(self.model, *pair("it", item), some=False)  # others may have some
            return by_class(self.model, found, self.class_weight, some=False)
        except (ValueError, TypeError) as problem:
            kind = TypeError if isinstance(problem, TypeError) else ValueError
            raise kind(f"batch {number} is wrong: {problem}") from None
