"""The README is run: its examples here, its commands by .ci/run. Its tables name all there is."""

import re
from pathlib import Path

import pytest

import numbanet as nn
from numbanet import initializers, layers, losses, metrics, optimizers, schedules, sources

README = (Path(__file__).parent.parent / "README.md").read_text()


def block(name):
    """The code between two markers."""
    return re.search(rf"<!-- {name} -->\n```\w+\n(.*?)```\n<!-- /{name} -->", README, re.DOTALL)[1]


@pytest.mark.compiled
@pytest.mark.parametrize("name", ["example", "graph", "diagnostics", "transfer", "function"])
def test_examples_run(name, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    exec(compile(block(name), name, "exec"), {})
    shown = capsys.readouterr().out
    if name == "example":
        assert float(re.search(r"'accuracy': ([\d.]+)", shown)[1]) >= 0.95
        assert (tmp_path / "digits.safetensors").exists()
        assert len(block(name).splitlines()) == 12
    elif name == "diagnostics":
        assert "vanishing: the delta of dense_1" in shown
        assert (tmp_path / "gradients.png").exists()
    elif name == "transfer":
        assert float(re.search(r"'accuracy': ([\d.]+)", shown)[1]) >= 0.75
    elif name == "function":
        assert (tmp_path / "own.safetensors").exists()
    else:
        assert float(re.search(r"error ([\d.e-]+)", shown)[1]) < 1e-6


@pytest.mark.compiled
def test_the_example_of_callbacks_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    exec(compile(block("fitting"), "fitting", "exec"), {})
    epochs, loss = re.match(r"(\d+) \{'loss': \[([\d.]+)\]", capsys.readouterr().out).groups()
    assert 5 < int(epochs) < 100
    assert float(loss) < 0.3
    assert nn.load(tmp_path / "best.safetensors").epochs < int(epochs)


def row(name):
    """The names in a row of the table of what there is."""
    return set(re.findall(r"\w+", re.search(rf"^\| {name} \| (.*) \|$", README, re.MULTILINE)[1]))


def test_the_table_names_all_there_is():
    assert row("layers") == set(layers.CLASSES)
    assert row("activations") == set(layers.ACTIVATIONS)
    data = re.search(r"Data is (.*?), or a \.csv", README)[1]
    assert set(re.findall(r"`(\w+)`", data)) == set(sources.NAMES)
    assert row("losses") == set(losses.LOSSES) | {make.__name__ for make in losses.MAKERS.values()}
    assert row("metrics") == set(metrics.METRICS)
    assert row("initialisers") == set(initializers.INITIALIZERS) | set(initializers.CLASSES)
    assert row("optimisers") == {"momentum", "nesterov", "centered", *optimizers.CLASSES}
    assert row("schedules") == set(schedules.CLASSES)
    assert row("callbacks") == set(nn.callbacks.CLASSES)
    assert all(callable(getattr(nn.data, name)) for name in row("data"))
    assert all(callable(getattr(nn.Sequential, name)) for name in row("transfer"))


def test_the_tree_names_all_modules():
    package = Path(nn.__file__).parent
    tree = README[README.index("src/numbanet/\n") : README.index("tests/  ")]
    for path in package.rglob("*.py"):
        if path.stem not in ("__init__", "__main__", "names", "validate", "warmup"):
            assert re.search(rf"\b{path.stem}\b", tree), f"{path.stem} is not in the README's tree"
