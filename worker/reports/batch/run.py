"""A batch test from beginning to end: the model, the dataset's truth in its classes, the test by the kind of task, and a folder with its report."""

import json
from typing import Any

from core.datasets.records import Record, load_records
from core.db.session import Database
from core.db.tables import Dataset
from core.errors import InvalidInputError, NotFoundError
from core.identifiers import new_id
from core.settings import Settings
from core.storage import Storage
from core.tasks.sweeping import PREDICTIONS
from core.vocabulary import AnnotationKind, TaskType
from worker.engine.device import choose_device
from worker.reports.batch.labels import labels_report
from worker.reports.batch.objects import objects_report
from worker.reports.batch.outputs import Progress
from worker.reports.batch.regions import regions_report
from worker.reports.batch.report import Report
from worker.reports.batch.truth import choose_annotations, in_the_model_s_classes, require_shared_class
from worker.reports.inference import LoadedModel, load_model


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
        The numbers as in `report.json` (`learnt_from`: whether the model was trained on this dataset), its storage key as `report_key`, and
        `pictures`, storage keys by name. All lie in one folder.

    Raises:
        InvalidInputError: when the annotation set is of another kind, or shares no class with the model.
        NotFoundError, BadDataError: when the model's files, the dataset or an image are gone or damaged.
    """
    model = load_model(model_key, storage=storage, settings=settings, device=choose_device().torch)
    with database.read() as session:
        dataset = session.get(Dataset, dataset_id)
        if dataset is None:
            raise NotFoundError("That dataset has been deleted.", "`stationmaster dataset list` shows those there are.")
        chosen = choose_annotations(dataset, annotation_set_id, model)
        records = load_records(session, dataset.id, chosen.id)
        kind, classes = AnnotationKind(chosen.kind), [str(name) for name in chosen.classes]
    require_shared_class(dataset, classes, model)
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
        "learnt_from": model.card["dataset"]["fingerprint"] == (dataset.fingerprint or dataset.id),
        **report.numbers,
    }
    storage.write(f"{folder}/report.json", json.dumps(numbers, indent=2, ensure_ascii=False).encode())
    return numbers | {"report_key": f"{folder}/report.json", "pictures": keys}


def _tested(
    model: LoadedModel, records: list[Record], kind: AnnotationKind, settings: Settings, storage: Storage, progress: Progress
) -> Report:
    if model.task_type in (TaskType.SINGLE_LABEL, TaskType.MULTI_LABEL):
        return labels_report(model, records, storage, progress)
    if model.task_type is TaskType.OBJECT_DETECTION or model.gives_instances:
        return objects_report(model, records, storage, progress)
    return regions_report(model, records, kind, settings, storage, progress)
