"""Where the objects of images are: boxes and masks that follow an image through stretching and augmentation, as targets on the device.

Geometry of boxes is reckoned on the host, where the number of objects is known without asking the device; masks are moved on the device.
"""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from worker.engine.augment import Matrices, resample
from worker.engine.device import sent
from worker.objectives.objects import Objects

Floats = NDArray[np.float32]
Targets = list[dict[str, Tensor]]

VISIBLE = 0.3  # share of an object's area that must still be in view for it to be asked for
_MASK_VALUES_AT_ONCE = 10_000_000  # of masks that are moved together
_SMALLEST = 1.0  # px of the network's input: a box of less has no pixel of its own


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
        boxes = torch.split(sent(pixels[kept], self._device), counts)
        labels = torch.split(sent(objects.labels[wanted[kept]], self._device), counts)
        return [{"boxes": box, "labels": label} for box, label in zip(boxes, labels, strict=True)]


class MaskTargets:
    """Masks of a batch on the device, with the boxes around what is seen of them."""

    def __init__(self, objects: Objects, device: torch.device) -> None:
        self._objects = objects
        self._device = device
        self._bits = torch.tensor([128, 64, 32, 16, 8, 4, 2, 1], dtype=torch.uint8, device=device)

    def of(self, rows: NDArray[np.int64], geometry: Matrices, packed: Sequence[Tensor], side: int) -> Targets:
        """As `BoxTargets.of`, with `masks` [n, side, side] of 0 and 1; `packed` are those of each image as `packed_masks` gives them."""
        return [self._of_image(int(row), matrix, masks, side) for row, matrix, masks in zip(rows, geometry, packed, strict=True)]

    def _of_image(self, row: int, matrix: Floats, packed: Tensor, side: int) -> dict[str, Tensor]:
        labels = sent(self._objects.labels[self._objects.of_row(row)], self._device)
        # Some objects at a time: as floats the masks of a crowded image would take gigabytes.
        parts = [self._moved(part, matrix, side) for part in torch.split(packed, max(1, _MASK_VALUES_AT_ONCE // side**2))]
        whole, seen = torch.cat([part for part, _ in parts]), torch.cat([part for _, part in parts])
        return {"boxes": _boxes_around(whole), "labels": labels[seen], "masks": whole}

    def _moved(self, packed: Tensor, matrix: Floats, side: int) -> tuple[Tensor, Tensor]:
        """What of some masks is still in view, [seen, side, side], and of each whether enough is, [n]."""
        # From the bits of each line; of a byte the highest is the first.
        whole = ((packed[..., None] & self._bits) != 0).flatten(2)[..., :side].to(torch.uint8)
        wanted = torch.ones(len(whole), device=self._device)
        if len(whole) and not np.array_equal(matrix, np.eye(3, dtype=np.float32)):
            wanted = whole.sum((1, 2)) * (VISIBLE / abs(float(np.linalg.det(matrix[:2, :2]))))
            whole = (resample(whole[None].float(), matrix[None], padding="zeros")[0] >= 0.5).to(torch.uint8)
        seen = whole.sum((1, 2)) >= wanted.clamp(min=1)
        return whole[seen], seen


def _boxes_around(whole: Tensor) -> Tensor:
    """Boxes [n, 4] around masks [n, height, width], none of them empty; x2 and y2 are the first pixels beyond."""
    columns, rows = whole.any(1).to(torch.uint8), whole.any(2).to(torch.uint8)
    width, height = columns.shape[1], rows.shape[1]
    return torch.stack([columns.argmax(1), rows.argmax(1), width - columns.flip(1).argmax(1), height - rows.flip(1).argmax(1)], 1).to(
        torch.float32
    )


def _area(boxes: Floats) -> Floats:
    return np.asarray((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1]))
