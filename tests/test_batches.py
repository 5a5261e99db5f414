"""Fitting what comes in batches: generators, lists, loaders; and samples that stay on disk."""

import tracemalloc
import warnings

import numpy as np
import pytest
from conftest import unchanged
from diary import BATCHES, EPOCHS, Diary

import numbanet as nn
from numbanet.kernels import cpu

RNG = np.random.default_rng(0)
X = RNG.random((70, 3)).astype(np.float32)
Y = RNG.integers(0, 2, 70)
W = RNG.random(70)


def network(optimizer="adam", **options):
    layers = [nn.Dense(5, "tanh", kernel_regularizer="l2"), nn.Dense(2, "softmax")]
    model = nn.Sequential([nn.Input(3), *layers], seed=0, **options)
    model.compile(optimizer, "cross_entropy", ["accuracy"])
    return model


def cut(*arrays, size=32):
    return [tuple(array[k : k + size] for array in arrays) for k in range(0, len(arrays[0]), size)]


class Loader:
    """Batches by number, as Keras' Sequence has them: no end but its length."""

    def __init__(self, batches):
        self.batches, self.asked = batches, []

    def __len__(self):
        return len(self.batches)

    def __getitem__(self, number):
        self.asked.append(number)
        return self.batches[number % len(self.batches)]


class Anew:
    """Can be iterated again and again, and gives lists, as a DataLoader does."""

    def __init__(self, batches):
        self.batches = batches

    def __iter__(self):
        return iter(list(batch) for batch in self.batches)


def many(batches, epochs):
    """A generator."""
    for _ in range(epochs):
        yield from batches


SOURCES = {
    "list": (lambda batches: batches, {}),
    "loader": (Loader, {}),
    "iterable": (Anew, {}),
    "generator": (lambda batches: many(batches, 3), {"steps_per_epoch": 3}),
    "list in steps": (lambda batches: batches, {"steps_per_epoch": 3}),
}


@pytest.mark.parametrize("kind", SOURCES)
@pytest.mark.parametrize("weighted", [False, True])
def test_batches_give_the_bits_of_arrays(kind, weighted):
    """Weights, moments, and the figures of the history, regulariser and short last batch included."""
    a, b = network(), network()
    weights = {"sample_weight": W} if weighted else {}
    wanted = a.fit(X, Y, epochs=3, shuffle=False, verbose=0, validation_data=(X, Y), **weights)
    make, options = SOURCES[kind]
    batches = make(cut(X, Y, W) if weighted else cut(X, Y))
    found = b.fit(batches, epochs=3, verbose=0, validation_data=(X, Y), **options)
    assert np.array_equal(a._theta, b._theta)
    assert (a.updates, a.epochs) == (b.updates, b.epochs)
    assert found.history == wanted.history
    assert found.epoch == wanted.epoch


def test_a_loader_is_asked_in_turn():
    loader = Loader(cut(X, Y))
    network().fit(loader, epochs=2, verbose=0)
    assert loader.asked == [0, 1, 2] * 2


def test_steps_go_on_over_epochs_and_lists_begin_anew():
    """2 steps an epoch of 3 batches: 0 1, 2 0, 1 2."""
    batches, (a, b) = cut(X, Y), (network(), network())
    a.fit(batches, steps_per_epoch=2, epochs=3, verbose=0)
    for k in (0, 1, 2, 0, 1, 2):
        b.train_on_batch(*batches[k])
    assert np.array_equal(a._theta, b._theta)


def test_a_generator_is_one_epoch():
    model = network()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert model.fit(iter(cut(X, Y)), verbose=0).epoch == [0]
    with pytest.warns(UserWarning, match="the batches have ended after 1 of 3 epochs"):
        assert model.fit(iter(cut(X, Y)), epochs=3, verbose=0).epoch == [0]
    assert model.updates == 6


