"""Of each class the rates that follow from how often it was rightly and wrongly said."""

from typing import NamedTuple

import torch
from torch import Tensor


class Rates(NamedTuple):
    """How often a class was rightly said, wrongly said, overlooked, and rightly not said; a rate of nothing is None."""

    true: float
    false: float
    missed: float
    rest: float = 0  # of no interest to any but the specificity

    @property
    def overlap(self) -> float | None:
        """F1 of labels and objects, Dice of pixels."""
        return share(2 * self.true, 2 * self.true + self.false + self.missed)

    @property
    def iou(self) -> float | None:
        """Intersection over union, of pixels."""
        return share(self.true, self.true + self.false + self.missed)

    @property
    def precision(self) -> float | None:
        """How much of what was said is right."""
        return share(self.true, self.true + self.false)

    @property
    def recall(self) -> float | None:
        """How much of what is there was said; also called sensitivity."""
        return share(self.true, self.true + self.missed)

    @property
    def specificity(self) -> float | None:
        """How much of what is not there was not said."""
        return share(self.rest, self.rest + self.false)


def share(part: float, whole: float) -> float | None:
    """`part` of `whole`; None of nothing."""
    return part / whole if whole else None


def counts_of(confusion: Tensor) -> Tensor:
    """Of each class true and false positives, false and true negatives, [classes, 4].

    Args:
        confusion: images by what they show (rows) and what was said of them (columns), [classes, classes].
    """
    true = confusion.diagonal()
    said, shown = confusion.sum(0), confusion.sum(1)
    return torch.stack([true, said - true, shown - true, confusion.sum() - said - shown + true], 1)
