"""What may go wrong in a training, in words a person can act on."""

import torch

from core.errors import BadDataError, StationmasterError


class TrainingError(StationmasterError):
    """Base of the engine's own errors."""


class DivergedError(TrainingError):
    """The loss is not a finite number any more."""

    def __init__(self, epoch: int, step: int, learning_rate: float, lower: float) -> None:
        super().__init__(
            f"The training diverged: in epoch {epoch}, step {step} the loss was not a finite number any more (learning rate {learning_rate:.2g}).",
            f"Train again with a lower learning rate, such as {lower:.1g}, or let auto tuning choose it.",
        )


class OutOfMemoryError(TrainingError):
    """Not even a batch of one image fits the device."""

    def __init__(self, image_size: int, device: str) -> None:
        super().__init__(
            f"The device ({device}) has not enough memory for even one image of {image_size} px.",
            "Choose a smaller input size or a smaller network, or free the device of other work.",
        )


class UnreadableImageError(BadDataError):
    """An image of the dataset that cannot be read any more."""

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(
            f"The image {path[:200]} of the dataset cannot be read any more ({reason[:200]}).", "Import the dataset again under a new name."
        )


class TooFewImagesError(BadDataError):
    """A split with an empty side."""


def is_out_of_memory(error: Exception) -> bool:
    """Whether it says that a device has no memory left, whichever library says it: torch, that of the CPU or of MPS, cuBLAS, cuDNN."""
    if isinstance(error, torch.OutOfMemoryError):
        return True
    said = ("out of memory", "can't allocate memory", "_STATUS_ALLOC_FAILED", "unable to find an engine to execute this computation")
    return any(text in str(error) for text in said)
