"""Callbacks: what is called while fit trains. Names, arguments and defaults are Keras'."""

from numbanet.callbacks.base import Callback
from numbanet.callbacks.records import CSVLogger, Lines, ModelCheckpoint, ProgressBar, TensorBoard
from numbanet.callbacks.steering import EarlyStopping, LearningRateScheduler, ReduceLROnPlateau, TerminateOnNaN

CLASSES = {
    callback.__name__: callback
    for callback in (
        EarlyStopping,
        ModelCheckpoint,
        LearningRateScheduler,
        ReduceLROnPlateau,
        CSVLogger,
        TensorBoard,
        TerminateOnNaN,
        ProgressBar,
    )
}

__all__ = ["CLASSES", "Callback", "Lines", *CLASSES]
