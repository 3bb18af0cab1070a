"""Class activation maps by gradients, for networks of any library (Grad-CAM, Selvaraju et al. 2017)."""

import math
from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

# The deepest features say most of the class, but of a 48 px image they have two positions a side: the deepest with at least so many is used.
_FEWEST_POSITIONS = 6
# In the names of classes: attention itself, and what has it among other things.
_ATTENTION = ("attention", "attn", "mhsa", "xca", "gpsa")
_BLOCKS = ("block", "layer")


def activation_maps(network: nn.Module, images: Tensor) -> tuple[Tensor, list[NDArray[np.float32] | None]]:
    """The logits of images, and where in each the evidence for its most likely class lies.

    Args:
        network: in eval mode, so that no image has a part in what is said of another; its forward gives logits [n, classes].
        images: [n, 3, side, side].

    Returns:
        Logits [n, classes], and for each image a map [height, width] of 0–1, coarser than the image; None where the network's features
        have no places, or none of them speaks for the class.
    """
    seen: list[Tensor] = []

    def keep(_module: nn.Module, _inputs: object, output: object) -> Tensor | None:
        if not isinstance(output, Tensor) or not output.requires_grad or _as_maps(network, output, len(images)) is None:
            return None
        seen.append(output)
        return output.clone()  # what follows may change its input in place

    hooks = [module.register_forward_hook(keep) for module in _with_places(network)]
    try:
        with torch.enable_grad():
            logits = network(images.detach().requires_grad_()).float()
            gradients = torch.autograd.grad(logits.amax(1).sum(), seen, allow_unused=True) if seen else ()
    finally:
        for hook in hooks:
            hook.remove()
    found: list[Tensor | None] = [None] * len(images)
    open_ = set(range(len(images)))  # those for which a finer map is looked for
    for features, gradient in zip(reversed(seen), reversed(gradients), strict=True):
        if gradient is None or not open_:
            continue
        values, slopes = _as_maps(network, features.detach(), len(images)), _as_maps(network, gradient, len(images))
        if values is None or slopes is None:
            continue
        heat = (values * slopes.mean((2, 3), keepdim=True)).sum(1).clamp(min=0)
        most = heat.amax((1, 2))
        fine = min(heat.shape[1:]) >= _FEWEST_POSITIONS
        for number, value in enumerate(most.tolist()):
            known = found[number]
            if number in open_ and value > 0 and (fine or known is None or min(heat.shape[1:]) > min(known.shape)):
                found[number] = heat[number] / value
                if fine:
                    open_.remove(number)
    return logits.detach(), [None if heat is None else heat.cpu().numpy().astype(np.float32) for heat in found]


def _with_places(network: nn.Module) -> Iterator[nn.Module]:
    """The parts of a network whose outputs may have places.

    Attention is none, nor what is within: what looks like a map there has a query a row and a key a column, or is a window that was filled up.
    """
    if hasattr(network, "unroll"):  # Hiera has its tokens in the order of its windows, and only at last in that of their places
        yield network.blocks[-1]  # type: ignore[index,misc]
        return
    for part in network.children():
        kind = type(part).__name__.lower()
        if any(word in kind for word in _ATTENTION) and not any(word in kind for word in _BLOCKS):
            continue
        yield part
        yield from _with_places(part)


def _as_maps(network: nn.Module, features: Tensor, images: int) -> Tensor | None:
    """Features of square images as [images, channels, height, width], whichever way round they come; None where they have no places."""
    if features.shape[:1] != (images,):
        return None
    if features.ndim == 4:
        if features.shape[2] == features.shape[3] > 1:
            return features
        if features.shape[1] == features.shape[2] > 1:  # channels last, as in Swin
            return features.permute(0, 3, 1, 2)
    if features.ndim == 3:  # tokens
        declared = int(getattr(network, "num_prefix_tokens", 0))
        # torchvision's and some of timm's have a class token and do not say so, CaiT's says so and has it in the last blocks only.
        for prefix in dict.fromkeys((declared, 0, 1)):
            tokens = features.shape[1] - prefix
            side = math.isqrt(max(0, tokens))
            if side > 1 and side * side == tokens:
                return features[:, -tokens:].transpose(1, 2).reshape(len(features), -1, side, side)
    return None
