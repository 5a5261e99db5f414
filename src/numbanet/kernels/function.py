"""Users' functions of numbers: what kernels know of them, the same for all devices.

A function is taken as it is when it is given: a copy of it reads copies of its closure and of the globals it uses, and
calls copies of the plain functions among them. So what is compiled later is what was checked, and what its key says.
"""

from __future__ import annotations

import builtins
import contextlib
import dis
import hashlib
import math
import re
import types
from dataclasses import dataclass

import numba
import numpy as np
from numba.core.errors import NumbaError

STEP = 2.0**-17  # of central differences: near the cube root of float64's rounding, and numbers plus it are exact
KNOWN = ("math", "numpy")  # modules that do not change under their names
LIBRARIES = ("numpy", "numba")  # whose functions Numba knows as they are
KEY = 24  # hexadecimal digits
NOISE = ("Failed in", "During:", "File ", "- Resolution", "There are", "Type of variable", "Enable logging")


class Unknown(Exception):
    """Something that has no text which tells it from all others."""


@dataclass(frozen=True, eq=False)
class Function:
    """A function of one number or two with its derivative by the first; equal if their code is.

    value, slope: frozen plain functions; no slope: differences of values. key: of all that they are, None if that
    cannot be told.
    """

    name: str
    value: types.FunctionType
    slope: types.FunctionType | None
    key: str | None

    @classmethod
    def of(cls, name, value, slope=None):
        """A user's functions as they are now."""
        made = {}
        value, slope = frozen(value, made=made), slope and frozen(slope, made=made)
        return cls(name, value, slope, key_of(value, slope))

    def __eq__(self, other):
        return self is other or (isinstance(other, Function) and self.key is not None and self.key == other.key)

    def __hash__(self):
        return hash(self.key) if self.key else object.__hash__(self)

    def made(self, wrap):
        """(value, slope) for a device, whose `wrap` makes a plain function one that its kernels may call."""
        done = {}
        value = frozen(self.value, wrap, done)
        return value, frozen(self.slope, wrap, done) if self.slope else wrap(differences(value))


class PerFunction:
    """An op with a kernel for each function of a user, made when it is first wanted. A device says how.

    make(value, slope): the loop for functions of the device. numbers: how many a function is given.
    """

    def __init__(self, name, make, numbers=1):
        self.name, self.numbers, self._make, self._members = name, numbers, make, {}

    @property
    def function(self):
        """The loop, to be read."""
        return self._make(None, None)

    def address(self, dtype, source=None):
        """The address of the kernel for a dtype and a Function; ValueError if that cannot be compiled."""
        kernel, functions = self._members.get(source) or self._member(source)
        try:
            return self.compiled(kernel, functions, dtype)
        except Exception as problem:
            raise ValueError(f"Numba cannot compile {source.name}: {reason(problem)}") from None

    def _member(self, source):
        functions = source.made(self.wrap)
        name = f"{self.name}_{source.key[:KEY]}" if source.key else self.name
        kernel = self.kernel(self._make(*functions), name, kept=source.key is not None)
        return self._members.setdefault(source, (kernel, functions))  # for good: programs hold the address

    def check(self, functions, dtype):
        """Compile functions by themselves; TypeError if one does not give a real number."""
        for function in functions:
            call = self.wrap(_call_with_one(function) if self.numbers == 1 else _call_with_two(function))
            result = self.result(call, (getattr(numba.types, dtype),) * self.numbers)
            if not isinstance(result, numba.types.Float | numba.types.Integer | numba.types.Boolean):
                raise TypeError(f"it gives {result}, expected a real number")


def _call_with_one(function):
    return lambda x: function(x)  # whatever else it has defaults for


def _call_with_two(function):
    return lambda y, t: function(y, t)


def differences(value):
    """The slope of a function by its first number: central differences in float64, one-sided where it ends."""

    def slope(x, *rest):
        """(value(x + h) - value(x - h)) / 2 h"""
        here = np.float64(x)
        step = STEP * max(1.0, abs(here))
        right, left = here + step, here - step
        above, below = np.float64(value(right, *rest)), np.float64(value(left, *rest))
        if not math.isfinite(above):
            right, above = here, np.float64(value(here, *rest))
        elif not math.isfinite(below):
            left, below = here, np.float64(value(here, *rest))
        return (above - below) / (right - left)

    return slope


def quiet(function):
    """A plain function as compiled code would compute it: NaN where Python raises an error of arithmetic."""

    def called(*numbers):
        try:
            return function(*numbers)
        except (ArithmeticError, ValueError):
            return math.nan

    return called


