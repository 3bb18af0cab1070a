"""RQ's entry point for light jobs, and what there is of them. Like `worker.jobs` it never raises: the database knows how a job ended."""

import json
import logging
import shutil
import tempfile
import threading
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from core.datasets.combining import choose_parts, combine_datasets
from core.datasets.importing import import_dataset
from core.datasets.listing import find_dataset
from core.datasets.records import load_records
from core.datasets.statistics import dataset_statistics
from core.db.session import Database
from core.db.tables import Dataset, Model
from core.errors import InvalidInputError, NotFoundError, StationmasterError, UnavailableError
from core.models.exporting import ExportFormat
from core.process_identity import own_identity
from core.settings import Settings
from core.storage import Storage
from core.tasks.lifecycle import FencedError
from core.tasks.light import LightClaim, claim_light_job, fail_light_job, finish_light_job, heartbeat_light_job
from core.vocabulary import AnnotationKind, TaskType
from core.zoo.added import AddedWeights
from core.zoo.evidence import Candidate
from worker.failures import explain
from worker.reports.inference import predict, predict_all
from worker.waiting import is_database_away
from worker.workplace import Workplace

logger = logging.getLogger(__name__)

_EXAMPLES = 3  # images of the dataset that an export is compared on


@dataclass
class LightWork:
    """One light job in work: what it is given, and `tell` to say how far it is."""

    settings: Settings
    database: Database
    storage: Storage
    claim: LightClaim
    progress: dict[str, Any] = field(default_factory=dict)

    @property
    def payload(self) -> dict[str, Any]:
        """What was submitted."""
        return self.claim.payload

    def tell(self, **progress: Any) -> None:
        """Say how far it is; stored with the next sign of life."""
        self.progress = progress


def run_light(job_id: str, generation: int) -> None:
    """Do one generation of one light job."""
    try:
        _run(Workplace.open(), job_id, generation)
    except FencedError:
        logger.warning("light job %s, generation %d, has been taken over", job_id, generation)
    except StationmasterError as error:
        logger.error("light job %s cannot be done now: %s", job_id, error)
    except Exception:  # RQ must not see it, see worker.jobs
        logger.exception("light job %s, generation %d, ended unexpectedly", job_id, generation)


def _run(workplace: Workplace, job_id: str, generation: int) -> None:
    database = workplace.database
    with database.write() as session:
        claim = claim_light_job(session, job_id, generation, worker=own_identity())
    if claim is None:
        logger.info("light job %s, generation %d, is not to be had any more", job_id, generation)
        return
    work = LightWork(workplace.settings, database, workplace.storage, claim)
    ended = threading.Event()
    thread = threading.Thread(target=_beat, args=(work, job_id, generation, ended), name="heartbeat", daemon=True)
    thread.start()
    try:
        if claim.kind not in LIGHT:
            raise InvalidInputError(f"This worker knows no job “{claim.kind}”.", "Bring all workers to the same version.")
        result = LIGHT[claim.kind](work)
    except Exception as error:  # whatever it is, the person is told
        if is_database_away(error):
            raise
        what, remedy = explain(error, "job")
        ended.set()
        thread.join()
        with database.write() as session:
            fail_light_job(session, job_id, generation, what, remedy)
        _tidy(work)
        return
    finally:
        ended.set()
    thread.join()
    with database.write() as session:
        finish_light_job(session, job_id, generation, result)
    _tidy(work)


def _tidy(work: LightWork) -> None:
    """Delete what was uploaded for this job, once it has ended."""
    if key := str(work.payload.get("upload_key", "")):
        work.storage.delete(key.rpartition("/")[0])


def _beat(work: LightWork, job_id: str, generation: int, ended: threading.Event) -> None:
    told: dict[str, Any] = {}
    while not ended.wait(min(1.0, work.settings.heartbeat_seconds)):
        progress = work.progress
        try:
            with work.database.write() as session:
                heartbeat_light_job(session, job_id, generation, None if progress is told else progress)
            told = progress
        except FencedError:
            return
        except UnavailableError as error:
            logger.debug("no sign of life: %s", error)


# ---------------------------------------------------------------- what there is


def _predict(work: LightWork) -> dict[str, Any]:
    """`model_id`, the storage key `image_key`, the file's `name`, perhaps a `threshold` → what `worker.reports.inference.predict` says."""
    model = _model(work)
    image = work.storage.read(str(work.payload["image_key"]))
    return predict(
        model.key,
        image,
        name=str(work.payload.get("name", "")),
        threshold=work.payload.get("threshold"),
        storage=work.storage,
        settings=work.settings,
    )


def _predict_all(work: LightWork) -> dict[str, Any]:
    """`model_id`, `images`, name → storage key, whether to `draw`, perhaps a `threshold` → `images`, what `predict_all` says, with progress."""
    answers = predict_all(
        _model(work).key,
        {str(name): str(key) for name, key in dict(work.payload["images"]).items()},
        storage=work.storage,
        settings=work.settings,
        draw=bool(work.payload.get("draw", False)),
        threshold=work.payload.get("threshold"),
        progress=lambda done, total: work.tell(done=done, total=total),
    )
    return {"images": answers}


def _batch_test(work: LightWork) -> dict[str, Any]:
    """`model_id`, `dataset_id` and `annotation_set_id` (may be empty) → what `worker.reports.batch.run.batch_test` says, with progress."""
    from worker.reports.batch.run import batch_test  # draws with matplotlib, which takes a second to import

    model = _model(work)
    dataset_id = str(work.payload["dataset_id"])
    with work.database.read() as session:
        find_dataset(session, work.claim.workspace, dataset_id)
    return batch_test(
        model.key,
        dataset_id,
        str(work.payload.get("annotation_set_id", "")),
        database=work.database,
        storage=work.storage,
        settings=work.settings,
        progress=lambda done, total: work.tell(done=done, total=total),
    )


