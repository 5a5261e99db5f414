"""The command line, as a person types it."""

import gzip
import re
import subprocess
import sys

import numpy as np
import pytest
from test_data import idx

import numbanet as nn
from numbanet import cli, kernels


@pytest.fixture
def run(capsys):
    """Run the command line in this process; returns status, standard output and standard error."""

    def command(*words):
        try:
            status = cli.main(list(words))
        except SystemExit as stop:
            status = stop.code
        shown = capsys.readouterr()
        return status, shown.out, shown.err

    return command


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A model of the digits, trained for three epochs."""
    path = str(tmp_path_factory.mktemp("model") / "digits.safetensors")
    assert cli.main(["train", "digits", "--epochs", "3", "--layers", "32", "--quiet", "--save", path]) == 0
    return path


@pytest.mark.compiled
@pytest.mark.slow
def test_digits_without_options_reach_97_percent(run):
    """The README's first command."""
    status, out, err = run("train", "digits")
    assert status == 0
    assert float(out.split("accuracy ")[1].split("%")[0]) >= 97
    assert "epoch 40/40" in err


@pytest.mark.parametrize("words", [["numbanet"], [sys.executable, "-m", "numbanet"]])
def test_both_ways_to_start(words):
    done = subprocess.run([*words, "--version"], capture_output=True, text=True, check=True)
    assert done.stdout == f"numbanet {nn.__version__}\n"


def test_train_evaluate_predict_info(run, model, tmp_path):
    (_, _), (X, y) = nn.data.load_digits()
    loaded = nn.load(model)
    status, out, _ = run("evaluate", model, "digits")
    assert status == 0
    assert out.startswith(f"accuracy {100 * loaded.evaluate(X, y)['accuracy']:.2f}%")
    assert "359 samples" in out
    assert "all 1797 samples" in run("evaluate", model, "digits", "--all")[1]

    status, out, _ = run("predict", model, "digits")
    rows = np.array([[float(cell) for cell in line.split(",")] for line in out.splitlines()])
    assert status == 0
    assert rows.shape == (1797, 10)
    assert np.allclose(rows[-359:], loaded.predict(X), rtol=1e-6)  # the held-out part stands at the end
    assert np.allclose(rows.sum(axis=1), 1, atol=1e-5)
    classes = run("predict", model, "digits", "--classes")[1].split()
    assert [int(label) for label in classes] == rows.argmax(axis=1).tolist()

    for name in ("out.npy", "out.csv"):
        assert run("predict", model, "digits", "--output", str(tmp_path / name))[:2] == (0, "")
    assert np.allclose(np.load(tmp_path / "out.npy"), np.loadtxt(tmp_path / "out.csv", delimiter=","), rtol=1e-6)

    status, out, _ = run("info", model)
    assert status == 0
    for word in ("dense_1 (Dense, relu)", "2,410 parameters", "train plan", "adam_update"):
        assert word in out
    assert "predict plan" in run("info", model, "--mode", "predict")[1]


def test_options_reach_the_network(run, tmp_path):
    path = str(tmp_path / "m.safetensors")
    text = "--layers 7,5 --activation tanh --epochs 2 --batch-size 10 --lr 0.5 --optimizer sgd --seed 9"
    words = [*text.split(), "--dtype", "float64", "--quiet", "--threads", "1", "--save", path]
    assert run("train", "moons", *words)[0] == 0
    model = nn.load(path)
    assert [array.shape for array in model.get_weights()] == [(2, 7), (7,), (7, 5), (5,), (5, 2), (2,)]
    assert (model.seed, model.dtype, model.optimizer) == (9, "float64", nn.SGD(0.5))
    assert model.updates == 2 * 32  # 320 samples in batches of 10
    assert model.layers[1].activation == "tanh"


def test_lbfgs(run, tmp_path):
    """It ends by itself, its plan computes gradients, and it has no learning rate."""
    path = str(tmp_path / "m.safetensors")
    words = ["--layers", "4", "--optimizer", "lbfgs", "--dtype", "float64", "--quiet", "--save"]
    status, out, _ = run("train", "xor", "--epochs", "500", *words, path)
    assert status == 0
    assert "of 500 epochs" in out
    assert nn.load(path).epochs < 500
    assert "gradient plan" in run("info", path)[1]
    status, _, error = run("train", "xor", "--lr", "0.1", *words, path)
    assert status == 1
    assert "LBFGS has no learning rate" in error


