"""Models as safetensors files: tensors, and the architecture as JSON in the metadata.

A file is hostile until proven otherwise: nothing is unpickled or imported, names come from closed tables, and every
size is compared with what the file really holds before anything is allocated.
"""

from __future__ import annotations

import json
import os

import safetensors
import safetensors.numpy

from numbanet import kernels, validate
from numbanet.io import config
from numbanet.io.files import write_whole
from numbanet.model import Model, Sequential
from numbanet.names import lookup

VERSION = 1
MOST_JSON = 10_000_000  # characters of architecture: 100,000 layers
TYPES = {"float32": "F32", "float64": "F64"}


def _tensors(graph, optimizer):
    """Tensor name -> Parameter, for the weights and the optimiser's slots."""
    slots = optimizer.slots if optimizer else ()
    places = {f"weights.{parameter.name}": parameter for parameter in graph.parameters}
    for k, slot in enumerate(slots):
        for parameter in graph.parameters:
            places[f"optimizer.{slot}.{parameter.name}"] = parameter.slot(k, slot, graph.size)
    return places


def save(model, path):
    """Write a model to one file; see Model.save."""
    architecture = {
        "kind": type(model).__name__,
        "dtype": model.dtype,
        "seed": model.seed,
        "epochs": model.epochs,
        "updates": model.updates,
        "graph": config.describe_graph(model.graph),
        "training": config.describe_training(model),
    }
    tensors = {name: at.unpack(model._theta) for name, at in _tensors(model.graph, model.optimizer).items()}
    metadata = {"format": "numbanet", "version": str(VERSION), "model": json.dumps(architecture)}
    write_whole(path, safetensors.numpy.save(tensors, metadata))


def load(path):
    """The model of a file written by Model.save; training goes on bit for bit where it stopped.

    ValueError if the file is damaged, foreign, or of a later version; OSError if it cannot be read.
    """
    path = os.fspath(path)
    with open(path, "rb"):  # says what is wrong with the path itself
        pass
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            return _restore(file)
    except (safetensors.SafetensorError, ValueError, TypeError, RecursionError, OverflowError) as problem:
        raise ValueError(f"{path} is not a numbanet model that can be loaded: {problem}") from None


def _restore(file):
    metadata = file.metadata() or {}
    if metadata.get("format") != "numbanet":
        raise ValueError("it is a safetensors file without numbanet's metadata")
    if metadata.get("version") != str(VERSION):
        raise ValueError(f"its format is version {metadata.get('version')!r}, this numbanet reads {VERSION}")
    text = metadata.get("model", "")
    if len(text) > MOST_JSON:
        raise ValueError(f"its architecture has {len(text)} characters, expected at most {MOST_JSON}")
    architecture = config.mapping("the architecture", json.loads(text))
    kind = lookup("kind of model", architecture.get("kind"), {"Model": Model, "Sequential": Sequential})
    graph = config.restore_graph(config.mapping("graph", architecture.get("graph")))
    training = architecture.get("training")
    training = config.restore_training(training) if training is not None else None
    dtype, seed = architecture.get("dtype"), validate.whole_number("seed", architecture.get("seed"), 0, 2**63 - 1)
    counts = [validate.whole_number(key, architecture.get(key), 0, 2**62) for key in ("epochs", "updates")]
    places = _tensors(graph, training[0] if training else None)
    _compare(file, places, lookup("dtype", dtype, TYPES))
    model = kind.__new__(kind)
    model._build(graph, seed, dtype)
    if training:
        model._compile(*training)
    for name, place in places.items():
        place.pack(model._theta, file.get_tensor(name))
    model.epochs, model._step[kernels.UPDATE] = counts
    return model


def _compare(file, places, dtype):
    """Refuse a file whose tensors are not exactly those of the architecture."""
    found, wanted = set(file.keys()), set(places)
    if found != wanted:
        missing, extra = sorted(wanted - found)[:3], sorted(found - wanted)[:3]
        raise ValueError(f"its tensors do not fit its architecture: missing {missing}, unexpected {extra}")
    for name, place in places.items():
        view = file.get_slice(name)
        if tuple(view.get_shape()) != place.shape or view.get_dtype() != dtype:
            raise ValueError(
                f"tensor {name} is {view.get_dtype()} {tuple(view.get_shape())}, expected {dtype} {place.shape}"
            )
