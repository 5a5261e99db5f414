"""Matrix products alone, as the kernels compute them in training: operands padded and in panels.

On the CPU by one thread; on a GPU by all of it, cut as a plan cuts large products.
"""

from __future__ import annotations

import functools
from dataclasses import replace

import numpy as np

from numbanet import kernels
from numbanet.builder import Builder, planned
from numbanet.graph import Parameter
from numbanet.kernels import PANEL
from numbanet.plan import Chain, Phase, Plan
from numbanet.planner import columns_chain
from numbanet.program import Program
from numbanet.updates import parameter_chain

# What the product is in training of 784-128-10 with batches of 32 and 128, and m, k, n; then squares.
CASES = [
    *(
        case
        for rows in (32, 128)
        for case in [
            ("forward", rows, 784, 128),
            ("forward", rows, 128, 10),
            ("delta", rows, 10, 128),
            ("gradient", 784, rows, 128),
            ("gradient", 128, rows, 10),
        ]
    ),
    *(("cube", size, size, size) for size in (16, 32, 64, 128, 512, 1024)),
]


def factors(case, m, k, n, dtype):
    """The factors (m, k) and (k, n) of a product as a step of training holds them.

    forward and cube: x @ w; delta: dy @ w.T; gradient: x.T @ dy, the transposed ones being views.
    """
    generator = np.random.default_rng(2)
    a = generator.standard_normal((k, m) if case == "gradient" else (m, k)).astype(dtype)
    b = generator.standard_normal((n, k) if case == "delta" else (k, n)).astype(dtype)
    return a.T if case == "gradient" else a, b.T if case == "delta" else b


def plans_of(case, m, k, n, device):
    """Plans of one op, to measure it and to check it, where its factors go and where its product appears."""
    rows, geometry = k if case == "gradient" else m, device.geometry()
    build = Builder(rows, geometry)
    if case == "gradient":
        a, b = build.buffer((m,), "x"), build.buffer((n,), "dy")
        parameter = Parameter("kernel", (m, n), 0)
        gradient, product = build.start_gradient(parameter), build.buffer((PANEL,), "product", parameter.operand[1])
        op = planned("dense_backward_kernel", {"x": a, "dy": b, "dkernel": gradient, "inputs": m, "units": n})
        keep = planned("gradient_keep", {"gradient": gradient, "kept": product})
        chain, check = (parameter_chain("product", ops, parameter, geometry) for ops in ([op], [op, keep]))
        product = replace(parameter, offset=product.offset)
    else:
        a, product = build.buffer((k,), "x"), build.buffer((n,), "product")
        b = Parameter("kernel", (k, n), 0)
        op = planned("dense_forward", {"x": a, "kernel": b, "bias": None, "y": product, "inputs": k, "units": n})
        chain = check = Chain("product", [op])
        if device.NAME == "cuda":
            chain = check = columns_chain(op, rows, geometry)
    theta = b.size if isinstance(b, Parameter) else 0
    plans = [
        Plan("benchmark", rows, [Phase([c])], build.buffers, build.size, theta, build.scratch) for c in (chain, check)
    ]
    return plans, a, b, product


def product(case, m, k, n, dtype, device="cpu", parallel=False):
    """run(units), which multiplies the factors so many times in one call, once the product has been right.

    parallel: in the device's other way.
    """
    device = kernels.load(device)
    plans, a, b, found = plans_of(case, m, k, n, device)
    theta = device.zeros(plans[0].theta, dtype)
    left, right = factors(case, m, k, n, dtype)
    wanted = left.astype(np.float64) @ right.astype(np.float64)
    for plan in reversed(plans):
        program = Program(plan, device, dtype, theta)
        _fill(program, a, left.T if case == "gradient" else left)
        if isinstance(b, Parameter):
            b.pack(program.theta, right)
        else:
            _fill(program, b, right)
        program.start(plan.batch_size * 2**40, plan.batch_size)
        program.run(0, 1, parallel)
        if plan is plans[1]:
            shown = found.unpack(program.work) if isinstance(found, Parameter) else program.read(found)
            worst = np.abs(shown - wanted).max() / np.abs(wanted).max()
            if worst > (1e-5 if dtype == "float32" else 1e-13):
                raise AssertionError(f"{case} {m} x {k} x {n} in {dtype} is off by {worst:.1e}")
    return functools.partial(program.run, 0, parallel=parallel)


def _fill(program, buffer, values):
    rows = program.work[buffer.offset : buffer.offset + buffer.rows * buffer.stride]
    rows.reshape(buffer.rows, buffer.stride)[:, : buffer.width] = values