@pytest.mark.parametrize("name", ["xor", "two_spirals", "moons", "circles", "blobs", "sine"])
def test_every_named_data_set_trains(run, name):
    status, out, _ = run("train", name, "--epochs", "2", "--quiet", "--layers", "8")
    assert status == 0
    assert ("mae" if name == "sine" else "accuracy") in out


@pytest.mark.parametrize(("name", "panels"), [("moons", 3), ("sine", 2)])
def test_train_draws_a_picture(run, tmp_path, name, panels, monkeypatch):
    """Loss and metric, with the validation's curves, and the boundary where there is one; training stays the same."""
    drawn, training = [], nn.plot.training
    monkeypatch.setattr(nn.plot, "training", lambda *given: drawn.append(training(*given)))
    words = ["train", name, "--epochs", "3", "--quiet", "--layers", "8", "--validation-split", "0.25"]
    status, out, err = run(*words, "--plot", str(tmp_path / "a.png"))
    assert (status, err) == (0, "")
    assert f"drawn in {tmp_path / 'a.png'}" in out
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
    (figure,) = drawn
    assert len(figure.axes) == panels
    assert [len(axes.lines) for axes in figure.axes[:2]] == [2, 2]
    assert [len(line.get_xdata()) for line in figure.axes[0].lines] == [3, 3]
    assert run(*words)[1].splitlines()[1] == out.splitlines()[1]


def test_no_hidden_layer(run):
    assert run("train", "blobs", "--layers", "", "--epochs", "1", "--quiet")[0] == 0


def test_a_table(run, tmp_path):
    X, y = nn.data.blobs(samples=100)
    lines = [f"{a},{b},{('red', 'green', 'blue')[k]}" for (a, b), k in zip(X, y, strict=True)]
    (tmp_path / "t.csv").write_text("\n".join(["a,b,colour", *lines]))
    table, path = str(tmp_path / "t.csv"), str(tmp_path / "m.safetensors")
    status, out, _ = run(
        "train",
        table,
        "--target",
        "colour",
        "--epochs",
        "30",
        "--lr",
        "0.05",
        "--layers",
        "8",
        "--quiet",
        "--save",
        path,
    )
    assert status == 0
    assert "accuracy 100.00%" in out
    assert len(run("predict", path, table, "--classes")[1].split()) == 100
    (tmp_path / "u.csv").write_text("\n".join(line.rsplit(",", 1)[0] for line in lines))  # features alone
    assert run("predict", path, str(tmp_path / "u.csv"))[1] == run("predict", path, table)[1]
    assert "accuracy" in run("evaluate", path, table, "--all")[1]


