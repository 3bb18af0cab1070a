"""What pictures drawn with matplotlib share: colours, figures without a display, plain axes, PNG bytes; and the curves of a training."""

import warnings
from collections.abc import Sequence
from io import BytesIO
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

TRAINING, VALIDATION, BASELINE = "#0072B2", "#D55E00", "#6B7280"  # told apart also by most people who see colours differently
INK, QUIET, GRID = "#1D2129", "#6B7280", "#E5E7EB"
DPI = 120


def new_figure(width: float, height: float, columns: int) -> tuple[Figure, list[Axes]]:
    """A figure of so many inches, and its axes side by side."""
    figure = Figure(figsize=(width, height), dpi=DPI, facecolor="white", layout="tight" if columns == 1 else None)
    FigureCanvasAgg(figure)
    axes = [figure.add_subplot(1, columns, place + 1) for place in range(columns)]
    if columns > 1:
        figure.subplots_adjust(left=0.06, right=0.98, top=0.9, bottom=0.14, wspace=0.18)
    return figure, axes


def plain_axes(axes: Axes, title: str) -> None:
    """A title at the left, a quiet grid, no frame."""
    axes.set_title(title, color=INK, fontsize=11, loc="left")
    axes.grid(color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(colors=QUIET, labelsize=9, length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)


def png(figure: Figure) -> bytes:
    """The figure as a PNG."""
    out = BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing")  # a host without fonts of that script draws boxes
        figure.savefig(out, format="png")
    return out.getvalue()
