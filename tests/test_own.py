"""Users' own activations and losses: what is checked when they are given, what they are known by, files and copies."""

import copy
import math
import os
import pickle
import warnings
from collections import namedtuple

import numpy as np
import pytest
from conftest import unchanged
from forging import architecture_in, forge
from own import hubers, hubers_slope, network, numeric, samples, swish, swish_slope

import numbanet as nn
from numbanet.kernels import jit
from numbanet.kernels.function import Function, key_of, reason

needs_jit = pytest.mark.skipif(not jit.JIT, reason="nothing is compiled")


# -- what is checked when a function is given


def test_right_slopes_are_taken():
    """Kinks: the slope of either side or one between; jumps; ends; whole numbers and truth values."""
    for at_zero in (0.0, 1.0, 0.5):
        nn.activation(lambda z: max(z, 0.0), lambda z, at_zero=at_zero: 1.0 if z > 0 else at_zero if z == 0 else 0.0)
    nn.activation(lambda z: z > 0, lambda z: 0)
    nn.activation(lambda z: math.log(z), lambda z: 1 / z)
    nn.activation(lambda z: min(max(z, -1), 1), lambda z: 1 if -1 < z < 1 else 0)
    nn.activation(lambda z: math.exp(z), lambda z: math.exp(z))
    nn.activation(lambda z: math.log1p(math.exp(-abs(z))) + max(z, 0), lambda z: 1 / (1 + math.exp(-z)))
    nn.loss(lambda y, t: abs(y - t), lambda y, t: np.sign(y - t))
    nn.loss(lambda y, t: -t * math.log(y) - (1 - t) * math.log(1 - y), lambda y, t: (y - t) / (y * (1 - y)))


def quarter(z):
    return z * z / 4


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: nn.activation(quarter, lambda z: 0.3), "slope(0.5) is 0.3, but quarter rises by 0.25 there"),
        (lambda: nn.activation(quarter, lambda z: math.nan), "slope(0.5) is nan, but quarter rises by 0.25 there"),
        (
            lambda: nn.activation(lambda z: max(z, 0.0), lambda z: 1.0 if z > 0 else 2.0 * (z == 0), name="f"),
            "slope(0) is 2, but f rises by 0 before and by 1 after it",
        ),
        (
            lambda: nn.activation(lambda z: abs(z), lambda z: z / abs(z), name="f"),
            "slope(0) is nan, but f rises by -1 before and by 1 after it",
        ),
        (
            lambda: nn.loss(lambda y, t: (y - t) ** 2, lambda y, t: y - t, name="f"),
            "slope(0.5, 0) is 0.5, but f rises by 1 there",
        ),
        (lambda: nn.activation(lambda z: math.nan, name="f"), "f is finite at none of the points from -20 to 20 tried"),
        (lambda: nn.activation(lambda z: nowhere, name="f"), "f(0.5) raises NameError: name 'nowhere' is not defined"),  # noqa: F821
        (lambda: nn.activation(lambda z: z, lambda z: 1, name=""), "name must be 1 to 200 printable characters"),
    ],
)
def test_what_is_wrong_is_told(make, sentence):
    with pytest.raises(ValueError) as told:
        make()
    assert sentence in str(told.value)


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: nn.activation(lambda y, t: y, name="f"), "f must take one number; it is f(y, t)"),
        (lambda: nn.loss(lambda y: y, name="f"), "f must take two numbers, an output and its target; it is f(y)"),
        (lambda: nn.activation(lambda z: z, lambda: 1), "slope must take one number; it is slope()"),
        (lambda: nn.activation(lambda z: None, name="f"), "f(0.5) must be a real number, not None"),
        (lambda: nn.activation(lambda z: 1j * z, name="f"), "f(0.5) must be a real number, not"),
        (lambda: nn.activation(lambda z: np.where(z > 0, z, 0), name="f"), "in place of np.where write"),
        (lambda: nn.activation("tanh"), "must be a plain Python function, as def or lambda make it, not 'tanh'"),
        (lambda: nn.activation(swish, 1.0), "slope must be a plain Python function, as def or lambda make it, not 1.0"),
        (lambda: nn.activation(swish, 0), "slope must be a plain Python function, as def or lambda make it, not 0"),
        (lambda: nn.activation(swish, np.zeros(2)), "slope must be a plain Python function"),
        (lambda: nn.Dense(1, nn.loss(hubers, hubers_slope)), "function or nn.activation(...), not <loss hubers>"),
        (
            lambda: network("tanh", nn.activation(swish, swish_slope)),
            "function or nn.loss(...), not <activation swish>",
        ),
        (lambda: nn.activation(nn.activation(swish, swish_slope), swish_slope), "has its slope and its name already"),
    ],
)
def test_what_is_of_the_wrong_type_is_told(make, sentence):
    with pytest.raises(TypeError) as told:
        make()
    assert sentence in str(told.value)


table = {"a": 1.0}


