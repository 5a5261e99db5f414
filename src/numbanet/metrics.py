"""Metrics: what is reported beside the loss, as descriptions. The kernels are in kernels/*/loss.py."""

from __future__ import annotations

from dataclasses import dataclass

from numbanet.names import lookup


@dataclass(frozen=True)
class Metric:
    """A metric by name, with its op; `binary` is the op that stands in where outputs are compared with 1/2."""

    name: str
    op: str
    binary: str | None = None

    def op_for(self, loss, width):
        """The op for a loss and a number of outputs."""
        return self.binary if self.binary and (loss.binary or width == 1) else self.op


METRICS = {
    metric.name: metric
    for metric in (
        Metric("accuracy", "accuracy", binary="binary_accuracy"),
        Metric("binary_accuracy", "binary_accuracy"),
        Metric("mse", "mean_squared_error"),
        Metric("mae", "mean_absolute_error"),
    )
}


def get(metric) -> Metric:
    """The metric of a name."""
    return metric if isinstance(metric, Metric) else lookup("metric", metric, METRICS)
