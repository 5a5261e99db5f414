"""Models that share weights: one memory for all of them, laid out anew when one needs more or less of it.

    weights, those of each layer once | optimiser slots of one model | of the next | ...

Kernels know one array and offsets in it, so whatever trains a weight must lie in the array of that weight. Each model
keeps its own graph, which says where its parameters and slots are, and its own programs and step records. A model that
shares with nobody is the case of one.
"""

from __future__ import annotations

import collections
import os
import threading
import weakref

from numbanet.kernels import UPDATE
from numbanet.program import new_steps

lock = threading.RLock()  # while a program is built for the memory as it lies, or the memory laid out


def _after_fork():
    """Another thread may have held the lock when this process was forked."""
    global lock
    lock = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def alone(model):
    """What a model that shares with nobody keeps of those with whom it shares."""
    return [weakref.ref(model)]


def sharers(model):
    """The models that share a model's memory, itself included, the oldest first."""
    return [other for reference in model._sharers if (other := reference()) is not None]


def steps_of(device, updates=0):
    """A model's step records, so many updates after it was compiled."""
    steps = new_steps(device)
    steps[0, UPDATE] = updates
    return steps


def view(model, of):
    """Let a new model, whose layers are all layers of another, use that one's weights where they lie."""
    with lock:
        offsets = {layer: {key: at.offset for key, at in known.items()} for layer, known in of.graph.of_layer.items()}
        shared = {name: getattr(of, name) for name in ("_device", "_memory", "_sharers")}
        vars(model).update(shared, graph=model.graph.placed(offsets), _steps=steps_of(of._device))
        of._sharers.append(weakref.ref(model))


def borrow(model, lenders):
    """Let a new model share the weights of the models that were called to make some of its nodes.

    Layers that no lender has keep the weights which the new model has drawn. ValueError if that cannot be.
    """
    with lock:
        owners = {}  # layer with parameters -> the memory its weights are in
        for lender in lenders:
            if lender.dtype != model.dtype:
                raise ValueError(f"a {model.dtype} model cannot share weights of a {lender.dtype} one; give dtype")
            if lender._device is not lenders[0]._device:
                raise ValueError("models on different devices cannot share weights; bring them to one with model.to")
            for other in sharers(lender):
                for layer in (layer for layer, known in other.graph.of_layer.items() if known):
                    if owners.setdefault(layer, lender._memory) is not lender._memory:
                        name = other.graph.names[layer]
                        raise ValueError(f"two models have layer {name!r} with weights of their own; copy.deepcopy one")
        together = list(dict.fromkeys(other for lender in lenders for other in sharers(lender)))
        device = lenders[0]._device
        _lay_out([*together, model], {model: {"_steps": steps_of(device)}}, device)


def rearrange(model, **changes):
    """Change attributes of a model which settle what memory it needs (graph, optimizer): all at once, or not at all.

    Weights stay, and the optimiser state of models whose optimiser is not among the changes. New layers are drawn.
    """
    with lock:
        _lay_out(sharers(model), {model: changes}, model._device)


def move(model, device):
    """Bring a model, and all that share weights with it, to a device."""
    with lock:
        models = sharers(model)
        _lay_out(models, {other: {"_steps": steps_of(device, other.updates)} for other in models}, device)


def _lay_out(models, changes, device):
    """Give the models a new memory on a device, with what they have in the old ones."""
    after = [vars(model) | changes.get(model, {}) for model in models]
    offsets, size = {}, 0
    for state in after:
        for layer, known in state["graph"].of_layer.items():
            if layer not in offsets:
                offsets[layer] = {}
                for key, place in known.items():
                    offsets[layer][key], size = size, size + place.size
    for state in after:
        optimizer, state["graph"] = state["optimizer"], state["graph"].placed(offsets, size)
        size += state["graph"].size * (len(optimizer.slots) if optimizer else 0)
    memory = device.zeros(size, models[0].dtype)
    theta, moved = device.host(memory), set()
    for model, state in zip(models, after, strict=True):
        kept = model.optimizer if "optimizer" not in changes.get(model, {}) else None
        _carry(model, kept, state["graph"], theta, moved, offsets)
    new = offsets.keys() - moved
    for model, state in zip(models, after, strict=True) if new else ():
        state["graph"].initialise(theta, model.seed, new)
    common = {"_device": device, "_memory": memory, "_sharers": [weakref.ref(model) for model in models]}
    news = [
        changes.get(model, {}) | common | {"graph": state["graph"], "_programs": {}}
        for model, state in zip(models, after, strict=True)
    ]
    # All at once, in one call of C: Ctrl-C comes before or after, and every model's programs fit the memory they have.
    # Nothing old is let go in between, as that would run Python code.
    before = [dict(vars(model)) for model in models]
    collections.deque(map(dict.update, map(vars, models), news), maxlen=0)
    del before


def _carry(model, optimizer, graph, theta, moved, offsets):
    """Copy a model's weights that nobody has brought yet, and its optimiser state, to their new places."""
    old = model._theta
    pairs = []
    for layer, known in model.graph.of_layer.items():
        if layer in offsets and layer not in moved:
            moved.add(layer)
            pairs += [(place.offset, offsets[layer][key], place.size) for key, place in known.items()]
    for k, slot in enumerate(optimizer.slots if optimizer else ()):
        for place, new in zip(model.graph.parameters, graph.parameters, strict=True):
            size = model.graph.size
            pairs.append((place.slot(k, slot, size).offset, new.slot(k, slot, size).offset, place.size))
    for start, end, size in pairs:
        theta[end : end + size] = old[start : start + size]
