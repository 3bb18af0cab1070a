"""What every change of a task rests on: its lock, the fence of its jobs' generations, its numbered events, its rows for the queue."""

from collections.abc import Iterable

from sqlalchemy import delete, select, update
from sqlalchemy.orm import Session

from core.db.tables import Event, Job, Outbox, Task
from core.events import TaskEvent
from core.tasks.states import FOLLOWERS, State

ACTIVE = (State.RUNNING, State.STOPPING)  # a worker holds the job


class FencedError(Exception):
    """Another worker has taken this job over, or it has ended: write nothing more and leave."""


def lock_task(session: Session, task_id: str) -> Task | None:
    """The task, locked until the transaction ends, so that whoever changes it or its jobs does so one after the other.

    SQLite needs no lock: its writing transactions exclude each other anyway. None where the task has been deleted.
    """
    return session.scalars(select(Task).where(Task.id == task_id).with_for_update().execution_options(populate_existing=True)).one_or_none()


def jobs_of(session: Session, task: Task) -> list[Job]:
    """The task's jobs in their order, as they stand now. Lock the task first."""
    return list(session.scalars(select(Job).where(Job.task_id == task.id).order_by(Job.number).execution_options(populate_existing=True)))


def locked_job(session: Session, job_id: str) -> tuple[Task, Job] | None:
    """A job and its task, locked; None where they have been deleted."""
    task_id = session.scalar(select(Job.task_id).where(Job.id == job_id))
    task = lock_task(session, task_id) if task_id else None
    job = session.scalars(select(Job).where(Job.id == job_id).execution_options(populate_existing=True)).one_or_none()
    return (task, job) if task is not None and job is not None else None


def held_job(session: Session, job_id: str, generation: int) -> tuple[Task, Job]:
    """A job that its worker still holds, and its task, locked.

    Raises:
        FencedError: when the generation is no longer the current one, or the job has ended.
    """
    found = locked_job(session, job_id)
    if found is None or found[1].generation != generation or found[1].state not in ACTIVE:
        raise FencedError(f"job {job_id}, generation {generation}")
    return found


def move(row: Task | Job, state: State) -> None:
    """Change the state, along the permitted ways only."""
    before = State(row.state)
    if state == before:
        return
    if state not in FOLLOWERS[before]:
        raise ValueError(f"{type(row).__name__} {row.id} cannot go from {before} to {state}")
    row.state = state


def add_event(
    session: Session, task_id: str, event: TaskEvent, *, job_id: str = "", generation: int = 0, sequence: int | None = None
) -> int:
    """Write an event and return its number: 1, 2, 3 … within the task, in the order in which transactions commit.

    Counting up holds the task's row until the end of the transaction, so no reader can see a later number before an earlier one.
    `sequence` counts what one holder of a job says; events of the task itself take their number.
    """
    counted = update(Task).where(Task.id == task_id).values(event_count=Task.event_count + 1).returning(Task.event_count)
    number = session.execute(counted, execution_options={"synchronize_session": False}).scalar_one()
    session.add(
        Event(
            task_id=task_id,
            number=number,
            job_id=job_id,
            generation=generation,
            sequence=number if sequence is None else sequence,
            kind=event.kind,
            payload=event.payload(),
        )
    )
    session.flush()
    return number


def queue_job(session: Session, task: Task, job: Job) -> None:
    """Have the job's generation put on the queue once this transaction has committed."""
    session.add(
        Outbox(queue="gpu", job_id=job.id, generation=job.generation, person=fair_name(task.workspace, task.created_by), task_id=task.id)
    )


def unqueue_jobs(session: Session, job_ids: Iterable[str]) -> None:
    """Forget what the outbox holds for these jobs."""
    forgotten = delete(Outbox).where(Outbox.job_id.in_(list(job_ids)))
    session.execute(forgotten, execution_options={"synchronize_session": False})


def fair_name(workspace: str, person: str) -> str:
    """By which the dispatcher tells people apart."""
    return f"{workspace}/{person}"
