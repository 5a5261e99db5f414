"""Pictures: what is drawn where, files that appear whole, and nothing global touched."""

import io
import os
import subprocess
import sys
from itertools import pairwise

import matplotlib
import numpy as np
import pytest
from matplotlib.figure import Figure

import numbanet as nn
from numbanet import plot
from numbanet.layers import ACTIVATIONS


@pytest.fixture(scope="module")
def moons():
    """A trained model with two inputs, its history and its data."""
    X, y = nn.data.moons()
    model = nn.Sequential([nn.Input(2), nn.Dense(16, "tanh"), nn.Dense(2, "softmax")], seed=0)
    model.compile(nn.Adam(0.02), "cross_entropy", ["accuracy"])
    return model, model.fit(X, y, epochs=30, validation_split=0.2, verbose=0), X, y


def images(units=5):
    model = nn.Sequential([nn.Input(64), nn.Dense(units), nn.Dense(3, "softmax", name="out")], seed=0)
    model.compile("sgd", "cross_entropy")
    return model


def check_dress(figure, titles):
    """Every panel has a title, labelled axes and letters that can be read, and none is cut off."""
    panels = [axes for axes in figure.axes if axes.get_label() != "<colorbar>"]
    assert [axes.get_title() for axes in panels] == titles
    figure.draw_without_rendering()
    for axes in panels:
        assert axes.get_xlabel()
        assert axes.get_xlabel() == "z" or axes.get_ylabel()
        texts = [axes.title, axes.xaxis.label, axes.yaxis.label, *axes.get_xticklabels(), *axes.get_yticklabels()]
        assert min(text.get_fontsize() for text in texts) >= 10
        box = axes.get_tightbbox()
        assert box.x0 >= 0
        assert box.y0 >= 0
        assert box.x1 <= figure.bbox.x1
        assert box.y1 <= figure.bbox.y1
        ticks = [label.get_window_extent() for label in axes.get_xticklabels() if label.get_text()]
        assert all(a.x1 < b.x0 for a, b in pairwise(ticks))  # none on another


def test_history(moons):
    _, history, _, _ = moons
    figure = plot.history(history)
    assert isinstance(figure, Figure)
    check_dress(figure, ["loss", "accuracy"])
    for axes, name in zip(figure.axes, ("loss", "accuracy"), strict=True):
        training, validation = axes.lines
        assert training.get_xdata().tolist() == list(range(1, 31))
        assert training.get_ydata().tolist() == history.history[name]
        assert validation.get_ydata().tolist() == history.history[f"val_{name}"]
        assert [text.get_text() for text in axes.get_legend().get_texts()] == ["training", "validation"]
        assert validation.get_linestyle() == "--"


def test_history_of_a_dict_with_gaps_and_scales():
    rates = {"learning_rate": [0.1, 0.001]}
    figure = plot.history({"loss": [100.0, 1.0, float("nan")], "mse": [1.0, 2.0], "mae": [0.0], **rates})
    check_dress(figure, ["loss", "mse", "mae", "learning_rate"])
    assert [axes.get_yscale() for axes in figure.axes] == ["log", "linear", "linear", "log"]
    assert figure.axes[0].get_ylabel() == "loss (log scale)"


def test_boundary_between_classes(moons):
    model, _, X, y = moons
    figure = plot.decision_boundary(model, X, y)
    check_dress(figure, ["decision boundary"])
    (axes,) = figure.axes
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["class 0", "class 1"]
    drawn = [np.asarray(points.get_offsets()) for points in axes.collections if points.get_label().startswith("class")]
    assert all(np.allclose(points, X[y == k]) for k, points in enumerate(drawn))
    (lines, _) = (found for found in axes.collections if not found.get_label().startswith("class"))
    (path,) = lines.get_paths()
    probabilities = model.predict(path.vertices)
    assert len(path.vertices) > 50
    assert np.abs(probabilities[:, 0] - 0.5).max() < 0.05  # the line lies where neither is ahead
    one_hot = plot.decision_boundary(model, X, np.eye(2)[y]).axes[0]
    assert len(one_hot.collections) == len(axes.collections)


