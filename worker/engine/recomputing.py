"""Activation checkpointing (Chen et al. 2016) for networks of any library: a block's inside is computed again when the backward pass needs it.

The blocks are found by how networks are built, because most libraries have no switch for it; and timm's own counts batch statistics twice.
"""

import inspect
import math
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from copy import copy
from typing import Any

from torch import Tensor, is_grad_enabled, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

from worker.networks.behaviour import put_before

# A part with fewer convolutions or linear layers keeps little that its own input does not; one with more would, computed again at once,
# need as much memory as is to be saved.
_FEWEST, _MOST = 2, 12


def computes_again(network: nn.Module) -> bool:
    """Let the blocks of a network compute their activations again for the backward pass instead of keeping them.

    Costs about a third more time a step; loss, gradients and batch statistics stay the same. Returns whether that changes anything: false
    where the network has no blocks, or all do so already.
    """
    changed = False
    for block in list(_blocks(network)):
        if not isinstance(block, (_Recomputing, _RecomputingInParts)):
            flat = isinstance(block, nn.Sequential) and type(block).forward is nn.Sequential.forward
            put_before(block, _RecomputingInParts if flat else _Recomputing)
            changed = True
    return changed


def _blocks(module: nn.Module) -> Iterator[nn.Module]:
    """The parts that are worth it, none within another."""
    for child in module.children():
        if _weighted(child) < _FEWEST:
            continue
        if _is_whole(child):
            yield child
        else:
            yield from _blocks(child)


def _is_whole(module: nn.Module) -> bool:
    """Whether a part is one block, not one of several blocks."""
    if isinstance(module, (nn.ModuleList, nn.ModuleDict)):
        return False  # called piece by piece
    if isinstance(module, nn.Sequential):
        return not any(_weighted(child) >= _FEWEST for child in module)
    # What is given targets draws samples and computes losses: the parts of it are blocks, it is none. Nor is what others listen into.
    if "targets" in inspect.signature(module.forward).parameters or any(
        _is_listened_to(part) for part in module.modules() if part is not module
    ):
        return False
    rows = (part for part in module.modules() if isinstance(part, (nn.Sequential, nn.ModuleList)))
    return _weighted(module) <= _MOST and not any(sum(_weighted(child) >= _FEWEST for child in row) > 1 for row in rows)


def _weighted(module: nn.Module) -> int:
    """How many convolutions and linear layers there are in it."""
    return sum(any(weight.ndim > 1 for weight in part.parameters(recurse=False)) for part in module.modules())


def _is_listened_to(module: nn.Module) -> bool:
    return bool(module._forward_hooks or module._forward_pre_hooks)


class _Recomputing(nn.Module):
    """Put before a block's own class."""

    def forward(self, *args: Any, **named: Any) -> Any:
        """As the block's own."""
        return _recomputed(self, super().forward, *args, **named)


class _RecomputingInParts(nn.Sequential):
    """Put before the class of a row of layers, of which each part is computed again by itself: the square root of their number, each with as many."""

    def forward(self, input: Any) -> Any:
        """As the row's own."""
        for part in _cut(list(self)):
            input = _recomputed(self, nn.Sequential(*part).forward, input)
        return input


def _cut(layers: list[nn.Module]) -> list[list[nn.Module]]:
    """Layers in parts that begin with a convolution or linear layer: activations may change their input in place."""
    parts: list[list[nn.Module]] = []
    length = math.isqrt(max(1, len(layers) - 1)) + 1
    for layer in layers:
        if not parts or (len(parts[-1]) >= length and _weighted(layer)):
            parts.append([])
        parts[-1].append(layer)
    return parts


def _recomputed(block: nn.Module, forward: Any, *args: Any, **named: Any) -> Any:
    if not (block.training and is_grad_enabled()):
        return forward(*args, **named)

    def contexts() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
        return nullcontext(), _statistics_kept(block)

    # What was given must be the same the second time: lists that others grow (DenseNet's) are taken as they are now.
    args, named = tuple(_as_now(value) for value in args), {name: _as_now(value) for name, value in named.items()}
    given = [tensor for value in (*args, *named.values()) for tensor in _tensors(value)]
    versions = [tensor._version for tensor in given]
    result = checkpoint(forward, *args, use_reentrant=False, context_fn=contexts, **named)
    if versions != [tensor._version for tensor in given]:
        raise RuntimeError(f"{type(block).__name__} changes its input in place, so that it cannot be computed again.")
    return result


def _as_now(value: Any) -> Any:
    return copy(value) if isinstance(value, (list, dict)) else value


def _tensors(value: Any) -> list[Tensor]:
    values = value.values() if isinstance(value, dict) else value if isinstance(value, (list, tuple)) else [value]
    return [one for one in values if isinstance(one, Tensor)]


@contextmanager
def _statistics_kept(block: nn.Module) -> Iterator[None]:
    """A block in which batch norms do not take in the same batch once more: what they know gets all the weight, and they count no batches.

    (To have them not track statistics would save other tensors than the first time, which `checkpoint` does not allow.)
    """
    norms = [part for part in block.modules() if isinstance(part, _BatchNorm) and part.track_running_stats]
    kept = [(norm.momentum, norm.num_batches_tracked) for norm in norms]
    for norm in norms:
        norm.momentum, norm.num_batches_tracked = 0.0, None
    try:
        yield
    finally:
        for norm, (momentum, batches) in zip(norms, kept, strict=True):
            norm.momentum, norm.num_batches_tracked = momentum, batches
