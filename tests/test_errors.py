"""Bad input gets a sentence, and the model is as it was before."""

import numpy as np
import pytest
from conftest import unchanged

import numbanet as nn

X = np.random.default_rng(0).random((12, 4)).astype(np.float32)
Y = np.arange(12) % 3


@pytest.fixture
def model():
    model = nn.Sequential([nn.Input(4), nn.Dense(5, "relu"), nn.Dense(3, "softmax")], seed=0)
    model.compile("adam", "cross_entropy", ["accuracy"])
    model.fit(X, Y, epochs=1, verbose=0)
    return model


def with_value(value, at=(3, 1)):
    bad = X.copy()
    bad[at] = value
    return bad


ONE_HOT = np.eye(3)[Y]
BAD_DATA = {
    "feature count": (X[:, :3], Y, r"X has shape \(12, 3\), expected \(n, 4\)"),
    "one sample": (X[0], Y[:1], r"X has shape \(4,\), expected \(n, 4\).*X\[None\]"),
    "three axes": (X[None], Y, r"X has shape \(1, 12, 4\)"),
    "scalar": (3.0, Y, r"X has shape \(\)"),
    "empty": (X[:0], Y[:0], r"X is empty: shape \(0, 4\)"),
    "empty list": ([], [], r"X has shape \(0,\)"),
    "nan in X": (with_value(np.nan), Y, r"X holds nan at index \(3, 1\)"),
    "inf in X": (with_value(np.inf), Y, r"X holds inf at index \(3, 1\)"),
    "-inf in X": (with_value(-np.inf), Y, r"X holds -inf at index \(3, 1\)"),
    "inf and -inf in X": (with_value([np.inf, -np.inf], (3, slice(0, 2))), Y, r"X holds inf at index \(3, 0\)"),
    "too large for float32": (X.astype(np.float64) * 1e300, Y, r"X holds .*e\+299 at index \(0, 0\), beyond float32"),
    "length": (X, Y[:11], r"X has 12 samples and y has 11"),
    "scalar target": (X, 1, r"X has 12 samples and y has 0"),
    "target shape": (X, np.zeros((12, 2)), r"y has shape \(12, 2\), expected \(12, 3\)"),
    "label too large": (X, Y + 1, r"labels from 1 to 3, expected 0 to 2"),
    "negative label": (X, Y - 1, r"labels from -1 to 1, expected 0 to 2"),
    "huge label": (X, Y + 2**62, r"expected 0 to 2"),
    "fractional label": (X, Y + 0.5, r"whole class numbers, not 0.5"),
    "nan label": (X, np.where(Y == 1, np.nan, Y), r"y holds nan at index \(1,\)"),
    "inf label": (X, np.where(Y == 1, np.inf, Y), r"y holds inf at index \(1,\)"),
    "nan target": (X, np.where(ONE_HOT == 1, np.nan, 0), r"y holds nan at index \(0, 0\)"),
    "not probabilities": (X, 2 * ONE_HOT, r"probabilities between 0 and 1.*0 to 2"),
    "label far too large": (X, Y + 1e30, r"whole class numbers, not 1e\+30"),
    "huge Python number": ([[10**400] * 4] * 12, Y, r"X holds a number beyond float64"),
    "ragged": ([[1, 2, 3, 4], [1, 2]], [0, 1], r"X is not an array"),
}
BAD_TYPES = {
    "strings": (X.astype(str), Y, r"X must hold real numbers, not str"),
    "string": ("digits", Y, r"X must hold real numbers, not str"),
    "string labels": (X, np.array(["a", "b", "c"])[Y], r"y must hold real numbers, not str"),
    "complex": (X * 1j, Y, r"X must hold real numbers, not complex64"),
    "objects": (np.array([[object()] * 4] * 12), Y, r"X must hold numbers, not Python objects"),
    "none": (X, None, r"y must hold real numbers, not None"),
    "dates": (np.zeros((12, 4), "M8[s]"), Y, r"X must hold real numbers, not datetime64"),
}
METHODS = ["fit", "evaluate", "train_on_batch"]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("case", BAD_DATA)
def test_bad_values(model, same, case, method):
    features, targets, sentence = BAD_DATA[case]
    before = unchanged(model)
    with pytest.raises(ValueError, match=sentence):
        getattr(model, method)(features, targets)
    same(before, unchanged(model))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("case", BAD_TYPES)
