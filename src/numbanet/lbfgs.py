"""Training by L-BFGS: SciPy proposes weights, a program that computes gradients answers, with all samples at once."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from numbanet.kernels import UPDATE
from numbanet.training import run_epoch

ROWS = 4096  # samples that are computed at once: the workspace does not grow with the data


def minimise(model, data, epochs, on_epoch):
    """At most `epochs` iterations from the model's weights on; fewer where SciPy finds that they lead no further.

    on_epoch(means, penalty) is called after each, with the model at the weights that the iteration found, and with what
    was measured there, as training sees it (noise that of the first step): the means of loss and metrics, and what
    frozen parameters add to the loss. A true answer ends it. Whatever interrupts, the model is at the last iteration's
    weights afterwards. ImportError without SciPy.
    """
    minimize = _scipy()
    _need_no_statistics(model)
    if not epochs:
        return
    settings, objective = model.optimizer, _Objective(model, data)
    found = objective.weights()

    def after(intermediate_result):  # SciPy goes by the argument's name
        nonlocal found
        if not np.array_equal(objective.at, intermediate_result.x):
            objective(intermediate_result.x)
        found = objective.at
        model.epochs += 1
        model._steps[0, UPDATE] += 1
        if on_epoch(objective.means, objective.steady):
            raise StopIteration

    options = {"maxcor": settings.history, "ftol": settings.ftol, "gtol": settings.gtol, "maxls": settings.maxls}
    options |= {"maxiter": epochs, "maxfun": epochs * (settings.maxls + 1) + 1}
    try:
        minimize(objective, found, jac=True, method="L-BFGS-B", callback=after, options=options)
    finally:
        objective.move(found)


def _scipy():
    """SciPy's minimize, which is not installed with everything else."""
    try:
        from scipy.optimize import minimize
    except ImportError as problem:
        raise ImportError(f"LBFGS needs SciPy: pip install 'numbanet[lbfgs]' ({problem})") from problem
    return minimize


def _need_no_statistics(model):
    """Refuse layers that gather statistics of one batch after another: here nothing of a step but weights is kept."""
    keeps = {at for at, spec in zip(model.graph.parameters, model.graph.specs, strict=True) if not spec.trainable}
    for layer, known in model.graph.of_layer.items():
        found = [at.name for at in known.values() if at in keeps and layer.trainable]
        if found:
            raise ValueError(f"LBFGS does not keep statistics such as {found[0]}; take another optimiser")


class _Objective:
    """Loss and gradient as a function of one vector of float64, the parameters that are trained."""

    def __init__(self, model, data):
        self._model, self._data = model, data.on(model._device)
        self._rows = min(ROWS, data.samples)
        self._program = model._program("gradient", self._rows, data.form())
        frozen, kept = model.graph.frozen(), self._program.plan.gradients
        self.steady = model.graph.penalty(model._theta, frozen)
        trained = [parameter for parameter in model.graph.parameters if parameter.name in kept]
        if not trained:
            raise ValueError("the model has no parameters to train")
        self._in_theta = np.concatenate([_places(parameter) for parameter in trained])
        self._in_work = np.concatenate(
            [_places(replace(parameter, offset=kept[parameter.name].offset)) for parameter in trained]
        )
        self.at = self.means = None  # where it was asked last, and loss and metrics there

    def weights(self):
        """The model's weights as one vector."""
        return self._model._theta[self._in_theta].astype(np.float64)

    def move(self, weights):
        """Give the model such weights."""
        if not self._program.trains(self._model._memory):
            raise RuntimeError("the model, or one that shares its weights, was compiled, moved or changed in training")
        with np.errstate(over="ignore"):  # of a step too long for float32: its loss says so
            self._model._theta[self._in_theta] = weights

    def __call__(self, weights):
        self.move(weights)
        samples, program = self._data.samples, self._program
        means, slopes = 0.0, np.zeros(len(self._in_work))
        for first in range(0, samples, self._rows):
            order = np.arange(first, min(samples, first + self._rows))
            program.steps[:, UPDATE] = 0  # noise is the first step's, or there would be no one function
            share = len(order) / samples
            means = means + share * run_epoch(program, self._data, order, self._rows)
            slopes += share * program.work[self._in_work]
        self.at, self.means = weights.copy(), means
        return float(means[0]) + self.steady, slopes


def _places(parameter):
    """Where the elements of a parameter are in the vector that it lies in."""
    return replace(parameter, offset=0).unpack(np.arange(parameter.size)).ravel() + parameter.offset
