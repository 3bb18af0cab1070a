"""Learning-rate schedules as one pure function of the step, and the optimizer of a plan."""

import math
from collections.abc import Collection
from typing import Any

import torch
from timm.optim._param_groups import param_groups_layer_decay
from torch import nn

from core.tasks.hyperparameters import TrainingPlan

# Layers below the head of ViT-B, for which BEiT's authors give the decay; ConvNeXt's authors take 12 for all sizes.
_DEPTH = 13
# One-cycle as Smith and Topin (2018) and torch's OneCycleLR have it: up for 30 % of the steps from 1/25, then down to 1/250,000.
_ONE_CYCLE_UP = 0.3
_ONE_CYCLE_START = 1 / 25
_ONE_CYCLE_END = 1 / 250_000
# Step decay: a tenth after each third of the training, as in He et al. (2015).
_STEP_DECAY = 0.1


def learning_rate_factor(plan: TrainingPlan, step: int, steps_per_epoch: int) -> float:
    """What the plan's learning rate is multiplied with at the 0-based `step` of the whole training; 0–1."""
    total = plan.epochs * steps_per_epoch
    # A warm-up never takes more than half of a short training.
    warm_up = min(plan.warmup_epochs * steps_per_epoch, total / 2)
    if plan.learning_rate_schedule == "one-cycle":
        up = max(warm_up, _ONE_CYCLE_UP * total)
        if step < up:
            return _between(_ONE_CYCLE_START, 1.0, step / up)
        return _between(1.0, _ONE_CYCLE_END, min(1.0, (step - up) / max(1.0, total - 1 - up)))
    if step < warm_up:
        return (step + 1) / (warm_up + 1)
    done = min(1.0, (step - warm_up) / max(1.0, total - warm_up))
    if plan.learning_rate_schedule == "cosine":
        return 0.5 * (1 + math.cos(math.pi * done))
    if plan.learning_rate_schedule == "step":
        return float(_STEP_DECAY ** min(2, int(done * 3)))
    return 1.0


def _between(start: float, end: float, share: float) -> float:
    return end + (start - end) * 0.5 * (1 + math.cos(math.pi * share))


def set_learning_rate(optimizer: torch.optim.Optimizer, learning_rate: float) -> None:
    """Give each group the learning rate times its own scale."""
    for group in optimizer.param_groups:
        group["lr"] = learning_rate * group.get("lr_scale", 1.0)


def _undecayed(network: nn.Module) -> Collection[str]:
    """The weights that the network's authors train without weight decay, by name; timm's networks know."""
    named = getattr(network, "no_weight_decay", None)
    return named() if named is not None else ()


def build_optimizer(network: nn.Module, plan: TrainingPlan, backbone: nn.Module | None = None) -> torch.optim.Optimizer:
    """The plan's optimizer over all that can be trained; the `backbone`, where there is one, takes the plan's share of the learning rate.

    AdamW leaves biases and normalisation without weight decay, and what the network's authors name (embeddings of positions); plain SGD is what the
    person typed, for every weight.
    """
    groups: list[dict[str, Any]]
    if plan.layer_decay < 1:
        groups = [
            {key: value for key, value in group.items() if key != "param_names"}
            for group in param_groups_layer_decay(
                network, plan.weight_decay, no_weight_decay_list=_undecayed(network), layer_decay=plan.layer_decay
            )
        ]
        least = min(group["lr_scale"] for group in groups)
        if least < plan.layer_decay**_DEPTH:
            # Of a network of forty layers the first would stand still: steps are the smaller, the more there are.
            for group in groups:
                group["lr_scale"] **= _DEPTH * math.log(plan.layer_decay) / math.log(least)
    else:
        trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
        if plan.optimizer == "sgd":
            groups = [{"params": trained, "weight_decay": plan.weight_decay}]
        else:
            groups = [
                {"params": [parameter for parameter in trained if parameter.ndim > 1], "weight_decay": plan.weight_decay},
                {"params": [parameter for parameter in trained if parameter.ndim <= 1], "weight_decay": 0.0},
            ]
    if backbone is not None and plan.backbone_factor < 1:
        below = set(backbone.parameters())
        groups = [
            {**group, "params": [one for one in group["params"] if (one in below) is slow], "lr_scale": scale * group.get("lr_scale", 1.0)}
            for slow, scale in ((False, 1.0), (True, plan.backbone_factor))
            for group in groups
        ]
    groups = [group for group in groups if group["params"]]
    fused = {parameter.device.type for group in groups for parameter in group["params"]} <= {"cpu", "cuda", "mps"}
    if plan.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=plan.learning_rate, fused=fused)
    return torch.optim.SGD(groups, lr=plan.learning_rate, momentum=plan.momentum, fused=fused)
