"""One job on two devices (here two processes that share the cores): it ends once, whoever of them is killed, and hears a pause."""

import os
import signal
import time

import psutil
import pytest

from core.datasets.records import load_records
from core.datasets.splitting import load_or_create_split
from core.db.tables import Task
from core.vocabulary import AnnotationKind
from worker.engine.data import batches_of, epoch_order

from .conftest import House

EPOCHS = 12


def ranks(worker_pid: int) -> list[psutil.Process]:
    """The processes of the team that live."""
    found = []
    for child in psutil.Process(worker_pid).children(recursive=True):
        try:
            if "worker.rank" in child.cmdline():
                found.append(child)
        except (psutil.NoSuchProcess, psutil.ZombieProcess):
            continue
    return found


@pytest.mark.long
def test_two_devices_train_one_job(house: House) -> None:
    worker = house.start_worker(devices_per_job="2")
    task = house.create(epochs=EPOCHS)
    facts = house.wait(task)
    assert (facts["state"], facts["attempts"]) == ("finished", 1)
    assert facts["devices"][0].startswith("2 × ")
    house.assert_trained_once(task, EPOCHS)
    _gone, alive = psutil.wait_procs(ranks(worker.pid), timeout=20)
    assert not alive


@pytest.mark.long
@pytest.mark.parametrize("which", [0, 1], ids=["leader", "follower"])
def test_a_killed_process_of_a_team(house: House, which: int) -> None:
    worker = house.start_worker(devices_per_job="2")
    task = house.create(epochs=EPOCHS)
    house.wait(task, lambda facts: facts["epoch"] >= 3)
    team = sorted(ranks(worker.pid), key=lambda process: process.environ()["RANK"])
    assert len(team) == 2
    team[which].kill()
    house.wait(task, lambda facts: facts["attempts"] == 2, seconds=40)
    facts = house.wait(task)
    assert (facts["state"], facts["attempts"]) == ("finished", 2), (facts["error"], house.log.read_text()[-3000:])
    house.assert_trained_once(task, EPOCHS)
    assert any(f"device {which + 1} of 2" in event.payload.get("message", "") for event in house.events(task))


@pytest.mark.long
def test_a_team_dies_with_its_worker(house: House) -> None:
    worker = house.start_worker(devices_per_job="2")
    task = house.create(epochs=EPOCHS)
    house.wait(task, lambda facts: facts["epoch"] >= 2)
    team = ranks(worker.pid)
    worker.kill()
    worker.wait()
    gone, alive = psutil.wait_procs(team, timeout=20)
    assert len(gone) == 2 and not alive
    house.start_worker(devices_per_job="2")
    facts = house.wait(task)
    assert facts["state"] == "finished"
    house.assert_trained_once(task, EPOCHS)


@pytest.mark.long
def test_a_team_told_to_end(house: House) -> None:
    """SIGTERM: checkpointed by the leader, heard by all, handed back; one device goes on with what two have begun."""
    worker = house.start_worker(devices_per_job="2")
    task = house.create(epochs=EPOCHS)
    house.wait(task, lambda facts: facts["epoch"] >= 3)
    began = time.monotonic()
    os.kill(worker.pid, signal.SIGTERM)
    assert worker.wait(30) == 0
    assert time.monotonic() - began < 15
    assert house.facts(task)["state"] == "waiting", house.log.read_text()[-3000:]
    house.start_worker()
    facts = house.wait(task)
    assert (facts["state"], facts["attempts"]) == ("finished", 2)
    house.assert_trained_once(task, EPOCHS)


@pytest.mark.long
def test_a_team_that_diverges_says_so(house: House) -> None:
    """All processes come to it at the same step: the leader has the time to record it, and nobody is said to be lost."""
    house.start_worker(devices_per_job="2")
    wild = {"optimizer": "sgd", "learning_rate": 1.0, "momentum": 0.99, "weight_decay": 0.1, "learning_rate_schedule": "constant"}
    facts = house.wait(house.create(epochs=200, **wild))
    assert facts["attempts"] == 1, house.log.read_text()[-3000:]
    said = [facts["error"], *(event.payload.get("message", "") for event in house.events(facts["id"]))]
    assert any("diverged" in text for text in said)
    assert facts["state"] == ("finished" if facts["epoch"] else "error")


@pytest.mark.long
def test_what_a_process_that_does_not_lead_cannot_read_is_told(house: House) -> None:
    """In its words, as on one device; it was lost five times, and a smaller batch size was advised."""
    task = house.create(validation_percent=25, seed=0)
    with house.database.read() as session:
        annotations = session.get_one(Task, task).annotation_set_id
        records = load_records(session, house.dataset.id, annotations)
    split = load_or_create_split(house.storage, f"tasks/{task}/split.json", records, AnnotationKind.SINGLE_LABEL, 25, 0)
    last_of_first_batch = split.train[batches_of(epoch_order(len(split.train), 0, 1), 8)[0][-1]]
    (gone,) = [record for record in records if record.position == last_of_first_batch]
    house.storage.delete(gone.key)
    house.start_worker(devices_per_job="2", cache_bytes="1")  # images are decoded as they are asked for
    facts = house.wait(task)
    assert (facts["state"], facts["attempts"]) == ("error", 1), house.log.read_text()[-3000:]
    assert f"The image {gone.path} of the dataset cannot be read any more" in facts["error"]
    assert "(of 1): the training failed" in house.log.read_text()
