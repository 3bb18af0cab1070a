"""What libraries' layers do by default that no training here should meet."""

from typing import Any

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from worker.networks.behaviour import put_before

_BLOCK = 16  # channels that oneDNN computes at once, at most (AVX-512)
_LEAST_MOMENTUM, _USUAL_MOMENTUM = 0.02, 0.1


def mend(network: nn.Module) -> None:
    """Change such layers of a network in place. What they compute once they have learnt, and the names of their weights, stay."""
    for part in network.modules():
        if isinstance(part, _BatchNorm):
            _keep_up(part)
        elif isinstance(part, nn.Conv2d):
            _skip_pixels_first(part)


def _keep_up(norm: _BatchNorm) -> None:
    """Let a batch norm's statistics follow what it is trained on within the some hundred steps of a fine-tuning: by torch's usual share a step.

    The 0.01 of torchvision's MobileNetV3 and MaxViT, and the 0.0003 of its MNASNet, are meant for hundreds of thousands of steps. On photographs
    (`python benchmarks/training_accuracy.py --task-type single-label --source photograph-halves --data-type photo --set epochs=4`)
    tf_efficientnet_lite0 had 80 % with 0.01 and 93 % with 0.1.
    """
    if norm.momentum is not None and norm.momentum < _LEAST_MOMENTUM:
        norm.momentum = _USUAL_MOMENTUM


def _skip_pixels_first(convolution: nn.Conv2d) -> None:
    """Let a 1 × 1 convolution of few channels take every second pixel before it computes, not while; the numbers are the same.

    Of images with their channels last oneDNN's backward pass writes beyond its memory there (uxlfoundation/oneDNN, issue 6035): training
    FastViT, MobileOne or RepVGG on a CPU gave wrong gradients, or the process was killed.
    """
    if convolution.kernel_size != (1, 1) or convolution.padding != (0, 0):
        return
    if max(convolution.stride) > 1 and convolution.in_channels < _BLOCK:
        convolution.skipped = convolution.stride  # type: ignore[assignment]
        convolution.stride = (1, 1)
        put_before(convolution, _SkipsFirst)


def take_single_values(norm: _BatchNorm) -> None:
    """Let a batch norm that learns its statistics use them as they are where it is given one value a channel, which has none: pooled single images."""
    if not isinstance(norm, _TakesSingleValues):
        put_before(norm, _TakesSingleValues)


class _TakesSingleValues(nn.Module):
    """Put before a batch norm's own class."""

    def forward(self, maps: Tensor) -> Any:
        """As the norm's own."""
        if not self.training or maps.numel() > maps.shape[1]:
            return super().forward(maps)
        self.training = False
        try:
            return super().forward(maps)
        finally:
            self.training = True


class _SkipsFirst(nn.Module):
    """Put before a convolution's own class."""

    skipped: tuple[int, int]

    def forward(self, images: Tensor) -> Any:
        """As the convolution's own."""
        rows, columns = self.skipped
        return super().forward(images[..., ::rows, ::columns])
