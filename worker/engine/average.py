"""The exponential moving average of a network's weights."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class WeightAverage:
    """Averages of weights and of batch statistics, θ' ← d·θ' + (1 − d)·θ after each step.

    The decay d grows with the steps, (1 + n) / (10 + n) at most `decay`, as in TensorFlow's ExponentialMovingAverage: so that short
    trainings are not held back by their first weights.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self._decay = decay
        self._steps = 0
        self._live = [tensor for tensor in network.state_dict(keep_vars=True).values() if tensor.is_floating_point()]
        self._averages = [tensor.detach().clone() for tensor in self._live]

    @torch.no_grad()
    def update(self) -> None:
        """Take in the weights after a step."""
        self._steps += 1
        decay = min(self._decay, (1 + self._steps) / (10 + self._steps))
        torch._foreach_lerp_(self._averages, [tensor.detach() for tensor in self._live], 1 - decay)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """The network with its averages as weights, as long as the block lasts."""
        with torch.no_grad():
            kept = [tensor.detach().clone() for tensor in self._live]
            torch._foreach_copy_([tensor.detach() for tensor in self._live], self._averages)
        try:
            yield
        finally:
            with torch.no_grad():
                torch._foreach_copy_([tensor.detach() for tensor in self._live], kept)

    def of(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """The averages of some of the network's tensors."""
        places = {tensor.data_ptr(): average for tensor, average in zip(self._live, self._averages, strict=True)}
        return [places[tensor.data_ptr()] for tensor in tensors]

    @staticmethod
    def applied_to(weights: dict[str, Tensor], averages: list[Tensor]) -> dict[str, Tensor]:
        """A state dict of the network with `averages`, in the order of `state`, in the places of what is averaged."""
        names = [name for name, tensor in weights.items() if tensor.is_floating_point()]
        return {**weights, **dict(zip(names, averages, strict=True))}

    def state(self) -> dict[str, int | list[Tensor]]:
        """What `restore` takes."""
        return {"steps": self._steps, "averages": self._averages}

    def restore(self, steps: int, averages: list[Tensor]) -> None:
        """Go on where `state` was taken."""
        self._steps = steps
        for mine, kept in zip(self._averages, averages, strict=True):
            mine.copy_(kept)
