"""Case studies: of each class sample images that were recognised, invented and overlooked, the most telling first."""

from collections.abc import Callable, Sequence
from io import BytesIO

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from core.datasets.records import Record
from core.storage import Storage
from worker.objectives.places import Objects
from worker.reports.batch_pictures import COLOURS, SAMPLES, Case, fitted_thumbnail
from worker.reports.object_drawings import Drawn, draw_objects

_AROUND = 0.6  # of an object's longer side that is shown on each side of it
_SIDE = 240  # px, of an image's thumbnail before it is fitted into the page
Map = NDArray[np.bool_]


def picture_of(record: Record, storage: Storage, side: int = 0) -> Image.Image:
    """An image of the dataset, in RGB; with `side` no larger than that, as many are held at once."""
    with Image.open(BytesIO(storage.read(record.key))) as image:
        if side:
            image.draft("RGB", (side, side))
        picture = image.convert("RGB")
    if side:
        picture.thumbnail((side, side))
    return picture


def label_cases(
    probabilities: Tensor, said: Tensor, truth: Tensor, classes: Sequence[str], records: Sequence[Record], storage: Storage
) -> list[Case]:
    """The surest hits, the surest inventions, and what was thought least likely where it was true.

    All are [n, classes]: probabilities, whether each class was said, and whether it is true.
    """
    cases = []
    for number, name in enumerate(classes):
        sure = probabilities[:, number]
        for kind, chosen, descending in (
            ("true-positive", said[:, number] & truth[:, number], True),
            ("false-positive", said[:, number] & ~truth[:, number], True),
            ("false-negative", ~said[:, number] & truth[:, number], False),
        ):
            places = torch.nonzero(chosen).flatten()
            for place in places[sure[places].argsort(descending=descending)][:SAMPLES].tolist():
                record, confidence = records[place], float(sure[place])
                text = f"{100 * confidence:.0f} %"
                if kind == "false-positive":
                    text += f", is {_names(truth[place], classes)}"
                elif kind == "false-negative":
                    text += f", said {_names(said[place], classes)}"
                cases.append(Case(name, kind, record.path, picture_of(record, storage, _SIDE), text, confidence))
    return cases


def _names(chosen: Tensor, classes: Sequence[str]) -> str:
    return ", ".join(classes[index] for index in torch.nonzero(chosen).flatten().tolist()) or "none"


def object_cases(
    details: dict[str, Tensor],
    objects: Objects,
    surely: Tensor,
    missed: Sequence[tuple[int, int]],
    classes: Sequence[str],
    records: Sequence[Record],
    storage: Storage,
) -> list[Case]:
    """Objects cut out of their images: the surest right and wrong ones, and the largest of those `missed` (place of the image, true object)."""
    cases = []
    right, labels, scores = details["found_true"].bool(), details["found_labels"].long(), details["found_scores"]
    for number, name in enumerate(classes):
        for kind, chosen in (("true-positive", surely & right), ("false-positive", surely & ~right)):
            places = torch.nonzero(chosen & (labels == number)).flatten()
            for index in places[scores[places].argsort(descending=True)][:SAMPLES].tolist():
                record = records[int(details["found_image"][index])]
                box = details["found_boxes"][index].tolist()
                confidence = float(scores[index])
                picture = _cut_out(record, box, COLOURS[kind], storage)
                cases.append(Case(name, kind, record.path, picture, f"{100 * confidence:.0f} %", confidence))
        lost = [(place, index) for place, index in missed if int(objects.labels[index]) == number]
        lost.sort(key=lambda pair: -float(np.prod(objects.boxes[pair[1]][2:] - objects.boxes[pair[1]][:2])))
        for place, index in lost[:SAMPLES]:
            picture = _cut_out(records[place], objects.boxes[index].tolist(), COLOURS["false-negative"], storage)
            cases.append(Case(name, "false-negative", records[place].path, picture, "not found"))
    return cases


def _cut_out(record: Record, box: Sequence[float], colour: tuple[int, int, int], storage: Storage) -> Image.Image:
    """The box with some of what lies around it."""
    image = picture_of(record, storage)
    x1, y1, x2, y2 = box
    around = _AROUND * max(x2 - x1, y2 - y1, 8)
    left, top = max(0, int(x1 - around)), max(0, int(y1 - around))
    right, bottom = min(image.width, int(x2 + around) + 1), min(image.height, int(y2 + around) + 1)
    cut = image.crop((left, top, max(right, left + 1), max(bottom, top + 1)))
    return draw_objects(cut, [Drawn((x1 - left, y1 - top, x2 - left, y2 - top), colour)], _SIDE)


def region_cases(
    counts: Tensor,
    marks: Callable[[int, int], tuple[Map, Map]],
    classes: Sequence[str],
    records: Sequence[Record],
    storage: Storage,
) -> list[Case]:
    """Images by class: the highest Dice, the most pixels too many, the most pixels overlooked; those pixels in the colours of their kinds.

    Args:
        counts: true and false positive, false and true negative pixels of each image and class, [n, classes, 4].
        marks: from the place of an image and a class what was said and what is true, both of one size.
        classes: their names.
        records: the images, in the order of `counts`.
        storage: where they lie.
    """
    true, false, missed = (counts[:, :, kind].double() for kind in range(3))
    dice = 2 * true / (2 * true + false + missed).clamp(min=1)
    cases = []
    for number, name in enumerate(classes):
        for kind, worth in (
            ("true-positive", dice[:, number]),
            ("false-positive", false[:, number]),
            ("false-negative", missed[:, number]),
        ):
            for place in worth.argsort(descending=True)[:SAMPLES].tolist():
                if not worth[place]:
                    break
                said, wanted = marks(place, number)
                text = f"Dice {100 * float(dice[place, number]):.0f} %"
                if kind != "true-positive":
                    text = f"{int(worth[place]):,} px"
                cases.append(Case(name, kind, records[place].path, _marked(records[place], said, wanted, storage), text))
    return cases


def _marked(record: Record, said: Map, wanted: Map, storage: Storage) -> Image.Image:
    picture = np.asarray(fitted_thumbnail(picture_of(record, storage, _SIDE), _SIDE)).astype(np.float32)
    size = (picture.shape[1], picture.shape[0])
    for kind, pixels in (("true-positive", said & wanted), ("false-positive", said & ~wanted), ("false-negative", wanted & ~said)):
        covered = np.asarray(Image.fromarray(pixels.astype(np.uint8) * 255).resize(size, Image.Resampling.BILINEAR)) >= 128
        picture[covered] += 0.65 * (np.array(COLOURS[kind], np.float32) - picture[covered])
    return Image.fromarray(picture.round().astype(np.uint8))
