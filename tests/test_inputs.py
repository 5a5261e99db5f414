"""Arrays of every kind that hold the right numbers simply work."""

import numpy as np
import pytest

import numbanet as nn

RNG = np.random.default_rng(0)
X = RNG.integers(0, 5, (40, 6)).astype(np.float32)
Y = np.arange(40) % 3


def read_only(array):
    array = array.copy()
    array.flags.writeable = False
    return array


def strided(array):
    wide = np.full((2 * len(array), *(2 * size for size in array.shape[1:])), 9, array.dtype)
    view = wide[tuple(slice(None, None, 2) for _ in array.shape)]
    view[:] = array
    return view


KINDS = {
    "float64": lambda a: a.astype(np.float64),
    "float16": lambda a: a.astype(np.float16),
    "longdouble": lambda a: a.astype(np.longdouble),
    "int8": lambda a: a.astype(np.int8),
    "int64": lambda a: a.astype(np.int64),
    "uint64": lambda a: a.astype(np.uint64),
    "fortran": lambda a: np.asfortranarray(a),
    "strided": strided,
    "negative strides": lambda a: np.ascontiguousarray(a[::-1])[::-1],
    "read-only": read_only,
    "big-endian": lambda a: a.astype(">f4") if a.dtype.kind == "f" else a.astype(">i8"),
    "big-endian double": lambda a: a.astype(">f8"),
    "list": lambda a: a.tolist(),
    "tuple": lambda a: tuple(map(tuple, a.tolist())) if a.ndim > 1 else tuple(a.tolist()),
    "list of arrays": lambda a: list(a),
    "objects": lambda a: a.astype(object),
    "memmap": None,
    "unaligned": lambda a: np.frombuffer(b"x" + a.tobytes(), a.dtype, offset=1).reshape(a.shape),
    "masked view": lambda a: a.view(np.ndarray)[np.arange(len(a))],
}


@pytest.fixture(scope="module")
def reference():
    return trained(X, Y)


def trained(features, labels):
    model = nn.Sequential([nn.Input(6), nn.Dense(7, "tanh"), nn.Dense(3, "softmax")], seed=0)
    model.compile("adam", "cross_entropy", ["accuracy"])
    model.fit(features, labels, epochs=2, verbose=0, validation_split=0.2)
    return model


@pytest.mark.parametrize("kind", KINDS)
def test_features_and_labels_of_every_kind(kind, reference, tmp_path):
    if kind == "memmap":
        for name, array in (("X", X), ("Y", Y)):
            np.save(tmp_path / f"{name}.npy", array)
        features, labels = (np.load(tmp_path / f"{name}.npy", mmap_mode="r") for name in ("X", "Y"))
    else:
        features, labels = KINDS[kind](X), KINDS[kind](Y)
    copies = [np.array(features, copy=True), np.array(labels, copy=True)]
    model = trained(features, labels)
    assert np.array_equal(model._theta, reference._theta)
    assert np.array_equal(model.predict(features), reference.predict(X))
    assert model.evaluate(features, labels) == reference.evaluate(X, Y)
    assert np.array_equal(features, copies[0])  # inputs are only read
    assert np.array_equal(labels, copies[1])


@pytest.mark.parametrize("kind", KINDS)
def test_numbers_as_targets_of_every_kind(kind, tmp_path):
    def fitted(targets):
        model = nn.Sequential([nn.Input(6), nn.Dense(2)], seed=0)
        model.compile("sgd", "mse")
        model.fit(X, targets, epochs=2, verbose=0)
        return model._theta

    targets = np.stack([Y, Y + 1], axis=1).astype(np.float32)
    if kind == "memmap":
        np.save(tmp_path / "targets.npy", targets)
        given = np.load(tmp_path / "targets.npy", mmap_mode="r")
    else:
        given = KINDS[kind](targets)
    assert np.array_equal(fitted(given), fitted(targets))


def test_bool_features_and_labels():
    model = nn.Sequential([nn.Input(6), nn.Dense(1, "sigmoid")], seed=0)
    model.compile("sgd", "binary_cross_entropy", ["accuracy"])
    model.fit(X > 2, Y > 1, verbose=0)
    other = nn.Sequential([nn.Input(6), nn.Dense(1, "sigmoid")], seed=0)
    other.compile("sgd", "binary_cross_entropy", ["accuracy"])
    other.fit((X > 2).astype(float), (Y > 1).astype(float)[:, None], verbose=0)
    assert np.array_equal(model._theta, other._theta)


def test_float64_is_not_rounded_on_the_way():
    model = nn.Sequential([nn.Input(1), nn.Dense(1, use_bias=False)], dtype="float64")
    model.set_weights([[[1.0]]])
    x = np.array([[1 + 2.0**-50]])
    assert model.predict(x) == x
    assert model.predict(x).dtype == np.float64


def test_images_and_flatten():
    images = RNG.random((9, 4, 5, 2))
    model = nn.Sequential([nn.Input((4, 5, 2)), nn.Flatten(), nn.Dense(3)], seed=0, dtype="float64")
    kernel, bias = model.get_weights()
    for given in (images, np.asfortranarray(images), images[::-1][::-1]):
        assert np.allclose(model.predict(given), images.reshape(9, 40) @ kernel + bias, rtol=1e-13)


def test_one_sample_and_many():
    """One row, and numbers of rows around the size of a block and of predict's batch."""
    model = nn.Sequential([nn.Input(6), nn.Dense(3, "softmax")], seed=0)
    samples = RNG.random((600, 6)).astype(np.float32)
    everything = model.predict(samples)
    for count in (1, 2, 15, 16, 17, 255, 256, 257, 511, 512, 513):
        assert np.array_equal(model.predict(samples[:count]), everything[:count])