def reason(problem):
    """The first line of an error of Numba's that says something."""
    lines = [re.sub(r"\x1b\[\d*m", "", line).strip() for line in str(problem).splitlines()]
    lines = [line for line in lines if line and not line.startswith(NOISE)] or ["no reason given"]
    said = lines[0]
    if not isinstance(problem, NumbaError | TypeError | ValueError):
        said = f"{type(problem).__name__}: {said}"
    if said.endswith(":") and len(lines) > 1:
        said = f"{said} {lines[1].removeprefix('>>> ')}"
    return said[:300]


# -- copies


def frozen(function, wrap=lambda function: function, made=None):
    """A copy of a plain function that reads what its closure and its globals are now; all plain functions that it
    calls are copied too, and each copy wrapped."""
    made = {} if made is None else made
    if function in made:
        return made[function]
    # A name of ours as its module: a cached kernel that names its module must not import the user's.
    scope = {"__name__": __name__, "__builtins__": function.__globals__.get("__builtins__", builtins)}
    cells = tuple(types.CellType() for _ in function.__closure__ or ())
    copy = types.FunctionType(function.__code__, scope, function.__name__, function.__defaults__, cells)
    copy.__kwdefaults__, copy.__module__ = function.__kwdefaults__, __name__
    made[function] = wrap(copy)  # before what it calls, which may be itself

    def known(value):
        if isinstance(value, np.ndarray):
            return value.copy()
        return frozen(value, wrap, made) if _is_plain(value) else value

    for name in _globals_of(function.__code__) & function.__globals__.keys():
        scope[name] = known(function.__globals__[name])
    for cell, theirs in zip(cells, function.__closure__ or (), strict=True):
        with contextlib.suppress(ValueError):  # it is empty
            cell.cell_contents = known(theirs.cell_contents)
    return made[function]


def _is_plain(value):
    """Is it a function that Numba does not know yet?"""
    return isinstance(value, types.FunctionType) and (value.__module__ or "").split(".")[0] not in LIBRARIES


def _globals_of(code):
    """The global names that some code reads, functions in it included."""
    names = {step.argval for step in dis.get_instructions(code) if step.opname in ("LOAD_GLOBAL", "LOAD_NAME")}
    return names.union(*(_globals_of(part) for part in code.co_consts if isinstance(part, types.CodeType)))


# -- keys


def key_of(*values):
    """Hexadecimal digits that are the same, in every process, for the same code and numbers only; None: unknown."""
    try:
        return hashlib.sha256(repr([_told(value, {}) for value in values]).encode()).hexdigest()
    except Unknown:
        return None


def _told(value, seen):
    """All that a function, a number or a module is, as texts in tuples; seen: functions that have been told."""
    if type(value) is tuple:  # a named one has names, too
        return ("tuple", *(_told(part, seen) for part in value))
    if isinstance(value, frozenset):
        return ("set", *sorted(repr(_told(part, seen)) for part in value))
    if isinstance(value, np.generic):
        return value.dtype.str, value.tobytes().hex()
    if value is None or value is Ellipsis or isinstance(value, bool | int | float | complex | str | bytes):
        return type(value).__name__, repr(value)
    if isinstance(value, types.CodeType):
        return _told_code(value, seen)
    if _is_plain(value):
        return _told_function(value, seen)
    if hasattr(value, "py_func") and hasattr(value, "targetoptions"):  # compiled by the user
        return "compiled", _told_function(value.py_func, seen), repr(sorted(value.targetoptions.items()))
    if isinstance(value, types.ModuleType) and value.__name__ in KNOWN:
        return "module", value.__name__
    for module in (builtins, math, np):
        name = getattr(value, "__name__", None)
        if isinstance(name, str) and getattr(module, name, None) is value:
            return module.__name__, name
    raise Unknown


def _told_function(function, seen):
    if function in seen:
        return "again", seen[function]
    seen[function] = len(seen)
    outside = function.__globals__
    names = sorted(_globals_of(function.__code__) & outside.keys())
    try:
        closure = tuple(cell.cell_contents for cell in function.__closure__ or ())
    except ValueError:  # an empty cell
        raise Unknown from None
    parts = function.__code__, function.__defaults__, closure, tuple(outside[name] for name in names)
    keywords = sorted((function.__kwdefaults__ or {}).items())
    return "function", names, _told(parts, seen), _told(tuple(keywords), seen)


def _told_code(code, seen):
    names = code.co_names, code.co_varnames, code.co_freevars, code.co_cellvars
    counts = code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount, code.co_flags
    return "code", code.co_code.hex(), names, counts, _told(code.co_consts, seen)
