"""The plan: a network as data. Which ops run in which order on which buffers, and how they may be cut into tasks.

A plan is plain Python: it can be printed, and tested without Numba. Its phases, at most:

    once        transposed copies of kernels, made before the first step of a call
    rows        gather, forward, loss, backward: one chain of ops over the rows of the batch
    features    between two of these: an op that mixes rows
    parameters  one chain for each parameter: its gradient over the whole batch, the optimiser, the transposed copy
    norms       where gradients are clipped by their norm, or gathered over several steps, the parameters' phase is
    updates     split: gradients first, then norms, then updates

Workers share a phase: blocks of rows, tiles of parameters. Every number is computed by one worker in an order which
does not depend on the cut, so any number of threads computes the same bits.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from numbanet.graph import Parameter, padded
from numbanet.kernels import EVERY_STEP, FIRST_STEP, LAST_STEP, OPERAND, OPS, PANEL, SIZES
from numbanet.kernels.function import Function

UNITS = {"columns": "panels", "parameter": "rows of panels", "whole": "piece"}  # of a chain's extent


@dataclass(eq=False)
class Buffer:
    """Rows of the workspace: one a sample, or one a row of a parameter."""

    name: str
    shape: tuple[int, ...]
    rows: int
    offset: int

    @property
    def width(self):
        return math.prod(self.shape)

    @property
    def stride(self):
        """An odd number of panels (cache lines in float32): the rows of a tile then lie in different cache sets."""
        return padded(self.width) + PANEL * (padded(self.width) // PANEL % 2 == 0)

    @property
    def operand(self):
        """Where, rows and stride as kernels see it."""
        return self.offset, self.rows, self.stride


class Scratch(Buffer):
    """Rows of a parameter's gradient in a worker's scratch memory; the offset counts from there."""


@dataclass(frozen=True)
class Outside:
    """An array that the program binds at run time: data, labels, order, scores, coefficients."""

    name: str


@dataclass
class PlannedOp:
    """An op of the catalogue with its operands and sizes; source: the user's function that it computes with."""

    name: str
    operands: dict[str, Buffer | Parameter | Outside | None]
    sizes: dict[str, int | float]
    source: Function | None = None

    def __str__(self):
        entry = OPS[self.name]
        sizes = self.sizes | ({"function": self.source.name} if self.source else {})
        names = [f"{key}={getattr(self.operands[key], 'name', '-')}" for key in entry.operands]
        return f"{self.name:<29}{' '.join(names)}  {' '.join(f'{key}={size}' for key, size in sizes.items())}"


@dataclass
class Chain:
    """Ops which one worker runs one after the other on the same part of an axis.

    axis: "batch", its rows; "columns", panels of the columns of a product, for each group of rows, or of what mixes
    rows; "whole", one piece; "parameter", the rows of a parameter's panels (`rows` to a panel). extent: of the axis,
    None for "batch". block: most of a task, which is a multiple of grain.
    """

    name: str
    ops: list[PlannedOp]
    axis: str = "batch"
    extent: int | None = None
    block: int = 64
    rows: int = 1
    grain: int = 1

    def cut(self, batch_size, workers):
        """(first, last) of each task, for so many workers."""
        if self.axis != "parameter":
            extent = batch_size if self.extent is None else self.extent
            rounds = math.ceil(extent / (workers * self.block))
            block = math.ceil(extent / (rounds * workers * self.grain)) * self.grain
            return [(first, min(extent, first + block)) for first in range(0, extent, block)]
        block = min(self.block, math.ceil(self.extent / workers / PANEL) * PANEL)
        if self.rows <= block:  # some whole panels
            whole = block // self.rows * self.rows
            return [(first, min(self.extent, first + whole)) for first in range(0, self.extent, whole)]
        return [  # parts of panels, which begin at whole squares of the transposed copy
            (panel + first, panel + min(self.rows, first + block))
            for panel in range(0, self.extent, self.rows)
            for first in range(0, self.rows, block)
        ]

    def cost(self, first, last, batch_size):
        """Roughly how long a task takes."""
        return (last - first) * sum(_cost(op, self.axis, batch_size) for op in self.ops)


@dataclass
class Phase:
    """Chains whose tasks may run at the same time.

    when: EVERY_STEP, FIRST_STEP (of a call) or LAST_STEP (of a period).
    """

    chains: list[Chain]
    when: int = EVERY_STEP


