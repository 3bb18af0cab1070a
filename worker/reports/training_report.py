"""The training report as a PDF: what was trained and how well, which classes lack images, the curves and how to read them, the data, the pictures."""

import textwrap
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from io import BytesIO
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_pdf import FigureCanvasPdf, PdfPages
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from PIL import Image

from core.datasets.deriving import classes_in
from core.datasets.records import Record
from core.datasets.representation import CUT_OFF, MILDLY, SERIOUSLY, WELL
from core.datasets.splitting import trained_rows
from core.datasets.statistics import describe
from core.datasets.statistics_picture import draw
from core.figures import GRID, INK, QUIET, TRAINING, VALIDATION, plain_axes
from core.tasks.hyperparameters import has_effect
from core.vocabulary import METRIC_NAMES, AnnotationKind, TaskType
from worker.reports.lettering import shortened, use_fonts_for

_WIDTH, _HEIGHT = 8.27, 11.69  # inches: A4
_LEFT, _RIGHT, _TOP, _BOTTOM = 0.09, 0.91, 0.94, 0.06
_LINE = 0.0165  # of the page's height
_LETTERS = 96  # on a line of 10 pt
_CLASS_TITLES = {"images": "Images", "ap": "AP 50:95", "threshold": "Threshold"}
_FEW_IMAGES = 20  # this project's own
_MOST_CLASSES = 40  # shown in a table or as bars
_DPI = 150

TITLES = {
    "confusion_matrix": "Confusion matrix",
    "classes": "How well each class is known",
    "precision_recall": "Precision and recall",
    "best_and_worst": "Best and worst predictions on the validation images",
}


def training_report(card: Mapping[str, Any], drawn: Mapping[str, bytes], records: Sequence[Record], validation: Sequence[int]) -> bytes:
    """The PDF.

    Args:
        card: the model card.
        drawn: the report's pictures by name, as PNG.
        records: the images of the task with what is true of them.
        validation: rows of `records` that were kept back.
    """
    classes = list(card["classes"])
    kind = AnnotationKind(card["dataset"]["annotation_kind"])
    use_fonts_for([*classes, card["name"], card["dataset"]["name"]])
    found = describe(records, kind, classes)
    out = BytesIO()
    with (
        warnings.catch_warnings(),
        PdfPages(out, metadata={"Title": f"Training report: {card['name']}", "Creator": "Stationmaster"}) as pages,
    ):
        warnings.filterwarnings("ignore", message="Glyph .* missing")  # a host without fonts of that script draws boxes
        overview = _overview(card, found)
        for page in (
            overview,
            *_classes(card, overview),
            *_pictures(card, drawn),
            *_data(found, records, kind, classes, set(validation)),
            _settings(card),
        ):
            pages.savefig(page.figure)
    return out.getvalue()


def insights(labels: Sequence[Mapping[str, Any]]) -> list[str]:
    """Which classes have enough images, as sentences; `labels` as `core.datasets.statistics.describe` gives them."""
    if len(labels) == 1:
        return [f"There is one class, “{labels[0]['class']}”, on {labels[0]['images']:,} images."]
    sentences = []
    for level, verb in ((WELL, "well represented"), (MILDLY, MILDLY), (SERIOUSLY, SERIOUSLY)):
        members = [label for label in labels if label["representation"] == level]
        if not members:
            continue
        if len(members) == len(labels):
            sentences.append(f"All {len(labels)} classes are {'evenly represented' if level == WELL else verb}.")
            break
        named = ", ".join(f"“{label['class']}” ({label['images']:,})" for label in sorted(members, key=lambda one: one["images"])[:12])
        more = f" and {len(members) - 12} more" if len(members) > 12 else ""
        sentences.append(f"{len(members)} of {len(labels)} classes {'is' if len(members) == 1 else 'are'} {verb}: {named}{more}.")
    else:
        sentences.append(
            f"A class is under-represented when it has less than {CUT_OFF:.0%} of an equal share of the images, seriously so below {CUT_OFF / 2:.0%}."
        )
    if few := [label for label in labels if label["images"] < _FEW_IMAGES]:
        least = min(few, key=lambda one: one["images"])
        which = "All of them have" if len(few) == len(labels) else f"{len(few):,} of {len(labels):,} have" if len(few) > 1 else "One has"
        sentences.append(
            f"{which} fewer than {_FEW_IMAGES} images, “{least['class']}” {least['images']:,}: more images of {'it' if len(few) == 1 else 'them'} "
            "would likely help most."
        )
    return sentences


