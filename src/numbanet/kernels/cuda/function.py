"""Users' functions: activations and losses of one function each. Elements (r, j) of a batch of rows, O outputs.

    function        y = f(x)                        dx = f'(x) dy
    function_loss   L[r] = sum_j f(y, t) / O        dy = f'(y, t) / (O B), with the derivative by y

A thread to each element; a loss gives a group of threads a row. Padding is left as it is.
"""

from __future__ import annotations

from numbanet.kernels import ROWS, SCORE
from numbanet.kernels.cuda.block import GROUPS, LANES, group, group_sum, lane, shared, thread
from numbanet.kernels.cuda.launch import THREADS
from numbanet.kernels.cuda.memory import cast, matrix, outside_float64, quotient, remainder
from numbanet.kernels.cuda.target import PerFunction
from numbanet.kernels.scalar import ZERO


def _forward(value, slope):
    def forward(op, theta, work, step, first, last):
        """y[r, j] = value(x[r, j])"""
        width, (x, xs), (y, ys) = op[1], matrix(work, op, 0), matrix(work, op, 1)
        for e in range(thread(), (last - first) * width, THREADS):
            r, j = first + quotient(e, width), remainder(e, width)
            y[r * ys + j] = cast(y, value(x[r * xs + j]))

    return forward


def _backward(value, slope):
    def backward(op, theta, work, step, first, last):
        """dx[r, j] = slope(x[r, j]) dy[r, j]"""
        width, (x, xs), (dy, dys), (dx, dxs) = op[1], matrix(work, op, 0), matrix(work, op, 1), matrix(work, op, 2)
        for e in range(thread(), (last - first) * width, THREADS):
            r, j = first + quotient(e, width), remainder(e, width)
            dx[r * dxs + j] = cast(dx, slope(x[r * xs + j]) * dy[r * dys + j])

    return backward


def _loss(value, slope):
    def loss(op, theta, work, step, first, last):
        """scores[r, 0] += sum_j value(y, t) / O, dy[r, j] = slope(y, t) / (O B)"""
        (y, ys), (target, ts), (dy, dys) = matrix(work, op, 0), matrix(work, op, 1), matrix(work, op, 2)
        (scores, ss), slots, scale = outside_float64(op, 3), shared(work), 1.0 / (op[1] * step[ROWS])
        for begin in range(first, last, GROUPS):  # all groups together, for they meet
            r = begin + group()
            width, total = op[1] if r < last else 0, cast(y, ZERO)
            for j in range(lane(), width, LANES):
                found, wanted = y[r * ys + j], target[r * ts + j]
                total += cast(y, value(found, wanted))
                dy[r * dys + j] = cast(dy, scale * slope(found, wanted))
            total = group_sum(total, slots)
            if r < last and lane() == 0:
                scores[(step[SCORE] + r) * ss] += total / op[1]

    return loss


function_forward = PerFunction("function_forward", _forward)
function_backward = PerFunction("function_backward", _backward)
function_loss = PerFunction("function_loss", _loss, numbers=2)
