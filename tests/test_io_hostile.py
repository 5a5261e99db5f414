"""Files that are no models: each is refused in a sentence, at once, and nothing in it is run or believed."""

import copy
import json
import os
import pickle
import subprocess
import sys
import time

import numpy as np
import pytest
import safetensors.numpy
from forging import architecture_in, forge, load, refused
from hypothesis import given
from hypothesis import strategies as st

import numbanet as nn
from numbanet import layers, optimizers
from numbanet.io import config


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    """Where each test puts its file; none is worth waiting for the disk."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda handle: None)
        yield tmp_path_factory.mktemp("hostile") / "model"


@pytest.fixture(scope="module")
def good(path):
    """A model with something of everything that a file can say, and its file's bytes, architecture and tensors."""
    left, right = nn.Input(2, name="left"), nn.Input((2, 1))
    dense = nn.Dense(2, "tanh", kernel_initializer=nn.RandomNormal())
    a, b = dense(left), dense(nn.Flatten()(right))
    output = nn.Dense(2, use_bias=False)(nn.Concatenate()([a, nn.Add()([a, b])]))
    model = nn.Model([left, right], nn.Activation("softmax")(output), seed=5)
    model.compile(nn.AdamW(nn.CosineDecay(0.01, 9, 0.1, 0.1, 2)), "cross_entropy", ["accuracy", "mae"])
    model.fit([np.ones((3, 2)), np.ones((3, 2, 1))], [0, 1, 1], epochs=2, verbose=0)
    model.save(path)
    return model, path.read_bytes(), architecture_in(path), safetensors.numpy.load_file(path)


def same_but_for_weights(one, other):
    assert str(one) == str(other)  # layers, names, shapes, optimiser, loss, metrics, seed
    assert (one.epochs, one.updates) == (other.epochs, other.updates)
    assert one._theta.shape == other._theta.shape


# -- files of another kind, and parts of one


class Payload:
    """What a pickle can do."""

    def __reduce__(self):
        return os.system, ("touch pickle_was_run",)


FOREIGN = {
    "empty": b"",
    "text": b"A model of the world in five parts.\n" * 20,
    "json": b'{"kind": "Sequential", "layers": []}',
    "pickle": pickle.dumps(Payload()),
    "png": b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR" + bytes(100),
    "zip, npz": b"PK\x03\x04\x14" + bytes(200),
    "gzip": b"\x1f\x8b\x08" + bytes(200),
    "hdf5": b"\x89HDF\r\n\x1a\n" + bytes(200),
    "zeros": bytes(5000),
    "ones": b"\xff" * 5000,
    "a header longer than memory": (2**63).to_bytes(8, "little") + b"{}",
    "a header longer than the file": (90_000_000).to_bytes(8, "little") + b"{}",
    "a header of lists": (100_000).to_bytes(8, "little") + b"[" * 100_000,
    "a header of objects": (100_000).to_bytes(8, "little") + b'{"a":' * 20_000,
}


@pytest.mark.parametrize("case", FOREIGN)
def test_foreign_files(path, monkeypatch, case):
    monkeypatch.chdir(path.parent)
    refused(path, FOREIGN[case], "it is no safetensors file, or only a part of one")
    assert not os.path.exists("pickle_was_run")


def test_metadata(path, good):
    model, _, architecture, tensors = good
    for metadata in (None, {}, {"format": "pt"}, {"format": "numbanet2", "model": "{}"}):
        refused(path, safetensors.numpy.save(tensors, metadata), "a safetensors file without numbanet's metadata")
    refused(path, forge(architecture, tensors, format=None), "without numbanet's metadata")
    for checksum in (None, "", "0", "00000000"):
        refused(path, forge(architecture, tensors, checksum=checksum), "its architecture is damaged")
    refused(path, forge(architecture, tensors, model=None), "its architecture is damaged")
    same_but_for_weights(load(path, forge(architecture, tensors)), model)  # forging is no reason by itself
    assert load(path, forge(training())).loss.name == "mse"


@pytest.mark.parametrize("version", ["2", "0", "1.0", "01", " 1", "", "\n", "9" * 1000, None])
def test_unknown_versions(path, good, version):
    _, _, architecture, tensors = good
    refused(path, forge(architecture, tensors, version=version), ", this numbanet reads version '1'")


def test_every_truncation(path, good):
    content = good[1]
    for length in range(len(content)):
        refused(path, content[:length], "it is no safetensors file, or only a part of one")
    for extra in (b"\0", b" ", content):
        refused(path, content + extra, "it is no safetensors file, or only a part of one")


