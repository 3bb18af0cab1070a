"""What workers tell the world: frozen events, stored as rows with a number per task; the notifier reads them in order."""

from dataclasses import asdict, dataclass, field
from typing import Any, ClassVar


@dataclass(frozen=True)
class TaskEvent:
    """Base of all events. `kind` names it in the database."""

    kind: ClassVar[str] = ""

    def payload(self) -> dict[str, Any]:
        """As a JSON object."""
        return asdict(self)


@dataclass(frozen=True)
class Created(TaskEvent):
    """The task waits in the queue."""

    kind: ClassVar[str] = "created"


@dataclass(frozen=True)
class Started(TaskEvent):
    """A worker has taken a job. `resumed_epoch` is the number of epochs already done."""

    kind: ClassVar[str] = "started"
    device: str
    resumed_epoch: int = 0


@dataclass(frozen=True)
class Progress(TaskEvent):
    """Training goes on: at most every few seconds, and at each epoch's end (`epoch_ended`).

    `epoch` is the 1-based epoch in work or just ended, `step` of `steps` within it, `fraction` of the whole job 0–1,
    `seconds_left` None until it can be told, `metric` the validation score by `metric_name`, a fraction.
    """

    kind: ClassVar[str] = "progress"
    epoch: int
    epochs: int
    step: int
    steps: int
    fraction: float
    loss: float
    learning_rate: float
    images_per_second: float
    seconds_left: float | None = None
    epoch_ended: bool = False
    metric_name: str = ""
    metric: float | None = None
    best: float | None = None
    validation_loss: float | None = None


@dataclass(frozen=True)
class Noticed(TaskEvent):
    """Something worth a sentence: resumed after a loss, smaller batch after running out of memory, a class never predicted."""

    kind: ClassVar[str] = "noticed"
    message: str
    remedy: str = ""


@dataclass(frozen=True)
class Stopping(TaskEvent):
    """Somebody asked to stop. `mode` is keep or discard."""

    kind: ClassVar[str] = "stopping"
    by: str
    mode: str


@dataclass(frozen=True)
class Finished(TaskEvent):
    """The task ended with a model. `metrics` are flat fractions; `report` keys of pictures in the storage by name."""

    kind: ClassVar[str] = "finished"
    metrics: dict[str, Any]
    model_id: str
    report: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Stopped(TaskEvent):
    """The task was stopped; `model_id` where the best model so far was kept."""

    kind: ClassVar[str] = "stopped"
    model_id: str | None = None
    metrics: dict[str, Any] = field(default_factory=dict)
    report: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Failed(TaskEvent):
    """The task ended in error: a short reason and what to do next. The trace is in the worker's log only."""

    kind: ClassVar[str] = "failed"
    error: str
    remedy: str


EVENTS: dict[str, type[TaskEvent]] = {cls.kind: cls for cls in (Created, Started, Progress, Noticed, Stopping, Finished, Stopped, Failed)}


def from_row(kind: str, payload: dict[str, Any]) -> TaskEvent:
    """The event that a row holds."""
    return EVENTS[kind](**payload)
