"""Activations computed again: less is kept, and nothing else changes."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import timm
import torch
from small_networks import REGIONS
from torch import Tensor, nn
from torchvision.models import densenet121, resnet18, vgg11_bn

from worker.engine.recomputing import computes_again
from worker.networks.detection import BUILDERS, Detector
from worker.networks.segmentation import build_over

SIDE = 96
TARGETS = [{"boxes": torch.tensor([[8.0, 8, 40, 40], [30, 50, 80, 90]]), "labels": torch.tensor([0, 1])}] * 2


def vgg() -> nn.Module:
    network = vgg11_bn()
    network.classifier = nn.Linear(512 * 7 * 7, 2)  # the three layers of its own are a hundred million weights
    return network


def pyramid_detector() -> nn.Module:
    return Detector(BUILDERS["faster_rcnn"]("test_resnet", 2))


def segmenter() -> nn.Module:
    return build_over("fpn", REGIONS.network.partition("-")[2], 2)


class Shared(nn.Module):
    """A block with dropout and batch statistics that is used twice a step, as heads over a pyramid are."""

    def __init__(self) -> None:
        super().__init__()
        block = nn.Sequential(
            nn.Conv2d(3, 3, 3), nn.BatchNorm2d(3), nn.SiLU(inplace=True), nn.Dropout(), nn.Conv2d(3, 3, 3), nn.SiLU(inplace=True)
        )
        self.rows = nn.ModuleList([block])

    def forward(self, images: Tensor) -> Tensor:
        found: Tensor = self.rows[0](self.rows[0](images))
        return found


def loss_of(network: nn.Module, images: Tensor) -> Tensor:
    if isinstance(network, Detector):
        return torch.stack(list(network(images, TARGETS).values())).sum()
    loss: Tensor = network(images).float().pow(2).mean()
    return loss


def step(network: nn.Module) -> tuple[float, dict[str, Tensor], int]:
    """The loss of two steps, gradients with batch statistics, and the bytes kept for the backward pass of the last."""
    optimizer, kept, loss = torch.optim.SGD(network.parameters(), 1e-3), 0, torch.zeros(())

    def pack(tensor: Tensor) -> Tensor:
        nonlocal kept
        kept += tensor.numel() * tensor.element_size()
        return tensor

    for number in range(2):
        kept = 0
        torch.manual_seed(number)
        images = torch.randn(2, 3, SIDE, SIDE)
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            loss = loss_of(network, images)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    gradients = {name: weight.grad for name, weight in network.named_parameters() if weight.grad is not None}
    return float(loss.detach()), gradients | dict(network.named_buffers()), kept


@pytest.mark.parametrize(
    "build",
    [resnet18, vgg, densenet121, lambda: timm.create_model("test_resnet"), pyramid_detector, segmenter, Shared],
    ids=["ResNet", "VGG", "DenseNet", "timm", "Faster R-CNN", "FPN", "shared"],
)
def test_loss_gradients_and_statistics_stay_and_less_is_kept(build: Callable[[], nn.Module]) -> None:
    torch.manual_seed(0)
    network = build().train()
    again = copy.deepcopy(network)
    assert computes_again(again) and not computes_again(again)
    assert list(again.state_dict()) == list(network.state_dict())
    assert all(isinstance(new, type(old)) for new, old in zip(again.modules(), network.modules(), strict=True))
    loss, numbers, kept = step(network)
    loss_again, numbers_again, kept_again = step(again)
    assert loss_again == pytest.approx(loss, rel=1e-5)
    assert numbers.keys() == numbers_again.keys()
    for name, value in numbers.items():
        torch.testing.assert_close(numbers_again[name], value, rtol=1e-4, atol=1e-6, msg=lambda text, name=name: f"{name}: {text}")
    assert kept_again < 0.6 * kept


def test_a_copy_computes_with_its_own_weights() -> None:
    network = resnet18(num_classes=2)
    computes_again(network)
    other = copy.deepcopy(network)
    with torch.no_grad():
        for weight in other.parameters():
            weight.zero_()
    images = torch.randn(2, 3, SIDE, SIDE)
    assert other(images).abs().max() == 0 and network(images).abs().max() > 0


def test_a_block_that_changes_its_input_is_refused() -> None:
    class Changing(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Linear(4, 4), nn.Linear(4, 4)

        def forward(self, values: Tensor) -> Any:
            return self.second(self.first(values.mul_(2)))

    network = nn.Sequential(nn.Linear(4, 4), Changing(), Changing())
    computes_again(network)
    with pytest.raises(RuntimeError, match="changes its input in place"):
        network(torch.randn(2, 4))