def test_bad_types(model, same, case, method):
    features, targets, sentence = BAD_TYPES[case]
    before = unchanged(model)
    with pytest.raises(TypeError, match=sentence):
        getattr(model, method)(features, targets)
    same(before, unchanged(model))


@pytest.mark.parametrize("case", [case for case in BAD_DATA if BAD_DATA[case][0] is not X])
def test_predict_refuses_the_same_samples(model, case):
    features, _, sentence = BAD_DATA[case]
    if "length" not in case:
        with pytest.raises(ValueError, match=sentence):
            model.predict(features)


@pytest.mark.parametrize(
    ("arguments", "kind", "sentence"),
    [
        ({"batch_size": -1}, ValueError, "batch_size must be at least 1, not -1"),
        ({"batch_size": 0}, ValueError, "batch_size must be at least 1, not 0"),
        ({"batch_size": 2.5}, TypeError, "batch_size must be a whole number, not 2.5"),
        ({"batch_size": True}, TypeError, "batch_size must be a whole number, not True"),
        ({"epochs": -1}, ValueError, "epochs must be at least 0, not -1"),
        ({"epochs": "3"}, TypeError, "epochs must be a whole number, not '3'"),
        ({"validation_split": 1.0}, ValueError, "validation_split must be at least 0 and below 1, not 1.0"),
        ({"validation_split": -0.1}, ValueError, "validation_split"),
        ({"validation_split": "half"}, TypeError, "validation_split must be a number"),
        ({"validation_data": X}, ValueError, r"validation_data must be a pair \(X, y\)"),
        ({"validation_data": (X, Y[:3])}, ValueError, "X has 12 samples and y has 3"),
        ({"shuffle": "yes"}, TypeError, "shuffle must be True or False"),
        ({"verbose": 3}, ValueError, "verbose must be at most 2"),
    ],
)
def test_bad_arguments_of_fit(model, same, arguments, kind, sentence):
    before = unchanged(model)
    with pytest.raises(kind, match=sentence):
        model.fit(X, Y, **arguments)
    same(before, unchanged(model))


@pytest.mark.parametrize("method", METHODS)
def test_not_compiled(method):
    model = nn.Sequential([nn.Input(4), nn.Dense(3)])
    with pytest.raises(ValueError, match=r"not compiled; call model.compile"):
        getattr(model, method)(X, Y)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (
            ("addam", "mse"),
            r"unknown optimizer 'addam'; known: sgd, adam, adamw, rmsprop, adagrad, lbfgs; did you mean 'adam'\?",
        ),
        (("adam", "crossentropy"), r"unknown loss 'crossentropy'; known: .*; did you mean 'cross_entropy'\?"),
        (("adam", None), r"compile needs a loss; known: "),
        (("adam", "mse", ["acuracy"]), r"unknown metric 'acuracy'; known: .*; did you mean 'accuracy'\?"),
        (("adam", "mse", ["mae", "mae"]), r"name one metric twice"),
        (("adam", "mse", 3), r"metrics must be a list of names, not 3"),
    ],
)
def test_unknown_names_in_compile(model, same, arguments, sentence):
    before = unchanged(model)
    with pytest.raises((ValueError, TypeError), match=sentence):
        model.compile(*arguments)
    same(before, unchanged(model))


