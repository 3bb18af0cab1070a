"""The scripted person of each demonstration gets through the real wizard, to a task with the values they typed."""

import io
import json
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console
from sqlalchemy import select

from bot.terminal import demo
from bot.terminal.commands.runtime import Runtime
from core.datasets import samples, scattered_digits
from core.db.tables import Job, Task
from core.vocabulary import TaskType
from core.zoo.catalogue import find_spec


def _few(folder: Path) -> None:
    scattered_digits.write(folder, *samples.load_digits(), images=6)


@pytest.mark.parametrize("task_type", demo.SAMPLES)
def test_the_conversation_of_each_demonstration_ends_in_a_task(task_type: TaskType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(samples.SAMPLES, "scattered-digits", _few)
    runtime = Runtime.load()
    shown = demo.Demo(runtime, Console(file=io.StringIO(), width=100), lambda _: None, task_type, fast=True)
    shown._import()
    sample = demo.SAMPLES[task_type]
    task_id = shown._converse(find_spec(sample.network, settings=runtime.settings))
    with runtime.database.read() as session:
        task = session.get_one(Task, task_id)
        (plan,) = session.scalars(select(Job.plan).where(Job.task_id == task_id)).all()
    assert (task.task_type, task.network, task.name) == (task_type, sample.network, sample.name)
    assert task.tuning == ("manual" if sample.typed else "auto")
    for name, typed in ((name, typed) for values in sample.typed.values() for name, typed in values.items()):
        assert str(plan[name]) == {"off": "False", "on": "True"}.get(typed, typed)


@pytest.mark.long
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(
    ("task_type", "said", "metric", "wanted"),
    [("object-detection", "Validation AP 50:95", "ap50", 0.6), ("object-segmentation", "Validation Dice", "dice", 0.8)],
)
def test_what_the_demonstrations_of_places_reach(task_type: str, said: str, metric: str, wanted: float) -> None:
    """The four minutes that they may take are those of two idle cores: `benchmarks/training_accuracy.py` measures them."""
    command = [sys.executable, "-m", "bot", "demo", "--fast", "--task-type", task_type]
    played = subprocess.run(command, capture_output=True, text=True, timeout=1800)
    assert played.returncode == 0, played.stdout[-2000:] + played.stderr[-2000:]
    assert said in played.stdout
    listed = subprocess.run([sys.executable, "-m", "bot", "task", "list", "--json"], capture_output=True, text=True, check=True)
    (task,) = json.loads(listed.stdout)
    assert task["state"] == "finished"
    shown = subprocess.run([sys.executable, "-m", "bot", "task", "show", task["id"], "--json"], capture_output=True, text=True, check=True)
    metrics = json.loads(shown.stdout)["metrics"]
    assert metrics[metric] >= wanted, metrics