@dataclass
class _Page:
    """An A4 page that is written from top to bottom."""

    title: str
    figure: Figure = field(default_factory=lambda: Figure(figsize=(_WIDTH, _HEIGHT), dpi=_DPI, facecolor="white"))
    y: float = _TOP

    def __post_init__(self) -> None:
        FigureCanvasPdf(self.figure)
        self.figure.text(_LEFT, self.y, self.title, parse_math=False, fontsize=17, color=INK, va="top", fontweight="bold")
        self.y -= 0.045

    def heading(self, text: str) -> None:
        """A line that begins a part."""
        self.y -= 0.012
        self.figure.text(_LEFT, self.y, text, parse_math=False, fontsize=12, color=INK, va="top", fontweight="bold")
        self.y -= 0.026

    def paragraph(self, text: str, colour: str = INK) -> None:
        """Text, wrapped."""
        for line in textwrap.wrap(text, _LETTERS):
            self.figure.text(_LEFT, self.y, line, parse_math=False, fontsize=10, color=colour, va="top")
            self.y -= _LINE
        self.y -= 0.006

    def rows(self, rows: Sequence[Sequence[str]], columns: Sequence[float], header: bool = False) -> None:
        """A table; `columns` are their left edges as shares of the text's width."""
        for number, row in enumerate(rows):
            for place, text in zip(columns, row, strict=True):
                quiet = (header and number == 0) or (not header and place == 0)
                x = _LEFT + place * (_RIGHT - _LEFT)
                self.figure.text(x, self.y, text, parse_math=False, fontsize=9.5, color=QUIET if quiet else INK, va="top")
            self.y -= _LINE
        self.y -= 0.006

    def height_of(self, png: bytes) -> float:
        """How high a picture is when it is as wide as the text."""
        with Image.open(BytesIO(png)) as image:
            return (_RIGHT - _LEFT) * _WIDTH * image.height / image.width / _HEIGHT

    def picture(self, png: bytes) -> None:
        """A picture as wide as the text, or as high as there is room."""
        width, height, room = _RIGHT - _LEFT, self.height_of(png), self.y - _BOTTOM
        if height > room:
            width, height = width * room / height, room
        axes = self.figure.add_axes((_LEFT, self.y - height, width, height))
        with Image.open(BytesIO(png)) as image:
            axes.imshow(np.asarray(image.convert("RGB")), interpolation="antialiased", aspect="auto")
        axes.axis("off")
        self.y -= height + 0.02

    def axes(self, height: float) -> Axes:
        """Room for a drawing, as wide as the text beside its labels."""
        axes = self.figure.add_axes((_LEFT + 0.16, self.y - height, _RIGHT - _LEFT - 0.16, height))
        self.y -= height + 0.05
        return axes


def _overview(card: Mapping[str, Any], found: Mapping[str, Any]) -> _Page:
    page = _Page(_cut(card["name"], 44))
    page.paragraph(f"Training report of {card['created_at'][:10]}, {TaskType(card['task_type']).title.lower()}", QUIET)
    dataset = card["dataset"]
    page.heading("Result on the validation images")
    metrics = [(_title(name), _number(value)) for name, value in card["metrics"].items() if isinstance(value, (int, float))]
    page.rows(metrics[:16], (0, 0.55))
    page.heading("Insights")
    for sentence in insights(found["labels"]):
        page.paragraph(sentence)
    page.paragraph(card["reading"]["text"])
    for remark in card.get("remarks", ()):
        page.paragraph(f"{remark['what']} {remark['remedy']}".strip())
    page.heading("What was trained")
    page.rows(
        [
            (
                "Dataset",
                f"{_cut(dataset['name'], 50)}: {dataset['training_images']:,} images to train on, {dataset['validation_images']:,} to validate",
            ),
            ("Classes", _cut(f"{len(card['classes'])}: " + ", ".join(card["classes"]), 80)),
            ("Network", f"{card['network']}, pre-training {card['pretraining']}"),
            ("Input", f"{card['preprocessing']['size'][0]} px"),
            ("Epochs", f"{card['epochs']}; epoch {card['best_epoch']} became the model"),
        ],
        (0, 0.2),
    )
    return page


def _classes(card: Mapping[str, Any], page: _Page) -> list[_Page]:
    """The numbers class by class, below what stands on `page` where all have room there, else on a page of their own; the pages added."""
    per_class = card.get("per_class") or {}
    if not per_class:
        return []
    names = list(next(iter(per_class.values())))
    ranked = list(per_class.items())
    if more := max(0, len(ranked) - _MOST_CLASSES):  # the weakest: what is told well needs no look
        ranked.sort(key=lambda item: _strength(item[1]))
    rows = [[_cut(label, 30), *(_number(values[name], name) for name in names)] for label, values in ranked[:_MOST_CLASSES]]
    title = f"The {len(rows)} weakest classes" if more else "Class by class"
    room = page.y - _BOTTOM > (len(rows) + 4) * _LINE
    if room:
        page.heading(title)
    else:
        page = _Page(title)
    # Of a class with several labels an image it is no mean over overlaps of boxes.
    of_labels = card["task_type"] == TaskType.MULTI_LABEL
    header = ["Class", *("AP" if of_labels and name == "ap" else _CLASS_TITLES.get(name) or _title(name) for name in names)]
    page.rows([header, *rows], [0, *(0.34 + 0.66 / len(names) * number for number in range(len(names)))], header=True)
    if "images" in names:
        page.paragraph(
            "Images: so many of validation show it. All numbers are of them, and so are the thresholds, where there are any.", QUIET
        )
    if more:
        page.paragraph(f"And {more:,} more classes, which the model card has.", QUIET)
    return [] if room else [page]


