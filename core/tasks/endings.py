"""How jobs and tasks end. The last job to end makes the task's model, of the best job, before it ends itself."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from core.clock import now
from core.db.tables import Event, Job, Model, Task
from core.errors import ConflictError
from core.events import Failed, Finished, Noticed, Stopped, TaskEvent
from core.tasks.journal import add_event, held_job, jobs_of, move, queue_job
from core.tasks.states import State

_JUST = timedelta(minutes=10)


@dataclass(frozen=True)
class Completion:
    """What the last job of a task has yet to do: make the model of the task's best job, then call `complete_task`.

    `number`, `score` and `metrics` are the best job's, which need not be the one that does this.
    """

    task_id: str
    job_id: str
    number: int
    score: float
    metrics: dict[str, Any]


@dataclass(frozen=True)
class NewModel:
    """A model that lies complete in the storage folder `key`. `report` names the keys of its pictures."""

    key: str
    classes: Sequence[str]
    bytes: int = 0
    report: dict[str, str] = field(default_factory=dict)


def finish_job(
    session: Session,
    job_id: str,
    generation: int,
    *,
    score: float | None,
    metrics: dict[str, Any],
    device_seconds: float | None = None,
) -> Completion | None:
    """The job has trained to its end, and its best epoch, where it is not recorded yet, had that score and these metrics.

    Returns what is left to do where it is the last of its task and there is a model to be made.

    Raises:
        FencedError: when the job has been taken over.
    """
    task, job = held_job(session, job_id, generation)
    if score is not None:
        job.score, job.metrics = score, metrics
    return _end_held(session, task, job, State.FINISHED, device_seconds)


def stop_job(session: Session, job_id: str, generation: int, *, device_seconds: float | None = None) -> Completion | None:
    """The job has stopped as it was asked to. Returns and raises as `finish_job`."""
    task, job = held_job(session, job_id, generation)
    return _end_held(session, task, job, State.STOPPED, device_seconds)


def fail_job(
    session: Session, job_id: str, generation: int, what: str, remedy: str, *, device_seconds: float | None = None
) -> Completion | None:
    """The job cannot go on: it ends with its best epoch, where it has one, else in error. Returns and raises as `finish_job`.

    What is recorded of an epoch lies in the storage, also where that does not answer just now.
    """
    task, job = held_job(session, job_id, generation)
    return _end_held(session, task, job, cut_short(session, task, job, what, remedy), device_seconds)


def cut_short(session: Session, task: Task, job: Job, what: str, remedy: str) -> State:
    """Enter why a job cannot go on; returns how it is to end. One that was to stop anyway has stopped, for no reason. Lock the task first."""
    if task.stop_mode:
        return State.STOPPED
    job.error, job.error_remedy = what, remedy
    if job.score is None:
        return State.ERROR
    alone = session.scalar(select(func.count()).select_from(Job).where(Job.task_id == task.id)) == 1  # of one of several `_end` tells
    if alone:
        add_event(session, task.id, Noticed(f"{what} It ended early: the best epoch is kept.", remedy))
    return State.FINISHED


def resume_ending(session: Session, job_id: str, generation: int) -> Completion | None:
    """Go on where another worker was lost after its job had ended but before the task's model was made.

    Returns and raises as `finish_job`.
    """
    task, job = held_job(session, job_id, generation)
    return _end(session, task, job, State(job.ending))


def complete_task(
    session: Session, job_id: str, generation: int, model: NewModel | None, *, device_seconds: float | None = None
) -> str | None:
    """End the task with its model, once: row, states and event stand or fall together. Returns the model's id.

    None where no model is kept: somebody asked to discard while it was being made, or `model` is None. The caller then deletes the folder.

    Raises:
        FencedError: when the job has been taken over.
    """
    task, job = held_job(session, job_id, generation)
    jobs = jobs_of(session, task)
    if job.ending == "" or any(other.id != job.id and not State(other.state).ended for other in jobs):
        raise ConflictError(f"Task {task.id} is not ready to be completed.", "End its last job first.")
    best = best_job(jobs)
    if task.stop_mode == "discard" or best is None or model is None:
        model = None
    row = None
    if model is not None and best is not None:
        row = Model(
            workspace=task.workspace,
            name=task.model_name,
            task_id=task.id,
            parent_id=task.source_model_id or None,
            task_type=task.task_type,
            network=task.network,
            pretraining=task.pretraining,
            classes=list(model.classes),
            metrics=best.metrics,
            key=model.key,
            bytes=model.bytes,
            created_by=task.created_by,
        )
        session.add(row)
        session.flush()
    if device_seconds is not None:
        job.device_seconds = device_seconds
    _end_job(job, State(job.ending))
    _end_task(session, task, jobs, row, model.report if model else {})
    return row.id if row else None


def remark(session: Session, job_id: str, generation: int, message: str, remedy: str) -> None:
    """Tell what concerns the task, not one of its jobs: of a search, too, its thread is told. Raises FencedError.

    What another job of the task, or its holder before, has just told in the same words is not told again.
    """
    task, _ = held_job(session, job_id, generation)
    lately = select(Event.payload).where(Event.task_id == task.id, Event.kind == Noticed.kind, Event.created_at > now() - _JUST)
    if all(payload.get("message") != message for payload in session.scalars(lately)):
        add_event(session, task.id, Noticed(message, remedy))


def fail_completion(session: Session, job_id: str, generation: int, what: str, remedy: str, *, device_seconds: float | None = None) -> None:
    """The training went well but its model cannot be made: the task ends in error, or without one where none is wanted. Raises FencedError."""
    task, job = held_job(session, job_id, generation)
    if task.stop_mode == "discard":
        complete_task(session, job_id, generation, None, device_seconds=device_seconds)
        return
    if device_seconds is not None:
        job.device_seconds = device_seconds
    abandon(session, task, job, what, remedy)


def abandon(session: Session, task: Task, job: Job, what: str, remedy: str) -> None:
    """End a job, and the task of which it is the last, in error: no model can be had. Lock the task first."""
    job.error, job.error_remedy = what, remedy
    _end_job(job, State.ERROR)
    move(task, State.ERROR)
    task.finished_at = now()
    task.error, task.error_remedy = what, remedy
    add_event(session, task.id, Failed(what, remedy))


def end_unheld(session: Session, task: Task, job: Job, ending: State) -> None:
    """End a job that no worker holds. Where a model is still to be made, it goes back to the queue for only that. Lock the task first."""
    if _end(session, task, job, ending) is not None and job.state != State.WAITING:
        requeue(session, task, job)


def requeue(session: Session, task: Task, job: Job, *, keeps_running: bool = False) -> None:
    """Take the job from whoever held it and queue it again under its next generation. Lock the task first.

    The task waits then, unless another of its jobs runs, or `keeps_running`.
    """
    move(job, State.WAITING)
    job.generation += 1
    job.worker = ""
    job.heartbeat_at = None
    queue_job(session, task, job)
    if keeps_running or State(task.state) != State.RUNNING:
        return
    if not any(other.state in (State.RUNNING, State.STOPPING) for other in jobs_now(session, task)):
        move(task, State.WAITING)


def jobs_now(session: Session, task: Task) -> list[Job]:
    """The task's jobs with what this transaction has changed of them."""
    session.flush()
    return jobs_of(session, task)


