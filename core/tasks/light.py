"""Light jobs: work on a CPU that must not wait behind trainings. Submitted here, done by `worker.light`, waited for here."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

from sqlalchemy import CursorResult, select, update
from sqlalchemy.orm import Session

from core.access import Place
from core.clock import now
from core.db.session import Database
from core.db.tables import LightJob, Outbox
from core.errors import StationmasterError, UnavailableError
from core.identifiers import new_id
from core.settings import Settings
from core.tasks.journal import FencedError, fair_name
from core.tasks.states import State


@dataclass(frozen=True)
class LightClaim:
    """A light job that is now this worker's."""

    job_id: str
    workspace: str
    kind: str
    payload: dict[str, Any]
    created_by: str
    place: dict[str, Any]  # where a person was asked for it; empty where none waits for its end


def submit_light_job(
    session: Session, *, workspace: str, person: str, kind: str, payload: dict[str, Any], place: Place | None = None
) -> LightJob:
    """Queue a light job with the caller's transaction; `kind` is a key of `worker.light.LIGHT`.

    Afterwards call `core.tasks.dispatcher.nudge`.
    """
    job = LightJob(
        id=new_id(),
        workspace=workspace,
        kind=kind,
        payload=payload,
        created_by=person,
        place=place.to_json() if place else {},
        untold_face=place.face if place else "",
        state=State.WAITING,
        generation=1,
    )
    session.add(job)
    session.flush()
    _queue(session, job)
    return job


def wait_light_job(
    database: Database,
    job_id: str,
    *,
    seconds: float,
    start_within: float = 30,
    progress: Callable[[dict[str, Any]], None] = lambda told: None,
) -> dict[str, Any]:
    """Wait for a light job's end and return its result.

    Args:
        database: Where the job is.
        job_id: Which.
        seconds: How long it may take in all.
        start_within: How long until a worker has taken it.
        progress: Is given what the worker says of how far it is, again and again while it runs.

    Raises:
        StationmasterError: what the job failed with, in its own words.
        UnavailableError: when nobody takes it, or it takes too long; it is not withdrawn.
    """
    began = time.monotonic()
    pause = 0.02
    while True:
        with database.read() as session:
            job = session.get(LightJob, job_id)
        if job is None:
            raise UnavailableError("The job has been deleted.", "Ask for it again.")
        if job.state == State.FINISHED:
            return job.result
        if job.state == State.ERROR:
            raise StationmasterError(job.error, job.error_remedy)
        if job.state == State.RUNNING and job.result:
            progress(job.result)
        waited = time.monotonic() - began
        if job.state == State.WAITING and job.attempts == 0 and waited > start_within:
            raise UnavailableError(
                "No light worker has taken the job.", "Start one: `stationmaster up`, or `stationmaster worker --kind light`."
            )
        if waited > seconds:
            raise UnavailableError(
                f"The job has not ended within {seconds:.0f} s.", "It goes on; look again later, or see the worker's log."
            )
        time.sleep(pause)
        pause = min(pause * 1.5, 0.5)


def claim_light_job(session: Session, job_id: str, generation: int, *, worker: str) -> LightClaim | None:
    """Take a waiting light job; None where it is not to be had under that generation."""
    taken = (
        update(LightJob)
        .where(LightJob.id == job_id, LightJob.generation == generation, LightJob.state == State.WAITING)
        .values(state=State.RUNNING, worker=worker, attempts=LightJob.attempts + 1, heartbeat_at=now())
    )
    if not _changed(session, taken):
        return None
    job = session.scalars(select(LightJob).where(LightJob.id == job_id)).one()
    return LightClaim(job.id, job.workspace, job.kind, job.payload, job.created_by, job.place)


def heartbeat_light_job(session: Session, job_id: str, generation: int, progress: dict[str, Any] | None = None) -> None:
    """Say that the worker lives, and how far it is (`result` until the end). Raises FencedError."""
    values: dict[str, Any] = {"heartbeat_at": now()} | ({} if progress is None else {"result": progress})
    _change_held(session, job_id, generation, values)


def finish_light_job(session: Session, job_id: str, generation: int, result: dict[str, Any]) -> None:
    """End a light job with its result. Raises FencedError."""
    _change_held(session, job_id, generation, {"state": State.FINISHED, "result": result, "finished_at": now()})


def fail_light_job(session: Session, job_id: str, generation: int, what: str, remedy: str) -> None:
    """End a light job in error. Raises FencedError."""
    _change_held(session, job_id, generation, {"state": State.ERROR, "error": what, "error_remedy": remedy, "finished_at": now()})


def lose_light_job(session: Session, settings: Settings, job_id: str, generation: int, reason: str) -> bool:
    """The worker of a running light job is gone: another tries, up to `settings.max_attempts` times.

    False where the job is not that worker's any more.
    """
    job = session.scalars(
        select(LightJob).where(LightJob.id == job_id).with_for_update().execution_options(populate_existing=True)
    ).one_or_none()
    if job is None or job.generation != generation or job.state != State.RUNNING:
        return False
    if job.attempts >= settings.max_attempts:
        job.state = State.ERROR
        job.error = f"The worker was lost {job.attempts} times; the last time: {reason}."
        job.error_remedy = "Most often memory ran out. The workers' logs have the details."
        job.finished_at = now()
        return True
    requeue_light_job(session, job)
    return True


def requeue_light_job(session: Session, job: LightJob) -> None:
    """Queue a light job again under its next generation. Lock it first."""
    job.state = State.WAITING
    job.generation += 1
    job.worker = ""
    job.heartbeat_at = None
    _queue(session, job)


def _queue(session: Session, job: LightJob) -> None:
    session.add(
        Outbox(queue="light", job_id=job.id, generation=job.generation, person=fair_name(job.workspace, job.created_by), task_id=job.id)
    )


def _change_held(session: Session, job_id: str, generation: int, values: dict[str, Any]) -> None:
    held = (
        update(LightJob).where(LightJob.id == job_id, LightJob.generation == generation, LightJob.state == State.RUNNING).values(**values)
    )
    if not _changed(session, held):
        raise FencedError(f"light job {job_id}, generation {generation}")


def _changed(session: Session, statement: Any) -> bool:
    result = session.execute(statement, execution_options={"synchronize_session": False})
    return cast("CursorResult[Any]", result).rowcount == 1
