"""Models as safetensors files: tensors, and the architecture as JSON in the metadata.

A file is hostile until proven otherwise: nothing is unpickled or imported, names come from closed tables, and every
size is compared with what the file really holds before anything is allocated.

Metadata of version 1: format "numbanet", version "1", model (the architecture, JSON) and checksum, the CRC-32 of that
text in hexadecimal digits. A damaged weight is a wrong weight; a damaged architecture is refused.
"""

from __future__ import annotations

import json
import os
import zlib

import numpy as np
import safetensors
import safetensors.numpy

from numbanet import kernels, validate
from numbanet.io import config
from numbanet.io.files import need_regular, write_whole
from numbanet.model import Model, Sequential
from numbanet.names import lookup

VERSION = "1"
FIELDS = ("kind", "dtype", "seed", "epochs", "updates", "graph", "training")
MOST_JSON = 10_000_000  # characters of architecture: 25,000 Dense layers
MOST_REASON = 600  # characters of a reason to refuse a file, which may quote it
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
        "kind": "Sequential" if isinstance(model, Sequential) else "Model",
        "dtype": model.dtype,
        "seed": model.seed,
        "epochs": model.epochs,
        "updates": model.updates,
        "graph": config.describe_graph(model.graph),
        "training": config.describe_training(model),
    }
    text = json.dumps(architecture, default=_plain)
    if len(text) > MOST_JSON:
        raise ValueError(f"the model's architecture takes {len(text)} characters, a file has {MOST_JSON} at most")
    metadata = {"format": "numbanet", "version": VERSION, "model": text, "checksum": _checksum(text)}
    tensors = {name: at.unpack(model._theta) for name, at in _tensors(model.graph, model.optimizer).items()}
    write_whole(path, safetensors.numpy.save(tensors, metadata))


def _plain(number):
    """A number that JSON does not know, of NumPy's or another library's, as one that it does."""
    return bool(number) if isinstance(number, np.bool_) else float(number)


def load(path):
    """The model of a file written by Model.save; training goes on bit for bit where it stopped.

    ValueError if the file is damaged, foreign, or of a later version; OSError if it cannot be read.
    """
    path = os.fsdecode(path)
    need_regular(path)
    with open(path, "rb"):  # says so if it may not be read
        pass
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            return _restore(file)
    except safetensors.SafetensorError as problem:
        reason = f"it is no safetensors file, or only a part of one ({problem})"
    except RecursionError:
        reason = "its architecture is nested too deeply"
    except (ValueError, TypeError) as problem:
        reason = str(problem)
    raise ValueError(f"{path} is not a numbanet model that can be loaded: {reason[:MOST_REASON]}")


def _restore(file):
    architecture = _architecture(file.metadata() or {})
    kind = lookup("kind of model", architecture["kind"], {"Model": Model, "Sequential": Sequential})
    dtype = lookup("dtype", architecture["dtype"], {dtype: dtype for dtype in TYPES})
    seed = validate.whole_number("seed", architecture["seed"], 0, 2**63 - 1)
    counts = [validate.whole_number(key, architecture[key], 0, 2**62) for key in ("epochs", "updates")]
    graph = config.restore_graph(architecture["graph"])
    training = architecture["training"]
    training = config.restore_training(training) if training is not None else None
    places = _tensors(graph, training[0] if training else None)
    _compare(file, places, TYPES[dtype])
    model = kind.__new__(kind)
    model._build(graph, seed, dtype)
    if training:
        model._compile(*training)
    for name, place in places.items():
        place.pack(model._theta, file.get_tensor(name))
    model.epochs, model._step[kernels.UPDATE] = counts
    return model


def _architecture(metadata):
    """The architecture in a file's metadata, an object with all its fields."""
    if metadata.get("format") != "numbanet":
        raise ValueError("it is a safetensors file without numbanet's metadata")
    if metadata.get("version") != VERSION:
        version = repr(metadata.get("version"))[:30]
        raise ValueError(f"its format is version {version}, this numbanet reads version {VERSION!r}")
    text = metadata.get("model", "")
    if len(text) > MOST_JSON:
        raise ValueError(f"its architecture has {len(text)} characters, expected at most {MOST_JSON}")
    if metadata.get("checksum") != _checksum(text):
        raise ValueError("its architecture is damaged: it does not have the checksum it was saved with")
    try:
        architecture = json.loads(text)
    except ValueError as problem:
        raise ValueError(f"its architecture is not JSON ({problem})") from None
    return config.mapping("the architecture", architecture, FIELDS)


def _checksum(text):
    return f"{zlib.crc32(text.encode()):08x}"


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