def test_running_out_early_is_told_once():
    model, diary = network(), Diary(["on_epoch_end", "on_train_end"])
    with pytest.warns(UserWarning) as told:
        history = model.fit(many(cut(X, Y), 2), steps_per_epoch=4, epochs=5, verbose=0, callbacks=[diary])
    assert [str(warning.message) for warning in told] == ["the batches have ended after 2 of 4 steps of an epoch"]
    assert told[0].filename == __file__
    assert len(history.epoch) == 2
    assert model.updates == 6
    assert diary.notes == [("epoch_end", 0), ("epoch_end", 1), ("train_end",)]
    with pytest.warns(UserWarning, match="after 2 of 5 epochs") as told:
        model.fit(many(cut(X, Y), 2), steps_per_epoch=3, epochs=5, verbose=0)
    assert told[0].filename == __file__


def test_endless_generators_are_not_read_ahead():
    taken = []

    def endless():
        while True:
            taken.append(1)
            yield X, Y

    network().fit(endless(), steps_per_epoch=4, epochs=2, verbose=0)
    assert len(taken) == 8


def test_callbacks_see_batches():
    diary, other = Diary(EPOCHS + BATCHES), Diary(EPOCHS + BATCHES)
    models = network(), network()
    models[0].fit(X, Y, shuffle=False, epochs=2, verbose=0, callbacks=[diary], validation_data=(X, Y))
    models[1].fit(cut(X, Y), epochs=2, verbose=0, callbacks=[other], validation_data=(X, Y))
    assert diary.notes == other.notes
    assert diary.logs == other.logs
    assert np.array_equal(models[0]._theta, models[1]._theta)
    assert other.params["steps"] is None

    class Stop(nn.Callback):
        def on_train_batch_end(self, batch, logs=None):
            self.model.stop_training = batch == 1

    assert len(models[1].fit(cut(X, Y), epochs=3, verbose=0, callbacks=[Stop()]).epoch) == 1
    assert models[1].updates == 6 + 2


def test_the_bar_learns_how_many_there_are(capsys):
    network().fit(cut(X, Y), epochs=3, verbose=1)
    assert "epoch 3/3: 100%" in capsys.readouterr().err


def test_batches_are_evaluated():
    model = network(dtype="float64")
    wanted = model.evaluate(X, Y, sample_weight=W)
    for source in (cut(X, Y, W), Loader(cut(X, Y, W)), iter(cut(X, Y, W, size=5))):
        assert model.evaluate(source) == pytest.approx(wanted, rel=1e-13)
    history = model.fit(X, Y, verbose=0, epochs=2, validation_data=Anew(cut(X, Y)))
    assert history.history["val_loss"][1] == pytest.approx(model.evaluate(X, Y)["loss"], rel=1e-13)


def test_weights_are_in_the_batches():
    with pytest.raises(ValueError, match=f"sample_weight {ALL}"):
        network().evaluate(cut(X, Y), sample_weight=W)


def test_a_batch_may_have_no_weight():
    """A whole class left out, and a batch that has no other."""
    batches = [(X[Y == 0], Y[Y == 0]), (X[Y == 1], Y[Y == 1])]
    models = network("sgd"), network("sgd")
    models[0].fit(batches, class_weight={0: 0.0}, verbose=0)
    models[1].fit([(*batches[0], 0 * Y[Y == 0]), batches[1]], verbose=0)
    assert models[0].updates == 2
    assert np.array_equal(models[0]._theta, models[1]._theta)
    assert models[1].evaluate([(X, Y, 0 * W)])["loss"] == pytest.approx(models[1].graph.penalty(models[1]._theta))


def test_weights_of_classes_and_several_inputs():
    a, b = nn.Input(1, name="a"), nn.Input(2, name="b")
    models = [nn.Model([a, b], nn.Dense(2, "softmax")(nn.Concatenate()([a, b])), seed=0) for _ in range(2)]
    for model in models:
        model.compile("sgd", "cross_entropy")
    models[0].fit([X[:, :1], X[:, 1:]], Y, class_weight={1: 3}, shuffle=False, verbose=0)
    batches = [({"a": x[:, :1], "b": x[:, 1:]}, y) for x, y in cut(X, Y)]
    models[1].fit(batches, class_weight={1: 3}, verbose=0)
    assert np.array_equal(models[0]._theta, models[1]._theta)