def test_every_byte_damaged(path, good):
    """The architecture has a checksum, the header no slack: damage is refused, or is in the tensors."""
    model, content, _, tensors = good
    loaded = 0
    for at in range(len(content)):
        damaged = bytearray(content)
        damaged[at] ^= 1 << at % 8
        found = load(path, damaged)
        if not isinstance(found, str):
            same_but_for_weights(found, model)
            loaded += 1
    assert loaded == sum(tensor.nbytes for tensor in tensors.values())


EDIT = st.tuples(st.integers(0), st.integers(0, 20), st.binary(max_size=20))


@given(edits=st.lists(EDIT, min_size=1, max_size=5))
def test_random_damage(path, good, edits):
    """Bytes overwritten, put in and taken out, anywhere."""
    model, content, _, _ = good
    for at, gone, put in edits:
        at %= len(content) + 1
        content = content[:at] + put + content[at + gone :]
    found = load(path, content)
    if not isinstance(found, str):
        same_but_for_weights(found, model)


# -- well-formed files that lie

TEXTS = {
    "is not JSON": ["", "{", "null x", "{'a': 1}", '{"a": 1,}', "\x00", "9" * 5000],
    "must be an object, not ": ["null", "1", '"x"', "[]", "[{}]", "true", "1.5", "NaN", "Infinity", "1e999"],
    "is nested too deeply": ["[" * 100_000, '{"a":' * 100_000],
}


@pytest.mark.parametrize("reason", TEXTS)
def test_texts_that_are_no_architecture(path, reason):
    for text in TEXTS[reason]:
        refused(path, forge(text), f"architecture {reason}")


def places(value, prefix=()):
    """The keys to all that a JSON value holds."""
    for key in value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ():
        yield (*prefix, key)
        yield from places(value[key], (*prefix, key))


GONE = object()
REAL = {"learning_rate", "momentum", "beta_1", "beta_2", "epsilon", "mean", "stddev", "scale", "value"}
REAL |= {"clipnorm", "global_clipnorm", "clipvalue", "l1", "l2", "weight_decay", "rho", "initial_accumulator_value"}
REAL |= {"initial_learning_rate", "decay_rate", "factor", "alpha", "warmup_target", "ftol", "gtol"}


def changed(architecture, place, value):
    """A copy with one value replaced, or removed."""
    holder = made = copy.deepcopy(architecture)
    for key in place[:-1]:
        holder = holder[key]
    if value is GONE:
        del holder[place[-1]]
    else:
        holder[place[-1]] = value
    return made


def with_reals(value):
    """The same with whole numbers as reals where a real is meant."""
    if isinstance(value, dict):
        return {key: float(v) if key in REAL and type(v) is int else with_reals(v) for key, v in value.items()}
    return [with_reals(v) for v in value] if isinstance(value, list) else value


def check_change(path, good, made):
    """Refused, or understood just as it was written: saved again, the architecture is the same."""
    model = load(path, forge(made, good[3]))
    if isinstance(model, str):
        return False
    model.save(path)
    for entry in made["graph"]["layers"]:
        if entry.get("activation", "") is None:
            entry["activation"] = "linear"  # a value with two spellings, as is the shape of a vector
        if type(entry.get("shape")) is int:
            entry["shape"] = [entry["shape"]]
    assert json.dumps(architecture_in(path), sort_keys=True) == json.dumps(with_reals(made), sort_keys=True)
    return True


def test_every_field_removed(path, good):
    _, _, architecture, tensors = good
    for place in list(places(architecture)):
        made = changed(architecture, place, GONE)
        if place[-1] == "class":
            refused(path, forge(made, tensors), "class of ")
        elif isinstance(place[-1], str):
            refused(path, forge(made, tensors), f"missing ['{place[-1]}']")
        else:
            check_change(path, good, made)


WRONG = [None, [], [0], {}, {"class": "Constant", "value": 0}, True, False, "x", "os.system", "", "\ud800", "\x00"]
NUMBERS = [-1, 0, 1, 2**31, 2**63, 2**70, 10**4000, 1.5, 1e308, float("nan"), float("inf"), -float("inf")]


def test_every_value_replaced(path, good):
    """A file may hold another model. It never holds a value that a user could not have given."""
    _, _, architecture, _ = good
    understood = set()
    for place in list(places(architecture)):
        for value in WRONG + NUMBERS:
            if check_change(path, good, changed(architecture, place, value)):
                understood.add(next(key for key in reversed(place) if isinstance(key, str)))
    settings = {"seed", "epochs", "updates", "name", "activation", "inputs", "output", "metrics", "layer", "shape"}
    settings |= {"use_bias", "trainable", "gradient_accumulation_steps", "epsilon_hat", "decay_steps", "warmup_steps"}
    settings |= {f"{array}_{part}" for array in ("kernel", "bias") for part in ("initializer", "regularizer")}
    assert understood <= REAL | settings


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)


