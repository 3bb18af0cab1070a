"""What a work-horse does before it trains, or before others do."""

import itertools
import json
import threading
from pathlib import Path
from typing import Any

import pytest
import torch
from new_tasks import training_of
from sqlalchemy import select

from core.access import Actor
from core.db.tables import Epoch, Event, Job, Model, Task
from core.errors import UnavailableError
from core.events import Progress
from core.storage import Storage
from core.tasks.actions import stop_task
from core.tasks.creation import create_task
from core.tasks.hyperparameters import TrainingPlan
from core.tasks.lifecycle import claim_job, record_epoch
from core.zoo.devices import host_device
from worker import jobs, waiting
from worker.database_link import DatabaseLink
from worker.engine import checkpoint, data, loop, training
from worker.jobs import _device_name, run_training
from worker.link import Ask, TrainingResult
from worker.reports import model_files


def test_whoever_only_waits_for_others_touches_no_gpu(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The first question to torch.cuda opens a context: half a gigabyte of the GPU that the leader trains on."""

    def touched(*_: Any) -> Any:
        raise AssertionError("torch was asked of a GPU")

    for question in ("is_available", "current_device", "get_device_name", "get_device_capability", "_lazy_init"):
        monkeypatch.setattr(torch.cuda, question, touched)
    program = tmp_path / "nvidia-smi"
    program.write_text('#!/bin/sh\n[ "$1" = -L ] || printf "0, GPU-a, 8192, NVIDIA A\\n1, GPU-b, 8192, NVIDIA A\\n"\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    host_device.cache_clear()
    try:
        assert _device_name(2) == "2 × NVIDIA A"
    finally:
        host_device.cache_clear()


def run_to_its_end(bench: Any, epochs: int = 3) -> tuple[Task, Job, list[dict[str, Any]]]:
    """A small training as a work-horse does it: its task, its job and what was remarked."""
    plan = TrainingPlan(epochs=epochs, batch_size=8, image_size=32, learning_rate=0.01, optimizer="sgd", validation_percent=25)
    dataset = bench.stripes(per_class=12)  # 18 images to train on: 3 steps an epoch
    with bench.database.write() as session:
        task = create_task(session, bench.settings, training_of(dataset, plans=[plan]))
        job_id = session.scalars(select(Job.id).where(Job.task_id == task.id)).one()
    run_training(job_id, 1)
    with bench.database.read() as session:
        said = [event.payload for event in session.scalars(select(Event).where(Event.kind == "noticed"))]
        return session.get_one(Task, task.id), session.get_one(Job, job_id), said


def test_a_model_waits_for_room_on_the_disk(bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was trained lies in the checkpoints, and only there: they are not given up."""
    monkeypatch.setattr(waiting, "AGAIN_SECONDS", 0.05)
    write, refusals = jobs.write_model, [UnavailableError("There is no space left.", "Free some."), TimeoutError()]

    def full(job: Any, result: Any, key: str, **named: Any) -> Any:
        assert not bench.storage.exists(key), "what was begun takes room that there is not"
        if refusals:
            bench.storage.write(f"{key}/model.safetensors", b"half")
            raise refusals.pop(0)
        return write(job, result, key, **named)

    monkeypatch.setattr(jobs, "write_model", full)
    task, _, said = run_to_its_end(bench)
    assert task.state == "finished" and task.model_id
    (remark,) = [payload for payload in said if "cannot be written yet" in payload["message"]]
    assert "There is no space left. It is tried again for 24 hours" in remark["message"] and "Make room" in remark["remedy"]


@pytest.mark.parametrize("epochs", [3, 2], ids=["between two steps", "at the end"])
def test_a_pause_on_a_full_disk_is_a_pause(bench: Any, monkeypatch: pytest.MonkeyPatch, epochs: int) -> None:
    """Not the end of a training that could not write its second epoch."""
    monkeypatch.setattr(jobs, "PAUSE", threading.Event())
    save = checkpoint._save

    def full(storage: Any, key: str, value: dict[str, Any]) -> None:
        if value.get("state", {}).get("epoch") == 2:
            jobs.PAUSE.set()
            raise UnavailableError("There is no space left.", "Free some.")
        save(storage, key, value)

    monkeypatch.setattr(checkpoint, "_save", full)
    task, job, _ = run_to_its_end(bench, epochs)
    assert (task.state, job.state, job.generation, job.epoch) == ("waiting", "waiting", 2, 1)
    assert bench.storage.list(f"tasks/{task.id}"), "what was trained is still there"


def test_a_worker_told_to_end_hands_back_a_model_that_waits_for_room(bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any, **__: Any) -> Any:
        jobs.PAUSE.set()
        raise UnavailableError("There is no space left.", "Free some.")

    monkeypatch.setattr(jobs, "write_model", full)
    monkeypatch.setattr(jobs, "PAUSE", threading.Event())
    task, job, _ = run_to_its_end(bench)
    assert (task.state, job.state, job.ending, job.generation) == ("waiting", "waiting", "finished", 2)
    assert bench.storage.list(f"tasks/{task.id}"), "what was trained is still there"


def test_a_training_waits_for_a_storage_that_does_not_answer_when_it_begins(bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting, "AGAIN_SECONDS", 0.05)

    def away_once(module: Any, name: str) -> None:
        work, refusals = getattr(module, name), [TimeoutError()]

        def asked(*arguments: Any) -> Any:
            if refusals:
                raise refusals.pop()
            return work(*arguments)

        monkeypatch.setattr(module, name, asked)

    away_once(training, "load_or_create_split")
    away_once(data, "decode")
    task, _, said = run_to_its_end(bench)
    assert task.state == "finished"
    waited = [payload["message"].partition(" cannot")[0] for payload in said if "The storage fails (TimeoutError)" in payload["message"]]
    assert waited == ["The split into training and validation", "The images"]


def test_a_model_tells_the_numbers_of_the_epoch_that_it_is(bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not of a better one that could not be written."""
    save, falling = checkpoint._save, itertools.count(0, -1)

    def forbidden(storage: Any, key: str, value: dict[str, Any]) -> None:
        if value.get("epoch") == 2:
            raise PermissionError(13, "Permission denied", "best-1-2.pt")
        save(storage, key, value)

    monkeypatch.setattr(checkpoint, "_save", forbidden)
    monkeypatch.setattr(loop, "merit", lambda *_: next(falling))  # each epoch is the best: what is asked first is more
    task, job, said = run_to_its_end(bench)
    with bench.database.read() as session:
        model, first = session.get_one(Model, task.model_id), session.get_one(Epoch, (job.id, 1))
    card = json.loads(bench.storage.read(f"{model.key}/model_card.json"))
    assert card["best_epoch"] == 1
    assert task.metrics == model.metrics == job.metrics == card["metrics"] and job.score == first.values["score"]
    (remark,) = [payload for payload in said if "may not use a file" in payload["message"]]
    assert "the best epoch is kept" in remark["message"]


def test_a_search_that_has_seen_enough_counts_no_epoch_that_was_not_written(bench: Any) -> None:
    """The model is made of what was: its numbers must not be those of a better epoch that waited for the disk."""
    with bench.database.write() as session:
        task = create_task(session, bench.settings, training_of(bench.stripes(per_class=3), plans=[TrainingPlan()]))
        job_id = session.scalars(select(Job.id).where(Job.task_id == task.id)).one()
        claim_job(session, job_id, 1, worker="w", device="CPU")
        event = Progress(1, 2, 1, 1, 0.5, 1.0, 0.1, 9.0, epoch_ended=True)
        record_epoch(session, job_id, 1, 1, {}, score=0.5, metrics={"accuracy": 0.5}, is_best=True, event=event, sequence=1)
    link = DatabaseLink(bench.database, bench.settings, task.id, job_id, 1, pause=threading.Event())
    completion = jobs._end(link, TrainingResult(Ask.ENOUGH, 0.9, {"accuracy": 0.9}), job_id, 1)
    assert completion is not None and (completion.score, completion.metrics) == (0.5, {"accuracy": 0.5})


@pytest.mark.timeout(60)
@pytest.mark.parametrize("mode", ["keep", "discard"])
def test_a_stop_before_anything_could_be_written_is_a_stop(bench: Any, monkeypatch: pytest.MonkeyPatch, mode: str) -> None:
    def full(*_: Any) -> None:
        with bench.database.write() as session:
            job = session.scalars(select(Job)).one()
            task = session.get_one(Task, job.task_id)
            stop_task(session, Actor(task.workspace, task.created_by, ""), task, mode)
        raise UnavailableError("There is no space left.", "Free some.")

    monkeypatch.setattr(checkpoint, "_save", full)
    monkeypatch.setattr(waiting, "HURRY_SECONDS", 0.1)
    monkeypatch.setattr(waiting, "AGAIN_SECONDS", 0.05)
    task, job, said = run_to_its_end(bench)
    assert (task.state, job.state, task.error, job.error) == ("stopped", "stopped", "", "")
    assert not [payload for payload in said if "ended early" in payload["message"]]


def test_a_model_whose_end_was_stored_but_not_acknowledged_stays(bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    persist = DatabaseLink.persist

    def again(link: DatabaseLink, change: Any) -> Any:
        stored = persist(link, change)
        return persist(link, change) if change.__name__ == "end" else stored  # as it does when the answer was lost

    monkeypatch.setattr(DatabaseLink, "persist", again)
    task, _, _ = run_to_its_end(bench)
    with bench.database.read() as session:
        model = session.get_one(Model, task.model_id)
    assert task.state == "finished" and bench.storage.exists(f"{model.key}/model.safetensors")


def test_a_storage_that_does_not_answer_when_all_is_done_is_no_fault_of_the_training(
    bench: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """What is of no more use stays there then; most of it is swept later."""

    def away(*_: Any) -> Any:
        raise TimeoutError

    listed, delete = Storage.list, Storage.delete
    monkeypatch.setattr(Storage, "list", lambda storage, prefix: (away if prefix.count("/") == 1 else listed)(storage, prefix))
    monkeypatch.setattr(Storage, "delete", lambda storage, key: (away if key.endswith("/jobs") else delete)(storage, key))
    task, job, _ = run_to_its_end(bench)
    assert (task.state, job.state) == ("finished", "finished") and task.model_id
    assert "unexpectedly" not in caplog.text
    assert caplog.text.count("in the storage") == 2


def test_pictures_wait_for_the_storage_and_what_is_lacking_is_told_once(bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting, "AGAIN_SECONDS", 0.05)
    draw, refusals = model_files.case_pictures, [TimeoutError(), ConnectionResetError()]

    def away(*arguments: Any) -> Any:
        if refusals:
            raise refusals.pop()
        return draw(*arguments)

    def broken(*_: Any) -> Any:
        raise ValueError("nothing to draw")

    monkeypatch.setattr(model_files, "case_pictures", away)
    monkeypatch.setattr(model_files, "search_pictures", broken)
    task, _, said = run_to_its_end(bench)
    with bench.database.read() as session:
        model = session.get_one(Model, task.model_id)
    assert task.state == "finished" and bench.storage.exists(f"{model.key}/best_and_worst.png")
    (remark,) = [payload["message"] for payload in said if "could not be drawn" in payload["message"]]
    assert "its pictures of the search" in remark and "predictions" not in remark


def test_a_picture_that_cannot_be_drawn_costs_no_model(bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(*_: Any) -> Any:
        raise FileNotFoundError("images/ab/cd.png")

    monkeypatch.setattr(model_files, "case_pictures", gone)
    task, _, said = run_to_its_end(bench)
    assert task.state == "finished" and task.model_id
    assert [payload for payload in said if "its best and worst predictions" in payload["message"]]


@pytest.mark.parametrize(("breaks_in_epoch", "state"), [(3, "finished"), (1, "error")])
def test_a_training_that_fails_leaves_the_best_epoch_it_had(
    bench: Any, monkeypatch: pytest.MonkeyPatch, breaks_in_epoch: int, state: str
) -> None:
    order = loop.epoch_order

    def breaks(count: int, seed: int, epoch: int) -> Any:
        if epoch == breaks_in_epoch:
            raise RuntimeError("the driver is gone")
        return order(count, seed, epoch)

    monkeypatch.setattr(loop, "epoch_order", breaks)
    task, job, said = run_to_its_end(bench)
    assert task.state == state and bool(task.model_id) == (state == "finished")
    if state == "finished":
        assert job.epoch == 2 and job.score is not None
        (remark,) = [payload for payload in said if "ended unexpectedly" in payload["message"]]
        assert "the best epoch is kept" in remark["message"]


@pytest.mark.parametrize(("breaks_at_step", "state"), [(7, "finished"), (2, "error")], ids=["after an epoch", "before one"])
def test_a_training_that_diverges_leaves_the_best_epoch_it_had(
    bench: Any, monkeypatch: pytest.MonkeyPatch, breaks_at_step: int, state: str
) -> None:
    monkeypatch.setattr(loop, "learning_rate_factor", lambda plan, step, steps: 1.0 if step < breaks_at_step else 1e30)
    ended, job, said = run_to_its_end(bench, epochs=20)
    assert ended.state == state
    if state == "error":
        assert "diverged" in ended.error and "lower learning rate" in ended.error_remedy and ended.model_id is None
        return
    assert ended.model_id and job.score is not None and job.epoch == 2
    (remark,) = [payload for payload in said if "diverged" in payload["message"]]
    assert "the best epoch is kept" in remark["message"] and "lower learning rate" in remark["remedy"]
