"""The life of a job between waiting and its end, as workers and the reconcile loop change it.

Each function is one step in the caller's transaction.
What ends jobs and tasks is in `endings`, what people do to tasks in `actions`; both can be had from here.
"""

from dataclasses import dataclass
from typing import Any, cast

from sqlalchemy import CursorResult, select, update
from sqlalchemy.orm import Session

from core.clock import now
from core.db.tables import Epoch, Job, Task
from core.events import Noticed, Progress, Started, TaskEvent
from core.settings import Settings
from core.tasks.actions import delete_task, remove_task, rename_task, stop_task
from core.tasks.endings import (
    Completion,
    NewModel,
    abandon,
    complete_task,
    cut_short,
    end_unheld,
    fail_completion,
    fail_job,
    finish_job,
    remark,
    requeue,
    resume_ending,
    stop_job,
)
from core.tasks.journal import ACTIVE, FencedError, add_event, held_job, locked_job, move
from core.tasks.states import State

__all__ = [
    "Claim",
    "Completion",
    "FencedError",
    "NewModel",
    "claim_job",
    "complete_task",
    "delete_task",
    "fail_completion",
    "fail_job",
    "finish_job",
    "hand_back",
    "heartbeat",
    "lose_job",
    "record_epoch",
    "record_event",
    "remark",
    "remove_task",
    "rename_task",
    "resume_ending",
    "stop_job",
    "stop_task",
]


@dataclass(frozen=True)
class Claim:
    """A job that is now this worker's. `ending` is set where only the task's model is left to be made: call `resume_ending`.

    `search` names the tuning that tries several plans in this task, empty where there is one plan.
    """

    task_id: str
    epoch: int  # epochs finished and checkpointed before
    attempt: int  # 1-based
    device_seconds: float  # of the attempts before
    ending: str
    search: str = ""


def claim_job(session: Session, job_id: str, generation: int, *, worker: str, device: str) -> Claim | None:
    """Take a waiting job; None where it is not to be had under that generation: taken, taken over, stopped, deleted."""
    found = locked_job(session, job_id)
    if found is None:
        return None
    task, job = found
    moment = now()
    # The fence: of two workers with the same entry of the queue, or with an old one, at most one gets a row back.
    taken = (
        update(Job)
        .where(Job.id == job_id, Job.generation == generation, Job.state == State.WAITING)
        .values(state=State.RUNNING, worker=worker, device=device, attempts=Job.attempts + 1, heartbeat_at=moment)
    )
    if cast("CursorResult[Any]", session.execute(taken, execution_options={"synchronize_session": False})).rowcount != 1:
        return None
    session.refresh(job)
    job.started_at = job.started_at or moment
    task.started_at = task.started_at or moment
    if State(task.state) == State.WAITING:
        move(task, State.RUNNING)
    if not job.ending:
        add_event(session, task.id, Started(device, job.epoch), job_id=job.id, generation=generation, sequence=0)
    return Claim(task.id, job.epoch, job.attempts, job.device_seconds, job.ending, str(task.search.get("tuning", "")))


def asked(session: Session, job_id: str, generation: int) -> str:
    """What is wanted of a running job: '' to go on, 'keep' or 'discard' to stop. One cheap read.

    Raises:
        FencedError: when the job has been taken over, or has ended.
    """
    row = session.execute(
        select(Job.generation, Job.state, Task.stop_mode).join(Task, Task.id == Job.task_id).where(Job.id == job_id)
    ).one_or_none()
    if row is None or row.generation != generation or row.state not in ACTIVE:
        raise FencedError(f"job {job_id}, generation {generation}")
    return str(row.stop_mode)


def heartbeat(session: Session, job_id: str, generation: int, *, device_seconds: float | None = None) -> str:
    """Say that the job's worker lives, and be told what is wanted of it, as by `asked`. Raises FencedError."""
    values: dict[str, Any] = {"heartbeat_at": now()}
    if device_seconds is not None:
        values["device_seconds"] = device_seconds
    alive = update(Job).where(Job.id == job_id, Job.generation == generation, Job.state.in_(ACTIVE)).values(**values)
    session.execute(alive, execution_options={"synchronize_session": False})
    return asked(session, job_id, generation)


