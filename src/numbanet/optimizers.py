"""Optimisers, as descriptions: their op, the slots they keep beside each parameter, and their coefficients a step.

The kernels are in kernels/*/update.py. Where Keras and PyTorch compute something else under one name, the default is
Keras 3's, and an argument, by keyword only, asks for the other.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np

from numbanet import schedules, validate
from numbanet.names import lookup

LEAST = 2.0**-126  # of what is added to a root that may be 0, which padding's is: the smallest that float32 holds


@dataclass(frozen=True, kw_only=True, repr=False)
class Optimizer:
    """Base of all optimisers, with what all of them may do to gradients before they use them; by default nothing.

    clipvalue: each element is kept within [-clipvalue, clipvalue]. clipnorm: each parameter's gradient is scaled so
    that its norm is at most this. global_clipnorm: all gradients are scaled together so that the norm of all is at most
    this (Pascanu et al., 2013). One of the three. gradient_accumulation_steps: update with the mean gradient of so many
    batches, after the last of them.

    Subclasses: `op` names the update, `state` what it keeps beside each parameter. learning_rate is a number or a
    schedule (see numbanet.schedules).
    """

    clipnorm: float | None = None
    global_clipnorm: float | None = None
    clipvalue: float | None = None
    gradient_accumulation_steps: int | None = None

    op: ClassVar[str]
    state: ClassVar[tuple[str, ...]] = ()
    mode: ClassVar[str] = "train"  # of the plan that it trains with

    def __post_init__(self):
        if hasattr(self, "learning_rate"):
            validate.settle(self, learning_rate=schedules.rate("learning_rate", self.learning_rate))
        clips = {name: getattr(self, name) for name in ("clipnorm", "global_clipnorm", "clipvalue")}
        clips = {
            name: validate.real_number(name, value, 0, open_least=True)
            for name, value in clips.items()
            if value is not None
        }
        if len(clips) > 1:
            raise ValueError(f"{' and '.join(clips)} are given, expected at most one way to clip gradients")
        steps = self.gradient_accumulation_steps
        if steps is not None:
            steps = validate.whole_number("gradient_accumulation_steps", steps)
        validate.settle(self, gradient_accumulation_steps=steps, **clips)

    def __repr__(self):
        fields = dataclasses.fields(self)
        shown = [field for field in fields if not field.kw_only]
        shown += [field for field in fields if field.kw_only and getattr(self, field.name) is not None]
        return f"{type(self).__name__}({', '.join(f'{field.name}={getattr(self, field.name)!r}' for field in shown)})"

    @property
    def period(self):
        """Steps to an update."""
        return self.gradient_accumulation_steps or 1

    @property
    def slots(self):
        """Names of the arrays that are kept beside each parameter."""
        return (*self.state, "accumulated") if self.period > 1 else self.state

    def rates(self, updates):
        """The learning rate after so many updates (a number or an array), float64."""
        self._need_rate()
        if isinstance(self.learning_rate, schedules.Schedule):
            return self.learning_rate(updates)
        return np.full(np.shape(updates), self.learning_rate)

    def with_rate(self, learning_rate):
        """The same optimiser with another learning rate."""
        self._need_rate()
        return dataclasses.replace(self, learning_rate=learning_rate)

    def _need_rate(self):
        if not hasattr(self, "learning_rate"):
            raise ValueError(f"{type(self).__name__} has no learning rate")

    @property
    def columns(self):
        """Number of the update's own coefficients."""
        return self.table(np.zeros(1)).shape[1]

    def coefficients(self, updates):
        """The table that kernels read, float64, one row for each step number (0, 1, ...).

        Gathering gradients, its last two columns are the share of the sum that is the mean, and what is kept of it.
        """
        updates = np.asarray(updates)
        table = self.table((updates // self.period).astype(np.float64))
        if self.period == 1:
            return table
        last = (updates + 1) % self.period == 0
        return np.column_stack([table, np.full(len(updates), 1 / self.period), ~last])

    def table(self, steps):
        """The update's own coefficients, a row for each number of updates before (0, 1, ...)."""
        raise TypeError(f"{type(self).__name__} does not say its coefficients")


@dataclass(frozen=True, repr=False)
class SGD(Optimizer):
    """Stochastic gradient descent, w -= learning_rate g (Robbins & Monro, 1951).

    learning_rate: 0.01, above 0, or a schedule. momentum: 0, in [0, 1): v = momentum v - learning_rate g, w += v
    (Polyak, 1964). nesterov: False; if True, w += momentum v - learning_rate g (Sutskever et al., 2013).
    rate_in_velocity: True, as in Keras; if False, v = momentum v - g, w += learning_rate v (with nesterov,
    w += learning_rate (momentum v - g)), as in PyTorch: another result only if the learning rate changes.

    PyTorch's weight_decay is a penalty, which here belongs to layers: kernel_regularizer=nn.L2(weight_decay / 2).
    """

    learning_rate: float | schedules.Schedule = 0.01
    momentum: float = 0.0
    nesterov: bool = False
    rate_in_velocity: bool = field(default=True, kw_only=True)

    def __post_init__(self):
        super().__post_init__()
        validate.settle(
            self,
            momentum=validate.real_number("momentum", self.momentum, least=0, most=1, open_most=True),
            nesterov=validate.flag("nesterov", self.nesterov),
            rate_in_velocity=validate.flag("rate_in_velocity", self.rate_in_velocity),
        )

    @property
    def op(self):
        return "momentum_update" if self.momentum else "sgd_update"

    @property
    def state(self):
        return ("velocity",) if self.momentum else ()

    def table(self, steps):
        rates, table = self.rates(steps), np.empty((len(steps), 4))
        inside = self.rate_in_velocity or not self.momentum
        after = 1.0 if inside else rates  # the factor of the velocity
        table[:, 0] = rates if inside else 1.0
        table[:, 1] = self.momentum
        table[:, 2] = self.momentum * after if self.nesterov else after
        table[:, 3] = rates if self.nesterov else 0.0
        return table


class _Moments(Optimizer):
    """What Adam and AdamW share; each has its fields in Keras' order."""

    state = ("mean", "variance")

    def __post_init__(self):
        super().__post_init__()
        validate.settle(
            self,
            beta_1=validate.real_number("beta_1", self.beta_1, least=0, most=1, open_most=True),
            beta_2=validate.real_number("beta_2", self.beta_2, least=0, most=1, open_most=True),
            epsilon=validate.real_number("epsilon", self.epsilon, least=0),
            epsilon_hat=validate.flag("epsilon_hat", self.epsilon_hat),
        )

    def table(self, steps):
        t = steps + 1
        table = np.empty((len(t), 5))
        table[:, 0] = self.rates(steps) / (1 - self.beta_1**t)
        table[:, 1] = 1 - self.beta_1
        table[:, 2] = 1 - self.beta_2
        table[:, 3] = 1 / np.sqrt(1 - self.beta_2**t)
        table[:, 4] = np.maximum(self.epsilon * (table[:, 3] if self.epsilon_hat else 1.0), LEAST)
        return table


@dataclass(frozen=True, repr=False)
class Adam(_Moments):
    """Adam (Kingma & Ba, 2015): w -= learning_rate m' / (sqrt(v') + epsilon'), m' and v' the means of the gradient and
    of its square, corrected for their start at zero.

    learning_rate: 0.001, above 0, or a schedule. beta_1: 0.9 and beta_2: 0.999, in [0, 1). epsilon: 1e-7 (PyTorch's
    1e-8), from 0. epsilon_hat: True, as in Keras: epsilon is the paper's epsilon hat, from the formula before section
    2.1, epsilon' = epsilon / sqrt(1 - beta_2**t); if False it is that of its algorithm 1, epsilon' = epsilon, as in
    PyTorch.
    """

    learning_rate: float | schedules.Schedule = 0.001
    beta_1: float = 0.9
    beta_2: float = 0.999
    epsilon: float = 1e-7
    epsilon_hat: bool = field(default=True, kw_only=True)

    op: ClassVar[str] = "adam_update"


@dataclass(frozen=True, repr=False)
class AdamW(_Moments):
    """Adam with weight decay (Loshchilov & Hutter, 2019): Adam's step, and w -= learning_rate weight_decay w.

    weight_decay: 0.004, from 0 (PyTorch's 0.01); as in Keras and in PyTorch it is multiplied with the learning rate (in
    the paper with its schedule only) and applies to every parameter, biases too. The rest is Adam's.
    """

    learning_rate: float | schedules.Schedule = 0.001
    weight_decay: float = 0.004
    beta_1: float = 0.9
    beta_2: float = 0.999
    epsilon: float = 1e-7
    epsilon_hat: bool = field(default=True, kw_only=True)

    op: ClassVar[str] = "adamw_update"

    def __post_init__(self):
        super().__post_init__()
        validate.settle(self, weight_decay=validate.real_number("weight_decay", self.weight_decay, least=0))

    def table(self, steps):
        return np.column_stack([super().table(steps), self.rates(steps) * self.weight_decay])


def _roots(epsilon, inside, more=0.0):
    """What is added to a square before and after its root, one of them epsilon; more: in any case before."""
    return (more + max(epsilon, LEAST), 0.0) if inside else (more, max(epsilon, LEAST))


@dataclass(frozen=True, repr=False)
class RMSprop(Optimizer):
    """RMSprop (Hinton, 2012, lecture 6e): w -= learning_rate g / sqrt(s + epsilon), s the mean of g**2.

    learning_rate: 0.001, above 0, or a schedule. rho: 0.9, in [0, 1): s = rho s + (1 - rho) g**2 (PyTorch's alpha,
    0.99). momentum: 0, in [0, 1): v = momentum v + the step, w -= v. epsilon: 1e-7, from 0 (PyTorch's 1e-8). centered:
    False; if True, s - m**2 in place of s, m the mean of g (Graves, 2013).

    epsilon_inside: True, as in Keras; if False, sqrt(s) + epsilon, as in PyTorch. rate_in_velocity: True, as in Keras;
    if False, momentum gathers g / sqrt(s + epsilon), and w -= learning_rate v, as in PyTorch: another result only if
    the learning rate changes.
    """

    learning_rate: float | schedules.Schedule = 0.001
    rho: float = 0.9
    momentum: float = 0.0
    epsilon: float = 1e-7
    centered: bool = False
    epsilon_inside: bool = field(default=True, kw_only=True)
    rate_in_velocity: bool = field(default=True, kw_only=True)

    op: ClassVar[str] = "rmsprop_update"

    def __post_init__(self):
        super().__post_init__()
        validate.settle(
            self,
            rho=validate.real_number("rho", self.rho, least=0, most=1, open_most=True),
            momentum=validate.real_number("momentum", self.momentum, least=0, most=1, open_most=True),
            epsilon=validate.real_number("epsilon", self.epsilon, least=0),
            centered=validate.flag("centered", self.centered),
            epsilon_inside=validate.flag("epsilon_inside", self.epsilon_inside),
            rate_in_velocity=validate.flag("rate_in_velocity", self.rate_in_velocity),
        )

    @property
    def state(self):
        return ("variance", *(["mean"] if self.centered else []), *(["velocity"] if self.momentum else []))

    def table(self, steps):
        rates, table = self.rates(steps), np.empty((len(steps), 6))
        table[:, 0] = rates if self.rate_in_velocity else 1.0
        table[:, 1] = 1 - self.rho
        table[:, 2:4] = _roots(self.epsilon, self.epsilon_inside)
        table[:, 4] = self.momentum
        table[:, 5] = 1.0 if self.rate_in_velocity else rates
        return table


@dataclass(frozen=True, repr=False)
class Adagrad(Optimizer):
    """Adagrad (Duchi et al., 2011): w -= learning_rate g / sqrt(s + epsilon), with s = initial_accumulator_value + the
    sum of g**2 so far.

    learning_rate: 0.001, above 0, or a schedule (PyTorch's default 0.01; its lr_decay is nn.InverseTimeDecay(rate, 1,
    lr_decay)). initial_accumulator_value: 0.1, from 0 (PyTorch's 0). epsilon: 1e-7, from 0 (PyTorch's 1e-10).
    epsilon_inside: True, as in Keras; if False, sqrt(s) + epsilon, as in PyTorch.
    """

    learning_rate: float | schedules.Schedule = 0.001
    initial_accumulator_value: float = 0.1
    epsilon: float = 1e-7
    epsilon_inside: bool = field(default=True, kw_only=True)

    op: ClassVar[str] = "adagrad_update"
    state: ClassVar[tuple[str, ...]] = ("accumulator",)

    def __post_init__(self):
        super().__post_init__()
        start = validate.real_number("initial_accumulator_value", self.initial_accumulator_value, least=0)
        validate.settle(
            self,
            initial_accumulator_value=start,
            epsilon=validate.real_number("epsilon", self.epsilon, least=0),
            epsilon_inside=validate.flag("epsilon_inside", self.epsilon_inside),
        )

    def table(self, steps):
        table = np.empty((len(steps), 3))
        table[:, 0] = self.rates(steps)
        table[:, 1:] = _roots(self.epsilon, self.epsilon_inside, self.initial_accumulator_value)
        return table


@dataclass(frozen=True, repr=False)
class LBFGS(Optimizer):
    """L-BFGS (Liu & Nocedal, 1989), as SciPy has it (Zhu et al., 1997; Moré & Thuente's line search): for small data.

    All samples are one batch, an epoch of fit is an iteration (a direction, and a line search along it), and fit ends
    early when SciPy finds a minimum. There is no learning rate, and nothing to clip. Needs SciPy: pip install
    'numbanet[lbfgs]'. A model of dtype float64 gets much closer to a minimum. What is known of the curvature is
    forgotten at the end of fit, and is not saved.

    history: 10, the pairs of steps and changes of the gradient that stand for the curvature (SciPy's maxcor). ftol:
    2.2e-9, ends when an iteration lowers the loss by less than ftol max(|loss before|, |loss after|, 1). gtol: 1e-5,
    ends when no derivative is larger. maxls: 20, most evaluations of a line search. The defaults are SciPy's.
    """

    history: int = 10
    ftol: float = 2.220446049250313e-09
    gtol: float = 1e-5
    maxls: int = 20

    mode: ClassVar[str] = "gradient"

    def __post_init__(self):
        super().__post_init__()
        given = [field.name for field in dataclasses.fields(Optimizer) if getattr(self, field.name) is not None]
        if given:
            raise ValueError(f"LBFGS takes gradients as they are, of all samples: expected no {' and no '.join(given)}")
        validate.settle(
            self,
            history=validate.whole_number("history", self.history, most=1000),
            ftol=validate.real_number("ftol", self.ftol, least=0),
            gtol=validate.real_number("gtol", self.gtol, least=0),
            maxls=validate.whole_number("maxls", self.maxls),
        )

    @property
    def op(self):
        raise ValueError("LBFGS has no update of a single batch: call fit, which takes all samples at once")


CLASSES = {optimizer.__name__: optimizer for optimizer in (SGD, Adam, AdamW, RMSprop, Adagrad, LBFGS)}
OPTIMIZERS = {name.lower(): optimizer for name, optimizer in CLASSES.items()}


def get(optimizer) -> Optimizer:
    """An optimiser: the given one, or the named one ("sgd", "adam", ...) with its defaults."""
    if isinstance(optimizer, Optimizer):
        return optimizer
    return lookup("optimizer", optimizer.lower() if isinstance(optimizer, str) else optimizer, OPTIMIZERS)()
