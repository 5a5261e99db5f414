"""Users' own activations and losses: kernels, networks with them, and what is compiled for them."""

import math
import os
import subprocess
import sys
import threading

import checks
import numba
import numpy as np
import pytest
from own import WITHOUT_SLOPE, hubers, hubers_slope, network, numeric, samples, swish, swish_slope

import numbanet as nn
from numbanet.kernels import FUNCTIONS, jit
from numbanet.kernels.function import Function
from numbanet.pace import Pace

SHAPES = [(1, 1), (5, 3), (4, 65)]
needs_jit = pytest.mark.skipif(not jit.JIT, reason="nothing is compiled")


@pytest.fixture
def empty_cache(tmp_path, monkeypatch):
    """What is compiled from here on is in no cache yet."""
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path))


def source(name):
    """What the kernel of an op gets here."""
    pair = (hubers, hubers_slope) if name == "function_loss" else (swish, swish_slope)
    return Function.of(name, *pair)


def operands(name, shape, seed=0):
    rng = np.random.default_rng(seed)
    if name == "function_loss":
        y, target, scores = rng.normal(size=shape), rng.normal(size=shape), rng.random((shape[0], 2))
        return {"y": y, "target": target, "dy": np.zeros(shape), "scores": scores}
    x = 2 * rng.normal(size=shape)
    return {"x": x, "y": 0 * x} if name == "function_forward" else {"x": x, "dy": rng.normal(size=shape), "dx": 0 * x}


# -- kernels


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", sorted(FUNCTIONS))
def test_agrees_with_the_reference(name, shape, dtype, device):
    checks.check_forward(name, operands(name, shape), {"width": shape[1], "source": source(name)}, dtype)


@pytest.mark.parametrize("name", ["function_backward", "function_loss"])
def test_gradients_have_no_padding_of_steps_before(name):
    bench = checks.Bench(name, operands(name, (5, 3)), {"width": 3, "source": source(name)})
    bench.pad("dy" if name == "function_loss" else "dx", np.nan)
    bench.run()  # which looks at the padding


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", ["function_backward", "function_loss"])
def test_slopes_from_differences_agree_with_the_reference(name, dtype, device):
    given, exact = operands(name, (5, 3)), source(name)
    given = {key: value.astype(dtype).astype(float) for key, value in given.items()}
    without = Function.of(name, exact.value)
    found = checks.Bench(name, given, {"width": 3, "source": without}, dtype).run()
    for key, wanted in checks.expected(name, given, {"width": 3, "source": exact}).items():
        assert np.abs(found[key] - wanted).max() <= {"float32": 3e-6, "float64": 1e-9}[dtype]


def test_gradients():
    checks.check_backward("function_forward", operands("function_forward", (5, 3)),
                          {"width": 3, "source": source("function_forward")})  # fmt: skip
    checks.check_loss("function_loss", operands("function_loss", (5, 3)),
                      {"width": 3, "source": source("function_loss")})  # fmt: skip


def test_slopes_from_differences_at_the_ends_of_a_function(device):
    """Of the square root of 1 - x**2: on one side of -1 and 1 it has no value, and a steep slope on the other."""
    x = np.array([[-1.0, 0.6, 1.0]])
    given = {"x": x, "dy": np.ones((1, 3)), "dx": 0 * x}
    ends = Function.of("half a circle", lambda x: math.sqrt(1 - x * x))
    found = checks.Bench("function_backward", given, {"width": 3, "source": ends}).run()["dx"][0]
    assert found[1] == pytest.approx(-0.75, abs=1e-9)
    assert 100 < found[0] == -found[2] < math.inf


# -- networks


def test_a_swish_with_and_without_slope_is_that_of_the_equations(device):
    """Predictions, loss and gradients, with and without a slope."""
    X, y = samples(6)
    for activation in (nn.activation(swish, swish_slope), numeric(nn.activation, swish)):
        model = network(activation, dtype="float64").to(device)
        k1, b1, k2, b2, k3, b3 = model.get_weights()
        value = np.vectorize(swish)
        wanted = value(value(X @ k1 + b1) @ k2 + b2) @ k3 + b3
        assert np.abs(model.predict(X) - wanted).max() <= 1e-13
        assert np.abs(model.predict(X[:2]) - wanted[:2]).max() <= 1e-13  # the quick way
        assert model.evaluate(X, y)["loss"] == pytest.approx(np.square(wanted - y).mean(), rel=1e-12)
        if device == "cpu":
            assert nn.gradient_check(model, X, y).error <= 1e-6


