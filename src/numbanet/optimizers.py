"""Optimisers, as descriptions: their op, the slots they keep beside each parameter, and their coefficients a step.

The kernels are in kernels/*/update.py.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from numbanet import validate
from numbanet.names import lookup


@dataclass(frozen=True, kw_only=True, repr=False)
class Optimizer:
    """Base of all optimisers, with what all of them may do to gradients before they use them; by default nothing.

    clipvalue: each element is kept within [-clipvalue, clipvalue]. clipnorm: each parameter's gradient is scaled so
    that its norm is at most this. global_clipnorm: all gradients are scaled together so that the norm of all is at most
    this (Pascanu et al., 2013). One of the three. gradient_accumulation_steps: update with the mean gradient of so many
    batches, after the last of them.

    Subclasses: `op` names the update, `state` what it keeps beside each parameter.
    """

    clipnorm: float | None = None
    global_clipnorm: float | None = None
    clipvalue: float | None = None
    gradient_accumulation_steps: int | None = None

    op: ClassVar[str]
    state: ClassVar[tuple[str, ...]] = ()

    def __post_init__(self):
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
    """Stochastic gradient descent, w -= learning_rate g.

    learning_rate: 0.01, above 0. momentum: 0, in [0, 1): v = momentum v - learning_rate g, w += v (Polyak, 1964).
    nesterov: False; if True, w += momentum v - learning_rate g (Sutskever et al., 2013). As in Keras.
    """

    learning_rate: float = 0.01
    momentum: float = 0.0
    nesterov: bool = False

    def __post_init__(self):
        super().__post_init__()
        validate.settle(
            self,
            learning_rate=validate.real_number("learning_rate", self.learning_rate, least=0, open_least=True),
            momentum=validate.real_number("momentum", self.momentum, least=0, most=1, open_most=True),
            nesterov=validate.flag("nesterov", self.nesterov),
        )

    @property
    def op(self):
        return "momentum_update" if self.momentum else "sgd_update"

    @property
    def state(self):
        return ("velocity",) if self.momentum else ()

    def table(self, steps):
        ahead = (self.momentum, self.learning_rate) if self.nesterov else (1.0, 0.0)
        return np.tile([self.learning_rate, self.momentum, *ahead], (len(steps), 1))


@dataclass(frozen=True, repr=False)
class Adam(Optimizer):
    """Adam, algorithm 1 of Kingma & Ba (2015): w -= learning_rate m' / (sqrt(v') + epsilon), m' and v' corrected for
    their start at zero.

    learning_rate: 0.001, above 0. beta_1: 0.9 and beta_2: 0.999, in [0, 1). epsilon: 1e-7 (Keras' value; PyTorch 1e-8).
    """

    learning_rate: float = 0.001
    beta_1: float = 0.9
    beta_2: float = 0.999
    epsilon: float = 1e-7

    op: ClassVar[str] = "adam_update"
    state: ClassVar[tuple[str, ...]] = ("mean", "variance")

    def __post_init__(self):
        super().__post_init__()
        validate.settle(
            self,
            learning_rate=validate.real_number("learning_rate", self.learning_rate, least=0, open_least=True),
            beta_1=validate.real_number("beta_1", self.beta_1, least=0, most=1, open_most=True),
            beta_2=validate.real_number("beta_2", self.beta_2, least=0, most=1, open_most=True),
            epsilon=validate.real_number("epsilon", self.epsilon, least=0),
        )

    def table(self, steps):
        t = steps + 1
        table = np.empty((len(t), 5))
        table[:, 0] = self.learning_rate / (1 - self.beta_1**t)
        table[:, 1] = 1 - self.beta_1
        table[:, 2] = 1 - self.beta_2
        table[:, 3] = 1 / np.sqrt(1 - self.beta_2**t)
        table[:, 4] = self.epsilon
        return table


CLASSES = {optimizer.__name__: optimizer for optimizer in (SGD, Adam)}
OPTIMIZERS = {name.lower(): optimizer for name, optimizer in CLASSES.items()}


def get(optimizer) -> Optimizer:
    """An optimiser: the given one, or the named one ("sgd", "adam") with its defaults."""
    if isinstance(optimizer, Optimizer):
        return optimizer
    return lookup("optimizer", optimizer.lower() if isinstance(optimizer, str) else optimizer, OPTIMIZERS)()
