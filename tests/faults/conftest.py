"""The whole back of the house for real: Valkey, worker processes, a small dataset of images, trainings that really train."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from new_tasks import training_of
from PIL import Image
from redis import Redis
from sqlalchemy import select

from bot.terminal.embedded_valkey import EmbeddedValkey
from core.access import Actor
from core.datasets.importing import import_dataset
from core.db.migrate import upgrade
from core.db.session import Database
from core.db.tables import Dataset, Epoch, Event, Job, Model, Task
from core.queue import connect
from core.settings import Settings
from core.storage import Storage
from core.tasks.creation import create_task
from core.tasks.dispatcher import nudge
from core.tasks.hyperparameters import TrainingPlan
from core.tasks.listing import task_json
from core.tasks.states import State

ROOT = Path(__file__).parents[2]
ADA = Actor("default", "cli:ada", "Ada")


@dataclass
class House:
    """One installation under test."""

    settings: Settings
    database: Database
    storage: Storage
    valkey: EmbeddedValkey
    dataset: Dataset
    log: Path
    workers: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @property
    def redis(self) -> Redis:
        return connect(self.settings)

    def start_worker(self, kind: str = "gpu", **settings: str) -> subprocess.Popen[bytes]:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("STATIONMASTER_")}
        environment |= {"STATIONMASTER_HOME": str(self.settings.home), "STATIONMASTER_OFFLINE": "1", "STATIONMASTER_HEARTBEAT_SECONDS": "1"}
        environment |= {f"STATIONMASTER_{name.upper()}": value for name, value in settings.items()}
        with self.log.open("ab") as log:
            process = subprocess.Popen([sys.executable, "-m", "worker", "--kind", kind], cwd=ROOT, env=environment, stdout=log, stderr=log)
        self.workers.append(process)
        return process

    def living_worker(self) -> subprocess.Popen[bytes]:
        """A worker that another test has left, or a new one."""
        return next((worker for worker in self.workers if worker.poll() is None), None) or self.start_worker()

    def create(self, name: str = "cells", *, jobs: int = 1, **values: Any) -> str:
        usual = {"epochs": 30, "batch_size": 8, "image_size": 32, "early_stop": False, "learning_rate": 0.01}
        plan = TrainingPlan(**usual | values)
        new = training_of(
            self.dataset,
            person=ADA.person,
            name=name,
            network="mobilenetv3_small_050",
            plans=[plan.model_copy(update={"seed": seed}) for seed in range(jobs)],
        )
        with self.database.write() as session:
            task = create_task(session, self.settings, new)
        nudge(self.database, self.settings)
        return task.id

    def facts(self, task_id: str) -> dict[str, Any]:
        with self.database.read() as session:
            return task_json(session, session.get_one(Task, task_id), with_jobs=True)

    def wait(self, task_id: str, until: Callable[[dict[str, Any]], bool] | None = None, seconds: float = 120) -> dict[str, Any]:
        """The task's facts once they are so; by default once it has ended."""
        until = until or (lambda facts: State(facts["state"]).ended)
        deadline = time.monotonic() + seconds
        while not until(facts := self.facts(task_id)):
            if time.monotonic() > deadline or (State(facts["state"]).ended and facts["state"] == "error"):
                raise AssertionError(f"{facts}\n{self.log.read_text()[-5000:]}")
            time.sleep(0.03)
        return facts

    def events(self, task_id: str) -> list[Event]:
        with self.database.read() as session:
            return list(session.scalars(select(Event).where(Event.task_id == task_id).order_by(Event.number)))

    def models(self, task_id: str) -> list[Model]:
        with self.database.read() as session:
            return list(session.scalars(select(Model).where(Model.task_id == task_id)))

    def work_horse(self, worker: subprocess.Popen[bytes]) -> int:
        """The process id of the worker's present work-horse."""
        with self.database.read() as session:
            job = session.scalars(select(Job).where(Job.state.in_(("running", "stopping")))).first()
        assert job is not None
        pid = int(job.worker.split("|")[3])
        assert pid != worker.pid
        return pid

    def assert_trained_once(self, task_id: str, epochs: int) -> None:
        """Every epoch was trained, and none again after it had been checkpointed; the task ended once, with one model."""
        events = self.events(task_id)
        assert [event.number for event in events] == list(range(1, len(events) + 1))
        assert sum(event.kind in ("finished", "stopped", "failed") for event in events) == 1
        with self.database.read() as session:
            for job in session.scalars(select(Job).where(Job.task_id == task_id)):
                stored = session.scalars(select(Epoch.number).where(Epoch.job_id == job.id).order_by(Epoch.number)).all()
                assert stored == list(range(1, epochs + 1))
                done = 0
                for event in (event for event in events if event.job_id == job.id):
                    if event.kind == "started":
                        assert event.payload["resumed_epoch"] == done
                    elif event.kind == "progress":
                        # Steps of the next epoch may be told of before this one's checkpoint is safe, and with it its end.
                        assert event.payload["epoch"] > done, "an epoch that was checkpointed is trained again"
                        done += event.payload["epoch_ended"]
        models = self.models(task_id)
        assert len(models) == 1
        assert self.storage.exists(f"{models[0].key}/model.safetensors")


@pytest.fixture(scope="session")
def tiny_images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forty pictures of two kinds that a tiny network tells apart: stripes across and stripes down."""
    random = np.random.default_rng(0)
    folder = tmp_path_factory.mktemp("images")
    for number in range(40):
        stripes = np.tile(np.repeat([40, 200], 4), 4).astype(np.float64)
        pixels = np.broadcast_to(stripes, (32, 32)) if number % 2 else np.broadcast_to(stripes[:, None], (32, 32))
        pixels = np.clip(pixels + random.normal(0, 20, (32, 32)), 0, 255).astype(np.uint8)
        path = folder / ("down" if number % 2 else "across") / f"{number:02}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(pixels).convert("RGB").save(path)
    return folder


@contextmanager
def built(folder: Path, images: Path) -> Iterator[House]:
    """A house in `folder` with the images as its dataset, and its queue's server; its workers end with it."""
    settings = Settings(home=folder / "home", offline=True)
    database = Database.of(settings)
    upgrade(database)
    storage = Storage.of(settings)
    dataset = import_dataset(database, storage, settings, workspace="default", person=ADA.person, name="stripes", source=str(images))
    with database.read() as session:
        dataset = session.get_one(Dataset, dataset.id)
        assert dataset.annotation_sets
    valkey = EmbeddedValkey(settings)
    valkey.start()
    house = House(settings, database, storage, valkey, dataset, folder / "workers.log")
    try:
        yield house
    finally:
        for worker in house.workers:
            if worker.poll() is None:
                worker.send_signal(signal.SIGKILL)
            worker.wait()
        valkey.stop()
        database.engine.dispose()


@pytest.fixture
def house(tmp_path: Path, tiny_images: Path) -> Iterator[House]:
    """A house of the test's own."""
    with built(tmp_path, tiny_images) as house:
        yield house


@pytest.fixture(scope="module")
def shared_house(tmp_path_factory: pytest.TempPathFactory, tiny_images: Path) -> Iterator[House]:
    """One house for a module's tests that leave a living worker behind: each worker takes seconds to start."""
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("STATIONMASTER_")]:
            patch.delenv(name)
        with built(tmp_path_factory.mktemp("shared"), tiny_images) as house:
            yield house
