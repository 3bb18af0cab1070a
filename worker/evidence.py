"""Evidence mode: frozen features of candidates on a sample of a dataset, judged by a linear probe, nearest neighbours and LogME."""

import logging
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score
from sklearn.model_selection import KFold, StratifiedKFold, cross_val_predict
from sklearn.multiclass import OneVsRestClassifier
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from core.datasets.records import Record, load_records
from core.db.session import Database
from core.errors import InvalidInputError
from core.settings import Settings
from core.storage import Storage
from core.vocabulary import TaskType
from core.zoo import catalogue
from core.zoo.evidence import SAMPLE, Candidate, Measurement, ranked
from worker.engine.augment import Normalisation
from worker.engine.data import decode
from worker.engine.device import choose_device
from worker.networks import features

logger = logging.getLogger(__name__)

FOLDS = 5
NEIGHBOURS = 5
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
    several = task_type is TaskType.MULTI_LABEL
    chosen = sample(records, several=several)
    labels = _several(chosen) if several else np.array([int(record.value["label"]) for record in chosen])
    if len(chosen) < FEWEST or (labels.any(0).sum() < 1 if several else len(np.unique(labels)) < 2):
        raise InvalidInputError("These annotations are too few to measure anything on.", "Ten images of at least two classes are needed.")
    measured = []
    for done, candidate in enumerate(candidates):
        tell(done, len(candidates))
        began = time.monotonic()
        found = features_of(candidate, chosen, storage, settings)
        probe, neighbours = judged(found, labels)
        measured.append(
            Measurement(
                candidate.network,
                candidate.pretraining,
                candidate.image_size,
                probe,
                neighbours,
                logme(found, labels),
                time.monotonic() - began,
            )
        )
    return {"measured": [asdict(item) for item in ranked(measured)], "images": len(chosen)}


def sample(records: Sequence[Record], *, several: bool, most: int = SAMPLE, seed: int = 0) -> list[Record]:
    """Up to `most` records, of every class as evenly as there are; classes with a single image are left out where labels are single."""
    generator = np.random.default_rng(seed)
    if several:
        order = generator.permutation(len(records))[:most]
        return [records[row] for row in order]
    rows: dict[int, list[int]] = defaultdict(list)
    for row in generator.permutation(len(records)).tolist():
        rows[int(records[row].value["label"])].append(row)
    usable = [members for members in rows.values() if len(members) >= 2]
    share = max(2, most // max(len(usable), 1))
    return [records[row] for members in usable for row in members[:share]]


def _several(records: Sequence[Record]) -> NDArray[np.int64]:
    classes = 1 + max((int(label) for record in records for label in record.value["labels"]), default=0)
    labels = np.zeros((len(records), classes), np.int64)
    for row, record in enumerate(records):
        labels[row, [int(label) for label in record.value["labels"]]] = 1
    kept = (labels.sum(0) >= 2) & (labels.sum(0) <= len(records) - 2)  # a class that is everywhere or nowhere tells nothing
    return labels[:, kept]


@torch.inference_mode()
def features_of(candidate: Candidate, records: Sequence[Record], storage: Storage, settings: Settings) -> NDArray[np.float64]:
    """Frozen features, [images, features]."""
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


def judged(found: NDArray[np.float64], labels: NDArray[np.int64]) -> tuple[float, float]:
    """What a linear probe and the nearest neighbours make of features by cross-validation: accuracy, or mean average precision."""
    several = labels.ndim == 2
    smallest = len(labels) if several else int(np.unique(labels, return_counts=True)[1].min())
    folds = max(2, min(FOLDS, smallest))
    splits = KFold(folds, shuffle=True, random_state=0) if several else StratifiedKFold(folds, shuffle=True, random_state=0)
    linear = LogisticRegression(max_iter=300, C=0.1)
    nearest = KNeighborsClassifier(min(NEIGHBOURS, len(labels) // 2), metric="cosine", weights="distance")
    scores = []
    for judge in (linear, nearest):
        whole = make_pipeline(StandardScaler(), OneVsRestClassifier(judge) if several else judge)
        if several:
            said = cross_val_predict(whole, found, labels, cv=splits, method="predict_proba")
            scores.append(float(average_precision_score(labels, said, average="macro")))
        else:
            scores.append(float((cross_val_predict(whole, found, labels, cv=splits) == labels).mean()))
    return scores[0], scores[1]


def logme(found: NDArray[np.float64], labels: NDArray[np.int64]) -> float:
    """The logarithm of the maximum evidence of the labels given the features, for each image and class (You et al. 2021, algorithm 1)."""
    targets = labels if labels.ndim == 2 else (labels[:, None] == np.unique(labels)[None]).astype(np.int64)
    left, singular, _ = np.linalg.svd(found - found.mean(0), full_matrices=False)
    squares = singular**2
    images, width = found.shape
    total = 0.0
    for target in targets.T.astype(np.float64):
        target = target - target.mean()
        along = (left.T @ target) ** 2
        rest = max(float(target @ target - along.sum()), 0.0)
        alpha = beta = 1.0
        for _ in range(20):
            shrink = alpha + beta * squares
            weight = beta**2 * (squares * along / shrink**2).sum()
            residual = (along * (alpha / shrink) ** 2).sum() + rest
            gamma = (beta * squares / shrink).sum()
            before = alpha / beta
            alpha, beta = gamma / (weight + 1e-10), (images - gamma) / (residual + 1e-10)
            if abs(alpha / beta - before) < 1e-3 * before:
                break
        shrink = alpha + beta * squares
        weight = beta**2 * (squares * along / shrink**2).sum()
        residual = (along * (alpha / shrink) ** 2).sum() + rest
        determinant = np.log(shrink).sum() + (width - len(squares)) * np.log(alpha)
        evidence = (
            images / 2 * np.log(beta) + width / 2 * np.log(alpha) - images / 2 * np.log(2 * np.pi)
            - beta / 2 * residual - alpha / 2 * weight - determinant / 2
        )  # fmt: skip
        total += float(evidence / images)
    return float(total / targets.shape[1])