@pytest.mark.parametrize(
    ("loss", "targets", "sentence"),
    [
        ("kl_divergence", 2 * ONE_HOT, r"probabilities between 0 and 1 for this loss, not 0 to 2"),
        ("poisson", ONE_HOT - 1, r"counts or rates from 0 for this loss, not -1 to 0"),
        ("hinge", 2 * ONE_HOT, r"-1 and 1, or 0 and 1, for this loss, not 0 to 2"),
        ("hinge", ONE_HOT / 2, r"-1 and 1, or 0 and 1, for this loss, not 0.5"),
        ("hinge", ONE_HOT - ONE_HOT[::-1], r"not all three of -1, 0 and 1"),
        ("hinge", Y, r"y has shape \(12,\), expected \(12, 3\)"),
    ],
)
@pytest.mark.parametrize("method", METHODS)
def test_targets_that_a_loss_does_not_take(model, same, loss, targets, sentence, method):
    model.compile("adam", loss)
    before = unchanged(model)
    with pytest.raises(ValueError, match=sentence):
        getattr(model, method)(X, targets)
    same(before, unchanged(model))


def test_cross_entropy_of_one_output():
    """-t log(y) alone would push every output to 1."""
    model = nn.Sequential([nn.Input(4), nn.Dense(1, "sigmoid")])
    with pytest.raises(ValueError, match="cross_entropy needs two or more outputs, the network has 1; try binary"):
        model.compile("adam", "cross_entropy")


