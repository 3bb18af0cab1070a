"""Moves what waits in the outbox to the queue: one job ahead for each worker, in fair order, so that nobody is shut out.

What was interrupted keeps its place: it goes on before the younger tasks of the same person, also instead of one that is ahead in the queue.
A worker asks for more the moment it takes a job, so that one ahead keeps it busy; each more would be hours that a newcomer waits for.

A crash at any point does no harm: before a row is enqueued it is still in the outbox; after that, enqueueing it again under the
same id changes nothing, and its row is deleted then. What has been taken off the queue and is not yet in the outbox again looks like what
vanished from it, and is queued again as such.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, cast

from redis import Redis
from sqlalchemy import delete, select, tuple_
from sqlalchemy.orm import Session

from core.db.session import Database
from core.db.tables import Job, LightJob, Outbox, Task
from core.errors import UnavailableError
from core.queue import QUEUES, QueueName, alive, connect, enqueue, exchange, queue_length, reachable, worker_count
from core.settings import Settings
from core.tasks.backlog import interrupted, load_backlog
from core.tasks.fairness import Group, fair_order
from core.tasks.journal import fair_name, locked_job, queue_job
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
            _delete_rows(session, rows)
        if len(wanted) == len(rows):  # all the room there was is filled, or nothing waits any more
            return total


def _delete_rows(session: Session, rows: Sequence[Outbox]) -> None:
    """By what they stand for: SQLite gives an id that is free again to the next row, which another dispatcher may have written since."""
    entries = [(row.job_id, row.generation) for row in rows]
    done = delete(Outbox).where(tuple_(Outbox.job_id, Outbox.generation).in_(entries))
    session.execute(done, execution_options={"synchronize_session": False})


def _resume(database: Database, redis: "Redis", settings: Settings) -> int:
    """Let interrupted tasks change places with younger ones of the same person that are queued; returns how many did.

    Everything of one person is then done in the order in which it would have been without the interruption. As the queue gets no longer, nobody
    waits for more than before. Where all that is queued is somebody else's, the interrupted task waits for its person's next turn.
    """
    count = 0
    while (change := _next_change(database, redis, settings)) is not None:
        entry = (change.row.job_id, change.row.generation)
        with reachable():
            # False where somebody was killed right after it: the place is still to be changed.
            resumed = enqueue(redis, settings, "gpu", *entry)
            returned = exchange(redis, settings, "gpu", entry, change.before.entry, change.instead_of.entry)
            if returned:
                redis.hdel(_turns_key(settings, "gpu"), change.instead_of.task_id)
        with database.write() as session:
            _delete_rows(session, [change.row])
            if returned:
                _give_back(session, *change.instead_of.entry)
        count += resumed
    return count


@dataclass(frozen=True)
class _Place:
    """A job in the queue. `rank` orders those of one person: the tasks that have begun and were interrupted, then the others, each by age."""

    entry: tuple[str, int]
    person: str
    task_id: str
    rank: tuple[bool, float]


@dataclass(frozen=True)
class _Change:
    """The interrupted job of `row` is to come `before` the first of its person's jobs that it precedes, `instead_of` the last of all."""

    row: Outbox
    before: _Place
    instead_of: _Place


def _next_change(database: Database, redis: "Redis", settings: Settings) -> _Change | None:
    with database.read() as session:
        if not interrupted(session):
            return None
    with reachable():
        queued = alive(redis, settings, "gpu").queued
    with database.read() as session:
        places = _places(session, queued)
        returning = [group for group in load_backlog(session, "gpu").waiting if group.interrupted]
        for group in sorted(returning, key=lambda group: group.first):
            theirs = [place for place in places if place.person == group.person]
            later = [place for place in theirs if place.rank > (False, group.first)]
            rows = _rows(session, "gpu", [group])
            if later and _still_waiting(session, "gpu", rows):
                return _Change(rows[0], later[0], max(reversed(theirs), key=lambda place: place.rank))
    return None


def _places(session: Session, queued: Sequence[tuple[str, int]]) -> list[_Place]:
    """What is queued, in its order, but what workers have just taken and what has been stopped since."""
    query = (
        select(Job.id, Job.generation, Task)
        .join(Task, Task.id == Job.task_id)
        .where(Job.id.in_([job_id for job_id, _ in queued]), Job.state == State.WAITING)
    )
    places = {}
    for job_id, generation, task in session.execute(query):
        begun = task.started_at is not None and task.state in (State.WAITING, State.STOPPING)
        rank = (not begun, task.created_at.timestamp())
        places[job_id, generation] = _Place((job_id, generation), fair_name(task.workspace, task.created_by), task.id, rank)
    return [places[entry] for entry in queued if entry in places]


def _give_back(session: Session, job_id: str, generation: int) -> None:
    """Have a job wait in the outbox again that was taken off the queue, unless somebody found before that it had vanished from there."""
    found = locked_job(session, job_id)
    if found is None or (found[1].generation, found[1].state) != (generation, State.WAITING):
        return
    if session.scalar(select(Outbox.id).where(Outbox.job_id == job_id, Outbox.generation == generation)) is None:
        queue_job(session, *found)


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
