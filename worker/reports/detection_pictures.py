"""The pictures of a detector's report: precision over recall, average precision per class, and the images it does best and worst on."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from io import BytesIO

import numpy as np
import torch
from matplotlib.ticker import PercentFormatter
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from torch import Tensor

from core.datasets import masks
from core.datasets.fonts import font_for, shortened
from core.datasets.records import Record
from core.figures import QUIET, TRAINING, VALIDATION, legend, new_figure, plain_axes, png
from core.storage import Storage
from worker.objectives.average_precision import IGNORED
from worker.objectives.objects import Objects
from worker.reports.object_drawings import Drawn, draw_objects
from worker.reports.pictures import class_bars

RIGHT, WRONG, MISSED = (0, 158, 115), (213, 94, 0), (240, 228, 66)  # of Okabe and Ito, as in `core.datasets.legend`
_INK = (29, 33, 41)
_IMAGES = 5  # in each of the two rows
_SIDE, _GAP = 250, 10  # px
_NARROWEST = 360  # px, of a page: its legend needs so many


def detection_pictures(
    details: dict[str, Tensor], classes: Sequence[str], records: Sequence[Record], storage: Storage, *, instances: bool
) -> dict[str, bytes]:
    """All of them by name, from an evaluation's `details` as `worker.objectives.detection` describes them."""
    what = "masks" if instances else "boxes"
    shown = [index for index, value in enumerate(details["class_ap50"].tolist()) if value == value]
    drawn = {
        "precision_recall": precision_recall(details["precision"].numpy(), what),
        "best_and_worst": best_and_worst(details, classes, records, storage, instances=instances),
    }
    if shown:
        drawn["classes"] = class_bars(
            [float(details["class_ap50"][index]) for index in shown],
            [classes[index] for index in shown],
            f"Average precision per class ({what}, overlap 0.5)",
            "AP 50 on the validation images",
        )
    return drawn


def precision_recall(precision: NDArray[np.float32], what: str) -> bytes:
    """Precision over recall, the mean over classes, at overlaps of 0.5 and 0.75: `precision` is [2, 101]."""
    figure, (axes,) = new_figure(6.4, 4.6, 1)
    plain_axes(axes, f"Precision over recall, mean of the classes ({what})")
    recall = np.linspace(0, 1, precision.shape[1])
    # The second line is thinner, so that both are seen where they are equal.
    for values, overlap, colour, width in zip(precision, ("0.5", "0.75"), (TRAINING, VALIDATION), (4, 1.8), strict=True):
        axes.plot(recall, values, color=colour, linewidth=width, label=f"overlap {overlap}: AP {100 * float(values.mean()):.1f} %")
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1.02)
    axes.set_xlabel("Recall: share of the true objects that are found", color=QUIET)
    axes.set_ylabel("Precision: share of what is found that is true", color=QUIET)
    axes.xaxis.set_major_formatter(PercentFormatter(1.0))
    axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    legend(axes)
    return png(figure)


@dataclass(frozen=True)
class _Judged:
    """One validation image: what is said of it from each class's threshold on, and what is true."""

    record: Record
    said: NDArray[np.int64]  # indices of the found objects
    missed: NDArray[np.int64]  # indices of the true objects
    f1: float
    true: int  # objects that are there


