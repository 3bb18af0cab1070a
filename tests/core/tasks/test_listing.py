"""Finding and listing tasks, and their facts for scripts."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import select

from core.clock import now
from core.db.session import Database
from core.db.tables import Job, Outbox, Task
from core.errors import NotFoundError
from core.tasks.lifecycle import NewModel, claim_job, complete_task, finish_job, hand_back
from core.tasks.listing import find_task, job_json, list_tasks, place_in_queue, task_json
from core.tasks.states import State

MakeTask = Callable[..., Task]
JobsOf = Callable[[Task], list[Job]]


def names(database: Database, **how: Any) -> tuple[list[str], int]:
    with database.read() as session:
        tasks, total = list_tasks(session, "default", **how)
    return [task.name for task in tasks], total


@pytest.fixture
def three(database: Database, make_task: MakeTask) -> list[Task]:
    tasks = [make_task(name=name) for name in ("Cells", "nuclei", "more cells")]
    with database.write() as session:
        for age, task in enumerate(reversed(tasks)):
            session.get_one(Task, task.id).created_at = now() - timedelta(hours=age)
        first = session.get_one(Task, tasks[0].id)
        first.state, first.finished_at = "finished", now()
    return tasks


def test_newest_first(database: Database, three: list[Task]) -> None:
    assert names(database) == (["more cells", "nuclei", "Cells"], 3)
    assert names(database, limit=1, offset=1) == (["nuclei"], 3)


def test_search_filter_sort(database: Database, three: list[Task]) -> None:
    assert names(database, search="CELLS") == (["more cells", "Cells"], 2)
    assert names(database, search="%") == ([], 0)
    assert names(database, state=State.WAITING) == (["more cells", "nuclei"], 2)
    assert names(database, sort="finished") == (["Cells", "more cells", "nuclei"], 3)
    assert names(database, sort="finished", limit=2) == (["Cells", "more cells"], 3)
    assert names(database, sort="finished", limit=2, offset=1) == (["more cells", "nuclei"], 3)
    assert names(database, sort="finished", limit=2, offset=2) == (["nuclei"], 3)


def test_workspaces_do_not_see_each_other(database: Database, three: list[Task]) -> None:
    with database.read() as session:
        assert list_tasks(session, "elsewhere") == ([], 0)
        for key in (three[0].id, "Cells"):
            with pytest.raises(NotFoundError):
                find_task(session, "elsewhere", key)


def test_find_by_id_or_name(database: Database, three: list[Task]) -> None:
    with database.read() as session:
        assert find_task(session, "default", three[1].id).id == three[1].id
        assert find_task(session, "default", "nuclei").id == three[1].id
        with pytest.raises(NotFoundError, match="nucle") as caught:
            find_task(session, "default", "nucle")
    assert "“nuclei”" in caught.value.remedy


def test_of_one_name_the_newest(database: Database, make_task: MakeTask) -> None:
    make_task()
    newer = make_task()
    with database.read() as session:
        assert find_task(session, "default", "cells").id == newer.id


def test_places_in_the_queue(database: Database, make_task: MakeTask, jobs_of: JobsOf) -> None:
    large = make_task(48, name="large")
    own = make_task(1, name="own")
    other = make_task(1, name="other", person="terminal:grace")
    with database.write() as session:  # the first job of the large one is in the queue, its second runs
        for job in jobs_of(large)[:2]:
            session.delete(session.scalars(select(Outbox).where(Outbox.job_id == job.id)).one())
    with database.write() as session:
        claim_job(session, jobs_of(large)[1].id, 1, worker="w", device="CPU")
    with database.read() as session:
        places = [place_in_queue(session, session.get_one(Task, task.id)) for task in (large, other, own)]
    assert places == [0, 2, 3], "it runs; after the queued one; then the same person's small task before their large one's third job"


@pytest.mark.parametrize(
    ("device", "seconds", "on_gpus"), [("CPU, 1 core", 98.0, 0), ("2 × CPU, 1 core", 49.0, 0), ("2 × NVIDIA H200", 49.0, 98)]
)
def test_a_training_took_the_time_on_its_worker(
    database: Database, make_task: MakeTask, jobs_of: JobsOf, device: str, seconds: float, on_gpus: float
) -> None:
    task = make_task()
    (job,) = jobs_of(task)
    with database.write() as session:
        claim_job(session, job.id, 1, worker="w", device=device)
        hand_back(session, job.id, 1, device_seconds=40.0)
        session.get_one(Task, task.id).started_at = now() - timedelta(seconds=485)  # it waited long for its next worker
    with database.write() as session:
        claim_job(session, job.id, 2, worker="w", device=device)
        finish_job(session, job.id, 2, score=0.5, metrics={"accuracy": 0.5}, device_seconds=98.0)
        complete_task(session, job.id, 2, NewModel("models/x", ["cat"]))
    with database.read() as session:
        facts = task_json(session, session.get_one(Task, task.id))
    assert (facts["seconds"], facts["device_hours"], facts["gpu_hours"]) == (seconds, round(98 / 3600, 5), round(on_gpus / 3600, 5))


def test_facts_for_scripts(database: Database, make_task: MakeTask, jobs_of: JobsOf) -> None:
    task = make_task(2)
    jobs = jobs_of(task)
    with database.write() as session:
        for job in jobs:
            claim_job(session, job.id, 1, worker="w", device="CPU")
        finish_job(session, jobs[0].id, 1, score=0.5, metrics={"accuracy": 0.5}, device_seconds=1800)
    with database.read() as session:
        running = task_json(session, session.get_one(Task, task.id))
    assert (running["state"], running["metrics"], running["jobs"]["finished"], running["jobs"]["running"]) == (
        "running",
        {"accuracy": 0.5},
        1,
        1,
    )
    with database.write() as session:
        finish_job(session, jobs[1].id, 1, score=0.7, metrics={"accuracy": 0.7}, device_seconds=1800)
        model_id = complete_task(session, jobs[1].id, 1, NewModel("models/x", ["cat"]))
    with database.read() as session:
        ended = task_json(session, session.get_one(Task, task.id), with_jobs=True)
        one = job_json(session, session.get_one(Task, task.id), 2)
        with pytest.raises(NotFoundError, match="no training job 3"):
            job_json(session, session.get_one(Task, task.id), 3)
    assert {
        key: ended[key] for key in ("id", "name", "state", "metrics", "model_id", "attempts", "device_hours", "gpu_hours", "dataset")
    } == {
        "id": task.id,
        "name": "cells",
        "state": "finished",
        "metrics": {"accuracy": 0.7},
        "model_id": model_id,
        "attempts": 1,
        "device_hours": 1.0,
        "gpu_hours": 0.0,
        "dataset": "cells",
    }
    assert ended["jobs"] == {"total": 2, "waiting": 0, "running": 0, "finished": 2, "stopped": 0, "failed": 0}
    assert 0 < ended["seconds"] < 1800, "of several jobs side by side, from the first one's start to the end"
    assert [job["state"] for job in ended["job_list"]] == ["finished", "finished"]
    assert (one["number"], one["score"], one["epochs"]) == (2, 0.7, [])