@dataclass
class Plan:
    """What a program needs, as data: phases of chains, the size of the workspace and of theta."""

    mode: str
    batch_size: int
    phases: list[Phase]
    buffers: list[Buffer]
    workspace: int
    theta: int
    scratch: int = 0  # elements for each worker
    gradients: dict[str, Buffer] = field(default_factory=dict)  # of parameters, by name, where they are kept
    outputs: dict = field(default_factory=dict)  # of the graph's nodes: Node -> Buffer
    deltas: dict = field(default_factory=dict)  # the loss's derivatives by these, where there are: Node -> Buffer
    columns: int = 0  # of the scores: the loss and the metrics
    period: int = 1  # steps to an update

    @property
    def ops(self):
        return [op for phase in self.phases for chain in phase.chains for op in chain.ops]

    @property
    def cost(self):
        """Multiply-adds of a step, roughly: what decides whether threads pay."""
        products = [op for op in self.ops if op.name != "transpose"]
        return self.batch_size * sum(op.sizes.get("inputs", 1) * op.sizes.get("units", 1) for op in products)

    @property
    def independent(self):
        """Can batches be computed in any order?"""
        return self.mode in ("predict", "evaluate")

    def table(self, address):
        """The op table, with the address of each op. Operands from outside stay empty; `outside` says where they go."""
        ops = self.ops
        table = np.zeros((len(ops), 1 + SIZES + OPERAND * max(len(OPS[op.name].operands) for op in ops)), np.int64)
        for row, op in zip(table, ops, strict=True):
            entry = OPS[op.name]
            row[0] = address(op)
            row[1 : 1 + len(entry.sizes)] = [_field(op.sizes.get(size, 0)) for size in entry.sizes]
            for k, key in enumerate(entry.operands):
                operand, at = op.operands[key], 1 + SIZES + OPERAND * k
                if isinstance(operand, Buffer | Parameter):
                    row[at : at + OPERAND] = *operand.operand, 0
                    row[at] += self.workspace if isinstance(operand, Scratch) else 0
        return table

    def outside(self):
        """Where in the table each outside array belongs: name -> list of (row, column)."""
        places = {}
        for row, op in enumerate(self.ops):
            for k, key in enumerate(OPS[op.name].operands):
                if isinstance(op.operands[key], Outside):
                    places.setdefault(op.operands[key].name, []).append((row, 1 + SIZES + OPERAND * k))
        return places

    def tasks(self, workers):
        """The tables of tasks, and of who does which, for so many workers (see kernels/*/engine.py)."""
        tasks, shares, op = [], [], 0
        for phase in self.phases:
            mine, loads = [[] for _ in range(workers)], [0] * workers
            for chain in phase.chains:
                pieces = chain.cut(self.batch_size, workers)
                costs = [chain.cost(*piece, self.batch_size) for piece in pieces]
                for worker, piece, cost in zip(_workers_for(costs, loads), pieces, costs, strict=True):
                    mine[worker].append((op, op + len(chain.ops), *piece, chain.axis == "batch"))
                    loads[worker] += cost
                op += len(chain.ops)
            begins = [len(tasks) + sum(map(len, mine[:worker])) for worker in range(workers + 1)]
            shares.append((phase.when, *begins))
            tasks.extend(task for some in mine for task in some)
        return np.array(tasks, np.int64), np.array(shares, np.int64)

    def __str__(self):
        lines = [
            f"{self.mode} plan: batches of {self.batch_size}, {self.theta} elements of parameters and optimiser state, "
            f"{self.workspace} of workspace, {self.scratch} of scratch for each worker"
        ]
        for number, phase in enumerate(self.phases):
            for chain in phase.chains:
                extent = "rows of the batch" if chain.extent is None else f"{chain.extent} {UNITS[chain.axis]}"
                when = {EVERY_STEP: "", FIRST_STEP: ", once", LAST_STEP: f", every {self.period} steps"}[phase.when]
                lines.append(f"phase {number}{when}, {chain.name}: {extent} in blocks of at most {chain.block}")
                lines.extend(f"    {op}" for op in chain.ops)
        return "\n".join(lines)


def _field(size):
    """A size as a field of an op's row: a real number as its bits."""
    return int(np.float64(size).view(np.int64)) if isinstance(size, float) else size


def _cost(op, axis, batch_size):
    """Roughly how long an op takes for one of its axis: its multiply-adds, or what it writes."""
    sizes = op.sizes
    if axis == "batch":
        return sizes.get("inputs", 1) * sizes.get("units", 1) + sizes.get("width", 1)
    if axis == "columns" and OPS[op.name].axis == "features":
        return PANEL * batch_size
    if axis == "columns":
        return PANEL * min(batch_size, sizes["columns"]) * sizes["inputs" if op.name == "dense_forward" else "units"]
    return PANEL * (batch_size if "dy" in op.operands else 4)


def _workers_for(costs, loads):
    """Who does which piece: all workers take pieces in a row, about equally; of a few, the idlest take one each.

    So a worker updates the panels of a kernel with whose columns it began the step: they are still in its cache.
    """
    workers, chosen = len(loads), []
    if len(costs) < workers:
        loads = list(loads)
        for cost in costs:
            chosen.append(loads.index(min(loads)))
            loads[chosen[-1]] += cost
        return chosen
    done = 0
    for cost in costs:
        chosen.append(min(workers - 1, int(workers * (done + cost / 2) / sum(costs))))
        done += cost
    return chosen
