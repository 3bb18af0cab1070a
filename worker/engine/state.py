"""Where a training stands: one object, and how it goes into a checkpoint and comes back."""

from dataclasses import astuple, dataclass, field, fields
from typing import Any

import torch
from torch import Tensor, nn

from worker.engine.average import WeightAverage
from worker.engine.watch import Unlearnt
from worker.networks.loading import restore


@dataclass
class State:
    """Everything that changes as a training goes on, apart from weights and the optimizer's own state.

    Randomness is no part of it: the order of an epoch, augmentation and dropout are functions of (seed, epoch, step).
    """

    batch_size: int  # images per step
    accumulation: int = 1  # parts in which a step's batch goes through the network
    planned_parts: int = 1  # the plan's `parts` that are in `accumulation` already
    judging_parts: int = 1  # by so much fewer images are judged at once than would be, because memory was short
    epoch: int = 0  # epochs finished and judged
    step: int = 0  # steps done in the epoch in work
    loss_sum: Tensor = field(default_factory=lambda: torch.zeros(()))  # over the images of the epoch in work, without label smoothing
    correct_sum: Tensor = field(
        default_factory=lambda: torch.zeros(())
    )  # of the shares that were right; NaN where the objective tells none
    first_loss: Tensor | None = None  # of the training's first step on images that show something, without label smoothing
    images: int = 0
    train_seconds: float = 0.0  # of the epoch in work
    seconds: float = 0.0  # of all finished epochs, validation included
    history: list[dict[str, Any]] = field(default_factory=list)  # one dict of numbers per finished epoch
    best_epoch: int = 0
    best_score: float = float("-inf")
    best_loss: float = float("inf")
    best_metrics: dict[str, Any] = field(default_factory=dict)
    best_key: str = ""
    best_remarks: dict[str, tuple[str, str]] = field(default_factory=dict)  # on the best epoch, by their codes
    lowest_loss: float = float("inf")
    lowest_trained_loss: float = float("inf")  # with label smoothing and class weights
    epochs_since_lowest: int = 0  # of either, or since the score last rose
    remarked: list[str] = field(default_factory=list)  # codes of the remarks that were already told
    remarked_of_epoch: dict[str, int] = field(default_factory=dict)  # those on a judged epoch, and on which
    unlearnt: tuple[float, float] = astuple(Unlearnt())  # its fields
    copied: int = 0  # generation of the last copy from another member of a population that was made
    over: bool = False  # ran to its end, or stopped early

    def begin_epoch(self, device: torch.device) -> None:
        """Reset what belongs to the epoch in work."""
        self.step = self.images = 0
        self.train_seconds = 0.0
        self.loss_sum, self.correct_sum = torch.zeros((), device=device), torch.zeros((), device=device)


def names_of(optimizer: torch.optim.Optimizer, network: nn.Module) -> list[str]:
    """The names of the optimizer's weights in its own order, by which its state is numbered."""
    names = {id(parameter): name for name, parameter in network.named_parameters()}
    return [names[id(parameter)] for group in optimizer.param_groups for parameter in group["params"]]


def _state_by_name(packed: dict[str, Any], network: nn.Module, optimizer: torch.optim.Optimizer) -> dict[int, Any]:
    """The packed state of each weight under its number of today: another version may group weights, and so number them, otherwise.

    A checkpoint without names was numbered as its version grouped them. Where a shape tells that this was otherwise, the optimizer begins anew.
    """
    kept: dict[int, Any] = packed["optimizer"]["state"]
    own = names_of(optimizer, network)
    if "optimized" in packed:
        number_of = {name: number for number, name in enumerate(packed["optimized"])}
        return {number: kept[number_of[name]] for number, name in enumerate(own) if number_of.get(name) in kept}
    shapes = dict(network.named_parameters())
    fits = max(kept, default=-1) < len(own) and all(
        value.shape == shapes[own[number]].shape
        for number, values in kept.items()
        for value in values.values()
        if isinstance(value, Tensor) and value.ndim
    )
    return kept if fits else {}


def pack(state: State, network: nn.Module, optimizer: torch.optim.Optimizer, average: WeightAverage | None) -> dict[str, Any]:
    """All of it as plain values and tensors; tensors are not copied."""
    return {
        "state": {one.name: getattr(state, one.name) for one in fields(State)},
        "best_key": state.best_key,
        "network": network.state_dict(),
        "optimizer": optimizer.state_dict(),
        "optimized": names_of(optimizer, network),
        "average": average.state() if average is not None else None,
    }


def unpack(
    packed: dict[str, Any], network: nn.Module, optimizer: torch.optim.Optimizer, average: WeightAverage | None, device: torch.device
) -> State:
    """Put everything back where it came from."""
    unpack_weights(packed, network, optimizer, average)
    state = State(**packed["state"])
    state.loss_sum = state.loss_sum.to(device)
    state.correct_sum = state.correct_sum.to(device)
    return state


def unpack_weights(packed: dict[str, Any], network: nn.Module, optimizer: torch.optim.Optimizer, average: WeightAverage | None) -> None:
    """Weights, their average and the optimizer's state; the optimizer keeps its own hyperparameters, which are the plan's."""
    restore(network, packed["network"])
    optimizer.load_state_dict({"state": _state_by_name(packed, network, optimizer), "param_groups": optimizer.state_dict()["param_groups"]})
    if average is not None:
        average.restore(**packed["average"])
