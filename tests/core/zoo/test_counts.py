"""How much there is to choose from, and under which licences."""

import pytest

from core.settings import Settings
from core.vocabulary import TaskType
from core.zoo import catalogue, weights
from core.zoo.recipes import RECIPES

ALLOWED = {"Apache-2.0", "MIT", "BSD-2-Clause", "BSD-3-Clause"}


@pytest.fixture
def settings(tmp_path):
    return Settings(home=tmp_path, offline=True, _env_file=None)


@pytest.mark.parametrize(
    ("task_type", "least"),
    [
        (TaskType.SINGLE_LABEL, 400),
        (TaskType.MULTI_LABEL, 400),
        (TaskType.OBJECT_DETECTION, 100),
        (TaskType.OBJECT_SEGMENTATION, 100),
    ],
)
def test_pretrained_combinations_under_free_licences(task_type, least):
    found = [spec for spec in catalogue.entries() if task_type in spec.task_types and spec.licence in ALLOWED]
    assert len({spec.name for spec in found}) >= least


def test_what_may_be_chosen_is_what_the_licences_allow(settings):
    for spec in catalogue.entries():
        assert weights.allowed(spec, settings) == (spec.pretraining == "none" or spec.licence in ALLOWED)
        assert spec.pretraining == "none" or spec.licence, f"{spec.name} says nothing of its licence"
    foreign = [spec for spec in catalogue.entries() if not weights.allowed(spec, settings)]
    assert foreign, "weights under other licences are listed"
    opened = settings.model_copy(update={"allow_licences": foreign[0].licence})
    assert weights.allowed(foreign[0], opened)


def test_every_pretraining_says_where_it_comes_from_and_what_it_has_seen():
    for spec in catalogue.entries():
        if spec.pretraining != catalogue.NONE:
            assert spec.source.startswith(("hub:", "https://", "package:")), spec.name
            assert spec.pretrained_on, spec.name
        assert spec.recipe in RECIPES
        assert spec.parameters > 0, spec.name
        assert spec.gmacs > 0, spec.name
        assert spec.memory_mb, spec.name
        assert spec.images_per_second and spec.speed_source, spec.name
        assert (spec.accuracy is None) == (not spec.accuracy_source), spec.name
        assert spec.accepts_size(spec.input_size), spec.name


@pytest.mark.parametrize(
    ("task_type", "families"),
    [
        (
            TaskType.OBJECT_DETECTION,
            {"Faster R-CNN", "RetinaNet", "FCOS", "SSD", "RF-DETR", "D-FINE", "RT-DETRv2"},
        ),
        (
            TaskType.OBJECT_SEGMENTATION,
            {"Mask R-CNN", "U-Net", "U-Net++", "FPN", "DeepLabV3+", "PAN", "UPerNet", "SegFormer", "DeepLabV3", "FCN", "LR-ASPP"},
        ),
    ],
)
def test_families(task_type, families):
    assert families <= set(catalogue.families(task_type))


@pytest.mark.parametrize("network", ["rf-detr-nano", "rf-detr-small", "rf-detr-medium", "rf-detr-large"])
def test_the_sizes_of_rf_detr_whose_weights_are_free(network):
    (spec,) = (spec for spec in catalogue.of_network(network) if spec.pretraining != "none")
    assert spec.licence == "Apache-2.0"
    assert spec.accuracy is not None
