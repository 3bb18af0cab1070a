"""What a batch test tells of each class, as numbers: areas under curves, rates of hits and misses, free-response curves."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchmetrics.functional.classification import (
    binary_auroc,
    binary_average_precision,
    binary_precision_recall_curve,
    binary_roc,
    multiclass_stat_scores,
    multilabel_stat_scores,
)

from worker.objectives.places import Objects

Numbers = dict[str, Any]
PerClass = dict[str, dict[str, float | int | None]]
Points = NDArray[np.float64]

_MOST_POINTS = 2000  # of a curve that is drawn or told
FROC_RATES = (0.125, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0)  # false positives an image at which sensitivity is told, as LUNA16 has them


@dataclass(frozen=True)
class Curve:
    """A line of a class: `x` and `y` from left to right, and the `area` under it (NaN where it has none)."""

    name: str
    x: Points
    y: Points
    area: float


# ---------------------------------------------------------------- labels


def label_counts(said: Tensor, labels: Tensor, classes: int) -> Tensor:
    """True and false positives, false and true negatives of each class, [classes, 4], by torchmetrics.

    Args:
        said: the class that was said of each image [n], or whether each class was said [n, classes].
        labels: what is true, of the same shape.
        classes: how many there are.
    """
    count = max(2, classes)  # the metrics want two; the second of one is never true and never said
    if said.ndim == 1:
        found = multiclass_stat_scores(said, labels, count, average="none")
    else:
        wide = [torch.nn.functional.pad(part.long(), (0, count - classes)) for part in (said, labels)]
        found = multilabel_stat_scores(wide[0], wide[1], count, average="none")
    return found[:classes][:, [0, 1, 3, 2]]


def label_numbers(counts: Tensor, probabilities: Tensor, truth: Tensor, classes: Sequence[str]) -> PerClass:
    """Of each class how often it was recognised. Sensitivity is recall, specificity the share of the other images not mistaken for it.

    Args:
        counts: as `label_counts` gives them.
        probabilities: [n, classes].
        truth: whether each image shows each class, [n, classes].
        classes: their names.
    """
    told: PerClass = {}
    for number, (name, (true, false, missed, rest)) in enumerate(zip(classes, counts.tolist(), strict=True)):
        areas: dict[str, float | None] = {"auroc": None, "average_precision": None}
        if true + missed and false + rest:
            areas["auroc"] = float(_without_warnings(binary_auroc, probabilities[:, number], truth[:, number].long()))
        if true + missed:
            areas["average_precision"] = float(
                _without_warnings(binary_average_precision, probabilities[:, number], truth[:, number].long())
            )
        told[name] = {
            "images": true + missed,
            **areas,
            "sensitivity": share(true, true + missed),
            "specificity": share(rest, rest + false),
            "precision": share(true, true + false),
            "f1": share(2 * true, 2 * true + false + missed),
            "diagnostic_odds_ratio": diagnostic_odds_ratio(true, false, missed, rest),
        }
    return told


def diagnostic_odds_ratio(true: float, false: float, missed: float, rest: float) -> float | None:
    """(TP · TN) / (FP · FN): how much likelier the class is said where it is than where it is not (Glas et al. 2003).

    Where one of the four is 0, ½ is added to each (Haldane and Anscombe). None where no image shows the class, or all do.
    """
    if not true + missed or not false + rest:
        return None
    if 0 in (true, false, missed, rest):
        true, false, missed, rest = (value + 0.5 for value in (true, false, missed, rest))
    return true * rest / (false * missed)


def label_curves(probabilities: Tensor, truth: Tensor, classes: Sequence[str]) -> tuple[list[Curve], list[Curve]]:
    """ROC and precision–recall curves, one per class that has both images with it and without."""
    roc, precision_recall = [], []
    for number, name in enumerate(classes):
        wanted = truth[:, number].long()
        if not bool(wanted.any()) or bool(wanted.all()):
            continue
        said = probabilities[:, number]
        x, y, _ = _without_warnings(binary_roc, said, wanted)
        roc.append(Curve(name, *_thinned(x, y), float(_without_warnings(binary_auroc, said, wanted))))
        precision, recall, _ = _without_warnings(binary_precision_recall_curve, said, wanted)
        area = float(_without_warnings(binary_average_precision, said, wanted))
        precision_recall.append(Curve(name, *_thinned(recall.flip(0), precision.flip(0)), area))
    return roc, precision_recall


# ---------------------------------------------------------------- objects


def object_numbers(details: dict[str, Tensor], missed: Tensor, surely: Tensor, classes: Sequence[str]) -> PerClass:
    """Of each class average precision, and hits and misses from the model's own thresholds on, at an overlap of 0.5.

    Args:
        details: of an evaluation, as `worker.objectives.detection` gives them.
        missed: how many true objects of each class no sure one matches, [classes].
        surely: of each found object whether it reaches its class's threshold.
        classes: their names.
    """
    labels, right = details["found_labels"].long(), details["found_true"].bool()
    count = len(classes)
    true = torch.bincount(labels[surely & right], minlength=count)
    false = torch.bincount(labels[surely & ~right], minlength=count)
    told: PerClass = {}
    for number, name in enumerate(classes):
        hits, wrong, lost = int(true[number]), int(false[number]), int(missed[number])
        precisions = (float(details["class_ap"][number]), float(details["class_ap50"][number]))
        told[name] = {
            "objects": hits + lost,
            "ap": None if precisions[0] != precisions[0] else precisions[0],
            "ap50": None if precisions[1] != precisions[1] else precisions[1],
            "sensitivity": share(hits, hits + lost),
            "precision": share(hits, hits + wrong),
            "f1": share(2 * hits, 2 * hits + wrong + lost),
        }
    return told


def froc(details: dict[str, Tensor], objects: Objects, rows: Sequence[int], classes: Sequence[str]) -> list[Curve]:
    """Free-response curves (Bunch et al. 1977): sensitivity over the false positives an image, per class and of all together (the first one).

    An object counts as found when one of its class overlaps it by half. Areas are the mean sensitivity at `FROC_RATES`.
    """
    true = np.concatenate([objects.labels[objects.of_row(row)] for row in rows]) if len(rows) else np.zeros(0, np.int64)
    labels, scores, right = (details[name].numpy() for name in ("found_labels", "found_scores", "found_true"))
    curves = []
    for number, name in [(-1, "all classes"), *enumerate(classes)]:
        total = len(true) if number < 0 else int((true == number).sum())
        if not total:
            continue
        chosen = np.ones(len(labels), bool) if number < 0 else labels == number
        order = np.argsort(-scores[chosen], kind="stable")
        hits = right[chosen][order].astype(bool)
        x = np.concatenate([[0.0], np.cumsum(~hits) / max(1, len(rows))])
        y = np.concatenate([[0.0], np.cumsum(hits) / total])
        at = [float(y[np.searchsorted(x, rate, side="right") - 1]) for rate in FROC_RATES]
        curves.append(Curve(name, x, y, float(np.mean(at))))
    return curves


# ---------------------------------------------------------------- regions


def region_numbers(counts: Tensor, classes: Sequence[str]) -> PerClass:
    """Of each class from its pixels, [classes, 4] as `worker.objectives.regions` counts them."""
    told: PerClass = {}
    for name, (true, false, missed, rest) in zip(classes, counts.tolist(), strict=True):
        told[name] = {
            "dice": share(2 * true, 2 * true + false + missed),
            "iou": share(true, true + false + missed),
            "precision": share(true, true + false),
            "recall": share(true, true + missed),
            "specificity": share(rest, rest + false),
        }
    return told


def share(part: float, whole: float) -> float | None:
    """`part` of `whole`; None of nothing."""
    return part / whole if whole else None


def _thinned(x: Tensor, y: Tensor) -> tuple[Points, Points]:
    places = np.unique(np.linspace(0, len(x) - 1, min(len(x), _MOST_POINTS)).round().astype(int))
    return x.double().numpy()[places], y.double().numpy()[places]


def _without_warnings(metric: Any, *arguments: Any) -> Any:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=UserWarning)
        return metric(*arguments)