def _strength(values: Mapping[str, Any]) -> float:
    """By what classes are ranked; those of which nothing is known come last."""
    known = [values[name] for name in ("f1", "dice", "ap") if values.get(name) is not None]
    return float(known[0]) if known else 2.0


def _pictures(card: Mapping[str, Any], drawn: Mapping[str, bytes]) -> list[_Page]:
    """The curves with their reading, then the other pictures, as many on a page as fit."""
    pages = [_Page("The curves")]
    pages[0].paragraph(card["reading"]["text"])
    if "curves" in drawn:
        pages[0].picture(drawn["curves"])
    for name, png in drawn.items():
        if name == "curves":
            continue
        if pages[-1].height_of(png) > pages[-1].y - _BOTTOM - 0.05:
            pages.append(_Page(TITLES.get(name, name.replace("_", " ").capitalize())))
        else:
            pages[-1].heading(TITLES.get(name, name.replace("_", " ").capitalize()))
        pages[-1].picture(png)
    return pages


def _data(
    found: dict[str, Any], records: Sequence[Record], kind: AnnotationKind, classes: Sequence[str], validation: set[int]
) -> list[_Page]:
    page = _Page("The data")
    page.paragraph(f"{found['images']:,} images, {found['images_without_labels']:,} of them without a label or object.")
    trained = set(trained_rows(records, validation))
    if left := len(records) - len(trained) - len(validation):
        page.paragraph(
            f"{left:,} image{'s' if left > 1 else ''} of the source's own test set took no part, neither in training nor in validation."
        )
    page.heading("Images of each class, of training and of validation")
    counts: tuple[Counter[int], Counter[int]] = (Counter(), Counter())
    for row, record in enumerate(records):
        if row in trained or row in validation:
            counts[row in validation].update(set(classes_in(record.value, kind)))
    order = sorted(range(len(classes)), key=lambda index: -(counts[0][index] + counts[1][index]))[:_MOST_CLASSES]
    page.y -= 0.02  # for the legend above the bars
    axes = page.axes(0.03 + 0.016 * len(order))
    plain_axes(axes, "" if len(order) == len(classes) else f"the {len(order)} commonest of {len(classes)} classes")
    places = np.arange(len(order))
    for shift, colour, name, side in ((-0.2, TRAINING, "training", 0), (0.2, VALIDATION, "validation", 1)):
        axes.barh(places + shift, [counts[side][index] for index in order], height=0.38, color=colour, label=name)
    axes.set_yticks(places, [shortened(classes[index], 20) for index in order], fontsize=8, color=INK)
    axes.set_ylim(len(order) - 0.4, -0.6)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(axis="y", visible=False)
    axes.grid(axis="x", color=GRID)
    axes.legend(frameon=False, fontsize=9, loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=2, borderaxespad=0.1)
    picture, pages = draw(found), [page]
    if page.height_of(picture) > page.y - _BOTTOM - 0.05:
        pages.append(_Page("Statistics"))
    else:
        page.heading("Statistics")
    pages[-1].picture(picture)
    return pages


def _settings(card: Mapping[str, Any]) -> _Page:
    page = _Page("Settings, to train it again")
    page.heading("Hyperparameters")
    plan = [
        (name.replace("_", " "), "on" if value is True else "off" if value is False else str(value))
        for name, value in card["plan"].items()
        if value is not None and has_effect(name, card["plan"])
    ]
    page.rows(plan, (0, 0.4))
    page.heading("Software and data")
    page.rows(
        [*card["software"].items(), *zip(("data fingerprint", ""), textwrap.wrap(card["dataset"]["fingerprint"], 40), strict=False)],
        (0, 0.4),
    )
    return page


def _title(metric: str) -> str:
    """What a metric is called."""
    if metric.startswith("baseline_"):
        return f"{_title(metric.removeprefix('baseline_'))} of the baseline"
    return METRIC_NAMES.get(metric, metric.replace("_", " ").capitalize())


def _cut(text: str, length: int) -> str:
    """As `shortened`, for text that is not read as matplotlib's markup."""
    return shortened(text, length).replace(r"\$", "$")


def _number(value: float | None, name: str = "") -> str:
    if value is None:
        return "–"
    return f"{value:,}" if name == "images" else f"{100 * value:.1f} %"
