"""Auto select: which network × pre-training to suggest, and why. Pure functions over the catalogue; what is at hand is told by the caller."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from core.errors import InvalidInputError
from core.settings import Settings
from core.vocabulary import DATA_TYPE_TITLES, DataType, TaskType
from core.zoo import catalogue, weights
from core.zoo.facts import DatasetFacts, DeviceFacts
from core.zoo.recipes import auto_batch_size, auto_epochs, resolve_image_size
from core.zoo.spec import ModelSpec, gmacs_text

# GMACs of one image at the network's own input size that each preference aims at: a factor of three to four a step.
BUDGETS = {1: 0.4, 2: 1.2, 3: 4.5, 4: 12.0, 5: 40.0}
FEW_IMAGES = 1_000
# Share of the device's memory that a job may plan with; the rest is the framework's and the data's.
MEMORY_SHARE = 0.8
BYTES_PER_PARAMETER = 16  # weight, gradient and AdamW's two moments, fp32
# Sustained multiply-adds a second in training (forward and backward), measured with ResNet-50-like networks: the order of magnitude is what counts.
MACS_PER_SECOND = {"cpu": 2.0e10, "mps": 6.0e11, "cuda": 8.0e12}  # of one CPU core, of a chip, of a GPU in mixed precision


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
    count: int = 5,
) -> list[Suggestion]:
    """Up to `count` entries, best first: allowed, at hand, and fitting the device. A larger `preference` never gives a smaller network.

    `specs` defaults to the whole catalogue, `at_hand` to what the weights module finds on this host.

    Raises:
        InvalidInputError: for a preference outside 1–5.
    """
    if preference not in BUDGETS:
        raise InvalidInputError(f"A preference is a number from 1 (small) to 5 (large); {preference} was given.")
    chosen: list[Suggestion] = []
    floor = (0.0, 0)
    candidates = _candidates(task_type, facts, devices, settings, specs, at_hand, instances)
    for step in range(1, preference + 1):  # each step starts where the one before ended, so that sizes never fall
        large_enough = [item for item in candidates if item.spec.gmacs >= floor[0] and item.spec.parameters >= floor[1]]
        chosen = _ranked(large_enough, data_type, step, facts, devices)
        if chosen:
            floor = (chosen[0].spec.gmacs, chosen[0].spec.parameters)
    return chosen[:count]


def _candidates(
    task_type: TaskType,
    facts: DatasetFacts,
    devices: DeviceFacts,
    settings: Settings,
    specs: Iterable[ModelSpec] | None,
    at_hand: Callable[[ModelSpec], bool] | None,
    instances: bool,
) -> list[Suggestion]:
    """Everything that could be trained here: the pre-trained ones at hand, or, where there is none, networks from scratch."""
    pool = [
        spec
        for spec in (catalogue.all_entries(settings) if specs is None else specs)
        if task_type in spec.task_types and spec.instances_only == (instances and task_type is TaskType.OBJECT_SEGMENTATION)
    ]
    have = at_hand or weights.Finder(settings).available
    pretrained = [spec for spec in pool if spec.pretraining != catalogue.NONE and weights.allowed(spec, settings) and have(spec)]
    usable = pretrained or [spec for spec in pool if spec.pretraining == catalogue.NONE]
    estimated = [_estimate(spec, facts, devices) for spec in usable]
    fitting = [item for item in estimated if item.memory_bytes <= devices.memory_bytes * MEMORY_SHARE]
    return fitting or sorted(estimated, key=lambda item: item.memory_bytes)[:1]


def _estimate(spec: ModelSpec, facts: DatasetFacts, devices: DeviceFacts) -> Suggestion:
    side, batch, epochs = resolve_image_size(spec, facts, "auto"), auto_batch_size(spec, facts), auto_epochs(spec, facts)
    area = (side / spec.input_size) ** 2
    mb = spec.memory_mb if spec.memory_mb is not None else spec.gmacs * 25
    half = 0.6 if devices.kind == "cuda" else 1.0  # bf16 halves most of the activations
    memory = int(spec.parameters * BYTES_PER_PARAMETER + batch * mb * 1e6 * area * half)
    rate = MACS_PER_SECOND[devices.kind] * (devices.cores if devices.kind == "cpu" else 1)
    work = 3 * spec.gmacs * 1e9 * area * facts.training * epochs * 1.1  # forward, backward twice as much, validation
    return Suggestion(spec, (), 0.0, side, batch, epochs, work / rate, memory)


def _ranked(
    items: Sequence[Suggestion], data_type: DataType, preference: int, facts: DatasetFacts, devices: DeviceFacts
) -> list[Suggestion]:
    scored = [_score(item, data_type, preference, facts, devices) for item in items]
    best: dict[str, Suggestion] = {}
    for item in sorted(scored, key=lambda item: (-item.score, item.spec.name)):
        best.setdefault(item.spec.network, item)  # one suggestion a network
    return list(best.values())


def _score(item: Suggestion, data_type: DataType, preference: int, facts: DatasetFacts, devices: DeviceFacts) -> Suggestion:
    """Higher is better: near the budget, accurate, having seen such images; small rather than large for few images."""
    spec = item.spec
    reasons: list[str] = []
    budget = BUDGETS[preference]
    distance = math.log2(max(spec.gmacs, 1e-3) / budget)
    score = -abs(distance) * (1.0 if distance > 0 else 0.7)
    work = spec.gmacs * (item.image_size / spec.input_size) ** 2
    reasons.append(
        f"{_size_word(spec)}: {spec.parameters / 1e6:.1f} million parameters, {gmacs_text(work)} an image at {item.image_size} px"
    )
    if spec.pretraining == catalogue.NONE:
        reasons.append("from scratch, because no pre-trained weights are at hand")
    elif data_type.value in spec.data_types:
        score += 3.0
        reasons.append(f"pre-trained on {spec.pretrained_on}, which shows {DATA_TYPE_TITLES[data_type]} images as yours are")
    else:
        reasons.append(f"pre-trained on {spec.pretrained_on}, whose general features carry over")
    if spec.accuracy is not None:
        score += 12.0 * (spec.accuracy - 0.75)
        reasons.append(f"{spec.accuracy:.1%} on {spec.accuracy_source.split(';')[0]}")
    if facts.images < FEW_IMAGES:
        score -= 0.15 * math.log2(FEW_IMAGES / max(facts.images, 1)) * math.log10(max(spec.parameters, 1e5) / 1e5)
        reasons.append(f"your {facts.images:,} images are few: a smaller network with strong pre-training generalises better")
    reasons.append(
        f"needs about {item.memory_bytes / 1e9:.1f} GB at batch {item.batch_size}; yours has {devices.memory_bytes / 1e9:.0f} GB"
    )
    reasons.append(f"about {_duration(item.seconds)} for {item.epochs} epochs on {_device_text(devices)}")
    return Suggestion(spec, tuple(reasons), score, item.image_size, item.batch_size, item.epochs, item.seconds, item.memory_bytes)


def _size_word(spec: ModelSpec) -> str:
    words = ("a very small network", "a small network", "a middling network", "a large network", "a very large network")
    return words[min(BUDGETS, key=lambda step: abs(math.log2(max(spec.gmacs, 1e-3) / BUDGETS[step]))) - 1]


def _device_text(devices: DeviceFacts) -> str:
    if devices.kind == "cpu":
        return f"{devices.cores} CPU cores"
    return devices.name or ("a GPU" if devices.kind == "cuda" else "this Mac")


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    if seconds < 5400:
        return f"{round(seconds / 60)} min"
    return f"{seconds / 3600:.1f} h"
