"""Retraining: what a model knew of a class stays with that class, whatever its place among the new ones."""

import pytest
import torch

from core.errors import UnavailableError
from core.settings import Settings
from core.zoo import catalogue
from worker.networks import build
from worker.networks.inheriting import inherit

BEFORE = ["cat", "dog", "bird"]
NETWORKS = ["resnet18", "retinanet-tf_efficientnet_lite0", "mask_rcnn-tf_efficientnet_lite0", "lraspp_mobilenet_v3_large", "mnasnet0_5"]
MORE = ["tf_efficientnet_lite0", "fcos-resnet18", "ssdlite320_mobilenet_v3_large", "unet-resnet18", "dfine-nano", "rf-detr-nano"]


@pytest.fixture
def made(tmp_path):
    settings = Settings(home=tmp_path, offline=True, _env_file=None)

    def make(name: str, classes: int, seed: int):
        torch.manual_seed(seed)
        spec = catalogue.find_spec(name, "none", settings)
        return build(spec, spec.task_types[0], classes, pretrained=False, settings=settings)

    return make


@pytest.mark.parametrize("name", [*NETWORKS, *(pytest.param(name, marks=pytest.mark.long) for name in MORE)])
def test_rows_of_kept_classes_are_carried_over_by_name(made, name):
    after = ["fish", "bird", "cat", "horse"]
    old, network, wider = made(name, 3, 0), made(name, 4, 1), made(name, 5, 2)
    assert inherit(network, after, wider, old.state_dict(), BEFORE) == ["bird", "cat"]

    was, now = old.state_dict(), network.state_dict()
    outputs = [key for key in now if now[key].shape != wider.state_dict()[key].shape]
    assert outputs
    for key in now:
        if key not in outputs:
            assert torch.equal(now[key], was[key]), key
    # Taken out again, the two classes are what they were.
    back, alone = made(name, 2, 3), made(name, 2, 4)
    inherit(back, ["cat", "bird"], old, now, after)
    inherit(alone, ["cat", "bird"], old, was, BEFORE)
    assert all(torch.equal(value, alone.state_dict()[key]) for key, value in back.state_dict().items())


def test_fewer_classes_keep_their_answers(made):
    images = torch.randn(2, 3, 64, 64)
    old, network = made("resnet18", 3, 0).eval(), made("resnet18", 2, 1).eval()
    inherit(network, ["bird", "dog"], made("resnet18", 3, 2), old.state_dict(), BEFORE)
    assert torch.allclose(network(images), old(images)[:, [2, 1]], atol=1e-6)


def test_the_same_classes_in_another_order(made):
    images = torch.randn(2, 3, 64, 64)
    old, network = made("resnet18", 3, 0).eval(), made("resnet18", 3, 1).eval()
    inherit(network, ["dog", "bird", "cat"], made("resnet18", 4, 2), old.state_dict(), BEFORE)
    assert torch.allclose(network(images), old(images)[:, [1, 2, 0]], atol=1e-6)


def test_another_network_is_refused(made):
    with pytest.raises(UnavailableError, match="does not fit"):
        inherit(made("resnet34", 3, 0), BEFORE, made("resnet34", 4, 0), made("resnet18", 3, 0).state_dict(), BEFORE)
