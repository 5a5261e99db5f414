"""Users' functions: activations and losses of one function each. Elements (r, j) of a batch of rows, O outputs.

    function        y = f(x)                        dx = f'(x) dy
    function_loss   L[r] = sum_j f(y, t) / O        dy = f'(y, t) / (O B), with the derivative by y

One number after the other, for who knows what a function does. Padding of y is left as it is, that of gradients is 0.
"""

from __future__ import annotations

from numba import types
from numba.core.errors import TypingError
from numba.extending import intrinsic

from numbanet.kernels import ROWS, SCORE
from numbanet.kernels.cpu.memory import matrix, outside_float64
from numbanet.kernels.cpu.pointwise import clear_padding
from numbanet.kernels.jit import JIT, PerFunction

if JIT:

    @intrinsic
    def cast(typingctx, matrix, value):
        """A real number as an element of a matrix"""
        if not isinstance(value, types.Float | types.Integer | types.Boolean):
            raise TypingError(f"{value} is no real number")

        def codegen(context, builder, signature, arguments):
            return context.cast(builder, arguments[1], signature.args[1], signature.return_type)

        return matrix.dtype(matrix, value), codegen

else:

    def cast(matrix, value):
        return matrix.dtype.type(value)


def _forward(value, slope):
    def forward(op, theta, work, step, first, last):
        """y[r, j] = value(x[r, j])"""
        width = op[1]
        x, y = matrix(work, op, 0), matrix(work, op, 1)
        for r in range(first, last):
            for j in range(width):
                y[r, j] = cast(y, value(x[r, j]))

    return forward


def _backward(value, slope):
    def backward(op, theta, work, step, first, last):
        """dx[r, j] = slope(x[r, j]) dy[r, j]"""
        width = op[1]
        x, dy, dx = matrix(work, op, 0), matrix(work, op, 1), matrix(work, op, 2)
        for r in range(first, last):
            for j in range(width):
                dx[r, j] = cast(dx, slope(x[r, j]) * dy[r, j])
            clear_padding(dx, r, width)

    return backward


def _loss(value, slope):
    def loss(op, theta, work, step, first, last):
        """scores[r, 0] += sum_j value(y, t) / O, dy[r, j] = slope(y, t) / (O B)"""
        width = op[1]
        y, target, dy, scores = matrix(work, op, 0), matrix(work, op, 1), matrix(work, op, 2), outside_float64(op, 3)
        scale = 1.0 / (width * step[ROWS])
        for r in range(first, last):
            total = 0.0
            for j in range(width):
                total += cast(y, value(y[r, j], target[r, j]))
                dy[r, j] = cast(dy, scale * slope(y[r, j], target[r, j]))
            clear_padding(dy, r, width)
            scores[step[SCORE] + r, 0] += total / width

    return loss


function_forward = PerFunction("function_forward", _forward)
function_backward = PerFunction("function_backward", _backward)
function_loss = PerFunction("function_loss", _loss, numbers=2)
