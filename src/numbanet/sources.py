"""Where the command line takes its samples from: data sets by name, and files."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from numbanet import data
from numbanet.io.files import write_whole
from numbanet.names import lookup

GENERATORS = {
    "xor": data.xor,
    "two_spirals": data.two_spirals,
    "moons": data.moons,
    "circles": data.circles,
    "blobs": data.blobs,
    "sine": data.sine,
}
NAMES = ("digits", *GENERATORS)
OUTPUTS = {".npy": "npy", ".csv": "csv"}
MOST_CLASSES = 1000  # more different whole numbers than this are a quantity, not labels
FEW = 10  # samples; a data set smaller than this is not split


@dataclass(frozen=True)
class Samples:
    """All samples of a source in its order, which of them are trained on, and which are held out.

    y may be None where only predictions are wanted.
    """

    X: np.ndarray
    y: np.ndarray | None
    train: np.ndarray
    test: np.ndarray
    held_out: str

    def part(self, mask):
        """The samples of a mask: (X, y)."""
        return self.X[mask], None if self.y is None else self.y[mask]


@dataclass(frozen=True)
class Problem:
    """What the targets ask of a network's last layer and its training."""

    outputs: int
    activation: str
    loss: str
    metrics: tuple[str, ...]


def read(source, target="-1", labels=None, features=None):
    """The samples of a data set's name or a file's path.

    target: the column of a .csv that holds the targets, by name or number. labels: the IDX file that goes with IDX
    images. features: the number of features that a model takes; a .csv of just so many columns then has no target.
    """
    if source == "digits":
        return _joined(*data.load_digits(), "a fifth of each digit, held out")
    if source in GENERATORS:
        return _split(*GENERATORS[source]())
    if not Path(source).is_file():
        if Path(source).suffix or Path(source).exists():
            raise FileNotFoundError(f"no file {source}; known data sets: {', '.join(NAMES)}")
        lookup("data set", source, dict.fromkeys(NAMES))
    name = Path(source).name.lower()
    if name.endswith((".csv", ".csv.gz")):
        return _split(*_read_csv(source, target, features))
    if name.endswith(".npz"):
        return _read_npz(source)
    return _read_idx(Path(source), labels)


def problem(y):
    """Classes for whole-number targets, one a sample; numbers to fit for all others."""
    if y is None:
        raise ValueError("these samples have no targets to learn")
    whole = y.dtype.kind in "iu" and (y.ndim == 1 or y.shape[1:] == (1,))
    if whole and y.min() >= 0 and y.max() < MOST_CLASSES:
        classes = max(2, int(y.max()) + 1)
        return Problem(classes, "softmax", "cross_entropy", ("accuracy",))
    return Problem(1 if y.ndim == 1 else y.shape[1], "linear", "mse", ("mae",))


def _split(X, y):
    """Every fifth sample held out; a handful of samples is trained and tested on as a whole."""
    if len(X) < FEW:
        every = np.ones(len(X), bool)
        return Samples(X, y, every, every, "the same as trained on")
    test = np.arange(len(X)) % 5 == 4
    return Samples(X, y, ~test, test, "every fifth, held out")


def _joined(train, test, text):
    """Samples of a source that says itself which are held out."""
    X, y = (np.concatenate(pair) for pair in zip(train, test, strict=True))
    mask = np.arange(len(X)) >= len(train[0])
    return Samples(X, y, ~mask, mask, text)


def _read_csv(path, target, features):
    target = int(target) if target.lstrip("-").isdigit() else target
    X, y = data.load_csv(path, target=target)
    if features is not None and X.shape[1] == features - 1:  # what was taken for the target is a feature
        X, y = data.load_csv(path, target=None)
    return X, y


def _read_npz(path):
    """Arrays X and y (and X_test and y_test), or with Keras' names x_train, y_train, x_test and y_test."""
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name.lower(): file[name] for name in file.files}
    except (ValueError, OSError, EOFError) as problem:
        raise ValueError(f"{path} is not an .npz file of plain arrays: {problem}") from None
    X, y = arrays.get("x", arrays.get("x_train")), arrays.get("y", arrays.get("y_train"))
    if X is None or X.ndim == 0:
        raise ValueError(
            f"{path} holds {', '.join(sorted(arrays)) or 'nothing'}; expected X and y (or x_train and y_train)"
        )
    X, y = _scaled(X), None if y is None else y
    if y is not None and len(y) != len(X):
        raise ValueError(f"{path}: X has {len(X)} samples and y has {len(y)}; expected the same number")
    if "x_test" in arrays and "y_test" in arrays:
        test = _scaled(arrays["x_test"]), arrays["y_test"]
        if y is None or test[0].shape[1:] != X.shape[1:] or len(test[0]) != len(test[1]):
            shapes = ", ".join(f"{name} {array.shape}" for name, array in sorted(arrays.items()))
            raise ValueError(f"{path} holds {shapes}; expected training and test parts of one shape")
        return _joined((X, y), test, "the file's own test part")
    return _split(X, y)


def _read_idx(path, labels):
    """IDX images, their labels from `labels` or the file of the same name with labels-idx1 for images-idx3."""
    images = data.load_idx(path)
    if images.ndim < 2:
        raise ValueError(f"{path} holds an array of shape {images.shape}; expected images (n, rows, columns)")
    named = path.with_name(path.name.replace("images", "labels").replace("idx3", "idx1"))
    labels = Path(labels) if labels else named
    if labels == path or not labels.is_file():
        return _split(_scaled(images), None)
    y = data.load_idx(labels).astype(np.int64)
    if y.ndim != 1 or len(y) != len(images):
        raise ValueError(f"{labels} holds {y.shape} labels for {len(images)} images; expected one for each")
    return _split(_scaled(images), y)


def _scaled(X):
    """Pixels of one byte as numbers from 0 to 1; other arrays as they are."""
    return X.astype(np.float32) / 255 if X.dtype == np.uint8 else X


def check_directory(path):
    """Refuse a path that cannot be written because its directory is missing."""
    directory = Path(path).parent
    if not directory.is_dir():
        raise FileNotFoundError(f"no directory {directory} to write {Path(path).name} into")


def check_output(path):
    """Refuse a path for predictions that `write` could not serve."""
    check_directory(path)
    lookup("kind of output file", Path(path).suffix.lower(), OUTPUTS)


def write(output, array):
    """Write predictions to a path (.npy or .csv, whole or not at all) or, as text, to an open file."""
    if not isinstance(output, str):
        np.savetxt(output, array, fmt=_format(array), delimiter=",")
        return
    buffer = io.BytesIO()
    if OUTPUTS[Path(output).suffix.lower()] == "npy":
        np.save(buffer, array, allow_pickle=False)
    else:
        np.savetxt(buffer, array, fmt=_format(array), delimiter=",")
    write_whole(output, buffer.getvalue())


def _format(array):
    return "%d" if array.dtype.kind in "iu" else "%.9g"
