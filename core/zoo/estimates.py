"""What training an entry on a dataset would take: image size, batch, epochs, time and memory. Corrected by what past tasks took here."""

import math
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field

from sqlalchemy import select
from sqlalchemy.orm import Session

from core.db.tables import Epoch, Job, Task
from core.errors import InvalidInputError
from core.tasks.states import State
from core.zoo import catalogue
from core.zoo.facts import DatasetFacts, DeviceFacts
from core.zoo.recipes import REGIONS, auto_batch_size, auto_epochs, resolve_image_size
from core.zoo.spec import ModelSpec

# Share of the device's memory that a job may plan with; the rest is the data's and the system's.
MEMORY_SHARE = 0.8
FRAMEWORK_BYTES = 600_000_000  # what torch itself takes, on a GPU its context
BYTES_PER_PARAMETER = 16  # weight, gradient and AdamW's two moments, fp32
# What the loss of regions keeps of each pixel for each class: logits in full precision, their softmax, truth and gradients. With it a feature pyramid on
# lite0 is planned with 12.0 GB for 150 classes in batches of 8 at 512 px, where 10.8 were measured for the step alone.
BYTES_PER_CLASS = 24
# Sustained multiply-adds a second in training: of a CPU core (measured with lite0 and lite1 at 48 to 64 px), of an Apple chip (a guess), of a GPU in
# mixed precision (fitted to the timm project's 478 training speeds on an RTX 3090 that the zoo lists).
MACS_PER_SECOND = {"cpu": 2.5e10, "mps": 1.0e12, "cuda": 2.0e13}
# What moving the activations costs, as multiply-adds for each byte of them: networks of depthwise convolutions compute little and move much. With it
# the estimates of those 478 networks are wrong by a factor of 1.6 on the average (the deviation of the logarithms), without by 2.3.
MACS_PER_BYTE = {"cpu": 40.0, "mps": 60.0, "cuda": 110.0}
STEP_SECONDS = {"cpu": 0.01, "mps": 0.03, "cuda": 0.03}  # of a step, whatever its batch: launching, optimizer
START_SECONDS = 10.0  # decoding, building, the model's pictures
TOGETHER = 0.9  # of its speed that each of several GPUs keeps when they train one job: they wait for each other's gradients
PASSES = 3  # forward once, backward twice as much
VALIDATION = 1.1
MB_PER_GMAC = 25  # of activations, where nothing was measured
PAST_JOBS = 100  # of such a device that are learned from
RECENT_JOBS = 1_000  # of all devices that they are looked for among, so that advice takes no longer as the years go by


@dataclass(frozen=True)
class Experience:
    """What past tasks showed, by recipe: sustained multiply-adds a second, how many times the planned memory, and of how many jobs that is known."""

    macs_per_second: Mapping[str, float] = field(default_factory=dict)
    memory_factor: Mapping[str, float] = field(default_factory=dict)
    jobs: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Estimate:
    """`seconds` of the whole training and `memory_bytes` at its peak; `jobs` how many past jobs the time rests on."""

    image_size: int
    batch_size: int
    epochs: int
    seconds: float
    memory_bytes: int
    jobs: int = 0


NOTHING_YET = Experience()


def estimate(
    spec: ModelSpec,
    facts: DatasetFacts,
    devices: DeviceFacts,
    experience: Experience = NOTHING_YET,
    image_size: int | str = "auto",
    batch_size: int | str = "auto",
    epochs: int | None = None,
) -> Estimate:
    """What a training would take on this device: by the family's recipe, but for what is given.

    `image_size` in pixels, or auto; with a `batch_size` of auto the batch is smaller where memory is short.
    """
    side = resolve_image_size(spec, facts, image_size, devices.kind)
    batch = batch_size if isinstance(batch_size, int) else auto_batch_size(spec, facts.training)
    epochs = auto_epochs(spec, facts, devices.kind) if epochs is None else epochs
    factor = experience.memory_factor.get(spec.recipe, 1.0)
    while (
        batch_size == "auto"
        and batch > 1
        and memory(spec, side, batch, devices, factor, classes=facts.classes) > devices.memory_bytes * MEMORY_SHARE
    ):
        batch //= 2
    seconds = training_seconds(spec, side, batch, epochs, facts, devices, experience)
    return Estimate(
        side, batch, epochs, seconds, memory(spec, side, batch, devices, factor, classes=facts.classes), experience.jobs.get(spec.recipe, 0)
    )


