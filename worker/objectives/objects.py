"""What is known of the objects of all records: boxes, classes and outlines, one table for all of them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from core.datasets import masks
from core.datasets.records import Record

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Objects:
    """The objects of all records, one after another: those of row r are `first[r]` up to `first[r + 1]`.

    `boxes` [n, 4] are x1, y1, x2, y2 in the image's own pixels; `labels` [n]; `sizes` [records, 2] width and height of the images;
    `outlines` the run-length encoded masks of the objects, where there are any; `areas` [n] tell small objects from large ones, in pixels as
    the dataset's source measures them. `ignored` holds in the same way what is neither to be found nor wrong to be found, such as crowds.
    """

    boxes: Floats
    labels: NDArray[np.int64]
    first: NDArray[np.int64]
    sizes: NDArray[np.int64]
    areas: NDArray[np.float64]
    outlines: tuple[str, ...] = ()
    ignored: "Objects | None" = None

    @classmethod
    def of_boxes(cls, records: Sequence[Record]) -> "Objects":
        """Of records whose values are boxes: class, x, y, width, height."""
        return replace(cls._boxes_at(records, "boxes"), ignored=cls._boxes_at(records, "ignored"))

    @classmethod
    def of_instances(cls, records: Sequence[Record]) -> "Objects":
        """Of records whose values are instances: class and mask."""
        return replace(cls._instances_at(records, "objects"), ignored=cls._instances_at(records, "ignored"))

    @classmethod
    def _boxes_at(cls, records: Sequence[Record], key: str) -> "Objects":
        found = [item for record in records for item in record.value.get(key, ())]
        table = np.array([item[1:5] for item in found], np.float32).reshape(-1, 4)
        table[:, 2:] += table[:, :2]
        areas = _areas(records, key, lambda record, item: item[3] * item[4])
        return cls(table, _labels(found), _first(records, key), _sizes(records), areas)

    @classmethod
    def _instances_at(cls, records: Sequence[Record], key: str) -> "Objects":
        found = [(record, item) for record in records for item in record.value.get(key, ())]
        table = np.array([masks.box(item[1], record.width, record.height) for record, item in found], np.float32).reshape(-1, 4)
        table[:, 2:] += table[:, :2]
        areas = _areas(records, key, lambda record, item: masks.area(item[1], record.width, record.height))
        outlines = tuple(str(item[1]) for _, item in found)
        return cls(table, _labels([item for _, item in found]), _first(records, key), _sizes(records), areas, outlines)

    def of_row(self, row: int) -> slice:
        """Where the objects of a record are."""
        return slice(int(self.first[row]), int(self.first[row + 1]))

    def mask(self, index: int, row: int) -> NDArray[np.uint8]:
        """The mask of object `index`, on the image `row`: [height, width] of 0 and 1."""
        return masks.decode(self.outlines[index], int(self.sizes[row, 0]), int(self.sizes[row, 1]))


def _labels(found: Sequence[Sequence[object]]) -> NDArray[np.int64]:
    return np.array([int(str(item[0])) for item in found], np.int64)


def _first(records: Sequence[Record], key: str) -> NDArray[np.int64]:
    return np.concatenate(([0], np.cumsum([len(record.value.get(key, ())) for record in records]))).astype(np.int64)


def _areas(records: Sequence[Record], key: str, own: Callable[[Record, Any], float]) -> NDArray[np.float64]:
    """The areas that the source tells, elsewhere the objects' `own`."""
    found: list[float] = []
    for record in records:
        told = record.value.get("areas") if key != "ignored" else None
        found += told or [own(record, item) for item in record.value.get(key, ())]
    return np.array(found, np.float64)


def _sizes(records: Sequence[Record]) -> NDArray[np.int64]:
    return np.array([(record.width, record.height) for record in records], np.int64).reshape(-1, 2)