@given(data=st.data())
def test_any_json_anywhere(path, good, data):
    place = data.draw(st.sampled_from(list(places(good[2]))))
    check_change(path, good, changed(good[2], place, data.draw(JSON)))


INPUT = {"class": "Input", "shape": [4], "name": None}
ADD = {"class": "Add", "name": None}
FLAT = {"class": "Flatten", "name": None}
JOIN = {"class": "Concatenate", "name": None}
WIDE = INPUT | {"shape": [2**31 - 1]}
DENSE = config.describe("layer", nn.Dense(3, "relu", True, "zeros", "zeros"), layers.CLASSES)
SGD = config.describe("optimizer", nn.SGD(0.1), optimizers.CLASSES)
CONSTANT = {"class": "Constant", "value": 0.1}
STEPS = config.describe("rate", nn.StepDecay(0.1, 2), config.PARTS)
TRAINING = {"optimizer": SGD, "loss": "mse", "metrics": []}
SMALL = {"weights.dense_1.kernel": np.ones((4, 3), "f4"), "weights.dense_1.bias": np.ones(3, "f4")}
MANY = 100_001


def network(layers=(FLAT,), nodes=({"layer": 1, "inputs": [0]},), inputs=(0,), output=None, **more):
    """An architecture: an Input of 4 and whatever is given."""
    graph = {"layers": [INPUT, *layers], "nodes": [node(layer=0), *nodes], "inputs": list(inputs)}
    graph["output"] = len(nodes) if output is None else output
    rest = {"kind": "Model", "dtype": "float32", "seed": 0, "epochs": 0, "updates": 0, "training": None}
    return rest | {"graph": graph} | more


def node(*inputs, layer=1):
    return {"layer": layer, "inputs": list(inputs)}


def chain(kinds):
    kinds = list(kinds)
    return network(kinds, [node(k, layer=k + 1) for k in range(len(kinds))])


def layer(kind=FLAT, **changes):
    return network([kind | changes])


def training(**changes):
    return network(training=TRAINING | changes)


def sgd(**changes):
    return training(optimizer=SGD | changes)


