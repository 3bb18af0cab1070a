"""Which epoch of a job is the best: the one that becomes the model. Training, faces and lineage all ask here."""

from collections.abc import Mapping, Sequence
from typing import Any

_NOTHING = 0.0005  # a score below it is told as 0.0 %


def merit(score: float, validation_loss: float) -> tuple[float, float]:
    """What epochs are compared by, greater is better: of equal scores the lower loss, as of all that are told as 0.0 %."""
    return score if score >= _NOTHING else 0.0, -validation_loss


def best_epoch(history: Sequence[Mapping[str, Any]]) -> int:
    """The 1-based number of the best of a job's epochs, from the first on; of equal ones the earliest, as training keeps it. `history` is not empty."""
    return max(range(len(history)), key=lambda place: merit(float(history[place]["score"]), float(history[place]["val_loss"]))) + 1
