"""Each callback: that it does what Keras' does."""

import csv
import math
import struct
import subprocess
import sys

import numpy as np
import pytest
from conftest import unchanged
from diary import BATCHES, Diary, Figures, fit, network

import numbanet as nn
from numbanet import callbacks as module
from numbanet.io import checkpoint


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: nn.EarlyStopping(patience=-1), "patience must be at least 0"),
        (lambda: nn.EarlyStopping(mode="most"), "unknown mode 'most'; known: auto, min, max"),
        (lambda: nn.ReduceLROnPlateau(factor=1.0), "factor must be above 0 and below 1, not 1.0"),
        (lambda: nn.ModelCheckpoint("a{", "loss"), "filepath 'a{' is no format"),
        (lambda: nn.ModelCheckpoint("a", save_freq=0), "save_freq must be at least 1"),
        (lambda: nn.CSVLogger("a", separator=""), "separator must be one character"),
        (lambda: nn.LearningRateScheduler(0.1), "schedule must be a function"),
        (lambda: nn.EarlyStopping(verbose="loud"), "verbose must be a whole number, not 'loud'"),
        (lambda: nn.ModelCheckpoint("a", verbose=None), "verbose must be a whole number, not None"),
    ],
)
def test_bad_arguments(make, sentence):
    with pytest.raises((ValueError, TypeError), match=sentence):
        make()


def test_all_callbacks_are_public():
    assert all(getattr(nn, name) is kind for name, kind in module.CLASSES.items())
    assert nn.callbacks is module


# -- early stopping


def stopped_after(values, blobs, **options):
    """How many epochs are trained when a figure goes like this."""
    history = fit(network(), blobs, Figures("val_x", values), nn.EarlyStopping("val_x", **options), epochs=len(values))
    return len(history.epoch)


def test_early_stopping_waits_as_keras_does(blobs):
    falling = [5, 4, 3, 3, 3, 2.9, 3, 3, 3]
    assert stopped_after(falling, blobs) == 4
    assert stopped_after(falling, blobs, patience=1) == 4
    assert stopped_after(falling, blobs, patience=2) == 5
    assert stopped_after(falling, blobs, patience=3) == 9
    assert stopped_after(falling, blobs, patience=3, min_delta=0.2) == 6
    assert stopped_after(falling, blobs, mode="max", patience=2) == 3
    assert stopped_after(falling, blobs, patience=2, start_from_epoch=4) == 8
    assert stopped_after(falling, blobs, patience=2, baseline=2.95) == 4  # 3 improves, but never on the baseline
    assert stopped_after([math.nan] * 4, blobs, patience=1) == 2


def test_early_stopping_knows_what_should_grow(blobs):
    for name, mode in (("val_accuracy", "max"), ("loss", "min"), ("val_auc", "max"), ("mae", "min")):
        assert nn.EarlyStopping(name).mode == mode


@pytest.mark.parametrize("interrupted", [False, True])
def test_the_best_epoch_is_restored_to_the_bit(blobs, interrupted, capsys):
    """All that is saved is that of a run which ended at the best epoch: weights, Adam's moments, counters, the rate."""
    values = [3, 2, 1, 1, 1, 1, 1]
    callbacks = [
        nn.LearningRateScheduler(lambda epoch: 0.05 / (epoch + 1)),
        Figures("val_x", values),
        nn.EarlyStopping("val_x", patience=3, restore_best_weights=True, verbose=1),
    ]
    if interrupted:
        callbacks.append(Diary([]))
        callbacks[-1].on_epoch_begin = lambda epoch, logs: (_ for _ in ()).throw(KeyboardInterrupt) if epoch == 4 else 0
    long, short = network(), network()
    history = fit(long, blobs, *callbacks, epochs=7)
    assert len(history.epoch) == (4 if interrupted else 6)
    fit(short, blobs, callbacks[0], epochs=3)
    (described, arrays), (wanted, others) = (checkpoint.parts(model) for model in (long, short))
    assert described == wanted
    assert all(np.array_equal(arrays[name], others[name]) for name in others)
    assert ("epoch 6: stopped early, the best was epoch 3" in capsys.readouterr().out) is not interrupted
    for model in (long, short):
        fit(model, blobs, epochs=1)
    assert np.array_equal(long._theta, short._theta)


