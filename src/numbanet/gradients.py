"""Checks of gradients against central differences."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from numbanet import validate
from numbanet.kernels import UPDATE
from numbanet.model import Model
from numbanet.training import run_epoch


@dataclass(frozen=True)
class GradientCheck:
    """The worst relative error, the parameter and index where it is, and the two derivatives there."""

    error: float
    parameter: str
    index: tuple[int, ...]
    analytic: float
    numeric: float
    checked: int

    def __str__(self):
        return (
            f"worst relative error {self.error:.1e} at {self.parameter}{list(self.index)}: "
            f"analytic {self.analytic:.9g}, numeric {self.numeric:.9g} ({self.checked} parameters checked)"
        )


def gradient_check(model, X, y, eps=1e-6):
    """Compare every derivative of the loss with (L(w + eps) - L(w - eps)) / 2 eps; returns a GradientCheck.

    In float64 whatever the model's dtype, the whole of (X, y) as one batch, as in training: with regularisers, noise
    (that of the first step) and the batch's own statistics. The model is not touched.

    The error of a derivative is relative to the largest derivative of the same array: a difference of two losses
    cannot resolve an entry below rounding, about 1e-16 L / eps, however right it is. (So an array whose derivatives are
    all zero, such as a bias just before BatchNorm, which takes it off again, has an error of up to 1.) ValueError if
    the model is not compiled or the data does not fit.
    """
    eps = validate.real_number("eps", eps, least=0, open_least=True)
    twin = in_float64(model)
    data = twin._data(X, y)
    analytic = gradients(twin, data)
    worst, checked = GradientCheck(0.0, "", (), 0.0, 0.0, 0), 0
    for parameter in twin.graph.parameters:
        numeric = np.empty(parameter.shape)
        start = parameter.unpack(twin._theta)
        for index in np.ndindex(parameter.shape):
            losses = []
            for value in (start[index] + eps, start[index] - eps):
                moved = start.copy()
                moved[index] = value
                parameter.pack(twin._theta, moved)
                losses.append(loss(twin, data))
            numeric[index] = (losses[0] - losses[1]) / (2 * eps)
        parameter.pack(twin._theta, start)
        exact = analytic[parameter.name]
        scale = max(np.abs(exact).max(), np.abs(numeric).max(), np.finfo(np.float64).tiny)
        errors = np.abs(exact - numeric) / scale
        at = tuple(int(k) for k in np.unravel_index(int(errors.argmax()), errors.shape))
        checked += math.prod(parameter.shape)
        if not errors[at] <= worst.error or not worst.parameter:
            worst = GradientCheck(float(errors[at]), parameter.name, at, float(exact[at]), float(numeric[at]), 0)
    return GradientCheck(worst.error, worst.parameter, worst.index, worst.analytic, worst.numeric, checked)


def need_model(model):
    """The model; TypeError for anything else."""
    if not isinstance(model, Model):
        raise TypeError(f"model must be a numbanet model, not {type(model).__name__}")
    return model


def in_float64(model):
    """A twin of the model in float64, with the same graph, weights and settings."""
    need_model(model)._need_compiled()
    twin = Model.__new__(Model)
    twin._build(model.graph, model.seed, "float64")
    twin.to(model.device)
    twin.set_weights(model.get_weights())
    twin._compile(model.optimizer, model.loss, [metric.name for metric in model.metrics])
    return twin


def loss(model, data):
    """The loss that training would see, over the data as one batch, with the noise of the first step."""
    program = model._program("loss", data.samples, data.form())
    program.steps[:, UPDATE] = 0
    return run_epoch(program, data, np.arange(data.samples), data.samples)[0] + model.graph.penalty(model._theta)


def gradients(model, data):
    """The loss's derivative by every parameter, name -> array, over the data as one batch, with the same noise."""
    program = model._program("gradient", data.samples, data.form())
    program.steps[:, UPDATE] = 0
    run_epoch(program, data, np.arange(data.samples), data.samples)
    found = kept(program, model.graph)
    return {
        parameter.name: found.get(parameter.name, np.zeros(parameter.shape)) for parameter in model.graph.parameters
    }


def kept(program, graph):
    """The gradients that a "gradient" program has computed, name -> array, of the parameters that get one."""
    buffers, work = program.plan.gradients, program.work
    return {
        parameter.name: replace(parameter, offset=buffers[parameter.name].offset).unpack(work)
        for parameter in graph.parameters
        if parameter.name in buffers
    }
