"""The pictures of a report, as PNG bytes: curves, confusion matrix, best and worst predictions, heat maps. Drawn without a display."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import PercentFormatter
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from core.datasets import fonts
from core.datasets.images import flattened
from core.figures import DPI, GRID, INK, QUIET, TRAINING, VALIDATION, new_figure, plain_axes, png
from core.figures import curves as curves
from worker.reports.lettering import listed, shortened, use_fonts_for

# Up to so many classes every cell of the matrix has its number, and every class its name.
_NUMBERS_UP_TO = 24
_NAMES_UP_TO = 60
_WHOLE_NUMBERS_UP_TO = 8  # of more classes thousands are shortened
_BARS = 60

_CAPTION_WIDTH, _CAPTION_HEIGHT, _CAPTION_MARGIN = 380, 66, 12  # px; of a heat map's caption, and its least width
_GAP = 12  # px, between heat maps of several labels
_RAMP = (84, 12)  # px; of the colours in it


def confusion_matrix(counts: NDArray[np.int64], classes: Sequence[str], what: str = "validation images") -> bytes:
    """Rows are what the images show, columns what the network said; colour is the share of the row. Readable from 1 to hundreds of classes."""
    number = len(classes)
    use_fonts_for(classes)
    totals = counts.sum(1, keepdims=True)
    shares = np.divide(counts, totals, out=np.zeros(counts.shape, float), where=totals > 0)
    step = 1 if number <= _NAMES_UP_TO else math.ceil(number / 50)
    names = [shortened(name, 24 if number <= 30 else 16) for name in classes]
    size = 9 if number <= 16 else 7.5 if number <= 40 else 6
    longest = max(len(name) for name in names)
    crowded = longest > (12 if number <= 3 else 5 if number <= 8 else 2)
    side = max(2.4, 0.5 * number) if number <= _NUMBERS_UP_TO else min(13.0, 4 + 0.16 * number)
    # Inches that the longest name takes: a letter is about 0.6 of its size wide, which is in 1/72 of an inch.
    beside = 0.0085 * size * longest
    figure, (axes,) = new_figure(max(5.4, side + beside + 2.1), side + (beside if crowded else 0.2) + 1.3, 1)
    image = axes.imshow(shares, cmap="Blues", norm=PowerNorm(0.5, 0, 1), interpolation="nearest")  # few errors are seen, too
    axes.set_xlabel("The network said", color=QUIET)
    axes.set_ylabel("The image shows", color=QUIET)
    figure.suptitle(f"Confusion matrix of {int(counts.sum()):,} {what}", color=INK, fontsize=11, x=0.02, y=0.985, va="top", ha="left")
    places = list(range(0, number, step))
    axes.set_xticks(places, [names[place] for place in places], rotation=90 if crowded else 0, fontsize=size, color=INK)
    axes.set_yticks(places, [names[place] for place in places], fontsize=size, color=INK)
    axes.tick_params(length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)
    if number <= _NUMBERS_UP_TO:
        axes.set_xticks(np.arange(-0.5, number), minor=True)
        axes.set_yticks(np.arange(-0.5, number), minor=True)
        axes.grid(which="minor", color="white", linewidth=1.2)
        axes.tick_params(which="minor", length=0)
        for row in range(number):
            for column in range(number):
                if counts[row, column]:
                    colour = "white" if shares[row, column] > 0.3 else INK
                    text = f"{counts[row, column]:,}" if number <= _WHOLE_NUMBERS_UP_TO else _short_number(int(counts[row, column]))
                    axes.text(column, row, text, ha="center", va="center", fontsize=size, color=colour)
    bar = figure.colorbar(
        image, ax=axes, fraction=0.03, pad=0.02, aspect=30, ticks=[0, 0.1, 0.25, 0.5, 0.75, 1], format=PercentFormatter(1.0)
    )
    bar.outline.set_visible(False)
    bar.ax.tick_params(labelsize=8, colors=QUIET, length=0)
    bar.set_label("share of the row", color=QUIET, fontsize=8)
    return png(figure)


def class_bars(values: Sequence[float], classes: Sequence[str], title: str, axis: str) -> bytes:
    """One horizontal bar per class with a value 0–1, the lowest on top, at most the 60 lowest: where to look first."""
    use_fonts_for(classes)
    order = sorted(range(len(classes)), key=lambda index: values[index])[:_BARS]
    figure, (axes,) = new_figure(8, min(16.0, 1.3 + 0.3 * len(order)), 1)
    plain_axes(axes, title if len(order) == len(classes) else f"{title}: the {len(order)} lowest of {len(classes)} classes")
    places = list(range(len(order)))
    axes.barh(places, [values[index] for index in order], color=TRAINING, height=0.7)
    axes.set_yticks(places, [shortened(classes[index], 28) for index in order], fontsize=9 if len(order) <= 30 else 7, color=INK)
    for place, index in zip(places, order, strict=True):
        axes.text(values[index] + 0.01, place, f"{100 * values[index]:.0f} %", va="center", fontsize=8, color=QUIET)
    axes.set_xlim(0, 1.08)
    axes.set_ylim(len(order) - 0.4, -0.6)
    axes.set_xlabel(axis, color=QUIET)
    axes.xaxis.set_major_formatter(PercentFormatter(1.0))
    axes.grid(axis="y", visible=False)
    return png(figure)


@dataclass(frozen=True)
class Case:
    """One validation image with the labels that are true and those that were said, as a person reads them."""

    image: Image.Image
    truth: Sequence[str]
    said: Sequence[str]
    right: bool


def best_and_worst(best: Sequence[Case], worst: Sequence[Case]) -> bytes:
    """Two rows of cases: the surest right predictions, and the worst misses."""
    columns = max(1, len(best), len(worst))
    use_fonts_for([text for case in (*best, *worst) for text in (*case.truth, *case.said)])
    rows = [(title, cases) for title, cases in (("Surest hits", best), ("Worst misses", worst)) if cases]
    figure = Figure(figsize=(1.75 * columns + 0.3, 2.5 * len(rows)), dpi=DPI, facecolor="white")
    FigureCanvasAgg(figure)
    grid = figure.subplots(len(rows), columns, squeeze=False)
    for (title, cases), line in zip(rows, grid, strict=True):
        for place, axes in enumerate(line):
            axes.axis("off")
            if place >= len(cases):
                continue
            case = cases[place]
            smooth = "nearest" if max(case.image.size) < 96 else "antialiased"
            axes.imshow(np.asarray(_on_square(case.image)), interpolation=smooth)
            # Where a white image ends is seen by this.
            axes.add_patch(Rectangle((0, 0), 1, 1, transform=axes.transAxes, fill=False, edgecolor=GRID, linewidth=1))
            text = listed(case.said, 24) if case.right else f"said {listed(case.said, 20)}\nis {listed(case.truth, 22)}"
            axes.text(
                0.5, -0.04, text, transform=axes.transAxes, ha="center", va="top", fontsize=8, color=INK if case.right else VALIDATION
            )
        line[0].set_title(title, loc="left", fontsize=11, color=INK)
    figure.subplots_adjust(
        left=0.02, right=0.98, top=1 - 0.35 / figure.get_figheight(), bottom=0.5 / figure.get_figheight(), wspace=0.08, hspace=0.45
    )
    return png(figure)


def _on_square(image: Image.Image) -> Image.Image:
    side = max(image.size)
    square = Image.new("RGB", (side, side), GRID)
    square.paste(image, ((side - image.width) // 2, (side - image.height) // 2))
    return square


@dataclass(frozen=True)
class Heat:
    """Where the evidence for a label lies, a map [height, width] of 0–1, and the confidence 0–1 in it.

    It `counts` unless it is below the label's threshold.
    """

    label: str
    confidence: float
    map: NDArray[np.float32]
    counts: bool = True


def heat_over(image: Image.Image, heats: Sequence[Heat], side: int = 512) -> bytes:
    """An image with a heat map laid over it, once for each of the labels, side by side; the longer side of each about `side` pixels.

    Below it the label that the map is of, with the confidence in it, and what the colours mean.
    """
    panels = [_heat_panel(image, heat, side) for heat in heats]
    picture = Image.new("RGB", (sum(panel.width for panel in panels) + _GAP * (len(panels) - 1), panels[0].height), "white")
    left = 0
    for panel in panels:
        picture.paste(panel, (left, 0))
        left += panel.width + _GAP
    out = BytesIO()
    picture.save(out, "PNG")
    return out.getvalue()


def _heat_panel(image: Image.Image, heat: Heat, side: int) -> Image.Image:
    scale = side / max(image.size)
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    base = np.asarray(flattened(image).resize(size, Image.Resampling.NEAREST if scale > 4 else Image.Resampling.LANCZOS), np.float32)
    warm = (
        np.asarray(Image.fromarray((heat.map * 255).astype(np.uint8)).resize(size, Image.Resampling.BICUBIC), np.float32)[..., None] / 255
    )
    grey = base.mean(2, keepdims=True) * 0.7 + base * 0.3  # colours of the image must not be mistaken for heat
    picture = Image.new("RGB", (max(size[0], _CAPTION_WIDTH), size[1] + _CAPTION_HEIGHT), "white")
    picture.paste(_heated(grey, warm.astype(np.float32)), ((picture.width - size[0]) // 2, 0))
    draw, room = ImageDraw.Draw(picture), picture.width - 2 * _CAPTION_MARGIN
    said = f" · {100 * heat.confidence:.1f} %" + ("" if heat.counts else ", does not count")
    name = fonts.shortened(heat.label, 18, round(room - fonts.font_for("", 18).getlength(said)))
    draw.text((_CAPTION_MARGIN, size[1] + 8), name + said, fill=INK if heat.counts else QUIET, font=fonts.font_for(heat.label, 18))
    middle, font = size[1] + 48, fonts.font_for("", 13)
    ramp = np.broadcast_to(np.linspace(0, 1, _RAMP[0]).astype(np.float32)[None, :, None], (_RAMP[1], _RAMP[0], 1))
    picture.paste(_heated(np.full((_RAMP[1], _RAMP[0], 1), 150, np.float32), ramp), (_CAPTION_MARGIN, middle - _RAMP[1] // 2))
    meaning = "no tint: no evidence · red: most evidence"
    draw.text((_CAPTION_MARGIN + _RAMP[0] + 10, middle), meaning, fill=QUIET, font=font, anchor="lm")
    return picture


def _heated(grey: NDArray[np.float32], warm: NDArray[np.float32]) -> Image.Image:
    """Heat, [height, width, 1] of 0–1, over grey levels of 0–255: none is clear, little yellow, much red."""
    colour = np.concatenate([np.full_like(warm, 255), 170 * (1 - warm) + 30, np.zeros_like(warm)], axis=2)
    opacity = 0.65 * np.clip(warm, 0, 1)
    return Image.fromarray(np.clip(grey * (1 - opacity) + colour * opacity, 0, 255).astype(np.uint8))


def _short_number(number: int) -> str:
    return str(number) if number < 10_000 else f"{number / 1000:.0f}k"
