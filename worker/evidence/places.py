"""Frozen features of places: of boxes and masks pooled out of a backbone's feature maps, and of places that show nothing."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from core.datasets.records import Record
from core.settings import Settings
from core.storage import Storage
from core.vocabulary import AnnotationKind
from core.zoo import catalogue
from core.zoo.evidence import Candidate
from worker.engine.augment import Normalisation
from worker.engine.data import decode
from worker.engine.device import choose_device
from worker.evidence.judging import Features, Labels
from worker.networks.levels import levels
from worker.objectives.objects import Objects
from worker.objectives.region_maps import covered_at, ignored_of, regions_of

MOST_IMAGES = 100
MOST_AN_IMAGE = 8  # objects: a few crowded images must not be all there is
EMPTY_AN_IMAGE = 2
BATCH = 4
GRID = 128  # px of the side that masks are drawn at before they are pooled to a level's cells
MOST_COVERED = 0.2  # of a place that shows nothing, by objects
LEAST_REST = 0.02  # of an image, to count as a place that shows nothing
TRIES = 20

Covered = NDArray[np.float32]


@dataclass(frozen=True)
class Places:
    """Places [n] by `image` (row among the records), `labels` (class indices; the number of classes where there is nothing), and what they cover.

    `boxes` [n, 4] are x1, y1, x2, y2 from 0 to 1; `masks` [n, GRID, GRID] from 0 to 1 go before them where there are any.
    """

    image: Labels
    labels: Labels
    boxes: Covered
    masks: Covered | None = None

    def chosen(self, rows: NDArray[np.bool_]) -> "Places":
        """Some of them."""
        return Places(self.image[rows], self.labels[rows], self.boxes[rows], None if self.masks is None else self.masks[rows])

    def covering(self, row: int, height: int, width: int) -> Tensor:
        """How much of each cell of a map [height, width] a place covers, summing to one."""
        if self.masks is not None:
            share = functional.adaptive_avg_pool2d(torch.from_numpy(self.masks[row])[None], (height, width))[0]
        else:
            x1, y1, x2, y2 = self.boxes[row].tolist()
            share = torch.outer(_overlap(y1, y2, height), _overlap(x1, x2, width))
        return share / share.sum().clamp_min(1e-9)


def _overlap(low: float, high: float, cells: int) -> Tensor:
    edges = torch.arange(cells + 1, dtype=torch.float32) / cells
    return (torch.minimum(edges[1:], torch.tensor(high)) - torch.maximum(edges[:-1], torch.tensor(low))).clamp_min(0)


def places_of(records: Sequence[Record], kind: AnnotationKind, classes: int, seed: int = 0) -> Places:
    """The annotated places of records, and beside them some that show nothing. Classes seen on one image only are left out."""
    random = np.random.default_rng(seed)
    found = _of_regions(records, kind, classes) if kind is AnnotationKind.REGIONS else _of_objects(records, kind, classes, random)
    seen_on = [len(np.unique(found.image[found.labels == label])) for label in range(classes + 1)]
    return found.chosen(np.array([seen_on[label] >= 2 for label in found.labels], bool))


def _of_objects(records: Sequence[Record], kind: AnnotationKind, classes: int, random: np.random.Generator) -> Places:
    objects = Objects.of_instances(records) if kind is AnnotationKind.INSTANCES else Objects.of_boxes(records)
    of_row = np.repeat(np.arange(len(records)), np.diff(objects.first))
    unit = (objects.boxes / np.tile(objects.sizes[of_row], 2)).clip(0, 1).astype(np.float32)
    images, labels, boxes = [], [], []
    for row in range(len(records)):
        own = np.arange(objects.first[row], objects.first[row + 1])
        for index in random.permutation(own)[:MOST_AN_IMAGE]:
            images.append(row)
            labels.append(int(objects.labels[index]))
            boxes.append(unit[index])
        for box in _empty_boxes(unit[own], unit, random):
            images.append(row)
            labels.append(classes)
            boxes.append(box)
    return Places(np.array(images, np.int64), np.array(labels, np.int64), np.array(boxes, np.float32).reshape(-1, 4))


def _empty_boxes(own: Covered, all_boxes: Covered, random: np.random.Generator) -> Iterator[Covered]:
    """Boxes of sizes that objects have, where an image shows hardly any of its own."""
    if not len(all_boxes):
        return
    made = 0
    for _ in range(TRIES):
        size = np.diff(all_boxes[int(random.integers(len(all_boxes)))].reshape(2, 2), axis=0)[0]
        corner = random.uniform(0, np.maximum(1 - size, 1e-6))
        box = np.concatenate([corner, corner + size]).astype(np.float32)
        shared = (np.minimum(own[:, 2:], box[2:]) - np.maximum(own[:, :2], box[:2])).clip(0)
        if (shared.prod(1).sum() if len(own) else 0) <= MOST_COVERED * max(size.prod(), 1e-9):
            yield box
            made += 1
        if made == EMPTY_AN_IMAGE:
            return


def _of_regions(records: Sequence[Record], kind: AnnotationKind, classes: int) -> Places:
    images, labels, masks = [], [], []
    for row, record in enumerate(records):
        whole = np.zeros((GRID, GRID), bool)
        for label, rle in regions_of(record, kind):
            covered = covered_at(rle, record.width, record.height, (GRID, GRID))
            whole |= covered
            if covered.any():
                images.append(row)
                labels.append(label)
                masks.append(covered)
        if (ignored := ignored_of(record, kind)) is not None:
            whole |= covered_at(ignored, record.width, record.height, (GRID, GRID))  # neither a class nor the rest
        if (~whole).mean() >= LEAST_REST:
            images.append(row)
            labels.append(classes)
            masks.append(~whole)
    covered_all = np.array(masks, np.float32).reshape(-1, GRID, GRID)
    return Places(np.array(images, np.int64), np.array(labels, np.int64), np.zeros((len(images), 4), np.float32), covered_all)


@torch.inference_mode()
def features_of_places(candidate: Candidate, records: Sequence[Record], places: Places, storage: Storage, settings: Settings) -> Features:
    """Frozen features [places, features]: for each place the mean over what it covers, of each of the backbone's coarsest levels."""
    spec = catalogue.find_spec(candidate.network, candidate.pretraining, settings)
    device = choose_device()
    network = levels(spec, settings=settings, image_size=candidate.image_size).eval().to(device.torch)
    normalisation = Normalisation(spec.mean, spec.std)
    found: dict[int, Tensor] = {}
    for first in range(0, len(records), BATCH):
        pixels = np.stack([decode(storage.read(record.key), candidate.image_size) for record in records[first : first + BATCH]])
        images = normalisation.apply(torch.from_numpy(pixels).to(device.torch).permute(0, 3, 1, 2))
        maps = [one.float().cpu() for one in network(images)]
        for row in np.flatnonzero((places.image >= first) & (places.image < first + BATCH)).tolist():
            place = int(places.image[row]) - first
            found[row] = torch.cat([(one[place] * places.covering(row, *one.shape[-2:])).sum((1, 2)) for one in maps])
    return torch.stack([found[row] for row in range(len(places.image))]).numpy().astype(np.float64)
