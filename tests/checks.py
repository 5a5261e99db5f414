"""The one checker of kernels: an op against its naive reference, and its gradients against central differences.

Operands are put into theta, the workspace, scratch memory or outside arrays with everything around them (gaps, rows
beyond the batch) set to a mark, so that a kernel which writes where it should not is caught; their padding is zero, and
must be zero afterwards where that is promised.
"""

import inspect

import numpy as np
import reference

from numbanet import kernels
from numbanet.builder import planned
from numbanet.graph import Parameter, padded
from numbanet.kernels import OPS, PANEL
from numbanet.plan import Buffer, Chain, Outside, Phase, Plan, Scratch
from numbanet.planner import features_chain
from numbanet.program import Program

THETA = {"kernel", "bias", "parameter", "velocity", "mean", "variance", "accumulator", "accumulated"}
THETA |= {"gamma", "beta", "moving_mean", "moving_variance"}
SCRATCH = {"gradient", "total", "dkernel", "dbias", "dgamma", "dbeta"}  # laid out like parameters, as are:
PANELS = {"transposed_kernel", "transposed", "kept"}  # in the workspace
OUTSIDE = {"data", "order", "scores", "unweighted", "coefficients", "penalties"}
FLOAT64 = {"scores", "unweighted", "coefficients", "penalties"}
INT64 = {("gather_classes", "data")}
ANY_PADDING = {"y"}  # written, and its padding may be anything; that of softmax is zero all the same
MARK = -1234.5
DEVICE = "cpu"  # where kernels run; the fixture `device` sets it
TOLERANCE = {"float32": 3e-6, "float64": 2e-14}  # of the largest value: tens of roundings in sums of about 100 terms


