"""Advice for every task type, kind of images and preference: always something that is at hand, fits and can be built; in sentences that are true."""

import itertools

import pytest

from core.settings import Settings
from core.vocabulary import DataType, TaskType
from core.zoo import catalogue, weights
from core.zoo.facts import DatasetFacts, DeviceFacts
from core.zoo.recommend import PREFERENCES, Suggestion, describe, recommend

DATASETS = {
    "171 scans": DatasetFacts(171, 2, 512, 512, 0.1),
    "5,000 digits": DatasetFacts(5_000, 10, 28, 28, 0.6),
    "20,000 wide shots": DatasetFacts(20_000, 40, 1920, 1080, 0.03),
}
DEVICES = [
    DeviceFacts("cpu", 8_000_000_000, 2, name="CPU"),
    DeviceFacts("cuda", 4_000_000_000, 4, name="a tiny GPU"),
    DeviceFacts("cuda", 80_000_000_000, 16, 3, name="a large GPU"),
]
KINDS = [(task_type, False) for task_type in TaskType] + [(TaskType.OBJECT_SEGMENTATION, True)]


@pytest.fixture
def settings(tmp_path):
    return Settings(home=tmp_path, offline=True, _env_file=None)


def must_be_true(found: Suggestion, facts: DatasetFacts, devices: DeviceFacts, data_type: DataType) -> None:
    """Each sentence against the facts."""
    told = "; ".join(found.reasons)
    assert f"{found.spec.parameters / 1e6:.1f} million parameters" in told
    assert f"at {found.image_size} px" in told
    assert f"fits the {devices.memory_bytes / 1e9:.0f} GB" in told
    assert f"at batch {found.batch_size}" in told
    assert f"{found.epochs} epochs" in told
    assert ("images are few" in told) == (facts.images < 1000)
    seen_such = data_type.value in found.spec.data_types or (data_type is DataType.PHOTO and not found.spec.data_types)
    assert ("as yours are" in told) == (seen_such and found.spec.pretraining != "none")
    assert ("smallest of 3 workers" in told) == (devices.count == 3)
    assert found.seconds > 0
    assert found.memory_bytes <= devices.memory_bytes


@pytest.mark.parametrize(("task_type", "instances"), KINDS)
def test_advice_for_everything(settings, task_type, instances):
    at_hand = weights.Finder(settings)
    for data_type, (facts, devices) in itertools.product(DataType, zip(DATASETS.values(), DEVICES, strict=True)):
        sizes = []
        for preference in PREFERENCES:
            found = recommend(task_type, data_type, preference, facts, devices, settings, instances=instances)
            for item in found:
                assert task_type in item.spec.task_types
                assert item.spec.instances_only == instances
                assert at_hand.locate(item.spec) is not None
                assert weights.allowed(item.spec, settings)
                must_be_true(item, facts, devices, data_type)
            sizes.append((found[0].spec.gmacs, found[0].spec.parameters))
        assert all(one[0] <= other[0] and one[1] <= other[1] for one, other in itertools.pairwise(sizes)), (data_type, sizes)


def test_where_larger_weights_are_not_at_hand_it_is_said(settings):
    def told(at_hand) -> str:
        best = recommend(TaskType.SINGLE_LABEL, DataType.PHOTO, 5, DATASETS["5,000 digits"], DEVICES[0], settings, at_hand=at_hand)[0]
        return "; ".join(best.reasons)

    assert "weights are not at hand here" in told(None)
    assert "weights are not at hand here" not in told(lambda spec: True)


def test_few_images_are_no_reason_for_a_large_network(settings):
    facts = DATASETS["171 scans"]
    for name, said in (("resnet18.imagenet-1k", "smaller network"), ("resnet152.imagenet-1k", "a smaller preference may")):
        told = "; ".join(describe(catalogue.find_spec(name), TaskType.SINGLE_LABEL, DataType.CT, facts, DEVICES[2]).reasons)
        assert said in told
    scratch = describe(catalogue.find_spec("resnet18.none"), TaskType.SINGLE_LABEL, DataType.CT, facts, DEVICES[2])
    assert "from scratch they teach little" in "; ".join(scratch.reasons)


def test_weights_of_another_domain_are_no_advice(settings):
    for task_type, instances in KINDS:
        for data_type in (DataType.MICROSCOPY, DataType.PHOTO, DataType.DOCUMENT):
            for preference in PREFERENCES:
                for item in recommend(
                    task_type,
                    data_type,
                    preference,
                    DATASETS["171 scans"],
                    DEVICES[2],
                    settings,
                    instances=instances,
                    at_hand=lambda _: True,
                ):
                    assert not item.spec.data_types or data_type.value in item.spec.data_types, item.spec.name


def test_many_images_of_very_many_classes_are_few_too(settings):
    spec = catalogue.find_spec("resnet18.imagenet-1k")
    for classes, said in ((1000, "5 images for each of your 1,000 classes are few"), (10, "")):
        facts = DatasetFacts(5_000, classes, 300, 300)
        told = "; ".join(describe(spec, TaskType.SINGLE_LABEL, DataType.PHOTO, facts, DEVICES[2]).reasons)
        assert said in told
        assert ("few" in told) == bool(said)
    large, small = (
        recommend(
            TaskType.SINGLE_LABEL,
            DataType.PHOTO,
            4,
            DatasetFacts(5_000, classes, 300, 300),
            DEVICES[2],
            settings,
            at_hand=lambda _: True,
        )[0].spec.parameters
        for classes in (10, 2_000)
    )
    assert small <= large


def test_an_image_size_of_ones_own_changes_work_memory_and_time(settings):
    spec, facts = catalogue.find_spec("resnet18.none"), DATASETS["171 scans"]
    small, large = (describe(spec, TaskType.SINGLE_LABEL, DataType.PHOTO, facts, DEVICES[2], image_size=side) for side in (64, 256))
    assert (small.image_size, large.image_size) == (64, 256)
    assert small.seconds < large.seconds
    assert small.memory_bytes < large.memory_bytes
