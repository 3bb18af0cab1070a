"""Objects of a whole dataset: COCO's numbers, free-response curves, and per class what was found, invented and overlooked."""

from collections.abc import Sequence
from functools import partial

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from core.datasets.records import Record
from core.storage import Storage
from worker.objectives.average_precision import IGNORED
from worker.objectives.detection import Detection, Outputs
from worker.objectives.objects import Objects
from worker.reports.batch import curves
from worker.reports.batch.cases import CASE_SIDE, COLOURS, SAMPLES, Case, picture_of
from worker.reports.batch.curves import FROC_RATES, Curve
from worker.reports.batch.outputs import Progress, outputs_of
from worker.reports.batch.report import PerClass, Report, report_of
from worker.reports.detection_pictures import precision_recall
from worker.reports.inference import LoadedModel
from worker.reports.object_drawings import Drawn, draw_objects
from worker.reports.rates import Rates

_AROUND = 0.6  # of an object's longer side that is shown on each side of it


@torch.inference_mode()
def objects_report(model: LoadedModel, records: list[Record], storage: Storage, progress: Progress) -> Report:
    """Test a model for boxes or masks of single objects. Of each image what was found is held, COCO's numbers are told of all together."""
    objective = Detection(records, model.classes, torch.device("cpu"), instances=model.gives_instances)
    evaluator = objective.evaluator()
    side = int(model.card["preprocessing"]["size"][0])
    for found, rows in outputs_of(model, records, storage, progress):
        evaluator.update(Outputs(torch.zeros(()), found, side), rows)
    evaluation = evaluator.compute()
    details, classes = evaluation.details, model.classes
    thresholds = torch.tensor(model.card.get("thresholds") or [0.5] * len(classes))
    surely = (details["found_scores"] >= thresholds[details["found_labels"].long()]) & (details["found_match"] != IGNORED)
    missed = _missed(details, objective, surely)
    lost = torch.bincount(
        torch.tensor([int(objective.objects.labels[index]) for _, index in missed], dtype=torch.int64), minlength=len(classes)
    )
    per_class = object_numbers(details, lost, surely, classes)
    free_response = froc(details, objective.objects, details["rows"].tolist(), classes)
    overlaps = {f"{0.5 + 0.05 * step:.2f}": float(value) for step, value in enumerate(details["overlaps"])} if evaluation.metrics else {}
    drawn: dict[str, bytes] = {}
    if evaluation.metrics:
        drawn["precision_recall"] = precision_recall(details["precision"].numpy(), "masks" if model.gives_instances else "boxes")
    if free_response:
        drawn["froc"] = curves.froc(free_response)
    cases = object_cases(details, objective.objects, surely, missed, classes, records, storage)
    numbers = {
        "metrics": dict(evaluation.metrics),
        "ap_by_overlap": overlaps,
        "average_recall": evaluator.recalls,
        "per_class": per_class,
        "froc": {curve.name: curve.area for curve in free_response},
        "curves": {
            "froc": curves.told(free_response),
            "precision_recall": [details["precision"][0].tolist(), details["precision"][1].tolist()],
        },
    }
    return report_of(numbers, drawn, cases, sorted(classes, key=lambda name: per_class[name]["f1"] or 0))


def _missed(details: dict[str, Tensor], objective: Detection, surely: Tensor) -> list[tuple[int, int]]:
    """The true objects that no sure find belongs to: place of the image, and number of the object."""
    taken = set(details["found_match"][surely].tolist())
    places = enumerate(details["rows"].tolist())
    inside = ((place, objective.objects.of_row(row)) for place, row in places)
    return [(place, number) for place, within in inside for number in range(within.start, within.stop) if number not in taken]


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
        rates = Rates(int(true[number]), int(false[number]), int(missed[number]))
        precisions = (float(details["class_ap"][number]), float(details["class_ap50"][number]))
        told[name] = {
            "objects": rates.true + rates.missed,
            "ap": None if precisions[0] != precisions[0] else precisions[0],
            "ap50": None if precisions[1] != precisions[1] else precisions[1],
            "sensitivity": rates.recall,
            "precision": rates.precision,
            "f1": rates.overlap,
        }
    return told


def froc(details: dict[str, Tensor], objects: Objects, rows: Sequence[int], classes: Sequence[str]) -> list[Curve]:
    """Free-response curves (Bunch et al. 1977): sensitivity over the false positives an image, per class and of all together (the first one).

    An object counts as found when one of its class overlaps it by half. Areas are the mean sensitivity at `FROC_RATES`.
    """
    true = np.concatenate([objects.labels[objects.of_row(row)] for row in rows]) if len(rows) else np.zeros(0, np.int64)
    counted = details["found_match"].numpy() != IGNORED
    labels, scores, right = (details[name].numpy()[counted] for name in ("found_labels", "found_scores", "found_true"))
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
                picture = partial(_cut_out, record, box, COLOURS[kind], storage)
                cases.append(Case(name, kind, record.path, picture, f"{100 * confidence:.0f} %", confidence))
        lost = [(place, index) for place, index in missed if int(objects.labels[index]) == number]
        lost.sort(key=lambda pair: -float(np.prod(objects.boxes[pair[1]][2:] - objects.boxes[pair[1]][:2])))
        for place, index in lost[:SAMPLES]:
            picture = partial(_cut_out, records[place], objects.boxes[index].tolist(), COLOURS["false-negative"], storage)
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
    return draw_objects(cut, [Drawn((x1 - left, y1 - top, x2 - left, y2 - top), colour)], CASE_SIDE)
