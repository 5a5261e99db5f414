"""One naive NumPy version of each op, in float64: what the kernels must agree with.

A function has the op's name, takes its operands (as matrices) and sizes by name, and returns the operands it writes.
B is the number of rows, that of `step[ROWS]`. Written from the equations, not from the kernels.
"""

import math

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


def leaky_relu_forward(x, width, negative_slope):
    return {"y": np.where(x > 0, x, negative_slope * x)}


def leaky_relu_backward(y, dy, width, negative_slope):
    return {"dx": np.where(y > 0, dy, negative_slope * dy)}


def elu_forward(x, width, alpha):
    return {"y": np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0)))}


def elu_backward(y, dy, width, alpha):
    return {"dx": np.where(y > 0, dy, (y + alpha) * dy)}


SELU = {"alpha": 1.6732632423543772848170429916717, "scale": 1.0507009873554804934193349852946}


def selu_forward(x, width):
    return {"y": SELU["scale"] * elu_forward(x, width, SELU["alpha"])["y"]}


def selu_backward(y, dy, width):
    return {"dx": SELU["scale"] * elu_backward(y / SELU["scale"], dy, width, SELU["alpha"])["dx"]}


def _normal_below(x):
    return np.vectorize(lambda z: math.erfc(-z / math.sqrt(2)) / 2, otypes=[float])(x)


def gelu_forward(x, width):
    return {"y": x * _normal_below(x)}


def gelu_backward(x, dy, width):
    return {"dx": dy * (_normal_below(x) + x * np.exp(-(x**2) / 2) / np.sqrt(2 * np.pi))}


def softplus_forward(x, width):
    return {"y": np.logaddexp(0, x)}


def softplus_backward(y, dy, width):
    return {"dx": -np.expm1(-y) * dy}


def softsign_forward(x, width):
    return {"y": x / (1 + np.abs(x))}


def softsign_backward(y, dy, width):
    return {"dx": dy * (1 - np.abs(y)) ** 2}


def swish_forward(x, width):
    return {"y": x / (1 + np.exp(-x))}


def swish_backward(x, dy, width):
    powers = np.exp(-x)
    return {"dx": dy * (1 + powers + x * powers) / (1 + powers) ** 2}


def hard_sigmoid_forward(x, width):
    return {"y": np.clip(x / 6 + 0.5, 0, 1)}


def hard_sigmoid_backward(y, dy, width):
    return {"dx": np.where((y > 0) & (y < 1), dy / 6, 0)}


def step_forward(x, width):
    return {"y": np.heaviside(x, 1)}


def step_backward(y, dy, width):
    return {"dx": np.zeros_like(dy)}


def log_softmax_forward(x, width):
    shifted = x - x.max(axis=1, keepdims=True)
    return {"y": shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))}


def log_softmax_backward(y, dy, width):
    jacobians = [np.eye(width) - np.exp(row) for row in y]  # of output j by input k: [j = k] - exp(y[k])
    return {"dx": np.array([row @ jacobian for jacobian, row in zip(jacobians, dy, strict=True)])}


def copy_forward(x, y, width, at):
    y = y.copy()
    y[:, at : at + width] = x
    return {"y": y}


def copy_backward(dy, width, at):
    return {"dx": dy[:, at : at + width]}


def add_forward(x, y, width):
    return {"y": x + y}


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


def function_forward(x, width, source):
    return {"y": np.vectorize(source.value, otypes=[float])(x)}


def function_backward(x, dy, width, source):
    return {"dx": np.vectorize(source.slope, otypes=[float])(x) * dy}


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
