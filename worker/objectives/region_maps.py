"""The masks of regions as maps of class numbers instead of one mask a class, compact, cached beside the pixels.

Where no two classes of an image share a place, one map says it all: a byte a pixel, however many classes there are. Where they overlap,
the overlapping masks go to further maps.
"""

import hashlib
import logging
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from core.datasets import masks
from core.datasets.deriving import OBJECTS, classes_in, derive
from core.datasets.records import Record
from core.settings import Settings
from core.vocabulary import AnnotationKind
from worker.engine.cache import Folder, NoRoomError, cached_array, identity_of
from worker.engine.data import with_all_cores
from worker.engine.entries import Entries, Kept, Made, firsts

logger = logging.getLogger(__name__)

Maps = NDArray[np.uint8] | NDArray[np.int16]
Regions = list[tuple[int, str]]  # class index and run-length encoded mask
Size = tuple[int, int]  # width and height in pixels

_FORMAT = 4  # raise it when what is cached changes its meaning
_LAYER, _AREA, _SHARED = range(3)  # what is known of a mask
# Of a class: outlines drawn by hand overlap by a few pixels at their edges. Classes learn better where they exclude each other, and what two claim
# there is learnt as the earlier one.
SLIPS = 0.02
BACKGROUND = 0
FIRST_CLASS = 1  # class 0 is written as 1
_MOST_IN_A_BYTE = 254  # classes: the number after the last one's marks what is ignored


def ignored_number(classes: int) -> int:
    """What maps of so many classes hold, on the first map alone, where a place belongs to no known class and is neither learnt nor judged."""
    return FIRST_CLASS + classes


def regions_of(record: Record, kind: AnnotationKind) -> Regions:
    """The masks of an image, one for each class it shows; those of instances united by class."""
    value = record.value
    if kind is AnnotationKind.INSTANCES:
        value = derive(value, AnnotationKind.INSTANCES, AnnotationKind.REGIONS, record.width, record.height)
    return [(int(number), str(rle)) for number, rle in value["masks"]]


def ignored_of(record: Record, kind: AnnotationKind) -> str | None:
    """The mask of what is ignored on an image; of instances that of all ignored ones together."""
    ignored = record.value.get("ignored")
    if ignored and kind is AnnotationKind.INSTANCES:
        return masks.unite([str(rle) for _, rle in ignored], record.width, record.height)
    return str(ignored) if ignored else None


