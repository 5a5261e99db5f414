"""The op catalogue: what every op reads, writes and is told, whichever device computes it.

An op is one row of a program's op table::

    address | 4 sizes | operand 0 | operand 1 | ...    an operand: where, rows, row stride, column stride

and a kernel is a loop with one signature for all ops, `(op, theta, work, step, first, last)`: the op's row, the
parameters, the workspace, the step record below, and the part of the op's axis that this call computes. The axis of a
"batch" op is the rows of the batch, the axis of a "parameter" op the rows of the panels of the parameter it writes.
Products may also be told to compute panels of columns for groups of rows of the batch: all panels of the first group,
then those of the second. Their size `columns` is the rows of a group then, else 0. On the CPU the batch is one group.
The axis of a "features" op, which mixes rows, is the panels of its columns, each for the whole batch; a "whole" op is
one piece.

A size may be a real number, which the row holds as the bits of a float64 (`real` in kernels/*/memory.py).

Memory. Rows of activations are padded to whole vectors. A parameter (rows x width) lies in panels of 16 columns, each
as deep as the parameter has rows, so that a product reads it from end to end; `transposed_kernel` is a copy of the
kernel's transpose in panels, for the products of the backward pass. Padding of parameters, of gradients and of what
enters the network is zero; padding of other activations is anything finite. A gradient of a parameter exists only for
the rows under way, in the worker's scratch memory.

Derivatives go by name: the gradient of operand `x` is operand `dx`, and `backward` lists the ops which compute the
gradients of an op's operands, one each. The plan differentiates a network with nothing but this table. An activation
whose backward op reads `y` but not `x` may overwrite its input. What an op notes for its backward op, or for later
steps, is written too, but nothing is differentiated through it.

Some ops compute with a user's function, the `source` of a planned op (kernels/function.py): each has its own kernel.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass

SIZES = 4  # size fields of a row
OPERAND = 4  # integers of an operand: where (offset or address), rows, row stride, column stride
PANEL = 16  # columns of a panel: 64 bytes in float32, the longest vector and a cache line

# What the samples may be.
DTYPES = ("float32", "float64", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")

# The step record, an int64 array, one for each worker: what the engine tells kernels about the step under way.
ROWS = 0  # rows of the current batch (the last one may be short)
START = 1  # position of the batch's first row in the order of samples
BATCH = 2  # index of the batch in the epoch
UPDATE = 3  # steps done since the model was compiled
BATCH_SIZE = 4
SAMPLES = 5  # samples in the epoch
WORKER = 6  # who computes: picks the scratch memory
SCRATCH = 7  # elements of a worker's scratch memory
SCORE = 8  # the scores' row of the batch's first row
NOT_FINITE = 9  # set to 1 by whoever meets NaN or infinity in the samples
EACH = 10  # 1: every sample has a row of scores, 0: every row of the batch has one
PERIOD = 11  # steps from one update of the parameters to the next
STEP_FIELDS = 16

# The columns of the table of tasks: some ops on a part of their axis, for one worker (see the engines).
OP_BEGIN, OP_END, FIRST, LAST, ON_BATCH, TASK_FIELDS = range(6)

# When a phase runs, the first column of the table of shares.
EVERY_STEP = 0
FIRST_STEP = 1  # of a call
LAST_STEP = 2  # of a period

DEVICES = ("cpu", "cuda")


class DeviceError(RuntimeError):
    """A device that cannot be used here; says why."""


@dataclass(frozen=True)
class Geometry:
    """How a device wants plans to be cut.

    block: most rows of a batch that one worker takes through all layers, a multiple of grain. tile: most rows of a
    parameter's panels that a task updates. group: a product by columns is computed for at most so many rows of the
    batch at once (None: all of them). side, squares: products that fill at least so many squares of side rows and
    columns are computed in such squares instead. workers: for whom a group should leave something to do.
    """

    block: int = 64  # few, so that activations stay in cache
    grain: int = 8  # the height of a tile
    tile: int = 256  # with their gradient 32 KiB, a first-level cache
    group: int | None = None
    side: int = 0
    squares: int = 0
    workers: int = 1

    def grouping(self, rows, panels):
        """(rows of a group, panels of a task) for a product of so many rows and panels."""
        if self.group is None:
            return rows, 1
        if self.squares and -(-rows // self.side) * -(-panels * PANEL // self.side) >= self.squares:
            return self.side, self.side // PANEL
        fair = -(-rows * panels // (self.workers * self.grain)) * self.grain
        return min(self.group, rows, fair), 1


@dataclass(frozen=True)
class Op:
    """One entry of the catalogue: operand and size names in the order of the table's row."""

    name: str
    operands: tuple[str, ...]
    writes: frozenset[str]
    notes: frozenset[str]  # among them
    sizes: tuple[str, ...]
    axis: str
    backward: tuple[str, ...]