def test_own_losses_train(device):
    """With weights of training beside the built-in metrics; the loss is the mean over outputs and rows."""
    X, y = samples(16 if device == "cuda" else 64)
    for loss in (nn.loss(hubers, hubers_slope), numeric(nn.loss, hubers)):
        model = network("tanh", loss, metrics=["mae"]).to(device)
        off = np.abs(model.predict(X) - y)
        before = model.evaluate(X, y)
        assert before["loss"] == pytest.approx(np.where(off < 1, off**2 / 2, off - 0.5).mean(), rel=1e-5)
        assert before["mae"] == pytest.approx(off.mean(), rel=1e-5)
        model.fit(X, y, batch_size=8, epochs=3 if device == "cuda" else 50, verbose=0)
        assert model.evaluate(X, y)["loss"] < (1 if device == "cuda" else 0.3) * before["loss"]
        if device == "cpu":
            assert nn.gradient_check(model, X[:8], y[:8]).error <= 1e-6


def test_both_devices_train_alike():
    X, y = samples(10)
    ours = network(nn.activation(swish, swish_slope), nn.loss(hubers, hubers_slope))
    theirs = network(nn.activation(swish, swish_slope), nn.loss(hubers, hubers_slope)).to("cuda")
    for model in (ours, theirs):
        model.fit(X, y, batch_size=4, epochs=2, verbose=0)
    for a, b in zip(ours.get_weights(), theirs.get_weights(), strict=True):
        assert np.abs(a - b).max() <= 1e-5


@pytest.mark.compiled
def test_threads_give_the_same_bits(monkeypatch):
    X, y = samples(64)
    found = []
    for parallel in (False, True):
        monkeypatch.setattr(Pace, "next", lambda self, left, parallel=parallel: (parallel, left))
        model = network(nn.activation(swish, swish_slope), nn.loss(hubers, hubers_slope))
        model.fit(X, y, batch_size=16, epochs=3, verbose=0)
        found.append(model._theta.tobytes())
    assert found[0] == found[1]


