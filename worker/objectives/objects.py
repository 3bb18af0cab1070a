"""What is known of the objects of all records: boxes, classes and outlines, one table for all of them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from core.datasets import masks
from core.datasets.records import Record

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Objects:
    """The objects of all records, one after another: those of row r are `first[r]` up to `first[r + 1]`.

    `boxes` [n, 4] are x1, y1, x2, y2 in the image's own pixels; `labels` [n]; `sizes` [records, 2] width and height of the images;
    `outlines` the run-length encoded masks of the objects, where there are any.
    """

    boxes: Floats
    labels: NDArray[np.int64]
    first: NDArray[np.int64]
    sizes: NDArray[np.int64]
    outlines: tuple[str, ...] = ()

    @classmethod
    def of_boxes(cls, records: Sequence[Record]) -> "Objects":
        """Of records whose values are boxes: class, x, y, width, height."""
        found = [item for record in records for item in record.value["boxes"]]
        table = np.array([item[1:5] for item in found], np.float32).reshape(-1, 4)
        table[:, 2:] += table[:, :2]
        return cls(table, _labels(found), _first(records, "boxes"), _sizes(records))

    @classmethod
    def of_instances(cls, records: Sequence[Record]) -> "Objects":
        """Of records whose values are instances: class and mask."""
        found = [(record, item) for record in records for item in record.value["objects"]]
        table = np.array([masks.box(item[1], record.width, record.height) for record, item in found], np.float32).reshape(-1, 4)
        table[:, 2:] += table[:, :2]
        outlines = tuple(str(item[1]) for _, item in found)
        return cls(table, _labels([item for _, item in found]), _first(records, "objects"), _sizes(records), outlines)

    def of_row(self, row: int) -> slice:
        """Where the objects of a record are."""
        return slice(int(self.first[row]), int(self.first[row + 1]))

    def mask(self, index: int, row: int) -> NDArray[np.uint8]:
        """The mask of object `index`, on the image `row`: [height, width] of 0 and 1."""
        return masks.decode(self.outlines[index], int(self.sizes[row, 0]), int(self.sizes[row, 1]))


def _labels(found: Sequence[Sequence[object]]) -> NDArray[np.int64]:
    return np.array([int(str(item[0])) for item in found], np.int64)


def _first(records: Sequence[Record], key: str) -> NDArray[np.int64]:
    return np.concatenate(([0], np.cumsum([len(record.value[key]) for record in records]))).astype(np.int64)


def _sizes(records: Sequence[Record]) -> NDArray[np.int64]:
    return np.array([(record.width, record.height) for record in records], np.int64).reshape(-1, 2)
