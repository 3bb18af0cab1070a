"""What past jobs teach, in an installation with many of them."""

import itertools
from datetime import timedelta
from typing import Any

import pytest
from new_tasks import training_of
from sqlalchemy import insert

from core.clock import now
from core.db.session import Database
from core.db.tables import Epoch, Job
from core.identifiers import new_id
from core.settings import Settings
from core.tasks.creation import create_task
from core.tasks.hyperparameters import TrainingPlan
from core.zoo import catalogue
from core.zoo.estimates import PAST_JOBS, RECENT_JOBS, Experience, learn, planned_rate, work
from core.zoo.facts import DeviceFacts

CPU = DeviceFacts("cpu", 8_000_000_000, 2, name="CPU")
GPU = DeviceFacts("cuda", 80_000_000_000, 16, name="a large GPU")
SPEC = catalogue.find_spec("resnet18", "none")
PLAN = TrainingPlan(image_size=128, batch_size=32, epochs=1)


class Past:
    """Finished jobs, each ended after the one before."""

    def __init__(self, database: Database, settings: Settings, dataset: Any) -> None:
        self.database, self._numbers, self._start = database, itertools.count(2), now() - timedelta(days=9)
        new = training_of(dataset, plans=[PLAN])
        with database.write() as session:
            self._task_id = create_task(session, settings, new).id

    def add(self, count: int, device: str, times_planned: float) -> None:
        """So many jobs that kept so many times the speed that is planned with on the CPU."""
        speed = times_planned * planned_rate(CPU) / work(SPEC, 128, "cpu")
        jobs = []
        for number in itertools.islice(self._numbers, count):
            row = {"id": new_id(), "task_id": self._task_id, "number": number, "plan": PLAN.model_dump(), "state": "finished"}
            jobs.append(row | {"device": device, "epoch": 1, "finished_at": self._start + timedelta(seconds=number)})
        with self.database.write() as session:
            session.execute(insert(Job), jobs)
            session.execute(insert(Epoch), [{"job_id": job["id"], "number": 1, "values": {"images_per_second": speed}} for job in jobs])

    def cost(self, devices: DeviceFacts) -> int:
        """Of learning from them, in hundreds of instructions of SQLite's machine."""
        count = 0

        def counted() -> None:
            nonlocal count
            count += 1

        with self.database.read() as session:
            driver: Any = session.connection().connection.driver_connection
            driver.set_progress_handler(counted, 100)
            learn(session, devices)
            driver.set_progress_handler(None, 0)
        return count


@pytest.fixture
def past(database: Database, settings: Settings, add_dataset: Any) -> Past:
    return Past(database, settings, add_dataset("cells"))


@pytest.mark.parametrize("devices", [CPU, GPU, DeviceFacts("cuda", name="a GPU that was never trained on")], ids=lambda found: found.name)
def test_advice_takes_no_longer_with_five_times_as_many_tasks(past: Past, devices: DeviceFacts) -> None:
    for _ in range(2):
        past.add(RECENT_JOBS // 2, "CPU, 2 cores", 1.0)
        past.add(RECENT_JOBS // 2, GPU.name, 1.0)
    before = past.cost(devices)
    past.add(4 * RECENT_JOBS, "CPU, 2 cores", 1.0)
    past.add(4 * RECENT_JOBS - RECENT_JOBS // 2, "CPU, 2 cores", 1.0)
    past.add(RECENT_JOBS // 2, GPU.name, 1.0)
    assert 0 < past.cost(devices) < 1.2 * before


def test_the_last_jobs_on_such_a_device_count(past: Past, database: Database) -> None:
    past.add(PAST_JOBS, "CPU, 2 cores", 0.1)
    past.add(PAST_JOBS, "CPU, 2 cores", 2.0)
    past.add(RECENT_JOBS - PAST_JOBS, GPU.name, 1.0)
    with database.read() as session:
        seen = learn(session, CPU)
    assert seen.jobs == {SPEC.recipe: PAST_JOBS}
    assert seen.macs_per_second[SPEC.recipe] == pytest.approx(2 * planned_rate(CPU), rel=0.01), "the slow ones before are history"

    past.add(PAST_JOBS, GPU.name, 1.0)
    with database.read() as session:
        assert learn(session, CPU) == Experience(), "nothing has been trained on a CPU for a thousand jobs"
        assert learn(session, GPU).jobs == {SPEC.recipe: PAST_JOBS}
