"""The statistics of a dataset as one picture."""

import itertools
from io import BytesIO
from typing import Any

import matplotlib as mpl
import matplotlib.font_manager
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import MaxNLocator

from core.datasets.fonts import shortened, wide_font
from core.datasets.representation import MILDLY, SERIOUSLY, WELL

_COLOURS = {WELL: "#0072b2", MILDLY: "#e69f00", SERIOUSLY: "#d55e00"}
_MOST_CLASSES = 25
_QUIET = "#6b7280"


def draw(found: dict[str, Any]) -> bytes:
    """A PNG of what `core.datasets.statistics.describe` found."""
    with mpl.rc_context(
        {"font.family": _families(), "font.size": 10, "axes.spines.top": False, "axes.spines.right": False, "axes.edgecolor": "#c5cad3"}
    ):
        labels = sorted(found["labels"], key=lambda label: -label["images"])
        shown = labels[:_MOST_CLASSES]
        panels = [_draw_sizes]
        if "boxes_per_image" in found:
            panels += [_draw_per_image, _draw_box_area, _draw_aspect]
        elif "mask_coverage" in found:
            panels += [_draw_per_image, _draw_coverage]
        elif "labels_per_image" in found:
            panels += [_draw_per_image]
        rows = (len(panels) + 1) // 2 if len(panels) > 2 else len(panels)
        height = max(4.6 if rows == 1 else 7.0, 1.8 + 0.27 * len(shown))
        margins = ConstrainedLayoutEngine(w_pad=0.12, h_pad=0.1)  # inches between what is written and the edges
        figure = Figure(figsize=(13, height), dpi=100, layout=margins)
        FigureCanvasAgg(figure)
        left, right = np.asarray(figure.subfigures(1, 2, width_ratios=(1.15, 1)))
        _draw_labels(left.subplots(), shown, len(labels), found["cut_off"], height)
        grid = right.subplots(rows, 2 if len(panels) > 2 else 1, squeeze=False).ravel()
        for panel, axes in zip(panels, grid, strict=False):
            panel(axes, found)
        for axes in grid[len(panels) :]:
            axes.set_axis_off()
        out = BytesIO()
        figure.savefig(out, format="png", facecolor="white")
        return out.getvalue()


def _families() -> list[str]:
    families = ["DejaVu Sans"]
    path = wide_font()
    if path:
        mpl.font_manager.fontManager.addfont(path)
        families.append(mpl.font_manager.FontProperties(fname=path).get_name())
    return families


def _title(axes: Axes, text: str, note: str = "") -> None:
    axes.set_title(text, loc="left", fontsize=12, fontweight="bold", pad=10)
    if note:
        axes.set_title(note, loc="right", fontsize=9, color=_QUIET)
    axes.tick_params(length=0)


def _draw_labels(axes: Axes, shown: list[dict[str, Any]], classes: int, cut_off: float, inches: float) -> None:
    """One bar a class, over the whole of a picture so many inches high; few classes have room between their bars, not below them."""
    names = [shortened(label["class"], 13, 170).replace("$", r"\$") for label in shown]
    counts = [label["images"] for label in shown]
    thick = min(0.72, 0.6 * len(shown) / inches)  # of the room of one class; never much more than half an inch
    axes.barh(range(len(shown)), counts, color=[_COLOURS[label["representation"]] for label in shown], height=thick)
    axes.set_yticks(range(len(shown)), names)
    axes.invert_yaxis()
    axes.set_ylim(max(len(shown), 1) - 0.5, -0.5)
    largest = max(counts, default=1) or 1
    axes.set_xlim(0, largest * 1.14)
    for place, count in enumerate(counts):
        axes.text(count + largest * 0.01, place, f"{count:,}", va="center", fontsize=9, color=_QUIET)
    _title(axes, "Images per class", f"{classes - len(shown):,} more classes" if classes > len(shown) else "")
    axes.xaxis.set_visible(False)
    axes.spines["bottom"].set_visible(False)
    found = {label["representation"] for label in shown}
    for text in (WELL, MILDLY, SERIOUSLY):
        if text in found:
            axes.barh([0], [0], color=_COLOURS[text], label=f"{text} represented" if text == WELL else text)
    if found:
        axes.legend(
            loc="upper left",
            bbox_to_anchor=(0, 0),
            ncols=3,
            frameon=False,
            fontsize=9,
            title=f"against {cut_off:.0%} of an equal share",
            title_fontsize=8,
            alignment="left",
        )


def _draw_sizes(axes: Axes, found: dict[str, Any]) -> None:
    sizes = found["image_sizes"]
    most = max((size["images"] for size in sizes), default=1)
    axes.scatter(
        [size["width"] for size in sizes],
        [size["height"] for size in sizes],
        s=[30 + 300 * size["images"] / most for size in sizes],
        color="#0072b2",
        alpha=0.45,
        linewidths=0,
    )
    limit = max((max(size["width"], size["height"]) for size in sizes), default=1) * 1.15
    axes.set_xlim(0, limit)
    axes.set_ylim(0, limit)
    axes.plot([0, limit], [0, limit], color="#dfe3e8", linewidth=1, zorder=0)
    axes.set_xlabel("width, px")
    axes.set_ylabel("height, px")
    _title(axes, "Image sizes")


def _draw_per_image(axes: Axes, found: dict[str, Any]) -> None:
    key = next(key for key in found if key.endswith("_per_image"))
    histogram = {int(number): count for number, count in found[key]["histogram"].items()}
    largest = max(histogram, default=0)
    if largest <= 30:
        axes.bar(list(histogram), list(histogram.values()), color="#56b4e9", width=0.8)
    else:
        numbers = [number for number, count in histogram.items() for _ in range(count)]
        axes.hist(numbers, bins=30, color="#56b4e9")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    _counts(axes, "images")
    _title(axes, key.replace("_", " ").capitalize())


def _bars(axes: Axes, histogram: dict[str, Any], colour: str) -> None:
    edges, counts = histogram["edges"], histogram["counts"]
    axes.bar(
        edges[:-1],
        counts,
        width=[b - a for a, b in itertools.pairwise(edges)],
        align="edge",
        color=colour,
        edgecolor="white",
        linewidth=0.5,
    )


def _counts(axes: Axes, of_what: str) -> None:
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_ylabel(of_what)


def _draw_box_area(axes: Axes, found: dict[str, Any]) -> None:
    _bars(axes, found["box_area"]["histogram"], "#009e73")
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    axes.set_xlabel("of the image")
    _counts(axes, "boxes")
    _title(axes, "Box area")


def _draw_aspect(axes: Axes, found: dict[str, Any]) -> None:
    _bars(axes, found["box_aspect_ratio"]["histogram"], "#cc79a7")
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}:1" if value >= 1 else f"1:{1 / value:g}")
    axes.set_xlabel("width : height")
    _counts(axes, "boxes")
    _title(axes, "Box aspect ratio")


def _draw_coverage(axes: Axes, found: dict[str, Any]) -> None:
    _bars(axes, found["mask_coverage"]["histogram"], "#009e73")
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    axes.set_xlabel("of the image")
    _counts(axes, "masks")
    _title(axes, "Mask coverage")
