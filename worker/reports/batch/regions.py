"""Regions of a whole dataset: Dice and rates of pixels per class, and the images on which each class was marked best and worst."""

import heapq
from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from core.datasets import masks
from core.datasets.records import Record
from core.settings import Settings
from core.storage import Storage
from core.vocabulary import AnnotationKind
from worker.objectives.region_maps import FIRST_CLASS
from worker.objectives.regions import RegionMasks, RegionOutputs, dice_and_iou
from worker.reports import pictures
from worker.reports.batch.cases import CASE_SIDE, COLOURS, SAMPLES, Case, fitted_thumbnail, picture_of
from worker.reports.batch.outputs import Progress, outputs_of
from worker.reports.batch.report import PerClass, Report, by_errors, report_of
from worker.reports.inference import LoadedModel
from worker.reports.rates import Rates


@torch.inference_mode()
def regions_report(
    model: LoadedModel, records: list[Record], kind: AnnotationKind, settings: Settings, storage: Storage, progress: Progress
) -> Report:
    """Test a model for regions. What it says of an image is counted and then forgotten, but for the most telling images of each class."""
    objective = RegionMasks(records, kind, model.classes, settings, exclusive=model.exclusive)
    telling = TellingRegions(len(model.classes))
    evaluator = objective.evaluator(telling.look)
    for logits, rows in outputs_of(model, records, storage, progress):
        evaluator.update(RegionOutputs(torch.zeros(()), logits), rows)
    evaluation = evaluator.compute()
    counts, classes = evaluation.details["counts"], model.classes
    per_class = region_numbers(counts, classes)
    known = [(name, values["dice"]) for name, values in per_class.items() if values["dice"] is not None]
    drawn = {}
    if known:
        drawn["classes"] = pictures.class_bars(
            [float(value or 0) for _, value in known], [name for name, _ in known], "Dice per class", "Dice on the tested images"
        )
    cases = telling.cases(objective, classes, records, storage)
    return report_of({"metrics": dict(evaluation.metrics), "per_class": per_class}, drawn, cases, by_errors(classes, counts))


def region_numbers(counts: Tensor, classes: Sequence[str]) -> PerClass:
    """Of each class from its pixels, [classes, 4] as `worker.objectives.regions` counts them."""
    told: PerClass = {}
    for name, row in zip(classes, counts.tolist(), strict=True):
        rates = Rates(*row)
        told[name] = {
            "dice": rates.overlap,
            "iou": rates.iou,
            "precision": rates.precision,
            "recall": rates.recall,
            "specificity": rates.specificity,
        }
    return told


class _Sample(NamedTuple):
    """Compared by what it is worth, then the earlier image is the better one; no two of a heap have both in common."""

    worth: float
    minus_row: int
    said: str  # where the class was said, run-length encoded, at the size at which the image is judged


class TellingRegions:
    """Of each class and kind of case the most telling images so far, at most `SAMPLES`: by Dice, pixels too many and pixels overlooked.

    Masks are held run-length encoded. Classes may overlap: each is looked at by itself.
    """

    def __init__(self, classes: int) -> None:
        self._heaps: list[dict[str, list[_Sample]]] = [{kind: [] for kind in COLOURS} for _ in range(classes)]

    def look(self, row: int, counts: Tensor, said: Tensor) -> None:
        """Take in one image.

        Args:
            row: its number.
            counts: true and false positive, false and true negative pixels of each class, [classes, 4].
            said: whether each class was said of each pixel, [classes, height, width].
        """
        dice, _ = dice_and_iou(counts)
        worths = torch.stack([dice.nan_to_num(0.0), counts[:, 1].double(), counts[:, 2].double()], 1).tolist()  # in the order of COLOURS
        for number, heaps in enumerate(self._heaps):
            encoded = ""
            for heap, worth in zip(heaps.values(), worths[number], strict=True):
                if not worth or (len(heap) == SAMPLES and (worth, -row) < heap[0][:2]):
                    continue
                encoded = encoded or masks.encode(said[number].cpu().numpy())
                sample = _Sample(worth, -row, encoded)
                heapq.heappush(heap, sample) if len(heap) < SAMPLES else heapq.heapreplace(heap, sample)

    def cases(self, objective: RegionMasks, classes: Sequence[str], records: Sequence[Record], storage: Storage) -> list[Case]:
        """The cases of all classes, the most telling of each kind first."""
        made = []
        for number, (name, heaps) in enumerate(zip(classes, self._heaps, strict=True)):
            for kind, heap in heaps.items():
                for worth, minus_row, said in sorted(heap, reverse=True):
                    row = -minus_row
                    text = f"Dice {100 * worth:.0f} %" if kind == "true-positive" else f"{worth:,.0f} px"
                    picture = partial(_marked, objective, row, number, said, records[row], storage)
                    made.append(Case(name, kind, records[row].path, picture, text, tinted=True))
        return made


def _marked(objective: RegionMasks, row: int, number: int, encoded: str, record: Record, storage: Storage) -> Image.Image:
    """The image with the pixels of one class in the colours of their kinds: recognised, invented, overlooked."""
    wanted = (objective.truth(row) == number + FIRST_CLASS).any(0)
    said = masks.decode(encoded, wanted.shape[1], wanted.shape[0]).astype(bool)
    shown = fitted_thumbnail(picture_of(record, storage, CASE_SIDE), CASE_SIDE)
    picture = 0.6 * np.asarray(shown.convert("L").convert("RGB")).astype(np.float32) + 0.4 * np.asarray(shown)  # paler than the marks
    size = (picture.shape[1], picture.shape[0])
    for kind, pixels in (("true-positive", said & wanted), ("false-positive", said & ~wanted), ("false-negative", wanted & ~said)):
        covered = np.asarray(Image.fromarray(pixels.astype(np.uint8) * 255).resize(size, Image.Resampling.BILINEAR)) >= 128
        picture[covered] += 0.65 * (np.array(COLOURS[kind], np.float32) - picture[covered])
    return Image.fromarray(picture.round().astype(np.uint8))
