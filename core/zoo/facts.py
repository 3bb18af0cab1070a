"""What recipes and recommendations go by: facts of a dataset and of the devices."""

from dataclasses import dataclass
from typing import Any

from core.db.tables import AnnotationSet, Dataset


@dataclass(frozen=True)
class DatasetFacts:
    """`images` and `classes` are counts, `width` and `height` medians in pixels; `object_side` the median side of objects as a share of the image's.

    `train_images` is the training part where it is known, else 80 % of all are assumed.
    """

    images: int
    classes: int
    width: int
    height: int
    object_side: float = 0.0
    train_images: int = 0
    smallest_class: int = 0
    largest_class: int = 0

    @property
    def training(self) -> int:
        """Images trained on in an epoch."""
        return self.train_images or max(1, round(self.images * 0.8))


@dataclass(frozen=True)
class DeviceFacts:
    """The device that a job gets. `kind` is cpu, cuda or mps; `memory_bytes` what it has (of a CPU: of the host); `count` how many there are."""

    kind: str = "cpu"
    memory_bytes: int = 8_000_000_000
    cores: int = 2
    count: int = 1
    name: str = ""


def facts_of(dataset: Dataset, annotation_set: AnnotationSet) -> DatasetFacts:
    """The facts of an imported dataset under one of its annotation sets."""
    counts = [int(count) for count in annotation_set.class_counts]
    return DatasetFacts(
        images=annotation_set.image_count or dataset.image_count,
        classes=len(annotation_set.classes),
        width=dataset.median_width,
        height=dataset.median_height,
        object_side=float(annotation_set_statistics(dataset, annotation_set).get("median_object_side", 0.0)),
        smallest_class=min(counts, default=0),
        largest_class=max(counts, default=0),
    )


def annotation_set_statistics(dataset: Dataset, annotation_set: AnnotationSet) -> dict[str, Any]:
    """What the import stored of this annotation set; empty where it stored nothing."""
    statistics = dataset.statistics or {}
    found = statistics.get("annotation_sets", {})
    return dict(found.get(annotation_set.id, {})) if isinstance(found, dict) else {}