def record_event(session: Session, job_id: str, generation: int, event: TaskEvent, *, sequence: int) -> int:
    """Write what a job's worker has to say; returns the event's number.

    `sequence` counts 1, 2, 3 … within the generation. Raises FencedError.
    """
    task, job = held_job(session, job_id, generation)
    return add_event(session, task.id, event, job_id=job.id, generation=generation, sequence=sequence)


def record_epoch(
    session: Session,
    job_id: str,
    generation: int,
    number: int,
    values: dict[str, Any],
    *,
    score: float,
    metrics: dict[str, Any],
    is_best: bool,
    event: Progress,
    sequence: int,
) -> bool:
    """Store the numbers of a checkpointed epoch; False, and nothing is changed, where that epoch is stored already.

    Raises:
        FencedError: when the job has been taken over.
    """
    task, job = held_job(session, job_id, generation)
    if session.get(Epoch, (job_id, number)) is not None:
        return False
    session.add(Epoch(job_id=job_id, number=number, values=values))
    job.epoch = max(job.epoch, number)
    job.losses_in_a_row = 0
    if is_best:
        job.score, job.metrics = score, metrics
    add_event(session, task.id, event, job_id=job.id, generation=generation, sequence=sequence)
    return True


def hand_back(session: Session, job_id: str, generation: int, *, device_seconds: float | None = None, between_slices: bool = False) -> None:
    """The worker lets go of a checkpointed job, another is to go on: it waits again under its next generation.

    Between two slices of a population's member the task counts as running, though none of its jobs may be just then. Raises FencedError.
    """
    task, job = held_job(session, job_id, generation)
    if device_seconds is not None:
        job.device_seconds = device_seconds
    _release(session, task, job, keeps_running=between_slices)


def lose_job(session: Session, settings: Settings, job_id: str, generation: int, reason: str, *, out_of_memory: bool = False) -> bool:
    """The worker of a running job is gone: another goes on from the last checkpoint. False where the job is not that worker's any more.

    Where it was lost for being `out_of_memory` before it had finished an epoch, the batches of the next attempt go through the network in
    parts half as large. After `settings.max_attempts` losses in a row without a finished epoch the job ends: with its best epoch,
    where it had one before, else in error.
    """
    found = locked_job(session, job_id)
    if found is None or found[1].generation != generation or found[1].state not in ACTIVE:
        return False
    task, job = found
    if _has_nothing_left_to_do(task, job):
        _release(session, task, job)
        return True
    job.losses_in_a_row += 1
    if job.losses_in_a_row < settings.max_attempts:
        smaller = out_of_memory and not job.ending and (job.epoch == 0 or job.losses_in_a_row > 1)
        if smaller:
            job.plan = {**job.plan, "parts": 2 * int(job.plan.get("parts", 1))}
        if not task.stop_mode:
            goes_on = "Its model is made" if job.ending else f"The training goes on from epoch {job.epoch}"
            less = ", half as many images at once" if smaller else ""
            add_event(session, task.id, Noticed(f"The worker was lost ({reason}). {goes_on} on the next free worker{less}."))
        _release(session, task, job)
        return True
    lost = f"The worker was lost {job.losses_in_a_row} times in a row"
    if job.ending:
        what = f"{lost} while it made the model; the last time: {reason}."
        abandon(session, task, job, what, "The workers' logs have the details. Mend what is wrong there, then start the training again.")
        return True
    job.losses_in_a_row = 0  # should it be this job that has to make the model of another, it has all its attempts for that
    remedy = "Most often memory ran out: try a smaller batch size, input size or network. The workers' logs have the details."
    ending = cut_short(session, task, job, f"{lost} without finishing an epoch; the last time: {reason}.", remedy)
    end_unheld(session, task, job, ending)
    return True


def _release(session: Session, task: Task, job: Job, *, keeps_running: bool = False) -> None:
    if _has_nothing_left_to_do(task, job):
        end_unheld(session, task, job, State.STOPPED)
    else:
        requeue(session, task, job, keeps_running=keeps_running)


def _has_nothing_left_to_do(task: Task, job: Job) -> bool:
    """Whether the job was to stop, unless it makes a model that is kept."""
    return task.stop_mode == "discard" or (task.stop_mode == "keep" and not job.ending)
