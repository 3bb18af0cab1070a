"""An operator's weights: accepted when they fit their network, refused in words when they do not."""

from dataclasses import replace

import pytest
import timm
import torch
from safetensors.torch import save_file

from core.errors import ConflictError, InvalidInputError, NotFoundError
from core.settings import Settings
from core.vocabulary import TaskType
from core.zoo import added, catalogue
from core.zoo.added import AddedWeights
from worker.networks import build
from worker.networks.adding import add_weights

OURS = AddedWeights("resnet18", "our-x-rays", "", "", "Apache-2.0", "our X-rays", 224, (0.5, 0.5, 0.5), (0.25, 0.25, 0.25), ("x-ray",))


@pytest.fixture
def settings(tmp_path):
    return Settings(home=tmp_path / "home", offline=True, _env_file=None)


@pytest.fixture
def file(tmp_path):
    def make(network="resnet18", spoil=lambda weights: weights, suffix="safetensors"):
        torch.manual_seed(1)
        weights = spoil({name: value.clone() for name, value in timm.create_model(network, num_classes=14).state_dict().items()})
        path = tmp_path / f"given.{suffix}"
        save_file(weights, path) if suffix == "safetensors" else torch.save({"state_dict": weights}, path)
        return path

    return make


@pytest.mark.parametrize("suffix", ["safetensors", "pth"])
def test_weights_that_fit_become_an_entry_that_can_be_trained(settings, file, suffix):
    path = file(suffix=suffix)
    add_weights(path, OURS, settings)
    path.unlink()
    spec = catalogue.find_spec("resnet18", "our-x-rays", settings)
    assert (spec.licence, spec.data_types, spec.mean) == ("Apache-2.0", ("x-ray",), (0.5, 0.5, 0.5))
    assert catalogue.find_spec("resnet18", settings=settings) == spec, "the operator's own go first"
    network = build(spec, TaskType.SINGLE_LABEL, 3, settings=settings)
    torch.manual_seed(1)
    assert torch.equal(network.state_dict()["conv1.weight"], timm.create_model("resnet18", num_classes=14).state_dict()["conv1.weight"])
    with pytest.raises(ConflictError, match="already"):
        add_weights(file(), OURS, settings)
    added.remove(settings, "resnet18", "our-x-rays")
    with pytest.raises(InvalidInputError):
        catalogue.find_spec("resnet18", "our-x-rays", settings)
    with pytest.raises(NotFoundError):
        added.remove(settings, "resnet18", "our-x-rays")


def test_a_detector_takes_its_backbones_weights(settings, file):
    wanted = replace(OURS, network="retinanet-resnet18", input_size=640)
    add_weights(file(), wanted, settings)
    spec = catalogue.find_spec("retinanet-resnet18", "our-x-rays", settings)
    detector = build(spec, TaskType.OBJECT_DETECTION, 3, settings=settings)
    torch.manual_seed(1)
    source = timm.create_model("resnet18", num_classes=14).state_dict()
    assert torch.equal(detector.state_dict()["inner.backbone.body.conv1.weight"], source["conv1.weight"])


def spoil_nan(weights):
    weights["conv1.weight"][0, 0, 0, 0] = float("nan")
    return weights


def leave_out(weights):
    return {name: value for name, value in weights.items() if not name.startswith("layer3.0")}


@pytest.mark.parametrize(
    ("network", "spoil", "said"),
    [("resnet34", leave_out, "lacks"), ("resnet50", dict, "lacks"), ("resnet18", leave_out, "layer3"), ("resnet18", spoil_nan, "finite")],
)
def test_weights_that_do_not_fit_are_refused_and_leave_nothing(settings, file, network, spoil, said):
    with pytest.raises(InvalidInputError, match=said):
        add_weights(file(network, spoil), OURS, settings)
    assert added.read(settings) == []
    assert not list(added.folder(settings).glob("*.safetensors"))


def test_a_file_that_is_no_weights(settings, tmp_path):
    (tmp_path / "given.pth").write_bytes(b"hello")
    with pytest.raises(InvalidInputError, match="no weights for resnet18"):
        add_weights(tmp_path / "given.pth", OURS, settings)


@pytest.mark.parametrize("name", ["none", "", "Our X-rays", "../x", "imagenet-1k"])
def test_names_that_cannot_be_taken(settings, name):
    with pytest.raises((InvalidInputError, ConflictError)):
        catalogue.check_new_pretraining("resnet18", name, settings)
