"""What the training benchmarks share: images that tell something, an installation in a folder, jobs, and a link that only listens."""

import json
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))
import worker  # noqa: E402, F401  # before torch: it says how threads wait


def on_device(asked: str) -> None:
    """Have everything in this process and its children run on `cpu`, `cuda`, or the best there is (empty). Call before torch is imported."""
    if asked == "cpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    elif asked == "cuda":
        import torch

        if not torch.cuda.is_available():
            sys.exit("There is no GPU that torch can use here.")


WIDTH, HEIGHT = 500, 375
EVERYTHING = {  # all augmentations of the reference flow, at its own strengths
    "horizontal_flip": True,
    "resized_crop": True,
    "translation": True,
    "translation_percent": 5,
    "rotation": True,
    "rotation_degrees": 180,
    "colour_jitter": True,
}


def write_images(folder: Path, count: int, *, boxes: bool = False) -> None:
    """`count` JPEGs of pieces of photographs, each with one large handwritten digit: in a folder per digit, or in COCO format with its box."""
    import numpy as np
    from PIL import Image

    from core.datasets.samples import load_digits
    from core.datasets.scattered_digits import load_photographs

    random = np.random.default_rng(0)
    pictures, labels = load_digits()
    photographs = load_photographs()
    listed: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number in range(1, count + 1):
        chosen = int(random.integers(len(pictures)))
        photograph = photographs[int(random.integers(len(photographs)))]
        scale = random.uniform(0.4, 1) * min(photograph.width / WIDTH, photograph.height / HEIGHT)
        left, top = random.uniform(0, photograph.width - WIDTH * scale), random.uniform(0, photograph.height - HEIGHT * scale)
        image = photograph.resize((WIDTH, HEIGHT), Image.Resampling.BILINEAR, box=(left, top, left + WIDTH * scale, top + HEIGHT * scale))
        side = int(random.integers(150, 330))
        opacity = Image.fromarray(pictures[chosen]).resize((side, side), Image.Resampling.BICUBIC)
        x, y = int(random.integers(0, WIDTH - side)), int(random.integers(0, HEIGHT - side))
        image.paste(Image.new("RGB", (side, side), tuple(int(value) for value in random.choice([10, 245], 3))), (x, y), opacity)
        place = folder / ("images" if boxes else str(labels[chosen]))
        place.mkdir(parents=True, exist_ok=True)
        image.save(place / f"{number:05d}.jpg", quality=90)
        listed.append({"id": number, "file_name": f"{number:05d}.jpg", "width": WIDTH, "height": HEIGHT})
        annotations.append({"id": number, "image_id": number, "category_id": int(labels[chosen]) + 1, "bbox": [x, y, side, side]})
    if boxes:
        categories = [{"id": digit + 1, "name": str(digit)} for digit in range(10)]
        (folder / "instances.json").write_text(json.dumps({"images": listed, "annotations": annotations, "categories": categories}))


@dataclass
class Listener:
    """A link that asks for nothing, or for what `script` says, and keeps what it is told."""

    script: Callable[["Listener"], str] = lambda _: ""
    epochs: list[dict[str, Any]] = field(default_factory=list)
    on_progress: Callable[[Any], None] = lambda _: None

    def asked(self) -> Any:
        """What is wanted."""
        from worker.link import Ask

        return Ask(self.script(self))

    def pausing(self) -> bool:
        """The worker stays."""
        return False

    def progress(self, event: Any) -> None:
        """Told at steps."""
        self.on_progress(event)

    def epoch_ended(self, _number: int, values: dict[str, Any], **_: Any) -> None:
        """Told at the ends of epochs."""
        self.epochs.append(values)

    def noticed(self, message: str, remedy: str = "") -> None:
        """Something worth a sentence."""
        print(message, remedy, file=sys.stderr)

    waits = noticed


@dataclass
class Bench:
    """An installation of its own in a folder, with one dataset; in a folder where there is one already, that one.

    The dataset is JPEGs of 500 × 375 px with a class each, with `boxes` with a box each, or with `scattered` the sample's digits scattered over
    photographs, with boxes and masks.
    """

    home: Path
    images: int
    boxes: bool = False
    scattered: bool = False

    def __post_init__(self) -> None:
        os.environ |= {"STATIONMASTER_HOME": str(self.home), "STATIONMASTER_LOG_LEVEL": "WARNING"}
        from sqlalchemy import select

        from core.datasets import samples, scattered_digits
        from core.datasets.importing import import_dataset
        from core.db.migrate import upgrade
        from core.db.session import Database
        from core.db.tables import Dataset
        from core.settings import Settings
        from core.storage import Storage

        self.settings = Settings()
        self.database, self.storage = Database.of(self.settings), Storage.of(self.settings)
        upgrade(self.database)
        self.source = self.home / "source"
        with self.database.read() as session:
            self.dataset = session.scalar(select(Dataset).where(Dataset.name == "bench"))
        if self.dataset is not None:
            return
        if self.scattered:
            scattered_digits.write(self.source, *samples.load_digits(), images=self.images)
        else:
            write_images(self.source, self.images, boxes=self.boxes)
        self.dataset = import_dataset(
            self.database, self.storage, self.settings, workspace="default", person="cli", name="bench", source=str(self.source)
        )

    def job(self, network: str, *, task_type: str = "", task: str = "bench", generation: int = 1, **plan: Any) -> Any:
        """A job of this dataset by auto's recipe with what is given; without a task type the first that the images are annotated for."""
        from core.datasets.listing import annotation_sets_for
        from core.db.tables import Dataset
        from core.tasks.hyperparameters import TrainingPlan
        from core.vocabulary import AnnotationKind, TaskType
        from core.zoo.catalogue import find_spec
        from core.zoo.facts import facts_of
        from core.zoo.recipes import auto_plan
        from worker.link import TrainingJob

        spec = find_spec(network, settings=self.settings)
        wanted = TaskType(task_type or ("object-detection" if self.boxes or self.scattered else "single-label"))
        kinds = (
            [AnnotationKind.INSTANCES] if spec.instances_only else [kind for kind in wanted.kinds if kind is not AnnotationKind.INSTANCES]
        )
        with self.database.read() as session:
            annotations = next(
                one for one in annotation_sets_for(session.get_one(Dataset, self.dataset.id), wanted) if AnnotationKind(one.kind) in kinds
            )
            recipe = auto_plan(spec, wanted, facts_of(session, self.dataset, annotations))
            return TrainingJob(
                task_id=task,
                job_id=f"{task}-1",
                job_number=1,
                generation=generation,
                task_name="bench",
                task_type=wanted,
                spec=spec,
                plan=TrainingPlan(**{**recipe.model_dump(), **plan}),
                dataset_id=self.dataset.id,
                dataset_name="bench",
                annotation_set_id=annotations.id,
                annotation_kind=AnnotationKind(annotations.kind),
                classes=tuple(str(name) for name in annotations.classes),
            )

    def train(self, job: Any, link: Listener) -> Any:
        """Train it in this process."""
        from worker.engine.training import train

        return train(job, database=self.database, storage=self.storage, settings=self.settings, link=link)
