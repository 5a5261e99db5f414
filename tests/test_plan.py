"""Plans are data: these tests need no compiler."""

import itertools

import numpy as np
import pytest
from test_model import dag

import numbanet as nn
from numbanet.graph import padded
from numbanet.kernels import OPERAND, OPS, PANEL, SIZES, Geometry
from numbanet.plan import Buffer, Outside, Scratch
from numbanet.planner import MODES


def mlp(metrics=("accuracy",), optimizer="adam"):
    model = nn.Sequential([nn.Input(20), nn.Dense(300, "relu"), nn.Dense(10, "softmax")], seed=0)
    model.compile(optimizer, "cross_entropy", list(metrics))
    return model


def names(plan):
    return [op.name for op in plan.ops]


def test_a_training_plan_op_by_op():
    assert names(mlp().plan("train", 32)) == [
        "transpose",
        "gather_rows",
        "gather_rows",
        "dense_forward",
        "dense_forward",
        "softmax_cross_entropy",
        "accuracy",
        "dense_backward_input",
        "relu_backward",
        "dense_backward_kernel",
        "adam_update",
        "dense_backward_bias",
        "adam_update",
        "dense_backward_kernel",
        "adam_update",
        "transpose",
        "dense_backward_bias",
        "adam_update",
    ]


def test_relu_is_left_to_the_product_only_where_it_overwrites_its_output():
    x = nn.Input(4)
    h = nn.Dense(5)(x)
    apart = nn.Model(x, nn.Add()([nn.Activation("relu")(h), h]))
    assert names(apart.plan("predict")).count("relu_forward") == 1
    inside = nn.Model(x, nn.Dense(5, "relu")(x)).plan("predict")
    assert "relu_forward" not in names(inside)
    assert inside.ops[1].sizes["relu"] == 1


def test_the_first_layers_input_gradient_is_skipped():
    assert names(mlp().plan()).count("dense_backward_input") == 1


def test_the_other_modes():
    model = mlp()
    assert names(model.plan("predict"))[-2:] == ["softmax_forward", "scatter_rows"]
    assert not [name for name in names(model.plan("evaluate")) if "backward" in name or "update" in name]
    gradient = model.plan("gradient")
    assert not [name for name in names(gradient) if "update" in name]
    assert set(gradient.gradients) == {parameter.name for parameter in model.graph.parameters}


@pytest.mark.parametrize("mode", MODES)
def test_buffers_do_not_overlap_and_fit(mode):
    model = dag()
    model.compile("adam", "cross_entropy", ["accuracy"])
    plan = model.plan(mode, 33)
    used = np.zeros(plan.workspace, int)
    for buffer in plan.buffers:
        assert buffer.offset % PANEL == 0
        assert buffer.stride // PANEL % 2 == 1
        assert buffer.stride % PANEL == 0
        used[buffer.offset : buffer.offset + buffer.rows * buffer.stride] += 1
    assert used.max() == 1
    assert used.min() == 1
    for op in plan.ops:
        for operand in op.operands.values():
            assert not isinstance(operand, Buffer) or isinstance(operand, Scratch) or operand in plan.buffers
            if isinstance(operand, Scratch):
                assert operand.offset + operand.rows * operand.stride <= plan.scratch


def test_parameters_and_slots_tile_theta():
    model = dag()
    model.compile("adam", "cross_entropy")
    plan = model.plan()
    used = np.zeros(plan.theta, int)
    for parameter in model.graph.parameters:
        places = [parameter] + [
            parameter.slot(k, name, model.graph.size) for k, name in enumerate(("mean", "variance"))
        ]
        for place in places:
            used[place.offset : place.offset + place.size] += 1
    assert used.min() == used.max() == 1
    assert plan.theta == 3 * model.graph.size == model._theta.size


