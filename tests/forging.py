"""Files that say they are models: making them, and loading them with what every refusal must be like."""

import json
import zlib

import safetensors.numpy

import numbanet as nn


def architecture_in(path):
    with safetensors.safe_open(path, framework="numpy") as file:
        return json.loads(file.metadata()["model"])


def forge(architecture, tensors=None, **metadata):
    """The bytes of a file with any architecture (or its text) and tensors, all else as in a true one."""
    text = architecture if isinstance(architecture, str) else json.dumps(architecture)
    checksum = f"{zlib.crc32(text.encode()):08x}"
    metadata = {"format": "numbanet", "version": "1", "model": text, "checksum": checksum} | metadata
    return safetensors.numpy.save(tensors or {}, {key: value for key, value in metadata.items() if value is not None})


def load(path, content):
    """The model in a content, or the reason why it is refused."""
    path.unlink(missing_ok=True)  # faster than emptying it
    path.write_bytes(content)
    try:
        return nn.load(path)
    except ValueError as problem:
        message = str(problem)
    start = f"{path} is not a numbanet model that can be loaded: "
    assert message.startswith(start), message
    assert len(message) < 1000
    assert message.isprintable(), message
    for python in ("__init__", "argument", "'NoneType'", "object is not", "has no attribute", "indices", "subscript"):
        assert python not in message, message
    return message.removeprefix(start)


def refused(path, content, sentence):
    assert sentence in str(load(path, content))
