"""Transfer: frozen layers and other last layers, on both devices, and what they are for."""

import copy
import pickle
import statistics
import time

import numpy as np
import pytest
from conftest import unchanged
from networks import OPTIMIZERS, close

import numbanet as nn
from numbanet.gradients import gradients
from numbanet.kernels import UPDATE


def mlp(seed=0, dtype="float32", units=(20, 18, 3), **fields):
    """5-20-18-3, the layers called first, code and dense_1."""
    hidden = [nn.Dense(units[0], "tanh", name="first", **fields), nn.Dense(units[1], "tanh", name="code", **fields)]
    return nn.Sequential([nn.Input(5), *hidden, nn.Dense(units[2], "softmax", **fields)], seed=seed, dtype=dtype)


def trained(model, optimizer="sgd", **fit):
    """The model after some updates."""
    made = OPTIMIZERS[optimizer]() if isinstance(optimizer, str) else optimizer
    model.compile(made, "mse", ["mae"])
    history = model.fit(*data(model), **({"batch_size": 8, "epochs": 2, "verbose": 0} | fit))
    return model, history.history


def data(model, rows=30):
    rng = np.random.default_rng(rows)
    (node,) = model.graph.inputs
    return rng.standard_normal((rows, *node.shape)), rng.random((rows, *model.graph.output.shape))


def equal(found, wanted):
    """Are two lists of arrays the same bits?"""
    return len(found) == len(wanted) and all(np.array_equal(a, b) for a, b in zip(found, wanted, strict=True))


# -- frozen layers


@pytest.mark.parametrize("regularizer", [None, "l1_l2"])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_training_leaves_frozen_layers_as_they_are(optimizer, regularizer):
    model, _ = trained(mlp(kernel_regularizer=regularizer), optimizer)
    before = model.get_weights()
    model.freeze("code")
    model.fit(*data(model), epochs=3, verbose=0)
    after = model.get_weights()
    assert equal(after[:4], before[:4])
    assert not any(np.array_equal(a, b) for a, b in zip(after[4:], before[4:], strict=True))
    model.unfreeze("code")
    model.fit(*data(model), epochs=1, verbose=0)
    assert equal(model.get_weights()[:2], before[:2])
    assert not any(np.array_equal(a, b) for a, b in zip(model.get_weights()[2:], after[2:], strict=True))


def test_freezing_needs_no_compile_and_starts_no_optimiser_anew():
    """Frozen for no update at all, a model goes on as if it had never been; frozen whole, it stays."""
    model, other = (trained(mlp(), "adam")[0] for _ in range(2))
    model.freeze()
    before = model._theta.copy()
    model.fit(*data(model), epochs=1, verbose=0)
    assert model.updates == other.updates + 1
    other.epochs, other._steps[0, UPDATE] = model.epochs, model.updates
    assert np.array_equal(model._theta, before)
    model.unfreeze()
    for net in (model, other):
        net.fit(*data(net), epochs=1, verbose=0)
    assert np.array_equal(model._theta, other._theta)


@pytest.mark.parametrize("until", ["first", "code", "dense_1"])
def test_other_gradients_are_those_of_the_whole_model(until):
    model = mlp(dtype="float64", kernel_regularizer="l2")
    model.compile("sgd", "mse")
    X, y = data(model)
    whole = gradients(model, model._data(X, y))
    frozen = model.layers[: model.layers.index(model.get_layer(until)) + 1]
    model.freeze(until)
    some = gradients(model, model._data(X, y))
    for name, wanted in whole.items():
        assert wanted.any()
        still = model.get_layer(name.split(".")[0]) in frozen
        assert np.array_equal(some[name], 0 * wanted if still else wanted)


def test_frozen_layers_between_others_let_gradients_through():
    model = mlp(dtype="float64")
    model.compile("sgd", "mse")
    X, y = data(model)
    whole = gradients(model, model._data(X, y))
    model.get_layer("code").trainable = False
    some = gradients(model, model._data(X, y))
    assert np.array_equal(some["first.kernel"], whole["first.kernel"])
    assert not some["code.kernel"].any()


def test_frozen_layers_have_no_gradient_ops():
    model = mlp()
    model.compile("adam", "mse")

    def backward():
        ops = [op for op in model.plan().ops if "backward" in op.name or "update" in op.name]
        return [op.name for op in ops if "bias" not in op.name]

    assert backward().count("dense_backward_kernel") == backward().count("adam_update") / 2 == 3
    assert "dense_backward_input" in backward()
    model.freeze("code")
    ops = model.plan().ops
    touched = {place for op in ops if op.name == "adam_update" for place in op.operands.values()}
    known = model.graph.of_layer[model.get_layer("dense_1")]
    assert touched >= set(known.values())
    assert not touched & (set(model.graph.parameters) - set(known.values()))
    assert backward() == ["softmax_backward", "dense_backward_kernel", "adam_update", "adam_update"]
    assert not any(op.name.startswith(("dense_backward_input", "transpose", "tanh_backward")) for op in ops)


