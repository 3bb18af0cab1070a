"""The masks of regions at training resolution, compact: maps of class numbers instead of one mask a class, cached beside the pixels.

Where no two classes of an image share a place, one map says it all: a byte a pixel, however many classes there are. Where they overlap,
the overlapping masks go to further maps.
"""

import hashlib
import json
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from core.datasets import masks
from core.datasets.deriving import derive
from core.datasets.records import Record
from core.settings import Settings
from core.vocabulary import AnnotationKind
from worker.engine.cache import cached_array, identity_of
from worker.engine.data import with_all_cores

Maps = NDArray[np.uint8] | NDArray[np.uint16]
Regions = list[tuple[int, str]]  # class index and run-length encoded mask

_FORMAT = 1  # raise it when the maps of a cache change their meaning
BACKGROUND = 0
FIRST_CLASS = 1  # class 0 is written as 1
_MOST_IN_A_BYTE = 254


def regions_of(record: Record, kind: AnnotationKind) -> Regions:
    """The masks of an image, one for each class it shows; those of instances united by class."""
    value = record.value
    if kind is AnnotationKind.INSTANCES:
        value = derive(value, AnnotationKind.INSTANCES, AnnotationKind.REGIONS, record.width, record.height)
    return [(int(number), str(rle)) for number, rle in value["masks"]]


def cached_maps(
    records: Sequence[Record],
    regions: Sequence[Regions],
    classes: int,
    size: int,
    *,
    settings: Settings,
    cancelled: Callable[[], bool] = lambda: False,
) -> Maps:
    """The maps of all records, [len(records), maps, size, size]: `BACKGROUND`, or `FIRST_CLASS` + class index; worked out now or before.

    Raises:
        UnavailableError: when the disk has not enough room.
        PreparationCancelledError: when `cancelled()` says so.
    """
    layers = [layers_of(found, record.width, record.height) for record, found in zip(records, regions, strict=True)]
    count = 1 + max((max(numbers, default=0) for numbers in layers), default=0)
    content = hashlib.sha256(json.dumps([[r.width, r.height, found] for r, found in zip(records, regions, strict=True)]).encode())
    identity = identity_of(_FORMAT, content.hexdigest(), size, classes, positions=[record.position for record in records])

    def fill(maps: Any) -> None:
        def draw(index: int) -> None:
            record = records[index]
            for (number, rle), layer in zip(regions[index], layers[index], strict=True):
                covered = covered_at(rle, record.width, record.height, (size, size))
                map_ = maps[index, layer]
                map_[covered & (map_ == BACKGROUND)] = number + FIRST_CLASS

        with_all_cores(len(records), draw, cancelled)

    wide = classes > _MOST_IN_A_BYTE
    shape = (len(records), count, size, size)
    return cached_array("masks", identity, shape, fill, dtype=np.uint16 if wide else np.uint8, settings=settings, cancelled=cancelled)


def layers_of(regions: Regions, width: int, height: int) -> list[int]:
    """For each mask the number of the map it is drawn on: the first on which it covers no other."""
    encoded = [rle for _, rle in regions]
    areas = [masks.area(rle, width, height) for rle in encoded]
    if len(encoded) < 2 or masks.area(masks.unite(encoded, width, height), width, height) == sum(areas):
        return [0] * len(encoded)
    drawn: list[tuple[str, int]] = []  # of each map: all that is on it, and how much that covers
    numbers = []
    for rle, area in zip(encoded, areas, strict=True):
        for number, (there, covered) in enumerate(drawn):
            both = masks.unite([there, rle], width, height)
            if masks.area(both, width, height) == covered + area:
                drawn[number] = (both, covered + area)
                numbers.append(number)
                break
        else:
            drawn.append((rle, area))
            numbers.append(len(drawn) - 1)
    return numbers


def covered_at(rle: str, width: int, height: int, size: tuple[int, int]) -> NDArray[np.bool_]:
    """A mask of an image of `width` × `height` px, stretched to `size` (width, height): pixels of which at least half is covered."""
    covered = masks.decode(rle, width, height)
    if size == (width, height):
        return covered.astype(bool)
    return np.asarray(Image.fromarray(covered * 255).resize(size, Image.Resampling.BILINEAR)) >= 128


def split_by_class(maps: Tensor, classes: int) -> Tensor:
    """From maps [n, maps, height, width] of `FIRST_CLASS` + class index to masks [n, classes, height, width] of false and true."""
    numbers = torch.arange(FIRST_CLASS, FIRST_CLASS + classes, device=maps.device, dtype=maps.dtype).view(1, -1, 1, 1)
    covered = maps[:, :1] == numbers
    for further in range(1, maps.shape[1]):
        covered |= maps[:, further : further + 1] == numbers
    return covered
