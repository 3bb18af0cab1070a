"""What is noticed while a training runs, and said in words with the likely remedy."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from core.tasks.hyperparameters import TrainingPlan

Remarks = Mapping[str, tuple[str, str]]  # by a code: what, and the likely remedy

# This project's own. Where hardly anything is left to be learnt losses waver by more (three images a class: 0.13, then 0.46): only what also
# exceeds the first epoch's loss has undone the learning.
EXPLODED = 3.0
# So much above the entropy of guessing the truth is held for a seventh as likely as by guessing. Of tf_efficientnet_lite0 on 4 and on 40 classes of stripes (48 px)
# first epochs that went well ended at most 0.2 above it, those whose learning rate was much too high 3.7 to 14.
_ABOVE_CHANCE = 2.0
# Detectors' losses differ from batch to batch, by how many images show objects: RetinaNet's over lite0 four times. Exploded ones reached 800 times.
_ABOVE_FIRST = 10
# Rates that these optimizers seldom exceed where pre-trained networks learn on.
_COMMON_RATE = {"sgd": 1e-2, "adamw": 1e-3}


@dataclass(frozen=True)
class Unlearnt:
    """A network that has learnt nothing: about what its training `loss` is, and the `limit` from which on the loss of an epoch has exploded."""

    loss: float = 0.0
    limit: float = math.inf

    @classmethod
    def of(cls, chance: float | None, first: float | None) -> "Unlearnt":
        """By what guessing has, the objective's `chance_loss`; else by the loss of the first step on images that show something. Without either nothing is known."""
        if chance is not None:
            return cls(chance, chance + _ABOVE_CHANCE)
        return cls(first, _ABOVE_FIRST * first) if first else cls()


def exploding(
    history: Sequence[Mapping[str, Any]], train_loss: float, lower: float, unlearnt: Unlearnt, *, val_loss: float = 0.0
) -> dict[str, tuple[str, str]]:
    """By a code the sentence and remedy when an epoch's training loss has exploded; else nothing.

    It has where it reaches the limit of `unlearnt`, or is `EXPLODED` times the lowest before it and above the first, or twice the first and above
    that of a network that has learnt nothing, or `EXPLODED` times that where the validation loss reaches the limit: that alone may be an early
    epoch's batch statistics. `history` holds the `train_loss` of the epochs before, `lower` is the learning rate to be tried instead.
    """
    lowest = min((float(point["train_loss"]) for point in history), default=0.0)
    first = float(history[0]["train_loss"]) if history else 0.0
    if train_loss >= unlearnt.limit or (val_loss >= unlearnt.limit and train_loss >= EXPLODED * unlearnt.loss):
        compared = f"; of a network that has learnt nothing it is about {unlearnt.loss:.3g}"
    elif lowest > 0 and train_loss > first and (train_loss >= EXPLODED * lowest or train_loss >= max(2 * first, unlearnt.loss)):
        compared = f", after {lowest:.3g} before"
    else:
        return {}
    return {
        "exploding": (
            f"The loss explodes: {train_loss:.3g} in epoch {len(history) + 1}{compared}.",
            f"If it does not come down again, train with a lower learning rate, such as {lower:.1g}.",
        )
    }


def lower_rate(plan: TrainingPlan) -> float:
    """The learning rate to try where the plan's was too high: a tenth of it, and none above what the optimizer is commonly used with."""
    return min(plan.learning_rate / 10, _COMMON_RATE[plan.optimizer])


def of_epoch(epoch: int, remarks: Remarks, *, exploded: bool = False) -> dict[str, tuple[str, str]]:
    """Remarks on an epoch that was judged while the training goes on: they say which, for a later one may be the model.

    Where the loss has `exploded` they have no remedy of their own: that of the explosion is.
    """
    return {code: (f"Epoch {epoch}: {what}", "" if exploded else remedy) for code, (what, remedy) in remarks.items()}


def of_model(best_epoch: int, remarks: Remarks, told: Mapping[str, int], *, exploded: bool = False) -> dict[str, tuple[str, str]]:
    """What the end says: the remarks on the best epoch, which is the model, and of which of those `told` before it does not hold.

    `told` is the epoch of each remark that was made while the training went on, by its code; what was told of the best one is not told again.
    `exploded` as in `of_epoch`.
    """
    said = {
        code: (f"Epoch {best_epoch}, the best and thus the model: {what}", "" if exploded else remedy)
        for code, (what, remedy) in remarks.items()
        if told.get(code) != best_epoch
    }
    for code, epoch in told.items():
        if code not in remarks:
            said[code] = (f"What was remarked of epoch {epoch} does not hold of the best epoch, {best_epoch}, which is the model.", "")
    return said