def settle(session: Session, task: Task) -> bool:
    """End a task whose jobs have all ended, should it ever be found so; whether it was. Lock the task first."""
    jobs = jobs_of(session, task)
    if State(task.state).ended or any(not State(job.state).ended for job in jobs):
        return False
    _end_task(session, task, jobs, None, {})
    return True


def best_job(jobs: Sequence[Job]) -> Job | None:
    """The job whose model is the task's: the best score among those that finished, or stopped and may be kept. None where there is none."""
    able = [job for job in jobs if job.score is not None and (job.ending or job.state) in (State.FINISHED, State.STOPPED)]
    return max(able, key=lambda job: (job.score, -job.number), default=None)


def _end_held(session: Session, task: Task, job: Job, ending: State, device_seconds: float | None) -> Completion | None:
    if device_seconds is not None:
        job.device_seconds = device_seconds
    return _end(session, task, job, ending)


def _end(session: Session, task: Task, job: Job, ending: State) -> Completion | None:
    session.flush()
    jobs = jobs_of(session, task)
    others = [other for other in jobs if other.id != job.id]
    last = all(State(other.state).ended for other in others)
    # Of a large search half may fail for one reason: the first is told, those that leave nothing are counted.
    first = bool(others and job.error and not job.ending) and not any(other.error and State(other.state).ended for other in others)
    told = f"Training job {job.number} of {len(jobs)} {'failed' if ending == State.ERROR else 'ended early'}: {job.error}"
    if last:
        job.ending = ending
        best = best_job(jobs)
        if best is not None and best.score is not None and task.stop_mode != "discard":
            if first:
                add_event(session, task.id, Noticed(told, job.error_remedy))
            return Completion(task.id, best.id, best.number, best.score, dict(best.metrics))
        _end_job(job, ending)
        _end_task(session, task, jobs, None, {})
        return None
    _end_job(job, ending)
    if first:
        add_event(session, task.id, Noticed(f"{told} The others go on; should more fail, they are counted.", job.error_remedy))
    return None


def _end_job(job: Job, state: State) -> None:
    move(job, state)
    job.ending = ""
    job.finished_at = now()


def _end_task(session: Session, task: Task, jobs: Sequence[Job], model: Model | None, report: dict[str, str]) -> None:
    states = {State(job.state) for job in jobs}
    discarded = task.stop_mode == "discard"
    best = best_job(jobs) if not discarded else None
    task.finished_at = now()
    task.metrics = dict(best.metrics) if best is not None else {}
    task.model_id = model.id if model is not None else None
    event: TaskEvent
    if State.STOPPED in states or discarded:
        move(task, State.STOPPED)
        event = Stopped(task.model_id, task.metrics, report)
    elif State.FINISHED in states and model is not None:
        move(task, State.FINISHED)
        event = Finished(task.metrics, model.id, report)
    else:
        failed = next((job for job in jobs if job.error), None)
        task.error = failed.error if failed else "The training ended without a result."
        task.error_remedy = failed.error_remedy if failed else "Start it again; the worker's log has the details."
        move(task, State.ERROR)
        event = Failed(task.error, task.error_remedy)
    add_event(session, task.id, event)