LIES = {
    "class by import": (layer(**{"class": "os.system"}), "unknown class of layer 1 'os.system'; known: Input, Dense,"),
    "class of Python": (layer(**{"class": "__import__"}), "unknown class of layer 1 '__import__'"),
    "class to import": (layer(**{"class": "antigravity"}), "unknown class of layer 1 'antigravity'"),
    "class of another table": (layer(**{"class": "SGD"}), "unknown class of layer 1 'SGD'"),
    "base class": (layer(**{"class": "Layer"}), "unknown class of layer 1 'Layer'"),
    "class is a list": (layer(**{"class": ["Dense"]}), "class of layer 1 must be a string"),
    "kind": (network(kind="object"), "unknown kind of model 'object'; known: Model, Sequential"),
    "dtype": (network(dtype="object"), "unknown dtype 'object'; known: float32, float64"),
    "activation": (layer(DENSE, activation="eval"), "layer 1 is wrong: unknown activation 'eval'"),
    "initializer": (layer(DENSE, kernel_initializer="he"), "layer 1 is wrong: unknown initializer 'he'"),
    "initializer's class": (layer(DENSE, kernel_initializer=DENSE), "class of kernel_initializer of layer 1 'Dense'"),
    "unknown field": (layer(__class__="x"), "layer 1 must have the fields class, name; missing [], unexpected"),
    "optimizer": (sgd(**{"class": "eval"}), "unknown class of the optimizer 'eval'; known: SGD, Adam"),
    "optimizer by name": (training(optimizer="sgd"), "the optimizer must be an object"),
    "loss": (training(loss="system"), "unknown loss 'system'"),
    "loss of a class": (training(loss={"class": "SGD"}), "name of a loss with parameters must be a string"),
    "loss without its parameter": (
        training(loss={"name": "huber"}),
        "the loss must have the fields name, delta; missing",
    ),
    "loss's parameter": (training(loss={"name": "huber", "delta": -1}), "the loss is wrong: delta must be above 0"),
    "loss with a parameter too many": (training(loss={"name": "mse", "delta": 1}), "known: huber"),
    "slope": (layer({"class": "LeakyReLU", "name": None}, negative_slope="x"), "negative_slope must be a number"),
    "metric": (training(metrics=["system"]), "unknown metric 'system'"),
    "metric twice": (training(metrics=["mae", "mae"]), "the list of metrics names one twice"),
    "learning rate of a class": (sgd(learning_rate=DENSE), "unknown class of learning_rate of the optimizer 'Dense'"),
    "learning rate of a part": (sgd(learning_rate=CONSTANT), "must be a number or a schedule"),
    "initializer of a part": (layer(DENSE, kernel_initializer=STEPS), "initializer must be a string, not StepDecay"),
    "schedule": (sgd(learning_rate=STEPS | {"decay_steps": 0}), "is wrong: decay_steps must be at least 1, not 0"),
    "learning rate": (sgd(learning_rate=float("nan")), "optimizer is wrong: learning_rate must be above 0, not nan"),
    "huge number": (sgd(momentum=10**4000), "the optimizer is wrong: "),
    "many units": (layer(DENSE, units=2**31), "layer 1 is wrong: units must be at most 2147483647"),
    "shape": (network([INPUT | {"shape": [2**16, 2**16]}]), "layer 1 is wrong: shape (65536, 65536) has"),
    "shape of too many axes": (network([INPUT | {"shape": [1] * 9}]), "layer 1 is wrong: shape"),
    "name twice": (chain([FLAT | {"name": "a"}] * 2), "two layers are named 'a'"),
    "control character": (layer(name="a\x1b[2J"), r"printable characters, not 'a\x1b[2J'"),
    "half a character": (layer(name="\ud800"), "printable characters"),
    "long name": (layer(name="a" * 201), "name must be 1 to 200 printable characters"),
    "empty name": (layer(name=""), "name must be 1 to 200 printable characters"),
    "node after": (network(nodes=[node(2), node(0)]), "it names node 2, expected a whole number from 0 to 0"),
    "node itself": (network(nodes=[node(1)]), "it names node 1"),
    "negative node": (network(nodes=[node(-1)]), "it names node -1"),
    "true node": (network(nodes=[node(False)]), "it names node False"),
    "negative layer": (network(nodes=[node(0, layer=-1)]), "it names layer -1, expected a whole number from 0 to 1"),
    "layer after": (network(nodes=[node(0, layer=2)]), "it names layer 2"),
    "output after": (network(output=2), "it names node 2"),
    "no inputs": (network(inputs=[]), "a model needs one or more inputs"),
    "input twice": (network(inputs=[0, 0]), "only Input layers can be, each once"),
    "input is no Input": (network(inputs=[1]), "only Input layers can be"),
    "input with inputs": (network([INPUT], [node(0)]), "node 1 is an Input and cannot have inputs"),
    "input not given": (network([INPUT, ADD], [node(), node(0, 1, layer=2)]), "an Input of shape (4,) that the model"),
    "input not used": (network([INPUT], [node()], inputs=[0, 1]), "does not depend on the Input"),
    "no sources": (network(nodes=[node()]), "node 1 is wrong: Flatten takes one input, not 0"),
    "sources that do not fit": (network([ADD], [node(0)]), "node 1 is wrong: Add takes two or more inputs"),
    "units": (layer(DENSE, units=2**31 - 1), "kernel is F32 (4, 3), expected F32 (4, 2147483647)"),
    "square": (chain([DENSE | {"units": 2**31 - 1}] * 2), "its tensors do not fit"),
    "doubling": (
        network([JOIN], [node(k, k) for k in range(5000)]),
        "node 29 is wrong: the output's shape must be at most 2147483647",
    ),
    "wide sum": (
        network([WIDE, JOIN], [node(), node(1, 1, layer=2)]),
        "node 2 is wrong: the output's shape must be at most 2147483647",
    ),
    "seed": (network(seed=2**63), "seed must be at most 9223372036854775807"),
    "no seed": (network(seed=None), "seed must be a whole number"),
    "epochs": (network(epochs=2**62 + 1), "epochs must be at most"),
    "updates": (network(updates=-1), "updates must be at least 0"),
    "too many layers": (network([FLAT] * (MANY - 1)), "the list of layers has 100001 entries, expected at most 100000"),
    "too many nodes": (network(nodes=[node(0)] * (MANY - 1)), "the list of nodes has 100001 entries"),
    "too many sources": (network([ADD], [node(*[0] * MANY)]), "the inputs of node 1 has 100001 entries"),
    "too many metrics": (training(metrics=["mae"] * MANY), "the list of metrics has 100001 entries"),
    "text too long": (" " * 10_000_001, "its architecture has 10000001 characters, expected at most 10000000"),
}


