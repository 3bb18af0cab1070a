"""COCO's average precision and recall by faster-coco-eval, in the pixels of the original images."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from faster_coco_eval import COCO, COCOeval_faster
from numpy.typing import NDArray
from pycocotools import mask as coco

from worker.objectives.objects import Objects
from worker.objectives.places import Floats

MOST_FOUND = 100  # objects an image that count, as COCO has it
IGNORED = -2  # in `Judged.matches`: the found object lies on something that is ignored
_SIZES = {"AP_small": "small", "AP_medium": "medium", "AP_large": "large"}  # up to 32², up to 96², above: px of the original image
_RECALLS = {
    "ar_1": "AR_all",  # these three keys are faster-coco-eval's for 1, 10 and 100 objects an image
    "ar_10": "AR_second",
    "ar_100": "AR_third",
    "ar_small": "AR_small",
    "ar_medium": "AR_medium",
    "ar_large": "AR_large",
}


@dataclass(frozen=True)
class Found:
    """What was found on some images, one object after another.

    `image` [n] counts the images that were judged; `boxes` [n, 4] are x1, y1, x2, y2 in pixels of the original image; `outlines` are
    run-length encoded masks, where the network gives masks.
    """

    image: NDArray[np.int64]
    boxes: Floats
    labels: NDArray[np.int64]
    scores: Floats
    outlines: tuple[str, ...] = ()


@dataclass(frozen=True)
class Judged:
    """`metrics` flat fractions; per class average precision at 50:95 and 50 (NaN where no image shows the class) and the score from which
    on F1 is highest; `precision` [2, 101] over recall 0, 0.01 … 1 at IoU 0.5 and 0.75, the mean over classes; `matches` [n]: for each found
    object the true one that it matches at IoU 0.5 or more, as its number in `Objects`, −1 where there is none, `IGNORED` where half of it or more
    lies on an ignored object of its class; `overlaps` [10] average precision at IoU 0.5, 0.55 … 0.95; `recalls` average
    recall by how many objects an image count, or by their size.
    """

    metrics: dict[str, float]
    class_ap: Floats
    class_ap50: Floats
    thresholds: Floats
    precision: Floats
    matches: NDArray[np.int64]
    overlaps: Floats
    recalls: dict[str, float]


def judge(objects: Objects, rows: NDArray[np.int64], found: Found, classes: int, *, by_masks: bool) -> Judged:
    """Compare what was `found` on the images `rows` with what is there.

    Sizes are told apart by `objects.areas`. Ignored objects are COCO's crowds: what is found on them is neither right nor wrong.
    """
    truth = COCO(_truth(objects, rows, classes, by_masks=by_masks))
    said = truth.loadRes(_said(objects, rows, found, by_masks=by_masks))
    evaluation = COCOeval_faster(truth, said, "segm" if by_masks else "bbox", extra_calc=True, print_function=lambda *_: None)
    evaluation.params.maxDets = [1, 10, MOST_FOUND]
    evaluation.run()  # type: ignore[no-untyped-call]
    numbers = evaluation.stats_as_dict
    metrics = {"ap": numbers["AP_all"], "ap50": numbers["AP_50"], "ap75": numbers["AP_75"], "ar": numbers["AR_third"]}
    metrics |= {f"ap_{size}": numbers[name] for name, size in _SIZES.items()}
    metrics = {name: value for name, value in metrics.items() if value >= 0}  # −1 says that there is nothing of the kind
    # [10 overlaps from 0.5 to 0.95, 101 recalls, classes], of all sizes
    precision = np.asarray(evaluation.eval["precision"])[:, :, :, 0, -1]
    scores = np.asarray(evaluation.eval["scores"])[:, :, :, 0, -1]
    shown = precision[0, 0] >= 0
    matches = _matches(evaluation.eval["matched"], found, np.concatenate([[0], *(_numbers(objects, row) for row in rows)]))
    _mark_ignored(matches, objects, rows, found, by_masks=by_masks)
    return Judged(
        metrics,
        np.where(shown, precision.mean((0, 1)), np.nan).astype(np.float32),
        np.where(shown, precision[0].mean(0), np.nan).astype(np.float32),
        _between(_best_thresholds(precision[0], scores[0], evaluation.params.recThrs), found),
        precision[[0, 5]][:, :, shown].mean(2).astype(np.float32) if shown.any() else np.zeros((2, 101), np.float32),
        matches,
        precision[:, :, shown].mean((1, 2)).astype(np.float32) if shown.any() else np.zeros(len(precision), np.float32),
        {name: float(numbers[key]) for name, key in _RECALLS.items() if numbers[key] >= 0},
    )


def _best_thresholds(precision: Floats, scores: Floats, recalls: NDArray[np.float64]) -> Floats:
    """For each class the score from which on taking a box for true gives the highest F1; 0.5 where nothing was found of it."""
    f1 = 2 * precision * recalls[:, None] / np.maximum(precision + recalls[:, None], 1e-9)
    best = f1.argmax(0)
    classes = np.arange(precision.shape[1])
    return np.where(f1[best, classes] > 0, scores[best, classes], 0.5).astype(np.float32)


def _matches(pairs: dict[str, float], found: Found, numbers: NDArray[np.int64]) -> NDArray[np.int64]:
    """Who belongs to whom. The library lists pairs of all overlaps from 0.5 on: an object found twice is the surer one's, as at 0.5.

    `pairs` are overlaps by “found_true”, both counted from 1; `numbers` by the latter's count the object's number.
    """
    matches = np.full(len(found.scores), -1)
    taken: set[int] = set()
    listed = []
    for pair, overlap in pairs.items():
        index, true = (int(part) for part in pair.split("_"))
        if overlap >= 0.5 and true < len(numbers):  # ignored objects are counted after the others
            listed.append((-float(found.scores[index - 1]), -overlap, index - 1, true))
    for _, _, index, true in sorted(listed):
        if matches[index] < 0 and true not in taken:
            matches[index] = numbers[true]
            taken.add(true)
    return matches


def _mark_ignored(matches: NDArray[np.int64], objects: Objects, rows: NDArray[np.int64], found: Found, *, by_masks: bool) -> None:
    """Enter `IGNORED` for what matches nothing but lies on an ignored object of its class, by COCO's overlap with crowds: the share of what was
    found, of which several may lie on one."""
    ignored = objects.ignored
    if ignored is None:
        return
    for place, row in enumerate(rows.tolist()):
        within = ignored.of_row(row)
        for index in np.flatnonzero((found.image == place) & (matches < 0)).tolist() if within.stop > within.start else ():
            there = [number for number in range(within.start, within.stop) if ignored.labels[number] == found.labels[index]]
            if there:
                said = _shape(found.boxes, found.outlines, index, objects.sizes[row], by_masks=by_masks)
                true = [_shape(ignored.boxes, ignored.outlines, number, objects.sizes[row], by_masks=by_masks) for number in there]
                if np.max(coco.iou([said], true, [1] * len(true))) >= 0.5:
                    matches[index] = IGNORED


def _shape(boxes: Floats, outlines: tuple[str, ...], index: int, size: NDArray[np.int64], *, by_masks: bool) -> Any:
    """Mask or box as pycocotools takes it."""
    if by_masks:
        return {"size": [int(size[1]), int(size[0])], "counts": outlines[index].encode("ascii")}
    return _coco_box(boxes[index])


def _numbers(objects: Objects, row: int) -> NDArray[np.int64]:
    within = objects.of_row(row)
    return np.arange(within.start, within.stop)


def _between(thresholds: Floats, found: Found) -> Floats:
    """Each threshold half way down to the next lower score of its class: at a score itself, rounding would decide about that very object."""
    lowered = thresholds.copy()
    for number, threshold in enumerate(thresholds):
        scores = found.scores[found.labels == number].astype(np.float32)
        if (scores == threshold).any():
            lowered[number] = (threshold + scores[scores < threshold].max(initial=0.0)) / 2
    return lowered


def _truth(objects: Objects, rows: NDArray[np.int64], classes: int, *, by_masks: bool) -> dict[str, Any]:
    annotations: list[dict[str, Any]] = []
    images = []
    for place, row in enumerate(rows.tolist()):
        width, height = (int(side) for side in objects.sizes[row])
        images.append({"id": place + 1, "width": width, "height": height})
    for source in (objects, objects.ignored):
        for place, row in enumerate(rows.tolist()):
            if source is None:
                continue
            width, height = (int(side) for side in source.sizes[row])
            within = source.of_row(row)
            for index in range(within.start, within.stop):
                entry: dict[str, Any] = {
                    "id": len(annotations) + 1,
                    "image_id": place + 1,
                    "category_id": int(source.labels[index]) + 1,
                    "bbox": _coco_box(source.boxes[index]),
                    "area": float(source.areas[index]),
                    "iscrowd": int(source is objects.ignored),
                }
                if by_masks:
                    entry["segmentation"] = {"size": [height, width], "counts": source.outlines[index]}
                annotations.append(entry)
    return {
        "images": images,
        "annotations": annotations,
        "categories": [{"id": number + 1, "name": str(number)} for number in range(classes)],
    }


def _said(objects: Objects, rows: NDArray[np.int64], found: Found, *, by_masks: bool) -> list[dict[str, Any]]:
    said = []
    for index, place in enumerate(found.image.tolist()):
        entry: dict[str, Any] = {
            "image_id": place + 1,
            "category_id": int(found.labels[index]) + 1,
            "score": float(found.scores[index]),
        }
        if by_masks:  # without a box: the area that tells sizes apart must be the mask's
            width, height = (int(side) for side in objects.sizes[rows[place]])
            entry["segmentation"] = {"size": [height, width], "counts": found.outlines[index]}
        else:
            entry["bbox"] = _coco_box(found.boxes[index])
        said.append(entry)
    return said


def _coco_box(box: Floats) -> list[float]:
    x1, y1, x2, y2 = (float(value) for value in box)
    return [x1, y1, x2 - x1, y2 - y1]
