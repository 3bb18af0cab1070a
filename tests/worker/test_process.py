"""The worker process itself: it starts warm, says why it cannot start, and jobs that fail are explained."""

import errno
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from new_tasks import training_of
from sqlalchemy import func, select
from sqlalchemy.exc import OperationalError

from core.db.session import Database
from core.db.tables import Dataset, Event, Job, Task
from core.errors import BadDataError, UnavailableError
from core.events import Progress
from core.settings import Settings
from core.tasks.creation import create_task
from core.tasks.journal import FencedError
from core.tasks.lifecycle import claim_job, hand_back
from worker import database_link, process
from worker.database_link import DatabaseLink, is_database_away
from worker.failures import explain
from worker.link import Ask
from worker.rehearsal import rehearse

KILLED, ENDED = 9, 0  # as os.waitpid tells a process that SIGKILL has ended, and one that has ended by itself
ROOT = Path(__file__).parents[2]


def run_worker(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "worker", *arguments],
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.mark.parametrize(
    ("environment", "code", "message"),
    [
        ({}, 1, "The queue does not run."),
        ({"STATIONMASTER_REDIS_URL": "redis://127.0.0.1:1/0"}, 1, "The queue does not answer"),
        ({"STATIONMASTER_REDIS_URL": "nonsense"}, 1, "not a URL of a Redis server"),
        ({"STATIONMASTER_DATABASE_URL": "nonsense"}, 1, "not a database URL"),
        ({"STATIONMASTER_LOG_LEVEL": "LOUD"}, 2, "STATIONMASTER_LOG_LEVEL"),
    ],
)
def test_a_worker_that_cannot_start_says_why(environment: dict[str, str], code: int, message: str) -> None:
    ended = run_worker("--queue-seconds", "0", **environment)
    assert ended.returncode == code
    assert message in ended.stderr
    assert "Traceback" not in ended.stderr


def test_wrong_use() -> None:
    assert run_worker("--kind", "heavy").returncode == 2


FORKED = """
import os, signal
from worker.process import warm_up
warm_up()
import torch
assert not torch.cuda.is_initialized()
pid = os.fork()
if pid == 0:
    signal.alarm(30)  # a child that hangs in its first matrix product ends by this
    torch.randn(1024, 1024) @ torch.randn(1024, 1024)
    os._exit(0)
raise SystemExit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) != 0)
"""


def test_children_of_a_warm_worker_can_compute() -> None:
    assert subprocess.run([sys.executable, "-c", FORKED], cwd=ROOT, timeout=120, check=False).returncode == 0


def test_rehearsing_leaves_nothing(settings: Settings, database: Database) -> None:
    rehearse(settings, database)
    with database.read() as session:
        for table in (Dataset, Task, Job, Event):
            assert session.scalar(select(func.count()).select_from(table)) == 0


@pytest.mark.parametrize(
    ("error", "what", "remedy"),
    [
        (BadDataError("It is odd.", "Even it."), "It is odd.", "Even it."),
        (OSError(errno.ENOSPC, "No space left on device"), "no space left", "Free some space"),
        (FileNotFoundError(2, "No such file", "/data/cat.png"), "/data/cat.png", "Restore it"),
        (PermissionError(13, "Permission denied", "/data/x"), "/data/x", "owner"),
        (MemoryError(), "memory ran out", "smaller batch"),
        (ZeroDivisionError("division by zero"), "unexpectedly (ZeroDivisionError)", "worker's log has the details"),
    ],
)
def test_failures_are_said_in_words(error: Exception, what: str, remedy: str) -> None:
    said = explain(error, "training")
    assert what in said[0]
    assert remedy in said[1]


# ---------------------------------------------------------------- the link


def progress(epoch: int, *, ended: bool = False) -> Progress:
    return Progress(epoch=epoch, epochs=5, step=1, steps=9, fraction=0.1, loss=1, learning_rate=0.1, images_per_second=9, epoch_ended=ended)


