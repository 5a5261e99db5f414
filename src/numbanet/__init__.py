"""numbanet: neural networks as loop-level Numba kernels under a Keras-shaped API."""

from numbanet import callbacks, data, plot
from numbanet.callbacks import (
    Callback,
    CSVLogger,
    EarlyStopping,
    LearningRateScheduler,
    ModelCheckpoint,
    ProgressBar,
    ReduceLROnPlateau,
    TensorBoard,
    TerminateOnNaN,
)
from numbanet.functions import activation, loss
from numbanet.gradients import GradientCheck, gradient_check
from numbanet.initializers import Constant, Orthogonal, RandomNormal, RandomUniform, VarianceScaling
from numbanet.io.checkpoint import load
from numbanet.kernels.cpu import get_num_threads, set_num_threads
from numbanet.layers import (
    ELU,
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
    LeakyReLU,
    Reshape,
)
from numbanet.losses import Huber
from numbanet.model import Model, Sequential
from numbanet.optimizers import LBFGS, SGD, Adagrad, Adam, AdamW, RMSprop
from numbanet.regularizers import L1, L1L2, L2
from numbanet.report import GradientReport, LayerGradient, gradient_report
from numbanet.schedules import CosineDecay, ExponentialDecay, InverseTimeDecay, StepDecay
from numbanet.training import History
from numbanet.warmup import warmup

__version__ = "0.1.0"
__all__ = [
    "ELU",
    "L1",
    "L1L2",
    "L2",
    "LBFGS",
    "SGD",
    "Activation",
    "Adagrad",
    "Adam",
    "AdamW",
    "Add",
    "BatchNorm",
    "CSVLogger",
    "Callback",
    "Concatenate",
    "Constant",
    "CosineDecay",
    "Dense",
    "Dropout",
    "EarlyStopping",
    "ExponentialDecay",
    "Flatten",
    "GaussianNoise",
    "GradientCheck",
    "GradientReport",
    "History",
    "Huber",
    "Input",
    "InverseTimeDecay",
    "LayerGradient",
    "LayerNorm",
    "LeakyReLU",
    "LearningRateScheduler",
    "Model",
    "ModelCheckpoint",
    "Orthogonal",
    "ProgressBar",
    "RMSprop",
    "RandomNormal",
    "RandomUniform",
    "ReduceLROnPlateau",
    "Reshape",
    "Sequential",
    "StepDecay",
    "TensorBoard",
    "TerminateOnNaN",
    "VarianceScaling",
    "activation",
    "callbacks",
    "data",
    "get_num_threads",
    "gradient_check",
    "gradient_report",
    "load",
    "loss",
    "plot",
    "set_num_threads",
    "warmup",
]