@pytest.mark.parametrize("workers", [1, 2, 3, 8])
@pytest.mark.parametrize("batch_size", [1, 50, 500])
def test_tasks_cover_each_axis_once(batch_size, workers):
    plan = mlp().plan("train", batch_size)
    tasks, shares = plan.tasks(workers)
    assert shares[:, 0].tolist() == [phase.when for phase in plan.phases]
    assert shares[0, 0]
    assert shares[0, 1] == 0
    assert shares[-1, -1] == len(tasks)
    assert (np.diff(shares[:, 1:]) >= 0).all()
    assert shares[1:, 1].tolist() == shares[:-1, -1].tolist()
    begin = 0
    for chain in [chain for phase in plan.phases for chain in phase.chains]:
        own = sorted(task.tolist() for task in tasks if task[0] == begin)
        rows = [row for task in own for row in range(task[2], task[3])]
        assert rows == list(range(batch_size if chain.extent is None else chain.extent))
        assert all(task[1] == begin + len(chain.ops) for task in own)
        assert all(task[4] == (chain.axis == "batch") for task in own)
        assert all(task[3] - task[2] <= chain.block for task in own)
        if chain.axis == "parameter":  # whole panels, or parts that begin at squares of the transpose
            assert all(task[2] % chain.rows % PANEL == 0 for task in own)
            assert all(task[3] % chain.rows == 0 or (task[3] - task[2]) % PANEL == 0 for task in own)
        elif chain.axis == "batch":
            assert all(task[2] % Geometry().grain == 0 for task in own)
        begin += len(chain.ops)


def test_large_kernels_are_multiplied_by_columns():
    """784-512-10, 32 rows: the first product is split among workers by columns, and each updates what it multiplies."""
    model = nn.Sequential([nn.Input(784), nn.Dense(512, "relu"), nn.Dense(10)], seed=0)
    model.compile("sgd", "mse")
    plan = model.plan("train", 32)
    assert [[chain.axis for chain in phase.chains] for phase in plan.phases[1:]] == [
        ["batch"],
        ["columns"],
        ["batch"],
        ["parameter"] * 4,
    ]
    assert plan.phases[2].chains[0].extent == 512 // PANEL
    tasks, shares = plan.tasks(2)
    columns, parameters = shares[2], shares[4]
    assert tasks[columns[1]][2:4].tolist() == [0, 16]
    assert tasks[columns[2]][2:4].tolist() == [16, 32]
    updated = [tasks[a:b] for a, b in itertools.pairwise(parameters[1:])]
    rows = [some[some[:, 0] == updated[0][0, 0]] for some in updated]
    assert abs(rows[0][-1, 3] - 16 * 784) <= Geometry().tile
    assert rows[0][-1, 3] == rows[1][0, 2]
    assert len(model.plan("predict", 32).phases) == 1


def test_workers_get_equal_shares():
    """784-512-10, 128 rows: nobody has more than 15% above an equal share of the multiply-adds."""
    model = nn.Sequential([nn.Input(784), nn.Dense(512, "relu"), nn.Dense(10)], seed=0)
    model.compile("sgd", "mse")
    plan = model.plan("train", 128)
    for workers in (2, 3, 4):
        tasks, shares = plan.tasks(workers)
        for share in shares[1:]:
            longest = max(task[1] - task[0] for task in tasks[share[1] : share[-1]])
            work = [
                sum((task[3] - task[2]) * 1.0 for task in tasks[a:b] if task[1] - task[0] == longest)
                for a, b in itertools.pairwise(share[1:])
            ]
            assert max(work) <= 1.15 * sum(work) / workers


def test_the_table_holds_what_the_catalogue_says():
    plan = mlp().plan("train", 32)
    addresses = {name: number for number, name in enumerate(OPS)}
    table = plan.table(lambda op: addresses[op.name])
    for row, op in zip(table, plan.ops, strict=True):
        entry = OPS[op.name]
        assert row[0] == addresses[op.name]
        assert row[1 : 1 + len(entry.sizes)].tolist() == [op.sizes[size] for size in entry.sizes]
        for k, key in enumerate(entry.operands):
            field = row[1 + SIZES + OPERAND * k :][:OPERAND].tolist()
            operand = op.operands[key]
            wanted = [0, 0, 0, 0] if isinstance(operand, Outside) else [*operand.operand, 0]
            if isinstance(operand, Scratch):
                wanted[0] += plan.workspace
            assert field == wanted
    places = plan.outside()
    assert set(places) == {"samples of input_1", "order", "targets", "scores", "coefficients"}
    assert len(places["coefficients"]) == 4