def test_restoring_leaves_those_who_share_the_weights_their_state(blobs):
    """A part of the network that was trained meanwhile, and a model that a callback compiled anew."""
    model = network()
    part = model.submodel()
    part.compile(nn.SGD(0.1, 0.9), "cross_entropy")
    meanwhile, states = nn.Callback(), []

    def train_part(epoch, logs):
        fit(part, blobs)
        states.append(dict(checkpoint.parts(part)[1]))

    meanwhile.on_epoch_end = train_part
    values = Figures("val_x", [2, 1, 1, 1])
    fit(model, blobs, values, nn.EarlyStopping("val_x", patience=2, restore_best_weights=True), meanwhile, epochs=4)
    found = checkpoint.parts(part)[1]
    slots = [name for name in found if name.startswith("optimizer.velocity")]
    assert slots
    assert all(np.array_equal(found[name], states[-1][name]) for name in slots)
    assert not all(np.array_equal(found[name], states[0][name]) for name in slots)
    assert part.updates == 16
    assert model.updates == 8

    again = nn.Callback()
    again.on_epoch_end = lambda epoch, logs: epoch == 2 and model.compile("sgd", "cross_entropy")
    best = []
    keep = nn.Callback()
    keep.on_epoch_end = lambda epoch, logs: best.append(model.get_weights())
    stop = nn.EarlyStopping("val_x", patience=2, restore_best_weights=True)
    fit(model, blobs, values, stop, keep, again, epochs=4)
    assert model.optimizer == nn.SGD()
    assert all(np.array_equal(a, b) for a, b in zip(model.get_weights(), best[1], strict=True))


def test_only_weights_are_restored_for_another_optimizer(blobs):
    """Even if it keeps as much: its state would mean nothing, and programs compute with its coefficients."""
    model, weights = network(nn.SGD(0.1, momentum=0.5)), []

    class Recompiles(nn.Callback):
        def on_epoch_end(self, epoch, logs=None):
            if epoch == 0:
                weights.extend(model.get_weights())
                model.compile(nn.Adagrad(0.3), "cross_entropy")

    figures = Figures("val_x", [1, 2, 3])
    fit(model, blobs, figures, nn.EarlyStopping("val_x", restore_best_weights=True, patience=2), Recompiles(), epochs=3)
    assert model.optimizer == nn.Adagrad(0.3)
    assert all(np.array_equal(*pair) for pair in zip(weights, model.get_weights(), strict=True))


@pytest.mark.parametrize("callback", [nn.EarlyStopping(), nn.ReduceLROnPlateau(), nn.ModelCheckpoint("no",
                         save_best_only=True)], ids=lambda callback: type(callback).__name__)  # fmt: skip
def test_a_figure_that_there_is_not_is_told_once(blobs, callback):
    with pytest.warns(UserWarning) as told:
        assert len(fit(network(), blobs, callback, epochs=3).epoch) == 3
    (warning,) = told
    assert "monitors 'val_loss', which there is not; known: loss, accuracy" in str(warning.message)


# -- the learning rate


def test_learning_rate_is_read_and_set(blobs):
    model = network(nn.SGD(0.1, 0.9))
    model.learning_rate = 0.5
    assert model.optimizer == nn.SGD(0.5, 0.9)
    assert model.learning_rate == 0.5
    with pytest.raises(ValueError, match="learning_rate must be above 0, not 0"):
        model.learning_rate = 0
    assert model.learning_rate == 0.5


@pytest.mark.parametrize("callback", [nn.ReduceLROnPlateau("loss"), nn.LearningRateScheduler(lambda epoch: 0.1)])
def test_a_schedule_is_not_replaced(blobs, same, callback):
    for optimizer, sentence in (
        (nn.Adam(nn.ExponentialDecay(0.1, 10, 0.5)), "the learning rate has a schedule, ExponentialDecay"),
        (nn.LBFGS(), "LBFGS has no learning rate"),
    ):
        model = network(optimizer)
        before = unchanged(model)
        with pytest.raises(ValueError, match=sentence):
            fit(model, blobs, callback)
        same(before, unchanged(model))


