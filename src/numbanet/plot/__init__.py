"""Pictures: training curves, decision boundaries, weights, activations, gradients.

They need matplotlib (pip install 'numbanet[plot]'), which is loaded when the first picture is drawn. Figures are made
without pyplot, so no display is needed, nothing stays open and no setting of matplotlib changes. Every function returns
the matplotlib Figure; in a notebook it shows itself. path: a .png, .svg or .pdf file to write too, whole or not at all.
"""

from numbanet.plot.canvas import check
from numbanet.plot.curves import activation_functions, history, training
from numbanet.plot.network import gradient_flow, weights
from numbanet.plot.plane import decision_boundary

__all__ = ["activation_functions", "check", "decision_boundary", "gradient_flow", "history", "training", "weights"]
