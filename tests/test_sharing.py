"""Parts of models and models called like layers, which share weights."""

import copy
import gc
import threading
import time

import numpy as np
import pytest
from conftest import unchanged
from networks import OPTIMIZERS, close
from test_model import dag
from test_transfer import data, equal, mlp, trained

import numbanet as nn

# -- parts that share weights


def test_a_part_sees_the_weights_as_they_are():
    """Before and after training, set_weights, another compile, another last layer."""
    model = mlp()
    encoder, decoder = model.submodel(outputs="code"), model.submodel(inputs="code")
    X = data(model)[0]

    def check():
        assert np.array_equal(decoder.predict(encoder.predict(X)), model.predict(X))
        assert equal(encoder.get_weights() + decoder.get_weights(), model.get_weights())

    check()
    trained(model, "adam")
    check()
    model.set_weights([array + 0.25 for array in model.get_weights()])
    check()
    trained(encoder, "momentum")
    check()
    decoder.set_weights([array - 0.5 for array in decoder.get_weights()])
    check()
    model.fit(*data(model), epochs=2, verbose=0)
    check()
    old = decoder.get_weights()
    model.pop()
    assert equal(decoder.get_weights(), old)  # a layer stays where it is used
    assert np.array_equal(encoder.predict(X), model.predict(X))
    model.add(nn.Dense(2))
    trained(model, "adam")
    assert equal(decoder.get_weights(), old)
    assert equal(encoder.get_weights(), model.get_weights()[:4])
    decoder.compile("sgd", "cross_entropy")
    assert set(decoder.evaluate(np.zeros((4, 18)), [0, 1, 2, 0])) == {"loss"}


OWN = [nn.Adam(0.01, gradient_accumulation_steps=2, global_clipnorm=0.5), nn.SGD(0.1, 0.9, nesterov=True)]


@pytest.mark.parametrize("optimizer", OWN)
@pytest.mark.parametrize("ends", [(None, "code"), ("code", None), ("first", "code")])
def test_a_part_trains_as_a_model_of_its_own_does(ends, optimizer):
    """The same bits, penalties included, wherever its weights lie; and moves no weight or state of others."""
    model, _ = trained(mlp(kernel_regularizer="l1_l2"), "adam")
    part = model.submodel(*ends)
    own = copy.deepcopy(part)
    assert own.get_layer("code" if ends[1] else "dense_1") not in model.layers
    before = {name: array.copy() for name, array in state(model).items()}
    logs = []
    for other in (part, own):
        trained(other, optimizer)
        model.submodel(outputs="first").compile("adam", "mse")  # all memory is moved
        logs.append(other.fit(*data(other), batch_size=4, epochs=2, verbose=0).history)
    assert logs[0] == logs[1]
    assert part.updates == own.updates == 2 * 4 + 2 * 8
    assert equal(list(state(part).values()), list(state(own).values()))
    ours = {f"weights.{parameter.name}" for parameter in part.graph.parameters}
    assert ours < before.keys()
    for name, array in state(model).items():
        assert np.array_equal(array, before[name]) == (name not in ours), name


def state(model):
    """Weights and optimiser state by name, as saved."""
    return model.__reduce__()[1][2]


def test_a_part_that_nobody_has_any_more_takes_no_memory():
    model, _ = trained(mlp(), "adam")
    size = model._theta.size
    part, _ = trained(model.submodel(outputs="code"), "adam")
    assert model._theta.size == part._theta.size == size + 2 * part.graph.size
    del part
    gc.collect()
    model.compile(OPTIMIZERS["adam"](), "mse")
    assert model._theta.size == size


def test_making_a_part_moves_nothing():
    """So it may be made and used while the model is trained, by a callback or another thread."""
    model, _ = trained(mlp(), "adam")
    memory, programs = model._memory, dict(model._programs)
    part = model.submodel(outputs="code")
    part.predict(data(model)[0])
    assert model._memory is part._memory is memory
    assert model._programs == programs


