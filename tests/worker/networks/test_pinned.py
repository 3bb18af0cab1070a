"""The pinned catalogue and the installed libraries say the same: names, weights, sources, licences, preprocessing."""

import json

import pytest
import torch
import torchvision

from core.settings import Settings
from core.zoo import catalogue
from worker.networks import build, classification, detection_transformers, rebuild
from worker.networks.measuring import Measured, Memory


class Pinned(Memory):
    """What the catalogue says was measured; nothing is measured anew."""

    def __init__(self, data):
        super().__init__()
        columns = ("parameters", "gmacs", "memory_mb", "min_size", "size_multiple", "fixed_size", "sized_at_build")
        for row in data["networks"]:
            facts = dict(zip(data["network_columns"], row, strict=True))
            facts |= {flag: bool(facts[flag]) for flag in ("fixed_size", "sized_at_build")}
            self.known[facts["network"]] = Measured(**{name: facts[name] for name in columns})

    def measure(self, name, *arguments, **options):
        if name not in self.known:
            raise LookupError(f"{name} is not pinned")
        return self.known[name]


@pytest.fixture(scope="module")
def data():
    return json.loads((rebuild.ZOO / "catalogue.json").read_text(encoding="utf-8"))


def test_a_rebuild_gives_what_is_pinned(data):
    networks, weights = [], []
    for network, its_weights in rebuild.all_rows(rebuild.published(), Pinned(data)):
        networks.append(network.values())
        weights.extend(weight.values() for weight in its_weights)
    assert {row[0] for row in networks} == {row[0] for row in data["networks"]}
    assert networks == data["networks"]
    names = data["weight_columns"].index("normalisation")
    known = data["normalisations"]

    def readable(rows, table):
        return [[*row[:names], table[row[names]], *row[names + 1 :]] for row in rows]

    assert readable(weights, rebuild.WeightRow.normalisations()) == readable(data["weights"], known)


@pytest.mark.parametrize("network", ["resnet18", "tf_efficientnet_lite0", "convnext_atto", "swin_tiny_patch4_window7_224"])
def test_what_was_measured_is_still_so(network):
    spec = catalogue.find_spec(network, "none")
    with torch.device("meta"):
        built = classification.build_timm(network, 7)
    assert sum(parameter.numel() for parameter in built.parameters()) == spec.parameters


def test_detection_transformers_have_weights_for_every_shape():
    assert set(detection_transformers.WEIGHTS) == set(detection_transformers.SHAPES)


def test_googlenet_sees_what_its_weights_have_learnt_from():
    """torchvision has it take ImageNet's normalisation for another one whenever it loads the weights; here nothing but the normalisation does that."""
    spec = catalogue.find_spec("googlenet", "imagenet-1k")
    authors = torchvision.models.GoogLeNet(transform_input=True, aux_logits=False, init_weights=False)
    pixels = torch.rand(2, 3, 4, 4)

    def normalised(mean, std):
        return (pixels - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1)

    expected = authors._transform_input(normalised((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    assert torch.allclose(normalised(spec.mean, spec.std), expected, atol=1e-5)


def test_statistics_of_batches_follow_a_fine_tuning():
    """Of some hundred steps. torchvision's MNASNet, MobileNetV3 and MaxViT would hardly move them, and be judged by what they no longer are."""
    for spec in (spec for spec in catalogue.entries() if spec.pretraining == catalogue.NONE and spec.library == "torchvision"):
        with torch.device("meta"):
            built = build(spec, spec.task_types[0], 7, settings=Settings(offline=True, _env_file=None))
        slow = {part.momentum for part in built.modules() if isinstance(part, torch.nn.BatchNorm2d) and part.momentum < 0.02}
        assert not slow, spec.network