def best_and_worst(
    details: dict[str, Tensor], classes: Sequence[str], records: Sequence[Record], storage: Storage, *, instances: bool
) -> bytes:
    """Two rows of validation images, by F1 of what is found from each class's best threshold on; among equals the fullest images first."""
    objects = Objects.of_instances(records) if instances else Objects.of_boxes(records)
    surely = details["found_scores"] >= details["thresholds"][details["found_labels"].long()]
    judged = [_judge(details, objects, records[row], place, row, surely) for place, row in enumerate(details["rows"].tolist())]
    judged = [one for one in judged if one.true or len(one.said)]
    best = sorted((one for one in judged if one.f1 > 0), key=lambda one: (-one.f1, -one.true))[:_IMAGES]
    taken = {one.record.position for one in best}
    worst = sorted((one for one in judged if one.f1 < 1 and one.record.position not in taken), key=lambda one: (one.f1, -one.true))[
        :_IMAGES
    ]
    rows = [(title, row) for title, row in (("Best", best), ("Worst", worst)) if row]
    pictures = [(title, [_drawn(details, objects, classes, one, storage) for one in row]) for title, row in rows]
    heights = [max(picture.height for picture in row) + _GAP + 26 for _, row in pictures]
    columns = max([len(row) for _, row in rows], default=1)
    page = Image.new("RGB", (max(_NARROWEST, _GAP + columns * (_SIDE + _GAP)), 34 + sum(heights)), "white")
    draw = ImageDraw.Draw(page)
    x = float(_GAP)
    for text, colour in (("found", RIGHT), ("wrong", WRONG), ("missed (dashed)", MISSED)):
        draw.rounded_rectangle((x, 11, x + 14, 25), 3, colour)
        draw.text((x + 20, 18), text, _INK, font_for(text, 14), anchor="lm")
        x += 44 + font_for(text, 14).getlength(text)
    top = 34
    for (title, row), height in zip(pictures, heights, strict=True):
        draw.text((_GAP, top + 13), title, _INK, font_for(title, 15), anchor="lm")
        for number, picture in enumerate(row):
            left = _GAP + number * (_SIDE + _GAP) + (_SIDE - picture.width) // 2
            page.paste(picture, (left, top + 26 + (height - _GAP - 26 - picture.height) // 2))
        top += height
    out = BytesIO()
    page.save(out, "PNG", compress_level=4)
    return out.getvalue()


def _judge(details: dict[str, Tensor], objects: Objects, record: Record, place: int, row: int, surely: Tensor) -> _Judged:
    said = torch.nonzero((details["found_image"] == place) & surely & (details["found_match"] != IGNORED)).flatten()
    within = objects.of_row(row)
    hits = said[details["found_true"][said]]
    taken = set(details["found_match"][hits].tolist())
    missed = [number for number in range(within.start, within.stop) if number not in taken]
    f1 = 2 * len(hits) / max(1, len(said) + within.stop - within.start)
    return _Judged(record, said.numpy(), np.array(missed, np.int64), f1, within.stop - within.start)


def _drawn(details: dict[str, Tensor], objects: Objects, classes: Sequence[str], one: _Judged, storage: Storage) -> Image.Image:
    def name_of(label: int) -> str:
        return shortened(classes[label], 12, 120) if len(classes) > 1 else ""  # the only class has no need of it

    drawn = []
    for index in one.said.tolist():
        colour = RIGHT if bool(details["found_true"][index]) else WRONG
        name, sure = name_of(int(details["found_labels"][index])), f"{100 * float(details['found_scores'][index]):.0f} %"
        mask = masks.decode(_outline(details, index), one.record.width, one.record.height) if "found_outlines" in details else None
        drawn.append(Drawn(_corners(details["found_boxes"][index].tolist()), colour, name, sure, mask=mask))
    for index in one.missed.tolist():
        drawn.append(Drawn(_corners(objects.boxes[index].tolist()), MISSED, name_of(int(objects.labels[index])), dashed=True))
    with Image.open(BytesIO(storage.read(one.record.key))) as image:
        image.draft("RGB", (_SIDE, _SIDE))
        # What was found is told in the original's pixels, whatever is left of them after a quicker decoding.
        scale = image.width / one.record.width
        placed = [replace(item, box=_corners([value * scale for value in item.box])) for item in drawn]
        return draw_objects(image, placed, _SIDE)


def _corners(box: Sequence[float]) -> tuple[float, float, float, float]:
    x1, y1, x2, y2 = box
    return x1, y1, x2, y2


def _outline(details: dict[str, Tensor], index: int) -> str:
    ends = details["found_outline_ends"]
    start = int(ends[index - 1]) if index else 0
    return bytes(details["found_outlines"][start : int(ends[index])].tolist()).decode("ascii")