def test_parts_of_any_graph():
    model = dag(dtype="float64")
    shared = model.layers[model.layers.index(model.get_layer("dense_1"))]
    with pytest.raises(ValueError, match="layer 'dense_1' has 2 outputs in this model"):
        model.submodel(outputs="dense_1")
    h, g = (node for node in model.graph.nodes if node.layer is shared)
    rng = np.random.default_rng(0)
    a, b = rng.random((7, 4)), rng.random((7, 2, 2))
    left, right = model.submodel(outputs=h), model.submodel("b", g)
    assert [len(part.graph.inputs) for part in (left, right)] == [1, 1]
    assert equal(left.get_weights(), right.get_weights())
    rest = model.submodel([h, g, "a"])
    assert list(rest.graph.names.values())[:3] == ["input_1", "input_2", "a"]
    found = rest.predict([left.predict(a), right.predict(b), a])
    assert close(found, model.predict([a, b]), "float64")
    a, b, c = rng.random((3, 7, 6))
    assert np.array_equal(model.submodel([h, "dense_2", g], "add_1").predict([a, b, c]), a + b + c)
    assert np.array_equal(model.submodel(outputs=model.graph.inputs[0]).predict(a[:, :4]), a[:, :4])


# -- models as layers


def test_a_model_called_like_a_layer_shares_its_weights():
    body, head = mlp(seed=1), nn.Sequential([nn.Input(3), nn.Dense(6, "tanh"), nn.Dense(2)], seed=2)
    trained(body, "adam")
    x = nn.Input(5)
    whole = nn.Model(x, head(nn.Dense(3, "tanh")(body(x))), seed=3)
    X, y = data(whole)

    def check():
        weights = whole.get_weights()
        assert equal(weights, body.get_weights() + weights[6:8] + head.get_weights())
        assert close(whole.predict(X), head.predict(np.tanh(body.predict(X) @ weights[6] + weights[7])), "float32")

    check()
    before, state_before = body.get_weights(), state(body)
    assert equal(before, trained(mlp(seed=1), "adam")[0].get_weights())
    trained(whole, "adam")
    check()
    assert not any(np.array_equal(a, b) for a, b in zip(before, body.get_weights(), strict=True))
    body.freeze()
    before = body.get_weights()
    whole.fit(X, y, epochs=1, verbose=0)
    check()
    assert equal(body.get_weights(), before)
    slots = [name for name in state_before if name.startswith("optimizer")]
    assert all(np.array_equal(state_before[name], state(body)[name]) for name in slots) and len(slots) == 12
    body.unfreeze()
    trained(head, "momentum")
    body.fit(*data(body), epochs=1, verbose=0)
    check()
    body.pop()
    head.add(nn.Dense(1))
    assert whole.predict(X).shape == (30, 2)
    assert equal(whole.get_weights()[:4] + whole.get_weights()[8:], body.get_weights() + head.get_weights()[:4])


def test_its_training_is_that_of_the_same_graph():
    """Twice the same layers, once with the weights in other models' memory: the same bits."""
    body, x, z = mlp(seed=1, units=(4, 3, 2)), nn.Input(5), nn.Input(5)
    whole = nn.Model([x, z], nn.Dense(2)(nn.Concatenate()([body(x), body(z)])), seed=3)  # siamese
    own = copy.deepcopy(whole)
    rng = np.random.default_rng(0)
    X, y = [rng.random((30, 5)), rng.random((30, 5))], rng.random((30, 2))
    for model in (whole, own):
        model.compile("adam", "mse")
        model.fit(X, y, epochs=3, verbose=0)
    assert equal(whole.get_weights(), own.get_weights())
    assert equal(whole.get_weights()[:6], body.get_weights())
    for model in (whole, body):
        samples = (X, y) if model is whole else data(model)
        model.compile("sgd", "mse")
        assert nn.gradient_check(model, *samples).error < 1e-6


def test_layers_alone_share_nothing():
    """Models of the same layers, or of nodes of another's graph, have weights of their own."""
    x = nn.Input(5)
    h = nn.Dense(4)(x)
    model = nn.Model(x, nn.Dense(2)(h), seed=0)
    other, part = nn.Sequential(model.layers, seed=1), nn.Model(x, h, seed=2)
    before = other.get_weights(), part.get_weights()
    trained(model, "adam")
    assert equal(other.get_weights(), before[0])
    assert equal(part.get_weights(), before[1])


