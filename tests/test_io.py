"""Models in files: what is saved comes back bit for bit."""

import os
import subprocess
import sys
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from networks import disturbed

import numbanet as nn
from numbanet import losses, metrics
from numbanet.io import checkpoint

ROWS = 50  # with batches of 16 the last one is short


def chain(dtype):
    hidden = nn.Dense(5, "tanh", kernel_initializer=nn.RandomNormal(0.1, 0.5), bias_initializer=nn.Constant(0.25))
    output = nn.Dense(3, "softmax", use_bias=False, kernel_initializer=nn.VarianceScaling(2.0, "fan_in", "normal"))
    return nn.Sequential([nn.Input(6), hidden, output], seed=2**63 - 1, dtype=dtype)


def images(dtype):
    layers = [
        nn.Input((8, 8)),
        nn.Flatten(),
        nn.Dense(17),
        nn.Activation("sigmoid"),
        nn.Dense(3),
        nn.Activation("relu"),
    ]
    return nn.Sequential(layers, seed=1, dtype=dtype)


def graph(dtype):
    """Two inputs, a layer on both, joins of both kinds, a path around a layer, and names that need quoting."""
    left, right = nn.Input(4, name="left/../\\ \"q\" 'é' \U0001f9e0"), nn.Input(4)
    shared = nn.Dense(4, "tanh", name="os.system")
    a, b = shared(left), shared(right)
    joined = nn.Concatenate(name="dense_1")([a, nn.Add()([a, b, left]), left])
    return nn.Model([left, right], nn.Dense(3, "softmax", name="é" * 200)(nn.Dense(6)(joined)), seed=2, dtype=dtype)


def nothing(dtype):
    """A network without parameters."""
    return nn.Sequential([nn.Input(3), nn.Activation("softmax")], seed=3, dtype=dtype)


NETWORKS = [chain, images, graph, disturbed, nothing]
OPTIMIZERS = {
    "sgd": nn.SGD(0.1),
    "momentum": nn.SGD(0.05, momentum=0.9),
    "nesterov": nn.SGD(0.05, momentum=0.9, nesterov=True),
    "adam": nn.Adam(0.01, beta_1=0.8, epsilon=1e-6),
    "adamw": nn.AdamW(nn.CosineDecay(0.0, 10, 0.1, 0.02, 5), 0.1, epsilon_hat=False),
    "rmsprop": nn.RMSprop(nn.StepDecay(0.01, 4), momentum=0.9, centered=True),
    "adagrad": nn.Adagrad(nn.InverseTimeDecay(0.1, 5, 0.5), 0.0),
}


def samples(model):
    rng = np.random.default_rng(0)
    X = [rng.normal(size=(ROWS, *node.shape)).astype(model.dtype) for node in model.graph.inputs]
    return (X if len(X) > 1 else X[0]), np.arange(ROWS) % 3


def trained(network, dtype="float32", optimizer="adam", epochs=3):
    model = network(dtype)
    if optimizer:
        model.compile(OPTIMIZERS[optimizer], "cross_entropy", ["accuracy", "mae"])
    if optimizer and model.graph.parameters:
        model.fit(*samples(model), batch_size=16, epochs=epochs, verbose=0)
    return model


def run(code, *arguments):
    """Run Python code in another process and return what it prints."""
    command = [sys.executable, "-c", code, *map(str, arguments)]
    paths = [str(Path(__file__).parent), os.environ.get("PYTHONPATH")]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, paths))}
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def is_same(one, other):
    """Every bit of the state and every setting that another call could notice."""
    assert type(one) is type(other)
    assert one._theta.dtype == other._theta.dtype
    assert one._theta.tobytes() == other._theta.tobytes()  # weights, then the optimiser's slots
    for name in ("seed", "dtype", "epochs", "updates", "optimizer", "loss", "metrics"):
        assert getattr(one, name) == getattr(other, name), name
    assert list(one.graph.names.values()) == list(other.graph.names.values())
    for a, b in zip(one.layers, other.layers, strict=True):
        fields = {key: value for key, value in vars(a).items() if key != "_node"}
        assert type(a) is type(b)
        assert fields == {key: getattr(b, key) for key in fields}


# -- there and back


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("optimizer", [None, *OPTIMIZERS])
@pytest.mark.parametrize("network", NETWORKS)
def test_round_trip(tmp_path, network, optimizer, dtype):
    model = trained(network, dtype, optimizer)
    model.save(tmp_path / "m.safetensors")
    loaded = nn.load(tmp_path / "m.safetensors")
    is_same(model, loaded)
    assert str(model) == str(loaded)
    X, y = samples(model)
    assert model.predict(X).tobytes() == loaded.predict(X).tobytes()
    if optimizer:
        assert model.updates == (3 * 4 if model.graph.parameters else 0)
        assert model.evaluate(X, y) == loaded.evaluate(X, y)
    assert os.listdir(tmp_path) == ["m.safetensors"]


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("network", [chain, graph])
def test_training_goes_on_bit_for_bit(tmp_path, network, optimizer):
    whole, first = trained(network, optimizer=optimizer, epochs=3), trained(network, optimizer=optimizer, epochs=3)
    first.save(tmp_path / "half")
    second = nn.load(tmp_path / "half")
    rest = [model.fit(*samples(model), batch_size=16, epochs=3, verbose=0).history for model in (whole, second)]
    is_same(whole, second)
    assert rest[0] == rest[1]
    is_same(trained(network, optimizer=optimizer, epochs=6), second)
    assert first._theta.tobytes() != second._theta.tobytes()


