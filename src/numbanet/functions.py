"""Users' own activations and losses: plain Python functions of numbers, as descriptions. Checked when they are given.

The kernels are in kernels/*/function.py.
"""

from __future__ import annotations

import inspect
import math
import numbers
import sys
import types
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np

from numbanet import validate
from numbanet.kernels.function import STEP, Function

POINTS = (0.5, -0.5, 0.1, -0.1, 0.0, 0.9, 1.0, -1.0, 1.7, -1.7, 3.0, -3.0, 8.0, -8.0, 20.0, -20.0)  # the clearest first
TARGETS = (0.0, 1.0, 0.3, -1.0, 2.0)


@dataclass(frozen=True, repr=False)
class OwnFunction:
    """Base of descriptions of users' functions. Equal if name, code, and the numbers that it uses are."""

    value: Callable = field(compare=False)
    slope: Callable | None = field(default=None, compare=False)
    name: str | None = None
    source: Function = field(init=False)  # what kernels get

    kind: ClassVar[str]
    points: ClassVar[tuple]  # where the functions are tried

    def __post_init__(self):
        value, slope = _plain(self.kind, self.value), None if self.slope is None else _plain("slope", self.slope)
        name = validate.text("name", value.__name__ if self.name is None else self.name)
        validate.settle(self, name=name, source=Function.of(name, value, slope))

    def __str__(self):
        return self.name

    def __repr__(self):
        return f"<{self.kind} {self.name}{'' if self.slope else ', numeric slope'}>"

    def __reduce__(self):  # what kernels get is made anew
        return type(self), (self.value, self.slope, self.name)

    def __copy__(self):
        return self

    def __deepcopy__(self, memo):
        return self


class ActivationFunction(OwnFunction):
    """The description of an activation which nn.activation returns."""

    kind = "activation"
    points = tuple((z,) for z in POINTS)


class LossFunction(OwnFunction):
    """The description of a loss which nn.loss returns; all that a Loss says of itself (see losses.py)."""

    kind = "loss"
    points = tuple((y, t) for t in TARGETS for y in POINTS)
    op = "function_loss"
    classes = binary = False
    targets = "numbers"
    fused: ClassVar[dict] = {}
    reals: ClassVar[dict] = {}


def given(thing):
    """Is it a function of the user's, or the description of one?"""
    return callable(thing) or isinstance(thing, OwnFunction)


def activation(f, slope=None, name=None):
    """Your own activation, y = f(x) for each element: goes wherever an activation's name goes.

    f: a plain Python function (or lambda) of one number that gives a real number. slope: f's derivative, a function of
    the same number x; None (default): computed inside the kernel by central differences in float64, after a warning: f
    is then called twice a number, and derivatives are good to about 1e-10. name: f's own by default; it is all of f
    that `model.save` keeps: see nn.load.

    Both are compiled by Numba into kernels of their own, so they may use numbers, `math`, `np` on numbers, if and for,
    and other such functions. They are taken as they are now: what f reads from its closure and globals is settled here,
    and the next change of it needs another nn.activation. In a model of float32 x is a float32. Returns a description.

    TypeError or ValueError if f does not take one number or does not give one; ValueError if the slope is wrong at one
    of a range of points from -20 to 20 (at a kink all slopes between those of its sides are right; where f is not
    finite nothing is compared). What Numba cannot compile is a ValueError when a model is made.
    """
    return _registered(ActivationFunction, f, slope, name)


def loss(value, slope=None, name=None):
    """Your own loss: the mean of value(y, t) over outputs and rows, as Keras has it. For model.compile(loss=...).

    value: a plain Python function of two numbers, the network's output y and its target t, that gives a real number.
    slope: its derivative by y, a function of y and t; None (default): computed by central differences, after a warning.
    All else is as for nn.activation. Targets are numbers, one an output. Returns a description.
    """
    return _registered(LossFunction, value, slope, name)


