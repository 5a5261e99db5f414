"""The batch, dense layers, activations, copies, users' functions."""

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


def function_forward(x, width, source):
    return {"y": np.vectorize(source.value, otypes=[float])(x)}


def function_backward(x, dy, width, source):
    return {"dx": np.vectorize(source.slope, otypes=[float])(x) * dy}
