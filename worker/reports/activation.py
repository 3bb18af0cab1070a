"""Class activation maps by gradients, for networks of any library (Grad-CAM, Selvaraju et al. 2017)."""

import math
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

# The deepest features say most of the class, but of a 48 px image they have two positions a side: the deepest with at least so many is used.
_FEWEST_POSITIONS = 6
# In the names of classes: attention itself, and what has it among other things.
_ATTENTION = ("attention", "attn", "mhsa", "xca", "gpsa")
_BLOCKS = ("block", "layer")


Maps = list[NDArray[np.float32] | None]


def activation_maps(
    network: nn.Module, images: Tensor, chosen: Callable[[Tensor], Tensor] = lambda logits: logits.argmax(1, keepdim=True)
) -> tuple[Tensor, list[Maps]]:
    """The logits of images, and where in each the evidence for some of its classes lies.

    Args:
        network: in eval mode, so that no image has a part in what is said of another; its forward gives logits [n, classes].
        images: [n, 3, side, side].
        chosen: of the logits the classes that maps are asked for, [n, k]; the most likely one where nothing else is asked.

    Returns:
        Logits [n, classes], and for each image k maps [height, width] of 0–1, coarser than the image; None where the network's features
        have no places, or none of them speaks for the class.
    """
    seen: list[Tensor] = []

    def keep(_module: nn.Module, _inputs: object, output: object) -> Tensor | None:
        if not isinstance(output, Tensor) or not output.requires_grad or _as_maps(network, output, len(images)) is None:
            return None
        seen.append(output)
        return output.clone()  # what follows may change its input in place

    hooks = [module.register_forward_hook(keep) for module in _with_places(network)]
    maps: list[Maps] = [[] for _ in images]
    try:
        with torch.enable_grad():
            logits = network(images.detach().requires_grad_()).float()
            columns = chosen(logits.detach()).unbind(1)
            for number, column in enumerate(columns, 1):
                said = logits.gather(1, column[:, None]).sum()
                more = number < len(columns)
                gradients = torch.autograd.grad(said, seen, allow_unused=True, retain_graph=more) if seen else ()
                for place, heat in enumerate(_maps_of(network, seen, gradients, len(images))):
                    maps[place].append(heat)
    finally:
        for hook in hooks:
            hook.remove()
    return logits.detach(), maps


def _maps_of(network: nn.Module, seen: Sequence[Tensor], gradients: Sequence[Tensor | None], images: int) -> Maps:
    """The map of each image, of the deepest features that have places enough and speak for the class whose gradients these are."""
    found: list[Tensor | None] = [None] * images
    open_ = set(range(images))  # those for which a finer map is looked for
    for features, gradient in zip(reversed(seen), reversed(gradients), strict=True):
        if gradient is None or not open_:
            continue
        values, slopes = _as_maps(network, features.detach(), images), _as_maps(network, gradient, images)
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
    return [None if heat is None else heat.cpu().numpy().astype(np.float32) for heat in found]


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
