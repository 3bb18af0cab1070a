"""What waits in the outbox and what is already running or queued, by person and task: the ground of fairness and of places in the queue."""

from collections import Counter
from dataclasses import dataclass

from sqlalchemy import ColumnElement, exists, func, select
from sqlalchemy.orm import Session

from core.db.tables import Job, LightJob, Outbox, Task
from core.queue import QueueName
from core.tasks.fairness import Group
from core.tasks.journal import ACTIVE, fair_name
from core.tasks.states import State


@dataclass(frozen=True)
class Backlog:
    """`waiting` is not yet handed to the queue; `people` and `tasks` count what runs or is in the queue, `dispatched` what waits there."""

    waiting: list[Group]
    people: Counter[str]
    tasks: Counter[str]
    dispatched: Counter[str]  # by task


def load_backlog(session: Session, queue: QueueName) -> Backlog:
    """The backlog of one queue as it stands."""
    # A task that comes back to the outbox keeps its age, though its row is new; a light job is no task.
    rows = session.execute(
        select(Outbox.person, Outbox.task_id, func.min(func.coalesce(Task.created_at, Outbox.created_at)), func.count())
        .outerjoin(Task, Task.id == Outbox.task_id)
        .where(Outbox.queue == queue)
        .group_by(Outbox.person, Outbox.task_id)
    )
    people: Counter[str] = Counter()
    tasks: Counter[str] = Counter()
    dispatched: Counter[str] = Counter()
    for workspace, created_by, task_id, state, count in session.execute(_busy(queue)):
        people[fair_name(workspace, created_by)] += count
        tasks[task_id] += count
        if state == State.WAITING:
            dispatched[task_id] += count
    stopped_short = interrupted(session) if queue == "gpu" else set()
    waiting = [
        Group(person, task, first.timestamp(), count, task in stopped_short and not tasks[task]) for person, task, first, count in rows
    ]
    return Backlog(waiting, people, tasks, dispatched)


def interrupted(session: Session) -> set[str]:
    """The tasks that had begun and wait again: their worker was lost or handed them back. One that is stopped has its model to be made.

    Between two slices of a population a task counts as running: it is not among them.
    """
    query = select(Task.id).join(Outbox, Outbox.task_id == Task.id).where(Outbox.queue == "gpu", Task.started_at.is_not(None))
    return set(session.scalars(query.where(Task.state.in_((State.WAITING, State.STOPPING)))))


def has_outbox_row(model: type[Job] | type[LightJob]) -> ColumnElement[bool]:
    """Whether the job's present generation still waits to be put on the queue."""
    return exists().where(Outbox.job_id == model.id, Outbox.generation == model.generation)


def _busy(queue: QueueName):  # type: ignore[no-untyped-def]  # a select whose type nobody would read
    if queue == "light":
        busy = LightJob.state.in_(ACTIVE) | ((LightJob.state == State.WAITING) & ~has_outbox_row(LightJob))
        columns = (LightJob.workspace, LightJob.created_by, LightJob.id, LightJob.state)
        return select(*columns, func.count()).where(busy).group_by(*columns)
    busy = Job.state.in_(ACTIVE) | ((Job.state == State.WAITING) & ~has_outbox_row(Job))
    grouped = (Task.workspace, Task.created_by, Task.id, Job.state)
    return select(*grouped, func.count()).select_from(Job).join(Task, Task.id == Job.task_id).where(busy).group_by(*grouped)
