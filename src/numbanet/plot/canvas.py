"""What all pictures share: figures without pyplot, colours, dress, files."""

from __future__ import annotations

import io
from pathlib import Path

from numbanet.io.files import write_whole
from numbanet.names import lookup
from numbanet.sources import check_directory

KINDS = {".png": "png", ".svg": "svg", ".pdf": "pdf"}
DPI = 150  # of a .png
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#F0E442")  # Okabe & Ito, 2008
GRID = {"color": "#DDDDDD", "linewidth": 0.8}
DIVERGING = "RdBu_r"  # red and blue differ to all eyes


def check(path=None):
    """Refuse before any work what `path` could not serve: no matplotlib, an unknown suffix, no such directory."""
    figure(1, 1)
    if path is not None:
        lookup("kind of picture", Path(path).suffix.lower(), KINDS)
        check_directory(path)


def figure(width, height):
    """An empty figure of a size in inches. ImportError, in a sentence, without matplotlib."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as problem:
        raise ImportError(f"pictures need matplotlib: pip install 'numbanet[plot]' ({problem})") from None
    figure = Figure(figsize=(width, height), layout="constrained")
    figure.get_layout_engine().set(w_pad=0.1, h_pad=0.08)
    FigureCanvasAgg(figure)
    return figure


def finish(figure, path):
    """The figure; written to a file too, if there is a path."""
    if path is not None:
        content = io.BytesIO()
        figure.savefig(content, format=KINDS[Path(path).suffix.lower()], dpi=DPI)
        write_whole(path, content.getvalue())
    return figure


def short(name, most=32):
    """A name as it fits beside a picture: of a long one its beginning and its end."""
    return name if len(name) <= most else f"{name[: most // 2 - 1]}...{name[2 - most // 2 :]}"


def dress(axes, title, x, y):
    """A title, labels and a grid behind the data."""
    axes.set_title(title, fontsize=12)
    axes.set_xlabel(x, fontsize=11)
    axes.set_ylabel(y, fontsize=11)
    axes.tick_params(labelsize=10)
    axes.set_axisbelow(True)
    axes.grid(True, **GRID)
    axes.spines[["top", "right"]].set_visible(False)


def whole_ticks(axis):
    """Ticks at whole numbers."""
    from matplotlib.ticker import MaxNLocator

    axis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