@needs_jit
@pytest.mark.parametrize(
    ("own", "sentence"),
    [
        (lambda z: z * math.fsum([z]), "Unknown attribute 'fsum' of type Module"),
        (lambda z: None if z > 100 else z, "it gives OptionalType(float32), expected a real number"),
        (lambda z: 1j * z if z > 100 else z, "it gives complex128, expected a real number"),
        (lambda z: z * table["a"], "table"),
    ],
)
def test_what_cannot_be_compiled_is_told_before_anything_changes(own, sentence, same):
    own = numeric(nn.activation, own, name="own")
    with pytest.raises(ValueError, match="Numba cannot compile own: ") as told:
        nn.Sequential([nn.Input(3), nn.Dense(2, own)])
    assert sentence in str(told.value)
    assert "\n" not in str(told.value)
    assert told.value.__suppress_context__  # no traceback of Numba's
    loss = numeric(nn.loss, lambda y, t: y - t if y < 100 else "far", name="own")
    model = network("tanh")
    before = unchanged(model)
    with pytest.raises(ValueError, match="Numba cannot compile own: "):
        model.compile("sgd", loss)
    with pytest.raises(ValueError, match="Numba cannot compile own: "):
        model.add(nn.Dense(3, own))
    same(before, unchanged(model))
    assert len(model.layers) == 5


def test_reasons_are_one_line():
    assert (
        reason(ValueError("Failed in nopython mode\n\x1b[1mNo way to do\x1b[0m:\n\n >>> this\nFile x"))
        == "No way to do: this"
    )
    assert reason(KeyError("f")) == "KeyError: 'f'"
    assert reason(AssertionError()) == "AssertionError: no reason given"
    assert len(reason(ValueError("x" * 1000))) == 300


# -- keys


def made(text, **scope):
    """The function f of some code."""
    scope |= {"math": math}
    exec(text, scope)
    return scope["f"]


def test_keys_are_of_code_and_of_what_it_uses():
    text = "def g(z):\n    return a * z\ndef f(z, c=2.0):\n    return g(z) + math.exp(z) + c"
    keys = {
        key_of(made(text, a=1.0)),
        key_of(made(text, a=2.0)),
        key_of(made(text, a=1)),
        key_of(made(text, a=-0.0)),
        key_of(made(text, a=0.0)),
        key_of(made(text, a=np.float32(1))),
        key_of(made(text, a=(1.0, 2.0))),
        key_of(made(text.replace("a *", "a +"), a=1.0)),
        key_of(made(text.replace("2.0", "3.0"), a=1.0)),
        key_of(made(text.replace("exp", "tanh"), a=1.0)),
        key_of(made(text, a=1.0), made(text, a=1.0)),
        key_of(made("def h(c):\n    return lambda z: c * z\nf = h(1.0)")),
        key_of(made("def h(c):\n    return lambda z: c * z\nf = h(2.0)")),
    }
    assert len(keys) == 13
    assert None not in keys
    assert key_of(made("\n\n" + text, a=1.0, b=3.0)) in keys  # another place, another global that it does not use


def test_functions_that_call_themselves_and_each_other_have_keys():
    text = "def f(z):\n    return z if z < 1 else g(z - 1)\ndef g(z):\n    return f(z) + 1"
    assert key_of(made(text)) == key_of(made(text)) is not None
    assert Function.of("f", made(text)).value(3.5) == 3.5


@pytest.mark.parametrize("a", [[1.0], os.path, np.ones(3), namedtuple("Pair", "a b")(1.0, 2.0)])
def test_what_may_change_unseen_has_no_key(a):
    assert key_of(made("def f(z):\n    return a", a=a)) is None
    one, other = (Function.of("f", made("def f(z):\n    return a", a=a)) for _ in range(2))
    assert one == one
    assert one != other


def test_functions_are_taken_as_they_are():
    """Later changes of globals and closures need another nn.activation; the old one stays what it was."""
    text = "def h(c):\n    def f(z):\n        return a * c * z\n    return f\nf = h(c)"
    f = made(text, a=3.0, c=2.0)
    old = nn.activation(f, lambda z: 6.0)
    f.__globals__["a"] = 5.0
    f.__closure__[0].cell_contents = 1.0
    new = nn.activation(f, lambda z: 5.0)
    six, five = (nn.Sequential([nn.Input(3), nn.Activation(own)]).predict(np.ones((1, 3))) for own in (old, new))
    assert six.tolist() == [[6, 6, 6]]
    assert five.tolist() == [[5, 5, 5]]
    assert old != new
    assert old == copy.deepcopy(old)
    assert new == nn.activation(made(text, a=5.0, c=1.0), lambda z: 5.0)
    assert len({old, copy.deepcopy(old), new}) == 2
    a = np.array([2.0])
    own = nn.activation(made("def f(z):\n    return a[0] * z", a=a), lambda z: 2.0)
    a[0] = 3.0
    assert nn.Sequential([nn.Input(1), nn.Activation(own)]).predict([[1.0]]) == 2


# -- files and copies


def saved(tmp_path, activation=None, loss=None):
    model = network(activation or nn.activation(swish, swish_slope), loss or nn.loss(hubers, hubers_slope))
    X, y = samples()
    model.fit(X, y, batch_size=8, epochs=2, verbose=0)
    model.save(tmp_path / "m.safetensors")
    return model, tmp_path / "m.safetensors"


