"""The periodic duties: one process at a time, whatever is away."""

import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from redis import Redis
from sqlalchemy import select

from bot.terminal.embedded_valkey import EmbeddedValkey
from core.db.session import Database
from core.db.tables import Job, Lease, Task
from core.process_identity import own_identity
from core.queue import connect, queue_length
from core.settings import Settings
from core.tasks import duties as module
from core.tasks import lease
from core.tasks.duties import Chore, Duties

MakeTask = Callable[..., Task]


def eventually(true: Callable[[], object], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_lease_is_held_by_one(database: Database) -> None:
    me, other = f"{own_identity()} a", f"{own_identity()} b"
    assert lease.acquire(database, "duty", me, 30)
    assert not lease.acquire(database, "duty", other, 30)
    assert lease.acquire(database, "duty", me, 30)
    lease.release(database, "duty", other)
    assert not lease.acquire(database, "duty", other, 30)
    lease.release(database, "duty", me)
    assert lease.acquire(database, "duty", other, 30)


def test_a_lease_runs_out(database: Database) -> None:
    assert lease.acquire(database, "duty", "elsewhere|boot|ns|1|2 a", 0.05)
    time.sleep(0.1)
    assert lease.acquire(database, "duty", f"{own_identity()} b", 30)


def test_a_dead_holder_is_followed_at_once(database: Database) -> None:
    gone = own_identity().rpartition("|")[0] + "|1"  # our pid, started at another time
    assert lease.acquire(database, "duty", f"{gone} a", 3600)
    assert lease.acquire(database, "duty", f"{own_identity()} b", 30)


def test_of_many_at_once_one_gets_it(database: Database) -> None:
    got: list[int] = []
    barrier = threading.Barrier(8)

    def try_it(number: int) -> None:
        barrier.wait()
        if lease.acquire(database, "duty", f"{own_identity()} {number}", 30):
            got.append(number)

    threads = [threading.Thread(target=try_it, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(got) == 1


def test_two_processes_dispatch_and_repair_as_one(database: Database, redis: Redis, queue_settings: Settings, make_task: MakeTask) -> None:
    done: list[str] = []
    chore = [Chore("sweep", 3600, lambda database, settings: done.append("swept"))]
    first, second = Duties(queue_settings, database, chore), Duties(queue_settings, database, chore)
    first.start()
    second.start()
    try:
        make_task(3)
        eventually(lambda: queue_length(redis, queue_settings, "gpu") == 1)
        with database.read() as session:
            holder = session.scalars(select(Lease.holder)).one()
        assert holder.startswith(own_identity())
        eventually(lambda: done)
        time.sleep(2.5)
        assert done == ["swept"]
    finally:
        first.stop()
        second.stop()
    with database.read() as session:
        assert session.scalars(select(Lease)).all() == []


def test_a_chore_that_fails_keeps_nobody_waiting(database: Database, redis: Redis, queue_settings: Settings, make_task: MakeTask) -> None:
    def fail(database: Database, settings: Settings) -> None:
        raise RuntimeError("a fault")

    duties = Duties(queue_settings, database, [Chore("bad", 0.1, fail)])
    duties.start()
    try:
        make_task()
        eventually(lambda: queue_length(redis, queue_settings, "gpu") == 1)
    finally:
        duties.stop()


@pytest.mark.parametrize("settings", ["sqlite"], indirect=True)
def test_duties_outlive_the_queue(
    database: Database, settings: Settings, make_task: MakeTask, jobs_of: Callable[[Task], list[Job]], caplog: pytest.LogCaptureFixture
) -> None:
    def said_away() -> int:
        return sum("away" in record.message for record in caplog.records)

    duties = Duties(settings, database, [])
    duties.start()
    server = EmbeddedValkey(settings)
    try:
        task = make_task()
        eventually(lambda: said_away() == 1)
        time.sleep(2 * module.ROUND_SECONDS)  # to say it again
        server.start()
        redis = connect(settings)
        eventually(lambda: queue_length(redis, settings, "gpu") == 1)
        redis.flushall()
        server.stop()
        eventually(lambda: said_away() == 2)
        server.start()
        # A server that was away may have lost everything: repaired at once, not at the next of the regular rounds.
        eventually(
            lambda: jobs_of(task)[0].generation == 2 and queue_length(connect(settings), settings, "gpu") == 1, module.RECONCILE_SECONDS - 2
        )
        assert said_away() == 2, "said once each time"
    finally:
        duties.stop()
        server.stop()


def test_quiet_holds_the_thread_still(
    database: Database, redis: Redis, queue_settings: Settings, make_task: MakeTask, tmp_path: Path
) -> None:
    duties = Duties(queue_settings, database, [])
    duties.start()
    try:
        time.sleep(0.2)  # in the midst of its rounds
        with duties.quiet():
            make_task()
            time.sleep(1.5)
            assert queue_length(redis, queue_settings, "gpu") == 0
        eventually(lambda: queue_length(redis, queue_settings, "gpu") == 1)
    finally:
        duties.stop()
