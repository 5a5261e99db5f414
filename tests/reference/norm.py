"""Layers that normalise, and noise."""

import math

import numpy as np


def _split(matrix, width):
    """A row as `positions` vectors of `width` elements."""
    return matrix.reshape(len(matrix), -1, width)


def _normalised(x, axes, epsilon):
    mean, variance = x.mean(axes, keepdims=True), x.var(axes, keepdims=True)
    return (x - mean) / np.sqrt(variance + epsilon), mean, variance


def _normalised_backward(y, dy, spread, axes):
    """The product with the whole Jacobian, spread (I - 1/n - y y^T / n), group by group."""
    moved = [axis for axis in range(3) if axis not in axes]
    order = [*moved, *axes]
    rows_y, rows_dy = (a.transpose(order).reshape(math.prod(a.shape[k] for k in moved), -1) for a in (y, dy))
    n = rows_y.shape[1]
    jacobians = [(np.eye(n) - 1 / n - np.outer(row, row) / n) * s for row, s in zip(rows_y, spread, strict=True)]
    rows = np.array([jacobian @ row for jacobian, row in zip(jacobians, rows_dy, strict=True)])
    return rows.reshape([y.shape[k] for k in order]).transpose(np.argsort(order)).reshape(len(y), -1)


def batch_norm_forward(x, moving_mean, moving_variance, width, epsilon, momentum):
    y, mean, variance = _normalised(_split(x, width), (0, 1), epsilon)
    found = {"y": y.reshape(x.shape), "spread": 1 / np.sqrt(variance[0] + epsilon)}
    if moving_mean is not None:
        found["moving_mean"] = momentum * moving_mean + (1 - momentum) * mean[0]
        found["moving_variance"] = momentum * moving_variance + (1 - momentum) * variance[0]
    return found


def batch_norm_backward(y, dy, spread, width):
    return {"dx": _normalised_backward(_split(y, width), _split(dy, width), spread[0], (0, 1))}


def batch_norm_infer_forward(x, moving_mean, moving_variance, positions, epsilon):
    mean, variance = np.tile(moving_mean, positions), np.tile(moving_variance, positions)
    return {"y": (x - mean) / np.sqrt(variance + epsilon)}


def batch_norm_infer_backward(dy, moving_variance, positions, epsilon):
    return {"dx": dy / np.sqrt(np.tile(moving_variance, positions) + epsilon)}


def layer_norm_forward(x, width, epsilon):
    y, _, variance = _normalised(_split(x, width), (2,), epsilon)
    return {"y": y.reshape(x.shape), "spread": 1 / np.sqrt(variance[:, :, 0] + epsilon)}


def layer_norm_backward(y, dy, spread, width):
    return {"dx": _normalised_backward(_split(y, width), _split(dy, width), spread.ravel(), (2,))}


def scale_forward(x, gamma, beta, positions):
    gamma, beta = 1 if gamma is None else np.tile(gamma, positions), 0 if beta is None else np.tile(beta, positions)
    return {"y": gamma * x + beta}


def scale_backward_input(dy, gamma, positions):
    return {"dx": dy * (1 if gamma is None else np.tile(gamma, positions))}


def scale_backward_gamma(x, dy, width):
    return {"dgamma": _split(x * dy, width).sum(axis=(0, 1))[None]}


def scale_backward_beta(dy, width):
    return {"dbeta": _split(dy, width).sum(axis=(0, 1))[None]}


def philox(counter, key):
    """Philox4x32-10 of Salmon et al. (2011) in Python's own integers: four words of 32 bits."""
    (a, b, c, d), (first, second), word = counter, key, 2**32
    for _ in range(10):
        left, right = 0xD2511F53 * a, 0xCD9E8D57 * c
        a, b, c, d = right // word ^ b ^ first, right % word, left // word ^ d ^ second, left % word
        first, second = (first + 0x9E3779B9) % word, (second + 0xBB67AE85) % word
    return a, b, c, d


def words(rows, width, seed, stream, update=0):
    """The random word of each element of a batch: float64, which holds it exactly."""
    key, columns = (seed % 2**32, seed // 2**32), range(-(-width // 4))
    found = [[word for q in columns for word in philox((q, r, update, stream), key)] for r in range(rows)]
    return np.array(found, np.float64)[:, :width]


def dropout_forward(x, width, rate, seed, stream):
    return {"y": np.where(words(len(x), width, seed, stream) < rate * 2**32, 0, x / (1 - rate))}


def dropout_backward(dy, width, rate, seed, stream):
    return {"dx": dropout_forward(dy, width, rate, seed, stream)["y"]}


def gaussian_noise_forward(x, width, stddev, seed, stream):
    uniform = (words(len(x), width + width % 2, seed, stream) + 0.5) / 2**32
    radius, angle = np.sqrt(-2 * np.log(uniform[:, ::2])), 2 * np.pi * uniform[:, 1::2]
    normal = np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=2).reshape(len(x), -1)
    return {"y": x + stddev * normal[:, :width]}