class Bench:
    """An op in a program of its own."""

    def __init__(self, name, operands, sizes, dtype="float64"):
        """sizes: and the source, of an op that computes with a user's function."""
        self.entry, self.dtype, self.operands = OPS[name], dtype, operands
        self.places, self.layouts, ends = {}, {}, {"theta": 16, "work": 16, "scratch": 0}
        for key, value in operands.items():
            self.places[key] = self._place(key, value, ends)
        if self.entry.axis == "batch":
            self.rows = len(operands[min(self.entry.writes - self.entry.notes, default="data")])
            chain = Chain(name, [planned(name, self.places | sizes)], block=3)
        elif self.entry.axis == "features":
            self.rows = len(operands[min(self.entry.writes - self.entry.notes)])
            chain = features_chain(planned(name, self.places | sizes))
        elif self.entry.axis == "whole":
            self.rows, chain = 1, Chain(name, [planned(name, self.places | sizes)], "whole", 1)
        else:
            whole = next(
                key for key in ("parameter", "gradient", "dkernel", "dbias", "dgamma", "dbeta") if key in operands
            )
            layout = self.layouts[whole]
            self.rows = len(operands.get("dy", operands.get("gradient", operands.get("parameter"))))
            extent = layout.size // PANEL
            chain = Chain(name, [planned(name, self.places | sizes)], "parameter", extent, extent, layout.rows)
            if name == "transpose":
                chain.block = PANEL
        plan = Plan("train", self.rows, [Phase([chain])], [], ends["work"] + 16, ends["theta"] + 16, ends["scratch"])
        self.device = kernels.load(DEVICE)
        self.program = Program(plan, self.device, dtype, self.device.zeros(plan.theta, dtype))
        self.outside = {}
        for key, place in self.places.items():
            if isinstance(place, Outside):
                self.outside[key] = self.device.place(self._outside(name, key))
                self.program.bind(key, self.outside[key])
        self.program.theta[:], self.program.work[:] = MARK, MARK
        for key in operands:
            self.write(key, operands[key])

    def _outside(self, name, key):
        value = self.operands[key]
        if (name, key) in INT64 or key == "order":
            return np.array(value, np.int64, order="C")
        if name == "gather_rows":
            return value  # of any dtype and memory order
        return np.array(value, np.float64 if key in FLOAT64 else self.dtype, order="C")

    def _place(self, key, value, ends):
        if value is None:
            return None
        if key in OUTSIDE:
            return Outside(key)
        space = "theta" if key in THETA else "scratch" if key in SCRATCH else "work"
        rows, width = value.shape
        start = ends[space]
        if key in THETA | PANELS | SCRATCH:
            layout = place = self.layouts[key] = Parameter(key, value.shape, start)
            if key not in THETA:
                place = (Scratch if key in SCRATCH else Buffer)(key, (PANEL,), layout.size // PANEL, start)
            ends[space] += layout.size + 32  # a gap between operands
            return place
        place = Buffer(key, (width,), rows, start)
        ends[space] += place.rows * place.stride + 32
        return place

    def _matrix(self, key):
        """An operand's rows with their padding, a copy, and how to put them back."""
        place = self.places[key]
        memory = self.program.theta if isinstance(place, Parameter) else self.program.work
        start = place.offset + (self.program.plan.workspace if isinstance(place, Scratch) else 0)
        if key in self.layouts:
            layout = self.layouts[key]
            whole = Parameter(key, (layout.rows, padded(layout.width)), start)
            return whole.unpack(memory), lambda values: whole.pack(memory, values)
        rows = memory[start : start + place.rows * place.stride].reshape(place.rows, place.stride)
        return rows.copy(), lambda values: rows.__setitem__(slice(None), values)

    def write(self, key, value):
        """Put an operand's values in place, its padding zero."""
        if key in self.outside or value is None:
            return
        rows, put = self._matrix(key)
        rows[:] = 0
        rows[:, : value.shape[1]] = value
        put(rows)

    def pad(self, key, value):
        """Set an operand's padding."""
        rows, put = self._matrix(key)
        rows[:, self.operands[key].shape[1] :] = value
        put(rows)

    def read(self, key):
        """An operand's values now, as float64."""
        if key in self.outside:
            return self.device.fetch(self.outside[key]).astype(np.float64)
        return self._matrix(key)[0][:, : self.operands[key].shape[1]].astype(np.float64)

    def run(self):
        """Run the op once; fails if it wrote outside of its operands or left padding that should be zero."""
        self.program.start(self.rows, self.rows)
        self.program.run(0, 1)
        written = {key for key in self.entry.writes if self.operands[key] is not None}
        found = {key: self.read(key) for key in written}
        for key in written - set(self.outside):
            padding = self._matrix(key)[0][:, self.operands[key].shape[1] :]
            assert key in ANY_PADDING or not padding.any(), f"{self.entry.name} left padding of {key} that is not zero"
        for key in self.operands:  # whatever is left of the marks lies outside of the operands
            if key not in self.outside and self.operands[key] is not None:
                rows, put = self._matrix(key)
                put(np.full_like(rows, MARK))
        for memory in (self.program.theta, self.program.work):
            assert np.all(memory == MARK), f"{self.entry.name} wrote outside of its operands"
        return found


def expected(name, operands, sizes):
    """The reference's result in float64."""
    function = getattr(reference, name)
    given = operands | sizes
    wanted = {key: given[key] for key in inspect.signature(function).parameters}
    return function(**{k: v.astype(np.float64) if getattr(v, "dtype", None) == np.float32 else v
                       for k, v in wanted.items()})  # fmt: skip


def check_forward(name, operands, sizes, dtype):
    """The kernel agrees with the reference."""
    rounded = {key: value.astype(dtype) if _real(name, key, value) else value for key, value in operands.items()}
    found = Bench(name, rounded, sizes, dtype).run()
    for key, wanted in expected(name, rounded, sizes).items():
        scale = max(1.0, np.abs(wanted).max())
        worst = np.abs(found[key] - wanted).max() / scale
        assert worst <= TOLERANCE[dtype], f"{name} {key}: off by {worst:.1e}"


def _real(name, key, value):
    return value is not None and value.dtype.kind == "f" and key not in FLOAT64


def check_backward(name, operands, sizes, seed=0, eps=1e-6):
    """Each gradient op agrees with central differences through the forward kernel, in float64, to 1e-8.

    The loss is sum(weights * outputs) with random weights, which are then the gradient of the outputs.
    """
    rng = np.random.default_rng(seed)
    forward = OPS[name]
    outputs = Bench(name, operands, sizes).run()
    weights = {key: rng.normal(size=value.shape) for key, value in outputs.items() if key not in forward.notes}

    def loss(moved):
        result = Bench(name, moved, sizes).run()
        return sum((weights[key] * result[key]).sum() for key in weights)

    assert forward.backward, f"{name} has no gradient"
    for backward in forward.backward:
        (target,) = OPS[backward].writes
        source = target[1:]
        if operands[source] is None:
            continue
        known = operands | outputs | {f"d{key}": value for key, value in weights.items()}
        known |= {f"transposed_{key}": operands[key].T for key in operands if operands[key] is not None}
        given = {key: known[key] for key in OPS[backward].operands if key != target}
        given[target] = np.zeros_like(operands[source])
        own = {key: sizes.get(key, 0) for key in (*OPS[backward].sizes, "source")}
        found = Bench(backward, given, own).run()[target]
        numeric = differences(loss, operands, source, eps)
        worst = np.abs(found - numeric).max() / max(1.0, np.abs(numeric).max())
        assert worst <= 1e-8, f"{backward}: off by {worst:.1e}"


def check_loss(name, operands, sizes, eps=1e-6):
    """A loss op's gradient agrees with central differences of the mean of its scores, to 1e-8."""
    (target,) = [key for key in OPS[name].writes if key in ("dx", "dy")]
    found = Bench(name, operands, sizes).run()[target]

    def loss(moved):
        return (Bench(name, moved, sizes).run()["scores"] - operands["scores"])[:, 0].mean()

    numeric = differences(loss, operands, target[1:], eps)
    worst = np.abs(found - numeric).max() / max(1.0, np.abs(numeric).max())
    assert worst <= 1e-8, f"{name}: off by {worst:.1e}"


def differences(loss, operands, key, eps):
    """(loss(+eps) - loss(-eps)) / 2 eps by each element of an operand."""
    numeric = np.empty(operands[key].shape)
    for index in np.ndindex(numeric.shape):
        values = []
        for step in (eps, -eps):
            moved = operands[key].copy()
            moved[index] += step
            values.append(loss(operands | {key: moved}))
        numeric[index] = (values[0] - values[1]) / (2 * eps)
    return numeric
