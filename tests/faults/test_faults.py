"""Whatever is killed, emptied or away: the task finishes, once, and no epoch that was checkpointed is trained again."""

import os
import signal
import time

import psutil
import pytest
from sqlalchemy import select

from core.db.tables import Job, Task, WorkerDevice
from core.queue import enqueue, worker_count
from core.tasks.actions import stop_task
from core.tasks.lifecycle import FencedError, claim_job, heartbeat
from core.tasks.states import State

from .conftest import ADA, House

EPOCHS = 30


def test_work_horse_killed(shared_house: House) -> None:
    house, worker = shared_house, shared_house.living_worker()
    task = house.create(epochs=EPOCHS)
    house.wait(task, lambda facts: facts["epoch"] >= 3)
    os.kill(house.work_horse(worker), signal.SIGKILL)
    house.wait(task, lambda facts: facts["attempts"] == 2, seconds=15)
    facts = house.wait(task)
    assert (facts["state"], facts["attempts"]) == ("finished", 2)
    assert worker.poll() is None
    house.assert_trained_once(task, EPOCHS)
    told = [event.payload.get("message", "") for event in house.events(task)]
    assert any("worker was lost" in message for message in told)
    assert not any("half as many" in message for message in told), "memory did not run out"


def test_worker_killed(shared_house: House) -> None:
    house, worker = shared_house, shared_house.living_worker()
    task = house.create(epochs=EPOCHS)
    house.wait(task, lambda facts: facts["epoch"] >= 3)
    horse = psutil.Process(house.work_horse(worker))
    worker.kill()
    worker.wait()
    _, alive = psutil.wait_procs([horse], timeout=2)
    living = [one for one in alive if one.is_running() and one.status() != psutil.STATUS_ZOMBIE]  # init may be late to bury it
    assert not living, "a work-horse dies with its worker"
    house.start_worker()
    facts = house.wait(task)
    assert (facts["state"], facts["attempts"]) == ("finished", 2)
    house.assert_trained_once(task, EPOCHS)


def test_told_to_end(shared_house: House) -> None:
    """SIGTERM: the job is checkpointed in the midst of an epoch and handed back; the worker is gone in a few seconds."""
    house, worker = shared_house, shared_house.living_worker()
    task = house.create(epochs=EPOCHS)
    house.wait(task, lambda facts: facts["epoch"] >= 3)
    began = time.monotonic()
    worker.terminate()
    assert worker.wait(20) == 0
    assert time.monotonic() - began < 10
    assert house.facts(task)["state"] == "waiting"
    house.start_worker()
    facts = house.wait(task)
    assert (facts["state"], facts["attempts"]) == ("finished", 2)
    house.assert_trained_once(task, EPOCHS)


@pytest.mark.long
def test_an_idle_worker_told_to_end(house: House) -> None:
    worker = house.start_worker()
    deadline = time.monotonic() + 60
    while worker_count(house.redis, house.settings, "gpu") == 0:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    with house.database.read() as session:
        while not (shown := session.scalars(select(WorkerDevice)).all()):  # what the advice plans with
            assert time.monotonic() < deadline
            session.rollback()
            time.sleep(0.1)
    assert shown[0].memory_bytes > 0
    began = time.monotonic()
    worker.terminate()
    assert worker.wait(20) == 0
    assert time.monotonic() - began < 5
    assert worker_count(house.redis, house.settings, "gpu") == 0


@pytest.mark.long
def test_queue_killed_and_back_while_training(house: House) -> None:
    worker = house.start_worker()
    task = house.create(epochs=60)
    house.wait(task, lambda facts: facts["epoch"] >= 3)
    os.kill(house.valkey.pid or 0, signal.SIGKILL)
    time.sleep(12)
    house.valkey.start()
    assert house.wait(task)["attempts"] == 1, "the training was not disturbed"
    house.assert_trained_once(task, 60)
    other = house.create(epochs=1)
    house.wait(other)
    assert worker.poll() is None, "and its worker lives on"


@pytest.mark.long
def test_queue_away_while_idle(house: House) -> None:
    worker = house.start_worker()
    house.wait(house.create(epochs=1))
    os.kill(house.valkey.pid or 0, signal.SIGKILL)
    time.sleep(13)
    waiting = house.create(epochs=1)
    assert house.facts(waiting)["state"] == "waiting"
    house.valkey.start()
    assert house.wait(waiting)["state"] == "finished"
    assert worker.poll() is None


@pytest.mark.long
def test_queue_emptied_with_twenty_waiting(house: House) -> None:
    worker = house.start_worker()
    tasks = [house.create(f"t{number}", epochs=1) for number in range(20)]
    house.wait(tasks[0], lambda facts: facts["state"] != "waiting")
    house.redis.flushall()
    for task in tasks:
        assert house.wait(task, seconds=240)["state"] == "finished"
        house.assert_trained_once(task, 1)
    assert worker.poll() is None
    assert worker_count(house.redis, house.settings, "gpu") == 1, "the worker has shown itself anew"


