"""One training in work, as all parts of the engine see it."""

import time
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from core.settings import Settings
from core.tasks.hyperparameters import TrainingPlan
from worker.engine.augment import Augmentation, Normalisation
from worker.engine.average import WeightAverage
from worker.engine.checkpoint import CheckpointFolder, Copies
from worker.engine.compiling import Compilation
from worker.engine.device import Device
from worker.engine.pace import Pace
from worker.engine.source import Source
from worker.engine.state import State
from worker.engine.team import Team
from worker.link import JobLink
from worker.networks.mending import take_single_values
from worker.objectives.objective import Objective

Rows = NDArray[np.int64]


@dataclass
class Run:
    """One training in work: what it trains, on what, by which plan, and where it stands."""

    plan: TrainingPlan
    settings: Settings
    link: JobLink
    device: Device
    network: nn.Module
    optimizer: torch.optim.Optimizer
    average: WeightAverage | None
    objective: Objective
    source: Source
    train_rows: Rows
    validation_rows: Rows
    augmentation: Augmentation
    normalisation: Normalisation
    checkpoints: CheckpointFolder
    state: State
    image_size: int
    compilation: Compilation
    team: Team = field(default_factory=Team)
    # Batch norms that keep their statistics where images would go through the network alone.
    settled_norms: frozenset[nn.Module] = frozenset()
    slice_end: int = 0  # epochs after which to return though the training is not over; 0: never
    pace: Pace = field(default_factory=Pace)
    copies: Copies = field(default_factory=Copies)
    last_checkpoint: float = field(default_factory=time.monotonic)
    last_progress: float = float("-inf")

    @property
    def steps(self) -> int:
        """Steps of an epoch."""
        return -(-len(self.train_rows) // self.state.batch_size)

    @property
    def at_once(self) -> int:
        """The most images that go through the network of one process at once in training."""
        return -(-self.state.batch_size // (self.state.accumulation * self.team.size))

    @property
    def judged_at_once(self) -> int:
        """The most images that go through the network of one process at once in judging, which keeps nothing for a backward pass."""
        return max(1, 2 * self.at_once // self.state.judging_parts)

    @property
    def too_few_for_statistics(self) -> bool:
        """Whether some images would go through the network alone, which batch normalisation cannot learn from."""
        smallest = len(self.train_rows) // self.steps // self.team.size
        return smallest < 2 or (self.state.accumulation > 1 and self.at_once <= 2)

    def autocast(self) -> AbstractContextManager[Any]:
        """bfloat16 where it pays."""
        return torch.autocast(self.device.torch.type, torch.bfloat16) if self.device.bf16 else nullcontext()


def train_mode(run: Run) -> None:
    """The network ready to learn; with fixed batch statistics where the plan says so, or they are settled and batches are too small to have any."""
    run.network.train()
    if not (run.plan.frozen_statistics or run.too_few_for_statistics):
        return
    for part in run.network.modules():
        if isinstance(part, _BatchNorm):
            if run.plan.frozen_statistics or part in run.settled_norms:
                part.eval()
            else:
                take_single_values(part)
