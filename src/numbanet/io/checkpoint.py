"""Models as safetensors files: tensors, and the architecture as JSON in the metadata.

A file is hostile until proven otherwise: nothing is unpickled or imported, names come from closed tables or from who
loads, and every size is compared with what the file really holds before anything is allocated.

Metadata of version 1: format "numbanet", version "1", model (the architecture, JSON) and checksum, the CRC-32 of that
text in hexadecimal digits. A damaged weight is a wrong weight; a damaged architecture is refused.
"""

from __future__ import annotations

import json
import os
import zlib

import safetensors
import safetensors.numpy

from numbanet import kernels, validate
from numbanet.io import config
from numbanet.io.custom import Custom, names_of
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


def parts(model):
    """All that a model is: its architecture as plain data, and its weights and optimiser state by name."""
    architecture = {
        "kind": "Sequential" if isinstance(model, Sequential) else "Model",
        "dtype": model.dtype,
        "seed": model.seed,
        "epochs": model.epochs,
        "updates": model.updates,
        "graph": config.describe_graph(model.graph),
        "training": config.describe_training(model),
    }
    tensors = {name: at.unpack(model._theta) for name, at in _tensors(model.graph, model.optimizer).items()}
    return architecture, tensors


def assemble(kind, architecture, tensors):
    """The model of such parts, of the class `kind`: how models are unpickled and copied."""
    found = {name: (TYPES[array.dtype.name], array.shape) for name, array in tensors.items()}
    return _restore(kind, architecture, found, tensors.__getitem__)


def save(model, path):
    """Write a model to one file; see Model.save."""
    architecture, tensors = parts(model)
    text = json.dumps(architecture, default=names_of(model))
    if len(text) > MOST_JSON:
        raise ValueError(f"the model's architecture takes {len(text)} characters, a file has {MOST_JSON} at most")
    metadata = {"format": "numbanet", "version": VERSION, "model": text, "checksum": _checksum(text)}
    write_whole(path, safetensors.numpy.save(tensors, metadata))


def load(path, custom_objects=None):
    """The model of a file written by Model.save; training goes on bit for bit where it stopped.

    custom_objects: a dict from names to your own functions (nn.activation, nn.loss, or the plain functions), which a
    file only names; those that it does not name are left out.

    ValueError if the file is damaged, foreign, or of a later version, or needs functions that are not given: it says
    which; OSError if it cannot be read.
    """
    path, custom = os.fsdecode(path), Custom(custom_objects)
    need_regular(path)
    with open(path, "rb"):  # says so if it may not be read
        pass
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            architecture = _architecture(file.metadata() or {}, custom)
            kind = lookup("kind of model", architecture["kind"], {"Model": Model, "Sequential": Sequential})
            return _restore(kind, architecture, _found(file), file.get_tensor)
    except safetensors.SafetensorError as problem:
        reason = f"it is no safetensors file, or only a part of one ({problem})"
    except RecursionError:
        reason = "its architecture is nested too deeply"
    except (ValueError, TypeError) as problem:
        reason = str(problem)
    raise ValueError(f"{path} is not a numbanet model that can be loaded: {reason[:MOST_REASON]}")


def _found(file):
    """Type and shape of each tensor in a file."""
    views = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118 (a file is no mapping)
    return {name: (view.get_dtype(), tuple(view.get_shape())) for name, view in views.items()}


def _restore(kind, architecture, found, read):
    """The model of an architecture, if the tensors that were found are just those it needs; `read` gives them."""
    dtype = lookup("dtype", architecture["dtype"], {dtype: dtype for dtype in TYPES})
    seed = validate.whole_number("seed", architecture["seed"], 0, 2**63 - 1)
    counts = [validate.whole_number(key, architecture[key], 0, 2**62) for key in ("epochs", "updates")]
    graph = config.restore_graph(architecture["graph"])
    training = architecture["training"]
    training = config.restore_training(training) if training is not None else None
    places = _tensors(graph, training[0] if training else None)
    _compare(found, places, TYPES[dtype])
    model = kind.__new__(kind)
    model._build(graph, seed, dtype)
    if training:
        model._compile(*training)
    for name, place in places.items():
        place.pack(model._theta, read(name))
    model.epochs, model._steps[0, kernels.UPDATE] = counts
    return model


def _architecture(metadata, custom):
    """The architecture in a file's metadata, an object with all its fields; custom: gives the functions it names."""
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
        architecture = json.loads(text, object_hook=custom.restore)
    except ValueError as problem:
        raise ValueError(f"its architecture is not JSON ({problem})") from None
    custom.need_all()
    return config.mapping("the architecture", architecture, FIELDS)


def _checksum(text):
    return f"{zlib.crc32(text.encode()):08x}"


def _compare(found, places, dtype):
    """Refuse tensors which are not exactly those of the architecture."""
    if found.keys() != places.keys():
        missing, extra = sorted(places.keys() - found.keys())[:3], sorted(found.keys() - places.keys())[:3]
        raise ValueError(f"its tensors do not fit its architecture: missing {missing}, unexpected {extra}")
    for name, place in places.items():
        if found[name] != (dtype, place.shape):
            kind, shape = found[name]
            raise ValueError(f"tensor {name} is {kind} {shape}, expected {dtype} {place.shape}")
