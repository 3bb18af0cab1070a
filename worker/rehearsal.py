"""A job's whole way through the database, played once in a transaction that is taken back.

SQLAlchemy compiles each kind of statement when it first meets it, some forty milliseconds in all. Forked after this, no job has to.
"""

import logging

from sqlalchemy.orm import Session

from core.db.session import Database
from core.db.tables import AnnotationSet, Dataset
from core.errors import UnavailableError
from core.events import Progress
from core.settings import Settings
from core.tasks.creation import NewTask, create_task
from core.tasks.hyperparameters import TrainingPlan
from core.tasks.journal import jobs_of
from core.tasks.lifecycle import NewModel, asked, claim_job, complete_task, finish_job, heartbeat, record_epoch
from core.vocabulary import TaskType
from worker.jobs import load_training_job

logger = logging.getLogger(__name__)

_WORKSPACE = "rehearsal"
_NETWORK = "resnet18"  # any that the catalogue holds


class _TakenBackError(Exception):
    """Ends the transaction without a commit."""


def rehearse(settings: Settings, database: Database) -> None:
    """Play it. A database that is away is no hindrance: the first job will say so."""
    try:
        with database.write() as session:
            _play(session, settings)
            raise _TakenBackError
    except _TakenBackError:
        return
    except UnavailableError as error:
        logger.warning("not rehearsed: %s", error.what)


def _play(session: Session, settings: Settings) -> None:
    dataset = Dataset(workspace=_WORKSPACE, name=_WORKSPACE, created_by=_WORKSPACE)
    dataset.annotation_sets = [
        AnnotationSet(position=0, name=_WORKSPACE, kind="single-label", classes=["a"], class_counts=[1], image_count=1)
    ]
    session.add(dataset)
    session.flush()
    new = NewTask(
        workspace=_WORKSPACE,
        person=_WORKSPACE,
        name=_WORKSPACE,
        task_type=TaskType.SINGLE_LABEL,
        dataset_id=dataset.id,
        annotation_set_id=dataset.annotation_sets[0].id,
        network=_NETWORK,
        pretraining="none",
        plans=[TrainingPlan()],
    )
    task = create_task(session, settings, new)
    holder = (jobs_of(session, task)[0].id, 1)
    claim_job(session, *holder, worker=_WORKSPACE, device=_WORKSPACE)
    session.expunge_all()
    load_training_job(session, settings, *holder)
    asked(session, *holder)
    heartbeat(session, *holder, device_seconds=0.0)
    event = Progress(epoch=1, epochs=1, step=1, steps=1, fraction=1, loss=1, learning_rate=1, images_per_second=1, epoch_ended=True)
    record_epoch(session, *holder, 1, {}, score=1, metrics={}, is_best=True, event=event, sequence=1)
    finish_job(session, *holder, score=1, metrics={}, device_seconds=0.0)
    complete_task(session, *holder, NewModel("rehearsal", ["a"]))