def test_learning_rate_scheduler(blobs, capsys):
    model, other = network(), network()
    history = fit(model, blobs, nn.LearningRateScheduler(lambda epoch, rate: rate * 0.5, verbose=1), epochs=3)
    assert history.history["learning_rate"] == [0.025, 0.0125, 0.00625]
    assert model.learning_rate == 0.00625
    for rate in (0.025, 0.0125, 0.00625):
        other.learning_rate = rate
        fit(other, blobs)
    assert np.array_equal(model._theta, other._theta)
    assert "epoch 2: learning rate 0.0125" in capsys.readouterr().out
    with pytest.raises(ValueError, match="what schedule returns must be above 0, not -1"):
        fit(model, blobs, nn.LearningRateScheduler(lambda epoch: -1))


@pytest.mark.parametrize(
    ("values", "options", "rates"),
    [
        ([5, 5, 5, 5, 5, 5], {"patience": 2}, [8, 8, 8, 4, 4, 2]),
        ([5, 4, 4, 4, 3, 3], {"patience": 1}, [8, 8, 8, 4, 2, 2]),
        ([5, 5, 5, 5, 5, 5], {"patience": 1, "cooldown": 2}, [8, 8, 4, 4, 2, 2]),
        ([5, 5, 5, 5, 5, 5], {"patience": 1, "min_lr": 3}, [8, 8, 4, 3, 3, 3]),
        ([5, 5.5, 6, 6.05, 6.05, 7], {"patience": 1, "mode": "max", "min_delta": 0.1}, [8, 8, 8, 8, 4, 2]),
    ],
)
def test_reduce_lr_on_plateau_follows_keras(blobs, values, options, rates):
    """Sequences followed by hand through Keras' rules; an epoch's rate is that with which it was trained."""
    model = network(nn.SGD(8.0))
    reduce = nn.ReduceLROnPlateau("val_x", factor=0.5, **options)
    history = fit(model, blobs, Figures("val_x", values), reduce, epochs=len(values))
    assert history.history["learning_rate"] == rates


def test_a_rate_is_not_reduced_to_nothing(blobs):
    model = network(nn.SGD(1e-323))
    fit(model, blobs, Figures("val_x", [5, 5, 5]), nn.ReduceLROnPlateau("val_x", patience=1), epochs=3)
    assert model.learning_rate == 1e-323


# -- records


def test_model_checkpoint_fills_in_its_name(blobs, tmp_path):
    model = network()
    path = tmp_path / "deep" / "{epoch:02d}-{val_loss:.2f}.safetensors"
    history = fit(model, blobs, nn.ModelCheckpoint(path), epochs=3, validation_split=0.2)
    wanted = {f"{k + 1:02d}-{value:.2f}.safetensors" for k, value in enumerate(history.history["val_loss"])}
    assert {file.name for file in (tmp_path / "deep").iterdir()} == wanted
    last = nn.load(tmp_path / "deep" / max(wanted))
    assert np.array_equal(last._theta, model._theta)
    with pytest.raises(ValueError, match=r"cannot be filled in \('vall_oss'\); known: epoch, loss, accuracy"):
        fit(model, blobs, nn.ModelCheckpoint(tmp_path / "{vall_oss}"))


def test_model_checkpoint_keeps_the_best(blobs, tmp_path, capsys):
    """And what the file held is whole, whatever later epochs bring."""
    model, path = network(), tmp_path / "best.safetensors"
    values = Figures("val_accuracy", [0.5, 0.7, 0.6, 0.7])
    keep = nn.ModelCheckpoint(path, "val_accuracy", save_best_only=True, verbose=1)
    fit(model, blobs, values, keep, epochs=4)
    assert nn.load(path).epochs == 2
    assert capsys.readouterr().out.splitlines() == [
        f"epoch {k}: saved to {path}, val_accuracy {figure}" for k, figure in ((1, 0.5), (2, 0.7))
    ]
    assert [file.name for file in tmp_path.iterdir()] == ["best.safetensors"]
    fit(model, blobs, Figures("val_accuracy", [0.65]), keep)  # a later fit does not forget the best
    assert nn.load(path).epochs == 2


def test_model_checkpoint_by_batches(blobs, tmp_path):
    model = network()
    fit(model, blobs, nn.ModelCheckpoint(tmp_path / "{epoch}-{batch}", save_freq=3), epochs=3)
    assert {file.name for file in tmp_path.iterdir()} == {"1-3", "2-2", "3-1", "3-4"}
    assert nn.load(tmp_path / "2-2").updates == 6