def test_boundary_of_many_classes():
    X, y = np.random.default_rng(0).normal(size=(60, 2)), np.arange(60) % 20
    model = nn.Sequential([nn.Input(2), nn.Dense(20, "softmax")], seed=0)
    figure = plot.decision_boundary(model, X, y)
    check_dress(figure, ["decision boundary"])
    assert len(figure.axes[0].get_legend().get_texts()) == 20


def test_boundary_of_a_single_output():
    """Half way between the two targets; of other values there is no boundary."""
    X = np.array([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
    model = nn.Sequential([nn.Input(2), nn.Dense(1)], seed=0)
    model.set_weights([[[2.0], [0.0]], [0.0]])  # 2 x, so 1 at x = 1/2
    figure = plot.decision_boundary(model, X, [0, 0, 2, 2])
    check_dress(figure, ["decision boundary"])
    axes, bar = figure.axes
    assert bar.get_ylabel() == "output"
    (line,) = (found for found in axes.collections if not found.get_label().startswith("target"))
    assert np.allclose(line.get_paths()[0].vertices[:, 0], 0.5)
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["target 0", "target 2"]
    values = plot.decision_boundary(model, X, [0.0, 0.5, 1.0, 2.0]).axes[0]
    assert values.get_legend() is None
    (points,) = values.collections
    points.update_scalarmappable()
    (raster,) = values.images
    wanted = raster.to_rgba(np.array([0.0, 0.5, 1.0, 2.0]))  # as the bar of the raster says
    assert np.allclose(points.get_facecolors(), wanted)


def test_training_shows_the_boundary_where_there_is_one(moons):
    model, history, X, y = moons
    check_dress(plot.training(history, model, X, y), ["loss", "accuracy", "decision boundary"])
    check_dress(plot.training(history, images(), X, y), ["loss", "accuracy"])
    values = nn.Sequential([nn.Input(2), nn.Dense(2)], seed=0)
    check_dress(plot.training(history, values, X, X), ["loss", "accuracy"])


def test_weights_as_images():
    """Unit k of five stands at its place: its image, with gaps between, all on one scale."""
    model = images()
    kernel = model.get_weights()[0]
    figure = plot.weights(model)
    check_dress(figure, ["dense_1.kernel: 5 units, 8 x 8 inputs each"])
    axes, bar = figure.axes
    assert bar.get_ylabel() == "weight"
    canvas, across = axes.images[0].get_array(), len(axes.get_xticks())
    for unit in range(5):
        top, left = unit // across * 9, unit % across * 9
        assert np.allclose(canvas[top : top + 8, left : left + 8], kernel[:, unit].reshape(8, 8))
    assert axes.images[0].get_clim() == (-np.abs(kernel).max(), np.abs(kernel).max())
    assert plot.weights(images(130)).axes[0].get_title().startswith("dense_1.kernel: 100 of 130 units")


def test_weights_as_a_heat_map():
    model = images()
    for layer in ("out", 2, -1, model.layers[2]):
        figure = plot.weights(model, layer)
        check_dress(figure, ["out.kernel: 5 inputs, 3 units"])
        assert np.allclose(figure.axes[0].images[0].get_array(), model.get_weights()[2])
    assert "4 x 16 inputs" in plot.weights(model, shape=(4, 16)).axes[0].get_title()
    pixels = nn.Sequential([nn.Input((3, 5, 1)), nn.Flatten(), nn.Dense(4)], seed=0)
    assert "3 x 5 inputs" in plot.weights(pixels).axes[0].get_title()


def test_all_activation_functions():
    """A panel each with value and slope: against central differences, away from kinks."""
    figure = plot.activation_functions()
    names = [f"{name} of (z, 0)" if name.endswith("softmax") else name for name in ACTIVATIONS]
    check_dress(figure, names)
    for axes in figure.axes:
        curve, slope = axes.lines
        z, values, slopes = curve.get_xdata(), curve.get_ydata(), slope.get_ydata()
        numeric = (values[2:] - values[:-2]) / (z[2:] - z[:-2])
        bends = np.abs(np.diff(slopes[:-1])) + np.abs(np.diff(slopes[1:])) > 0.06
        jumps = np.abs(values[2:] - values[:-2]) > 0.5
        assert np.count_nonzero(bends | jumps) < 40
        assert np.abs(numeric - slopes[1:-1])[~(bends | jumps)].max() < 0.01, axes.get_title()
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["f(z)", "slope f'(z)"]


def test_one_activation_function_in_numbers():
    z = np.linspace(-4, 4, 401)
    (axes,) = plot.activation_functions("tanh").axes
    assert np.allclose(axes.lines[0].get_ydata(), np.tanh(z), rtol=1e-12)
    assert np.allclose(axes.lines[1].get_ydata(), 1 - np.tanh(z) ** 2, rtol=1e-9, atol=1e-12)
    assert [axes.get_title() for axes in plot.activation_functions(["relu", "linear"]).axes] == ["relu", "linear"]


def test_gradient_flow():
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((40, 8)), rng.integers(0, 3, 40)
    layers = [nn.Dense(8, "sigmoid") for _ in range(20)]
    model = nn.Sequential([nn.Input(8), *layers, nn.Dense(3, "softmax")], seed=0)
    model.compile("sgd", "cross_entropy")
    layers[0].trainable = False
    report = nn.gradient_report(model, X, y, verbose=False)
    for figure in (plot.gradient_flow(report), plot.gradient_flow(model, X, y)):
        check_dress(figure, ["gradients: vanishing"])
        (axes,) = figure.axes
        assert axes.get_xscale() == "log"
        ends = [bar.get_x() + bar.get_width() for bar in axes.patches]
        assert np.allclose(ends[1:], [row.gradient for row in report.rows[1:]], rtol=1e-6)
        assert axes.lines[0].get_xdata()[1:].tolist() == [row.delta for row in report.rows[1:]]
        assert [label.get_text() for label in axes.get_yticklabels()] == [row.layer for row in report.rows]
        assert [text.get_text() for text in axes.texts] == ["frozen"]


def test_long_names_are_shortened():
    """What is drawn keeps its place; a name keeps its two ends."""
    name = "encoder_" + "of_many_words_" * 5 + "1"
    model = nn.Sequential([nn.Input(3), nn.Dense(1, name=name), nn.Dense(2, "softmax")], seed=0)
    model.compile("sgd", "cross_entropy")
    figure = plot.gradient_flow(model, np.eye(3), [0, 1, 0])
    check_dress(figure, ["gradients: healthy"])
    (axes,) = figure.axes
    assert [text.get_text() for text in axes.get_yticklabels()] == ["encoder_of_many...f_many_words_1", "dense_1"]
    assert axes.bbox.width > figure.bbox.width / 2
    check_dress(plot.weights(model), ["encoder_of_many...words_1.kernel: 3 inputs, 1 unit"])
    check_dress(plot.weights(model, -1), ["dense_1.kernel: 1 input, 2 units"])
    own = nn.activation(lambda z: 2 * z, lambda z: 2, name=name)
    check_dress(plot.activation_functions(own), ["encoder_of_many...f_many_words_1"])


def test_files_appear_whole_or_not_at_all(tmp_path, monkeypatch):
    history = {"loss": [2.0, 1.0]}
    for kind, begin in ((".png", b"\x89PNG"), (".svg", b"<?xml"), (".pdf", b"%PDF")):
        plot.history(history, path=tmp_path / f"a{kind}")
        assert (tmp_path / f"a{kind}").read_bytes().startswith(begin)
    before = (tmp_path / "a.png").read_bytes()
    pixels = matplotlib.image.imread(io.BytesIO(before))
    assert pixels.shape == (600, 780, 4)

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        plot.history({"loss": [9.0]}, path=tmp_path / "a.png")
    assert (tmp_path / "a.png").read_bytes() == before
    assert sorted(os.listdir(tmp_path)) == ["a.pdf", "a.png", "a.svg"]


def test_nothing_global_is_touched(moons, monkeypatch):
    """No pyplot, so no open figures and no backend; settings stay as they are."""
    model, history, X, y = moons
    monkeypatch.delitem(sys.modules, "matplotlib.pyplot", raising=False)
    settings = dict(dict.items(matplotlib.rcParams))  # as they lie there: to ask for the backend would load pyplot
    plot.training(history, model, X, y)
    plot.weights(model)
    plot.activation_functions("relu")
    plot.gradient_flow(model, X, y)
    assert "matplotlib.pyplot" not in sys.modules
    assert dict(dict.items(matplotlib.rcParams)) == settings


@pytest.mark.parametrize(
    ("call", "kind", "sentence"),
    [
        (lambda m: plot.history([1.0]), TypeError, "history must be what fit returns or its dict, not list"),
        (lambda m: plot.history({}), ValueError, "the history has no epochs"),
        (lambda m: plot.history({"loss": []}), ValueError, "the history has no epochs"),
        (lambda m: plot.history({"loss": 3.0}), TypeError, r"history\['loss'\] must be a list of numbers, not 3"),
        (lambda m: plot.history({"loss": ["a"]}), TypeError, r"history\['loss'\] must be a list of numbers"),
        (lambda m: plot.history({"loss": [1.0]}, "a.gif"), ValueError, "unknown kind of picture '.gif'; known: .png"),
        (lambda m: plot.history({"loss": [1.0]}, "/no/such/a.png"), OSError, "no directory /no/such"),
        (lambda m: plot.decision_boundary(3, 0, 0), TypeError, "model must be a numbanet model, not int"),
        (lambda m: plot.decision_boundary(m, 0, 0), ValueError, r"samples of shape \(64,\); .* needs \(2,\)"),
        (lambda m: plot.weights(m, "dense"), ValueError, "unknown layer with a kernel 'dense'; known: dense_1, out"),
        (lambda m: plot.weights(m, 0), ValueError, "unknown layer with a kernel 'input_1'"),
        (lambda m: plot.weights(m, 9), ValueError, "layer 9: the model has 3 layers, from 0 to 2"),
        (lambda m: plot.weights(m, nn.Dense(3)), ValueError, "the model has no such Dense; known: dense_1, out"),
        (lambda m: plot.weights(m, shape=(8, 9)), ValueError, r"shape \(8, 9\) does not fit 64 inputs"),
        (lambda m: plot.activation_functions("rellu"), ValueError, "unknown activation 'rellu'"),
        (lambda m: plot.activation_functions([]), ValueError, "no activation to draw"),
        (lambda m: plot.gradient_flow(3), TypeError, "model must be a numbanet model, not int"),
    ],
)
def test_bad_arguments(call, kind, sentence):
    with pytest.raises(kind, match=sentence):
        call(images())


def test_a_model_without_kernels_has_no_weights_to_draw():
    with pytest.raises(ValueError, match="no layer of the model has a kernel"):
        plot.weights(nn.Sequential([nn.Input(3), nn.Activation("relu")]))


def test_a_sentence_where_matplotlib_is_missing(tmp_path):
    """The command line says so before it trains."""
    code = "import sys; sys.modules['matplotlib'] = None; from numbanet import cli; sys.exit(cli.main(sys.argv[1:]))"
    words = [sys.executable, "-c", code, "train", "xor", "--plot", str(tmp_path / "a.png")]
    done = subprocess.run(words, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("numbanet: pictures need matplotlib: pip install 'numbanet[plot]'")
    assert "Traceback" not in done.stderr
    assert not os.listdir(tmp_path)