@pytest.mark.compiled
def test_a_frozen_body_saves_time():
    """784-512-512-10, 128 rows: with all but the last layer frozen a step takes less than half of the time."""
    rng = np.random.default_rng(0)
    X, y = rng.random((1280, 784), np.float32), np.arange(1280) % 10
    models = []
    for _ in range(2):
        hidden = [nn.Dense(512, "relu"), nn.Dense(512, "relu", name="body")]
        models.append(nn.Sequential([nn.Input(784), *hidden, nn.Dense(10, "softmax")], seed=0))
        models[-1].compile("sgd", "cross_entropy")
    models[1].freeze("body")
    times = [], []
    for _ in range(8):
        for model, spent in zip(models, times, strict=True):
            began = time.perf_counter()
            model.fit(X, y, batch_size=128, verbose=0)
            spent.append((time.perf_counter() - began) / 10)
    whole, some = (statistics.median(spent[1:]) for spent in times)
    print(f"a step takes {whole * 1e6:.0f} us, with a frozen body {some * 1e6:.0f}: {some / whole:.2f}")
    assert some < 0.75 * whole


def test_summary_tells_what_is_trained():
    model = mlp()
    assert "555 parameters, 555 trainable" in repr(model)
    assert "frozen" not in repr(model)
    model.freeze("code")
    assert "555 parameters, 57 trainable" in repr(model)
    assert repr(model).count(", frozen") == 2
    model.unfreeze()
    assert "frozen" not in repr(model)


def test_layers_by_name():
    model = mlp()
    assert model.get_layer("code") is model.layers[2]
    for find in (model.get_layer, model.freeze, model.unfreeze, lambda name: model.submodel(outputs=name)):
        with pytest.raises(
            ValueError, match="unknown layer 'kode'; known: input_1, first, code, dense_1; did you mean"
        ):
            find("kode")
    assert all(layer.trainable for layer in model.layers)


# -- other last layers


def test_pop_and_add_keep_all_other_weights():
    model, _ = trained(mlp(), "adam")
    before, layers = model.get_weights(), model.layers
    assert model.pop() is layers[-1]
    assert (model.loss, model.optimizer, model.metrics, model.updates) == (None, None, (), 0)
    assert equal(model.get_weights(), before[:4])
    assert model._theta.size == model.graph.size
    X = data(model)[0]
    with pytest.raises(ValueError, match="not compiled"):
        model.fit(X, X)
    h = np.tanh(np.tanh(X @ before[0] + before[1]) @ before[2] + before[3])
    assert close(model.predict(X), h, "float32")
    model.add(nn.Dense(4))
    assert model.predict(X).shape == (30, 4)
    assert list(model.graph.names.values()) == ["input_1", "first", "code", "dense_1"]
    assert equal(model.get_weights()[:4], before[:4])
    assert equal(model.get_weights()[4:], mlp(units=(20, 18, 4)).get_weights()[4:])  # as if built so
    model.set_weights([2 * array for array in model.get_weights()])
    assert equal(model.get_weights()[:4], [2 * array for array in before[:4]])
    trained(model, "adam")


def test_a_model_built_by_adding_is_the_model():
    model = nn.Sequential([nn.Input(5)], seed=0)
    for layer in mlp().layers[1:]:
        model.add(layer)
    assert equal(model.get_weights(), mlp().get_weights())
    assert np.array_equal(trained(model, "adam")[0]._theta, trained(mlp(), "adam")[0]._theta)
    for _ in range(3):
        model.pop()
    with pytest.raises(ValueError, match="no layer left but its input"):
        model.pop()


def test_a_shared_layer_stays_as_long_as_it_is_used():
    layer = nn.Dense(5, "tanh")
    model = nn.Sequential([nn.Input(5), layer, layer], seed=0)
    before = model.get_weights()
    assert model.pop() is layer
    assert equal(model.get_weights(), before)
    model.add(layer)
    assert equal(model.get_weights(), before)


