"""What recipes and recommendations go by: facts of a dataset and of the devices."""

from collections.abc import Iterable
from dataclasses import dataclass
from statistics import median

from sqlalchemy.orm import Session

from core.datasets import masks
from core.datasets.records import Record, load_records, split_counts
from core.datasets.splitting import sides_of
from core.db.tables import AnnotationSet, Dataset
from core.vocabulary import AnnotationKind

LOOKED_AT = 100  # images for the size of objects


@dataclass(frozen=True)
class DatasetFacts:
    """`images` and `classes` are counts, `width` and `height` medians in pixels; `object_side` the median side of objects as a share of the image's.

    `images` are those that training and validation share. `train_images` of them are trained on where the source itself says which; where
    it does not, as `core.datasets.splitting` has it, it is 0 and `validation_percent` of the images are kept back.
    """

    images: int
    classes: int
    width: int
    height: int
    object_side: float = 0.0
    train_images: int = 0
    validation_percent: int = 20
    smallest_class: int = 0
    largest_class: int = 0

    @property
    def training(self) -> int:
        """Images trained on in an epoch."""
        return self.train_images or max(1, round(self.images * (1 - self.validation_percent / 100)))


@dataclass(frozen=True)
class DeviceFacts:
    """What a job gets. `kind` is cpu, cuda or mps; `memory_bytes` what one device has (of a CPU: the host); `per_job` devices train one job.

    `count` is how many jobs can run at once.
    """

    kind: str = "cpu"
    memory_bytes: int = 8_000_000_000
    cores: int = 2
    count: int = 1
    name: str = ""
    per_job: int = 1


def facts_of(session: Session, dataset: Dataset, annotation_set: AnnotationSet) -> DatasetFacts:
    """The facts of an imported dataset under one of its annotation sets; the size of objects from the first images."""
    counts = [int(count) for count in annotation_set.class_counts]
    images, train_images = _sides(session, dataset, annotation_set)
    return DatasetFacts(
        images=images,
        train_images=train_images,
        classes=len(annotation_set.classes),
        width=dataset.median_width,
        height=dataset.median_height,
        object_side=_object_side(load_records(session, dataset.id, annotation_set.id, limit=LOOKED_AT))
        if AnnotationKind(annotation_set.kind) in (AnnotationKind.BOXES, AnnotationKind.INSTANCES, AnnotationKind.REGIONS)
        else 0.0,
        smallest_class=min(filter(None, counts), default=0),  # a class without images asks for no weights
        largest_class=max(counts, default=0),
    )


def _sides(session: Session, dataset: Dataset, annotation_set: AnnotationSet) -> tuple[int, int]:
    """The images that training and validation share, and how many of them the source gives to training; 0 where they are to be divided."""
    counts: dict[str, int] = dataset.statistics.get("splits", {})
    if not counts:
        return annotation_set.image_count or dataset.image_count, 0
    if annotation_set.image_count < dataset.image_count:  # else the import has counted them: a quarter of a second for 100,000 images
        counts = split_counts(session, dataset.id, annotation_set.id)
    elif unnamed := dataset.image_count - sum(counts.values()):
        counts = {**counts, "": unnamed}
    training, validating = sides_of(counts)
    train_images = sum(counts[name] for name in training)
    return train_images + sum(counts[name] for name in validating), train_images if validating else 0


def _object_side(records: Iterable[Record]) -> float:
    """The median over objects of the square root of their area as a share of the image's; 0 where there are none."""
    sides = []
    for record in records:
        whole = max(record.width * record.height, 1)
        areas = [width * height for _, _, _, width, height in record.value.get("boxes", ())]
        for _, counts in (*record.value.get("masks", ()), *record.value.get("objects", ())):
            areas.append(masks.area(counts, record.width, record.height))
        sides += [(area / whole) ** 0.5 for area in areas]
    return float(median(sides)) if sides else 0.0
