"""The catalogue: names found, near names offered, sizes and pre-trainings bound together."""

import pytest

from core.errors import InvalidInputError
from core.settings import Settings
from core.vocabulary import TaskType
from core.zoo import catalogue, weights


@pytest.fixture
def settings(tmp_path):
    return Settings(home=tmp_path, offline=True, _env_file=None)


def test_every_entry_has_its_own_name_and_every_network_can_start_from_scratch():
    names = [spec.name for spec in catalogue.entries()]
    assert len(names) == len(set(names))
    networks = {spec.network for spec in catalogue.entries()}
    assert {spec.network for spec in catalogue.entries() if spec.pretraining == catalogue.NONE} == networks


def test_the_families_of_the_reference_are_there():
    wanted = {"ConvNeXt", "DenseNet", "EfficientNet", "Inception", "MobileNet", "ResNet", "SENet", "ShuffleNet", "Swin Transformer", "VGG"}
    for task_type in (TaskType.SINGLE_LABEL, TaskType.MULTI_LABEL):
        assert wanted <= set(catalogue.families(task_type))
    assert {"resnet18", "resnet34", "resnet50", "resnet101", "resnet152", "resnext50_32x4d", "resnext101_32x8d"} <= set(
        catalogue.variations(TaskType.SINGLE_LABEL, "ResNet")
    )


def test_lite0_defaults_to_the_weights_that_its_package_carries(settings):
    spec = catalogue.find_spec("tf_efficientnet_lite0", settings=settings)
    assert spec.pretraining == "imagenet-1k"
    assert spec.mean == spec.std == (0.5, 0.5, 0.5)
    assert spec.licence == "Apache-2.0"
    assert weights.locate(spec, settings).name == "efficientnet-lite0-57934424.pth"


def test_without_weights_at_hand_the_default_is_from_scratch(settings):
    assert catalogue.find_spec("resnet18", settings=settings).pretraining == "none"


def test_weights_in_the_operators_folder_become_the_default(settings, tmp_path):
    folder = tmp_path / "mirror"
    folder.mkdir()
    spec = catalogue.find_spec("resnet18", "imagenet-1k", settings)
    (folder / f"{spec.source.rpartition('/')[2]}.safetensors").write_bytes(b"x")
    settings = settings.model_copy(update={"weights_dir": folder})
    assert catalogue.find_spec("resnet18", settings=settings) == spec


@pytest.mark.parametrize(
    ("network", "pretraining", "found"),
    [
        ("resnet18", "none", "resnet18.none"),
        ("resnet18.none", "", "resnet18.none"),
        (" resnet18 ", "none", "resnet18.none"),
        ("resnet50", "a1_in1k", "resnet50.imagenet-1k"),  # the tag of the source
        ("resnet50.a1_in1k", "", "resnet50.imagenet-1k"),
        ("resnet50", "imagenet-1k-tv", "resnet50.imagenet-1k-tv"),
    ],
)
def test_names(settings, network, pretraining, found):
    assert catalogue.find_spec(network, pretraining, settings).name == found


@pytest.mark.parametrize(
    ("network", "near"),
    [("resnet5O", "resnet50"), ("efficientnet_lite_0", "efficientnet_lite0"), ("ResNet18", "resnet18"), ("mobilenet-v2", "mobilenet")],
)
def test_an_unknown_network_is_answered_with_near_names(settings, network, near):
    with pytest.raises(InvalidInputError) as caught:
        catalogue.find_spec(network, settings=settings)
    assert near in caught.value.remedy


def test_an_unknown_pretraining_is_answered_with_those_there_are(settings):
    with pytest.raises(InvalidInputError) as caught:
        catalogue.find_spec("resnet18", "moon-rocks", settings)
    assert "moon-rocks" in caught.value.what
    assert "imagenet-1k" in caught.value.remedy


def test_search_takes_every_word():
    found = catalogue.search("resnet 50 imagenet-1k", catalogue.entries())
    assert found
    assert all(
        "50" in f"{spec.name} {spec.pretrained_on}" and "imagenet-1k" in f"{spec.name} {spec.pretrained_on}".lower() for spec in found
    )


def test_networks_for_instances_are_offered_only_for_instances():
    assert "Mask R-CNN" in catalogue.families(TaskType.OBJECT_SEGMENTATION)
    assert "Mask R-CNN" not in catalogue.families(TaskType.OBJECT_SEGMENTATION, instances=False)
    assert "U-Net" in catalogue.families(TaskType.OBJECT_SEGMENTATION, instances=False)
