"""The pinned catalogue and the installed libraries say the same: names, weights, sources, licences, preprocessing."""

import json

import pytest
import torch

from core.zoo import catalogue
from worker.networks import classification, detection_transformers, rebuild
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
