"""Optimisers, as descriptions: their op, the slots they keep beside each parameter, and their coefficients a step.

The kernels are in kernels/*/update.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from numbanet import validate
from numbanet.names import lookup


class Optimizer:
    """Base of all optimisers. `op` names the update, `slots` what it keeps beside each parameter."""

    op: str
    slots: tuple[str, ...] = ()

    def coefficients(self, updates):
        """The table that the update's kernel reads, float64, one row for each step number (0, 1, ...)."""
        raise TypeError(f"{type(self).__name__} does not say its coefficients")


@dataclass(frozen=True)
class SGD(Optimizer):
    """Stochastic gradient descent, w -= learning_rate g.

    learning_rate: 0.01, above 0. momentum: 0, in [0, 1): v = momentum v - learning_rate g, w += v (Polyak, 1964).
    nesterov: False; if True, w += momentum v - learning_rate g (Sutskever et al., 2013). As in Keras.
    """

    learning_rate: float = 0.01
    momentum: float = 0.0
    nesterov: bool = False

    def __post_init__(self):
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
    def slots(self):
        return ("velocity",) if self.momentum else ()

    def coefficients(self, updates):
        ahead = (self.momentum, self.learning_rate) if self.nesterov else (1.0, 0.0)
        return np.tile([self.learning_rate, self.momentum, *ahead], (len(updates), 1))


@dataclass(frozen=True)
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
    slots: ClassVar[tuple[str, ...]] = ("mean", "variance")

    def __post_init__(self):
        validate.settle(
            self,
            learning_rate=validate.real_number("learning_rate", self.learning_rate, least=0, open_least=True),
            beta_1=validate.real_number("beta_1", self.beta_1, least=0, most=1, open_most=True),
            beta_2=validate.real_number("beta_2", self.beta_2, least=0, most=1, open_most=True),
            epsilon=validate.real_number("epsilon", self.epsilon, least=0),
        )

    def coefficients(self, updates):
        t = np.asarray(updates, np.float64) + 1
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
