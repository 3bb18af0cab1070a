"""Auto select: which network × pre-training to suggest, and why. Pure functions over the catalogue; what is at hand is told by the caller."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from core.errors import InvalidInputError
from core.settings import Settings
from core.vocabulary import DataType, TaskType
from core.zoo import catalogue, weights
from core.zoo.estimates import NOTHING_YET, Estimate, Experience, estimate, fits
from core.zoo.facts import DatasetFacts, DeviceFacts
from core.zoo.spec import ModelSpec, gmacs_text

PREFERENCES = (1, 2, 3, 4, 5)
# GMACs of one image at the network's own input size that each preference aims at.
CLASSIFICATION = (0.4, 1.2, 4.5, 12.0, 40.0)
DETECTION = (5.0, 12.0, 30.0, 60.0, 110.0)
REGIONS = (4.0, 10.0, 25.0, 50.0, 90.0)
INSTANCES = (15.0, 30.0, 60.0, 110.0, 180.0)
ABOVE_BUDGET = 2.0  # times the budget is still what a preference stands for
# What a point of published accuracy is worth, and the accuracy that is worth nothing; of backbones alone, what detectors on them come to.
QUALITY = {"classification": (12.0, 0.75), "detection": (10.0, 0.40), "segmentation": (6.0, 0.62)}
ON_A_BACKBONE = {"classification": 0.0, "detection": -0.7, "segmentation": 0.0}
SEEN_SUCH_IMAGES = 3.0
SEEN_OTHERS = -2.0  # weights of one domain, chest X-rays say, for images of another
RADIOLOGY = frozenset({"ct", "mri", "x-ray"})  # nearer to one another than to photographs
FEW_IMAGES = 1_000
FEW_A_CLASS = 30  # images, however many there are in all
SMALL_OBJECT = 32  # pixels at training size; COCO's border between small and medium
FINE_LEVELS = ("Faster R-CNN", "Mask R-CNN")  # their pyramids begin at stride 4
FINE_OUTLINES = ("U-Net", "U-Net++")  # their decoders go back to full resolution step by step
OUTLINED = (DataType.CT, DataType.MRI, DataType.X_RAY, DataType.FUNDUS, DataType.MICROSCOPY)
IMAGE_WORDS = {
    DataType.CT: "CT images",
    DataType.MRI: "MRI images",
    DataType.X_RAY: "X-ray images",
    DataType.FUNDUS: "pictures of the retina",
    DataType.PHOTO: "photographs",
    DataType.MICROSCOPY: "microscope images",
    DataType.AERIAL: "images from above",
    DataType.DOCUMENT: "documents",
    DataType.INDUSTRIAL: "inspection images",
    DataType.OTHER: "such images",
}
PATIENCE_HOURS = 8.0  # a training that takes longer had better be worth it
LARGER_NOT_AT_HAND = "larger networks would suit this preference, but their pre-trained weights are not at hand here"
SIZE_WORDS = ("a very small network", "a small network", "a middling network", "a large network", "a very large network")


@dataclass(frozen=True)
class Suggestion:
    """One entry with its reasons, best first in a list. `seconds` and `memory_bytes` are estimates for the whole training and its peak."""

    spec: ModelSpec
    reasons: tuple[str, ...]
    score: float
    image_size: int
    batch_size: int
    epochs: int
    seconds: float
    memory_bytes: int


@dataclass(frozen=True)
class _Case:
    """What a suggestion is made for."""

    task_type: TaskType
    data_type: DataType
    instances: bool
    facts: DatasetFacts
    devices: DeviceFacts
    beyond: float = 0.0  # GMACs of the largest network whose weights would be allowed but are not at hand
    pretraining: str = ""

    @property
    def kind(self) -> str:
        return {TaskType.OBJECT_DETECTION: "detection", TaskType.OBJECT_SEGMENTATION: "segmentation"}.get(self.task_type, "classification")

    @property
    def budgets(self) -> tuple[float, ...]:
        return _budgets(self.task_type, instances=self.instances)


def _budgets(task_type: TaskType, *, instances: bool) -> tuple[float, ...]:
    if task_type is TaskType.OBJECT_SEGMENTATION:
        return INSTANCES if instances else REGIONS
    return DETECTION if task_type is TaskType.OBJECT_DETECTION else CLASSIFICATION


def recommend(
    task_type: TaskType,
    data_type: DataType,
    preference: int,
    facts: DatasetFacts,
    devices: DeviceFacts,
    settings: Settings,
    *,
    specs: Iterable[ModelSpec] | None = None,
    at_hand: Callable[[ModelSpec], bool] | None = None,
    instances: bool = False,
    experience: Experience = NOTHING_YET,
    pretraining: str = "",
    count: int = 5,
) -> list[Suggestion]:
    """Up to `count` entries, best first: allowed, at hand, and fitting the device. A larger `preference` never gives a smaller network.

    `specs` defaults to the whole catalogue, `at_hand` to what the weights module finds on this host. `instances` says that object segmentation
    is to tell objects of one class apart. `pretraining` leaves only entries that start from it, or from weights of the data it names;
    `none` suggests a network to train from scratch.

    Raises:
        InvalidInputError: for a preference outside 1–5, and for a pre-training that no entry at hand has.
    """
    if preference not in PREFERENCES:
        raise InvalidInputError(f"A preference is a number from 1 (small) to 5 (large); {preference} was given.")
    case, candidates = _candidates(
        _Case(task_type, data_type, instances and task_type is TaskType.OBJECT_SEGMENTATION, facts, devices, pretraining=pretraining),
        settings,
        specs,
        at_hand,
        experience,
    )
    chosen: list[tuple[float, ModelSpec, Estimate]] = []
    floor = (0.0, 0)
    for step in range(1, preference + 1):  # each step starts where the one before ended, so that sizes never fall
        large_enough = [(spec, found) for spec, found in candidates if spec.gmacs >= floor[0] and spec.parameters >= floor[1]]
        chosen = _ranked(large_enough, case, step)
        if chosen:
            floor = (chosen[0][1].gmacs, chosen[0][1].parameters)
    return [_suggestion(score, spec, found, case, preference) for score, spec, found in chosen[:count]]


def most_gmacs(task_type: TaskType, preference: int, *, instances: bool = False) -> float:
    """The most work for an image that a preference stands for, in GMACs: twice what it aims at, and for the largest anything."""
    if preference == PREFERENCES[-1]:
        return math.inf
    budgets = _budgets(task_type, instances=instances)
    return budgets[preference - 1] * ABOVE_BUDGET


def describe(
    spec: ModelSpec,
    task_type: TaskType,
    data_type: DataType,
    facts: DatasetFacts,
    devices: DeviceFacts,
    *,
    image_size: int | str = "auto",
    batch_size: int | str = "auto",
    epochs: int | None = None,
    experience: Experience = NOTHING_YET,
) -> Suggestion:
    """What can be said of one entry for a dataset and device, whoever chose it; of a training with the image size, batch size and epochs that are
    given.
    """
    case = _Case(task_type, data_type, spec.instances_only, facts, devices)
    return _suggestion(0.0, spec, estimate(spec, facts, devices, experience, image_size, batch_size, epochs), case, PREFERENCES[0])


def _candidates(
    case: _Case,
    settings: Settings,
    specs: Iterable[ModelSpec] | None,
    at_hand: Callable[[ModelSpec], bool] | None,
    experience: Experience,
) -> tuple[_Case, list[tuple[ModelSpec, Estimate]]]:
    """Everything that could be trained here: the pre-trained ones at hand, or, where there is none, networks from scratch. The case learns what is
    not at hand.
    """
    pool = [
        spec
        for spec in (catalogue.all_entries(settings) if specs is None else specs)
        if case.task_type in spec.task_types and spec.instances_only == case.instances
    ]
    have = at_hand or weights.Finder(settings).available
    if case.pretraining:
        pool = [spec for spec in pool if catalogue.starts_from(spec, case.pretraining)]
    allowed = [spec for spec in pool if spec.pretraining != catalogue.NONE and weights.allowed(spec, settings)]
    pretrained = [spec for spec in allowed if have(spec)]
    if len(pretrained) < len(allowed):
        had = {spec.name for spec in pretrained}
        case = replace(case, beyond=max(spec.gmacs for spec in allowed if spec.name not in had))
    usable = pretrained or [spec for spec in pool if spec.pretraining == catalogue.NONE]
    if case.pretraining and not usable:
        raise InvalidInputError(
            f"No network for {case.task_type.title.lower()} has the pre-training “{case.pretraining[:80]}” at hand.",
            "`stationmaster zoo list` names all there are; `none` trains from scratch.",
        )
    estimated = [(spec, estimate(spec, case.facts, case.devices, experience)) for spec in usable]
    fitting = [(spec, found) for spec, found in estimated if fits(found, case.devices)]
    return case, fitting or sorted(estimated, key=lambda item: item[1].memory_bytes)[:1]


def _ranked(items: Sequence[tuple[ModelSpec, Estimate]], case: _Case, preference: int) -> list[tuple[float, ModelSpec, Estimate]]:
    scored = sorted(
        ((_score(spec, found, case, preference), spec, found) for spec, found in items), key=lambda item: (-item[0], item[1].name)
    )
    best: dict[str, tuple[float, ModelSpec, Estimate]] = {}
    for item in scored:
        best.setdefault(item[1].network, item)  # one suggestion a network
    return list(best.values())


def _score(spec: ModelSpec, found: Estimate, case: _Case, preference: int) -> float:
    """Higher is better: near the budget, accurate, having seen such images; small rather than large for few images; done within a day."""
    distance = math.log2(max(spec.gmacs, 1e-3) / case.budgets[preference - 1])
    score = -abs(distance) * (1.0 if distance > 0 else 0.7)
    if _has_seen_such(spec, case):
        score += SEEN_SUCH_IMAGES
    elif spec.data_types and not (case.data_type.value in RADIOLOGY and RADIOLOGY & set(spec.data_types)):
        score += SEEN_OTHERS
    worth, nothing = QUALITY[case.kind]
    score += worth * (spec.accuracy - nothing) if spec.accuracy is not None else ON_A_BACKBONE[case.kind]
    if (teach := _as_many_as(case.facts)) < FEW_IMAGES:
        score -= 0.15 * math.log2(FEW_IMAGES / max(teach, 1)) * math.log10(max(spec.parameters, 1e5) / 1e5)
    if found.seconds > PATIENCE_HOURS * 3600:
        score -= math.log2(found.seconds / (PATIENCE_HOURS * 3600))
    if _finds_small_objects(spec, found, case) or _draws_fine_outlines(spec, case):
        score += 0.6
    return score


def _as_many_as(facts: DatasetFacts) -> float:
    """How many images of a few classes these teach as much as: those of many classes are fewer for each."""
    return min(facts.images, FEW_IMAGES * facts.images / max(facts.classes, 1) / FEW_A_CLASS)


def _has_seen_such(spec: ModelSpec, case: _Case) -> bool:
    """Whether the pre-training has seen images of this kind; where it says no kind, it has seen photographs, as they are on the web."""
    if spec.pretraining == catalogue.NONE:
        return False
    return case.data_type.value in spec.data_types or (case.data_type is DataType.PHOTO and not spec.data_types)


def _finds_small_objects(spec: ModelSpec, found: Estimate, case: _Case) -> bool:
    return spec.family in FINE_LEVELS and 0 < case.facts.object_side * found.image_size < SMALL_OBJECT


def _draws_fine_outlines(spec: ModelSpec, case: _Case) -> bool:
    return spec.family in FINE_OUTLINES and case.data_type in OUTLINED


def _suggestion(score: float, spec: ModelSpec, found: Estimate, case: _Case, preference: int) -> Suggestion:
    facts, devices = case.facts, case.devices
    size = min(range(5), key=lambda step: abs(math.log2(max(spec.gmacs, 1e-3) / case.budgets[step])))
    work = spec.gmacs * (found.image_size / spec.input_size) ** 2
    reasons = [
        f"{SIZE_WORDS[size]}: {spec.parameters / 1e6:.1f} million parameters, {gmacs_text(work)} an image at {found.image_size} px",
        _pretraining_reason(spec, case),
    ]
    if spec.pretraining != catalogue.NONE and spec.gmacs < case.budgets[preference - 1] / 2 and case.beyond > 2 * spec.gmacs:
        reasons.append(LARGER_NOT_AT_HAND)
    if spec.accuracy is not None:
        reasons.append(f"published accuracy {100 * spec.accuracy:.1f} % ({spec.accuracy_source.split(';')[0]})")
    if facts.images < FEW_IMAGES:
        reasons.append(f"your {facts.images:,} images are few: {_few_reason(spec, size)}")
    elif _as_many_as(facts) < FEW_IMAGES:
        each = max(1, round(facts.images / facts.classes))
        reasons.append(f"{each:,} images for each of your {facts.classes:,} classes are few: {_few_reason(spec, size)}")
    if _finds_small_objects(spec, found, case):
        reasons.append(f"your objects are small, about {facts.object_side * found.image_size:.0f} px: it looks at fine levels")
    if _draws_fine_outlines(spec, case):
        reasons.append(f"its decoder keeps fine outlines, which {IMAGE_WORDS[case.data_type]} need")
    memory = f"{found.memory_bytes / 1e9:.1f} GB"
    if fits(found, devices):
        reasons.append(f"fits the {_memory_text(devices)} at batch {found.batch_size}: needs about {memory}")
    else:
        reasons.append(f"hardly fits the {_memory_text(devices)}: needs about {memory} even at batch {found.batch_size}")
    learnt = f", as {found.jobs} past {'job here suggests' if found.jobs == 1 else 'jobs here suggest'}" if found.jobs else ""
    reasons.append(f"about {_duration(found.seconds)} for {found.epochs} epochs on {_device_text(devices)}{learnt}")
    return Suggestion(spec, tuple(reasons), score, found.image_size, found.batch_size, found.epochs, found.seconds, found.memory_bytes)


def _few_reason(spec: ModelSpec, size: int) -> str:
    if spec.pretraining == catalogue.NONE:
        return "from scratch they teach little, more images or pre-trained weights would help most"
    if size <= 1:
        return "a smaller network with strong pre-training generalises better"
    return "pre-training carries most of it, a smaller preference may generalise as well"


def _pretraining_reason(spec: ModelSpec, case: _Case) -> str:
    if spec.pretraining == catalogue.NONE:
        return "from scratch, " + ("as asked" if case.pretraining else "because no pre-trained weights are at hand")
    seen = spec.pretrained_on.removesuffix(" (backbone)")
    what = "its backbone is pre-trained" if seen != spec.pretrained_on else "pre-trained"
    if _has_seen_such(spec, case):
        return f"{what} on {seen}: {IMAGE_WORDS[case.data_type]}, as yours are"
    return f"{what} on {seen}, whose general features carry over"


def _memory_text(devices: DeviceFacts) -> str:
    least = f"{devices.memory_bytes / 1e9:.0f} GB"
    return f"{least} of the smallest of {devices.count} workers" if devices.count > 1 else f"{least} here"


def _device_text(devices: DeviceFacts) -> str:
    if devices.kind == "cpu":
        return f"{devices.cores} CPU {'core' if devices.cores == 1 else 'cores'}"
    return devices.name or ("a GPU" if devices.kind == "cuda" else "this Mac")


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    if seconds < 5400:
        return f"{round(seconds / 60)} min"
    return f"{seconds / 3600:.1f} h"
