"""What a classifier says of one image: its labels with their confidence."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor

_LABELS = 5  # named where one label is to be chosen
_USUAL_THRESHOLD = 0.5


def find_labels(logits: Tensor, classes: Sequence[str], *, several: bool, thresholds: Sequence[float]) -> list[dict[str, Any]]:
    """The labels of one image, the surest first, each with `label` and `confidence`.

    Args:
        logits: [classes].
        classes: their names.
        several: whether an image may have several; then all are told, with `present`: at or above the class's threshold. Else five are.
        thresholds: per class; where there are none, 0.5 for all.
    """
    confidences = logits.sigmoid() if several else logits.softmax(0)
    order = confidences.argsort(descending=True).tolist()
    labels: list[dict[str, Any]] = [{"label": classes[index], "confidence": float(confidences[index])} for index in order]
    if not several:
        return labels[:_LABELS]
    least = list(thresholds) or [_USUAL_THRESHOLD] * len(classes)
    for item, index in zip(labels, order, strict=True):
        item["present"] = item["confidence"] >= least[index]
    return labels
