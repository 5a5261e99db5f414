"""One naive NumPy version of each op, in float64: what the kernels must agree with.

A function has the op's name, takes its operands (as matrices) and sizes by name, and returns the operands it writes.
B is the number of rows, that of `step[ROWS]`. Written from the equations, not from the kernels.
"""

from reference.layers import *  # noqa: F403
from reference.losses import *  # noqa: F403
from reference.norm import *  # noqa: F403
from reference.updates import *  # noqa: F403
