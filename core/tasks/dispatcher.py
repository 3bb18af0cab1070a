"""Moves what waits in the outbox to the queue: one job ahead for each worker, in fair order, so that nobody is shut out.

What was interrupted keeps its place: it goes on before the younger tasks of the same person, also before one that is ahead in the queue.
A worker asks for more the moment it takes a job, so that one ahead keeps it busy; each more would be hours that a newcomer waits for.

A crash at any point does no harm: before a row is enqueued it is still in the outbox; after that, enqueueing it again under the
same id changes nothing, and its row is deleted then.
"""

import logging
from collections.abc import Sequence
from itertools import islice
from typing import Any, cast

from redis import Redis
from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from core.db.session import Database
from core.db.tables import Job, LightJob, Outbox
from core.errors import UnavailableError
from core.queue import QUEUES, QueueName, connect, enqueue, queue_length, reachable, worker_count
from core.settings import Settings
from core.tasks.backlog import interrupted, load_backlog
from core.tasks.fairness import Group, fair_order
from core.tasks.states import State

logger = logging.getLogger(__name__)

# Who had the last turns is kept in Redis, as a hint: where it is forgotten, nobody loses more than a place.
MAX_TURNS = 5000


def dispatch(database: Database, redis: "Redis", settings: Settings, queue: QueueName = "gpu") -> int:
    """Fill the queue up to one job for each worker; returns how many were enqueued. Any number of processes may call this at once.

    Raises:
        UnavailableError: when the database or the queue is away.
    """
    total = _resume(database, redis, settings) if queue == "gpu" else 0
    while True:
        with database.read() as session:
            if session.scalar(select(Outbox.id).where(Outbox.queue == queue).limit(1)) is None:
                return total
        with reachable():
            room = max(1, worker_count(redis, settings, queue)) - queue_length(redis, settings, queue)
            if room <= 0:
                return total
            turns = _turns(redis, settings, queue)
            with database.read() as session:
                backlog = load_backlog(session, queue)
                picked = list(islice(fair_order(backlog.waiting, backlog.people, backlog.tasks, turns), room))
                rows = _rows(session, queue, picked)
                current = _still_waiting(session, queue, rows)
            wanted = [row for row in rows if (row.job_id, row.generation) in current]
            total += sum(enqueue(redis, settings, queue, row.job_id, row.generation) for row in wanted)
            _note_turns(redis, settings, queue, turns, picked)
        with database.write() as session:
            done = delete(Outbox).where(Outbox.id.in_([row.id for row in rows]))
            session.execute(done, execution_options={"synchronize_session": False})
        if len(wanted) == len(rows):  # all the room there was is filled, or nothing waits any more
            return total


def _resume(database: Database, redis: "Redis", settings: Settings) -> int:
    """Put interrupted tasks before what is queued, where all of that is the same person's; returns how many.

    Everything is then done in the order in which it would have been without the interruption. Where somebody else's job is queued, their turn
    is their due, and the interrupted task waits for its person's next one. As many are put there as there are workers, counting those that were
    put there before: for more a newcomer would have to wait.
    """
    with database.read() as session:
        if not interrupted(session):
            return 0
        backlog = load_backlog(session, "gpu")
        returning = [group for group in backlog.waiting if group.interrupted and set(backlog.queued) == {group.person}]
        oldest = sorted(returning, key=lambda group: group.first)
    if not oldest:
        return 0
    with reachable():
        workers = max(1, worker_count(redis, settings, "gpu"))
        room = 2 * workers - queue_length(redis, settings, "gpu")  # what is one ahead for each of them, and what comes before it
        with database.read() as session:
            rows = _rows(session, "gpu", oldest[: max(0, room)])
            current = _still_waiting(session, "gpu", rows)
        wanted = [row for row in rows if (row.job_id, row.generation) in current]
        # The oldest is put there last, and so is the first.
        total = sum(enqueue(redis, settings, "gpu", row.job_id, row.generation, at_front=True) for row in reversed(wanted))
    if rows:
        with database.write() as session:
            done = delete(Outbox).where(Outbox.id.in_([row.id for row in rows]))
            session.execute(done, execution_options={"synchronize_session": False})
    return total


def nudge(database: Database, settings: Settings) -> bool:
    """Dispatch now rather than within a second. False where the queue cannot be reached: whatever waits will be dispatched once it can."""
    try:
        redis = connect(settings)
        try:
            for queue in QUEUES:
                dispatch(database, redis, settings, queue)
        finally:
            redis.close()
    except UnavailableError as error:
        logger.info("not dispatched yet: %s", error.what)
        return False
    return True


def _rows(session: Session, queue: QueueName, picked: Sequence[Group]) -> list[Outbox]:
    """The oldest rows of each group, in the order in which the groups were picked, one for each time."""
    oldest = {
        group.task_id: iter(
            session.scalars(
                select(Outbox)
                .where(Outbox.queue == queue, Outbox.task_id == group.task_id, Outbox.person == group.person)
                .order_by(Outbox.id)
                .limit(picked.count(group))
            ).all()
        )
        for group in dict.fromkeys(picked)
    }
    return [row for group in picked if (row := next(oldest[group.task_id], None)) is not None]


def _still_waiting(session: Session, queue: QueueName, rows: Sequence[Outbox]) -> set[tuple[str, int]]:
    """Jobs that are to be enqueued; the others have been stopped or deleted since."""
    model = LightJob if queue == "light" else Job
    found = session.execute(
        select(model.id, model.generation).where(model.id.in_([row.job_id for row in rows]), model.state == State.WAITING)
    )
    return {(job_id, generation) for job_id, generation in found}


def _turns(redis: "Redis", settings: Settings, queue: QueueName) -> dict[str, int]:
    stored = cast("dict[bytes, bytes]", redis.hgetall(_turns_key(settings, queue)))
    return {name.decode(): int(turn) for name, turn in stored.items()}


def _note_turns(redis: "Redis", settings: Settings, queue: QueueName, turns: dict[str, int], picked: Sequence[Group]) -> None:
    latest = {name: turn for turn, group in enumerate(picked, max(turns.values(), default=0) + 1) for name in (group.person, group.task_id)}
    key = _turns_key(settings, queue)
    with redis.pipeline() as pipeline:
        if len(turns) > MAX_TURNS:
            pipeline.delete(key)
        if latest:
            pipeline.hset(key, mapping=cast("Any", latest))
        pipeline.execute()


def _turns_key(settings: Settings, queue: QueueName) -> str:
    return f"{settings.queue_prefix}:turns:{queue}"