@needs_jit
def test_threads_that_compile_at_once_compute_the_same(empty_cache):
    X, _ = samples(4)
    found, own = [], nn.activation(lambda z: z + 0.125, lambda z: 1.0)
    workers = [threading.Thread(target=lambda: found.append(network(own).predict(X).tobytes())) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert len(found) == 4
    assert len(set(found)) == 1


def test_functions_that_look_like_a_fused_pair_stay_themselves():
    """A function called relu or softmax is not the built-in one: no op is fused away."""
    own = nn.activation(lambda z: 2.0 * z, lambda z: 2.0, name="softmax")
    model = nn.Sequential([nn.Input(2), nn.Dense(2, own)], seed=0)
    model.compile("sgd", "cross_entropy")
    ops = [op.name for op in model.plan().ops]
    assert "function_forward" in ops
    assert "function_backward" in ops
    assert "cross_entropy" in ops
    forward = next(op for op in model.plan().ops if op.name == "function_forward")
    assert forward.operands["x"] is not forward.operands["y"]  # which the gradient reads


def test_names_are_shown():
    model = network(nn.activation(swish, swish_slope), nn.loss(hubers, hubers_slope))
    assert "Dense, swish)" in str(model)
    assert str(model).endswith("hubers")
    assert "<activation swish>" in repr(model.layers[1])
    assert "numeric slope" in repr(numeric(nn.activation, swish))
    assert "function=swish" in str(model.plan())


def test_bare_functions_are_taken_too():
    X, y = samples(5)
    model = numeric(network, swish, nn.loss(hubers, hubers_slope))
    same = network(nn.activation(swish, swish_slope), nn.loss(hubers, hubers_slope))
    assert np.array_equal(model.predict(X), same.predict(X))
    with pytest.warns(UserWarning, match=WITHOUT_SLOPE) as told:
        model.compile("sgd", hubers)
    assert [warning.filename for warning in told] == [__file__]  # it is the user's line that is shown
    assert model.evaluate(X, y) == same.evaluate(X, y)


@pytest.mark.parametrize("make", [np.maximum, math.tanh, int, nn.Adam])
def test_only_plain_functions_are_taken(make):
    with pytest.raises(TypeError, match="must be a plain Python function, as def or lambda make it, not"):
        nn.activation(make)


def test_functions_that_their_user_compiled_are_taken():
    @numba.njit
    def twice(z):
        return 2 * z

    model = network(nn.activation(lambda z: twice(z) / 2, lambda z: 1.0))
    assert np.array_equal(
        model.predict(samples()[0]), network(nn.activation(lambda z: z, lambda z: 1)).predict(samples()[0])
    )
    own = nn.activation(twice, lambda z: 2.0)
    assert own.name == "twice"


# -- the cache


@needs_jit
def test_a_new_function_compiles_its_own_kernels_only(empty_cache):
    X, y = samples()
    network("tanh", "mse").fit(X, y, verbose=0)
    network(nn.activation(swish, swish_slope), nn.loss(hubers, hubers_slope)).fit(X, y, verbose=0)
    before, shift = jit.compilations(), 0.75
    own = nn.activation(lambda z: z + shift, lambda z: 1.0)
    model = network(own)
    assert jit.compilations() == before + 2  # forward; and backward, as the model is compiled
    model.fit(X, y, verbose=0)
    model.evaluate(X, y)
    model.predict(X)
    model.predict(X[:1])
    assert jit.compilations() == before + 2
    network(nn.activation(lambda z: z + shift, lambda z: 1.0, name="another")).fit(X, y, verbose=0)
    assert jit.compilations() == before + 2


SCRIPT = """
import math
import numpy as np, numbanet as nn
from numbanet.kernels import jit
X, y = np.arange(30.).reshape(10, 3) / 30, np.arange(10.) / 10
def train(own):
    before = jit.compilations()
    model = nn.Sequential([nn.Input(3), nn.Dense(5, nn.activation(own)), nn.Dense(1)], seed=0)
    model.compile("sgd", nn.loss(far, lambda y, t: 2 * (y - t)))
    model.fit(X, y, epochs=2, verbose=0)
    print(jit.compilations() - before, float(model.get_weights()[0].sum()))
def far(y, t):
    return (y - t) ** 2
for c in (1.5, 2.5):
    train(lambda z: math.tanh(c * z))
c = 1.5
train(lambda z: math.sin(c * z))
for c in (np.array([1.5]), np.array([2.5])):
    train(lambda z: math.tanh(c[0] * z))
"""


def run(code, cache, **environment):
    environment = os.environ | {"NUMBA_CACHE_DIR": str(cache), "PYTHONWARNINGS": "ignore"} | environment
    command = [sys.executable, "-"]  # the functions are defined in <stdin>
    done = subprocess.run(command, input=code, capture_output=True, text=True, check=True, env=environment)
    assert done.stderr == ""
    words = done.stdout.split()
    return list(map(int, words[::2])), list(map(float, words[1::2]))


@needs_jit
def test_functions_are_cached_between_processes(tmp_path):
    """Not those that use arrays, which may change unseen: they are compiled in every process, and right."""
    counts, totals = run(SCRIPT, tmp_path)
    assert counts[0] > 3
    assert counts[1:] == [2, 2, 2, 2]  # another number, another function, arrays: forward and backward
    assert len(set(totals)) == 3
    assert totals[0] == totals[3]
    assert totals[1] == totals[4]
    assert run("\n" + SCRIPT, tmp_path) == ([0, 0, 0, 2, 2], totals)
    counts, plain = run(SCRIPT, tmp_path, NUMBA_DISABLE_JIT="1")
    assert counts == [0] * 5
    assert plain == pytest.approx(totals, rel=1e-5)
