"""Optimisers, and what is done to gradients before."""

import numpy as np


def sgd_update(gradient, coefficients, parameter):
    return {"parameter": parameter - coefficients[0, 0] * gradient}


def momentum_update(gradient, coefficients, parameter, velocity):
    rate, momentum, p, q = coefficients[0, :4]
    velocity = momentum * velocity - rate * gradient
    return {"parameter": parameter + p * velocity - q * gradient, "velocity": velocity}


def adam_update(gradient, coefficients, parameter, mean, variance):
    rate, p, q, c, epsilon = coefficients[0, :5]
    mean = (1 - p) * mean + p * gradient
    variance = (1 - q) * variance + q * gradient**2
    parameter = parameter - rate * mean / (c * np.sqrt(variance) + epsilon)
    return {"parameter": parameter, "mean": mean, "variance": variance}


def adamw_update(gradient, coefficients, parameter, mean, variance):
    found = adam_update(gradient, coefficients, parameter, mean, variance)
    return found | {"parameter": found["parameter"] - coefficients[0, 5] * parameter}


def rmsprop_update(gradient, coefficients, parameter, variance, mean, velocity):
    rate, q, inside, outside, momentum, p = coefficients[0, :6]
    found = {"variance": (1 - q) * variance + q * gradient**2}
    spread = found["variance"]
    if mean is not None:
        found["mean"] = (1 - q) * mean + q * gradient
        spread = np.maximum(spread - found["mean"] ** 2, 0)
    change = rate * gradient / (np.sqrt(spread + inside) + outside)
    if velocity is not None:
        change = found["velocity"] = momentum * velocity + change
    return found | {"parameter": parameter - p * change}


def adagrad_update(gradient, coefficients, parameter, accumulator):
    rate, inside, outside = coefficients[0, :3]
    accumulator = accumulator + gradient**2
    parameter = parameter - rate * gradient / (np.sqrt(accumulator + inside) + outside)
    return {"parameter": parameter, "accumulator": accumulator}


def gradient_add(gradient, total):
    return {"total": total + gradient}


def gradient_keep(gradient):
    return {"kept": gradient}


def gradient_take(kept, factor):
    return {"gradient": kept * (1 if factor is None else factor[0, 0])}


def gradient_accumulate(coefficients, gradient, accumulated, column):
    total, (share, keep) = accumulated + gradient, coefficients[0, column : column + 2]
    return {"gradient": share * total, "accumulated": keep * total}


def gradient_clip(gradient, limit):
    return {"gradient": np.clip(gradient, -limit, limit)}


def _panel_rows(matrix):
    """Rows of 16 columns as kernels have them: those of the first panel, then of the next."""
    rows, width = matrix.shape
    padded = np.pad(matrix, ((0, 0), (0, -width % 16)))
    return padded.reshape(rows, -1, 16).transpose(1, 0, 2).reshape(-1, 16)


def gradient_squares(gradient, squares):
    values = np.square(_panel_rows(gradient)).sum(axis=1)
    return {"squares": np.pad(values, (0, squares.size - values.size)).reshape(squares.shape)}


def sum_squares(squares, norms, column):
    norms = norms.copy()
    norms[0, column] = squares.sum()
    return {"norms": norms}


def clip_factor(norms, width, limit):
    return {"factor": np.array([[min(1.0, limit / np.sqrt(norms[0, :width].sum()))]])}


def regularize(parameter, gradient, penalties, l1, l2, at):
    penalties, rows = penalties.copy(), _panel_rows(parameter)
    values = (l1 * np.abs(rows) + l2 * rows**2).sum(axis=1) * len(gradient)
    penalties[at : at + len(rows), 0] += values
    return {"gradient": gradient + l1 * np.sign(parameter) + 2 * l2 * parameter, "penalties": penalties}


def transpose(parameter, inputs, units):
    return {"transposed": parameter.T}