@pytest.mark.parametrize(
    ("build", "kind", "sentence"),
    [
        (lambda: nn.Dense(3, "rellu"), ValueError, r"unknown activation 'rellu'; known: .*did you mean 'relu'\?"),
        (lambda: nn.Dense(3, 7), TypeError, r"activation must be a string, not 7"),
        (lambda: nn.Dense(3, "sillu"), ValueError, r"unknown activation 'sillu'; known: "),
        (lambda: nn.LeakyReLU(-0.1), ValueError, "negative_slope must be at least 0, not -0.1"),
        (lambda: nn.LeakyReLU("0.1"), TypeError, "negative_slope must be a number, not '0.1'"),
        (lambda: nn.ELU(float("nan")), ValueError, "alpha must be at least 0, not nan"),
        (lambda: nn.Huber(0), ValueError, r"delta must be above 0, not 0"),
        (lambda: nn.Huber(delta=None), TypeError, "delta must be a number, not None"),
        (lambda: nn.Dense(0), ValueError, "units must be at least 1, not 0"),
        (lambda: nn.Dense(2.0), TypeError, "units must be a whole number"),
        (lambda: nn.Dense(3, kernel_initializer="glorot"), ValueError, "unknown initializer 'glorot'; known: "),
        (lambda: nn.Dense(3, name=""), ValueError, "name must be 1 to 200 printable characters"),
        (lambda: nn.Input(()), TypeError, "shape must be a whole number or a tuple"),
        (lambda: nn.Input((4, -1)), ValueError, "shape must be at least 1, not -1"),
        (lambda: nn.Input((2**16, 2**16)), ValueError, "expected less than"),
        (lambda: nn.Input(4)(nn.Input(3)), TypeError, "where samples enter"),
        (lambda: nn.Dense(3)(X), TypeError, "Dense must be called on nn.Input"),
        (lambda: nn.Dense(3)(nn.Input((4, 4))), ValueError, r"put nn.Flatten\(\) before"),
        (lambda: nn.Add()([nn.Input(4)]), ValueError, "two or more inputs of one shape"),
        (lambda: nn.Add()([nn.Input(4), nn.Input(3)]), ValueError, r"not \(4,\), \(3,\)"),
        (lambda: nn.Concatenate()([nn.Input(4), nn.Input((3, 3))]), ValueError, "two or more vectors"),
        (lambda: nn.Dropout(1), ValueError, r"rate must be at least 0 and below 1, not 1.0"),
        (lambda: nn.Dropout(-0.1), ValueError, "rate must be at least 0 and below 1, not -0.1"),
        (lambda: nn.Dropout("half"), TypeError, "rate must be a number, not 'half'"),
        (lambda: nn.GaussianNoise(-1), ValueError, "stddev must be at least 0, not -1"),
        (lambda: nn.GaussianNoise(float("inf")), ValueError, "stddev must be at least 0, not inf"),
        (lambda: nn.BatchNorm(momentum=1.5), ValueError, "momentum must be at least 0 and at most 1, not 1.5"),
        (lambda: nn.BatchNorm(epsilon=0), ValueError, "epsilon must be above 0, not 0"),
        (lambda: nn.BatchNorm(moving_mean_initializer="one"), ValueError, "unknown initializer 'one'; known: "),
        (lambda: nn.LayerNorm(center=1), TypeError, "center must be True or False, not 1"),
        (lambda: nn.LayerNorm(gamma_regularizer="l3"), ValueError, "unknown regularizer 'l3'; known: "),
        (lambda: nn.LayerNorm()([nn.Input(3), nn.Input(3)]), ValueError, "LayerNorm takes one input, not 2"),
        (lambda: nn.Reshape((2, -1, -1)), ValueError, r"target_shape \(2, -1, -1\) has several entries of -1"),
        (lambda: nn.Reshape((2, 0)), ValueError, "target_shape must be at least 1, not 0"),
        (lambda: nn.Reshape("3"), TypeError, "target_shape must be a whole number or a tuple"),
        (lambda: nn.Reshape((4, -1))(nn.Input(6)), ValueError, r"cannot make \(4, -1\) of 6 elements, those of shape"),
        (
            lambda: nn.Reshape(4)(nn.Input((2, 4))),
            ValueError,
            r"cannot make \(4,\) of 8 elements, those of shape \(2, 4",
        ),
        (lambda: nn.Sequential([]), ValueError, "Sequential begins with nothing"),
        (lambda: nn.Sequential([nn.Dense(3)]), ValueError, "Sequential begins with Dense, expected nn.Input"),
        (lambda: nn.Sequential([nn.Input(3), nn.Input(3)]), ValueError, "one nn.Input"),
        (lambda: nn.Sequential([nn.Input(3), "dense"]), TypeError, "a list of layers, not one with 'dense'"),
        (lambda: nn.Sequential([nn.Input(3, name="a"), nn.Dense(3, name="a")]), ValueError, "two layers are named 'a'"),
        (
            lambda: nn.Model(nn.Input(3), 7),
            TypeError,
            "a model's output must be nn.Input or the result of a layer, not 7",
        ),
        (lambda: nn.Model(X, [nn.Input(3)] * 2), TypeError, "inputs must be nn.Input"),
        (lambda: nn.Model(nn.Input(3), [nn.Input(3)] * 2), ValueError, "one output, not 2; join them"),
        (
            lambda: nn.Sequential([nn.Input(2), nn.Dense(2, kernel_initializer=nn.Constant(1e300))]),
            ValueError,
            "holds 1e\\+300 at index .*, beyond float32",
        ),
        (lambda: nn.Sequential([nn.Input(3)]).plan("foo"), ValueError, "unknown mode 'foo'; known: predict, evaluate"),
        (lambda: nn.gradient_check(3, X, Y), TypeError, "model must be a numbanet model, not int"),
        (lambda: nn.warmup("float16"), ValueError, "unknown dtype 'float16'; known: float32, float64"),
        (lambda: nn.Sequential([nn.Input(3)], dtype="float16"), ValueError, "unknown dtype 'float16'"),
        (lambda: nn.Sequential([nn.Input(3)], seed=-1), ValueError, "seed must be at least 0"),
        (lambda: nn.Model(nn.Input(3), nn.Dense(2)(nn.Input(3))), ValueError, "an Input of shape .* not given"),
        (lambda: nn.Model(3, nn.Input(3)), TypeError, "inputs must be nn.Input"),
        (lambda: nn.SGD(0), ValueError, "learning_rate must be above 0, not 0"),
        (lambda: nn.SGD(float("nan")), ValueError, "learning_rate must be above 0, not nan"),
        (lambda: nn.SGD(nesterov=1), TypeError, "nesterov must be True or False, not 1"),
        (lambda: nn.Adam(epsilon=-1), ValueError, "epsilon must be at least 0"),
        (lambda: nn.Adam(10**400), ValueError, "learning_rate must be a number that float64 can hold"),
        (lambda: nn.Model([nn.Input(2), nn.Input(3)], nn.Input(2)), ValueError, "was not given|does not depend on"),
        (lambda: nn.SGD(momentum=1), ValueError, "momentum must be at least 0 and below 1"),
        (lambda: nn.Adam(beta_2=1.5), ValueError, "beta_2 must be at least 0 and below 1"),
        (lambda: nn.Adam("fast"), TypeError, r"learning_rate must be a number or a schedule \(.*\), not 'fast'"),
        (lambda: nn.Adam(epsilon_hat=1), TypeError, "epsilon_hat must be True or False, not 1"),
        (lambda: nn.AdamW(weight_decay=-1), ValueError, "weight_decay must be at least 0, not -1"),
        (lambda: nn.RMSprop(rho=1), ValueError, "rho must be at least 0 and below 1, not 1"),
        (lambda: nn.RMSprop(centered=1), TypeError, "centered must be True or False, not 1"),
        (lambda: nn.Adagrad(initial_accumulator_value=-1), ValueError, "initial_accumulator_value must be at least 0"),
        (lambda: nn.VarianceScaling(mode="fan"), ValueError, "unknown mode 'fan'; known: fan_in"),
        (lambda: nn.set_num_threads(0), ValueError, "0 threads: expected 1 to"),
        (lambda: nn.set_num_threads("2"), TypeError, "must be a whole number"),
    ],
)
def test_bad_descriptions(build, kind, sentence):
    with pytest.raises(kind, match=sentence):
        build()


