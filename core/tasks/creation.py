"""Start: one transaction makes the task, its jobs, their rows for the queue, the thread's delivery and the first event."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from core.access import Place
from core.db.tables import Delivery, Job, Task
from core.errors import ConflictError, InvalidInputError
from core.events import Created
from core.identifiers import new_id
from core.names import clean_name
from core.settings import Settings
from core.tasks.hyperparameters import TrainingPlan
from core.tasks.journal import add_event, queue_job
from core.tasks.states import State
from core.vocabulary import Flow, TaskType, Tuning

MAX_JOBS = 48


@dataclass(frozen=True, kw_only=True)
class NewTask:
    """Everything a task is made from; checked by whoever collected it. One job per plan, 1–48, each plan complete."""

    workspace: str
    person: str
    person_name: str = ""
    name: str
    description: str = ""
    model_name: str = ""  # empty: the task's name
    flow: Flow = Flow.GENERAL
    preset: str = ""
    source_model_id: str = ""
    task_type: TaskType
    dataset_id: str
    annotation_set_id: str
    network: str
    pretraining: str
    suggestion: dict[str, Any] = field(default_factory=dict)
    tuning: Tuning = Tuning.AUTO
    settings: dict[str, Any] = field(default_factory=dict)  # what the person entered
    search: dict[str, Any] = field(default_factory=dict)  # core.tuning.search.Search, where several plans are tried
    seed: int = 0
    plans: Sequence[TrainingPlan]
    place: Place | None = None  # where the conversation is; None: nobody is told (scripts)
    draft_id: str | None = None


def create_task(session: Session, settings: Settings, new: NewTask) -> Task:
    """Create a task and queue its jobs, all with the caller's transaction. The second call for one draft returns the first's task.

    Afterwards, once committed, call `core.tasks.dispatcher.nudge` to have the queue take it without delay.

    Raises:
        InvalidInputError: for a missing or too long name, or a number of jobs out of 1–48.
        ConflictError: when the person has as many waiting tasks as one may have.
    """
    if new.draft_id is not None and (first := _of_draft(session, new.draft_id)) is not None:
        return first
    name = clean_name(new.name, "task")
    if not 1 <= len(new.plans) <= MAX_JOBS:
        raise InvalidInputError(
            f"A task has 1 to {MAX_JOBS} training jobs; this one would have {len(new.plans)}.", "Give fewer values to try."
        )
    _check_limit(session, settings, new)
    task = Task(
        id=new_id(),
        workspace=new.workspace,
        name=name,
        description=new.description,
        model_name=clean_name(new.model_name.strip() or name, "model"),
        flow=new.flow,
        preset=new.preset,
        source_model_id=new.source_model_id,
        task_type=new.task_type,
        dataset_id=new.dataset_id,
        annotation_set_id=new.annotation_set_id,
        network=new.network,
        pretraining=new.pretraining,
        suggestion=new.suggestion,
        tuning=new.tuning,
        settings=new.settings,
        search=new.search,
        seed=new.seed,
        state=State.WAITING,
        place=new.place.to_json() if new.place else {},
        draft_id=new.draft_id,
        created_by=new.person,
        created_by_name=new.person_name,
    )
    try:
        with session.begin_nested():
            session.add(task)
    except IntegrityError:
        # Two presses at the same moment, on a database that lets both get this far.
        if new.draft_id is None or (first := _of_draft(session, new.draft_id)) is None:
            raise
        return first
    jobs = [
        Job(id=new_id(), task_id=task.id, number=number, plan=plan.model_dump(mode="json"), state=State.WAITING, generation=1)
        for number, plan in enumerate(new.plans, 1)
    ]
    session.add_all(jobs)
    session.flush()
    for job in jobs:
        queue_job(session, task, job)
    if new.place is not None:
        session.add(Delivery(task_id=task.id, face=new.place.face, place=new.place.to_json()))
    add_event(session, task.id, Created())
    return task


def _of_draft(session: Session, draft_id: str) -> Task | None:
    return session.scalars(select(Task).where(Task.draft_id == draft_id)).one_or_none()


def _check_limit(session: Session, settings: Settings, new: NewTask) -> None:
    mine = select(func.count()).where(Task.workspace == new.workspace, Task.created_by == new.person, Task.state == State.WAITING)
    waiting = session.scalar(mine) or 0
    if waiting >= settings.max_waiting_tasks:
        raise ConflictError(
            f"You have {waiting} tasks waiting already; more are not taken.",
            "Wait until one has started, or stop one. The limit is the operator's: STATIONMASTER_MAX_WAITING_TASKS.",
        )