@pytest.mark.compiled
def test_arrays_and_images(run, tmp_path):
    (X, y), (X_test, y_test) = nn.data.load_digits()
    images = (X * 255).astype(np.uint8).reshape(-1, 8, 8)
    images_test = (X_test * 255).astype(np.uint8).reshape(-1, 8, 8)
    np.savez(tmp_path / "a.npz", x_train=images, y_train=y, x_test=images_test, y_test=y_test)
    (tmp_path / "train-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx(images, 0x08)))
    (tmp_path / "train-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx(y.astype(np.uint8), 0x08)))
    for name in ("a.npz", "train-images-idx3-ubyte.gz"):
        status, out, err = run("train", str(tmp_path / name), "--epochs", "8", "--quiet", "--layers", "64")
        assert status == 0, err
        assert float(out.split("accuracy ")[1].split("%")[0]) > 90


@pytest.mark.parametrize(
    ("words", "status", "sentence"),
    [
        (["train", "digit"], 1, "unknown data set 'digit'; known: digits, xor"),
        (["train", "no.csv"], 1, "no file no.csv"),
        (["train", "digits", "--epochs", "-1"], 1, "epochs must be at least 0"),
        (["train", "digits", "--batch-size", "0"], 1, "batch_size must be at least 1"),
        (["train", "digits", "--lr", "0"], 1, "learning_rate must be above 0"),
        (["train", "digits", "--layers", "a"], 2, "expected sizes like 128,64"),
        (["train", "digits", "--activation", "rellu"], 2, "invalid choice: 'rellu'"),
        (["train", "digits", "--threads", "0"], 1, "0 threads: expected 1 to"),
        (["train", "digits", "--save", "/no/such/directory/m"], 1, "no directory /no/such/directory"),
        (["train", "digits", "--plot", "/no/such/directory/a.png"], 1, "no directory /no/such/directory"),
        (["train", "digits", "--plot", "a.jpg"], 1, "unknown kind of picture '.jpg'; known: .png, .svg, .pdf"),
        (["train", "digits", "--validation-split", "1"], 1, "validation_split must be at least 0 and below 1"),
        (["predict", "no.safetensors", "digits"], 1, "No such file or directory: no.safetensors"),
        (["predict", __file__, "digits"], 1, "is not a numbanet model"),
        (["info", __file__], 1, "is not a numbanet model"),
        ([], 2, "COMMAND"),
    ],
)
def test_errors_are_sentences(run, words, status, sentence):
    found, out, err = run(*words)
    assert found == status
    assert out == ""
    assert sentence in err
    assert "Traceback" not in err


def test_data_that_does_not_fit_the_model(run, model):
    status, _, err = run("evaluate", model, "moons")
    assert status == 1
    assert "X has shape (80, 2), expected (n, 64)" in err
    assert run("predict", model, "digits", "--output", "out.txt")[0] == 1


def test_a_reader_that_stops_early(model):
    code = f"numbanet predict {model} digits | head -1"
    done = subprocess.run(["bash", "-o", "pipefail", "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.count("\n") == 1


@pytest.mark.compiled
def test_ctrl_c_saves_and_says_so(interruptible, tmp_path):
    """Interrupted training ends within about a second, saves, and exits with 130."""
    import signal
    import time

    path = tmp_path / "m.safetensors"
    words = [sys.executable, "-m", "numbanet", "train", "digits", "--epochs", "1000000", "--save", str(path)]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        seen = ""
        while "loss=" not in seen:  # the bar shows a finished epoch: training is under way
            seen += process.stderr.read(1)
        began = time.monotonic()
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)
    finally:
        process.kill()
    assert time.monotonic() - began < 3
    assert process.returncode == 130
    assert "Traceback" not in err
    assert "of 1000000 epochs" in out
    assert nn.load(path).updates > 0


def test_warmup(run):
    assert "kernels and loops compiled" in run("warmup")[1]


def test_training_predicting_and_evaluating_on_the_gpu(run, tmp_path):
    """In the simulator a few samples; the file does not remember where it was trained."""
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "some.npz", X=rng.random((12, 3)), y=np.arange(12) % 2)
    data, path = str(tmp_path / "some.npz"), str(tmp_path / "model.safetensors")
    words = ["--layers", "4", "--epochs", "2", "--quiet", "--save", path]
    status, out, _ = run("train", data, "--device", "cuda", *words)
    assert status == 0
    assert "2 of 2 epochs" in out
    found = {device: run("predict", path, data, "--device", device) for device in ("cpu", "cuda")}
    assert found["cuda"][0] == 0
    rows = {device: np.loadtxt(shown[1].splitlines(), delimiter=",") for device, shown in found.items()}
    assert np.allclose(rows["cpu"], rows["cuda"], rtol=1e-5)
    assert run("evaluate", path, data, "--device", "cuda")[0] == 0


def test_info_lists_the_devices(run):
    status, out, _ = run("info", "--devices")
    assert status == 0
    cpu, cuda = out.splitlines()
    assert re.fullmatch(r"cpu: \d+ threads, vectors of (128|256|512) bits", cpu)
    assert cuda.startswith("cuda: ")
    assert len(cuda) > len("cuda: ")
    assert run("info") == (1, "", "numbanet: info needs a model's file, or --devices\n")


def test_a_device_that_is_not_there(run, monkeypatch, model):
    def none():
        raise kernels.DeviceError("device 'cuda' cannot be used: no GPU was found")

    monkeypatch.setattr(kernels.load("cuda"), "require", none)
    assert run("predict", model, "digits", "--device", "cuda") == (
        1,
        "",
        "numbanet: device 'cuda' cannot be used: no GPU was found\n",
    )
    status, out, _ = run("info", "--devices")
    assert status == 0
    assert "cuda: device 'cuda' cannot be used" in out
