"""What the training loop asks of a kind of task: its targets, its loss and how it is judged."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from core.names import first_of
from worker.engine.entries import Entries


@dataclass(frozen=True)
class StepOutcome:
    """Of one batch: `loss` to learn from, `plain_loss` for people (without label smoothing), `correct` the share that was right.

    All are scalars on the device: means over the batch. `correct` is None where right and wrong are not told in training.
    """

    loss: Tensor
    plain_loss: Tensor
    correct: Tensor | None = None


@dataclass(frozen=True)
class Evaluation:
    """The validation set judged once. `score` is what the best epoch is chosen by, higher is better; `loss` is for people, as `plain_loss`.

    `metrics` are flat fractions; `details` tensors on the host that the report draws from; `remarks` by a code sentences worth telling:
    what, and the likely remedy. `trained_loss` is the loss that training lowers, label smoothing and class weights included, where that is
    another than `loss`: smoothing forbids certainty, so that after a while it falls while `loss` rises.
    """

    loss: float
    score: float
    metrics: dict[str, Any]
    details: dict[str, Tensor]
    remarks: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    trained_loss: float | None = None


class Evaluator(Protocol):
    """Gathers one pass over the validation set."""

    def update(self, outputs: Any, rows: NDArray[np.int64]) -> None:
        """Take in what `Objective.evaluation_step` gave for the images `rows`."""
        ...

    def compute(self) -> Evaluation:
        """Judge all that was taken in."""
        ...


class Objective(Protocol):
    """One kind of task. `rows` count the job's records, in the order of positions.

    What is true of images and as large as they travels with them: `targets` says what that is, and steps get of each image its entries on the
    device. Elsewhere `targets` is None, and steps get none.
    """

    targets: Entries | None
    score_name: str
    baseline: float | None  # the score of always saying the most frequent thing, where that makes sense
    chance_loss: (
        float | None
    )  # about the plain loss of guessing, and thus of a network that has learnt nothing; None where that is not known
    padding: str  # what augmentation shows beyond an image's edge, as torch's grid_sample names it

    def shows_something(self, rows: NDArray[np.int64]) -> bool:
        """Whether any of the images shows what is to be learnt: the loss of a batch that shows nothing is small for nothing."""
        ...

    def training_step(
        self, network: nn.Module, images: Tensor, targets: Sequence[Tensor], rows: NDArray[np.int64], geometry: NDArray[np.float32]
    ) -> StepOutcome:
        """Run the network on augmented images, moved by `geometry`, and compare with what is true of `rows`."""
        ...

    def evaluation_step(self, network: nn.Module, images: Tensor, targets: Sequence[Tensor], rows: NDArray[np.int64]) -> Any:
        """Run the network, which is in evaluation mode, on normalised images as they are: what an evaluator takes in."""
        ...

    def evaluator(self) -> Evaluator:
        """A fresh evaluator."""
        ...


def named(names: Sequence[str]) -> str:
    """Names of classes in a sentence: the first five, and how many more."""
    return first_of([f"“{name}”" for name in names], 5)
