"""From a job's best checkpoint to the model that a person keeps: weights, model card and pictures in one storage folder."""

import json
import logging
import platform
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save as safetensors_bytes
from torch import Tensor

from core.clock import now
from core.datasets.deriving import classes_in
from core.datasets.records import Record
from core.datasets.splitting import trained_rows
from core.db.session import Database
from core.errors import ConflictError, UnavailableError
from core.models.listing import REPORT_FILE
from core.settings import Settings
from core.storage import Storage
from core.vocabulary import TaskType
from worker.engine.checkpoint import Best, newest
from worker.engine.data import decode
from worker.engine.training import read_records
from worker.engine.watch import Unlearnt, lower_rate
from worker.link import TrainingJob, TrainingResult
from worker.objectives.classification import single_label_score
from worker.reports import pictures
from worker.reports.detection_pictures import detection_pictures
from worker.reports.rates import Rates, counts_of
from worker.reports.reading import Reading, mindful, read_curves
from worker.reports.region_pictures import region_pictures
from worker.reports.search_pictures import search_pictures
from worker.reports.training_report import training_report

logger = logging.getLogger(__name__)

CARD_FORMAT = 1

SCORE_TITLES = {
    "accuracy": "Accuracy",
    "balanced_accuracy": "Balanced accuracy",
    "map": "Mean average precision",
    "ap": "Average precision (50:95)",
    "dice": "Dice",
}
_CASES = 8
_CASE_SIDE = 160  # px
_MOST_CONFUSED = 100  # classes whose confusion is part of the card: of a thousand it would take 10 MB, which each export carries, too
_SOFTWARE = (
    *("stationmaster", "torch", "torchvision", "timm", "segmentation-models-pytorch", "transformers", "safetensors"),
    *("torchmetrics", "faster-coco-eval", "numpy", "pillow"),
)


def write_model(
    job: TrainingJob,
    result: TrainingResult,
    key: str,
    *,
    database: Database,
    storage: Storage,
    settings: Settings,
    noticed: Callable[[str, str], None] = lambda _message, _remedy: None,
) -> dict[str, str]:
    """Make the model folder `key` from the best checkpoint of `job`: model.safetensors, model_card.json and pictures.

    A picture that cannot be drawn, because an image is gone, say, costs no model: it is lacking then, and `noticed` is told.

    Returns:
        Storage keys by name: of the pictures (curves, and what the task type has) and of `training_report`, a PDF.

    Raises:
        ConflictError: when the job has no finished epoch.
    """
    saved = newest(storage, job.checkpoint_folder)
    if saved is None or saved.best is None:
        raise ConflictError("The training has no finished epoch yet: there is no model to keep.", "Let it train for at least one epoch.")
    best, history = saved.best, saved.state["state"]["history"]
    records, fingerprint = read_records(job, database)
    score_name = score_name_of(job)
    baseline = best.metrics.get(f"baseline_{score_name}") if result.baseline is None else result.baseline
    try:
        reading = read_curves(
            history,
            score_name=SCORE_TITLES[score_name].lower(),
            baseline=baseline,
            planned_epochs=job.plan.epochs,
            validation_images=len(best.details["rows"]),
            lower=lower_rate(job.plan),
            steps=sum(point["event"]["steps"] for point in history),
            unlearnt=Unlearnt(*saved.state["state"].get("unlearnt", ())),
        )
    except Exception:  # words must never cost a model, as pictures must not
        logger.exception("the curves of job %s cannot be read", job.job_id)
        reading = Reading("unread", "The curves could not be read; the worker's log says why.")
    judging = (records[row] for row in best.details["rows"].tolist())
    shown = Counter(label for record in judging for label in set(classes_in(record.value, job.annotation_kind)))
    images = {name: shown[label] for label, name in enumerate(job.classes)}
    reading = mindful(reading, len(best.details["rows"]), images)
    remarks = list(saved.state["state"].get("best_remarks", {}).values())
    card = model_card(job, best, history, reading, baseline, fingerprint, records, remarks, images)
    storage.write(
        f"{key}/model.safetensors",
        safetensors_bytes({name: tensor.contiguous() for name, tensor in best.weights.items()}, {"format": "pt"}),
    )
    storage.write(f"{key}/model_card.json", json.dumps(card, indent=2, ensure_ascii=False).encode())

    drawn: dict[str, bytes] = {}
    report: dict[str, str] = {}
    lacking: list[str] = []

    def draw(what: str, work: Callable[[], dict[str, bytes]]) -> None:
        try:
            drawn.update(work())
        except (UnavailableError, ConnectionError, TimeoutError):  # the storage is away, not an image
            raise
        except Exception:
            logger.exception("the %s of job %s cannot be drawn", what, job.job_id)
            lacking.append(what)

    def draw_curves() -> dict[str, bytes]:
        title, text = SCORE_TITLES[score_name], reading.text
        drawing = pictures.curves(history, score_name=score_name, score_title=title, baseline=baseline, best_epoch=best.epoch, reading=text)
        return {"curves": drawing}

    draw("curves", draw_curves)
    draw("best and worst predictions", lambda: task_pictures(job, best, records, storage))
    of_training = dict(drawn)
    draw("pictures of the search", lambda: search_pictures(job.task_id, database))
    for name, picture in drawn.items():
        report[name] = f"{key}/{name}.png"
        storage.write(report[name], picture)
    draw("report", lambda: {REPORT_FILE: training_report(card, of_training, records, best.details["rows"].tolist())})
    if REPORT_FILE in drawn:
        report["training_report"] = f"{key}/{REPORT_FILE}"
        storage.write(report["training_report"], drawn[REPORT_FILE])
    if lacking:
        noticed(
            f"The model is complete, but for what could not be drawn: its {' and its '.join(lacking)}.",
            "The worker's log says why; most often an image is gone.",
        )
    return report