class RegionMaps:
    """The maps of all records: `BACKGROUND`, `FIRST_CLASS` + class index, or `ignored_number`.

    What they take to be drawn, on which map each mask goes and how much it covers, is worked out once and kept beside them: a later job of the
    host reads that alone. Methods raise PreparationCancelledError when `cancelled()` says so while something is worked out.
    """

    def __init__(
        self,
        records: Sequence[Record],
        kind: AnnotationKind,
        classes: int,
        settings: Settings,
        cancelled: Callable[[], bool] = lambda: False,
    ) -> None:
        """Raises as the methods do, and UnavailableError when the disk is full to the brim."""
        self._records, self._kind, self._classes = records, kind, classes
        self._settings, self._cancelled = settings, cancelled
        self._dtype: type[np.generic] = np.int16 if classes > _MOST_IN_A_BYTE else np.uint8
        numbers = [_numbers_in(record, kind) for record in records]
        self._first = np.concatenate(([0], np.cumsum([len(found) for found in numbers]))).astype(np.int64)
        self._numbers = np.array([number for found in numbers for number in found], np.int64)
        content = hashlib.sha256(kind.encode())
        for record in records:
            content.update(f"{record.width} {record.height} ignored: {record.value.get('ignored', '')}".encode())
            for number, rle in record.value[OBJECTS[kind]]:
                content.update(f" {number} {rle}".encode())
        self._identity = identity_of(_FORMAT, content.hexdigest(), positions=[record.position for record in records])
        # Of each mask the number of the map it is drawn on, how many pixels of its image it covers, and how many of those others cover, too.
        self._known = self._cached("layers", (), (len(self._numbers), 3), self._look_at, range(len(records)), np.int64)

    @property
    def exclusive(self) -> bool:
        """Whether masks of classes are apart but for slips of the hand: no class shares more than `SLIPS` of its places."""
        areas, shared = (np.bincount(self._numbers, self._known[:, column], self._classes) for column in (_AREA, _SHARED))  # of each class
        return bool((shared <= SLIPS * areas).all())

    def at(self, size: int) -> Entries:
        """The maps of each image stretched to a square of `size` px; from the cache, where that has the room."""
        rows = range(len(self._records))
        counts = np.array([self._shape(row, (size, size))[0] for row in rows], np.int64)
        first = firsts(counts)

        def draw(maps: Maps, row: int) -> None:
            self._draw(maps[first[row] : first[row + 1]], row, (size, size))

        try:
            maps = self._cached("masks", (size, self._classes), (int(first[-1]), size, size), draw, rows, self._dtype)
        except NoRoomError as error:
            logger.warning("masks are drawn anew for each batch: %s", error.what)
            return Made(counts, (size, size), lambda row, _: self.drawn(row, (size, size)), dtype=self._dtype)
        return Kept(maps, counts)

    def drawn(self, row: int, size: Size) -> Maps:
        """The maps of one image at that size, so many as it needs, [maps, height, width]."""
        maps: Maps = np.zeros(self._shape(row, size), self._dtype)
        self._draw(maps, row, size)
        return maps

    def at_sizes(self, sizes: dict[int, Size]) -> Callable[[int], Maps]:
        """What gives the maps of each of some rows at the size it has there, as `drawn`; from the cache, where that has the room."""
        shapes = {row: self._shape(row, size) for row, size in sizes.items()}
        ends = np.cumsum([int(np.prod(shape)) for shape in shapes.values()], dtype=np.int64).tolist()
        place = {row: slice(end - int(np.prod(shape)), end) for (row, shape), end in zip(shapes.items(), ends, strict=True)}

        def draw(flat: Maps, row: int) -> None:
            flat[place[row]] = self.drawn(row, sizes[row]).reshape(-1)

        further = (self._classes, tuple(sizes.items()))
        try:
            flat = self._cached("judged", further, (ends[-1] if ends else 0,), draw, list(sizes), self._dtype)
        except NoRoomError as error:
            logger.warning("masks to judge by are drawn anew each time: %s", error.what)
            return lambda row: self.drawn(row, sizes[row])

        def kept(row: int) -> Maps:
            maps: Maps = flat[place[row]].reshape(shapes[row])
            return maps

        return kept

    def shares(self, rows: NDArray[np.int64]) -> Tensor:
        """Of each class the share of the pixels of the images `rows` that it covers, [classes]."""
        covered = np.zeros(self._classes)
        for row in rows.tolist():
            masks_of_row = self._of_row(row)
            pixels = self._records[row].width * self._records[row].height
            np.add.at(covered, self._numbers[masks_of_row], self._known[masks_of_row, _AREA] / pixels)
        return torch.from_numpy(covered / max(1, len(rows))).float()

    def _of_row(self, row: int) -> slice:
        return slice(int(self._first[row]), int(self._first[row + 1]))

    def _shape(self, row: int, size: Size) -> tuple[int, int, int]:
        return int(self._known[self._of_row(row), _LAYER].max(initial=0)) + 1, size[1], size[0]

    def _look_at(self, found: Any, row: int) -> None:
        record = self._records[row]
        regions = regions_of(record, self._kind)
        areas = [masks.area(rle, record.width, record.height) for _, rle in regions]
        layers, shared = overlap_of(regions, areas, record.width, record.height)
        found[self._of_row(row)] = np.array([layers, areas, shared]).T

    def _draw(self, maps: Maps, row: int, size: Size) -> None:
        record = self._records[row]
        layers = self._known[self._of_row(row), _LAYER].tolist()
        for (number, rle), layer in zip(regions_of(record, self._kind), layers, strict=True):
            covered = covered_at(rle, record.width, record.height, size)
            map_ = maps[layer]
            map_[covered & (map_ == BACKGROUND)] = number + FIRST_CLASS
        if (ignored := ignored_of(record, self._kind)) is not None:
            unknown = (maps == BACKGROUND).all(0)
            maps[0][covered_at(ignored, record.width, record.height, size) & unknown] = ignored_number(self._classes)

    def _cached(
        self,
        folder: Folder,
        further: tuple[Any, ...],
        shape: tuple[int, ...],
        fill_row: Callable[[Any, int], None],
        rows: Sequence[int],
        dtype: type[np.generic],
    ) -> Any:
        return cached_array(
            folder,
            identity_of(self._identity, *further, positions=rows),
            shape,
            lambda array: with_all_cores(len(rows), lambda place: fill_row(array, rows[place]), self._cancelled),
            dtype=dtype,
            settings=self._settings,
            cancelled=self._cancelled,
        )


def _numbers_in(record: Record, kind: AnnotationKind) -> list[int]:
    """The class of each mask that `regions_of` gives, without making any."""
    found = [int(number) for number in classes_in(record.value, kind)]
    return sorted(set(found)) if kind is AnnotationKind.INSTANCES else found


def overlap_of(regions: Regions, areas: Sequence[int], width: int, height: int) -> tuple[list[int], list[int]]:
    """Where masks share places; `areas` says how many pixels each covers.

    Returns:
        For each mask the number of the map it is drawn on, the first on which it covers no other, and how many of its pixels others cover, too.
    """
    encoded = [rle for _, rle in regions]
    whole = masks.area(masks.unite(encoded, width, height), width, height) if len(encoded) > 1 else sum(areas)
    if whole == sum(areas):
        return [0] * len(encoded), [0] * len(encoded)
    drawn: list[tuple[str, int]] = []  # of each map: all that is on it, and how much that covers
    layers, shared = [], []
    for place, (rle, area) in enumerate(zip(encoded, areas, strict=True)):
        others = masks.unite(encoded[:place] + encoded[place + 1 :], width, height)
        shared.append(masks.area(others, width, height) + area - whole)
        for number, (there, covered) in enumerate(drawn):
            both = masks.unite([there, rle], width, height)
            if masks.area(both, width, height) == covered + area:
                drawn[number] = (both, covered + area)
                layers.append(number)
                break
        else:
            drawn.append((rle, area))
            layers.append(len(drawn) - 1)
    return layers, shared


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
