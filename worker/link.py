"""The engine's only way to the outside: what it may ask (must I stop?) and tell (progress, epochs, notices). Fenced by generation."""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Protocol

from core.events import Progress
from core.tasks.hyperparameters import TrainingPlan
from core.tasks.journal import FencedError as FencedError  # what the link raises
from core.tasks.sweeping import checkpoints_of
from core.vocabulary import AnnotationKind, TaskType
from core.zoo.spec import ModelSpec


class Ask(StrEnum):
    """What the outside wants of a running job."""

    GO_ON = ""
    STOP_KEEP = "keep"  # stop, the best model so far becomes the result
    STOP_DISCARD = "discard"
    PAUSE = "pause"  # the worker shuts down: checkpoint and return, another will go on
    ENOUGH = "enough"  # a search needs no more of this job: it has finished, its best epoch counts
    SLICE = "slice"  # nobody asks for it: a member of a population has come to the end of its slice


@dataclass(frozen=True)
class CopyOrder:
    """A member of a population is to go on from the weights and the optimizer's state of job `source`.

    `generation` is the first one that may make the copy: it is made once, by whichever comes to it.
    """

    generation: int
    source: int


@dataclass(frozen=True)
class TrainingJob:
    """Everything the engine needs to know of a job. Records and images are read through database and storage.

    A member of a population trains until `slice_end` epochs are finished and is then to be handed back; 0 is the plan's end.
    """

    task_id: str
    job_id: str
    job_number: int
    generation: int
    task_name: str
    task_type: TaskType
    spec: ModelSpec
    plan: TrainingPlan
    dataset_id: str
    dataset_name: str
    annotation_set_id: str
    annotation_kind: AnnotationKind
    classes: tuple[str, ...]
    parent_model_key: str = ""  # retraining: folder of the model to start from
    slice_end: int = 0
    copy: CopyOrder | None = None  # the latest there was

    @property
    def checkpoint_folder(self) -> str:
        """Storage folder of the job's checkpoints."""
        return self.checkpoint_folder_of(self.job_number)

    def checkpoint_folder_of(self, number: int) -> str:
        """Storage folder of the checkpoints of another job of the task."""
        return f"{checkpoints_of(self.task_id)}/{number}/checkpoint"

    @property
    def split_key(self) -> str:
        """Storage key of the task's split, the same for every job of it."""
        return f"tasks/{self.task_id}/split.json"


@dataclass(frozen=True)
class TrainingResult:
    """How a job's training ended. `asked` is GO_ON when it ran to its end, SLICE when the slice is over and the training is not."""

    asked: Ask
    score: float | None = None  # of the best epoch, higher is better
    metrics: dict[str, Any] = field(default_factory=dict)  # of the best epoch, flat fractions
    baseline: float | None = None  # the score of always saying the majority class, where that makes sense


class JobLink(Protocol):
    """Implemented over the database by `worker.jobs`, and over lists in the engine's tests."""

    def asked(self) -> Ask:
        """What is wanted now; cheap enough to ask at every step (a flag that the heartbeat refreshes).

        Raises:
            FencedError: when the job has been taken over.
        """
        ...

    def pausing(self) -> bool:
        """Whether the worker shuts down, whatever else is asked: then nothing is waited for. Any thread may call it."""
        ...

    def progress(self, event: Progress) -> None:
        """Tell how far it is; may be called at every step, thinned out inside."""
        ...

    def epoch_ended(
        self, number: int, values: dict[str, Any], *, score: float, metrics: dict[str, Any], is_best: bool, event: Progress
    ) -> None:
        """Store an epoch's numbers. Call only after its checkpoint is safe; a second call for one number changes nothing.

        Raises:
            FencedError: when the job has been taken over.
        """
        ...

    def noticed(self, message: str, remedy: str = "") -> None:
        """Tell the person something worth a sentence of this job."""
        ...

    def waits(self, message: str, remedy: str) -> None:
        """Tell the person what the whole task waits for; once, however many of its jobs say so. Any thread may call it."""
        ...
