"""One naive NumPy version of each op, in float64: what the kernels must agree with.

A function has the op's name, takes its operands (as matrices) and sizes by name, and returns the operands it writes.
B is the number of rows, that of `step[ROWS]`. Written from the equations, not from the kernels.
"""

import numpy as np


def gather_rows(data, order, width):
    return {"x": data[order[:, 0]][:, :width]}


def check_rows(data, width):
    return {}  # it writes to the step record only


def gather_classes(data, order, width):
    return {"x": np.eye(width)[data[order[:, 0], 0]]}


def scatter_rows(x, width):
    return {"data": x}


def dense_forward(x, kernel, bias, inputs, units, relu, columns):
    y = np.einsum("ri,io->ro", x, kernel) + (0 if bias is None else bias[0])
    return {"y": np.where(y > 0, y, 0) if relu else y}


def dense_backward_input(dy, transposed_kernel, inputs, units, columns):
    return {"dx": np.einsum("ro,oi->ri", dy, transposed_kernel)}


def dense_backward_kernel(x, dy, inputs, units):
    return {"dkernel": np.einsum("ri,ro->io", x, dy)}


def dense_backward_bias(dy, units):
    return {"dbias": dy.sum(axis=0, keepdims=True)}


def sigmoid_forward(x, width):
    return {"y": 0.5 * (1 + np.tanh(x / 2))}


def sigmoid_backward(y, dy, width):
    return {"dx": dy * (y - y**2)}


def tanh_forward(x, width):
    return {"y": np.tanh(x)}


def tanh_backward(y, dy, width):
    return {"dx": dy * (1 - y) * (1 + y)}


def relu_forward(x, width):
    return {"y": np.where(x > 0, x, 0)}


def relu_backward(y, dy, width):
    return {"dx": np.where(y > 0, dy, 0)}


def softmax_forward(x, width):
    powers = np.exp(x - x.max(axis=1, keepdims=True))
    return {"y": powers / powers.sum(axis=1, keepdims=True)}


def softmax_backward(y, dy, width):
    jacobians = [np.diag(row) - np.outer(row, row) for row in y]
    return {"dx": np.array([jacobian @ row for jacobian, row in zip(jacobians, dy, strict=True)])}


def copy_forward(x, y, width, at):
    y = y.copy()
    y[:, at : at + width] = x
    return {"y": y}


def copy_backward(dy, width, at):
    return {"dx": dy[:, at : at + width]}


def add_forward(x, y, width):
    return {"y": x + y}


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
