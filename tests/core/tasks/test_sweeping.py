"""Checkpoints go with the end of their task, also where no worker was there to take them away; results of tests with age."""

import os
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from core.access import Actor
from core.clock import now
from core.db.session import Database
from core.db.tables import Task
from core.settings import Settings
from core.storage import Storage
from core.tasks import duties
from core.tasks.actions import stop_task
from core.tasks.lifecycle import NewModel, claim_job, complete_task, finish_job
from core.tasks.sweeping import checkpoints_of, models_of, sweep_ended, sweep_predictions


def test_what_ended_tasks_have_left_goes_and_the_rest_stays(
    database: Database, storage: Storage, make_task: Callable[..., Task], ada: Actor, jobs_of: Any
) -> None:
    stopped, waiting = make_task(3), make_task(1)
    for task in (stopped, waiting):
        storage.write(f"{checkpoints_of(task.id)}/1/checkpoint/state-1.pt", b"weights")
    storage.write(f"tasks/{stopped.id}/split.json", b"{}")
    with database.write() as session:
        stop_task(session, ada, session.get_one(Task, stopped.id), "discard")
    assert sweep_ended(database, storage) == 1
    assert not storage.exists(checkpoints_of(stopped.id)) and storage.exists(f"tasks/{stopped.id}/split.json")
    assert storage.exists(checkpoints_of(waiting.id))
    assert sweep_ended(database, storage) == 0


def test_of_models_that_were_never_finished_nothing_stays(
    database: Database, storage: Storage, make_task: Callable[..., Task], ada: Actor, jobs_of: Any
) -> None:
    """Such as where a worker was killed while it made one, and the task discarded before another came."""
    trained, stopped, waiting = make_task(1), make_task(1), make_task(1)
    for task in (trained, stopped, waiting):
        storage.write(f"{models_of(task.id)}/1-x/model.safetensors", b"weights")
    job_id = jobs_of(trained)[0].id
    with database.write() as session:
        claim_job(session, job_id, 1, worker="w", device="CPU")
        finish_job(session, job_id, 1, score=0.5, metrics={})
        complete_task(session, job_id, 1, NewModel(f"{models_of(trained.id)}/1-x", ["a"]))
        stop_task(session, ada, session.get_one(Task, stopped.id), "discard")
    assert sweep_ended(database, storage) == 1
    assert not storage.exists(models_of(stopped.id))
    assert storage.exists(models_of(trained.id)) and storage.exists(models_of(waiting.id))


def test_what_ended_before_everything_was_down_for_days_is_swept_too(
    database: Database, storage: Storage, make_task: Callable[..., Task], ada: Actor, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = make_task(1)
    folder = checkpoints_of(task.id)
    storage.write(f"{folder}/1/checkpoint/state-1.pt", b"weights")
    with database.write() as session:
        stop_task(session, ada, session.get_one(Task, task.id), "discard").finished_at = now() - timedelta(days=3)
    with monkeypatch.context() as patch:
        patch.setattr(Storage, "delete", lambda *_: 1 / 0)
        assert sweep_ended(database, storage) == 0
    assert sweep_ended(database, storage) == 1
    assert not storage.exists(folder)
    looked: list[str] = []
    monkeypatch.setattr(Storage, "exists", lambda _, key: looked.append(key))
    assert sweep_ended(database, storage) == 0 and not looked, "it is not looked for again"


def test_a_folder_that_cannot_be_deleted_keeps_no_other(
    database: Database, storage: Storage, make_task: Callable[..., Task], ada: Actor, monkeypatch: pytest.MonkeyPatch
) -> None:
    tasks = [make_task(1) for _ in range(3)]
    for task in tasks:
        storage.write(f"{checkpoints_of(task.id)}/1/checkpoint/state-1.pt", b"weights")
        with database.write() as session:
            stop_task(session, ada, session.get_one(Task, task.id), "discard").finished_at = now() - timedelta(days=3)
    stubborn, delete = checkpoints_of(tasks[1].id), Storage.delete

    def refused(self: Storage, key: str) -> None:
        if key == stubborn:
            raise PermissionError(key)
        delete(self, key)

    with monkeypatch.context() as patch:
        patch.setattr(Storage, "delete", refused)
        assert sweep_ended(database, storage) == 2
    assert [storage.exists(checkpoints_of(task.id)) for task in tasks] == [False, True, False]
    assert sweep_ended(database, storage) == 1, "it is tried again"


def test_what_is_written_late_is_swept_too(database: Database, storage: Storage, make_task: Callable[..., Task], ada: Actor) -> None:
    """By a worker that did not know yet that its job had been given up."""
    task = make_task(1)
    with database.write() as session:
        stop_task(session, ada, session.get_one(Task, task.id), "discard")
    assert sweep_ended(database, storage) == 0
    storage.write(f"{checkpoints_of(task.id)}/1/checkpoint/state-1.pt", b"weights")
    assert sweep_ended(database, storage) == 1


def test_results_of_tests_go_when_they_are_old(database: Database, storage: Storage, settings: Settings) -> None:
    def write(key: str, days: float) -> None:
        storage.write(key, b"x")
        path = storage.local_path(key)
        assert path is not None
        os.utime(path, (then := time.time() - days * 86_400, then))

    old = settings.draft_days + 1
    write("predictions/old.png", old)
    write("predictions/report/report.json", old)
    write("predictions/report/roc.png", old)
    write("predictions/growing/roc.png", old)
    write("predictions/growing/report.json", 0)
    write("predictions/new.png", settings.draft_days - 1)
    write("datasets/d/1.jpg", old)
    chore = next(chore for chore in duties.CHORES if chore.name == "sweep results of tests")
    chore.run(database, settings)
    left = ["predictions/growing/report.json", "predictions/growing/roc.png", "predictions/new.png"]
    assert storage.list("predictions") == left and storage.exists("datasets/d/1.jpg")
    assert not storage.exists("predictions/report"), "no empty folders stay"
    assert sweep_predictions(storage, settings) == 0


def test_results_of_tests_go_from_an_object_store_too(settings: Settings) -> None:
    store = Storage("memory://results-of-tests")
    store.write("predictions/a/report.json", b"{}")
    assert sweep_predictions(store, settings) == 0
    time.sleep(0.01)
    assert sweep_predictions(store, settings.model_copy(update={"draft_days": 1e-8})) == 1
    assert store.list("predictions") == []