def test_shared_layer_of_two_shapes():
    a, b, dense = nn.Input(3), nn.Input(4), nn.Dense(2)
    with pytest.raises(ValueError, match="shared by inputs of different shapes"):
        nn.Model([a, b], nn.Add()([dense(a), dense(b)]))


def test_inputs_that_nobody_uses_or_names_twice():
    a, b = nn.Input(3), nn.Input(4)
    with pytest.raises(ValueError, match=r"the output does not depend on the Input of shape \(4,\)"):
        nn.Model([a, b], nn.Dense(2)(a))
    with pytest.raises(ValueError, match="name one Input twice"):
        nn.Model([a, a], nn.Dense(2)(a))


def test_several_inputs():
    a, b = nn.Input(3, name="a"), nn.Input(4, name="b")
    model = nn.Model([a, b], nn.Concatenate()([a, b]))
    for bad, sentence in [
        (X, "list of 2 arrays"),
        ([X], "list of 2 arrays, one for each input: a, b"),
        ({"a": X[:, :3], "c": X}, r"X has inputs \['a', 'c'\], expected \['a', 'b'\]"),
        ({"a": X}, r"X has inputs \['a'\], expected \['a', 'b'\]"),
        ([X, X], r"X\['a'\] has shape \(12, 4\), expected \(n, 3\)"),
        ([X[:, :3], X[:5]], r"the inputs have \[5, 12\] samples"),
    ]:
        with pytest.raises(ValueError, match=sentence):
            model.predict(bad)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda w: 3, r"weights must be a list of arrays, as get_weights gives it, not int"),
        (lambda w: w[:3], r"3 arrays given, expected 4: dense_1.kernel, dense_1.bias"),
        (lambda w: [w[0].T, *w[1:]], r"dense_1.kernel has shape \(5, 4\), expected \(4, 5\)"),
        (lambda w: [w[0] * np.nan, *w[1:]], r"dense_1.kernel holds nan"),
        (lambda w: [*w[:3], w[3].astype(np.float64) + 1e300], r"dense_2.bias holds 1e\+300 at .*, beyond float32"),
    ],
)
def test_bad_weights(model, same, change, sentence):
    before = unchanged(model)
    with pytest.raises((ValueError, TypeError), match=sentence):
        model.set_weights(change(model.get_weights()))
    same(before, unchanged(model))
