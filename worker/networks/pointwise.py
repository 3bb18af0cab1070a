"""Pointwise convolutions that skip pixels, as oneDNN can be trusted with them."""

from typing import Any

from torch import Tensor, nn

_BLOCK = 16  # channels that oneDNN computes at once, at most (AVX-512)


def skip_pixels_first(network: nn.Module) -> None:
    """Let 1 × 1 convolutions of few channels take every second pixel before they compute, not while; the numbers are the same.

    Of images with their channels last oneDNN's backward pass writes beyond its memory there (uxlfoundation/oneDNN, issue 6035): training
    FastViT, MobileOne or RepVGG on a CPU gave wrong gradients, or the process was killed. As in recomputed blocks (`worker.engine.recomputing`),
    each gets a class that inherits from its own, so that names of weights and checks of types stay as they are.
    """
    for part in network.modules():
        if not isinstance(part, nn.Conv2d) or part.kernel_size != (1, 1) or part.padding != (0, 0):
            continue
        if max(part.stride) > 1 and part.in_channels < _BLOCK:
            kind = type(part)
            part.skipped = part.stride  # type: ignore[assignment]
            part.stride = (1, 1)
            part.__class__ = type(kind.__name__, (_SkipsFirst, kind), {})


class _SkipsFirst(nn.Module):
    """Put before a convolution's own class."""

    skipped: tuple[int, int]

    def forward(self, images: Tensor) -> Any:
        """As the convolution's own."""
        rows, columns = self.skipped
        return super().forward(images[..., ::rows, ::columns])