def used(descriptions):
    """The descriptions of users' functions among the fields of some other descriptions, layers for example."""
    return [part for thing in descriptions for part in vars(thing).values() if isinstance(part, OwnFunction)]


def _registered(kind, value, slope, name):
    """The description of functions which do what they should."""
    if isinstance(value, OwnFunction):
        if not isinstance(value, kind):
            raise TypeError(f"{kind.kind} must be a function or nn.{kind.kind}(...), not {value!r}")
        if slope is not None or name is not None:
            raise TypeError(f"{value!r} has its slope and its name already; give nn.{kind.kind} the plain function")
        return value
    made = kind(value, slope, name)
    f = made.source.value
    found = [_number(made.name, f, point) for point in kind.points]
    if not any(map(math.isfinite, found)):
        raise ValueError(f"{made.name} is finite at none of the points from {min(POINTS):g} to {max(POINTS):g} tried")
    if slope is None:
        warnings.warn(
            f"{made.name} has no slope: it is computed from differences of {made.name}, which takes longer and is less "
            f"exact; better give nn.{kind.kind}({made.name}, slope)",
            UserWarning,
            stacklevel=_outside(),
        )
        return made
    for point, at in zip(kind.points, found, strict=True):
        _compare(made, point, at)
    return made


def _plain(what, function):
    """A plain function, also of one that its user had compiled by Numba."""
    function = getattr(function, "py_func", function)
    if not isinstance(function, types.FunctionType):
        raise TypeError(f"{what} must be a plain Python function, as def or lambda make it, not {repr(function)[:60]}")
    return function


def _number(name, function, point):
    """function(*point) as float; NaN where it is not a number, as compiled code would have it."""
    call = f"{name}({', '.join(f'{x:g}' for x in point)})"
    try:
        inspect.signature(function).bind(*point)
    except TypeError:
        wanted = {1: "one number", 2: "two numbers, an output and its target"}[len(point)]
        raise TypeError(f"{name} must take {wanted}; it is {name}{inspect.signature(function)}") from None
    try:
        with np.errstate(all="ignore"):
            found = function(*map(np.float64, point))
    except (ArithmeticError, ValueError):
        return math.nan
    except Exception as problem:
        raise ValueError(f"{call} raises {type(problem).__name__}: {str(problem)[:200]}") from None
    if not isinstance(found, numbers.Real | np.bool_):
        hint = "; in place of np.where write: a if condition else b" if isinstance(found, np.ndarray) else ""
        raise TypeError(f"{call} must be a real number, not {repr(found)[:60]}{hint}")
    return float(found)


def _compare(made, point, at):
    """ValueError if the slope at a point is not that of the value, which is `at` there."""
    (x, *rest), f = point, made.source.value
    step = STEP * max(1.0, abs(x))
    before, after = (_number(made.name, f, (moved, *rest)) for moved in (x - step, x + step))
    slope = _number("slope", made.source.slope, point)
    if not all(map(math.isfinite, (before, at, after))):
        return
    rises, left, right = (after - before) / (2 * step), (at - before) / step, (after - at) / step
    slack = 1e-5 * max(abs(slope), abs(rises)) + 1e-7 * max(1.0, abs(at))
    if abs(slope - rises) <= slack:
        return
    kink = abs(left - right) > 1e-3 * max(1.0, abs(rises))
    if kink and min(left, right) - 10 * slack <= slope <= max(left, right) + 10 * slack:
        return
    there = f"by {left:.7g} before and by {right:.7g} after it" if kink else f"by {rises:.7g} there"
    arguments = ", ".join(f"{number:g}" for number in point)
    raise ValueError(f"slope({arguments}) is {slope:.7g}, but {made.name} rises {there}")


def _outside():
    """For a warning of whoever calls this: how far above is the code that is not the package's own."""
    frame, level = sys._getframe(1), 1
    while frame.f_back and frame.f_globals.get("__name__", "").split(".")[0] == __name__.split(".")[0]:
        frame, level = frame.f_back, level + 1
    return level
