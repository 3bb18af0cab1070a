"""What people do to tasks: stop, rename, delete."""

from sqlalchemy import delete
from sqlalchemy.orm import Session

from core.access import Actor, require_owner
from core.db.session import Database
from core.db.tables import Task
from core.errors import ConflictError, InvalidInputError, NotFoundError
from core.events import Stopping
from core.names import clean_name
from core.storage import Storage
from core.tasks.endings import end_unheld
from core.tasks.journal import ACTIVE, add_event, jobs_of, lock_task, move, unqueue_jobs
from core.tasks.states import State

STOP_MODES = ("keep", "discard")


def stop_task(session: Session, actor: Actor, task: Task, mode: str) -> Task:
    """Stop all jobs of a task. `keep` makes the best model so far the result, `discard` none.

    Waiting jobs are stopped at once; running ones are asked to, and the task is `stopping` until their workers have let go.
    A second call may still turn keep into discard.

    Raises:
        NotAllowedError: for anybody but the creator and admins.
        ConflictError: when the task has ended.
        InvalidInputError: for another mode.
    """
    task = _locked(session, actor, task)
    if mode not in STOP_MODES:
        raise InvalidInputError(
            f"A task cannot be stopped with “{mode[:40]}”.", "Choose keep (the best model so far is the result) or discard."
        )
    if State(task.state).ended:
        raise ConflictError(f"“{task.name}” has ended already ({task.state}).", "There is nothing to stop.")
    if task.stop_mode in (mode, "discard"):
        return task
    task.stop_mode = mode
    add_event(session, task.id, Stopping(actor.name, mode))
    jobs = jobs_of(session, task)
    for job in jobs:
        if job.state == State.RUNNING:
            move(job, State.STOPPING)
    # The best of the waiting ones comes last: should a model have to be made and no worker be at it, that job is left to do it.
    waiting = sorted((job for job in jobs if job.state == State.WAITING), key=lambda job: float("-inf") if job.score is None else job.score)
    for job in waiting:
        if not (job.ending and mode == "keep"):
            end_unheld(session, task, job, State.STOPPED)
    unqueue_jobs(session, [job.id for job in waiting if job.state != State.WAITING])
    if not State(task.state).ended:
        move(task, State.STOPPING)
    session.flush()
    return task


def rename_task(session: Session, actor: Actor, task: Task, name: str) -> Task:
    """Give a task another name. Raises NotAllowedError, and InvalidInputError for an empty or too long name."""
    task = _locked(session, actor, task)
    task.name = clean_name(name, "task")
    session.flush()
    return task


def delete_task(session: Session, actor: Actor, task: Task) -> str:
    """Delete a task's rows; its model stays. Returns the storage folder that the caller deletes once this has committed.

    Raises:
        NotAllowedError: for anybody but the creator and admins.
        ConflictError: while a worker holds one of its jobs.
    """
    task = _locked(session, actor, task)
    jobs = jobs_of(session, task)
    if any(job.state in ACTIVE for job in jobs) or State(task.state) == State.STOPPING:
        raise ConflictError(f"“{task.name}” is {task.state}; it cannot be deleted now.", "Stop it first, and wait until it has stopped.")
    unqueue_jobs(session, [job.id for job in jobs])
    for job in jobs:
        session.expunge(job)
    session.expunge(task)
    # Jobs, epochs, events and deliveries go with it, by the database's own rules.
    session.execute(delete(Task).where(Task.id == task.id), execution_options={"synchronize_session": False})
    return f"tasks/{task.id}"


def remove_task(database: Database, storage: Storage, actor: Actor, task_id: str) -> None:
    """Delete a task, and then its checkpoints. Raises as `delete_task`."""
    with database.write() as session:
        task = session.get(Task, task_id)
        if task is None or task.workspace != actor.workspace:
            raise NotFoundError(f"There is no task {task_id[:40]}.", "It may have been deleted already.")
        folder = delete_task(session, actor, task)
    storage.delete(folder)


def _locked(session: Session, actor: Actor, task: Task) -> Task:
    locked = lock_task(session, task.id)
    if locked is None or locked.workspace != actor.workspace:
        raise NotFoundError(f"There is no task {task.id}.", "It may have been deleted already.")
    require_owner(actor, locked.created_by, "this task")
    return locked
