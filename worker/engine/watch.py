"""What is noticed while a training runs, and said in words with the likely remedy."""

from collections.abc import Mapping, Sequence
from typing import Any

Remarks = Mapping[str, tuple[str, str]]  # by a code: what, and the likely remedy

# This project's own. Where hardly anything is left to be learnt losses waver by more (three images a class: 0.13, then 0.46): only what also
# exceeds the first epoch's loss has undone the learning.
EXPLODED = 3.0


def exploding(history: Sequence[Mapping[str, Any]], train_loss: float, learning_rate: float) -> dict[str, tuple[str, str]]:
    """By a code the sentence and remedy when an epoch's training loss is `EXPLODED` times the lowest before it and above the first; else nothing.

    `history` holds the `train_loss` of the epochs before, `learning_rate` is the plan's.
    """
    lowest = min((float(point["train_loss"]) for point in history), default=0.0)
    if lowest <= 0 or train_loss < EXPLODED * lowest or train_loss <= float(history[0]["train_loss"]):
        return {}
    return {
        "exploding": (
            f"The loss explodes: {train_loss:.3g} in epoch {len(history) + 1}, after {lowest:.3g} before.",
            f"If it does not come down again, train with a lower learning rate, such as {learning_rate / 10:.1g}.",
        )
    }


def of_epoch(epoch: int, remarks: Remarks) -> dict[str, tuple[str, str]]:
    """Remarks on an epoch that was judged while the training goes on: they say which, for a later one may be the model."""
    return {code: (f"Epoch {epoch}: {what}", remedy) for code, (what, remedy) in remarks.items()}


def of_model(best_epoch: int, remarks: Remarks, told: Mapping[str, int]) -> dict[str, tuple[str, str]]:
    """What the end says: the remarks on the best epoch, which is the model, and of which of those `told` before it does not hold.

    `told` is the epoch of each remark that was made while the training went on, by its code.
    """
    said = {code: (f"Epoch {best_epoch}, the best and thus the model: {what}", remedy) for code, (what, remedy) in remarks.items()}
    for code, epoch in told.items():
        if code not in remarks:
            said[code] = (f"What was remarked of epoch {epoch} does not hold of the best epoch, {best_epoch}, which is the model.", "")
    return said
