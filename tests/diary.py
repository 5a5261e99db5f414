"""A small network, a fit of it, and callbacks that tests look through."""

import numbanet as nn


def network(optimizer=None, seed=0, **options):
    model = nn.Sequential([nn.Input(2), nn.Dense(6, "tanh"), nn.Dense(3, "softmax")], seed=seed, **options)
    model.compile(optimizer or nn.Adam(0.05), "cross_entropy", ["accuracy"])
    return model


class Diary(nn.Callback):
    """Notes all that it is told."""

    def __init__(self, hooks):
        self.notes, self.logs = [], []
        for hook in hooks:
            setattr(self, hook, self._noting(hook))

    def _noting(self, hook):
        def note(*arguments):
            *number, logs = arguments
            self.notes.append((hook.removeprefix("on_"), *number))
            self.logs.append(dict(logs))

        return note


EPOCHS = ["on_train_begin", "on_train_end", "on_epoch_begin", "on_epoch_end", "on_test_begin", "on_test_end"]
BATCHES = ["on_train_batch_begin", "on_train_batch_end"]


class Figures(nn.Callback):
    """Replaces figures of the logs by made-up ones, an epoch each."""

    def __init__(self, name, values):
        self.name, self.values = name, values

    def on_epoch_end(self, epoch, logs=None):
        logs[self.name] = self.values[epoch]


def fit(model, blobs, *callbacks, **options):
    return model.fit(*blobs, **{"verbose": 0, "batch_size": 32, "callbacks": list(callbacks)} | options)
