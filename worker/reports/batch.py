"""A finished model on a whole dataset whose truth is known: numbers and curves per class, confusion, and case studies. Runs on the CPU.

The dataset's classes are taken by their names. What the model does not know is left out, and said.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as functional
from numpy.typing import NDArray
from torch import Tensor

from core.datasets import masks
from core.datasets.listing import annotation_sets_for
from core.datasets.records import Record, load_records
from core.db.session import Database
from core.db.tables import AnnotationSet, Dataset
from core.errors import InvalidInputError, NotFoundError
from core.host_limits import usable_cores
from core.identifiers import new_id
from core.settings import Settings
from core.storage import Storage
from core.tasks.hyperparameters import TrainingPlan
from core.tasks.sweeping import PREDICTIONS
from core.vocabulary import AnnotationKind, TaskType
from worker.engine.augment import Normalisation
from worker.engine.data import batches_of, decode, with_all_cores
from worker.engine.device import Device
from worker.objectives.classification import classification_objective
from worker.objectives.detection import Detection, Outputs
from worker.objectives.objective import Evaluation
from worker.objectives.region_maps import FIRST_CLASS
from worker.objectives.regions import RegionMasks, surest_class
from worker.reports import batch_cases, batch_numbers, batch_pictures, pictures
from worker.reports.batch_pictures import Case
from worker.reports.inference import LoadedModel, load_model

_BATCH = 16
_POINTS_TOLD = 200  # of each curve in report.json
Progress = Callable[[int, int], None]


@dataclass
class Report:
    """What a batch test found: `numbers` for report.json, and pictures by name."""

    numbers: dict[str, Any]
    pictures: dict[str, bytes]


def batch_test(
    model_key: str,
    dataset_id: str,
    annotation_set_id: str,
    *,
    database: Database,
    storage: Storage,
    settings: Settings,
    progress: Progress = lambda done, total: None,
) -> dict[str, Any]:
    """Test a model on an annotation set.

    Returns:
        The numbers as in `report.json`, its storage key as `report_key`, and `pictures`, storage keys by name. All lie in one folder.

    Raises:
        InvalidInputError: when the annotation set is of another kind, or shares no class with the model.
        NotFoundError, BadDataError: when the model's files, the dataset or an image are gone or damaged.
    """
    torch.set_num_threads(usable_cores())
    model = load_model(model_key, storage=storage, settings=settings)
    with database.read() as session:
        dataset = session.get(Dataset, dataset_id)
        if dataset is None:
            raise NotFoundError("That dataset has been deleted.", "`stationmaster dataset list` shows those there are.")
        chosen = choose_annotations(dataset, annotation_set_id, model)
        records = load_records(session, dataset.id, chosen.id)
        kind, classes = AnnotationKind(chosen.kind), [str(name) for name in chosen.classes]
    known, unknown = in_the_model_s_classes(records, kind, classes, model.classes)
    if not known:
        raise InvalidInputError(
            f"No image of this dataset shows a class that “{model.card['name']}” knows: {', '.join(model.classes[:10])}.",
            "Choose a dataset with those classes; their names must be the same.",
        )
    report = _tested(model, known, kind, settings, storage, progress)
    folder = f"{PREDICTIONS}/{new_id()}"
    keys = {}
    for name, picture in report.pictures.items():
        keys[name] = f"{folder}/{name}.png"
        storage.write(keys[name], picture)
    numbers = {
        "model": model.card["name"],
        "dataset": dataset.name,
        "annotation_set": chosen.name,
        "images": len(known),
        "left_out_images": len(records) - len(known),
        "unknown_classes": unknown,
        **report.numbers,
    }
    storage.write(f"{folder}/report.json", json.dumps(numbers, indent=2, ensure_ascii=False).encode())
    return numbers | {"report_key": f"{folder}/report.json", "pictures": keys}


def choose_annotations(dataset: Dataset, annotation_set_id: str, model: LoadedModel) -> AnnotationSet:
    """The annotation set of that id, or the first one that fits where the id is empty.

    Raises:
        InvalidInputError: when it does not fit the model, or none does.
    """
    fitting = annotation_sets_for(dataset, model.task_type)
    if model.gives_instances:
        fitting = [one for one in fitting if one.kind == AnnotationKind.INSTANCES]
    found = next((one for one in fitting if annotation_set_id in ("", one.id, one.name)), None)
    if found is None:
        names = ", ".join(f"“{one.name}”" for one in fitting)
        raise InvalidInputError(
            f"“{dataset.name}” has no such annotations for {model.task_type.title.lower()}"
            f"{' with a mask for each object' if model.gives_instances else ''}.",
            f"It has {names}." if names else "Choose a dataset with the truth for this kind of model.",
        )
    return found


def in_the_model_s_classes(
    records: Sequence[Record], kind: AnnotationKind, classes: Sequence[str], wanted: Sequence[str]
) -> tuple[list[Record], list[str]]:
    """Records with class numbers of the model instead of the dataset's, and the names it does not know that some image shows.

    Images whose only label is unknown are left out; an image without objects, or without labels of several, stays.
    """
    number_of = {name: number for number, name in enumerate(wanted)}
    to = [number_of.get(name) for name in classes]
    kept: list[Record] = []
    unknown: set[int] = set()

    def known(number: int) -> bool:
        if to[number] is None:
            unknown.add(number)
        return to[number] is not None

    for record in records:
        value = record.value
        if kind is AnnotationKind.SINGLE_LABEL:
            if not known(int(value["label"])):
                continue
            value = {"label": to[int(value["label"])]}
        elif kind is AnnotationKind.MULTI_LABEL:
            value = {"labels": [to[int(label)] for label in value["labels"] if known(int(label))]}
        else:
            name = {AnnotationKind.BOXES: "boxes", AnnotationKind.INSTANCES: "objects", AnnotationKind.REGIONS: "masks"}[kind]
            value = {name: [[to[int(item[0])], *item[1:]] for item in value[name] if known(int(item[0]))]}
        kept.append(replace(record, value=value))
    return kept, [classes[number] for number in sorted(unknown)]


def _tested(
    model: LoadedModel, records: list[Record], kind: AnnotationKind, settings: Settings, storage: Storage, progress: Progress
) -> Report:
    if model.task_type in (TaskType.SINGLE_LABEL, TaskType.MULTI_LABEL):
        return _labels(model, records, storage, progress)
    if model.task_type is TaskType.OBJECT_DETECTION or model.gives_instances:
        return _objects(model, records, storage, progress)
    return _regions(model, records, kind, settings, storage, progress)


@torch.inference_mode()
def _through(model: LoadedModel, records: Sequence[Record], storage: Storage, progress: Progress, take: Callable[..., None]) -> None:
    """Run the network over all images in batches; `take` gets its outputs and the rows."""
    preprocessing = model.card["preprocessing"]
    side, normalisation = int(preprocessing["size"][0]), Normalisation(tuple(preprocessing["mean"]), tuple(preprocessing["std"]))
    for rows in batches_of(np.arange(len(records)), _BATCH):
        progress(int(rows[0]), len(records))
        pixels = np.empty((len(rows), side, side, 3), np.uint8)

        def read(place: int, rows: NDArray[np.int64] = rows, pixels: NDArray[np.uint8] = pixels) -> None:
            pixels[place] = decode(storage.read(records[int(rows[place])].key), side)

        with_all_cores(len(rows), read, lambda: False)
        take(model.network(normalisation.apply(torch.from_numpy(pixels).permute(0, 3, 1, 2))), rows)
    progress(len(records), len(records))


# ---------------------------------------------------------------- labels


def _labels(model: LoadedModel, records: list[Record], storage: Storage, progress: Progress) -> Report:
    several = model.task_type is TaskType.MULTI_LABEL
    plan = TrainingPlan(**model.card["plan"])
    rows = list(range(len(records)))
    objective = classification_objective(records, rows, model.classes, plan, torch.device("cpu"), several=several)
    evaluator = objective.evaluator()
    logits: list[Tensor] = []

    def take(outputs: Tensor, rows: NDArray[np.int64]) -> None:
        evaluator.update(outputs, rows)
        logits.append(outputs.float())

    _through(model, records, storage, progress, take)
    evaluation = evaluator.compute()
    classes, together = model.classes, torch.cat(logits)
    labels = evaluation.details["labels"]
    drawn: dict[str, bytes] = {}
    metrics = dict(evaluation.metrics)
    if several:
        probabilities = together.sigmoid()
        said = probabilities >= torch.tensor(model.card.get("thresholds") or [0.5] * len(classes))
        truth = labels
        counts = batch_numbers.label_counts(said, truth, len(classes))
    else:
        probabilities = together.softmax(1)
        truth = functional.one_hot(labels, len(classes)).bool()
        said = functional.one_hot(together.argmax(1), len(classes)).bool()
        counts = batch_numbers.label_counts(together.argmax(1), labels, len(classes))
        drawn["confusion_matrix"] = pictures.confusion_matrix(evaluation.details["confusion"].numpy(), classes, "images")
    roc, precision_recall = batch_numbers.label_curves(probabilities, truth, classes)
    if roc:
        drawn["roc"] = batch_pictures.roc(roc)
        drawn["precision_recall"] = batch_pictures.precision_recall(precision_recall)
    per_class = batch_numbers.label_numbers(counts, probabilities, truth, classes)
    cases = batch_cases.label_cases(probabilities, said, truth, classes, records, storage)
    numbers: dict[str, Any] = {
        "metrics": metrics,
        "per_class": per_class,
        "curves": {"roc": _told(roc), "precision_recall": _told(precision_recall)},
    }
    if not several:
        numbers["confusion"] = evaluation.details["confusion"].tolist()
    return _report(numbers, drawn, cases, _by_errors(classes, counts))


# ---------------------------------------------------------------- objects


def _objects(model: LoadedModel, records: list[Record], storage: Storage, progress: Progress) -> Report:
    objective = Detection(records, model.classes, torch.device("cpu"), instances=model.gives_instances)
    evaluator = objective.evaluator()
    side = int(model.card["preprocessing"]["size"][0])
    _through(model, records, storage, progress, lambda found, rows: evaluator.update(Outputs(torch.zeros(()), found, side), rows))
    evaluation = evaluator.compute()
    details, classes = evaluation.details, model.classes
    thresholds = torch.tensor(model.card.get("thresholds") or [0.5] * len(classes))
    surely = details["found_scores"] >= thresholds[details["found_labels"].long()]
    missed = _missed(details, objective, surely)
    lost = torch.bincount(
        torch.tensor([int(objective.objects.labels[index]) for _, index in missed], dtype=torch.int64), minlength=len(classes)
    )
    per_class = batch_numbers.object_numbers(details, lost, surely, classes)
    curves = batch_numbers.froc(details, objective.objects, details["rows"].tolist(), classes)
    overlaps = {f"{0.5 + 0.05 * step:.2f}": float(value) for step, value in enumerate(details["overlaps"])} if evaluation.metrics else {}
    drawn: dict[str, bytes] = {}
    if evaluation.metrics:
        drawn["precision_recall"] = _precision_recall(evaluation, instances=model.gives_instances)
    if curves:
        drawn["froc"] = batch_pictures.froc(curves)
    cases = batch_cases.object_cases(details, objective.objects, surely, missed, classes, records, storage)
    numbers = {
        "metrics": dict(evaluation.metrics),
        "ap_by_overlap": overlaps,
        "average_recall": evaluator.recalls,
        "per_class": per_class,
        "froc": {curve.name: curve.area for curve in curves},
        "curves": {"froc": _told(curves), "precision_recall": [details["precision"][0].tolist(), details["precision"][1].tolist()]},
    }
    errors = {name: -float(values["f1"] or 0) for name, values in per_class.items()}
    return _report(numbers, drawn, cases, sorted(classes, key=lambda name: -errors[name]))


def _precision_recall(evaluation: Evaluation, *, instances: bool) -> bytes:
    from worker.reports.detection_pictures import precision_recall

    return precision_recall(evaluation.details["precision"].numpy(), "masks" if instances else "boxes")


def _missed(details: dict[str, Tensor], objective: Detection, surely: Tensor) -> list[tuple[int, int]]:
    """The true objects that no sure find belongs to: place of the image, and number of the object."""
    taken = set(details["found_match"][surely].tolist())
    places = enumerate(details["rows"].tolist())
    inside = ((place, objective.objects.of_row(row)) for place, row in places)
    return [(place, number) for place, within in inside for number in range(within.start, within.stop) if number not in taken]


# ---------------------------------------------------------------- regions


def _regions(
    model: LoadedModel, records: list[Record], kind: AnnotationKind, settings: Settings, storage: Storage, progress: Progress
) -> Report:
    side = int(model.card["preprocessing"]["size"][0])
    device = Device(torch.device("cpu"), "CPU", False)
    objective = RegionMasks(records, kind, model.classes, side, device, settings)
    evaluator = objective.evaluator()
    said: list[NDArray[Any]] = []

    def take(logits: Tensor, rows: NDArray[np.int64]) -> None:
        evaluator.update(logits, rows)
        said.extend(surest_class(one.float()).numpy() for one in logits)

    _through(model, records, storage, progress, take)
    evaluation = evaluator.compute()
    counts, classes = evaluation.details["counts"], model.classes

    def marks(place: int, number: int) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        (width, height), regions = objective.truth(place)
        marked = torch.from_numpy((said[place] == number + FIRST_CLASS).astype(np.float32))
        scaled = functional.interpolate(marked[None, None], (height, width), mode="bilinear", align_corners=False)[0, 0].numpy() >= 0.5
        wanted = np.zeros((height, width), bool)
        for index, rle in regions:
            if index == number:
                wanted |= masks.decode(rle, width, height).astype(bool)
        return scaled, wanted

    cases = batch_cases.region_cases(torch.stack(evaluator.counts), marks, classes, records, storage)
    per_class = batch_numbers.region_numbers(counts, classes)
    known = [(name, values["dice"]) for name, values in per_class.items() if values["dice"] is not None]
    drawn = {}
    if known:
        drawn["classes"] = pictures.class_bars(
            [float(value or 0) for _, value in known], [name for name, _ in known], "Dice per class", "Dice on the tested images"
        )
    return _report({"metrics": dict(evaluation.metrics), "per_class": per_class}, drawn, cases, _by_errors(classes, counts))


# ---------------------------------------------------------------- the report


def _by_errors(classes: Sequence[str], counts: Tensor) -> list[str]:
    """The classes with the lowest F1 first; those of which nothing is known last."""
    values = 2 * counts[:, 0].double() / (2 * counts[:, 0] + counts[:, 1] + counts[:, 2])
    return [classes[index] for index in values.nan_to_num(2.0).argsort().tolist()]


def _report(numbers: dict[str, Any], drawn: dict[str, bytes], cases: Sequence[Case], order: Sequence[str]) -> Report:
    drawn["case_studies"] = batch_pictures.case_studies(cases, order)
    told: dict[str, dict[str, list[dict[str, Any]]]] = {}
    for case in cases:
        entry = {"file": case.file} | ({} if case.confidence is None else {"confidence": case.confidence})
        told.setdefault(case.label, {}).setdefault(case.kind, []).append(entry)
    return Report(numbers | {"cases": told}, drawn)


def _told(curves: Sequence[batch_numbers.Curve]) -> dict[str, dict[str, Any]]:
    told = {}
    for curve in curves:
        places = np.unique(np.linspace(0, len(curve.x) - 1, min(len(curve.x), _POINTS_TOLD)).round().astype(int))
        told[curve.name] = {"area": curve.area, "x": curve.x[places].round(6).tolist(), "y": curve.y[places].round(6).tolist()}
    return told