def test_csv_logger(blobs, tmp_path):
    path = tmp_path / "log.csv"
    model = network()
    history = fit(model, blobs, nn.CSVLogger(path), epochs=2).history
    more = fit(model, blobs, nn.CSVLogger(path, append=True), validation_split=0.2, initial_epoch=2, epochs=3).history
    with open(path, newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["epoch"] for row in rows] == ["0", "1", "2"]
    for name in ("loss", "accuracy"):
        assert [float(row[name]) for row in rows] == history[name] + more[name]
    fit(model, blobs, nn.CSVLogger(path, separator=";"))
    assert path.read_text().splitlines()[0] == "epoch;loss;accuracy"
    assert len(path.read_text().splitlines()) == 2


def events(folder):
    """(step, tag, value) of the scalars in an event file: records of length, checksum, bytes, checksum."""
    from tensorboardX.proto.event_pb2 import Event

    (path,) = folder.iterdir()
    raw, at, found = path.read_bytes(), 0, []
    while at < len(raw):
        (length,) = struct.unpack_from("<Q", raw, at)
        event = Event.FromString(raw[at + 12 : at + 12 + length])
        found += [(event.step, value.tag, value.simple_value) for value in event.summary.value]
        at += 16 + length
    return found


def test_tensorboard(blobs, tmp_path):
    history = fit(network(), blobs, nn.TensorBoard(tmp_path / "logs"), epochs=3, validation_split=0.2).history
    for folder, prefix in (("train", ""), ("validation", "val_")):
        found = events(tmp_path / "logs" / folder)
        assert {tag for _, tag, _ in found} == {"epoch_loss", "epoch_accuracy"}
        for name in ("loss", "accuracy"):
            values = [value for _, tag, value in sorted(found) if tag == f"epoch_{name}"]
            assert np.allclose(values, history[prefix + name], rtol=1e-6)


def test_tensorboard_without_tensorboardx(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    with pytest.raises(ImportError, match=r"TensorBoard needs tensorboardX: pip install 'numbanet\[tensorboard\]'"):
        nn.TensorBoard()


def test_terminate_on_nan(blobs, capsys):
    """A rate that blows up float32 at once: one epoch instead of five."""
    X, y = blobs
    model = nn.Sequential([nn.Input(2), nn.Dense(1)], seed=0)
    model.compile(nn.SGD(1e30), "mse")
    history = model.fit(X, y, epochs=5, verbose=0, callbacks=[nn.TerminateOnNaN()])
    assert len(history.epoch) == 1
    assert not np.isfinite(history.history["loss"][0])
    assert "training stops" in capsys.readouterr().out


def test_progress_bar(blobs, capsys):
    """One of one's own takes the place of fit's; hooks of batches and stopping early are shown."""
    fit(network(), blobs, nn.ProgressBar(), Diary(BATCHES), epochs=3, verbose=1)
    shown = capsys.readouterr().err
    assert shown.count("12/12") >= 1
    assert "epoch 3/3: 100%" in shown
    assert "accuracy=" in shown
    callback = nn.Callback()
    callback.on_epoch_end = lambda epoch, logs: setattr(callback.model, "stop_training", epoch == 1)
    fit(network(), blobs, callback, epochs=4, verbose=1)
    assert "epoch 2/4:  50%" in capsys.readouterr().err


@pytest.mark.parametrize("callback", [nn.EarlyStopping, nn.ReduceLROnPlateau])
def test_verbose(callback):
    assert callback(verbose=True).verbose == 1
    for given in ("1", None, 1.5):
        with pytest.raises(TypeError, match=f"verbose must be a whole number, not {given!r}"):
            callback(verbose=given)


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: nn.ModelCheckpoint(3), "filepath must be a path, not 3"),
        (lambda: nn.CSVLogger(None), "filename must be a path, not None"),
        (lambda: nn.TensorBoard(3.5), "log_dir must be a path, not 3.5"),
        (lambda: nn.LearningRateScheduler(lambda: 1.0), "schedule must take the epoch and the learning rate, or the"),
    ],
)
def test_wrong_arguments(call, sentence):
    with pytest.raises(TypeError, match=sentence):
        call()


def test_silent_runs_do_without_a_bar():
    code = """
import sys
import numpy as np, numbanet as nn
model = nn.Sequential([nn.Input(2), nn.Dense(1)], seed=0)
model.compile("sgd", "mse")
model.fit(np.ones((4, 2)), np.ones(4), verbose=0)
assert "tqdm" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True)
