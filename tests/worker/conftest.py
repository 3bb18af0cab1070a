"""A workbench for real small trainings: datasets of drawn images, tiny networks, and a link that writes down what it is told."""

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from small_networks import CLASSIFIER
from sqlalchemy import select

from core.datasets import masks
from core.datasets.importing import import_dataset
from core.db.session import Database
from core.db.tables import AnnotationSet, Dataset, LightJob
from core.events import Progress
from core.settings import Settings
from core.storage import Storage
from core.tasks.hyperparameters import TrainingPlan
from core.vocabulary import AnnotationKind, TaskType
from core.zoo.spec import ModelSpec
from worker import light
from worker.engine.training import train
from worker.link import Ask, TrainingJob, TrainingResult
from worker.workplace import Workplace

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

    def pausing(self) -> bool:
        return False

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

    def waits(self, message: str, remedy: str) -> None:
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

    def several_labels(
        self, images: int = 64, side: int = 32, classes: int = 2, mode: str = "RGB", size: tuple[int, int] | None = None
    ) -> Dataset:
        """Multi-label images: a bright patch in the left half, in the right half, in both or in none; labels beyond the second are not to be seen."""
        random = np.random.default_rng(3)
        folder = self.folder / "several"
        folder.mkdir()
        lines = []
        width, height = size or (side, side)
        for number in range(images):
            pixels = random.integers(0, 60, (height, width, 3), dtype=np.uint8)
            shown = {"left": bool(number & 1), "right": bool(number & 2)} if classes > 1 else {"left": bool(number & 1)}
            if shown["left"]:
                pixels[height // 4 : -height // 4, width // 16 : width // 2 - width // 16] = 230
            if shown.get("right"):
                pixels[height // 4 : -height // 4, width // 2 + width // 16 : -width // 16] = 230
            grey = pixels[..., 0]
            image = Image.fromarray(grey.astype(np.uint16) * 200) if mode == "I;16" else Image.fromarray(pixels).convert(mode)
            image.save(folder / f"{number}.png")
            shown |= {f"other {label}": label % images == number for label in range(classes - 2)}
            lines += [f"{number}.png,{label},{int(value)}" for label, value in shown.items()]
        (folder / "label.csv").write_text("\n".join(lines) + "\n")
        return self.import_folder(folder, "several")

    def squares(
        self,
        images: int = 12,
        classes: int = 2,
        name: str = "squares",
        mode: str = "RGB",
        size: tuple[int, int] = (64, 64),
        empty_every: int = 0,
    ) -> Dataset:
        """A COCO dataset of bright (class 0) and dark (the others) squares on grey noise, with boxes and masks; every so many images show none."""
        random = np.random.default_rng(5)
        folder = self.folder / name
        (folder / "images").mkdir(parents=True)
        width, height = size
        listed, annotations = [], []
        for number in range(1, images + 1):
            grey = random.normal(128, 12, (height, width))
            for place in range(0 if empty_every and number % empty_every == 0 else 2):
                label, side = int(random.integers(classes)), int(random.integers(10, min(24, height - 1)))
                x = int(random.integers(place * width // 2, (place + 1) * width // 2 - side + 1))
                y = int(random.integers(0, height - side + 1))
                grey[y : y + side, x : x + side] = 235 if label == 0 else 20
                mask = np.zeros((height, width), np.uint8)
                mask[y : y + side, x : x + side] = 1
                segmentation = {"size": [height, width], "counts": masks.encode(mask)}
                annotations.append(
                    {"id": len(annotations) + 1, "image_id": number, "category_id": label + 1, "bbox": [x, y, side, side]}
                    | {"area": side * side, "iscrowd": 0, "segmentation": segmentation}
                )
            pixels = np.clip(grey, 0, 255).astype(np.uint8)
            image = Image.fromarray(pixels.astype(np.uint16) * 200 if mode == "I;16" else pixels)
            (image if mode in ("L", "I;16") else image.convert(mode)).save(folder / "images" / f"{number}.png")
            listed.append({"id": number, "file_name": f"{number}.png", "width": width, "height": height})
        categories = [{"id": number + 1, "name": f"shade {number}"} for number in range(classes)]
        document = {"images": listed, "annotations": annotations, "categories": categories}
        (folder / "instances.json").write_text(json.dumps(document))
        return self.import_folder(folder, name)

    def serve_a_light_job(self) -> None:
        """As the light worker does it, once somebody asks; in a thread."""
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            with self.database.read() as session:
                job = session.scalar(select(LightJob))
            if job is not None:
                light._run(Workplace(self.settings, self.database, self.storage), job.id, job.generation)
                return
            time.sleep(0.05)
        raise AssertionError("nobody has asked for anything")

    def job(
        self, dataset: Dataset, *, task: str = "task1", generation: int = 1, spec: ModelSpec = CLASSIFIER, kind: str = "", **plan: Any
    ) -> TrainingJob:
        """A job of one set of hyperparameters: those of PLAN with what is given; on the annotation set of `kind`, or the first."""
        with self.database.read() as session:
            sets: list[AnnotationSet] = session.get_one(Dataset, dataset.id).annotation_sets
            annotation_set = next(one for one in sets if kind in ("", one.kind))
        task_type = next(one for one in TaskType if annotation_set.kind in one.kinds)
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