def _export(work: LightWork) -> dict[str, Any]:
    """`model_id` and `format` → what `worker.reports.export.export_model` says."""
    from worker.reports.export import export_model  # the ONNX exporter and runtime take a second to import, and few jobs need them

    model = _model(work)
    return export_model(
        model.key,
        model.name,
        ExportFormat(work.payload["format"]),
        storage=work.storage,
        settings=work.settings,
        examples=_examples(work, model),
    )


def _examples(work: LightWork, model: Model) -> list[bytes]:
    """Some images of the dataset that a model was trained on; none where the dataset, an image, or the model's card is gone."""
    try:
        trained_on = json.loads(work.storage.read(f"{model.key}/model_card.json"))["dataset"]
    except FileNotFoundError:  # the export says it, and what to do
        return []
    with work.database.read() as session:
        dataset = session.get(Dataset, str(trained_on["id"]))
        if dataset is None or dataset.workspace != work.claim.workspace:
            return []
        records = load_records(session, dataset.id, str(trained_on["annotation_set"]))[:_EXAMPLES]
    try:
        return [work.storage.read(record.key) for record in records]
    except FileNotFoundError:
        return []


def _model(work: LightWork) -> Model:
    """The model `model_id` of the job's workspace."""
    with work.database.read() as session:
        model = session.get(Model, str(work.payload["model_id"]))
    if model is None or model.workspace != work.claim.workspace:
        raise NotFoundError("That model has been deleted.", "`stationmaster model list` shows those there are.")
    return model


def _import(work: LightWork) -> dict[str, Any]:
    """`name`, `source` and `format` → `dataset_id`, with the images read so far as progress.

    Where something was left out and a person in a chat is told of it, the dataset is held until they say whether to keep the rest.
    """
    payload = work.payload
    dataset = import_dataset(
        work.database,
        work.storage,
        work.settings,
        workspace=work.claim.workspace,
        person=work.claim.created_by,
        name=str(payload["name"]),
        source=str(payload["source"]),
        format=str(payload.get("format", "")),
        strict=bool(payload.get("strict", False)),
        hold=bool(work.claim.place),
        origin=work.claim.job_id,
        progress=lambda done, total: work.tell(done=done, total=total),
    )
    return {"dataset_id": dataset.id}


def _combine(work: LightWork) -> dict[str, Any]:
    """`name`, `datasets` (their ids), `kind`, `only` and `rename` → `dataset_id`."""
    payload = work.payload
    with work.database.read() as session:
        datasets = [find_dataset(session, work.claim.workspace, dataset_id) for dataset_id in payload["datasets"]]
    dataset = combine_datasets(
        work.database,
        work.storage,
        work.settings,
        workspace=work.claim.workspace,
        person=work.claim.created_by,
        name=str(payload["name"]),
        parts=choose_parts(datasets, AnnotationKind(payload["kind"])),
        only=payload["only"],
        rename=payload["rename"],
        origin=work.claim.job_id,
        progress=lambda done, total: work.tell(done=done, total=total),
    )
    return {"dataset_id": dataset.id}


def _statistics(work: LightWork) -> dict[str, Any]:
    """`dataset_id` and `annotation_set_id` → the storage keys of their statistics."""
    dataset_id = str(work.payload["dataset_id"])
    with work.database.read() as session:
        find_dataset(session, work.claim.workspace, dataset_id)
    _, keys = dataset_statistics(work.database, work.storage, dataset_id, str(work.payload["annotation_set_id"]))
    return {"json_key": keys.json_key, "png_key": keys.png_key}


def _add_weights(work: LightWork) -> dict[str, Any]:
    """`upload_key` of the file and `weights`, an `AddedWeights` without file and hash → the accepted one, by field."""
    from worker.networks.adding import add_weights  # imports every library of networks

    key = str(work.payload["upload_key"])
    with tempfile.TemporaryDirectory(prefix="stationmaster-weights-") as folder, work.storage.open(key) as source:
        file = Path(folder) / key.rpartition("/")[2]
        with file.open("wb") as target:
            shutil.copyfileobj(source, target)
        return asdict(add_weights(file, AddedWeights.from_json(work.payload["weights"]), work.settings))


def _evidence(work: LightWork) -> dict[str, Any]:
    """What `core.zoo.evidence.payload` says → what `worker.evidence.measuring.measure` found."""
    from worker.evidence.measuring import measure  # scikit-learn takes a second to import

    payload = work.payload
    with work.database.read() as session:
        find_dataset(session, work.claim.workspace, str(payload["dataset_id"]))
    return measure(
        str(payload["dataset_id"]),
        str(payload["annotation_set_id"]),
        TaskType(payload["task_type"]),
        [Candidate(**candidate) for candidate in payload["candidates"]],
        database=work.database,
        storage=work.storage,
        settings=work.settings,
        tell=lambda done, total: work.tell(done=done, total=total),
    )


LIGHT: dict[str, Callable[[LightWork], dict[str, Any]]] = {
    "predict": _predict,
    "predict-all": _predict_all,
    "batch-test": _batch_test,
    "export": _export,
    "import": _import,
    "combine": _combine,
    "statistics": _statistics,
    "add-weights": _add_weights,
    "evidence": _evidence,
}
