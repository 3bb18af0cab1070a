"""Masks of single objects at the network's input size, worked out once for all jobs of a host.

Kept are the bits of a window around each mask: about a thousandth of the memory of whole masks.
"""

import hashlib
import logging
import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from core.settings import Settings
from worker.engine.cache import NoRoomError, cached_array, identity_of
from worker.engine.data import with_all_cores
from worker.engine.entries import Made
from worker.objectives.objects import Objects

logger = logging.getLogger(__name__)

_FORMAT = 1  # raise it when the bits of a cache change their meaning

Bits = NDArray[np.bool_]
Windows = NDArray[
    np.int64
]  # [n, 4]: left, top, right and bottom in pixels of the network's input; right and bottom are the first ones beyond


class ScaledMasks:
    """The masks of all objects at an input of `side` px, in the cache of the host."""

    def __init__(self, objects: Objects, side: int, settings: Settings, cancelled: Callable[[], bool]) -> None:
        """Raises NoRoomError when the cache has not enough room, PreparationCancelledError when `cancelled()` says so meanwhile."""
        self.side = side
        self._objects = objects
        self._windows = windows_of(objects, side)
        sizes = (self._windows[:, 2:] - self._windows[:, :2]).prod(1)
        self._ends = np.concatenate(([0], np.cumsum(-(-sizes // 8))))
        content = hashlib.sha256()
        for outline in objects.outlines:
            content.update(outline.encode("ascii") + b" ")
        content.update(objects.sizes.tobytes())

        def draw(bits: Any, row: int) -> None:
            place = objects.of_row(row)
            for index in range(place.start, place.stop):
                scaled = scaled_in(self._windows[index], objects.mask(index, row), side)
                bits[self._ends[index] : self._ends[index + 1]] = np.packbits(scaled)

        self._bits = cached_array(
            "instances",
            identity_of(_FORMAT, content.hexdigest(), side, positions=objects.first.tolist()),
            (int(self._ends[-1]),),
            lambda bits: with_all_cores(len(objects.sizes), lambda row: draw(bits, row), cancelled),
            settings=settings,
            cancelled=cancelled,
        )

    def of_row(self, row: int) -> NDArray[np.uint8]:
        """As `scaled_masks`, from the cache."""
        place = self._objects.of_row(row)
        start = self._ends[place.start]
        bits = np.unpackbits(self._bits[start : self._ends[place.stop]])
        out = np.zeros((place.stop - place.start, self.side, self.side), np.uint8)
        for mask, index in zip(out, range(place.start, place.stop), strict=True):
            left, top, right, bottom = self._windows[index]
            first = 8 * (self._ends[index] - start)
            mask[top:bottom, left:right] = bits[first : first + (bottom - top) * (right - left)].reshape(bottom - top, right - left)
        return out


def packed_masks(objects: Objects, side: int, settings: Settings, cancelled: Callable[[], bool]) -> Made:
    """Of each image the masks of its objects, the bits of each line, [n, side, ⌈side / 8⌉]; from the cache where that has the room.

    Raises:
        PreparationCancelledError: when `cancelled()` says so while the cache is filled.
    """
    try:
        of_row, cached = ScaledMasks(objects, side, settings, cancelled).of_row, True
    except NoRoomError as error:
        logger.warning("masks are scaled anew for each batch: %s", error.what)
        of_row, cached = (lambda row: scaled_masks(objects, row, side)), False
    counts = np.diff(objects.first)
    return Made(counts, (side, -(-side // 8)), lambda row, _: np.packbits(of_row(row), axis=2), at_hand=cached)


def scaled_masks(objects: Objects, row: int, side: int) -> NDArray[np.uint8]:
    """The masks of a record, stretched as its image: [n, side, side] of 0 and 1."""
    place, windows = objects.of_row(row), windows_of(objects, side)
    out = np.zeros((place.stop - place.start, side, side), np.uint8)
    for mask, index in zip(out, range(place.start, place.stop), strict=True):
        left, top, right, bottom = windows[index]
        mask[top:bottom, left:right] = scaled_in(windows[index], objects.mask(index, row), side)
    return out


def windows_of(objects: Objects, side: int) -> Windows:
    """Of each object the window outside of which nothing of it can be seen at an input of `side` px."""
    of_row = np.repeat(np.arange(len(objects.sizes)), np.diff(objects.first))
    boxes = objects.boxes * np.tile(side / objects.sizes[of_row], 2)
    low, high = np.floor(boxes[:, :2]) - 1, np.ceil(boxes[:, 2:]) + 1
    windows: Windows = np.concatenate([low, high], 1).clip(0, side).astype(np.int64)
    return windows


def scaled_in(window: NDArray[np.int64], mask: NDArray[np.uint8], side: int) -> Bits:
    """A mask [height, width] stretched to `side` × `side`: what is to be seen in the window, pixels of which at least half is covered."""
    height, width = mask.shape
    across, down = width / side, height / side
    box = [window[0] * across, window[1] * down, min(window[2] * across, width), min(window[3] * down, height)]
    # Beyond so many pixels nothing weighs in what is seen (the triangle of Pillow's bilinear filter): the rest need not be copied.
    right, below = math.ceil(max(across, 1)) + 1, math.ceil(max(down, 1)) + 1
    left, top = max(0, int(box[0]) - right), max(0, int(box[1]) - below)
    part = mask[top : math.ceil(box[3]) + below, left : math.ceil(box[2]) + right] * np.uint8(255)
    size = (int(window[2] - window[0]), int(window[3] - window[1]))
    moved = (box[0] - left, box[1] - top, box[2] - left, box[3] - top)
    return np.asarray(Image.fromarray(part).resize(size, Image.Resampling.BILINEAR, box=moved)) >= 128
