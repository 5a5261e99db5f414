"""Losses and metrics."""

import numpy as np

from reference.layers import log_softmax_forward, sigmoid_forward, softmax_forward


def function_loss(y, target, scores, width, source):
    value, slope = (np.vectorize(function, otypes=[float])(y, target) for function in (source.value, source.slope))
    return _scored({"dy": slope / y.size}, scores, 0, value.mean(axis=1))


def half_squared_error(y, target, scores, width):
    return _scored({"dy": (y - target) / len(y)}, scores, 0, ((y - target) ** 2).sum(axis=1) / 2)


def mse(y, target, scores, width):
    return _scored({"dy": 2 * (y - target) / y.size}, scores, 0, ((y - target) ** 2).mean(axis=1))


def _inside(p):
    return np.clip(p, 2.0**-23, 1 - 2.0**-23)


def cross_entropy(y, target, scores, width):
    p = _inside(y)
    return _scored({"dy": -target / p / len(y)}, scores, 0, -(target * np.log(p)).sum(axis=1))


def binary_cross_entropy(y, target, scores, width):
    p = _inside(y)
    value = -np.where(target > 0, target * np.log(p), 0) - np.where(target < 1, (1 - target) * np.log1p(-p), 0)
    return _scored({"dy": ((1 - target) / (1 - p) - target / p) / y.size}, scores, 0, value.mean(axis=1))


def mae(y, target, scores, width):
    return _scored({"dy": np.sign(y - target) / y.size}, scores, 0, np.abs(y - target).mean(axis=1))


def huber(y, target, scores, width, delta):
    error = y - target
    near = np.abs(error) <= delta
    value = np.where(near, error**2 / 2, delta * np.abs(error) - delta**2 / 2)
    return _scored({"dy": np.where(near, error, delta * np.sign(error)) / y.size}, scores, 0, value.mean(axis=1))


def kl_divergence(y, target, scores, width):
    p, t = np.clip(y, 1e-7, 1), np.clip(target, 1e-7, 1)
    return _scored({"dy": -t / p / len(y)}, scores, 0, (t * (np.log(t) - np.log(p))).sum(axis=1))


def hinge(y, target, scores, width):
    margin = 1 - target * y
    return _scored({"dy": np.where(margin > 0, -target, 0) / y.size}, scores, 0, np.maximum(margin, 0).mean(axis=1))


def poisson(y, target, scores, width):
    value = y - target * np.log(y + 1e-7)
    return _scored({"dy": (1 - target / (y + 1e-7)) / y.size}, scores, 0, value.mean(axis=1))


def log_softmax_cross_entropy(x, target, scores, width):
    y = log_softmax_forward(x, width)["y"]
    dx = (np.exp(y) * target.sum(axis=1, keepdims=True) - target) / len(x)
    return _scored({"y": y, "dx": dx}, scores, 0, -(target * y).sum(axis=1))


def softmax_cross_entropy(x, target, scores, width):
    y = softmax_forward(x, width)["y"]
    logs = x - x.max(axis=1, keepdims=True)
    logs = logs - np.log(np.exp(logs).sum(axis=1, keepdims=True))
    dx = (y * target.sum(axis=1, keepdims=True) - target) / len(x)
    return _scored({"y": y, "dx": dx}, scores, 0, -(target * logs).sum(axis=1))


def sigmoid_binary_cross_entropy(x, target, scores, width):
    y = sigmoid_forward(x, width)["y"]
    value = target * np.logaddexp(0, -x) + (1 - target) * np.logaddexp(0, x)
    return _scored({"y": y, "dx": (y - target) / x.size}, scores, 0, value.mean(axis=1))


def weigh(weights, dy, unweighted, scores, width):
    scored = _scored({}, scores, 0, (weights * unweighted)[:, 0])
    return scored | {"dy": dy * weights, "unweighted": 0 * unweighted}


def accuracy(y, target, scores, width, column):
    return _scored({}, scores, column, y.argmax(axis=1) == target.argmax(axis=1))


def binary_accuracy(y, target, scores, width, column):
    return _scored({}, scores, column, ((y > 0.5) == (target > 0.5)).mean(axis=1))


def mean_squared_error(y, target, scores, width, column):
    return _scored({}, scores, column, np.square(y - target).mean(axis=1))


def mean_absolute_error(y, target, scores, width, column):
    return _scored({}, scores, column, np.abs(y - target).mean(axis=1))


def _scored(outputs, scores, column, values):
    scores = scores.copy()
    scores[: len(values), column] += values
    return outputs | {"scores": scores}