def test_models_that_cannot_share():
    body, x = mlp(), nn.Input(5)
    twin = nn.Sequential(body.layers, seed=1)
    both = [body.submodel(outputs="code")(x), twin.submodel(outputs="code")(x)]
    with pytest.raises(ValueError, match="two models have layer 'first' with weights of their own"):
        nn.Model(x, nn.Add()(both))
    with pytest.raises(ValueError, match="a float64 model cannot share weights of a float32 one"):
        nn.Model(x, body(x), dtype="float64")
    y = body(x)
    body.pop()
    with pytest.raises(ValueError, match="'dense_1' was removed from the model that was called"):
        nn.Model(x, y)
    assert body._theta.size == body.graph.size
    copied = copy.deepcopy(twin)
    ensemble = nn.Model(x, nn.Add()([twin(x), copied(x)]))
    names = ["input_1", "first", "code", "dense_1", "first_1", "code_1", "dense_2", "add_1"]
    assert list(copy.deepcopy(ensemble).graph.names.values()) == list(ensemble.graph.names.values()) == names
    assert equal(copy.deepcopy(ensemble).get_weights(), 2 * twin.get_weights())


# -- several threads, errors on the way


def test_a_model_that_changed_while_it_trained_says_so():
    model = trained(mlp(), "adam")[0]
    part, found = model.submodel(outputs="code"), []

    def train():
        try:
            model.fit(*data(model), epochs=10**6, verbose=0)
        except RuntimeError as problem:
            found.append(str(problem))

    thread, updates = threading.Thread(target=train), model.updates
    thread.start()
    while model.updates == updates:
        time.sleep(0.001)
    model.submodel(outputs="first").predict(data(model)[0])  # goes on
    part.compile("adam", "mse")
    thread.join()
    assert found == ["the model, or one that shares its weights, was compiled, moved or changed while it trained"]
    model.fit(*data(model), epochs=1, verbose=0)


def test_threads_may_use_models_that_share_weights():
    """One predicts with new programs all the time, another makes and compiles other parts."""
    model, wrong, done = mlp(), [], threading.Event()
    part, X = model.submodel(outputs="code"), data(model)[0]
    wanted = part.predict(X)

    def predict():
        while not done.is_set():
            part._programs.clear()
            if not np.array_equal(part.predict(X), wanted):
                wrong.append(1)

    thread = threading.Thread(target=predict)
    thread.start()
    for k in range(30):
        model.submodel(inputs="first").compile(["adam", "sgd"][k % 2], "mse")
        model.compile(["sgd", "adam"][k % 3 == 0], "mse")
    done.set()
    thread.join()
    assert not wrong


def test_a_program_is_built_for_the_memory_as_it_lies(monkeypatch):
    """While one model plans where its weights are, another of them may want to move them: it has to wait."""
    model, X = mlp(), np.ones((40, 18))
    part, other = (model.submodel(inputs="code") for _ in range(2))
    kernel, bias = part.get_weights()
    del model  # so the next layout has no first layers, and all others begin earlier
    gc.collect()
    plan, threads = part._plan, []

    def planning(*arguments):
        found = plan(*arguments)
        if not threads:
            threads.append(threading.Thread(target=other.compile, args=["adam", "mse"]))
            threads[0].start()
            threads[0].join(0.2)
        return found

    monkeypatch.setattr(part, "_plan", planning)
    offset = part.graph.parameters[0].offset
    part.predict(X)
    threads[0].join()
    monkeypatch.undo()
    assert part.graph.parameters[0].offset < offset
    exponentials = np.exp(X @ kernel + bias)
    assert close(part.predict(X), exponentials / exponentials.sum(axis=1, keepdims=True), "float32")


def test_without_memory_all_stays_as_it_is(monkeypatch, same):
    model, _ = trained(mlp(), "adam")
    part = model.submodel(outputs="code")
    before = unchanged(model), unchanged(part)

    def no_memory(*_):
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr(model._device, "zeros", no_memory)
        for change in (model.pop, lambda: part.compile("adam", "mse"), lambda: model.add(nn.Dense(2))):
            with pytest.raises(MemoryError):
                change()
    same(before[0], unchanged(model))
    same(before[1], unchanged(part))
    model.fit(*data(model), epochs=1, verbose=0)
