"""Retraining: a network takes over another's weights, and of its outputs the rows of the classes that both know, by name."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from core.errors import UnavailableError
from worker.networks.loading import restore

# Rows of four coordinates for each class, class after class; elsewhere the classes follow each other within each anchor.
CLASS_AFTER_CLASS = ("bbox_pred",)
# Layers of detection transformers that keep a last row for “no object”; torchvision's detectors keep a first one for the background.
LAST_ROW_EXTRA = ("denoising_class_embed",)


@dataclass(frozen=True)
class _Rows:
    """How the first dimension of a tensor is made of classes: `each` rows a class, `extra` classes besides, before or behind."""

    each: int
    extra: int
    first: int  # place of the first real class
    class_after_class: bool

    def blocks(self, tensor: Tensor) -> Tensor:
        """[classes + extra, each, …]"""
        shape = tensor.shape[1:]
        if self.class_after_class:
            return tensor.reshape(-1, self.each, *shape)
        return tensor.reshape(self.each, -1, *shape).transpose(0, 1)

    def joined(self, blocks: Tensor) -> Tensor:
        """The inverse of `blocks`."""
        if not self.class_after_class:
            blocks = blocks.transpose(0, 1)
        return blocks.reshape(-1, *blocks.shape[2:])


@torch.no_grad()
def inherit(
    network: nn.Module, classes: Sequence[str], wider: nn.Module, weights: Mapping[str, Tensor], before: Sequence[str]
) -> list[str]:
    """Load `weights`, a network's that knew the classes `before`, into `network`, which knows `classes`; `wider` is one with a class more.

    New classes begin as `network` has them. Returns the names of the classes whose rows were taken over.

    Raises:
        UnavailableError: when a tensor that does not depend on the classes is missing or of another shape.
    """
    own, more = network.state_dict(), wider.state_dict()
    kept = [name for name in classes if name in set(before)]
    loaded: dict[str, Tensor] = {}
    for name, tensor in own.items():
        given = weights.get(name)
        if tensor.shape == more[name].shape:
            if given is None or given.shape != tensor.shape:
                raise UnavailableError(
                    f"The model to start from does not fit: {name} is {'missing' if given is None else f'{tuple(given.shape)}, not {tuple(tensor.shape)}'}.",
                    "Networks that are built for one image size learn on at the size that they were trained at: set it under Input size.",
                )
            loaded[name] = given
            continue
        rows = _rows_of(name, len(tensor), len(more[name]), len(classes))
        if given is None or len(given) != rows.each * (len(before) + rows.extra) or given.shape[1:] != tensor.shape[1:]:
            raise UnavailableError(f"The model to start from does not fit: {name} has other outputs.", "Choose another model.")
        new, old = rows.blocks(tensor).clone(), rows.blocks(given.to(tensor.dtype))
        for index, extra in enumerate(range(len(new) - rows.extra, len(new)) if not rows.first else range(rows.extra)):
            new[extra] = old[len(old) - rows.extra + index if not rows.first else index]
        for class_name in kept:
            new[rows.first + list(classes).index(class_name)] = old[rows.first + list(before).index(class_name)]
        loaded[name] = rows.joined(new)
    restore(network, loaded)
    return kept


def _rows_of(name: str, size: int, wider: int, classes: int) -> _Rows:
    each = wider - size
    extra = size // each - classes
    first = 0 if any(part in name for part in LAST_ROW_EXTRA) else extra
    return _Rows(each, extra, first, any(part in name for part in CLASS_AFTER_CLASS))