def score_name_of(job: TrainingJob) -> str:
    """By what the best epoch of a job was chosen."""
    if job.task_type is TaskType.SINGLE_LABEL:
        return single_label_score(job.plan)
    if job.task_type is TaskType.OBJECT_SEGMENTATION and not job.spec.instances_only:
        return "dice"
    return "map" if job.task_type is TaskType.MULTI_LABEL else "ap"


def task_pictures(job: TrainingJob, best: Best, records: Sequence[Record], storage: Storage) -> dict[str, bytes]:
    """The pictures that a task type has besides its curves, by name."""
    if job.task_type in (TaskType.SINGLE_LABEL, TaskType.MULTI_LABEL):
        return class_pictures(job, best) | case_pictures(job, best, records, storage)
    if job.task_type is TaskType.OBJECT_SEGMENTATION and not job.spec.instances_only:
        return region_pictures(best.details, job.annotation_kind, job.classes, records, storage)
    return detection_pictures(best.details, job.classes, records, storage, instances=job.spec.instances_only)


def model_card(
    job: TrainingJob,
    best: Best,
    history: Sequence[dict[str, Any]],
    reading: Reading,
    baseline: float | None,
    fingerprint: str,
    records: Sequence[Record],
    remarks: Sequence[Sequence[str]],
    validation_images: Mapping[str, int],
) -> dict[str, Any]:
    """Everything needed to use the weights elsewhere, and to know where they come from.

    `remarks` are those on the best epoch, each with its remedy; `validation_images` tells how many show each class.
    """
    card = {
        "format": CARD_FORMAT,
        "name": job.task_name,
        "created_at": now().isoformat(),
        "task_type": job.task_type.value,
        "classes": list(job.classes),
        "network": job.spec.network,
        "pretraining": job.spec.pretraining,
        "preprocessing": {
            "colours": "RGB",
            "size": [job.plan.image_size, job.plan.image_size],
            "fit": "stretch",
            "interpolation": "bilinear with antialiasing",
            "mean": list(job.spec.mean),
            "std": list(job.spec.std),
        },
        "metrics": best.metrics,
        "baseline": baseline,
        "best_epoch": best.epoch,
        "epochs": len(history),
        "history": [{name: value for name, value in point.items() if name not in ("event", "metrics")} for point in history],
        "reading": asdict(reading),
        "remarks": [{"what": what, "remedy": remedy} for what, remedy in remarks],
        "plan": job.plan.model_dump(mode="json"),
        "parent_model": job.parent_model_key or None,
        "dataset": {
            "id": job.dataset_id,
            "name": job.dataset_name,
            "fingerprint": fingerprint,
            "annotation_set": job.annotation_set_id,
            "annotation_kind": job.annotation_kind.value,
            "images": len(records),
            "training_images": len(trained_rows(records, best.details["rows"].tolist())),
            "validation_images": len(best.details["rows"]),
        },
        "spec": {**asdict(job.spec), "task_types": [task_type.value for task_type in job.spec.task_types]},
        "software": {"python": platform.python_version()} | {name: found for name in _SOFTWARE if (found := _version(name))},
    }
    if numbers := class_numbers(best.details, job.classes, "dice" if score_name_of(job) == "dice" else "f1"):
        card["per_class"] = {name: {"images": validation_images[name], **values} for name, values in numbers.items()}
    if "confusion" in best.details and len(job.classes) <= _MOST_CONFUSED:
        card["confusion"] = best.details["confusion"].tolist()
        card["confusion_meaning"] = (
            "validation images: a row for what they show, a column for what was said of them, in the order of `classes`"
        )
    if "exclusive" in best.details:
        card["exclusive"] = bool(best.details["exclusive"])  # whether a place belongs to one class at most
    if "thresholds" in best.details:
        # Exactly, in as few digits as that takes: rounded, the threshold of a rare class might be 0, and all images have it.
        card["thresholds"] = [float(str(value)) for value in best.details["thresholds"].cpu().numpy().astype(np.float32)]
    return card


