"""Class activation maps by gradients, for networks of any library (Grad-CAM, Selvaraju et al. 2017)."""

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

# The deepest features say most of the class, but of a 48 px image they have two positions a side: the deepest with at least so many is used.
_FEWEST_POSITIONS = 6


def activation_map(network: nn.Module, images: Tensor) -> tuple[Tensor, NDArray[np.float32] | None]:
    """The logits of one image, and where in it the evidence for its most likely class lies.

    Args:
        network: in eval mode; its forward gives logits [1, classes].
        images: [1, 3, side, side].

    Returns:
        Logits [classes], and a map [height, width] of 0–1, coarser than the image; None where the network's features have no places, or
        none of them speaks for the class.
    """
    seen: list[Tensor] = []

    def keep(_module: nn.Module, _inputs: object, output: object) -> Tensor | None:
        if not isinstance(output, Tensor) or not output.requires_grad or _as_map(network, output) is None:
            return None
        seen.append(output)
        return output.clone()  # what follows may change its input in place

    hooks = [module.register_forward_hook(keep) for module in network.modules() if module is not network]
    try:
        with torch.enable_grad():
            logits = network(images.detach().requires_grad_())[0].float()
            gradients = torch.autograd.grad(logits.max(), seen, allow_unused=True) if seen else ()
    finally:
        for hook in hooks:
            hook.remove()
    fallback = None
    for features, gradient in zip(reversed(seen), reversed(gradients), strict=True):
        if gradient is None:
            continue
        values, slopes = _as_map(network, features.detach()), _as_map(network, gradient)
        if values is None or slopes is None or not bool(slopes.any()):
            continue
        heat = (values * slopes.mean((1, 2), keepdim=True)).sum(0).clamp(min=0)
        if float(heat.max()) <= 0:
            continue
        heat = heat / heat.max()
        if min(heat.shape) >= _FEWEST_POSITIONS:
            return logits.detach(), heat.numpy().astype(np.float32)
        fallback = heat if fallback is None or min(heat.shape) > min(fallback.shape) else fallback
    return logits.detach(), None if fallback is None else fallback.numpy().astype(np.float32)


def _as_map(network: nn.Module, features: Tensor) -> Tensor | None:
    """Features of one square image as [channels, height, width], whichever way round they come; None where they have no places."""
    if features.ndim == 4 and features.shape[0] == 1:
        if features.shape[2] == features.shape[3] > 1:
            return features[0]
        if features.shape[1] == features.shape[2] > 1:  # channels last, as in Swin
            return features[0].permute(2, 0, 1)
    if features.ndim == 3 and features.shape[0] == 1:  # tokens
        tokens = features.shape[1] - int(getattr(network, "num_prefix_tokens", 0))
        side = math.isqrt(max(0, tokens))
        if side > 1 and side * side == tokens:
            return features[0, -tokens:].T.reshape(-1, side, side)
    return None
