"""Losses: what a training step minimises, as descriptions. The kernels are in kernels/*/loss.py."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from numbanet import functions, validate
from numbanet.functions import LossFunction
from numbanet.names import lookup


@dataclass(frozen=True, repr=False)
class Loss:
    """A loss by name: the op that computes it and what it asks of the targets.

    classes: integer labels are welcome (they become one-hot rows); targets: what they may be, a key of
    validate.TARGETS; fused: the op which computes the loss from the input of an activation that ends the network, by
    activation; binary: "accuracy" compares each output with 1/2 instead of looking for the largest; reals: the
    formula's parameters, real sizes of the op.
    """

    name: str
    classes: bool = False
    targets: str = "numbers"
    binary: bool = False
    fused: dict[str, str] = field(default_factory=dict)
    reals: dict[str, float] = field(default_factory=dict)

    source: ClassVar[None] = None  # no function of a user

    @property
    def op(self):
        return self.name

    def __str__(self):
        reals = ", ".join(f"{key}={value!r}" for key, value in self.reals.items())
        return f"{self.name}({reals})" if reals else self.name

    def __repr__(self):
        return f"<loss {self}>"


def Huber(delta=1.0):
    """The mean over outputs of (t - y)^2 / 2 where |t - y| <= delta, of delta (|t - y| - delta / 2) beyond.

    It forgives outliers (Huber, 1964). delta: 1 as in Keras and PyTorch. ValueError if it is not above 0.
    """
    return Loss("huber", reals={"delta": validate.real_number("delta", delta, least=0, open_least=True)})


LOGITS = {"softmax": "softmax_cross_entropy", "log_softmax": "log_softmax_cross_entropy"}
MAKERS = {"huber": Huber}  # of the losses that have parameters
# t a target, y an output; each is the mean over rows. As in Keras, kl_divergence keeps t and y from 1e-7 to 1, and
# poisson takes the logarithm of y + 1e-7; cross entropies keep y 2^-23 away from 0 and 1. The slope of an output that
# is kept from going further is that of where it is kept, not 0 as in Keras: it can come back.
LOSSES = {
    loss.name: loss
    for loss in (
        Loss("half_squared_error"),  # 1/2 sum over outputs of (d - y)^2, mean over rows
        Loss("mse"),  # mean over outputs and rows, as Keras has it
        # - sum over outputs of t log y. Of a network that ends in log_softmax, y is exp of the output.
        Loss("cross_entropy", classes=True, targets="probabilities", fused=LOGITS),
        Loss(
            "binary_cross_entropy",
            targets="probabilities",
            binary=True,
            fused={"sigmoid": "sigmoid_binary_cross_entropy"},
        ),
        Loss("mae"),  # mean over outputs of |t - y|
        Huber(),
        Loss("kl_divergence", targets="probabilities"),  # sum over outputs of t log(t / y)
        Loss("hinge", targets="signs"),  # mean over outputs of max(1 - t y, 0), t -1 or 1
        Loss("poisson", targets="counts"),  # mean over outputs of y - t log y
    )
}
ALIASES = {
    "mean_squared_error": "mse",
    "mean_absolute_error": "mae",
    "kullback_leibler_divergence": "kl_divergence",
    "kld": "kl_divergence",
    "categorical_crossentropy": "cross_entropy",
    "sparse_categorical_crossentropy": "cross_entropy",
    "binary_crossentropy": "binary_cross_entropy",
}


def get(loss) -> Loss | LossFunction:
    """The loss of a name, or of a user's function; Keras' long names are aliases."""
    if isinstance(loss, Loss):
        return loss
    if functions.given(loss):
        return functions.loss(loss)
    return lookup("loss", ALIASES.get(loss, loss) if isinstance(loss, str) else loss, LOSSES)
