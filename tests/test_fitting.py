"""The loop of fit: when hooks are called, what they may do, when it ends; and that none of it changes a bit."""

import numpy as np
import pytest
from conftest import unchanged
from diary import BATCHES, EPOCHS, Diary, fit, network
from networks import close, twins

import numbanet as nn


def test_hooks_come_in_keras_order(blobs):
    diary = Diary(EPOCHS + BATCHES)
    history = fit(network(), blobs, diary, epochs=2, validation_split=0.5)
    batches = [note for k in range(2) for note in (("train_batch_begin", k), ("train_batch_end", k))]
    epochs = [
        note
        for k in range(2)
        for note in (("epoch_begin", k), *batches, ("test_begin",), ("test_end",), ("epoch_end", k))
    ]
    assert diary.notes == [("train_begin",), *epochs, ("train_end",)]
    ends = [logs for note, logs in zip(diary.notes, diary.logs, strict=True) if note[0] == "epoch_end"]
    for k, logs in enumerate(ends):
        assert logs == {name: values[k] for name, values in history.history.items()}
    assert diary.logs[-1] == ends[-1]
    assert set(ends[0]) == {"loss", "accuracy", "val_loss", "val_accuracy"}
    assert diary.params == {"epochs": 2, "steps": 2, "verbose": 0}
    assert diary.model is not None


@pytest.mark.parametrize("shuffle", [True, False])
def test_hooks_of_batches_see_means_and_change_no_bits(blobs, shuffle):
    """The last batch is short. Means so far are those of a fit on so many samples."""
    quiet, told = network(), network()
    diary = Diary(["on_train_batch_end"])
    histories = [
        fit(model, blobs, *callbacks, epochs=2, batch_size=50, shuffle=shuffle)
        for model, callbacks in ((quiet, []), (told, [diary]))
    ]
    assert np.array_equal(quiet._theta, told._theta)
    assert histories[0].history == histories[1].history
    assert [note[1] for note in diary.notes] == [0, 1, 2] * 2
    assert diary.logs[2] == {name: values[0] for name, values in histories[0].history.items()}
    if not shuffle:
        part = fit(network(), [array[:100] for array in blobs], batch_size=50, shuffle=False).history
        assert diary.logs[1] == {name: values[0] for name, values in part.items()}


def test_only_hooks_of_batches_stop_the_engine(blobs, monkeypatch):
    from numbanet.program import Program

    slices, run = [], Program.run
    monkeypatch.setattr(Program, "run", lambda self, *a: (slices.append(a[1] - a[0]), run(self, *a)))
    model = network()
    fit(model, blobs, batch_size=1, epochs=5)
    slices.clear()
    fit(model, blobs, nn.TerminateOnNaN(), nn.ModelCheckpoint("never", save_best_only=True, monitor="loss",
        initial_value_threshold=-1.0), batch_size=1)  # fmt: skip
    assert sum(slices) == 120
    assert len(slices) < 60
    slices.clear()
    fit(model, blobs, Diary(["on_train_batch_begin"]), batch_size=1)
    assert slices == [1] * 120


