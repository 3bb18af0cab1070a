"""Repair: whatever happens to queue and workers, the database puts it right."""

import subprocess
import sys
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from redis import Redis
from rq import Queue
from rq.serializers import JSONSerializer
from sqlalchemy import select

from core.clock import now
from core.db.session import Database
from core.db.tables import Job, LightJob, Task
from core.process_identity import own_identity
from core.queue import alive, rq_name
from core.settings import Settings
from core.tasks import reconcile as module
from core.tasks.dispatcher import dispatch
from core.tasks.lifecycle import claim_job
from core.tasks.light import claim_light_job, submit_light_job
from core.tasks.reconcile import reconcile

MakeTask = Callable[..., Task]
JobsOf = Callable[[Task], list[Job]]


@pytest.fixture
def repair(database: Database, redis: Redis, queue_settings: Settings) -> Callable[..., int]:
    def once(**named: Any) -> int:
        mended = reconcile(database, redis, queue_settings, **named)
        dispatch(database, redis, queue_settings)
        dispatch(database, redis, queue_settings, "light")
        return mended

    return once


def dead_process() -> str:
    """The identity of a process that has ended."""
    printed = subprocess.run(
        [sys.executable, "-c", "from core.process_identity import own_identity; print(own_identity())"],
        capture_output=True,
        text=True,
        check=True,
    )
    return printed.stdout.strip()


def claim(database: Database, job: Job, worker: str) -> None:
    with database.write() as session:
        assert claim_job(session, job.id, job.generation, worker=worker, device="CPU") is not None


def test_a_healthy_queue_is_left_alone(make_task: MakeTask, jobs_of: JobsOf, repair: Any, database: Database) -> None:
    task = make_task(5)
    repair()
    claim(database, jobs_of(task)[0], own_identity())
    assert repair() == 0
    assert [job.generation for job in jobs_of(task)] == [1] * 5


def test_an_emptied_queue_is_filled_again(
    make_task: MakeTask, jobs_of: JobsOf, repair: Any, redis: Redis, queue_settings: Settings
) -> None:
    tasks = [make_task(name=f"t{number}") for number in range(20)]
    repair()
    redis.flushall()
    assert repair() == 1, "the one that had been handed over"
    assert len(alive(redis, queue_settings, "gpu").queued) == 1
    assert sorted(jobs_of(task)[0].generation for task in tasks) == [1] * 19 + [2]


def test_a_dead_worker_is_noticed_at_once(make_task: MakeTask, jobs_of: JobsOf, repair: Any, database: Database) -> None:
    task = make_task()
    repair()
    claim(database, jobs_of(task)[0], dead_process())
    assert repair(judge_silence=False) == 1
    job = jobs_of(task)[0]
    assert (job.state, job.generation) == ("waiting", 2)


def test_a_silent_worker_is_given_up_after_a_while(
    make_task: MakeTask, jobs_of: JobsOf, repair: Any, database: Database, settings: Settings
) -> None:
    task = make_task()
    repair()
    job = jobs_of(task)[0]
    claim(database, job, "elsewhere|boot|namespace|1|2")
    assert repair() == 0
    with database.write() as session:
        session.get_one(Job, job.id).heartbeat_at = now() - timedelta(seconds=settings.lost_after_seconds + 1)
    assert repair(judge_silence=False) == 0, "not while nobody could have been heard"
    assert repair() == 1
    assert jobs_of(task)[0].generation == 2


def test_a_job_that_vanished_on_its_way_to_a_worker(
    make_task: MakeTask, jobs_of: JobsOf, repair: Any, redis: Redis, queue_settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The worker was killed between popping the job and claiming it: the queue thinks that it is in work."""
    task = make_task()
    repair()
    queue = Queue(rq_name(queue_settings, "gpu"), connection=redis, serializer=JSONSerializer)
    redis.lmove(queue.key, queue.intermediate_queue_key)
    assert repair() == 0, "it may only just have been popped"
    monkeypatch.setattr(module, "UNCLAIMED_SECONDS", 0.0)
    assert repair() == 1
    assert jobs_of(task)[0].generation == 2


def test_light_jobs_likewise(database: Database, repair: Any, redis: Redis, queue_settings: Settings) -> None:
    with database.write() as session:
        lost = submit_light_job(session, workspace="default", person="p", kind="predict", payload={})
    with database.write() as session:
        assert claim_light_job(session, lost.id, 1, worker=dead_process()) is not None
        vanished = submit_light_job(session, workspace="default", person="p", kind="predict", payload={})
    dispatch(database, redis, queue_settings, "light")
    redis.flushall()
    assert repair() == 2
    with database.read() as session:
        jobs = session.scalars(select(LightJob)).all()
    assert {(job.state, job.generation) for job in jobs} == {("waiting", 2)}
    (queued,) = alive(redis, queue_settings, "light").queued
    assert queued in {(lost.id, 2), (vanished.id, 2)}


def test_a_light_job_is_not_tried_for_ever(database: Database, repair: Any, settings: Settings) -> None:
    with database.write() as session:
        job = submit_light_job(session, workspace="default", person="p", kind="predict", payload={})
    worker = dead_process()
    for generation in range(1, settings.max_attempts + 1):
        repair()
        with database.write() as session:
            assert claim_light_job(session, job.id, generation, worker=worker) is not None
        assert repair() == 1
    with database.read() as session:
        ended = session.get_one(LightJob, job.id)
    assert ended.state == "error"
    assert "5 times" in ended.error


def test_a_task_left_without_jobs_is_ended(make_task: MakeTask, repair: Any, database: Database) -> None:
    task = make_task()
    with database.write() as session:
        job = session.scalars(select(Job).where(Job.task_id == task.id)).one()
        job.state, job.error = "error", "Something."
    assert repair() == 1
    with database.read() as session:
        assert session.get_one(Task, task.id).state == "error"