def test_training_goes_on_in_another_process(tmp_path):
    trained(graph).save(tmp_path / "half")
    code = (
        "import sys, test_io, numbanet as nn; model = nn.load(sys.argv[1] + '/half')\n"
        "model.fit(*test_io.samples(model), batch_size=16, epochs=3, verbose=0); model.save(sys.argv[1] + '/whole')"
    )
    run(code, tmp_path)
    is_same(trained(graph, epochs=6), nn.load(tmp_path / "whole"))


def test_a_loaded_model_can_be_saved_and_compiled_again(tmp_path):
    model = trained(graph, optimizer=None)
    model.save(tmp_path / "a")
    loaded = nn.load(tmp_path / "a")
    loaded.save(tmp_path / "b")
    again = nn.load(tmp_path / "b")
    for each in (model, again):
        each.compile("adam", "cross_entropy", ["accuracy"])
        each.fit(*samples(each), batch_size=16, epochs=2, verbose=0)
    is_same(model, again)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_odd_values_survive(tmp_path, dtype):
    """Also a model that has diverged is given back as it is."""
    model = nn.Sequential([nn.Input(3), nn.Dense(3)], seed=0, dtype=dtype)
    limits = np.finfo(dtype)
    odd = [[-0.0, limits.smallest_subnormal, limits.max], [np.inf, -np.inf, np.nan], [limits.min, limits.eps, 1 / 3]]
    model.graph.parameters[0].pack(model._theta, np.array(odd, dtype))
    model.epochs, model._steps[0, 3] = 2**62, 2**62
    model.save(tmp_path / "odd")
    is_same(model, nn.load(tmp_path / "odd"))


def test_numbers_of_other_libraries(tmp_path):
    kernel = nn.RandomNormal(np.float32(0.1), Fraction(1, 4))
    dense = nn.Dense(np.int64(3), use_bias=np.False_, kernel_initializer=kernel)
    model = nn.Sequential([nn.Input(np.int16(4)), dense], seed=np.uint8(7))
    model.compile(nn.SGD(np.float32(0.1), momentum=np.float64(0.5), nesterov=np.True_), "mse")
    model.save(tmp_path / "numbers")
    is_same(model, nn.load(tmp_path / "numbers"))


def test_a_subclass_is_saved_as_what_it_is(tmp_path):
    class Mine(nn.Sequential):
        pass

    model = Mine([nn.Input(3), nn.Dense(2)])
    model.save(tmp_path / "mine")
    assert type(nn.load(tmp_path / "mine")) is nn.Sequential


class MyDense(nn.Dense):
    pass


class MyAdam(nn.Adam):
    pass


class MyConstant(nn.Constant):
    pass


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"layer": MyDense(2)}, "layer MyDense cannot be saved; what can: Input, Dense"),
        ({"layer": nn.Dense(2, kernel_initializer=MyConstant(1))}, "initializer MyConstant cannot be saved"),
        ({"optimizer": MyAdam()}, "optimizer MyAdam cannot be saved; what can: SGD, Adam"),
        ({"loss": losses.Loss("mine")}, "loss mine cannot be saved"),
        ({"loss": replace(nn.Huber(), classes=True)}, "loss huber cannot be saved"),
        ({"loss": losses.Loss("mse", classes=True)}, "loss mse cannot be saved"),
        ({"metrics": [metrics.Metric("mine", "accuracy")]}, "metric mine cannot be saved"),
    ],
    ids=str,
)
def test_what_no_file_may_name_is_refused_at_once(tmp_path, change, sentence):
    """Better than a file that can never be loaded."""
    settings = {"layer": nn.Dense(2), "optimizer": "sgd", "loss": "mse", "metrics": ()} | change
    model = nn.Sequential([nn.Input(3), settings.pop("layer")])
    model.compile(**settings)
    with pytest.raises(ValueError, match=sentence):
        model.save(tmp_path / "model")
    assert os.listdir(tmp_path) == []


def test_an_architecture_too_large_for_a_file_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoint, "MOST_JSON", 500)
    with pytest.raises(ValueError, match=r"architecture takes \d+ characters, a file has 500 at most"):
        chain("float32").save(tmp_path / "model")
    assert os.listdir(tmp_path) == []