def test_a_layer_without_bias_has_an_empty_operand():
    model = nn.Sequential([nn.Input(3), nn.Dense(2, use_bias=False)], seed=0)
    (dense,) = [op for op in model.plan("predict").ops if op.name == "dense_forward"]
    assert dense.operands["bias"] is None


def test_a_gradient_from_several_uses_is_added():
    """Two uses of a buffer: the second contribution goes to a buffer of its own, then is added."""
    x = nn.Input(4)
    h = nn.Dense(5, "tanh")(x)
    model = nn.Model(x, nn.Add()([h, nn.Dense(5)(h)]))
    model.compile("sgd", "mse")
    plan = model.plan("gradient")
    added = [op for op in plan.ops if op.name == "add_forward" and op.operands["y"].name.startswith("d ")]
    assert [(op.operands["x"].name, op.operands["y"].name) for op in added] == [("d dense_1 (more)", "d dense_1")]


def test_a_shared_layers_gradient_is_added():
    a, b, dense = nn.Input(4), nn.Input(4), nn.Dense(5)
    model = nn.Model([a, b], nn.Add()([dense(a), dense(b)]))
    model.compile("sgd", "mse")
    (kernel, bias) = model.plan("train").phases[-1].chains
    assert [op.name for op in kernel.ops] == [
        "dense_backward_kernel",
        "dense_backward_kernel",
        "gradient_add",
        "sgd_update",
    ]
    assert (kernel.extent, kernel.rows) == (4, 4)
    assert (bias.extent, bias.rows) == (1, 1)


def test_only_a_last_activation_is_fused():
    def losses_of(output, loss="cross_entropy"):
        x = nn.Input(4)
        model = nn.Model(x, output(x))
        model.compile("sgd", loss)
        return [
            name for name in names(model.plan("evaluate")) if "entropy" in name or "mse" in name or "softmax" in name
        ]

    assert losses_of(nn.Dense(3, "softmax")) == ["softmax_cross_entropy"]
    assert losses_of(nn.Dense(3, "log_softmax")) == ["log_softmax_cross_entropy"]
    assert losses_of(nn.Dense(3, "softmax"), "mse") == ["softmax_forward", "mse"]
    assert losses_of(nn.Dense(3, "sigmoid"), "binary_cross_entropy") == ["sigmoid_binary_cross_entropy"]
    assert losses_of(nn.Dense(3, "sigmoid")) == ["cross_entropy"]
    assert losses_of(lambda x: nn.Add()([nn.Dense(3, "softmax")(x), nn.Dense(3)(x)])) == [
        "softmax_forward",
        "cross_entropy",
    ]


def test_padding():
    assert [padded(count) for count in (1, 16, 17, 32)] == [16, 16, 32, 32]


def test_nothing_is_derived_that_no_parameter_wants():
    """No gradient runs through what comes before the first parameter."""
    x = nn.Input(4)
    model = nn.Model(x, nn.Dense(3)(nn.Add()([nn.Activation("tanh")(x), x])))
    model.compile("sgd", "mse")
    backward = [name for name in names(model.plan("gradient")) if "backward" in name]
    assert backward == ["dense_backward_kernel", "dense_backward_bias"]


def test_given_names_are_left_alone():
    model = nn.Sequential([nn.Input(3), nn.Dense(2), nn.Dense(2, name="dense_1"), nn.Dense(2)], seed=0)
    assert [model.graph.names[layer] for layer in model.layers] == ["input_1", "dense_2", "dense_1", "dense_3"]


def test_tiles_fit_a_cache_and_threads_are_tried_for_large_steps_only():
    model = nn.Sequential([nn.Input(784), nn.Dense(512, "relu"), nn.Dense(10)], seed=0)
    model.compile("sgd", "mse")
    plan = model.plan()
    assert plan.scratch * 4 <= 2**15 / 2
    assert model._program("train", 128).pace.may_parallel
    assert not mlp()._program("train", 8).pace.may_parallel
