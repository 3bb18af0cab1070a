"""What is noticed while a training runs, and said in words with the likely remedy."""

from collections.abc import Mapping, Sequence
from typing import Any

# This project's own: with a sound learning rate no epoch's loss was seen to rise by more than a half.
EXPLODED = 3.0


def exploding(history: Sequence[Mapping[str, Any]], train_loss: float, learning_rate: float) -> dict[str, tuple[str, str]]:
    """By a code the sentence and remedy when an epoch's training loss is `EXPLODED` times the lowest before it; nothing otherwise.

    `history` holds the `train_loss` of the epochs before, `learning_rate` is the plan's.
    """
    lowest = min((float(point["train_loss"]) for point in history), default=0.0)
    if lowest <= 0 or train_loss < EXPLODED * lowest:
        return {}
    return {
        "exploding": (
            f"The loss explodes: {train_loss:.3g} in epoch {len(history) + 1}, after {lowest:.3g} before.",
            f"If it does not come down again, train with a lower learning rate, such as {learning_rate / 10:.1g}.",
        )
    }
