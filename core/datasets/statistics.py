"""What a dataset is like: labels and how well each is represented, sizes of images, boxes and masks; as JSON and as a picture."""

import json
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from core.datasets import masks
from core.datasets.deriving import OBJECTS, classes_in
from core.datasets.records import Record, load_records
from core.datasets.representation import CUT_OFF, representation
from core.db.session import Database
from core.db.tables import AnnotationSet
from core.errors import InvalidInputError, NotFoundError
from core.storage import Storage
from core.vocabulary import AnnotationKind

_VERSION = 1  # raise when the numbers change, so that those kept from before are counted anew
_PAGE = 2_000


@dataclass(frozen=True)
class StatisticsKeys:
    """Where a set's statistics lie in the storage."""

    json_key: str
    png_key: str


@dataclass
class _Numbers:
    """What is gathered record by record; a few bytes for each object."""

    images: int = 0
    widths: Counter[int] = field(default_factory=Counter)
    heights: Counter[int] = field(default_factory=Counter)
    sizes: Counter[tuple[int, int]] = field(default_factory=Counter)
    labels: Counter[int] = field(default_factory=Counter)
    label_images: Counter[int] = field(default_factory=Counter)
    per_image: Counter[int] = field(default_factory=Counter)
    areas: list[float] = field(default_factory=list)  # of the image, 0–1
    ratios: list[float] = field(default_factory=list)  # width : height
    coverage: dict[int, list[float]] = field(default_factory=dict)  # of the image by class, 0–1
    splits: Counter[str] = field(default_factory=Counter)
    groups: set[str] = field(default_factory=set)

    def take(self, record: Record, kind: AnnotationKind) -> None:
        self.images += 1
        self.widths[record.width] += 1
        self.heights[record.height] += 1
        self.sizes[record.width, record.height] += 1
        if record.split:
            self.splits[record.split] += 1
        if record.group:
            self.groups.add(record.group)
        found = classes_in(record.value, kind)
        self.labels.update(found)
        self.label_images.update(set(found))
        self.per_image[len(found)] += 1
        pixels = record.width * record.height
        if kind is AnnotationKind.BOXES:
            for _, _, _, width, height in record.value["boxes"]:
                self.areas.append(width * height / pixels)
                self.ratios.append(width / height)
        elif kind in OBJECTS:
            for number, rle in record.value[OBJECTS[kind]]:
                self.coverage.setdefault(number, []).append(masks.area(rle, record.width, record.height) / pixels)


def describe(records: Iterable[Record], kind: AnnotationKind, classes: Sequence[str], cut_off: float = CUT_OFF) -> dict[str, Any]:
    """The statistics of records as a JSON object. Areas and coverage are fractions of the image, aspect ratios width to height."""
    numbers = _Numbers()
    for record in records:
        numbers.take(record, kind)
    images = [numbers.label_images[index] for index in range(len(classes))]
    labels = [
        {
            "class": name,
            "count": numbers.labels[index],
            "images": images[index],
            "share": images[index] / max(1, numbers.images),
            "representation": text,
        }
        for index, (name, text) in enumerate(zip(classes, representation(images, cut_off), strict=True))
    ]
    found: dict[str, Any] = {
        "kind": kind.value,
        "images": numbers.images,
        "images_without_labels": numbers.per_image[0],
        "cut_off": cut_off,
        "labels": labels,
        "image_width": _summary_of_counts(numbers.widths),
        "image_height": _summary_of_counts(numbers.heights),
        "image_sizes": [{"width": width, "height": height, "images": count} for (width, height), count in numbers.sizes.most_common(50)],
        "splits": dict(numbers.splits),
        "groups": len(numbers.groups),
    }
    if kind is not AnnotationKind.SINGLE_LABEL:
        name = {AnnotationKind.MULTI_LABEL: "labels", AnnotationKind.BOXES: "boxes", AnnotationKind.REGIONS: "classes"}.get(kind, "objects")
        found[f"{name}_per_image"] = _summary_of_counts(numbers.per_image) | {
            "histogram": {str(k): v for k, v in sorted(numbers.per_image.items())}
        }
    if kind is AnnotationKind.BOXES:
        found["box_area"] = _summary(numbers.areas) | _histogram(numbers.areas, np.linspace(0, 1, 21))
        found["box_aspect_ratio"] = _summary(numbers.ratios) | _histogram(numbers.ratios, np.exp2(np.linspace(-4, 4, 17)))
    elif kind in OBJECTS:
        everything = [value for values in numbers.coverage.values() for value in values]
        found["mask_coverage"] = _summary(everything) | _histogram(everything, np.linspace(0, 1, 21))
        for index, label in enumerate(labels):
            label["mask_coverage"] = _summary(numbers.coverage.get(index, []))
    return found


