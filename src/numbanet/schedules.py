"""Schedules: learning rates that change from update to update, as descriptions, in place of a number.

A schedule is called with a number of updates, 0 before the first, or an array of them, and gives the learning rates in
float64. Definitions and defaults are Keras 3's.
"""

from __future__ import annotations

import numbers
from dataclasses import dataclass

import numpy as np

from numbanet import validate


class Schedule:
    """Base of all schedules; a subclass says its `rates`."""

    def __call__(self, updates):
        """The learning rate after so many updates: of a number a float, of an array an array of its shape."""
        updates = np.asarray(updates, np.float64)
        with np.errstate(over="ignore", under="ignore"):
            rates = self.rates(np.atleast_1d(updates))  # NumPy's powers of numbers and of arrays differ in the last bit
        return rates if updates.ndim else float(rates[0])

    def rates(self, updates):
        """The learning rates after so many updates, arrays of float64 of one or more axes."""
        raise TypeError(f"{type(self).__name__} does not say its rates")


def rate(what, value):
    """A learning rate: a number above 0, or a schedule."""
    if isinstance(value, Schedule):
        return value
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise TypeError(f"{what} must be a number or a schedule ({', '.join(CLASSES)}), not {value!r}")
    return _above_zero(what, value)


def _above_zero(what, value):
    return validate.real_number(what, value, least=0, open_least=True)


@dataclass(frozen=True)
class ExponentialDecay(Schedule):
    """initial_learning_rate * decay_rate**(t / decay_steps) after t updates.

    initial_learning_rate and decay_rate: above 0. decay_steps: at least 1. staircase: False; if True, whole parts of
    t / decay_steps only.
    """

    initial_learning_rate: float
    decay_steps: int
    decay_rate: float
    staircase: bool = False

    def __post_init__(self):
        validate.settle(
            self,
            initial_learning_rate=_above_zero("initial_learning_rate", self.initial_learning_rate),
            decay_steps=validate.whole_number("decay_steps", self.decay_steps),
            decay_rate=_above_zero("decay_rate", self.decay_rate),
            staircase=validate.flag("staircase", self.staircase),
        )

    def rates(self, updates):
        part = updates / self.decay_steps
        return self.initial_learning_rate * self.decay_rate ** (np.floor(part) if self.staircase else part)


@dataclass(frozen=True)
class StepDecay(Schedule):
    """initial_learning_rate * factor**floor(t / decay_steps) after t updates: PyTorch's StepLR.

    initial_learning_rate: above 0. decay_steps: updates from one drop to the next, at least 1. factor: 0.1, above 0 and
    at most 1.
    """

    initial_learning_rate: float
    decay_steps: int
    factor: float = 0.1

    def __post_init__(self):
        validate.settle(
            self,
            initial_learning_rate=_above_zero("initial_learning_rate", self.initial_learning_rate),
            decay_steps=validate.whole_number("decay_steps", self.decay_steps),
            factor=validate.real_number("factor", self.factor, least=0, most=1, open_least=True),
        )

    def rates(self, updates):
        return self.initial_learning_rate * self.factor ** np.floor(updates / self.decay_steps)


@dataclass(frozen=True)
class InverseTimeDecay(Schedule):
    """initial_learning_rate / (1 + decay_rate t / decay_steps) after t updates (Robbins & Monro, 1951).

    initial_learning_rate and decay_rate: above 0. decay_steps: at least 1. staircase: False; if True, whole parts of
    t / decay_steps only.
    """

    initial_learning_rate: float
    decay_steps: int
    decay_rate: float
    staircase: bool = False

    __post_init__ = ExponentialDecay.__post_init__

    def rates(self, updates):
        part = updates / self.decay_steps
        return self.initial_learning_rate / (1 + self.decay_rate * (np.floor(part) if self.staircase else part))


@dataclass(frozen=True)
class CosineDecay(Schedule):
    """Half a cosine from initial_learning_rate down to alpha times it (Loshchilov & Hutter, 2017), after a warm-up if
    there is one (Goyal et al., 2017).

    With t updates, c = (1 + cos(pi t / decay_steps)) / 2, the rate is initial_learning_rate ((1 - alpha) c + alpha),
    and stays as it is after decay_steps. With a warmup_target, the rate first goes straight from initial_learning_rate
    to the target in warmup_steps updates, then down from the target in decay_steps more.

    initial_learning_rate: above 0, or 0 with a warm-up. decay_steps: at least 1. alpha: 0, in [0, 1]. warmup_target:
    None, or above 0. warmup_steps: 0.
    """

    initial_learning_rate: float
    decay_steps: int
    alpha: float = 0.0
    warmup_target: float | None = None
    warmup_steps: int = 0

    def __post_init__(self):
        target, steps = self.warmup_target, validate.whole_number("warmup_steps", self.warmup_steps, 0)
        if target is None and steps:
            raise ValueError(f"warmup_steps is {steps} and warmup_target None; expected both or none of them")
        start, cold = self.initial_learning_rate, target is None
        validate.settle(
            self,
            initial_learning_rate=validate.real_number("initial_learning_rate", start, least=0, open_least=cold),
            decay_steps=validate.whole_number("decay_steps", self.decay_steps),
            alpha=validate.real_number("alpha", self.alpha, least=0, most=1),
            warmup_target=None if cold else _above_zero("warmup_target", target),
            warmup_steps=steps,
        )

    def rates(self, updates):
        start, top = self.initial_learning_rate, self.warmup_target
        since = np.clip(updates - self.warmup_steps, 0, self.decay_steps)
        share = (1 - self.alpha) * 0.5 * (1 + np.cos(np.pi * since / self.decay_steps)) + self.alpha
        if top is None:
            return start * share
        warm = start + (top - start) * updates / max(self.warmup_steps, 1)
        return np.where(updates < self.warmup_steps, warm, top * share)


CLASSES = {schedule.__name__: schedule for schedule in (ExponentialDecay, StepDecay, InverseTimeDecay, CosineDecay)}