def training_seconds(
    spec: ModelSpec, side: int, batch: int, epochs: int, facts: DatasetFacts, devices: DeviceFacts, experience: Experience = NOTHING_YET
) -> float:
    """What a whole training takes: on images of `side` pixels, `batch` of them a step."""
    rate = experience.macs_per_second.get(spec.recipe, planned_rate(devices))
    steps = epochs * math.ceil(facts.training / batch)
    images = epochs * facts.training
    return START_SECONDS + steps * STEP_SECONDS[devices.kind] + images * work(spec, side, devices.kind) * VALIDATION / rate


def fits(found: Estimate, devices: DeviceFacts) -> bool:
    """Whether the device has the memory."""
    return found.memory_bytes <= devices.memory_bytes * MEMORY_SHARE


def planned_rate(devices: DeviceFacts) -> float:
    """Multiply-adds a second, before there is any experience."""
    if devices.kind == "cpu":
        return MACS_PER_SECOND["cpu"] * devices.cores
    return MACS_PER_SECOND[devices.kind] * (1 if devices.per_job == 1 else devices.per_job * TOGETHER)


def work(spec: ModelSpec, side: int, kind: str) -> float:
    """Multiply-adds of training on one image of `side` pixels on a device of that kind, moving the activations included."""
    return (PASSES * spec.gmacs * 1e9 + _activations(spec) * MACS_PER_BYTE[kind]) * (side / spec.input_size) ** 2


def _activations(spec: ModelSpec) -> float:
    """Bytes that one fp32 image keeps for the backward pass, at the network's own size."""
    return (spec.memory_mb if spec.memory_mb is not None else spec.gmacs * MB_PER_GMAC) * 1e6


def memory(spec: ModelSpec, side: int, batch: int, devices: DeviceFacts, factor: float = 1.0, *, classes: int = 0) -> int:
    """Bytes at the peak of a training step, of one device where several share the batch; with many `classes` the loss of regions has its share."""
    batch = math.ceil(batch / devices.per_job)
    each = _activations(spec) * (side / spec.input_size) ** 2
    half = 0.6 if devices.kind == "cuda" else 1.0  # bfloat16 halves most of the activations
    of_loss = BYTES_PER_CLASS * classes * side**2 if spec.recipe in REGIONS else 0
    return int(FRAMEWORK_BYTES + factor * (spec.parameters * BYTES_PER_PARAMETER + batch * (each * half + of_loss)))


def learn(session: Session, devices: DeviceFacts) -> Experience:
    """What the last finished jobs on such a device took, as far as they are among the installation's last thousand.

    Each observation weighs as much as the plan: the mean is taken of logarithms, because being twice too fast is as wrong as twice too slow.
    """
    # Both limits before any join: the index ix_jobs_ended yields the jobs in this order, and plans and epochs are read of those alone.
    recent = (
        select(Job.id, Job.device, Job.finished_at)
        .where(Job.state == State.FINISHED)
        .order_by(Job.finished_at.desc())
        .limit(RECENT_JOBS)
        .subquery()
    )
    alike = recent.c.device.like("CPU%") if devices.kind == "cpu" else recent.c.device == devices.name
    past = select(recent.c.id).where(alike).order_by(recent.c.finished_at.desc()).limit(PAST_JOBS).subquery()
    rows = session.execute(
        select(Task.network, Job.plan, Epoch.values)
        .select_from(past)
        .join(Job, Job.id == past.c.id)
        .join(Task, Task.id == Job.task_id)
        .join(Epoch, (Epoch.job_id == Job.id) & (Epoch.number == Job.epoch))
    )
    rates: dict[str, list[float]] = defaultdict(list)
    factors: dict[str, list[float]] = defaultdict(list)
    for network, plan, values in rows:
        try:
            spec = catalogue.of_network(network)[-1]
        except (IndexError, InvalidInputError):  # a network that the catalogue no longer holds
            continue
        side, batch = int(plan["image_size"]), plan.get("batch_size", "auto")
        if (speed := float(values.get("images_per_second", 0))) > 0:
            rates[spec.recipe].append(speed * work(spec, side, devices.kind))
        if (peak := float(values.get("peak_memory_bytes", 0))) > 0 and isinstance(batch, int):
            planned = memory(spec, side, batch, devices) - FRAMEWORK_BYTES
            used = peak - FRAMEWORK_BYTES if devices.kind == "cpu" else peak
            factors[spec.recipe].append(min(4.0, max(0.25, used / planned)))
    return Experience(
        {recipe: _mean_with(planned_rate(devices), found) for recipe, found in rates.items()},
        {recipe: _mean_with(1.0, found) for recipe, found in factors.items()},
        {recipe: len(found) for recipe, found in rates.items()},
    )


def _mean_with(planned: float, found: list[float]) -> float:
    return math.exp((math.log(planned) + sum(map(math.log, found))) / (1 + len(found)))
