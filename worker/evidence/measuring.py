"""Measuring candidates: each one's frozen features on the same sample of a dataset, judged alike."""

import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import torch

from core.datasets.records import Record, load_records
from core.db.session import Database
from core.db.tables import AnnotationSet
from core.errors import InvalidInputError
from core.settings import Settings
from core.storage import Storage
from core.vocabulary import AnnotationKind, TaskType
from core.zoo import catalogue
from core.zoo.evidence import SAMPLE, Candidate, Measurement, ranked, sample_size
from worker.engine.augment import Normalisation
from worker.engine.data import decode
from worker.engine.device import choose_device
from worker.evidence.judging import Features, Labels, judged, logme
from worker.evidence.places import MOST_IMAGES, Places, features_of_places, places_of
from worker.networks import features

BATCH = 32
FEWEST = 10  # images


def measure(
    dataset_id: str,
    annotation_set_id: str,
    task_type: TaskType,
    candidates: Sequence[Candidate],
    *,
    database: Database,
    storage: Storage,
    settings: Settings,
    tell: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, Any]:
    """`measured`: what each candidate shows, best first (`core.zoo.evidence.Measurement` by field), and of how many `images`.

    Raises:
        InvalidInputError: when the annotations have too few images or classes to tell anything.
        UnavailableError: when a candidate's weights are not at hand.
    """
    with database.read() as session:
        records = load_records(session, dataset_id, annotation_set_id)
        annotations = session.get_one(AnnotationSet, annotation_set_id)
        kind, classes = AnnotationKind(annotations.kind), len(annotations.classes)
    most = sample_size(candidates, settings)
    places: Places | None = None
    groups: Labels | None = None
    if task_type in (TaskType.OBJECT_DETECTION, TaskType.OBJECT_SEGMENTATION):
        chosen = _any(records, min(MOST_IMAGES, most))
        places = places_of(chosen, kind, classes)
        labels, groups = places.labels, places.image
    else:
        chosen = sample(records, several=task_type is TaskType.MULTI_LABEL, most=most)
        labels = several_labels(chosen) if task_type is TaskType.MULTI_LABEL else np.array([int(one.value["label"]) for one in chosen])
    _require_enough(labels, len(chosen) if groups is None else len(np.unique(groups)))
    measured = []
    for done, candidate in enumerate(candidates):
        tell(done, len(candidates))
        began = time.monotonic()
        found = (
            features_of(candidate, chosen, storage, settings)
            if places is None
            else features_of_places(candidate, chosen, places, storage, settings)
        )
        probe, neighbours = judged(found, labels, groups)
        evidence = logme(found, labels)
        measured.append(
            Measurement(
                candidate.network, candidate.pretraining, candidate.image_size, probe, neighbours, evidence, time.monotonic() - began
            )
        )
    return {"measured": [asdict(item) for item in ranked(measured)], "images": len(chosen)}


def _require_enough(labels: Labels, images: int) -> None:
    kinds = labels.shape[1] + 1 if labels.ndim == 2 else len(np.unique(labels))
    if images < FEWEST or kinds < 2:
        raise InvalidInputError(
            "These annotations are too few to measure anything on.",
            "Ten images of at least two classes, each on several of them, are needed.",
        )


def _any(records: Sequence[Record], most: int, seed: int = 0) -> list[Record]:
    return [records[row] for row in np.random.default_rng(seed).permutation(len(records))[:most]]


def sample(records: Sequence[Record], *, several: bool, most: int = SAMPLE, seed: int = 0) -> list[Record]:
    """Up to `most` records, of every class as evenly as there are; classes with a single image are left out where labels are single."""
    if several:
        return _any(records, most, seed)
    generator = np.random.default_rng(seed)
    rows: dict[int, list[int]] = defaultdict(list)
    for row in generator.permutation(len(records)).tolist():
        rows[int(records[row].value["label"])].append(row)
    usable = [members for members in rows.values() if len(members) >= 2]
    share = max(2, most // max(len(usable), 1))
    return [records[row] for members in usable for row in members[:share]]


def several_labels(records: Sequence[Record]) -> Labels:
    """Labels [images, classes] of 0 and 1, without the classes that are everywhere or nowhere, which tell nothing."""
    classes = 1 + max((int(label) for record in records for label in record.value["labels"]), default=0)
    labels = np.zeros((len(records), classes), np.int64)
    for row, record in enumerate(records):
        labels[row, [int(label) for label in record.value["labels"]]] = 1
    kept = (labels.sum(0) >= 2) & (labels.sum(0) <= len(records) - 2)
    return labels[:, kept]


@torch.inference_mode()
def features_of(candidate: Candidate, records: Sequence[Record], storage: Storage, settings: Settings) -> Features:
    """Frozen features of whole images, [images, features]."""
    spec = catalogue.find_spec(candidate.network, candidate.pretraining, settings)
    device = choose_device()
    network = features(spec, settings=settings, image_size=candidate.image_size).eval().to(device.torch)
    normalisation = Normalisation(spec.mean, spec.std)
    found = []
    for first in range(0, len(records), BATCH):
        pixels = np.stack([decode(storage.read(record.key), candidate.image_size) for record in records[first : first + BATCH]])
        images = normalisation.apply(torch.from_numpy(pixels).to(device.torch).permute(0, 3, 1, 2))
        found.append(network(images).float().flatten(1).cpu().numpy())
    return np.concatenate(found).astype(np.float64)
