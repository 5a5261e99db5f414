"""Models in files: what is saved comes back bit for bit, and a file under its own name is always whole."""

import errno
import os
import signal
import stat
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from conftest import unchanged
from networks import disturbed

import numbanet as nn
from numbanet import losses, metrics
from numbanet.io import checkpoint, files

ROWS = 50  # with batches of 16 the last one is short
NOBODY = 65534  # the user and the group of that name


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


@pytest.mark.parametrize(
    ("loss", "shown"),
    [(nn.Huber(1.5), "huber(delta=1.5)"), ("huber", "huber(delta=1.0)"), ("kld", "kl_divergence")],
)
def test_parameters_of_formulas_are_saved(tmp_path, loss, shown):
    layers = [nn.LeakyReLU(0.3), nn.Dense(4, "silu"), nn.ELU(alpha=2, name="elu"), nn.Activation("softmax")]
    model = nn.Sequential([nn.Input(3), nn.Dense(4), *layers], seed=0)
    model.compile("adam", loss)
    model.save(tmp_path / "m")
    loaded = nn.load(tmp_path / "m")
    is_same(model, loaded)
    assert repr(loaded) == repr(model)
    assert shown in repr(model)
    X, y = np.random.default_rng(0).random((2, 5, 4))
    for one in (model, loaded):
        one.fit(X[:, :3], y, verbose=0)
    assert model._theta.tobytes() == loaded._theta.tobytes()


def test_an_architecture_too_large_for_a_file_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoint, "MOST_JSON", 500)
    with pytest.raises(ValueError, match=r"architecture takes \d+ characters, a file has 500 at most"):
        chain("float32").save(tmp_path / "model")
    assert os.listdir(tmp_path) == []


def fail(problem):
    def failing(*arguments, **more):
        raise problem

    return failing


# -- names of files


