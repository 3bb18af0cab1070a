"""Compares database and queue and repairs: the queue may be emptied, workers may vanish, and no task is lost or done twice."""

import logging
import time
from datetime import datetime, timedelta
from typing import Any, cast

from redis import Redis
from sqlalchemy import exists, select
from sqlalchemy.orm import Session

from core.clock import now
from core.db.session import Database
from core.db.tables import Job, LightJob, Task
from core.process_identity import is_provably_dead
from core.queue import QUEUES, QueueName, alive, reachable
from core.settings import Settings
from core.tasks.backlog import has_outbox_row
from core.tasks.endings import requeue, settle
from core.tasks.journal import ACTIVE, lock_task, locked_job
from core.tasks.lifecycle import lose_job
from core.tasks.light import lose_light_job, requeue_light_job
from core.tasks.states import ENDED, State

logger = logging.getLogger(__name__)

# From popping a job to claiming it a worker takes milliseconds; one that takes longer was killed in between.
# RQ would need minutes to see it.
UNCLAIMED_SECONDS = 15


def reconcile(database: Database, redis: "Redis", settings: Settings, *, judge_silence: bool = True) -> int:
    """One round of repair; returns how many jobs and tasks were mended.

    What it re-creates is in the outbox: dispatch afterwards.

    Args:
        database: The truth.
        redis: The queue.
        settings: How long a running job may be silent.
        judge_silence: Whether silent jobs are taken to be lost. Not right after this process, or the database, has been away itself:
            then nobody could have said anything.

    Raises:
        UnavailableError: when the database or the queue is away.
    """
    mended = sum(_lose_dead(database, settings, model, judge_silence) for model in (Job, LightJob))
    mended += sum(_recreate_vanished(database, redis, settings, queue) for queue in QUEUES)
    return mended + _settle(database)


def _lose_dead(database: Database, settings: Settings, model: type[Job] | type[LightJob], judge_silence: bool) -> int:
    with database.read() as session:
        held = session.execute(select(model.id, model.generation, model.worker, model.heartbeat_at).where(model.state.in_(ACTIVE))).all()
    silent_since = now() - timedelta(seconds=settings.lost_after_seconds)
    count = 0
    for job_id, generation, worker, heartbeat_at in held:
        reason = ""
        if is_provably_dead(worker):
            reason = "its process has ended"
        elif judge_silence and _before(heartbeat_at, silent_since):
            reason = f"not a sign of life for {settings.lost_after_seconds:.0f} s"
        if reason and _lose(database, settings, model, job_id, generation, reason):
            logger.warning("job %s, generation %d, is lost: %s", job_id, generation, reason)
            count += 1
    return count


def _before(moment: datetime | None, limit: datetime) -> bool:
    return moment is None or moment < limit


def _lose(database: Database, settings: Settings, model: type[Job] | type[LightJob], job_id: str, generation: int, reason: str) -> bool:
    with database.write() as session:
        return (lose_job if model is Job else lose_light_job)(session, settings, job_id, generation, reason)


def _recreate_vanished(database: Database, redis: "Redis", settings: Settings, queue: QueueName) -> int:
    """Queue again what waits, is not in the outbox and not alive in the queue."""
    model: type[Job] | type[LightJob] = LightJob if queue == "light" else Job
    # First the database, then the queue: what a worker takes in between is no longer waiting when it comes to the change.
    with database.read() as session:
        waiting = {
            (job_id, generation)
            for job_id, generation in session.execute(
                select(model.id, model.generation).where(model.state == State.WAITING, ~has_outbox_row(model))
            )
        }
    if not waiting:
        return 0
    with reachable():
        view = alive(redis, settings, queue)
        stuck = {entry for entry in waiting & view.taken if _unclaimed_for(redis, settings, entry) > UNCLAIMED_SECONDS}
    vanished = waiting - set(view.queued) - (view.taken - stuck)
    count = 0
    for job_id, generation in sorted(vanished):
        with database.write() as session:
            if _requeue_waiting(session, queue, job_id, generation):
                logger.warning("job %s, generation %d, had vanished from the queue: queued again", job_id, generation)
                count += 1
    return count


def _requeue_waiting(session: Session, queue: QueueName, job_id: str, generation: int) -> bool:
    if queue == "light":
        light = session.scalars(select(LightJob).where(LightJob.id == job_id).with_for_update()).one_or_none()
        if light is None or (light.generation, light.state) != (generation, State.WAITING):
            return False
        requeue_light_job(session, light)
        return True
    found = locked_job(session, job_id)
    if found is None or (found[1].generation, found[1].state) != (generation, State.WAITING):
        return False
    requeue(session, *found)
    return True


def _unclaimed_for(redis: "Redis", settings: Settings, entry: tuple[str, int]) -> float:
    """Seconds since a popped but unclaimed job was first seen so."""
    key = f"{settings.queue_prefix}:unclaimed:{entry[0]}-g{entry[1]}"
    moment = time.time()
    if redis.set(key, moment, nx=True, ex=3600):
        return 0.0
    return moment - float(cast("Any", redis.get(key)) or moment)


def _settle(database: Database) -> int:
    """End tasks whose jobs have all ended but which have not: by design there are none."""
    with database.read() as session:
        open_jobs = exists().where(Job.task_id == Task.id, Job.state.not_in(ENDED))
        candidates = session.scalars(select(Task.id).where(Task.state.in_((State.WAITING, *ACTIVE)), ~open_jobs)).all()
    count = 0
    for task_id in candidates:
        with database.write() as session:
            task = lock_task(session, task_id)
            if task is not None and settle(session, task):
                logger.warning("task %s had no job left: ended", task_id)
                count += 1
    return count
