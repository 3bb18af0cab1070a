"""Every network of the catalogue is built with another number of classes, and one of each family learns."""

import pytest
import torch
from torch import nn

from core.settings import Settings
from core.vocabulary import TaskType
from core.zoo import catalogue
from core.zoo.recipes import DETECTORS, PLACES, REGIONS
from core.zoo.spec import ModelSpec
from worker.networks import build

CLASSES = 3
SCRATCH = [spec for spec in catalogue.entries() if spec.pretraining == catalogue.NONE]


def smallest_of_each_family() -> list[ModelSpec]:
    """By kind of network and family the one with the least work."""
    found: dict[tuple[str, ...], ModelSpec] = {}
    for spec in sorted(SCRATCH, key=lambda spec: spec.gmacs):
        found.setdefault((spec.recipe, spec.library, spec.family, *spec.task_types), spec)
    return list(found.values())


def small_side(spec: ModelSpec, least: int) -> int:
    """The smallest side from `least` on that the network takes."""
    return spec.input_size if spec.fixed_size else next(side for side in range(least, 2000) if spec.accepts_size(side))


@pytest.fixture
def settings(tmp_path):
    return Settings(home=tmp_path / "home", offline=True, _env_file=None)


def targets(side: int, *, with_masks: bool) -> list[dict[str, torch.Tensor]]:
    boxes = torch.tensor([[0.1, 0.1, 0.5, 0.6], [0.3, 0.4, 0.9, 0.9]]) * side
    target = {"boxes": boxes, "labels": torch.tensor([0, 2])}
    if with_masks:
        target["masks"] = torch.zeros(2, side, side, dtype=torch.uint8)
        for mask, (left, top, right, bottom) in zip(target["masks"], boxes.int().tolist(), strict=True):
            mask[top:bottom, left:right] = 1
    return [target, target]


def run(network: nn.Module, spec: ModelSpec, side: int, images: int = 2) -> torch.Tensor:
    """A number to learn from."""
    batch = torch.randn(images, 3, side, side)
    if spec.recipe in (*DETECTORS, "detection-transformer"):
        losses = network(batch, targets(side, with_masks=spec.instances_only))
        return sum(losses.values())
    logits = network(batch)
    wanted = (images, CLASSES, side, side) if spec.recipe in REGIONS else (images, CLASSES)
    assert logits.shape == wanted
    return (logits.float() - 1).square().mean()


@pytest.mark.long
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("library", sorted({spec.library for spec in SCRATCH}))
def test_every_network_is_built_with_another_number_of_classes(settings, library):
    wrong = {}
    for spec in (spec for spec in SCRATCH if spec.library == library):
        side = small_side(spec, 64)
        try:
            with torch.device("cpu" if spec.recipe == "detection-transformer" else "meta"):
                network = build(spec, spec.task_types[0], CLASSES, settings=settings, image_size=side).eval()
                many = sum(parameter.numel() for parameter in network.parameters())
                # The outputs alone may differ from the catalogue's, which were counted with seven classes.
                if not 0.8 <= many / spec.parameters <= 1.05:
                    wrong[spec.network] = f"{many} parameters, {spec.parameters} in the catalogue"
                if spec.recipe == "convolutional" and not any(
                    "norm" in type(part).__name__.lower() or "Std" in type(part).__name__ for part in network.modules()
                ):
                    wrong[spec.network] = "nothing is normalised in it: at the rate of its recipe it would learn nothing"
                if spec.recipe not in (*DETECTORS, "detection-transformer"):
                    run(network, spec, side, 1)
        except Exception as error:  # noqa: BLE001 - all are tried, then all failures are told
            wrong[spec.network] = f"{type(error).__name__}: {error}"[:200]
    assert not wrong


@pytest.mark.long
@pytest.mark.timeout(600)
@pytest.mark.parametrize("spec", smallest_of_each_family(), ids=lambda spec: spec.network)
def test_one_of_each_family_learns(settings, spec):
    side = small_side(spec, 128 if spec.recipe in PLACES else 64)
    torch.manual_seed(0)
    network = build(spec, spec.task_types[0], CLASSES, settings=settings, image_size=side).train()
    before = {name: parameter.detach().clone() for name, parameter in network.named_parameters()}
    optimizer = torch.optim.AdamW(network.parameters(), 1e-3)
    for _ in range(2):  # outputs that begin at zero let nothing through in the first step
        optimizer.zero_grad()
        loss = run(network, spec, side)
        loss.backward()
        assert torch.isfinite(loss)
        optimizer.step()
    changed = [name for name, parameter in network.named_parameters() if not torch.equal(parameter, before[name])]
    assert len(changed) > 0.7 * len(before)


def test_each_task_type_has_networks_to_count_on():
    for task_type in TaskType:
        assert len(catalogue.families(task_type)) >= 7
