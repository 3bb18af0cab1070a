"""A workbench for real small trainings: datasets of drawn images, tiny networks, and a link that writes down what it is told."""

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # before torch is loaded: see worker/__init__.py

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from core.datasets.importing import import_dataset
from core.db.session import Database
from core.db.tables import AnnotationSet, Dataset
from core.events import Progress
from core.settings import Settings
from core.storage import Storage
from core.tasks.hyperparameters import TrainingPlan
from core.vocabulary import AnnotationKind, TaskType
from core.zoo.spec import ModelSpec
from worker.engine.training import train
from worker.link import Ask, TrainingJob, TrainingResult

TINY = ModelSpec(
    network="test_resnet",
    pretraining="none",
    library="timm",
    family="test",
    variation="test",
    task_types=(TaskType.SINGLE_LABEL, TaskType.MULTI_LABEL),
    recipe="convolutional",
    parameters=470_000,
    gmacs=0.02,
    input_size=160,
    licence="",
    mean=(0.5, 0.5, 0.5),
    std=(0.5, 0.5, 0.5),
)
PLAN: dict[str, Any] = {
    "batch_size": 16,
    "epochs": 3,
    "image_size": 32,
    "optimizer": "adamw",
    "learning_rate": 3e-3,
    "learning_rate_schedule": "cosine",
    "validation_percent": 25,
    "horizontal_flip": False,
    "resized_crop": False,
    "rotation": False,
    "colour_jitter": False,
}


@dataclass
class RecordingLink:
    """What the engine tells, written down. `script` may change what is asked, given the number of askings so far."""

    script: Callable[["RecordingLink"], Ask] = lambda link: Ask.GO_ON
    asked_times: int = 0
    epochs: list[tuple[int, dict[str, Any]]] = field(default_factory=list)
    bests: list[int] = field(default_factory=list)
    events: list[Progress] = field(default_factory=list)
    notices: list[str] = field(default_factory=list)

    def asked(self) -> Ask:
        self.asked_times += 1
        return self.script(self)

    def progress(self, event: Progress) -> None:
        self.events.append(event)

    def epoch_ended(
        self, number: int, values: dict[str, Any], *, score: float, metrics: dict[str, Any], is_best: bool, event: Progress
    ) -> None:
        assert event.epoch == number and event.epoch_ended
        self.epochs.append((number, values))
        if is_best:
            self.bests.append(number)

    def noticed(self, message: str, remedy: str = "") -> None:
        self.notices.append(message)


@dataclass
class Workbench:
    """Makes datasets and trains on them."""

    database: Database
    storage: Storage
    settings: Settings
    folder: Path

    def import_folder(self, source: Path, name: str = "shapes") -> Dataset:
        return import_dataset(
            self.database, self.storage, self.settings, workspace="default", person="cli:test", name=name, source=str(source)
        )

    def stripes(
        self,
        per_class: int = 24,
        side: int = 32,
        classes: int = 2,
        name: str = "stripes",
        mode: str = "RGB",
        size: tuple[int, int] | None = None,
    ) -> Dataset:
        """Class folders of noisy stripes that differ by their direction; nothing but the direction tells the classes apart."""
        random = np.random.default_rng(7)
        width, height = size or (side, side)
        for label in range(classes):
            (self.folder / name / f"direction {label}").mkdir(parents=True)
            angle = np.pi * label / max(2, classes)
            for number in range(per_class):
                y, x = np.mgrid[0:height, 0:width] / min(width, height)
                wave = np.sin(2 * np.pi * (3 * (x * np.cos(angle) + y * np.sin(angle)) + random.random()))
                grey = np.clip(128 + 80 * wave + random.normal(0, 15, wave.shape), 0, 255).astype(np.uint8)
                image = Image.fromarray(grey.astype(np.uint16) * 200 if mode == "I;16" else grey)
                image = image if mode in ("L", "I;16") else image.convert(mode)
                image.save(self.folder / name / f"direction {label}" / f"{number}.png")
        return self.import_folder(self.folder / name, name)

    def several_labels(self, images: int = 64, side: int = 32) -> Dataset:
        """Multi-label images: a bright patch in the left half, in the right half, in both or in none."""
        random = np.random.default_rng(3)
        folder = self.folder / "several"
        folder.mkdir()
        lines = []
        for number in range(images):
            pixels = random.integers(0, 60, (side, side, 3), dtype=np.uint8)
            left, right = bool(number & 1), bool(number & 2)
            if left:
                pixels[8:24, 2:14] = 230
            if right:
                pixels[8:24, 18:30] = 230
            Image.fromarray(pixels).save(folder / f"{number}.png")
            lines += [f"{number}.png,left,{int(left)}", f"{number}.png,right,{int(right)}"]
        (folder / "label.csv").write_text("\n".join(lines) + "\n")
        return self.import_folder(folder, "several")

    def job(self, dataset: Dataset, *, task: str = "task1", generation: int = 1, spec: ModelSpec = TINY, **plan: Any) -> TrainingJob:
        """A job of one set of hyperparameters: those of PLAN with what is given."""
        with self.database.read() as session:
            annotation_set: AnnotationSet = session.get_one(Dataset, dataset.id).annotation_sets[0]
        task_type = TaskType.MULTI_LABEL if annotation_set.kind == "multi-label" else TaskType.SINGLE_LABEL
        return TrainingJob(
            task_id=task,
            job_id=f"{task}-1",
            job_number=1,
            generation=generation,
            task_name="A test",
            task_type=task_type,
            spec=spec,
            plan=TrainingPlan(**{**PLAN, **plan}),
            dataset_id=dataset.id,
            dataset_name=dataset.name,
            annotation_set_id=annotation_set.id,
            annotation_kind=AnnotationKind(annotation_set.kind),
            classes=tuple(annotation_set.classes),
        )

    def train(self, job: TrainingJob, link: RecordingLink | None = None) -> tuple[TrainingResult, RecordingLink]:
        link = link or RecordingLink()
        return train(job, database=self.database, storage=self.storage, settings=self.settings, link=link), link


@pytest.fixture
def bench(database: Database, storage: Storage, settings: Settings, tmp_path: Path) -> Iterator[Workbench]:
    folder = tmp_path / "sources"
    folder.mkdir()
    yield Workbench(database, storage, settings, folder)


@pytest.fixture
def recording_link() -> type[RecordingLink]:
    return RecordingLink


@pytest.fixture
def other_generation() -> Callable[[TrainingJob, int], TrainingJob]:
    return lambda job, generation: replace(job, generation=generation)