def test_stop_training(blobs):
    """From hooks of batches after the batch, from the end of an epoch after it, from its beginning before it."""

    class Stop(nn.Callback):
        def on_train_batch_end(self, batch, logs=None):
            if batch == 1:
                self.model.stop_training = True

    model = network()
    history = fit(model, blobs, Stop(), epochs=5, validation_split=0.2, batch_size=16)
    assert model.updates == 2
    assert len(history.epoch) == len(history.history["val_loss"]) == 1
    part = fit(network(), [array[:32] for array in blobs], batch_size=16, shuffle=False)
    model = network()
    stopped = fit(model, blobs, Stop(), epochs=5, batch_size=16, shuffle=False)
    assert stopped.history == part.history

    for hook, updates in (("on_epoch_begin", 0), ("on_epoch_end", 4)):
        model, callback = network(), nn.Callback()
        setattr(callback, hook, lambda epoch, logs, model=model: setattr(model, "stop_training", True))
        history = fit(model, blobs, callback, epochs=5)
        assert (model.updates, len(history.epoch)) == (updates, updates // 4)
    assert len(fit(model, blobs, epochs=2).epoch) == 2  # the wish does not outlive its fit


def test_a_rate_set_between_batches_counts_from_the_next(blobs):
    """Against single updates, each with its own rate; Adam, whose coefficients depend on the step too."""
    X, y = blobs
    rates = [0.05, 0.02, 0.1, 0.01]

    class Rates(nn.Callback):
        def on_train_batch_begin(self, batch, logs=None):
            self.model.learning_rate = rates[batch]

    model, single = network(nn.Adam(1.0)), network(nn.Adam(1.0))
    fit(model, blobs, Rates(), epochs=2, shuffle=False)
    for k in range(8):
        single.learning_rate = rates[k % 4]
        rows = slice(k % 4 * 32, k % 4 * 32 + 32)
        single.train_on_batch(X[rows], y[rows])
    assert np.array_equal(model._theta, single._theta)


def test_hooks_of_batches_on_the_gpu(blobs):
    """Each batch is told of, with the CPU's means, and the rates that are set count."""
    X, y = blobs
    diaries, models = [], twins(lambda: network(nn.SGD(1.0), dtype="float64"))
    for model in models:
        diary = Diary(["on_train_batch_end"])
        diary.on_train_batch_begin = lambda batch, logs, model=model: setattr(model, "learning_rate", 0.1 + batch)
        fit(model, (X[:10], y[:10]), diary, batch_size=4)
        diaries.append(diary)
    assert diaries[0].notes == diaries[1].notes == [("train_batch_end", k) for k in range(3)]
    for a, b in zip(*(diary.logs for diary in diaries), strict=True):
        assert a == pytest.approx(b, rel=1e-12)
    assert close(models[1]._theta, models[0]._theta, "float64")


def test_layers_may_thaw_while_training(blobs):
    model = network()
    first, start = model.layers[1], model.get_weights()
    first.trainable = False
    seen = []

    class Thaw(nn.Callback):
        def on_epoch_end(self, epoch, logs=None):
            seen.append(np.array_equal(self.model.get_weights()[0], start[0]))
            first.trainable = epoch >= 1

    fit(model, blobs, Thaw(), epochs=3)
    assert seen == [True, True, False]


def test_an_error_in_a_callback_leaves_the_last_update(blobs):
    closed = []

    class Breaks(nn.Callback):
        def on_train_batch_end(self, batch, logs=None):
            if batch == 2:
                raise RuntimeError("enough")

        def close(self):
            closed.append(self)

    model, other = network(), network()
    with pytest.raises(RuntimeError, match="enough"):
        fit(model, blobs, Breaks(), nn.EarlyStopping("loss", restore_best_weights=True), epochs=3, shuffle=False)
    fit(other, [array[:96] for array in blobs], shuffle=False)
    assert np.array_equal(model._theta, other._theta)
    assert model.updates == 3
    assert len(closed) == 1
    fit(model, blobs)  # nothing is held


@pytest.mark.parametrize("stream", [False, True])
def test_a_callback_that_leaves_nothing_to_train(blobs, stream):
    class Pops(nn.Callback):
        def on_epoch_end(self, epoch, logs=None):
            self.model.pop()

    model, given = network(), [[blobs]] if stream else blobs
    with pytest.raises(ValueError, match="the model is not compiled"):
        model.fit(*given, epochs=2, verbose=0, callbacks=[Pops(), nn.EarlyStopping("loss", restore_best_weights=True)])


def test_training_from_a_hook_of_batches_is_refused(blobs, same):
    class Trains(nn.Callback):
        def on_train_batch_end(self, batch, logs=None):
            self.model.predict(blobs[0])
            self.model.evaluate(*blobs)
            with pytest.raises(RuntimeError, match="in the middle of an epoch"):
                self.model.train_on_batch(blobs[0][:5], blobs[1][:5])  # by another program
            before = unchanged(self.model)
            try:
                self.model.fit(*blobs, verbose=0, batch_size=32)
            finally:
                same(before, unchanged(self.model))

    with pytest.raises(RuntimeError, match="in the middle of an epoch"):
        fit(network(), blobs, Trains())


@pytest.mark.parametrize("hook", ["on_epoch_begin", "on_train_batch_end", "on_epoch_end"])
def test_ctrl_c_returns_the_history(blobs, hook):
    """An epoch that was trained whole counts, even if Ctrl-C comes while a callback looks at it."""
    diary, callback = Diary(["on_train_end", "close"]), nn.Callback()
    diary.close = lambda: diary.notes.append("closed")

    def interrupt(number, logs):
        if number == 1:
            raise KeyboardInterrupt

    setattr(callback, hook, interrupt)
    model = network()
    history = fit(model, blobs, callback, diary, epochs=3)
    assert history.epoch == {"on_epoch_begin": [0], "on_train_batch_end": [], "on_epoch_end": [0, 1]}[hook]
    assert model.updates == {"on_epoch_begin": 4, "on_train_batch_end": 2, "on_epoch_end": 8}[hook]
    assert diary.notes == [("train_end",), "closed"]
    fit(model, blobs)


def test_ctrl_c_before_training_began(blobs, monkeypatch):
    """While samples travel to the device, say: nobody is told of an end."""
    from numbanet.fitting import Samples

    def interrupt(self):
        raise KeyboardInterrupt

    diary = Diary(["on_train_begin", "on_train_end"])
    monkeypatch.setattr(Samples, "place", interrupt)
    assert fit(network(), blobs, nn.EarlyStopping(restore_best_weights=True), diary).history == {}
    assert diary.notes == []


@pytest.mark.parametrize(
    ("given", "kind", "sentence"),
    [
        ([3], TypeError, "callbacks must be instances of nn.Callback, not 3"),
        ([nn.TerminateOnNaN], TypeError, "must be instances of nn.Callback"),
        ("early", TypeError, "callbacks must be a list of nn.Callback, not 'early'"),
    ],
)
def test_what_is_no_callback(blobs, same, given, kind, sentence):
    model = network()
    before = unchanged(model)
    with pytest.raises(kind, match=sentence):
        model.fit(*blobs, callbacks=given, verbose=0)
    same(before, unchanged(model))


def test_one_callback_needs_no_list(blobs):
    diary = Diary(["on_train_end"])
    network().fit(*blobs, verbose=0, callbacks=diary)
    assert diary.notes == [("train_end",)]


# -- tol and the number of epochs


def test_tol_stops_when_the_loss_stays(blobs):
    model = network(nn.SGD(0.5), dtype="float64")
    losses = fit(model, blobs, epochs=200, tol=1e-3).history["loss"]
    differences = np.abs(np.diff(losses))
    assert 3 < len(losses) < 200
    assert differences[-1] <= 1e-3 < differences[:-1].min()
    assert len(fit(network(), blobs, epochs=3, tol=0).epoch) == 3
    with pytest.raises(ValueError, match="tol must be at least 0, not -1"):
        fit(model, blobs, tol=-1)


def test_initial_epoch(blobs):
    """Numbers of epochs go on; what is trained is what a fit of the rest trains."""
    diary, (a, b) = Diary(["on_epoch_begin"]), (network(), network())
    assert fit(a, blobs, diary, initial_epoch=2, epochs=5).epoch == [2, 3, 4]
    assert diary.notes == [("epoch_begin", k) for k in (2, 3, 4)]
    fit(b, blobs, epochs=3)
    assert np.array_equal(a._theta, b._theta)
    assert fit(a, blobs, initial_epoch=5, epochs=5).epoch == []
