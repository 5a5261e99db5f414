"""Collecting a plan: layers emit forward ops, the catalogue gives their gradients."""

from __future__ import annotations

from numbanet.graph import Parameter, padded
from numbanet.kernels import FUNCTIONS, OPS, PANEL, Geometry
from numbanet.layers.base import REALS
from numbanet.plan import Buffer, PlannedOp, Scratch


class Builder:
    """Collects a plan's buffers and ops; layers emit into it.

    training: layers behave as while training, noise and all. learning: they also keep statistics of what they see.
    seed: of the noise. frozen: parameters that get no gradient.
    """

    def __init__(self, batch_size, geometry=Geometry(), *, training=False, learning=False, seed=0, frozen=()):  # noqa: B008  (frozen)
        self.batch_size, self.geometry, self.frozen = batch_size, geometry, set(frozen)
        self.training, self.learning, self.seed = training, learning, seed
        self.buffers, self.size, self.ops = [], 0, []
        self.label, self.shape = "", ()  # of the layer under way: whose buffers are made, and the shape of its output
        self.scratch = 0  # elements that the largest chain of a parameter needs
        self.copies = {}  # Parameter -> Buffer of its transpose
        self._gradient = {}  # Buffer or Parameter -> Buffer of its gradient
        self._streams = 0

    def stream(self):
        """The number of a stream of random numbers that no other op of the plan has."""
        self._streams += 1
        return self._streams

    def buffer(self, shape, name=None, rows=None):
        """A new buffer, one row a sample of the batch."""
        rows = self.batch_size if rows is None else rows
        buffer = Buffer(name or self.label, tuple(shape), rows, self.size)
        self.buffers.append(buffer)
        self.size += rows * buffer.stride
        return buffer

    def op(self, name, **given):
        """Append a forward op, operands and sizes by the catalogue's names."""
        self.ops.append(planned(name, given))

    def activation(self, name, x, overwrite=False, **reals):
        """The buffer of activation(x): x itself if it may be overwritten and the gradient does not need it.

        name: or the description of a user's function. reals: the formula's parameters, by default those that the name
        alone stands for.
        """
        if name == "linear":
            return x
        source = getattr(name, "source", None)
        name = "function" if source else name
        keep = any("x" in OPS[backward].operands for backward in OPS[f"{name}_forward"].backward)
        y = x if overwrite and not keep else self.buffer(x.shape)
        self.op(f"{name}_forward", x=x, y=y, width=x.width, source=source, **REALS.get(name, {}) | reals)
        return y

    def gradient(self, of):
        """The gradient buffer of a buffer or parameter, or None if nothing has been written to it."""
        return self._gradient.get(of)

    def start_gradient(self, of):
        """A gradient buffer to be written whole, for the first that contributes to it."""
        self._gradient[of] = self._gradient_buffer(of, f"d {of.name}", 0)
        return self._gradient[of]

    def _gradient_buffer(self, of, name, after):
        if isinstance(of, Buffer):
            return self.buffer(of.shape, name)
        gradient = Scratch(name, (PANEL,), max(self.geometry.tile, PANEL), after)
        self.scratch = max(self.scratch, after + gradient.rows * gradient.stride)
        return gradient

    def transposed(self, parameter):
        """The copy of a parameter's transpose, in panels."""
        if parameter not in self.copies:
            rows = padded(parameter.rows) // PANEL * parameter.width
            self.copies[parameter] = self.buffer((PANEL,), f"{parameter.name} transposed", rows)
        return self.copies[parameter]

    def differentiate(self):
        """Backward ops in order: those over the batch, and by parameter those of its gradient.

        Activation gradients overwrite; where several ops contribute to one gradient, all but the first write to a
        buffer of their own which is then added.
        """
        live = self._live()
        batch, parameters = [], {}
        for op in reversed(self.ops):
            outputs = {f"d{key}": self.gradient(op.operands[key]) for key in OPS[op.name].writes - OPS[op.name].notes}
            if not OPS[op.name].backward or any(gradient is None for gradient in outputs.values()):
                continue
            for name in OPS[op.name].backward:
                (target,) = OPS[name].writes
                source = op.operands.get(target[1:])
                if source not in live:
                    continue
                ops = batch if isinstance(source, Buffer) else parameters.setdefault(source, [])
                known = {**op.operands, **outputs, **op.sizes, "source": op.source}
                for key in OPS[name].operands:
                    if key.startswith("transposed_"):
                        known[key] = self.transposed(op.operands[key.removeprefix("transposed_")])
                self._contribute(name, known, target, source, ops, in_place=source in op_outputs(op))
        return batch, parameters

    def _contribute(self, name, known, target, source, ops, in_place):
        earlier = self.gradient(source)
        if earlier is None or in_place:
            ops.append(planned(name, known | {target: earlier or self.start_gradient(source)}))
            return
        extra = self._gradient_buffer(source, f"{earlier.name} (more)", earlier.rows * earlier.stride)
        ops.append(planned(name, known | {target: extra}))
        if isinstance(source, Buffer):
            ops.append(planned("add_forward", {"x": extra, "y": earlier, "width": extra.width}))
        else:
            ops.append(planned("gradient_add", {"gradient": extra, "total": earlier}))

    def _live(self):
        """Parameters, and the buffers which depend on one: all that wants a gradient."""
        live = set()
        for op in self.ops:
            operands = [value for value in op.operands.values() if value is not None]
            parameters = [value for value in operands if isinstance(value, Parameter) and value not in self.frozen]
            live.update(parameters)
            if parameters or any(value in live for value in operands):
                live.update(op_outputs(op))
        return live


def op_outputs(op):
    """The operands that an op computes."""
    return [op.operands[key] for key in OPS[op.name].writes - OPS[op.name].notes]


def planned(name, given):
    """An op with what it needs of the given operands and sizes, and the user's function if it computes with one."""
    entry = OPS[name]
    operands = {key: given[key] for key in entry.operands}
    sizes = {key: given.get(key, 0) for key in entry.sizes}
    return PlannedOp(name, operands, sizes, given["source"] if name in FUNCTIONS else None)
