"""Regularisers: penalties on the size of weights, added to the loss, as descriptions. The kernel is `regularize`."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from numbanet import validate
from numbanet.names import lookup


@dataclass(frozen=True)
class L1L2:
    """l1 sum |w| + l2 sum w**2, both 0 by default; as in Keras, without a factor of 1/2.

    The gradient is l1 sign(w) + 2 l2 w: a text's weight decay of lambda / 2 sum w**2 is L2(lambda / 2).
    """

    l1: float = 0.0
    l2: float = 0.0

    def __post_init__(self):
        validate.settle(
            self,
            l1=validate.real_number("l1", self.l1, least=0),
            l2=validate.real_number("l2", self.l2, least=0),
        )

    def penalty(self, weights):
        """The penalty of some weights."""
        weights = np.asarray(weights, np.float64)
        return self.l1 * np.abs(weights).sum() + self.l2 * np.square(weights).sum()


def L1(l1=0.01):
    """l1 sum |w|: drives weights to zero (Tibshirani, 1996). As in Keras, 0.01 by default."""
    return L1L2(l1=l1)


def L2(l2=0.01):
    """l2 sum w**2: keeps weights small (Hoerl & Kennard, 1970). As in Keras, 0.01 by default."""
    return L1L2(l2=l2)


CLASSES = {"L1L2": L1L2}
REGULARIZERS = {"l1": L1(), "l2": L2(), "l1_l2": L1L2(0.01, 0.01)}


def get(regularizer):
    """The regulariser of a name, the given one, or None."""
    if regularizer is None or isinstance(regularizer, L1L2):
        return regularizer
    return lookup("regularizer", regularizer, REGULARIZERS)
