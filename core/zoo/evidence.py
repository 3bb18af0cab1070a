"""Evidence mode: which candidates are measured on a sample of the person's own images, and what becomes of the advice."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from core.errors import UnavailableError
from core.settings import Settings
from core.vocabulary import DataType, TaskType
from core.zoo import catalogue, weights
from core.zoo.facts import DatasetFacts, DeviceFacts
from core.zoo.recipes import resolve_image_size
from core.zoo.recommend import PREFERENCES, recommend
from core.zoo.spec import ModelSpec

MOST_CANDIDATES = 8
# Images: a minute or two for small networks on two cores; of larger ones fewer are looked at, so that it stays a matter of minutes.
SAMPLE, SMALLEST_SAMPLE = 400, 60
MOST_GMACS = 16_000.0  # of all candidates on all images: two cores do some 60 to 80 a second
SUGGESTED = 3  # looked at for each preference
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

    `linear_probe` and `nearest_neighbours` are fractions by cross-validation: accuracy, of images or, where networks answer with places, of places
    (objects, regions, and such that show nothing); of several labels an image, mean average precision. `logme` is the log evidence of the labels
    for each of them.
    """

    network: str
    pretraining: str
    image_size: int
    linear_probe: float
    nearest_neighbours: float
    logme: float
    seconds: float


def candidates(
    task_type: TaskType,
    data_type: DataType,
    facts: DatasetFacts,
    devices: DeviceFacts,
    settings: Settings,
    *,
    instances: bool = False,
) -> list[Candidate]:
    """Up to eight: what is suggested for each preference with weights that lie here already, then the same at a larger side.

    Of networks for places that share a backbone and its weights only the first suggested is taken: their frozen features are the same.

    Raises:
        UnavailableError: when no pre-trained weights are at hand.
    """
    finder = weights.Finder(settings)
    found: dict[tuple[str, str], ModelSpec] = {}
    for preference in PREFERENCES:
        for item in recommend(
            task_type,
            data_type,
            preference,
            facts,
            devices,
            settings,
            at_hand=lambda spec: finder.locate(spec) is not None,
            instances=instances,
            count=SUGGESTED,
        ):
            if item.spec.pretraining != catalogue.NONE:
                found.setdefault((backbone_of(item.spec), item.spec.pretraining), item.spec)
    if not found:
        raise UnavailableError(
            "No pre-trained weights are at hand to be measured.", "Put some into STATIONMASTER_WEIGHTS_DIR, or add your own with `zoo add`."
        )
    specs = list(found.values())[:MOST_CANDIDATES]
    sizes = [(spec, resolve_image_size(spec, facts, "auto", devices.kind)) for spec in specs]
    larger = [
        (spec, next((size for size in range(round(side * LARGER), side * 3) if spec.accepts_size(size)), side)) for spec, side in sizes
    ]
    chosen = dict.fromkeys(Candidate(spec.network, spec.pretraining, side) for spec, side in [*sizes, *larger])
    return list(chosen)[:MOST_CANDIDATES]


def sample_size(chosen: Sequence[Candidate], settings: Settings) -> int:
    """How many images of the dataset the candidates are measured on."""
    each = 0.0
    for candidate in chosen:
        spec = catalogue.find_spec(candidate.network, candidate.pretraining, settings)
        each += spec.gmacs * (candidate.image_size / spec.input_size) ** 2
    return max(SMALLEST_SAMPLE, min(SAMPLE, int(MOST_GMACS / max(each, 1e-3))))


def backbone_of(spec: ModelSpec) -> str:
    """The network that gives an entry's features: of `retinanet-resnet18` resnet18, else the network itself."""
    over = spec.library in ("torchvision over timm", "segmentation-models-pytorch")
    return spec.network.partition("-")[2] if over else spec.network


def best_for(measured: Sequence[Measurement], limits: Sequence[float], settings: Settings) -> Measurement:
    """The best measured network that is no larger than the preference stands for; a larger preference never gives a smaller network.

    Args:
        measured: best first.
        limits: the most GMACs of an image for each preference from 1 up to the person's own (`core.zoo.recommend.most_gmacs`).
        settings: to look the entries up.
    """
    sized = [(item, catalogue.find_spec(item.network, item.pretraining, settings)) for item in measured]
    chosen = min(sized, key=lambda pair: (pair[1].gmacs, pair[1].parameters))
    for limit in limits:
        least = chosen[1]
        chosen = next(
            (item, spec)
            for item, spec in sized
            if spec == least or (least.gmacs <= spec.gmacs <= limit and least.parameters <= spec.parameters)
        )
    return chosen[0]


def ranked(measured: Sequence[Measurement]) -> list[Measurement]:
    """Best first: by the linear probe, and where that says the same by the neighbours and the evidence.

    Of the three the probe's order went best with full fine-tuning (`benchmarks/evidence_ranking.py`: rank correlations of 0.86 to 0.88, the others
    0.64 to 0.87).
    """
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