def class_numbers(details: dict[str, Tensor], classes: Sequence[str], overlap: str) -> dict[str, dict[str, float | None]]:
    """All that an evaluation's details tell of each class: average precision and what `per_class` gives; empty where they tell nothing."""
    found: dict[str, dict[str, float | None]] = {name: {} for name in classes}
    for name, key in (("ap", "class_ap"), ("ap50", "class_ap50")):
        for label, value in zip(classes, details[key].tolist() if key in details else (), strict=False):
            found[label][name] = value if value == value else None  # NaN where no image shows the class
    counts = counts_of(details["confusion"]) if "confusion" in details else details.get("counts")
    if counts is not None:
        for label, values in per_class(counts, classes, overlap).items():
            found[label] |= values
    if "thresholds" in details:
        for label, threshold in zip(classes, details["thresholds"].tolist(), strict=True):
            found[label]["threshold"] = threshold
    return found if any(found.values()) else {}


def per_class(counts: Tensor, classes: Sequence[str], overlap: str) -> dict[str, dict[str, float | None]]:
    """Of each class the numbers that follow from its true and false positives and false negatives, [classes, 3 or more].

    `overlap` is what 2 TP / (2 TP + FP + FN) is called there: F1 of labels, Dice of pixels. None where nothing is to be found and nothing was.
    """
    found: dict[str, dict[str, float | None]] = {}
    for name, row in zip(classes, counts[:, :3].tolist(), strict=True):
        rates = Rates(*row)
        found[name] = {overlap: rates.overlap, "iou": rates.iou, "precision": rates.precision, "recall": rates.recall}
        if overlap != "dice":
            del found[name]["iou"]
    return found


def class_pictures(job: TrainingJob, best: Best) -> dict[str, bytes]:
    """How well each class is known: the confusion matrix, or F1 per class where an image has several labels."""
    if job.task_type is TaskType.SINGLE_LABEL:
        return {"confusion_matrix": pictures.confusion_matrix(best.details["confusion"].numpy(), job.classes)}
    f1 = {name: values["f1"] for name, values in per_class(best.details["counts"], job.classes, "f1").items()}
    known = {name: value for name, value in f1.items() if value is not None}  # nothing is known of a class without validation images
    if not known:
        return {}
    title = "F1 per class, at each class's best threshold"
    return {"classes": pictures.class_bars([*known.values()], [*known], title, "F1 on the validation images")}


def case_pictures(job: TrainingJob, best: Best, records: Sequence[Record], storage: Storage) -> dict[str, bytes]:
    """The surest hits and the worst misses among the validation images."""
    details = best.details
    right = details["said"] == details["labels"]
    if right.ndim > 1:
        right = right.all(1)
    hits, misses = _chosen(details, right)

    def case(place: int) -> pictures.Case:
        record = records[int(details["rows"][place])]
        scale = min(1.0, _CASE_SIDE / max(record.width, record.height))
        pixels = Image.fromarray(decode(storage.read(record.key), _CASE_SIDE if scale < 1 else max(record.width, record.height)))
        picture = pixels.resize((max(1, round(record.width * scale)), max(1, round(record.height * scale))), Image.Resampling.LANCZOS)
        truth, said = _labels(job, details["labels"][place]), _labels(job, details["said"][place])
        if details["confidence"].ndim == 1:
            said = [f"{said[0]} ({100 * float(details['confidence'][place]):.0f} %)"]
        return pictures.Case(picture, truth, said, bool(right[place]))

    return {"best_and_worst": pictures.best_and_worst([case(place) for place in hits], [case(place) for place in misses])}


def _chosen(details: dict[str, Tensor], right: Tensor) -> tuple[list[int], list[int]]:
    losses = details["losses"]
    misses = [int(place) for place in losses.argsort(descending=True) if not right[place]][:_CASES]
    surest = [int(place) for place in losses.argsort() if right[place]]
    if details["labels"].ndim > 1:  # those that show something first: that nothing is said of nothing tells little
        return sorted(surest, key=lambda place: not bool(details["labels"][place].any()))[:_CASES], misses
    # One of each class first, so that the easiest class does not fill the row.
    seen: dict[int, int] = {}
    ranked = []
    for rank, place in enumerate(surest):
        label = int(details["labels"][place])
        ranked.append((seen.get(label, 0), rank, place))
        seen[label] = seen.get(label, 0) + 1
    return [place for _, _, place in sorted(ranked)[:_CASES]], misses


def _labels(job: TrainingJob, labels: Tensor) -> list[str]:
    if labels.ndim == 0:
        return [job.classes[int(labels)]]
    return [job.classes[int(index)] for index in torch.nonzero(labels).flatten()] or ["none"]


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
