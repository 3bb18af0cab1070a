"""Grid, random search and a population on the digits, with two workers of which one at a time is killed: all of it is finished, once."""

import json
import os
import random
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from core.datasets.importing import import_dataset
from core.datasets.samples import write_sample
from core.db.tables import Epoch, Job
from core.tuning.lineage import descents
from core.tuning.search import SEARCH_FIELDS, values_of
from core.vocabulary import Tuning

from .conftest import ADA, ROOT, House

pytestmark = [pytest.mark.long, pytest.mark.timeout(1200)]

PER_CLASS = 30
EPOCHS = 8


@pytest.fixture(scope="session")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three hundred handwritten digits, in class folders."""
    everything = write_sample("digits", tmp_path_factory.mktemp("all") / "digits")
    folder = tmp_path_factory.mktemp("some")
    for source in sorted(path for path in everything.iterdir() if path.is_dir()):
        (folder / source.name).mkdir()
        for image in sorted(source.iterdir())[:PER_CLASS]:
            shutil.copy(image, folder / source.name / image.name)
    return folder


@pytest.fixture
def digits_house(house: House, digits: Path) -> House:
    import_dataset(house.database, house.storage, house.settings, workspace="default", person=ADA.person, name="digits", source=str(digits))
    return house


def create(house: House, tuning: str, *set_: str) -> str:
    """`stationmaster task create`, as a script calls it; the task's id."""
    words = ["task", "create", "--dataset", "digits", "--name", tuning, "--task-type", "single-label", "--tuning", tuning, "--json"]
    words += ["--network", "mobilenetv3_small_050", "--pretraining", "none"]
    for pair in (f"epochs={EPOCHS}", "image_size=32", "batch_size=32", "horizontal_flip=off", "rotation=off", "resized_crop=off", *set_):
        words += ["--set", pair]
    environment = {**os.environ, "STATIONMASTER_HOME": str(house.settings.home), "STATIONMASTER_OFFLINE": "1"}
    done = subprocess.run([sys.executable, "-m", "bot", *words], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return str(json.loads(done.stdout)["id"])


def kill_three_times(house: House, task: str, epochs: int) -> None:
    """Kill one of two workers, whichever, thrice in the course of the task, and start another in its place."""
    chance = random.Random(5)
    for kill in range(3):
        house.wait(task, lambda facts, kill=kill: facts["epoch"] >= (kill + 0.7) * epochs / 4, seconds=300)  # type: ignore[misc]
        place = chance.randrange(2)
        time.sleep(chance.random())
        house.workers[place].kill()
        house.workers[place].wait()
        house.start_worker()
        house.workers[place] = house.workers.pop()


def curves(house: House, task: str) -> dict[int, list[tuple[int, float]]]:
    with house.database.read() as session:
        rows = session.execute(
            select(Job.number, Epoch.number, Epoch.values).join(Epoch, Epoch.job_id == Job.id).where(Job.task_id == task)
        ).all()
    found: dict[int, list[tuple[int, float]]] = {}
    for number, epoch, values in sorted(rows, key=lambda row: row[:2]):
        found.setdefault(number, []).append((epoch, values["score"]))
    return found


def assert_finished(facts: dict[str, Any], jobs: int) -> None:
    assert facts["state"] == "finished" and facts["model_id"]
    assert facts["jobs"] == {"total": jobs, "waiting": 0, "running": 0, "finished": jobs, "stopped": 0, "failed": 0}
    assert facts["metrics"]["accuracy"] == max(job["score"] for job in facts["job_list"])


def test_a_grid_of_four(digits_house: House) -> None:
    house = digits_house
    given = ("learning_rate=0.003,0.03", "momentum=0.8,0.9", "early_stop=off")
    house.start_worker(), house.start_worker()
    killed = create(house, "grid", *given)
    kill_three_times(house, killed, 4 * EPOCHS)
    assert_finished(house.wait(killed, seconds=300), 4)
    house.assert_trained_once(killed, EPOCHS)
    unbroken = create(house, "grid", *given)
    assert_finished(house.wait(unbroken, seconds=300), 4)
    assert curves(house, killed) == curves(house, unbroken), "the kills have changed nothing"


def test_a_random_search_of_eight_that_ends_the_hopeless_ones(digits_house: House) -> None:
    house = digits_house
    house.start_worker(), house.start_worker()
    task = create(house, "random", "jobs=8", "learning_rate=1e-6..0.1")
    kill_three_times(house, task, 4 * EPOCHS)
    facts = house.wait(task, seconds=300)
    assert_finished(facts, 8)
    early = [job for job in facts["job_list"] if job["ended_early"]]
    assert early and all(job["epoch"] < EPOCHS and job["state"] == "finished" for job in early)
    best = max(facts["job_list"], key=lambda job: job["score"])
    assert best["learning_rate"] > 1e-4, "a learning rate of a millionth learns nothing in eight epochs"
    assert len([model for model in house.models() if model.task_id == task]) == 1


def test_a_population_of_eight(digits_house: House) -> None:
    house = digits_house
    house.start_worker(), house.start_worker()
    task = create(house, "population", "jobs=8")
    kill_three_times(house, task, 8 * EPOCHS)
    facts = house.wait(task, seconds=600)
    assert_finished(facts, 8)
    house.assert_trained_once(task, EPOCHS)
    with house.database.read() as session:
        copies = descents(session, task)
        plans = {job.number: values_of(job.plan) for job in session.scalars(select(Job).where(Job.task_id == task))}
    assert copies, "somebody has copied somebody"
    for copy in copies:
        assert copy.number != copy.source and copy.before != copy.after
        assert copy.score is None or copy.score < copy.source_score
        for name, value in copy.after.items():
            low, high = SEARCH_FIELDS[Tuning.POPULATION][name].default
            assert low <= value <= high
    latest = {copy.number: copy.after for copy in copies}
    assert all(plans[number] == values for number, values in latest.items())
