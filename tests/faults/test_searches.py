"""Grid, random search and a population on the digits, with two workers of which one at a time is killed: all of it is finished, once.

What was finished is compared with a second run that nobody disturbs. And searches that are stopped or lose their workers at awkward
moments: between slices, while weights are copied, while the last job makes the model.
"""

import json
import os
import random
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest
from sqlalchemy import select

from core.datasets.importing import import_dataset
from core.datasets.samples import write_sample
from core.db.tables import Epoch, Job, Lineage, Task
from core.tasks.actions import stop_task
from core.tasks.states import State
from core.tasks.sweeping import checkpoints_of
from core.tuning.halving import rungs
from core.tuning.lineage import descents
from core.tuning.search import SEARCH_FIELDS, TUNED, values_of
from core.vocabulary import Tuning
from worker.engine.checkpoint import newest_state

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


def create(house: House, tuning: str, *set_: str, dataset: str = "digits") -> str:
    """`stationmaster task create`, as a script calls it; the task's id."""
    words = ["task", "create", "--dataset", dataset, "--name", tuning, "--task-type", "single-label", "--tuning", tuning, "--json"]
    words += ["--network", "mobilenetv3_small_050", "--pretraining", "none"]
    for pair in (f"epochs={EPOCHS}", "image_size=32", "batch_size=32", "horizontal_flip=off", "rotation=off", "resized_crop=off", *set_):
        words += ["--set", pair]
    environment = {**os.environ, "STATIONMASTER_HOME": str(house.settings.home), "STATIONMASTER_OFFLINE": "1"}
    done = subprocess.run([sys.executable, "-m", "bot", *words], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return str(json.loads(done.stdout)["id"])


def two_workers(house: House) -> None:
    """A core for each, as far as there are two: neither slows the other down, and every epoch is computed by as many threads."""
    for place in range(2):
        start_at(house, place)


def start_at(house: House, place: int) -> None:
    """Start the first or second of two workers, in the stead of one that was killed if need be."""
    worker = house.start_worker()
    if hasattr(os, "sched_setaffinity"):
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(worker.pid, {cores[place % len(cores)]})  # before it has torch, which counts them
    house.workers.remove(worker)
    house.workers[place : place + 1] = [worker]


def kill_at(house: House, place: int) -> None:
    """Kill a worker and start another in its place."""
    house.workers[place].kill()
    house.workers[place].wait()
    start_at(house, place)


def at_work(house: House) -> list[int]:
    """Which of the workers hold a job just now."""
    with house.database.read() as session:
        holders = session.scalars(select(Job.worker).where(Job.state == "running")).all()
    horses = {int(holder.split("|")[3]) for holder in holders}
    return [place for place, worker in enumerate(house.workers) if horses & {child.pid for child in psutil.Process(worker.pid).children()}]


def kill_three_times(house: House, task: str, epochs: int) -> None:
    """Kill one of two workers, whichever has a job, thrice in the course of the task, and start another in its place."""
    chance = random.Random(5)
    for kill in range(3):
        house.wait(task, lambda facts, kill=kill: facts["epoch"] >= (kill + 0.7) * epochs / 4, seconds=300)  # type: ignore[misc]
        time.sleep(chance.random() / 4)
        while not (busy := at_work(house)):  # both are between two jobs, or not ready yet
            assert not State(house.facts(task)["state"]).ended
            time.sleep(0.01)
        kill_at(house, chance.choice(busy))


def assert_losses(house: House, task: str) -> None:
    """The kills have cost jobs their workers; one at most may just have let go of its job."""
    assert sum("worker was lost" in event.payload.get("message", "") for event in house.events(task)) >= 2


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


def finished(facts: dict[str, Any]) -> dict[int, tuple[Any, ...]]:
    """What a search has left of each job: its state, its epochs and the values it began with."""
    first = {copy["number"]: copy["before"] for copy in reversed(facts["lineage"])}
    return {
        job["number"]: (job["state"], job["epoch"], *(first.get(job["number"], job)[name] for name in TUNED)) for job in facts["job_list"]
    }


@pytest.mark.parametrize(
    ("tuning", "jobs", "given"),
    [
        ("grid", 4, ("learning_rate=0.003,0.03", "momentum=0.8,0.9", "early_stop=off")),
        ("random", 8, ("jobs=8", "early_stop=off")),
    ],
)
def test_kills_change_nothing_of_a_search(digits_house: House, tuning: str, jobs: int, given: tuple[str, ...]) -> None:
    house = digits_house
    two_workers(house)
    killed = create(house, tuning, *given)
    kill_three_times(house, killed, jobs * EPOCHS)
    disturbed = house.wait(killed, seconds=300)
    assert_finished(disturbed, jobs)
    assert_losses(house, killed)
    house.assert_trained_once(killed, EPOCHS)
    unbroken = create(house, tuning, *given)
    calm = house.wait(unbroken, seconds=300)
    assert_finished(calm, jobs)
    assert finished(disturbed) == finished(calm)
    assert curves(house, killed) == curves(house, unbroken), "every epoch of every job, to the last digit"
    assert disturbed["metrics"] == calm["metrics"]


def test_a_random_search_of_eight_that_ends_the_hopeless_ones(digits_house: House) -> None:
    """Who is ended depends on who comes first, so only what does not is compared: all jobs finish, and the epochs they share are the same."""
    house = digits_house
    two_workers(house)
    given = ("jobs=8", "learning_rate=1e-6..0.1")
    task = create(house, "random", *given)
    kill_three_times(house, task, 4 * EPOCHS)
    facts = house.wait(task, seconds=300)
    assert_finished(facts, 8)
    assert_losses(house, task)
    early = [job for job in facts["job_list"] if job["ended_early"]]
    assert early and all(job["epoch"] in rungs(EPOCHS) and job["state"] == "finished" for job in early)
    best = max(facts["job_list"], key=lambda job: job["score"])
    assert best["learning_rate"] > 1e-4, "a learning rate of a millionth learns nothing in eight epochs"
    assert len(house.models(task)) == 1
    unbroken = create(house, "random", *given)
    calm = house.wait(unbroken, seconds=300)
    assert_finished(calm, 8)
    one, other = curves(house, task), curves(house, unbroken)
    assert one.keys() == other.keys()
    assert all(a == b for number in one for a, b in zip(one[number], other[number], strict=False))


def test_a_population_of_eight(digits_house: House) -> None:
    house = digits_house
    two_workers(house)
    task = create(house, "population", "jobs=8")
    kill_three_times(house, task, 8 * EPOCHS)
    facts = house.wait(task, seconds=600)
    assert_finished(facts, 8)
    assert_losses(house, task)
    house.assert_trained_once(task, EPOCHS)
    unbroken = create(house, "population", "jobs=8")
    calm = house.wait(unbroken, seconds=600)
    assert_finished(calm, 8)
    assert finished(facts) == finished(calm), "the same members, from the same values, through all their epochs"
    # Who copies whom depends on who comes first; until then every member trains as if it were alone.
    one, other = curves(house, task), curves(house, unbroken)
    alone = dict.fromkeys(one, EPOCHS)
    for copy in (*facts["lineage"], *calm["lineage"]):
        alone[copy["number"]] = min(alone[copy["number"]], copy["epoch"])
    assert all(one[number][: alone[number]] == other[number][: alone[number]] for number in one)
    assert sum(alone.values()) >= 8, "at least the first epoch of each"
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


# ---------------------------------------------------------------- awkward moments

FEW_EPOCHS = 10  # of the tiny pictures, each a slice: the moment between two of them is never far


def population(house: House) -> str:
    """Eight members that soon differ much, in short slices."""
    return create(house, "population", "jobs=8", f"epochs={FEW_EPOCHS}", "batch_size=8", "learning_rate=3e-6..0.03", dataset="stripes")


def press_stop(house: House, task: str, mode: str) -> None:
    with house.database.write() as session:
        # The command line made it, by whoever runs the tests.
        stop_task(session, replace(ADA, admin=True), session.get_one(Task, task), mode)


@pytest.mark.parametrize("mode", ["keep", "discard"])
def test_stopped_at_any_moment_with_a_worker_lost_at_the_same_time(house: House, mode: str) -> None:
    """Between slices, while copying, while training: wherever the two workers are just then."""
    chance = random.Random(mode)
    two_workers(house)
    for kill in (False, True, True):
        task = population(house)
        start = chance.uniform(9, 4 * FEW_EPOCHS)
        house.wait(task, lambda facts, start=start: facts["epoch"] >= start)  # type: ignore[misc]
        time.sleep(chance.random() / 5)
        press_stop(house, task, mode)
        if kill:
            kill_at(house, chance.randrange(2))
        facts = house.wait(task)
        assert facts["state"] == "stopped"
        assert facts["jobs"] == {"total": 8, "waiting": 0, "running": 0, "finished": 0, "stopped": 8, "failed": 0}
        kept = house.models(task)
        if mode == "keep":
            assert [model.id for model in kept] == [facts["model_id"]]
            assert facts["metrics"]["accuracy"] == max(job["score"] for job in facts["job_list"] if job["score"] is not None)
        else:
            assert kept == [] and facts["model_id"] is None
        assert sum(event.kind == "stopped" for event in house.events(task)) == 1


def test_a_worker_lost_while_it_copies_leaves_the_copy_to_the_next(house: House) -> None:
    """Killed at the first moment at which the decision can be seen in the database, thrice: every decided copy is made all the same."""
    worker = house.start_worker()
    task = population(house)
    seen = 0
    for _ in range(3):
        facts = house.wait(task, lambda facts, seen=seen: len(facts["lineage"]) > seen)  # type: ignore[misc]
        worker.kill()
        worker.wait()
        seen = len(facts["lineage"])
        worker = house.start_worker()
    with house.database.read() as session:
        decided = session.execute(select(Job.number, Lineage).join(Lineage, Lineage.job_id == Job.id).where(Lineage.task_id == task)).all()
    assert len(decided) >= 3
    for number, copy in decided:
        facts = house.wait(task, lambda facts, number=number, copy=copy: facts["job_list"][number - 1]["epoch"] > copy.epoch)  # type: ignore[misc]
        assert facts["state"] == "running", "checkpoints go with the end of the task"
        state = newest_state(house.storage, f"{checkpoints_of(task)}/{number}/checkpoint")["state"]
        assert state["copied"] >= copy.generation, "it went on with the weights of another"
    facts = house.wait(task, seconds=300)
    assert_finished(facts, 8)
    house.assert_trained_once(task, FEW_EPOCHS)
    with house.database.read() as session:
        jobs = {job.number: job.id for job in session.scalars(select(Job).where(Job.task_id == task))}
        for copy in descents(session, task):
            trained = session.get_one(Epoch, (jobs[copy.number], copy.epoch + 1)).values
            assert trained["learning_rate"] == pytest.approx(copy.after["learning_rate"]), "its next epoch was trained with the new values"


def test_the_last_job_s_worker_is_lost_while_it_makes_the_model(house: House) -> None:
    two_workers(house)
    given = ("learning_rate=0.003,0.01", "epochs=6", "early_stop=off", "batch_size=8")
    task = create(house, "grid", *given, dataset="stripes")

    def making(_: dict[str, Any]) -> bool:
        with house.database.read() as session:
            return bool(session.scalars(select(Job.id).where(Job.task_id == task, Job.ending != "")).all())

    house.wait(task, making)
    for worker in house.workers:
        worker.kill()
        worker.wait()
    assert house.facts(task)["state"] == "running", "the model is not yet made"
    house.workers.clear()
    house.start_worker()
    facts = house.wait(task)
    assert_finished(facts, 2)
    house.assert_trained_once(task, 6)


def test_a_stop_while_the_model_is_made_still_decides_what_is_kept(house: House) -> None:
    house.start_worker()
    for mode, models in (("discard", 0), ("keep", 1)):
        task = create(house, "grid", "learning_rate=0.003,0.01", "epochs=4", "early_stop=off", "batch_size=8", dataset="stripes")

        def making(facts: dict[str, Any], task: str = task) -> bool:
            with house.database.read() as session:
                return bool(session.scalars(select(Job.id).where(Job.task_id == task, Job.ending != "")).all())

        house.wait(task, making)
        press_stop(house, task, mode)
        facts = house.wait(task)
        assert facts["state"] == ("stopped" if mode == "discard" else "finished")
        assert len(house.models(task)) == models
        assert facts["jobs"]["finished"] == 2