@pytest.fixture
def job(settings: Settings, database: Database, add_dataset: Callable[..., Dataset]) -> Job:
    dataset = add_dataset("cells")
    new = training_of(dataset, person="p")
    with database.write() as session:
        task = create_task(session, settings, new)
    with database.write() as session:
        job = session.scalars(select(Job).where(Job.task_id == task.id)).one()
        assert claim_job(session, job.id, 1, worker="w", device="CPU") is not None
    return job


@pytest.fixture
def link(settings: Settings, database: Database, job: Job) -> DatabaseLink:
    return DatabaseLink(database, settings, job.task_id, job.id, 1, pause=threading.Event())


def eventually(true: Callable[[], bool]) -> None:
    waiting = threading.Event()
    for _ in range(300):
        if true():
            return
        waiting.wait(0.05)
    raise AssertionError("it never came")


def told(database: Database) -> list[tuple[str, object]]:
    with database.read() as session:
        events = session.scalars(select(Event).order_by(Event.number)).all()
    return [(event.kind, event.payload.get("epoch") or event.payload.get("message")) for event in events][2:]


def test_progress_is_thinned_and_never_comes_after_its_epoch(
    link: DatabaseLink, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database_link, "PROGRESS_SECONDS", 3600.0)
    link.start()
    for _ in range(1000):
        link.progress(progress(1))
    eventually(lambda: told(database) == [("progress", 1)])
    link.progress(progress(1))
    link.epoch_ended(1, {}, score=1, metrics={}, is_best=True, event=progress(1, ended=True))
    link.noticed("All is well.")
    link.flush()
    link.stop()
    assert told(database) == [("progress", 1), ("progress", 1), ("noticed", "All is well.")]


def test_a_stop_is_heard_and_goes_before_a_pause(link: DatabaseLink, database: Database, job: Job) -> None:
    link.start()
    assert link.asked() is Ask.GO_ON
    link._pause.set()
    assert link.asked() is Ask.PAUSE
    with database.write() as session:
        session.get_one(Task, job.task_id).stop_mode = "keep"
    eventually(lambda: link.asked() is Ask.STOP_KEEP)
    assert link.pausing()
    link.stop()


def test_whoever_was_taken_over_hears_so(link: DatabaseLink, database: Database, job: Job) -> None:
    link.start()
    with database.write() as session:
        hand_back(session, job.id, 1)

    def fenced() -> bool:
        try:
            link.asked()
        except FencedError:
            return True
        return False

    eventually(fenced)
    with pytest.raises(FencedError):
        link.epoch_ended(1, {}, score=1, metrics={}, is_best=True, event=progress(1, ended=True))
    link.stop()


def test_what_must_be_stored_waits_for_the_database(link: DatabaseLink) -> None:
    calls: list[int] = []
    away = OperationalError("INSERT", {}, type("OperationalError", (Exception,), {})("server closed the connection"))

    def away_twice(_session: object) -> str:
        calls.append(1)
        if len(calls) < 3:
            raise away
        return "stored"

    assert link.persist(away_twice) == "stored"
    assert len(calls) == 3
    calls.clear()
    link._pause.set()
    with pytest.raises(UnavailableError) as caught:
        link.persist(away_twice)
    assert is_database_away(caught.value)


@pytest.mark.parametrize(
    ("before", "now", "out_of_memory"),
    [(3, 4, True), (3, 3, False), (None, None, False)],  # the system, a person, and where the system does not tell
)
def test_a_killed_process_ran_out_of_memory_where_the_system_says_so(
    monkeypatch: pytest.MonkeyPatch, before: int | None, now: int | None, out_of_memory: bool
) -> None:
    monkeypatch.setattr(process, "out_of_memory_kills", lambda: now)
    assert process.ran_out_of_memory(KILLED, before) is out_of_memory
    assert not process.ran_out_of_memory(ENDED, before)
