"""Labels of a whole dataset: accuracy, confusion, curves, and rates of hits and misses per class."""

import warnings
from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torchmetrics.functional.classification import (
    binary_auroc,
    binary_average_precision,
    binary_precision_recall_curve,
    binary_roc,
)

from core.datasets.records import Record
from core.storage import Storage
from core.tasks.hyperparameters import TrainingPlan
from core.vocabulary import TaskType
from worker.objectives.classification import classification_objective
from worker.reports import pictures
from worker.reports.batch import curves
from worker.reports.batch.cases import CASE_SIDE, SAMPLES, Case, picture_of
from worker.reports.batch.curves import Curve, Points
from worker.reports.batch.outputs import Progress, outputs_of
from worker.reports.batch.report import PerClass, Report, by_errors, report_of
from worker.reports.inference import LoadedModel
from worker.reports.rates import Rates, counts_of

_MOST_POINTS = 2000  # of a curve that is drawn


@torch.inference_mode()
def labels_report(model: LoadedModel, records: list[Record], storage: Storage, progress: Progress) -> Report:
    """Test a model for labels.

    For the exact areas under the curves the probabilities of all images are held, 4 bytes × images × classes, and nothing else of an image.
    """
    several = model.task_type is TaskType.MULTI_LABEL
    plan = TrainingPlan(**model.card["plan"])
    thresholds = torch.tensor(model.card.get("thresholds") or [0.5] * len(model.classes)) if several else None
    objective = classification_objective(
        records, range(len(records)), model.classes, plan, torch.device("cpu"), several=several, thresholds=thresholds
    )
    evaluator = objective.evaluator()
    held: list[Tensor] = []
    for outputs, rows in outputs_of(model, records, storage, progress):
        evaluator.update(outputs, rows)
        held.append(outputs.float())
    evaluation = evaluator.compute()
    classes, together = model.classes, torch.cat(held)
    del held
    labels = evaluation.details["labels"]
    drawn: dict[str, bytes] = {}
    if several:
        probabilities = together.sigmoid()
        said = evaluation.details["said"]
        truth = labels
        counts = evaluation.details["counts"]
    else:
        probabilities, numbered = together.softmax(1), torch.arange(len(classes))
        truth = labels[:, None] == numbered
        said = together.argmax(1)[:, None] == numbered
        counts = counts_of(evaluation.details["confusion"])
        drawn["confusion_matrix"] = pictures.confusion_matrix(evaluation.details["confusion"].numpy(), classes, "images")
    of_roc, of_precision = label_curves(probabilities, truth, classes)
    if of_roc:
        drawn["roc"] = curves.roc(of_roc)
        drawn["precision_recall"] = curves.precision_recall(of_precision)
    per_class = label_numbers(counts, probabilities, truth, classes)
    cases = label_cases(probabilities, said, truth, classes, records, storage)
    numbers: dict[str, Any] = {
        "metrics": dict(evaluation.metrics),
        "per_class": per_class,
        "curves": {"roc": curves.told(of_roc), "precision_recall": curves.told(of_precision)},
    }
    if not several:
        numbers["confusion"] = evaluation.details["confusion"].tolist()
    return report_of(numbers, drawn, cases, by_errors(classes, counts))


def label_numbers(counts: Tensor, probabilities: Tensor, truth: Tensor, classes: Sequence[str]) -> PerClass:
    """Of each class how often it was recognised. Sensitivity is recall, specificity the share of the other images not mistaken for it.

    Args:
        counts: true and false positives, false and true negatives of each, [classes, 4].
        probabilities: [n, classes].
        truth: whether each image shows each class, [n, classes].
        classes: their names.
    """
    told: PerClass = {}
    for number, (name, row) in enumerate(zip(classes, counts.tolist(), strict=True)):
        rates = Rates(*row)
        shown, others = rates.true + rates.missed, rates.false + rates.rest
        areas: dict[str, float | None] = {"auroc": None, "average_precision": None}
        if shown and others:
            areas["auroc"] = float(_without_warnings(binary_auroc, probabilities[:, number], truth[:, number].long()))
        if shown:
            areas["average_precision"] = float(
                _without_warnings(binary_average_precision, probabilities[:, number], truth[:, number].long())
            )
        told[name] = {
            "images": shown,
            **areas,
            "sensitivity": rates.recall,
            "specificity": rates.specificity,
            "precision": rates.precision,
            "f1": rates.overlap,
            "diagnostic_odds_ratio": diagnostic_odds_ratio(*rates),
        }
    return told


def diagnostic_odds_ratio(true: float, false: float, missed: float, rest: float) -> float | None:
    """(TP · TN) / (FP · FN): how much likelier the class is said where it is than where it is not (Glas et al. 2003).

    Where one of the four is 0, ½ is added to each (Haldane and Anscombe). None where no image shows the class, or all do, and where it is said of
    none, or of all: nothing is told by an answer that is always the same.
    """
    if not (true + missed and false + rest and true + false and missed + rest):
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
                    text += f"\nis {_names(truth[place], classes)}"
                elif kind == "false-negative":
                    text += f"\nsaid {_names(said[place], classes)}"
                cases.append(Case(name, kind, record.path, partial(picture_of, record, storage, CASE_SIDE), text, confidence))
    return cases


def _names(chosen: Tensor, classes: Sequence[str]) -> str:
    return ", ".join(classes[index] for index in torch.nonzero(chosen).flatten().tolist()) or "none"


def _thinned(x: Tensor, y: Tensor) -> tuple[Points, Points]:
    places = curves.thinned(len(x), _MOST_POINTS)
    return x.double().numpy()[places], y.double().numpy()[places]


def _without_warnings(metric: Any, *arguments: Any) -> Any:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=UserWarning)
        return metric(*arguments)
