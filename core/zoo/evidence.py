"""Evidence mode: which candidates are measured on a sample of the person's own images, and what becomes of the advice."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from core.errors import InvalidInputError, UnavailableError
from core.settings import Settings
from core.vocabulary import DataType, TaskType
from core.zoo import catalogue, weights
from core.zoo.facts import DatasetFacts, DeviceFacts
from core.zoo.recipes import resolve_image_size
from core.zoo.recommend import PREFERENCES, recommend
from core.zoo.spec import ModelSpec

MOST_CANDIDATES = 8
SAMPLE = 400  # images: a minute or two for a small network on two cores
LARGER = 1.5  # each candidate is also tried at a larger side, as long as there are few


@dataclass(frozen=True)
class Candidate:
    """An entry at an input size in pixels."""

    network: str
    pretraining: str
    image_size: int


@dataclass(frozen=True)
class Measurement:
    """What frozen features of a candidate show, best first in a list.

    `linear_probe` and `nearest_neighbours` are fractions by cross-validation (accuracy; of several labels an image, mean average precision);
    `logme` is the log evidence of the labels for each image.
    """

    network: str
    pretraining: str
    image_size: int
    linear_probe: float
    nearest_neighbours: float
    logme: float
    seconds: float


def candidates(task_type: TaskType, data_type: DataType, facts: DatasetFacts, devices: DeviceFacts, settings: Settings) -> list[Candidate]:
    """Up to eight: what is suggested for each preference with weights that lie here already, then the same at a larger side.

    Raises:
        InvalidInputError: for task types whose networks give no features for a whole image.
        UnavailableError: when no pre-trained weights are at hand.
    """
    if task_type not in (TaskType.SINGLE_LABEL, TaskType.MULTI_LABEL):
        raise InvalidInputError(
            f"Candidates cannot be measured for {task_type.title.lower()} yet.", "The suggestion by facts is still there."
        )
    finder = weights.Finder(settings)
    found: dict[str, ModelSpec] = {}
    for preference in PREFERENCES:
        for item in recommend(
            task_type, data_type, preference, facts, devices, settings, at_hand=lambda spec: finder.locate(spec) is not None, count=3
        ):
            if item.spec.pretraining != catalogue.NONE:
                found.setdefault(item.spec.name, item.spec)
    if not found:
        raise UnavailableError(
            "No pre-trained weights are at hand to be measured.", "Put some into STATIONMASTER_WEIGHTS_DIR, or add your own with `zoo add`."
        )
    specs = list(found.values())[:MOST_CANDIDATES]
    sizes = [(spec, resolve_image_size(spec, facts, "auto")) for spec in specs]
    larger = [
        (spec, next((size for size in range(round(side * LARGER), side * 3) if spec.accepts_size(size)), side)) for spec, side in sizes
    ]
    chosen = dict.fromkeys(Candidate(spec.network, spec.pretraining, side) for spec, side in [*sizes, *larger])
    return list(chosen)[:MOST_CANDIDATES]


def ranked(measured: Sequence[Measurement]) -> list[Measurement]:
    """Best first: by the linear probe, and where that says the same by the neighbours and the evidence."""
    return sorted(measured, key=lambda item: (-item.linear_probe, -item.nearest_neighbours, -item.logme))


def payload(dataset_id: str, annotation_set_id: str, task_type: TaskType, chosen: Sequence[Candidate]) -> dict[str, Any]:
    """Of the light job `evidence`."""
    return {
        "dataset_id": dataset_id,
        "annotation_set_id": annotation_set_id,
        "task_type": task_type.value,
        "candidates": [asdict(candidate) for candidate in chosen],
    }


def of_result(result: Mapping[str, Any]) -> list[Measurement]:
    """What a finished job found, best first."""
    return [Measurement(**row) for row in result.get("measured", ())]


def sentences(measured: Sequence[Measurement]) -> list[tuple[str, str]]:
    """Rows for people: the candidate, and what it shows."""
    return [
        (
            f"{place}. {item.network} ({item.pretraining}) at {item.image_size} px",
            f"linear probe {item.linear_probe:.1%}, neighbours {item.nearest_neighbours:.1%}, evidence {item.logme:.2f}; {item.seconds:.0f} s",
        )
        for place, item in enumerate(measured, 1)
    ]
