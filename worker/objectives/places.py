"""Where the objects of images are: boxes and masks that follow an image through stretching and augmentation, as targets on the device.

Geometry of boxes is reckoned on the host, where the number of objects is known without asking the device; masks are moved on the device.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from core.datasets import masks
from core.datasets.records import Record
from worker.engine.augment import Matrices, resample

Floats = NDArray[np.float32]
Targets = list[dict[str, Tensor]]

VISIBLE = 0.3  # share of an object's area that must still be in view for it to be asked for
_SMALLEST = 1.0  # px of the network's input: a box of less has no pixel of its own


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


def boxes_through(boxes: Floats, matrices: Matrices) -> Floats:
    """The smallest upright boxes around the corners of `boxes` after their images have moved.

    Args:
        boxes: [n, 4], x1, y1, x2, y2 from −1 to 1 across the image.
        matrices: [n, 3, 3], from coordinates of the moved image to those of the old one, as `Augmentation` gives them.

    Returns:
        [n, 4] in coordinates of the moved image; what lies outside −1 to 1 is out of view.
    """
    forward = np.linalg.inv(matrices.astype(np.float64))
    x, y = boxes[:, [0, 2, 2, 0]], boxes[:, [1, 1, 3, 3]]
    corners = np.einsum("nij,njk->nik", forward, np.stack([x, y, np.ones_like(x)], 1))[:, :2]
    return np.concatenate([corners.min(2), corners.max(2)], 1).astype(np.float32)


class BoxTargets:
    """Boxes and labels of a batch on the device."""

    def __init__(self, objects: Objects, device: torch.device) -> None:
        self._objects = objects
        self._device = device
        of_row = np.repeat(np.arange(len(objects.sizes)), np.diff(objects.first))
        scale = 2 / np.tile(objects.sizes[of_row], 2).astype(np.float32)
        self._unit = objects.boxes * scale - 1  # −1 to 1 across the image

    def of(self, rows: NDArray[np.int64], geometry: Matrices, side: int) -> Targets:
        """For each image `boxes` [n, 4] in pixels of the network's input, x1, y1, x2, y2, and `labels` [n]. What is hardly in view is left out."""
        objects = self._objects
        wanted = np.concatenate([np.arange(objects.first[row], objects.first[row + 1]) for row in rows])
        image = np.repeat(np.arange(len(rows)), [int(objects.first[row + 1] - objects.first[row]) for row in rows])
        moved = boxes_through(self._unit[wanted], geometry[image])
        seen = moved.clip(-1, 1)
        pixels = (seen + 1) * (side / 2)
        width, height = pixels[:, 2] - pixels[:, 0], pixels[:, 3] - pixels[:, 1]
        kept = (width >= _SMALLEST) & (height >= _SMALLEST) & (_area(seen) >= VISIBLE * _area(moved))
        counts = np.bincount(image[kept], minlength=len(rows)).tolist()
        boxes = torch.split(_to(torch.from_numpy(pixels[kept]), self._device), counts)
        labels = torch.split(_to(torch.from_numpy(objects.labels[wanted[kept]]), self._device), counts)
        return [{"boxes": box, "labels": label} for box, label in zip(boxes, labels, strict=True)]


class MaskTargets:
    """Masks of a batch on the device, with the boxes around what is seen of them.

    A mask is scaled to the network's input once and kept as bits of its box: about a thousandth of the memory of whole masks.
    """

    def __init__(self, objects: Objects, device: torch.device) -> None:
        self._objects = objects
        self._device = device
        self._kept: dict[tuple[int, int], list[tuple[int, int, int, int, NDArray[np.uint8]]]] = {}

    def of(self, rows: NDArray[np.int64], geometry: Matrices, side: int) -> Targets:
        """As `BoxTargets.of`, with `masks` [n, side, side] of 0 and 1."""
        return [self._of_image(int(row), matrix, side) for row, matrix in zip(rows, geometry, strict=True)]

    def _of_image(self, row: int, matrix: Floats, side: int) -> dict[str, Tensor]:
        whole = _to(torch.from_numpy(self._scaled(row, side)), self._device)
        labels = _to(torch.from_numpy(self._objects.labels[self._objects.of_row(row)]), self._device)
        if len(whole) and not np.array_equal(matrix, np.eye(3, dtype=np.float32)):
            before = whole.sum((1, 2))
            whole = (resample(whole[None].float(), matrix[None], padding="zeros")[0] >= 0.5).to(torch.uint8)
            wanted = before * (VISIBLE / abs(float(np.linalg.det(matrix[:2, :2]))))
        else:
            wanted = torch.zeros(len(whole), device=self._device)
        kept = whole.sum((1, 2)) >= wanted.clamp(min=1)
        whole, labels = whole[kept], labels[kept]
        return {"boxes": _boxes_around(whole), "labels": labels, "masks": whole}

    def _scaled(self, row: int, side: int) -> NDArray[np.uint8]:
        """The masks of a record, stretched as its image: [n, side, side] of 0 and 1."""
        if (row, side) not in self._kept:
            place = self._objects.of_row(row)
            self._kept[row, side] = [_packed(self._objects.mask(index, row), side) for index in range(place.start, place.stop)]
        packed = self._kept[row, side]
        out = np.zeros((len(packed), side, side), np.uint8)
        for mask, (top, left, height, width, bits) in zip(out, packed, strict=True):
            mask[top : top + height, left : left + width] = np.unpackbits(bits, count=height * width).reshape(height, width)
        return out


def _packed(mask: NDArray[np.uint8], side: int) -> tuple[int, int, int, int, NDArray[np.uint8]]:
    """A mask at the network's input size: top, left, height and width of its box there, and the bits within."""
    scaled = np.asarray(Image.fromarray(mask * np.uint8(255)).resize((side, side), Image.Resampling.BILINEAR)) >= 128
    rows, columns = np.flatnonzero(scaled.any(1)), np.flatnonzero(scaled.any(0))
    if not len(rows):
        return 0, 0, 0, 0, np.zeros(0, np.uint8)
    top, left, height, width = int(rows[0]), int(columns[0]), int(rows[-1] - rows[0] + 1), int(columns[-1] - columns[0] + 1)
    return top, left, height, width, np.packbits(scaled[top : top + height, left : left + width])


def _boxes_around(whole: Tensor) -> Tensor:
    """Boxes [n, 4] around masks [n, height, width], none of them empty; x2 and y2 are the first pixels beyond."""
    columns, rows = whole.any(1).to(torch.uint8), whole.any(2).to(torch.uint8)
    width, height = columns.shape[1], rows.shape[1]
    return torch.stack([columns.argmax(1), rows.argmax(1), width - columns.flip(1).argmax(1), height - rows.flip(1).argmax(1)], 1).to(
        torch.float32
    )


def _area(boxes: Floats) -> Floats:
    return np.asarray((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1]))


def _to(tensor: Tensor, device: torch.device) -> Tensor:
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)