def test_batches_on_the_gpu():
    models = network("sgd", dtype="float64"), network("sgd", dtype="float64").to("cuda")
    losses = [model.fit(cut(X[:10], Y[:10], size=4), epochs=2, verbose=0).history["loss"] for model in models]
    assert np.allclose(*losses, rtol=1e-12)
    assert np.allclose(models[0]._theta, models[1]._theta, rtol=1e-10, atol=1e-13)


ALL = "needs all samples at hand: X and y, not batches"


@pytest.mark.parametrize(
    ("batches", "options", "kind", "sentence"),
    [
        (X, {}, TypeError, r"y must hold real numbers, not None; without y, X must be an iterable of batches \(x, y\)"),
        ({"a": X}, {}, TypeError, "without y, X must be an iterable"),
        (3, {}, TypeError, "without y, X must be an iterable"),
        ([X, X], {}, ValueError, r"batch 0 is wrong: it must be a pair \(X, y\) or a triple .*, not a ndarray"),
        ([(X, Y, W, W)], {}, ValueError, "batch 0 is wrong: it must be a pair .* not a tuple with 4"),
        ([(X, Y), (X[:, :2], Y)], {}, ValueError, r"batch 1 is wrong: X has shape \(70, 2\), expected \(n, 3\)"),
        ([(X, Y + 2)], {}, ValueError, "batch 0 is wrong: y has labels from 2 to 3"),
        ([(X, None)], {}, TypeError, "batch 0 is wrong: y must hold real numbers, not None"),
        ([], {}, ValueError, r"X has no batches; expected an iterable of \(x, y\)"),
        (iter([]), {"steps_per_epoch": 3}, ValueError, "X has no batches"),
        ([(X, Y)], {"batch_size": 8}, ValueError, f"batch_size {ALL}"),
        ([(X, Y)], {"validation_split": 0.1}, ValueError, f"validation_split {ALL}"),
        ([(X, Y)], {"sample_weight": W}, ValueError, f"sample_weight {ALL}"),
        ([(X, Y)], {"class_weight": "balanced"}, ValueError, f"class_weight='balanced' {ALL}"),
        ([(X, Y)], {"steps_per_epoch": 0}, ValueError, "steps_per_epoch must be at least 1, not 0"),
        ([(X, Y)], {"validation_data": iter([(X, Y)])}, ValueError, "validation_data is an iterator, .* read once"),
    ],
)
def test_bad_batches(same, batches, options, kind, sentence):
    model = network()
    before = unchanged(model)
    with pytest.raises(kind, match=sentence):
        model.fit(batches, verbose=0, **options)
    after = unchanged(model)
    if "batch 1" in sentence:  # the first was right
        assert after[-1] == 1
    else:
        same(before, after)


def test_steps_are_for_batches():
    with pytest.raises(ValueError, match="steps_per_epoch is for batches that come one by one"):
        network().fit(X, Y, steps_per_epoch=2)


@pytest.mark.compiled
def test_samples_on_disk_are_not_read_into_memory(tmp_path):
    """16 MiB of samples and 4 of targets: fit allocates less than 2 MiB, its order of samples included."""
    n, width = 32768, 128
    rng = np.random.default_rng(0)
    arrays = {"X": rng.random((n, width), np.float32), "Y": rng.random((n, 32), np.float32)}
    for name, array in arrays.items():
        np.save(tmp_path / f"{name}.npy", array)
    x, y = (np.load(tmp_path / f"{name}.npy", mmap_mode="r") for name in arrays)

    def trained(x, y, shuffle=True):
        model = nn.Sequential([nn.Input(width), nn.Dense(32)], seed=0)
        model.compile("sgd", "mse")
        model.fit(x, y, batch_size=64, verbose=0, validation_split=0.1, shuffle=shuffle)
        return model

    for loop in cpu.LOOPS:  # what is compiled while memory is traced counts too
        loop.ready()
    for shuffle in (True, False):
        trained(x[:640], y[:640], shuffle)
        tracemalloc.start()
        found = trained(x, y, shuffle)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 2**21, shuffle
        assert np.array_equal(found._theta, trained(arrays["X"], arrays["Y"], shuffle)._theta)