def _summary_of_counts(counts: Counter[int]) -> dict[str, Any]:
    values = sorted(counts)
    total = sum(counts.values())
    if not total:
        return {"smallest": None, "median": None, "mean": None, "largest": None}
    passed, median = 0, values[0]
    for value in values:
        passed += counts[value]
        if passed * 2 >= total:
            median = value
            break
    mean = sum(value * count for value, count in counts.items()) / total
    return {"smallest": values[0], "median": median, "mean": mean, "largest": values[-1]}


def _summary(values: Sequence[float]) -> dict[str, Any]:
    if not values:
        return {"smallest": None, "median": None, "mean": None, "largest": None}
    array = np.asarray(values)
    return {"smallest": float(array.min()), "median": float(np.median(array)), "mean": float(array.mean()), "largest": float(array.max())}


def _histogram(values: Sequence[float], edges: np.ndarray) -> dict[str, Any]:
    """Counts between edges; what lies outside is counted in the outermost bins."""
    counts, _ = np.histogram(np.clip(np.asarray(values, np.float64), edges[0], edges[-1]), edges)
    return {"histogram": {"edges": [float(edge) for edge in edges], "counts": [int(count) for count in counts]}}


def dataset_statistics(
    database: Database, storage: Storage, dataset_id: str, annotation_set_id: str, cut_off: float = CUT_OFF
) -> tuple[dict[str, Any], StatisticsKeys]:
    """The statistics of an annotation set, counted at their first use and kept, and where they and their picture lie in the storage.

    Raises:
        NotFoundError: when the dataset has no such annotation set.
        InvalidInputError: for a cut-off that is no share.
    """
    if not 0 < cut_off <= 1 or not math.isfinite(cut_off):
        raise InvalidInputError(f"The cut-off is a share from 0 to 1; {cut_off} was given.")
    with database.read() as session:
        annotation_set = session.get(AnnotationSet, annotation_set_id)
        if annotation_set is None or annotation_set.dataset_id != dataset_id:
            raise NotFoundError("The dataset has no such annotation set.", "`stationmaster dataset show` lists them.")
        kind, classes = AnnotationKind(annotation_set.kind), list(annotation_set.classes)
    stem = f"datasets/{dataset_id}/statistics/{annotation_set_id}-{cut_off:g}-v{_VERSION}"
    keys = StatisticsKeys(f"{stem}.json", f"{stem}.png")
    if storage.exists(keys.json_key) and storage.exists(keys.png_key):
        return json.loads(storage.read(keys.json_key)), keys
    found = describe(_records(database, dataset_id, annotation_set_id), kind, classes, cut_off)
    from core.datasets.statistics_picture import draw  # matplotlib takes half a second to import, and only this needs it

    storage.write(keys.png_key, draw(found))
    storage.write(keys.json_key, json.dumps(found, ensure_ascii=False).encode())
    return found, keys


def _records(database: Database, dataset_id: str, annotation_set_id: str) -> Iterator[Record]:
    offset = 0
    while True:
        with database.read() as session:
            page = load_records(session, dataset_id, annotation_set_id, offset=offset, limit=_PAGE)
        yield from page
        if len(page) < _PAGE:
            return
        offset += _PAGE
