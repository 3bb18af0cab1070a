"""What a work-horse does before it trains, or before others do."""

import threading
from pathlib import Path
from typing import Any

import pytest
import torch
from new_tasks import training_of
from sqlalchemy import select

from core.db.tables import Event, Job, Task
from core.errors import UnavailableError
from core.tasks.creation import create_task
from core.tasks.hyperparameters import TrainingPlan
from core.zoo.devices import host_device
from worker import jobs
from worker.engine import checkpoint, loop
from worker.jobs import _device_name, run_training
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
    monkeypatch.setattr(jobs, "TRY_AGAIN_SECONDS", 0.05)
    write, refusals = jobs.write_model, [UnavailableError("There is no space left.", "Free some."), TimeoutError()]

    def full(*arguments: Any, **named: Any) -> Any:
        if refusals:
            raise refusals.pop(0)
        return write(*arguments, **named)

    monkeypatch.setattr(jobs, "write_model", full)
    task, _, said = run_to_its_end(bench)
    assert task.state == "finished" and task.model_id
    (remark,) = [payload for payload in said if "cannot be written yet" in payload["message"]]
    assert "There is no space left." in remark["message"] and remark["remedy"] == "Free some."


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
        assert "best epoch before" in remark["message"]


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
    assert "best epoch before" in remark["message"] and "lower learning rate" in remark["remedy"]