def goes_on(model, other):
    """Does training go on to the same bits?"""
    X, y = samples()
    for one in (model, other):
        one.fit(X, y, batch_size=8, epochs=1, verbose=0)
    return model._theta.tobytes() == other._theta.tobytes() and str(model) == str(other)


def test_files_hold_names_only(tmp_path):
    model, path = saved(tmp_path)
    assert b"swish" in path.read_bytes()
    assert b"sigmoid" not in path.read_bytes()
    own = {"swish": nn.activation(swish, swish_slope), "hubers": nn.loss(hubers, hubers_slope)}
    loaded = nn.load(path, custom_objects=own | {"unused": swish})
    assert loaded.loss == model.loss
    assert goes_on(model, loaded)
    loaded.save(tmp_path / "again.safetensors")
    assert np.array_equal(nn.load(tmp_path / "again.safetensors", own).get_weights()[0], loaded.get_weights()[0])
    loaded = numeric(nn.load, path, {"swish": swish, "hubers": hubers})  # bare functions, whose slopes are not known
    assert np.array_equal(nn.load(path, own).predict(samples()[0]), loaded.predict(samples()[0]))


def test_files_tell_what_they_need(tmp_path):
    _, path = saved(tmp_path)
    with pytest.raises(ValueError) as told:
        nn.load(path)
    assert "give them: nn.load(path, custom_objects={'swish': nn.activation(...), 'hubers': nn.loss(...)})" in str(
        told.value
    )
    with pytest.raises(ValueError, match=r"custom_objects=\{'hubers': nn.loss"):
        nn.load(path, {"swish": nn.activation(swish, swish_slope)})
    with pytest.raises(ValueError, match=r"activation must be a function or nn\.activation"):
        nn.load(path, {"swish": nn.loss(hubers, hubers_slope), "hubers": nn.loss(hubers, hubers_slope)})
    with pytest.raises(TypeError, match=r"custom_objects\['swish'\] must be a function, not 'swish'"):
        nn.load(path, {"swish": "swish"})
    with pytest.raises(TypeError, match="custom_objects must be a dict from names to functions"):
        nn.load(path, [swish])


def test_two_functions_of_one_name_are_not_saved(tmp_path):
    one, other = (nn.activation(lambda z, k=k: k * z, lambda z, k=k: k) for k in (1.0, 2.0))
    model = nn.Sequential([nn.Input(2), nn.Dense(2, one), nn.Dense(2, other)], seed=0)
    with pytest.raises(ValueError, match="two activation functions of the model are called '<lambda>'"):
        model.save(tmp_path / "m.safetensors")
    assert not list(tmp_path.iterdir())
    twin = copy.deepcopy(model)  # which needs no names
    X = np.ones((1, 2))
    assert np.array_equal(twin.predict(X), model.predict(X))
    assert twin.layers[1].activation is one


def test_copies_and_pickles():
    model = network(nn.activation(swish, swish_slope), nn.loss(hubers, hubers_slope))
    assert goes_on(model, pickle.loads(pickle.dumps(model)))
    assert goes_on(model, copy.deepcopy(model))
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # who has been told is not told again
        own = numeric(nn.activation, swish)
        assert pickle.loads(pickle.dumps(own)) == own
    model = network(nn.activation(lambda z: z, lambda z: 1.0))
    assert goes_on(model, copy.deepcopy(model))
    with pytest.raises((pickle.PicklingError, AttributeError)):
        pickle.dumps(model)


@pytest.mark.parametrize(
    ("there", "named", "sentence"),
    [
        ("activation", {"function": "activation", "name": 5}, "the name of a function must be a string, not 5"),
        (
            "activation",
            {"function": "optimizer", "name": "f"},
            "function of the kind 'optimizer'; known: activation, loss",
        ),
        ("activation", {"function": ["loss"], "name": "f"}, "function of the kind ['loss']; known: activation, loss"),
        ("activation", {"function": "activation", "name": "x" * 300}, "must be 1 to 200 printable characters"),
        (
            "activation",
            {"function": "activation", "name": "os.system"},
            "custom_objects={'os.system': nn.activation(...)}",
        ),
        ("activation", {"function": "activation"}, "class of activation of layer 1 must be a string, not None"),
        ("units", {"function": "activation", "name": "swish"}, "units must be a whole number, not <activation swish>"),
        ("class", {"function": "activation", "name": "swish"}, "must be a string, not <activation swish>"),
        ("activation", {"function": "loss", "name": "hubers"}, "function or nn.activation(...), not <loss hubers>"),
    ],
)
def test_files_that_name_functions_wrongly_are_refused(tmp_path, there, named, sentence):
    _, path = saved(tmp_path)
    architecture = architecture_in(path)
    architecture["graph"]["layers"][1][there] = named
    path.write_bytes(forge(architecture))
    with pytest.raises(ValueError, match="is not a numbanet model that can be loaded: ") as told:
        nn.load(path, {"swish": nn.activation(swish, swish_slope), "hubers": nn.loss(hubers, hubers_slope)})
    assert sentence in str(told.value)