def test_kinds_of_paths(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sub").mkdir()
    model = trained(chain)
    longest = "\U0001f9e0" * 63  # 252 bytes of the 255 that a name may have
    for path in (str(tmp_path / "a"), tmp_path / "b", "c", Path("sub") / "d", b"e", "with space é", ".hidden", longest):
        model.save(path)
        is_same(model, nn.load(path))
    assert sorted(os.listdir(tmp_path)) == sorted(["a", "b", "c", "e", "sub", "with space é", ".hidden", longest])
    assert os.listdir("sub") == ["d"]
    for wrong in (None, 3):
        for call in (model.save, nn.load):
            with pytest.raises(TypeError, match="expected str, bytes or"):
                call(wrong)


def test_saving_over_a_file(tmp_path):
    """The new model replaces what was there, whatever it was; links are followed and permissions stay."""
    (tmp_path / "real").write_bytes(b"x" * 100_000)
    (tmp_path / "real").chmod(0o600)
    (tmp_path / "link").symlink_to("real")
    for model in (trained(images), trained(chain), trained(chain, optimizer=None)):
        model.save(tmp_path / "link")
        is_same(model, nn.load(tmp_path / "real"))
    assert (tmp_path / "link").is_symlink()
    assert stat.S_IMODE((tmp_path / "real").stat().st_mode) == 0o600
    assert sorted(os.listdir(tmp_path)) == ["link", "real"]


@pytest.mark.parametrize("where", ["missing/m", "file/m", "", "directory", "pipe", "n" * 256])
def test_places_where_no_file_can_be(tmp_path, monkeypatch, where):
    monkeypatch.chdir(tmp_path)
    Path("file").write_bytes(b"content")
    Path("directory").mkdir()
    os.mkfifo("pipe")
    for call in (chain("float32").save, nn.load):
        with pytest.raises(OSError) as caught:
            call(where)
        assert str(caught.value).endswith(f": {where!r}")
        assert caught.value.errno in (errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EINVAL, errno.ENAMETOOLONG)
    assert sorted(os.listdir()) == ["directory", "file", "pipe"]
    assert Path("pipe").is_fifo()


def test_devices_are_not_replaced(monkeypatch):
    """Renaming over /dev/null would break the whole system for a privileged user."""
    monkeypatch.setattr(files.os, "replace", fail(AssertionError("a device would have been replaced")))
    with pytest.raises(OSError, match="expected a file: '/dev/null'"):
        files.write_whole("/dev/null", b"")
    assert Path("/dev/null").is_char_device()


@contextmanager
def as_nobody(folder):
    """Permissions do not stop the superuser, who becomes somebody else meanwhile; others stay who they are."""
    if os.geteuid() != 0:
        yield
        return
    os.chown(folder, NOBODY, NOBODY)
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


def test_a_directory_without_permission():
    model = chain("float32")
    with tempfile.TemporaryDirectory() as folder:  # pytest's own stand in a directory that only their user may enter
        os.chmod(folder, 0o500)
        with as_nobody(folder), pytest.raises(PermissionError, match="model"):
            model.save(Path(folder, "model"))
        assert os.listdir(folder) == []
        os.chmod(folder, 0o700)


# -- whole or not at all


def half_written(path, mode):
    """A file on a disk that is full after half of the content."""
    file = open(path, mode)  # noqa: SIM115
    write = file.write

    class Half:
        def write(self, content):
            write(content[: len(content) // 2])
            raise FULL

        def __enter__(self):
            return self

        def __exit__(self, *exception):
            file.close()

    return Half()


FULL = OSError(errno.ENOSPC, "No space left on device")


FAILING = [
    (files, "open", fail(FULL)),
    (files, "open", half_written),
    (files.os, "fsync", fail(FULL)),
    (files.os, "replace", fail(FULL)),
    (files.os, "fsync", fail(KeyboardInterrupt())),
]


@pytest.mark.parametrize(
    ("module", "step", "failing", "exists"),
    [(*step, exists) for step in FAILING for exists in (True, False)]
    + [(files.shutil, "copymode", fail(FULL), True)],  # there is a mode to copy only where a file is replaced
)
def test_a_failing_save_leaves_all_as_it_was(tmp_path, monkeypatch, same, module, step, failing, exists):
    model, target = trained(images), tmp_path / "model"
    if exists:
        trained(chain).save(target)
    before, content = unchanged(model), {path: path.read_bytes() for path in tmp_path.iterdir()}
    monkeypatch.setattr(module, step, failing, raising=False)
    with pytest.raises((OSError, KeyboardInterrupt)) as caught:
        model.save(target)
    monkeypatch.undo()
    if caught.type is OSError:
        assert str(caught.value) == f"[Errno {errno.ENOSPC}] No space left on device: {str(target)!r}"
    same(before, unchanged(model))
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == content
    model.save(target)
    is_same(model, nn.load(target))


def test_order_of_steps(tmp_path, monkeypatch):
    """All bytes are on the disk before the name is, and the name before save returns: else a power cut loses them."""
    steps, sync, replace = [], os.fsync, os.replace

    def recorded_sync(handle):
        found = os.fstat(handle)
        steps.append("directory" if stat.S_ISDIR(found.st_mode) else f"file of {found.st_size} bytes")
        sync(handle)

    def recorded_replace(source, target):
        assert Path(source).parent == Path(target).parent
        steps.append("rename")
        replace(source, target)

    monkeypatch.setattr(files.os, "fsync", recorded_sync)
    monkeypatch.setattr(files.os, "replace", recorded_replace)
    trained(chain).save(tmp_path / "model")
    assert steps == [f"file of {(tmp_path / 'model').stat().st_size} bytes", "rename", "directory"]


def run(code, *arguments):
    """Run Python code in another process and return what it prints."""
    command = [sys.executable, "-c", code, *map(str, arguments)]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parent)}
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


FULL_DISK = """
import resource, sys, numbanet as nn
model = nn.Sequential([nn.Input(100), nn.Dense(100)], seed=1)
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
try:
    model.save(sys.argv[1])
except OSError as problem:
    print(problem)
"""


def test_full_disk(tmp_path):
    """The kernel's own limit on the size of files stands in for a disk that is full."""
    model = trained(chain)
    model.save(tmp_path / "model")
    expected = f"[Errno {errno.EFBIG}] {os.strerror(errno.EFBIG)}: {str(tmp_path / 'model')!r}"
    assert run(FULL_DISK, tmp_path / "model") == expected
    is_same(model, nn.load(tmp_path / "model"))
    assert os.listdir(tmp_path) == ["model"]


KILLED = """
import os, random, signal, sys, time, numbanet as nn
folder, target, random = sys.argv[1], sys.argv[1] + "/model", random.Random(0)
models = [nn.Sequential([nn.Input(500), nn.Dense(500)], seed=seed, dtype="float64") for seed in (1, 2)]
models[0].save(target)
expected = [model.get_weights()[0].tobytes() for model in models]
kills = interrupted = 0
while kills < 12 or (interrupted < 3 and kills < 60):
    child = os.fork()
    while not child:
        for model in models:
            model.save(target)
    time.sleep(random.uniform(0, 0.03))
    os.kill(child, signal.SIGKILL)
    assert os.waitpid(child, 0)[1] == signal.SIGKILL
    kills += 1
    rest = [name for name in os.listdir(folder) if name != "model"]
    interrupted += bool(rest)
    for name in rest:
        assert name.startswith(".model.") and name.endswith(".tmp"), name
        os.unlink(f"{folder}/{name}")
    model = nn.load(target)
    assert model.get_weights()[0].tobytes() == expected[model.seed - 1]
print(interrupted >= 3)
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL") or not hasattr(os, "fork"), reason="needs POSIX")
def test_kill_during_save(tmp_path):
    """Children that save two models in turn over one file are killed: it always holds one of the two, whole."""
    assert run(KILLED, tmp_path) == "True"
