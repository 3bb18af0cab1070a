"""The pictures of a batch test: curves of all classes, and samples of what was recognised, invented and overlooked of each class."""

from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO

import matplotlib
from matplotlib.ticker import PercentFormatter
from PIL import Image, ImageDraw

from core.datasets.fonts import font_for
from core.figures import GRID, INK, QUIET, new_figure, plain_axes, png
from worker.reports.batch_numbers import FROC_RATES, Curve
from worker.reports.lettering import shortened, use_fonts_for

MOST_CLASSES = 12  # drawn on a picture: those with most to look at
SAMPLES = 3  # of each kind and class
_NAMED = 8  # curves with a colour and a name; the others are grey
_SIDE, _GAP, _LEFT, _TEXT = 132, 8, 116, 17  # px
_INK, _QUIET, _GROUND = (29, 33, 41), (107, 114, 128), (241, 243, 246)
KINDS = {
    "true-positive": "True positives: recognised",
    "false-positive": "False positives: invented",
    "false-negative": "False negatives: overlooked",
}
COLOURS = {"true-positive": (0, 158, 115), "false-positive": (213, 94, 0), "false-negative": (180, 140, 0)}


@dataclass(frozen=True)
class Case:
    """One sample: of which class and kind (a key of `KINDS`), on which image, and how sure the model was (None where it said nothing)."""

    label: str
    kind: str
    file: str
    picture: Image.Image
    text: str
    confidence: float | None = None


def roc(curves: Sequence[Curve]) -> bytes:
    """Receiver operating characteristics, the classes with the smallest areas named."""
    return _lines(curves, "ROC curves", "1 − specificity: share of other images taken for the class", "Sensitivity", "area", diagonal=True)


def precision_recall(curves: Sequence[Curve]) -> bytes:
    """Precision over recall, the classes with the smallest areas named."""
    return _lines(curves, "Precision over recall", "Recall: share of the class that is recognised", "Precision", "AP")


def froc(curves: Sequence[Curve]) -> bytes:
    """Free-response curves: sensitivity over false positives an image, on a logarithmic axis."""
    return _lines(curves, "FROC: overlap of at least 0.5", "False positives an image", "Sensitivity", "mean sensitivity", logarithmic=True)


def _lines(
    curves: Sequence[Curve], title: str, x_title: str, y_title: str, area: str, *, diagonal: bool = False, logarithmic: bool = False
) -> bytes:
    use_fonts_for([curve.name for curve in curves])
    figure, (axes,) = new_figure(7.2, 5.2, 1)
    named = sorted(curves, key=lambda curve: curve.area)[:_NAMED]
    if len(curves) > len(named):
        title = f"{title}: the {len(named)} weakest of {len(curves)} classes named"
    plain_axes(axes, title)
    if diagonal:
        axes.plot([0, 1], [0, 1], color=QUIET, linewidth=1, linestyle=":", label="guessing: area 50 %")
    chosen = {curve.name for curve in named}
    for curve in curves:
        if curve.name not in chosen:
            axes.plot(curve.x, curve.y, color=GRID, linewidth=1, drawstyle="steps-post" if logarithmic else "default")
    colours = matplotlib.colormaps["tab10"].colors  # type: ignore[attr-defined]
    for curve, colour in zip(named, colours, strict=False):
        label = f"{shortened(curve.name, 24)}: {area} {100 * curve.area:.1f} %"
        axes.plot(curve.x, curve.y, color=colour, linewidth=1.8, label=label, drawstyle="steps-post" if logarithmic else "default")
    if logarithmic:
        axes.set_xscale("log", base=2)
        axes.set_xlim(FROC_RATES[0], FROC_RATES[-1])
        axes.set_xticks(FROC_RATES, [f"{rate:g}" for rate in FROC_RATES])
        axes.minorticks_off()
    else:
        axes.set_xlim(0, 1)
        axes.xaxis.set_major_formatter(PercentFormatter(1.0))
    axes.set_ylim(0, 1.02)
    axes.set_xlabel(x_title, color=QUIET)
    axes.set_ylabel(y_title, color=QUIET)
    axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    if curves:
        axes.legend(frameon=False, fontsize=8.5, labelcolor=INK, loc="best")
    return png(figure)


def case_studies(cases: Sequence[Case], classes: Sequence[str]) -> bytes:
    """A line per class with up to `SAMPLES` of each kind; `classes` in the order in which they are to be shown, the first ones only."""
    shown = [name for name in classes if any(case.label == name for case in cases)][:MOST_CLASSES]
    group = SAMPLES * (_SIDE + _GAP) + 2 * _GAP
    line = _SIDE + _TEXT + 2 * _GAP
    page = Image.new("RGB", (_LEFT + len(KINDS) * group, 40 + max(1, len(shown)) * line), "white")
    draw = ImageDraw.Draw(page)
    for column, (kind, title) in enumerate(KINDS.items()):
        draw.text((_LEFT + column * group, 18), title, COLOURS[kind], font_for(title, 16), anchor="lm")
    if not shown:
        draw.text((_GAP, 60), "Nothing to show.", _QUIET, font_for("Nothing", 14), anchor="lm")
    for place, name in enumerate(shown):
        top = 36 + place * line
        short = shortened(name, 14).replace(r"\$", "$")
        draw.text((_GAP, top + _SIDE // 2), short, _INK, font_for(short, 14), anchor="lm")
        for column, kind in enumerate(KINDS):
            left = _LEFT + column * group
            found = [case for case in cases if case.label == name and case.kind == kind][:SAMPLES]
            if not found:
                draw.text((left, top + _SIDE // 2), "none", _QUIET, font_for("none", 13), anchor="lm")
            for number, case in enumerate(found):
                x = left + number * (_SIDE + _GAP)
                draw.rectangle((x, top, x + _SIDE - 1, top + _SIDE - 1), _GROUND)
                picture = fitted_thumbnail(case.picture)
                page.paste(picture, (x + (_SIDE - picture.width) // 2, top + (_SIDE - picture.height) // 2))
                text = shortened(case.text, 20).replace(r"\$", "$")
                draw.text((x, top + _SIDE + _TEXT // 2 + 1), text, _INK, font_for(text, 12), anchor="lm")
    out = BytesIO()
    page.save(out, "PNG", compress_level=4)
    return out.getvalue()


def fitted_thumbnail(image: Image.Image, side: int = _SIDE) -> Image.Image:
    """An image with its longer side `side` px long."""
    scale = side / max(image.size)
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    return image.convert("RGB").resize(size, Image.Resampling.NEAREST if scale >= 4 else Image.Resampling.BICUBIC)