@pytest.mark.parametrize("mode", ["keep", "discard"])
def test_stop(shared_house: House, mode: str) -> None:
    house = shared_house
    house.living_worker()
    task = house.create(epochs=200)
    house.wait(task, lambda facts: facts["epoch"] >= 3)
    began = time.monotonic()
    with house.database.write() as session:
        stop_task(session, ADA, session.get_one(Task, task), mode)
    facts = house.wait(task, seconds=60)
    assert time.monotonic() - began < 30
    assert facts["state"] == "stopped"
    assert facts["epoch"] < 200
    if mode == "keep":
        assert 0 < facts["metrics"]["accuracy"] <= 1
        assert [model.id for model in house.models(task)] == [facts["model_id"]]
        assert house.storage.exists(f"{house.models(task)[0].key}/model.safetensors")
    else:
        assert (facts["metrics"], facts["model_id"], house.models(task)) == ({}, None, [])
        deadline = time.monotonic() + 5  # the checkpoints go right after the end is told
        while house.storage.list(f"tasks/{task}/jobs"):
            assert time.monotonic() < deadline
            time.sleep(0.05)


@pytest.mark.long
def test_the_same_entry_twice_in_the_queue(house: House) -> None:
    """Enqueued twice under one generation, by whatever accident, and taken by two workers: trained by one."""
    house.start_worker()
    house.start_worker()
    task = house.create(epochs=EPOCHS)
    house.wait(task, lambda facts: facts["epoch"] >= 2)
    with house.database.read() as session:
        job = session.scalars(select(Job).where(Job.task_id == task)).one()
    house.redis.delete(f"rq:job:{job.id}-g1")
    assert enqueue(house.redis, house.settings, "gpu", job.id, 1)
    facts = house.wait(task)
    assert (facts["state"], facts["attempts"]) == ("finished", 1)
    house.assert_trained_once(task, EPOCHS)


@pytest.mark.long
def test_a_zombie_is_fenced(house: House) -> None:
    """A work-horse that was stopped still, given up and succeeded wakes up again: it writes nothing more and leaves."""
    worker = house.start_worker()
    task = house.create(epochs=EPOCHS)
    house.wait(task, lambda facts: facts["epoch"] >= 3)
    horse = psutil.Process(house.work_horse(worker))
    horse.suspend()
    with house.database.write() as session:
        job = session.scalars(select(Job).where(Job.task_id == task)).one()
        job.heartbeat_at = job.started_at.replace(year=2000)  # half a minute of silence
    house.start_worker()  # a living one to go on
    house.wait(task, lambda facts: facts["attempts"] == 2, seconds=90)
    horse.resume()
    facts = house.wait(task)
    assert facts["state"] == "finished"
    house.assert_trained_once(task, EPOCHS)
    _, alive = psutil.wait_procs([horse], timeout=20)
    assert not alive


@pytest.mark.long
def test_many_jobs_on_two_workers_with_three_kills(house: House) -> None:
    workers = [house.start_worker(), house.start_worker()]
    task = house.create(jobs=6, epochs=10)
    for kill in range(3):
        house.wait(task, lambda facts, kill=kill: facts["epoch"] >= 5 + 12 * kill, seconds=240)  # type: ignore[misc]
        victim = workers[kill % 2]
        victim.kill()
        victim.wait()
        workers[kill % 2] = house.start_worker()
    facts = house.wait(task, seconds=240)
    assert facts["state"] == "finished"
    assert facts["jobs"] == {"total": 6, "waiting": 0, "running": 0, "finished": 6, "stopped": 0, "failed": 0}
    house.assert_trained_once(task, 10)


@pytest.mark.long
def test_a_dead_worker_of_another_host_is_given_up(house: House) -> None:
    """Where nothing can be proved, silence decides."""
    task = house.create(epochs=2)
    with house.database.write() as session:
        job = session.scalars(select(Job).where(Job.task_id == task)).one()
        assert claim_job(session, job.id, 1, worker="elsewhere|boot|namespace|1|2", device="CPU") is not None
    house.start_worker()
    facts = house.wait(task, seconds=120)
    assert (facts["state"], facts["attempts"]) == ("finished", 2)
    with pytest.raises(FencedError), house.database.write() as session:
        heartbeat(session, job.id, 1)


@pytest.mark.long
def test_a_dataset_that_vanished_is_a_clear_message(house: House) -> None:
    house.storage.delete(f"datasets/{house.dataset.id}")
    house.start_worker()
    task = house.create(epochs=1)
    deadline = time.monotonic() + 60
    while not State((facts := house.facts(task))["state"]).ended:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert facts["state"] == "error"
    assert facts["error"] and facts["error_remedy"]
    assert "Traceback" not in facts["error"]
