"""Many processes at one database: nothing lost, nothing twice, no event ever missed by a cursor."""

import multiprocessing
import time
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import select

from core.access import Actor
from core.db.session import Database
from core.db.tables import Event, Job, Task
from core.events import Noticed
from core.settings import Settings
from core.tasks.creation import NewTask, create_task
from core.tasks.journal import FencedError
from core.tasks.lifecycle import claim_job, finish_job, record_event, stop_task

CONTEXT = multiprocessing.get_context("spawn")
MakeTask = Callable[..., Task]


def side_by_side(count: int, work: Callable[..., Any], *arguments: Any) -> list[Any]:
    """What `work(number, *arguments)` returns in each of `count` processes."""
    with CONTEXT.Pool(count) as pool:
        return pool.starmap(work, [(number, *arguments) for number in range(count)])


def _say(number: int, url: str, job_id: str, many: int) -> None:
    database = Database(url)
    for count in range(many):
        with database.write() as session:
            record_event(session, job_id, 1, Noticed(f"{number} {count}"), sequence=1000 * (number + 1) + count)


def _follow(url: str, task_id: str, expected: int) -> list[int]:
    database, cursor, seen = Database(url), 0, []
    deadline = time.monotonic() + 120
    while len(seen) < expected and time.monotonic() < deadline:
        with database.read() as session:
            for number in session.scalars(
                select(Event.number).where(Event.task_id == task_id, Event.number > cursor).order_by(Event.number)
            ):
                cursor = number
                seen.append(number)
    return seen


def test_a_cursor_never_misses_an_event(
    database: Database, settings: Settings, make_task: MakeTask, jobs_of: Callable[[Task], list[Job]]
) -> None:
    """Numbers become visible in their order, also while several processes write at once."""
    task = make_task()
    job = jobs_of(task)[0]
    with database.write() as session:
        claim_job(session, job.id, 1, worker="w", device="CPU")
    with CONTEXT.Pool(1) as pool:
        reader = pool.apply_async(_follow, (settings.database, task.id, 2 + 3 * 40))
        side_by_side(3, _say, settings.database, job.id, 40)
        assert reader.get(timeout=150) == list(range(1, 2 + 3 * 40 + 1))


def _claim(number: int, url: str, jobs: list[str]) -> list[str]:
    database, mine = Database(url), []
    for job_id in jobs:
        with database.write() as session:
            if claim_job(session, job_id, 1, worker=f"w{number}", device="CPU") is not None:
                mine.append(job_id)
    return mine


def test_each_job_goes_to_one_worker(settings: Settings, make_task: MakeTask, jobs_of: Callable[[Task], list[Job]]) -> None:
    jobs = [job.id for job in jobs_of(make_task(20))]
    taken = side_by_side(3, _claim, settings.database, jobs)
    assert sorted(job for mine in taken for job in mine) == sorted(jobs)


def _end(number: int, url: str, jobs: list[str]) -> int:
    database, completions = Database(url), 0
    for job_id in jobs[number::3]:
        with database.write() as session:
            completions += finish_job(session, job_id, 1, score=0.5, metrics={}) is not None
    return completions


@pytest.mark.long
def test_of_jobs_that_end_together_one_is_the_last(
    database: Database, settings: Settings, make_task: MakeTask, jobs_of: Callable[[Task], list[Job]]
) -> None:
    jobs = [job.id for job in jobs_of(make_task(12))]
    _claim(0, settings.database, jobs)
    assert sum(side_by_side(3, _end, settings.database, jobs)) == 1


def _press(number: int, settings: Settings, new: NewTask) -> str:
    database = Database.of(settings)
    with database.write() as session:
        return create_task(session, settings, new).id


@pytest.mark.long
def test_start_pressed_by_many_at_once_is_one_task(settings: Settings, database: Database, new_task: Callable[..., NewTask]) -> None:
    assert len(set(side_by_side(4, _press, settings, new_task(draft_id="d1")))) == 1


def _stop_or_finish(number: int, url: str, actor: Actor, task_id: str, jobs: list[str]) -> None:
    database = Database(url)
    if number == 0:
        with database.write() as session:
            stop_task(session, actor, session.get_one(Task, task_id), "discard")
        return
    for job_id in jobs[:-1]:  # the last one is left, so that the task cannot have ended before it is stopped
        with database.write() as session:
            try:
                finish_job(session, job_id, 1, score=None, metrics={})
            except FencedError:
                claim_job(session, job_id, 1, worker="w", device="CPU")


@pytest.mark.long
def test_stopping_and_ending_at_once_do_not_block_each_other(
    database: Database, settings: Settings, ada: Actor, make_task: MakeTask, jobs_of: Callable[[Task], list[Job]]
) -> None:
    task = make_task(30)
    jobs = [job.id for job in jobs_of(task)]
    _claim(0, settings.database, jobs[:15])
    side_by_side(3, _stop_or_finish, settings.database, ada, task.id, jobs)
    with database.read() as session:
        assert session.get_one(Task, task.id).state == "stopped"
        assert {job.state for job in session.scalars(select(Job))} <= {"finished", "stopped"}
