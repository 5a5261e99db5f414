"""Losses: what a training step minimises, as descriptions. The kernels are in kernels/*/loss.py."""

from __future__ import annotations

from dataclasses import dataclass, field

from numbanet.names import lookup


@dataclass(frozen=True)
class Loss:
    """A loss by name: the op that computes it and what it asks of the targets.

    classes: integer labels are welcome (they become one-hot rows); probabilities: targets lie between 0 and 1;
    fused: the op which computes the loss from the input of an activation that ends the network, by activation;
    binary: "accuracy" compares each output with 1/2 instead of looking for the largest.
    """

    name: str
    classes: bool = False
    probabilities: bool = False
    binary: bool = False
    fused: dict[str, str] = field(default_factory=dict)

    @property
    def op(self):
        return self.name


LOSSES = {
    loss.name: loss
    for loss in (
        Loss("half_squared_error"),  # 1/2 sum over outputs of (d - y)^2, mean over rows
        Loss("mse"),  # mean over outputs and rows, as Keras has it
        Loss("cross_entropy", classes=True, probabilities=True, fused={"softmax": "softmax_cross_entropy"}),
        Loss(
            "binary_cross_entropy",
            probabilities=True,
            binary=True,
            fused={"sigmoid": "sigmoid_binary_cross_entropy"},
        ),
    )
}
ALIASES = {
    "mean_squared_error": "mse",
    "categorical_crossentropy": "cross_entropy",
    "sparse_categorical_crossentropy": "cross_entropy",
    "binary_crossentropy": "binary_cross_entropy",
}


def get(loss) -> Loss:
    """The loss of a name; Keras' long names are aliases."""
    if isinstance(loss, Loss):
        return loss
    return lookup("loss", ALIASES.get(loss, loss) if isinstance(loss, str) else loss, LOSSES)