def test_names_stay(tmp_path):
    """A name made from a class and a number depends on the other names, but not for a layer that has one."""
    model = nn.Sequential([nn.Input(3), nn.Dense(4), nn.Dense(2, name="dense_1")], seed=0)
    assert list(model.graph.names.values()) == ["input_1", "dense_2", "dense_1"]
    part = model.submodel(outputs="dense_2")
    model.pop()
    model.add(nn.Dense(2))
    assert list(model.graph.names.values()) == ["input_1", "dense_2", "dense_1"]
    trained(model, "adam")
    for net, names in ((model, ["input_1", "dense_2", "dense_1"]), (part, ["input_1", "dense_2"])):
        net.save(tmp_path / "model.safetensors")
        for other in (nn.load(tmp_path / "model.safetensors"), copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
            assert list(other.graph.names.values()) == names
            assert equal(other.get_weights(), net.get_weights())


@pytest.mark.parametrize(
    ("change", "error", "sentence"),
    [
        (lambda model: model.add(nn.Dense(2, name="code")), ValueError, "two layers are named 'code'"),
        (lambda model: model.add(nn.Input(3)), TypeError, "a layer other than nn.Input, not Input"),
        (lambda model: model.add("dense"), TypeError, "a layer other than nn.Input, not 'dense'"),
        (lambda model: model.add(model.layers[1]), ValueError, "'first' is shared by inputs of different shapes"),
        (lambda model: model.add(nn.Dense(2, kernel_initializer=nn.Constant(1e300))), ValueError, "beyond float32"),
        (lambda model: model.submodel(["first", "code"]), ValueError, "does not depend on the Input"),
        (lambda model: model.submodel([], "code"), ValueError, "depend on input 'input_1', which is not among"),
        (lambda model: model.submodel(outputs=3), TypeError, "layer must be a string, not 3"),
        (lambda model: model.submodel(outputs=nn.Dense(3)), ValueError, "layer 'Dense' has 0 outputs"),
        (lambda model: model.submodel(outputs=nn.Dense(3)(nn.Input(2))), ValueError, "not in this model"),
        (lambda model: model(nn.Input(4)), ValueError, r"inputs of shapes \[\(4,\)\], not \[\(5,\)\]"),
        (lambda model: model(np.zeros((3, 5))), TypeError, "Sequential must be called on nn.Input"),
        (lambda model: nn.Sequential([nn.Input(5), model]), TypeError, "takes a list of layers"),
    ],
)
def test_errors_change_nothing(change, error, sentence, same):
    model, _ = trained(mlp(), "adam")
    before, names = unchanged(model), dict(model.graph.names)
    with pytest.raises(error, match=sentence):
        change(model)
    same(before, unchanged(model))
    assert model.graph.names == names
    model.fit(*data(model), epochs=1, verbose=0)


# -- the GPU, and what it is for


def test_the_gpu_does_the_same():
    """Frozen layers, another last layer, parts: as on the CPU but for rounding; models that share move together."""
    results = []
    for device in ("cpu", "cuda"):
        model = mlp()
        part = model.submodel(outputs="code")
        assert model.to(device) is model
        assert part.device == device
        X, y = data(model, 7)
        model.compile(OPTIMIZERS["adam"](), "mse")
        model.freeze("first")
        for _ in range(2):
            model.train_on_batch(X, y)
        found = [part.predict(X), *part.get_weights()]
        assert equal(found[1:3], mlp().get_weights()[:2])
        model.pop()
        model.add(nn.Dense(2, "sigmoid"))
        part.compile("sgd", "mse")
        model.compile("sgd", "mse")
        model.train_on_batch(X, y[:, :2])
        part.train_on_batch(X, part.predict(X) + 1)
        assert np.array_equal(part.get_weights()[2], model.get_weights()[2])
        results.append([*found, *model.get_weights(), part.predict(X), model.predict(X)])
    assert all(close(found, wanted, "float32") for wanted, found in zip(*results, strict=True))


@pytest.mark.compiled
def test_what_was_learned_from_ten_classes_helps_with_two():
    """64-128-32 learns the digits of one half of the images; then only odd or even, from 20 images of the other half.

    Mean accuracy on the rest of that half over 5 seeds: 0.83 with the body kept frozen, 0.76 from scratch.
    """
    (X, y), (X_test, y_test) = nn.data.load_digits()
    X, y = np.concatenate([X, X_test]), np.concatenate([y, y_test])
    accuracies = []
    for seed in range(5):
        halves = np.array_split(np.random.default_rng(seed).permutation(len(X)), 2)
        few, rest = halves[1][:20], halves[1][20:]
        body = [nn.Input(64), nn.Dense(128, "relu"), nn.Dense(32, "relu")]
        model = nn.Sequential([*body, nn.Dense(10, "softmax")], seed=seed)
        scratch = nn.Sequential([*copy.deepcopy(model).layers[:-1], nn.Dense(2, "softmax")], seed=seed)
        model.compile("adam", "cross_entropy")
        model.fit(X[halves[0]], y[halves[0]], epochs=30, verbose=0)
        model.pop()
        model.freeze()
        model.add(nn.Dense(2, "softmax"))
        before = model.get_weights()
        for net in (model, scratch):
            net.compile(nn.Adam(0.01), "cross_entropy", ["accuracy"])
            net.fit(X[few], y[few] % 2, batch_size=20, epochs=100, verbose=0)
            accuracies.append(net.evaluate(X[rest], y[rest] % 2)["accuracy"])
        assert equal(model.get_weights()[:4], before[:4])
        assert [op.name for op in model.plan().ops if "dense_backward" in op.name] == [
            "dense_backward_kernel",
            "dense_backward_bias",
        ]
    kept, new = np.mean(accuracies[::2]), np.mean(accuracies[1::2])
    print(f"accuracy {kept:.3f} with what was learned, {new:.3f} without")
    assert kept >= new + 0.04