def _entry(name, form, backward=(), axis="batch"):
    """Read a form like "x kernel -> y ; notes | inputs units": operands read -> written ; noted | sizes."""
    operands, _, sizes = form.partition("|")
    reads, _, written = operands.partition("->")
    results, _, notes = written.partition(";")
    return Op(
        name,
        tuple(f"{reads} {results} {notes}".split()),
        frozenset(f"{results} {notes}".split()),
        frozenset(notes.split()),
        tuple(sizes.split()),
        axis,
        tuple(backward),
    )


def _activation(name, slope_of="y", parameter=""):
    """slope_of: the operand from which the backward op knows the slope. parameter: a real size of the formula."""
    return (
        _entry(f"{name}_forward", f"x -> y | width {parameter}", [f"{name}_backward"]),
        _entry(f"{name}_backward", f"{slope_of} dy -> dx | width {parameter}"),
    )


OPS = {
    op.name: op
    for op in (
        # batch: into the workspace and out of it
        _entry("gather_rows", "data order -> x | width"),
        _entry("check_rows", "data -> | width"),
        _entry("gather_classes", "data order -> x | width"),
        _entry("scatter_rows", "x -> data | width"),
        # dense
        _entry(
            "dense_forward",
            "x kernel bias -> y | inputs units relu columns",
            ["dense_backward_input", "dense_backward_kernel", "dense_backward_bias"],
        ),
        _entry("dense_backward_input", "dy transposed_kernel -> dx | inputs units columns"),
        _entry("dense_backward_kernel", "x dy -> dkernel | inputs units", axis="parameter"),
        _entry("dense_backward_bias", "dy -> dbias | units", axis="parameter"),
        # pointwise
        *_activation("sigmoid"),
        *_activation("tanh"),
        *_activation("relu"),
        *_activation("leaky_relu", parameter="negative_slope"),
        *_activation("elu", parameter="alpha"),
        *_activation("selu"),
        *_activation("gelu", slope_of="x"),
        *_activation("softplus"),
        *_activation("softsign"),
        *_activation("swish", slope_of="x"),
        *_activation("hard_sigmoid"),
        *_activation("step"),
        *_activation("softmax"),
        *_activation("log_softmax"),
        _entry("copy_forward", "x -> y | width at", ["copy_backward"]),
        _entry("copy_backward", "dy -> dx | width at"),
        _entry("add_forward", "x -> y | width", ["copy_backward"]),
        # norm: `positions` vectors of `width` elements a row. Without a place for them, no statistics are kept
        _entry(
            "batch_norm_forward",
            "x -> y ; spread moving_mean moving_variance | width positions epsilon momentum",
            ["batch_norm_backward"],
            axis="features",
        ),
        _entry("batch_norm_backward", "y dy spread -> dx | width positions", axis="features"),
        _entry(
            "batch_norm_infer_forward",
            "x moving_mean moving_variance -> y | width positions epsilon",
            ["batch_norm_infer_backward"],
        ),
        _entry("batch_norm_infer_backward", "dy moving_variance -> dx | width positions epsilon"),
        _entry("layer_norm_forward", "x -> y ; spread | width positions epsilon", ["layer_norm_backward"]),
        _entry("layer_norm_backward", "y dy spread -> dx | width positions"),
        _entry(
            "scale_forward",
            "x gamma beta -> y | width positions",
            ["scale_backward_input", "scale_backward_gamma", "scale_backward_beta"],
        ),
        _entry("scale_backward_input", "dy gamma -> dx | width positions"),
        _entry("scale_backward_gamma", "x dy -> dgamma | width positions", axis="parameter"),
        _entry("scale_backward_beta", "dy -> dbeta | width positions", axis="parameter"),
        # noise
        _entry("dropout_forward", "x -> y | width rate seed stream", ["dropout_backward"]),
        _entry("dropout_backward", "dy -> dx | width rate seed stream"),
        _entry("gaussian_noise_forward", "x -> y | width stddev seed stream", ["copy_backward"]),
        # function: of a user
        _entry("function_forward", "x -> y | width", ["function_backward"]),
        _entry("function_backward", "x dy -> dx | width"),
        _entry("function_loss", "y target -> dy scores | width"),
        # loss and metrics: one number a row, added to a column of the scores
        _entry("half_squared_error", "y target -> dy scores | width"),
        _entry("mse", "y target -> dy scores | width"),
        _entry("cross_entropy", "y target -> dy scores | width"),
        _entry("binary_cross_entropy", "y target -> dy scores | width"),
        _entry("mae", "y target -> dy scores | width"),
        _entry("huber", "y target -> dy scores | width delta"),
        _entry("kl_divergence", "y target -> dy scores | width"),
        _entry("hinge", "y target -> dy scores | width"),
        _entry("poisson", "y target -> dy scores | width"),
        _entry("softmax_cross_entropy", "x target -> y dx scores | width"),
        _entry("log_softmax_cross_entropy", "x target -> y dx scores | width"),
        _entry("sigmoid_binary_cross_entropy", "x target -> y dx scores | width"),
        _entry("accuracy", "y target -> scores | width column"),
        _entry("binary_accuracy", "y target -> scores | width column"),
        _entry("mean_squared_error", "y target -> scores | width column"),
        _entry("mean_absolute_error", "y target -> scores | width column"),
        _entry("weigh", "weights -> dy unweighted scores | width"),
        # update
        _entry("sgd_update", "gradient coefficients -> parameter", axis="parameter"),
        _entry("momentum_update", "gradient coefficients -> parameter velocity", axis="parameter"),
        _entry("adam_update", "gradient coefficients -> parameter mean variance", axis="parameter"),
        _entry("adamw_update", "gradient coefficients -> parameter mean variance", axis="parameter"),
        _entry("rmsprop_update", "gradient coefficients -> parameter variance mean velocity", axis="parameter"),
        _entry("adagrad_update", "gradient coefficients -> parameter accumulator", axis="parameter"),
        # parameters and their gradients beside the update
        _entry("gradient_add", "gradient -> total", axis="parameter"),
        _entry("gradient_keep", "gradient -> kept", axis="parameter"),
        _entry("gradient_take", "kept factor -> gradient", axis="parameter"),
        _entry("gradient_accumulate", "coefficients -> gradient accumulated | column", axis="parameter"),
        _entry("gradient_clip", " -> gradient | limit", axis="parameter"),
        _entry("gradient_squares", "gradient -> squares", axis="parameter"),
        _entry("sum_squares", "squares -> norms | column", axis="whole"),
        _entry("clip_factor", "norms -> factor | width limit", axis="whole"),
        _entry("regularize", "parameter -> gradient penalties | l1 l2 at", axis="parameter"),
        _entry("transpose", "parameter -> transposed | inputs units", axis="parameter"),
    )
}

FUNCTIONS = {name for name in OPS if name.startswith("function_")}  # with a kernel for each Function, the op's source


def load(device):
    """The module of a device's kernels. Picking a device is picking a module. DeviceError if it cannot be used."""
    from numbanet.names import lookup

    module = importlib.import_module(lookup("device", device, {name: f"{__name__}.{name}" for name in DEVICES}))
    module.require()
    return module


def compiled():
    """Are kernels machine code, not plain Python?"""
    from numbanet.kernels.jit import JIT

    return JIT