@pytest.mark.parametrize("case", LIES)
def test_lies(path, case):
    architecture, sentence = LIES[case]
    before = set(sys.modules)
    refused(path, forge(architecture, SMALL), sentence)
    assert set(sys.modules) == before


KERNEL = "weights.dense_1.kernel"
TENSORS = {
    "missing": (lambda kernel: {}, "do not fit its architecture: missing ['weights.dense_1.kernel'], unexpected []"),
    "extra": (lambda kernel: {KERNEL: kernel, "x": kernel}, "missing [], unexpected ['x']"),
    "renamed": (lambda kernel: {KERNEL.upper(): kernel}, "missing ['weights.dense_1.kernel'], unexpected ['WEIGHTS"),
    "wider": (lambda kernel: {KERNEL: kernel.astype("f8")}, "kernel is F64 (2, 2), expected F32 (2, 2)"),
    "narrower": (lambda kernel: {KERNEL: kernel.astype("f2")}, "kernel is F16 (2, 2), expected F32 (2, 2)"),
    "integers": (lambda kernel: {KERNEL: kernel.view("i4")}, "kernel is I32 (2, 2), expected F32 (2, 2)"),
    "flat": (lambda kernel: {KERNEL: kernel.ravel()}, "kernel is F32 (4,), expected F32 (2, 2)"),
    "an axis more": (lambda kernel: {KERNEL: kernel[None]}, "kernel is F32 (1, 2, 2), expected F32 (2, 2)"),
    "larger": (lambda kernel: {KERNEL: np.ones((2, 3), "f4")}, "kernel is F32 (2, 3), expected F32 (2, 2)"),
    "empty": (lambda kernel: {KERNEL: np.ones((0, 2), "f4")}, "kernel is F32 (0, 2), expected F32 (2, 2)"),
}


@pytest.mark.parametrize("case", TENSORS)
def test_tensors_that_do_not_fit(path, good, case):
    _, _, architecture, tensors = good
    change, sentence = TENSORS[case]
    rest = {name: tensor for name, tensor in tensors.items() if name != KERNEL}
    refused(path, forge(architecture, rest | change(tensors[KERNEL])), sentence)


# -- much ado: files that want memory or time

LIMITED = """
import resource, sys, numbanet as nn
pages = int(open("/proc/self/statm").read().split()[0])
limit = pages * resource.getpagesize() + 100_000_000
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
for path in sys.argv[1:]:
    try:
        nn.load(path)
    except ValueError:
        print("refused")
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs /proc")
def test_small_files_take_little_memory(tmp_path):
    """No claim of a size is believed: all are refused by a process that may take 100 MB more than it has."""
    lies = [forge(architecture, SMALL) for architecture, _ in LIES.values()]
    contents = [*FOREIGN.values(), *(content for content in lies if len(content) < 1_000_000)]
    paths = [tmp_path / str(k) for k in range(len(contents))]
    for path, content in zip(paths, contents, strict=True):
        path.write_bytes(content)
    done = subprocess.run([sys.executable, "-c", LIMITED, *paths], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["refused"] * len(contents)


BULK = {
    "joins": lambda: network([ADD], [node(*[0] * 20_000), node(*[1] * 20_000)]),
    "sources": lambda: network([ADD], [node(*[0] * 99_999)] * 30),
    "sums": lambda: network([ADD], [node(k, k) for k in range(95_000)]),
    "names": lambda: chain({**FLAT, "name": f"flatten_{k}" if k % 2 else None} for k in range(40_000)),
    "layers": lambda: chain([DENSE] * 25_000),
    "long class": lambda: layer(**{"class": "D" * 9_900_000}),
    "long name": lambda: layer(name="D" * 9_900_000),
    "fields": lambda: layer(**{f"f{k}": 0 for k in range(300_000)}),
    "lists": lambda: '{"kind": [' + "[]," * 3_300_000 + "[]]}",
    "digits": lambda: '{"seed": ' + "9" * 9_900_000 + "}",
    "depth": lambda: "[" * 9_900_000,
}
TRUE = {"joins", "sources", "sums", "names"}


@pytest.mark.compiled  # without a coverage tracer's fivefold time
@pytest.mark.parametrize("case", BULK)
def test_large_files_take_little_time(path, case):
    content = forge(BULK[case]())
    began = time.process_time()
    found = load(path, content)
    assert time.process_time() - began < 5
    assert (not isinstance(found, str)) == (case in TRUE)
