"""Curves of a batch test, one per class: drawn, and thinned out for report.json."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import matplotlib
import numpy as np
from matplotlib.ticker import PercentFormatter
from numpy.typing import NDArray

from core.figures import INK, QUIET, legend, new_figure, plain_axes, png
from worker.reports.lettering import shortened, use_fonts_for

Points = NDArray[np.float64]

FROC_RATES = (0.125, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0)  # false positives an image at which sensitivity is told, as LUNA16 has them
_NAMED = 8  # curves with a colour and a name; the others are grey
_UNNAMED = "#C9CED6"
_LEAST_RATE = 1e-3  # a logarithmic axis has no 0; left of what is shown
_POINTS_TOLD = 200  # of each curve in report.json


@dataclass(frozen=True)
class Curve:
    """A line of a class: `x` and `y` from left to right, and the `area` under it (NaN where it has none)."""

    name: str
    x: Points
    y: Points
    area: float


def told(curves: Sequence[Curve]) -> dict[str, dict[str, Any]]:
    """For report.json: of each curve, by its name, the area and at most 200 of its points."""
    by_name = {}
    for curve in curves:
        places = thinned(len(curve.x), _POINTS_TOLD)
        by_name[curve.name] = {"area": curve.area, "x": curve.x[places].round(6).tolist(), "y": curve.y[places].round(6).tolist()}
    return by_name


def thinned(points: int, most: int) -> NDArray[np.int64]:
    """Numbers of at most `most` of so many points, evenly spread, the first and the last among them."""
    return np.unique(np.linspace(0, points - 1, min(points, most)).round().astype(np.int64))


def roc(curves: Sequence[Curve]) -> bytes:
    """Receiver operating characteristics, the classes with the smallest areas named."""
    return _lines(curves, "ROC curves", "1 − specificity: share of other images taken for the class", "Sensitivity", "area", diagonal=True)


def precision_recall(curves: Sequence[Curve]) -> bytes:
    """Precision over recall, the classes with the smallest areas named."""
    return _lines(curves, "Precision over recall", "Recall: share of the class that is recognised", "Precision", "AP")


def froc(curves: Sequence[Curve]) -> bytes:
    """Free-response curves: sensitivity over false positives an image, on a logarithmic axis; the first one, of all classes, is black.

    Beyond the last false positive sensitivity stays as it is, as the areas have it: whoever invents nothing has a level line.
    """
    lines = [
        replace(
            curve,
            x=np.append(np.maximum(curve.x, _LEAST_RATE), max(float(curve.x[-1]), FROC_RATES[-1])),
            y=np.append(curve.y, curve.y[-1]),
        )
        for curve in curves
    ]
    title, x_title, of_classes = "FROC: overlap of at least 0.5", "False positives an image", lines[1:] if len(lines) > 2 else []
    return _lines(of_classes, title, x_title, "Sensitivity", "mean sensitivity", whole=lines[0], logarithmic=True)


def _lines(
    curves: Sequence[Curve],
    title: str,
    x_title: str,
    y_title: str,
    area: str,
    *,
    whole: Curve | None = None,
    diagonal: bool = False,
    logarithmic: bool = False,
) -> bytes:
    """Curves of classes, and `whole` of all together."""
    use_fonts_for([curve.name for curve in curves])
    figure, (axes,) = new_figure(7.2, 5.2, 1)
    named = sorted(curves, key=lambda curve: curve.area)[:_NAMED]
    if len(curves) > len(named):
        title = f"{title}, the {len(named)} weakest of {len(curves)} classes named"
    plain_axes(axes, title)
    style = "steps-post" if logarithmic else "default"

    def draw(curve: Curve, colour: Any, width: float) -> None:
        label = f"{shortened(curve.name, 24)}: {area} {100 * curve.area:.1f} %"
        axes.plot(curve.x, curve.y, color=colour, linewidth=width, label=label, drawstyle=style)

    if diagonal:
        axes.plot([0, 1], [0, 1], color=QUIET, linewidth=1, linestyle=":", label="guessing: area 50 %")
    chosen = {curve.name for curve in named}
    for curve in curves:
        if curve.name not in chosen:
            axes.plot(curve.x, curve.y, color=_UNNAMED, linewidth=1, drawstyle=style)
    if whole is not None:
        draw(whole, INK, 2.6)
    # A class keeps its colour from picture to picture, as long as there is one for each of them.
    coloured = [curve.name for curve in (curves if len(curves) <= _NAMED else named)]
    for curve in named:
        draw(curve, matplotlib.colormaps["tab10"].colors[coloured.index(curve.name)], 1.8)  # type: ignore[attr-defined]
    if logarithmic:
        axes.set_xscale("log", base=2)
        axes.set_xlim(FROC_RATES[0], FROC_RATES[-1])
        axes.set_xticks(FROC_RATES, [f"{rate:g}" for rate in FROC_RATES])
        axes.minorticks_off()
    else:
        axes.set_xlim(-0.01, 1.01)  # a line that lies on the edge is seen whole
        axes.xaxis.set_major_formatter(PercentFormatter(1.0))
    axes.set_ylim(-0.01, 1.02)
    axes.set_xlabel(x_title, color=QUIET)
    axes.set_ylabel(y_title, color=QUIET)
    axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    legend(axes)
    return png(figure)
