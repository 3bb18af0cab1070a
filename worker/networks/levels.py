"""The pre-trained part of a network that answers with places, giving its feature maps: what frozen features of places are pooled from."""

from typing import Any

from torch import Tensor, nn

from core.settings import Settings
from core.zoo.spec import ModelSpec
from worker.networks import backbone_of, build

MOST = 3  # levels: finer ones tell edges, not kinds
COARSEST = 32  # stride: beyond it a place is more surroundings than place


class Levels(nn.Module):
    """Normalised images [N, 3, side, side] → up to three feature maps [N, channels, height, width], fine to coarse."""

    def __init__(self, part: nn.Module) -> None:
        super().__init__()
        self.part = part

    def forward(self, images: Tensor) -> list[Tensor]:
        """The maps of strides up to 32, the last three; the image itself is no level."""
        found: Any = self.part(images)
        found = getattr(found, "feature_maps", found)
        maps = list(found.values()) if isinstance(found, dict) else list(found)
        side = images.shape[-1]
        return [one for one in maps if one.ndim == 4 and side / COARSEST <= one.shape[-1] + 0.5 < side][-MOST:] or maps[-1:]


def levels(spec: ModelSpec, *, settings: Settings, image_size: int) -> Levels:
    """The pre-trained part of an entry for boxes, regions or instances, with its weights.

    Raises:
        UnavailableError: when its weights cannot be had.
    """
    network = build(spec, spec.task_types[0], 2, settings=settings, image_size=image_size)
    part = backbone_of(network, spec)
    if spec.library == "transformers":  # the wrapper wants a mask of padding, which squares have not
        part = next(iter(part.children()))
    return Levels(part)
