"""numbanet: neural networks as loop-level Numba kernels under a Keras-shaped API."""

from numbanet import data, plot
from numbanet.gradients import GradientCheck, gradient_check
from numbanet.initializers import Constant, Orthogonal, RandomNormal, RandomUniform, VarianceScaling
from numbanet.io.checkpoint import load
from numbanet.kernels.cpu import get_num_threads, set_num_threads
from numbanet.layers import (
    Activation,
    Add,
    BatchNorm,
    Concatenate,
    Dense,
    Dropout,
    Flatten,
    GaussianNoise,
    Input,
    LayerNorm,
    Reshape,
)
from numbanet.model import Model, Sequential
from numbanet.optimizers import SGD, Adam
from numbanet.regularizers import L1, L1L2, L2
from numbanet.report import GradientReport, LayerGradient, gradient_report
from numbanet.training import History
from numbanet.warmup import warmup

__version__ = "0.1.0"
__all__ = [
    "L1",
    "L1L2",
    "L2",
    "SGD",
    "Activation",
    "Adam",
    "Add",
    "BatchNorm",
    "Concatenate",
    "Constant",
    "Dense",
    "Dropout",
    "Flatten",
    "GaussianNoise",
    "GradientCheck",
    "GradientReport",
    "History",
    "Input",
    "LayerGradient",
    "LayerNorm",
    "Model",
    "Orthogonal",
    "RandomNormal",
    "RandomUniform",
    "Reshape",
    "Sequential",
    "VarianceScaling",
    "data",
    "get_num_threads",
    "gradient_check",
    "gradient_report",
    "load",
    "plot",
    "set_num_threads",
    "warmup",
]
