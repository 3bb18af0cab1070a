"""Plans: what auto makes of family and data, and that manual stays as typed."""

from dataclasses import replace

import pytest

from core.errors import InvalidInputError
from core.settings import Settings
from core.tasks.hyperparameters import Hyperparameters
from core.vocabulary import DataType, TaskType
from core.zoo import catalogue
from core.zoo.estimates import estimate
from core.zoo.facts import DatasetFacts, DeviceFacts
from core.zoo.recipes import RECIPES, VIEWS_OF_A_CLASS, auto_plan, manual_plan, tiny_objects_text

DIGITS = DatasetFacts(images=5000, classes=10, width=28, height=28)


def spec_of(name):
    return catalogue.find_spec(name, settings=Settings(offline=True, _env_file=None))


def test_every_entry_has_a_recipe():
    assert {spec.recipe for spec in catalogue.entries()} <= set(RECIPES)


@pytest.mark.parametrize("network", ["tf_efficientnet_lite0.none", "convnext_tiny.none", "swin_tiny_patch4_window7_224.none", "vgg16.none"])
def test_auto_uses_no_transform_that_could_change_a_label(network):
    plan = auto_plan(spec_of(network), TaskType.SINGLE_LABEL, DIGITS)
    assert not (plan.horizontal_flip or plan.rotation or plan.resized_crop or plan.colour_jitter)
    assert plan.translation_percent <= 10


@pytest.mark.parametrize(
    ("task_type", "data_type", "changes"),
    [
        (TaskType.SINGLE_LABEL, DataType.PHOTO, {"horizontal_flip", "resized_crop", "colour_jitter"}),
        (TaskType.MULTI_LABEL, DataType.PHOTO, {"horizontal_flip", "translation", "colour_jitter"}),
        (TaskType.OBJECT_DETECTION, DataType.PHOTO, {"horizontal_flip", "translation", "colour_jitter"}),
        (TaskType.OBJECT_SEGMENTATION, DataType.MICROSCOPY, {"horizontal_flip", "translation", "rotation", "colour_jitter"}),
        (TaskType.OBJECT_DETECTION, DataType.AERIAL, {"horizontal_flip", "translation", "colour_jitter"}),
        (TaskType.SINGLE_LABEL, DataType.X_RAY, {"translation", "rotation"}),  # the heart stays on its side
        (TaskType.SINGLE_LABEL, DataType.DOCUMENT, {"translation"}),
        (TaskType.SINGLE_LABEL, DataType.INDUSTRIAL, {"translation"}),
    ],
)
def test_auto_augments_by_what_the_images_show(task_type, data_type, changes):
    plan = auto_plan(spec_of("tf_efficientnet_lite0"), task_type, DIGITS, data_type=data_type)
    assert {
        name for name in ("horizontal_flip", "resized_crop", "translation", "rotation", "colour_jitter") if getattr(plan, name)
    } == changes
    own = auto_plan(spec_of("tf_efficientnet_lite0"), task_type, DIGITS, {"horizontal_flip": "off"}, data_type=data_type)
    assert not own.horizontal_flip


def test_digits_train_small():
    plan = auto_plan(spec_of("tf_efficientnet_lite0"), TaskType.SINGLE_LABEL, DIGITS)
    assert 32 <= plan.image_size <= 64


@pytest.mark.parametrize(
    ("width", "height", "size"),
    [(28, 28, 48), (16, 20, 48), (64, 64, 112), (100, 80, 176), (160, 120, 224), (500, 375, 224), (4000, 3000, 224), (0, 0, 224)],
)
def test_image_size_follows_the_data_up_to_the_networks_own(width, height, size):
    plan = auto_plan(spec_of("resnet18.none"), TaskType.SINGLE_LABEL, DatasetFacts(100, 2, width, height))
    assert plan.image_size == size


def test_every_automatic_size_is_one_the_network_takes():
    for spec in catalogue.entries():
        for side in (16, 28, 60, 128, 333, 4096):
            plan = auto_plan(spec, spec.task_types[0], DatasetFacts(1000, 3, side, side))
            assert spec.accepts_size(plan.image_size), (spec.name, side, plan.image_size)


@pytest.mark.parametrize(("images", "epochs"), [(6, 60), (500, 60), (5_000, 6), (2_000_000, 5)])
def test_few_images_are_seen_often_and_many_seldom(images, epochs):
    assert auto_plan(spec_of("tf_efficientnet_lite0"), TaskType.SINGLE_LABEL, DatasetFacts(images, 2, 200, 200)).epochs == epochs


def test_a_gpu_shows_more_and_a_start_from_scratch_takes_many_epochs():
    lite, scratch = spec_of("tf_efficientnet_lite0"), spec_of("resnet18.none")
    on_cpu, on_gpu = (auto_plan(lite, TaskType.SINGLE_LABEL, DIGITS, device=device).epochs for device in ("cpu", "cuda"))
    assert on_gpu == 3 * on_cpu
    assert auto_plan(scratch, TaskType.SINGLE_LABEL, DatasetFacts(60_000, 10, 32, 32)).epochs == 20


def test_many_classes_are_each_seen_often_enough():
    lite, scratch = spec_of("tf_efficientnet_lite0"), spec_of("tf_efficientnet_lite0.none")
    few, many = (DatasetFacts(images=7_000, classes=classes, width=56, height=56, train_images=5_000) for classes in (100, 1_000))
    shortest = [auto_plan(lite, TaskType.SINGLE_LABEL, facts).epochs for facts in (few, many)]
    assert shortest == [5, round(VIEWS_OF_A_CLASS * 1_000 / 5_000)]
    assert estimate(lite, many, DeviceFacts()).epochs == shortest[1], "the time that is told is of the same epochs"
    unused = replace(many, classes=10_000)  # most of them without any image
    assert auto_plan(lite, TaskType.SINGLE_LABEL, unused).epochs == 60, "no more than the recipe's most"
    assert auto_plan(scratch, TaskType.SINGLE_LABEL, many).epochs == auto_plan(scratch, TaskType.SINGLE_LABEL, few).epochs
    detector = spec_of("faster_rcnn-tf_efficientnet_lite0")
    assert auto_plan(detector, TaskType.OBJECT_DETECTION, many).epochs == auto_plan(detector, TaskType.OBJECT_DETECTION, few).epochs


def test_epochs_and_batch_follow_the_images_that_are_trained_on():
    lite = spec_of("tf_efficientnet_lite0")
    few = DatasetFacts(images=8_189, classes=102, width=500, height=600, train_images=1_020)  # as the source of Flowers-102 divides them
    assert auto_plan(lite, TaskType.SINGLE_LABEL, few).epochs == round(24_000 / 1_020)
    kept_back = auto_plan(lite, TaskType.SINGLE_LABEL, DatasetFacts(1_000, 2, 64, 64), {"validation_percent": 80})
    assert (kept_back.epochs, kept_back.batch_size) == (60, 16)


def test_a_batch_size_that_the_worker_settles_changes_no_rate() -> None:
    """`auto` is what auto takes anyway, or less where the device has not the memory: of few images small batches, which take smaller steps."""
    spec = spec_of("tf_efficientnet_lite0.imagenet-1k")
    few = replace(DIGITS, images=150)
    asked, unasked, whole = (
        auto_plan(spec, TaskType.SINGLE_LABEL, few, values) for values in ({"batch_size": "auto"}, {}, {"batch_size": 64})
    )
    assert asked.batch_size == "auto" and unasked.batch_size == 8
    assert asked.learning_rate == unasked.learning_rate == pytest.approx(whole.learning_rate / 8**0.5, rel=0.01)


def test_small_objects_on_large_images_keep_their_pixels():
    scenes = DatasetFacts(images=600, classes=3, width=4000, height=3000, object_side=0.03)
    for name, task_type in (
        ("faster_rcnn-tf_efficientnet_lite0", TaskType.OBJECT_DETECTION),
        ("fpn-tf_efficientnet_lite0", TaskType.OBJECT_SEGMENTATION),
    ):
        spec = spec_of(name)
        assert spec.input_size < auto_plan(spec, task_type, scenes).image_size == 800
        assert auto_plan(spec, task_type, replace(scenes, object_side=0.01)).image_size == 1024
        assert auto_plan(spec, task_type, replace(scenes, object_side=0.2)).image_size == spec.input_size
        assert auto_plan(spec, task_type, replace(scenes, width=700, height=600)).image_size <= 704, "no more than the image has"


def test_a_gpu_sees_scenes_scaled_up_as_far_as_detectors_are_used_to():
    scenes = DatasetFacts(images=600, classes=3, width=500, height=375, object_side=0.2)
    coco, own, regions = (
        spec_of("fasterrcnn_resnet50_fpn.coco"),
        spec_of("faster_rcnn-tf_efficientnet_lite0"),
        spec_of("fpn-tf_efficientnet_lite0"),
    )
    sides = {
        device: [
            auto_plan(spec, task_type, scenes, device=device).image_size
            for spec, task_type in (
                (coco, TaskType.OBJECT_DETECTION),
                (own, TaskType.OBJECT_DETECTION),
                (regions, TaskType.OBJECT_SEGMENTATION),
            )
        ]
        for device in ("cpu", "cuda")
    }
    assert sides["cpu"][0] == 512 and sides["cuda"][0] == coco.input_size == 800
    assert sides["cpu"][1] == 512 and sides["cuda"][1] == own.input_size == 640
    assert sides["cuda"][2] == sides["cpu"][2]
    assert auto_plan(coco, TaskType.OBJECT_DETECTION, replace(scenes, width=300, height=200), device="cuda").image_size == 480


def test_objects_too_small_to_be_found_are_told_with_what_helps():
    scenes = DatasetFacts(images=600, classes=3, width=4000, height=3000, object_side=0.01)
    assert "less than 7 px large" in tiny_objects_text(scenes, 640) and "a larger input size" in tiny_objects_text(scenes, 640)
    assert "tiles" in tiny_objects_text(scenes, 1024) and "larger input size" not in tiny_objects_text(scenes, 1024)
    assert not tiny_objects_text(replace(scenes, object_side=0.02), 640)
    assert not tiny_objects_text(DIGITS, 48), "labels have no objects"


def test_overrides_win_and_bad_ones_are_answered():
    spec = spec_of("resnet18.none")
    plan = auto_plan(spec, TaskType.SINGLE_LABEL, DIGITS, {"epochs": "2", "image_size": "96", "learning_rate": "0.01"}, seed=5)
    assert (plan.epochs, plan.image_size, plan.learning_rate, plan.seed) == (2, 96, 0.01, 5)
    with pytest.raises(InvalidInputError, match="epochs"):
        auto_plan(spec, TaskType.SINGLE_LABEL, DIGITS, {"epochs": 0})


def test_a_size_that_the_network_does_not_take_is_answered_with_those_it_takes():
    spec = next(spec for spec in catalogue.entries() if spec.size_multiple >= 16 and not spec.fixed_size)
    with pytest.raises(InvalidInputError, match="in steps of"):
        manual_plan(spec, DIGITS, Hyperparameters(image_size=251))


def test_manual_is_sgd_as_typed():
    plan = manual_plan(spec_of("resnet18.none"), DIGITS, Hyperparameters(learning_rate=0.02, momentum=0.5, epochs=7))
    assert (plan.optimizer, plan.learning_rate, plan.momentum, plan.epochs, plan.image_size) == ("sgd", 0.02, 0.5, 7, 48)
    assert plan.horizontal_flip
    assert plan.rotation_degrees == 180
    assert (plan.label_smoothing, plan.ema_decay, plan.warmup_epochs, plan.layer_decay) == (0, 0, 0, 1)


def test_label_smoothing_only_where_one_label_holds():
    spec = spec_of("resnet18.none")
    assert auto_plan(spec, TaskType.SINGLE_LABEL, DIGITS).label_smoothing > 0
    assert auto_plan(spec, TaskType.MULTI_LABEL, DIGITS).label_smoothing == 0


def test_rare_classes_count_for_more_only_where_the_set_is_strongly_imbalanced():
    spec = spec_of("tf_efficientnet_lite0")
    even, uneven = (DatasetFacts(1000, 2, 64, 64, smallest_class=fewest, largest_class=1000 - fewest) for fewest in (400, 40))
    for task_type in (TaskType.SINGLE_LABEL, TaskType.MULTI_LABEL):
        assert auto_plan(spec, task_type, even).class_balance == 0
        assert auto_plan(spec, task_type, uneven).class_balance == 0.5
    assert manual_plan(spec, uneven, Hyperparameters()).class_balance == 0


def test_detectors_learn_in_small_batches_and_gently_where_they_know_objects_already():
    scenes = DatasetFacts(600, 10, 209, 207, object_side=0.15)
    over_features = auto_plan(spec_of("faster_rcnn-tf_efficientnet_lite0"), TaskType.OBJECT_DETECTION, scenes)
    whole = auto_plan(spec_of("fasterrcnn_resnet50_fpn.coco"), TaskType.OBJECT_DETECTION, scenes)
    assert over_features.batch_size == whole.batch_size == 4
    assert over_features.image_size == 224 and over_features.gradient_clip > 0
    large = auto_plan(spec_of("faster_rcnn-resnet50.imagenet-1k"), TaskType.OBJECT_DETECTION, scenes)
    assert whole.learning_rate == pytest.approx(0.3 * large.learning_rate, rel=0.1)
    modern = auto_plan(spec_of("faster_rcnn-convnext_tiny.imagenet-12k-to-1k"), TaskType.OBJECT_DETECTION, scenes)
    assert (modern.batch_size, modern.weight_decay) == (4, 0.05)
    assert modern.learning_rate < 0.3 * over_features.learning_rate, "a large modern backbone is changed more gently"


def test_the_backbone_of_a_pretrained_detection_transformer_is_changed_more_gently_than_its_decoder():
    scenes = DatasetFacts(600, 10, 209, 207, object_side=0.15)
    plans = [auto_plan(spec_of(f"dfine-small.{pretraining}"), TaskType.OBJECT_DETECTION, scenes) for pretraining in ("coco", "none")]
    assert [plan.backbone_factor for plan in plans] == [0.3, 1.0]


def test_networks_without_normalisation_learn_more_slowly_than_those_with_it() -> None:
    for plain, normalised in (("vgg16", "vgg16_bn"), ("squeezenet1_1", "resnet18"), ("alexnet", "resnet18")):
        for pretraining in ("imagenet-1k", "none"):
            slow, fast = (
                auto_plan(spec_of(f"{name}.{pretraining}"), TaskType.SINGLE_LABEL, DIGITS).learning_rate for name in (plain, normalised)
            )
            assert slow < 0.3 * fast


def test_only_pretrained_detectors_keep_their_batch_statistics_by_auto_and_by_hand():
    scenes = DatasetFacts(600, 10, 209, 207, object_side=0.15)
    detection, segmentation = TaskType.OBJECT_DETECTION, TaskType.OBJECT_SEGMENTATION
    kept = {
        "faster_rcnn-tf_efficientnet_lite0": detection,
        "fasterrcnn_resnet50_fpn.coco": detection,
        "maskrcnn_resnet50_fpn.coco": segmentation,
    }
    learnt = {
        "faster_rcnn-tf_efficientnet_lite0.none": detection,
        "fpn-tf_efficientnet_lite0": segmentation,
        "resnet18": TaskType.SINGLE_LABEL,
    }
    for names, frozen in ((kept, True), (learnt, False)):
        for name, task_type in names.items():
            assert auto_plan(spec_of(name), task_type, scenes).frozen_statistics is frozen, name
            assert manual_plan(spec_of(name), scenes, Hyperparameters()).frozen_statistics is frozen, name
    from_scratch = spec_of("faster_rcnn-tf_efficientnet_lite0.none")
    assert auto_plan(from_scratch, detection, scenes, learns_on=True).frozen_statistics, "of the model that learns on"
    assert manual_plan(from_scratch, scenes, Hyperparameters(), learns_on=True).frozen_statistics, "by hand, too"


def test_networks_for_regions_learn_gently_where_they_know_regions_already_or_have_a_modern_encoder():
    scenes = DatasetFacts(600, 10, 209, 207, object_side=0.15)
    names = ("fpn-resnet50.imagenet-1k", "fcn_resnet50.coco-voc", "fpn-convnext_tiny")
    over_features, whole, modern = (auto_plan(spec_of(name), TaskType.OBJECT_SEGMENTATION, scenes).learning_rate for name in names)
    assert whole == pytest.approx(0.3 * over_features, rel=0.2)
    assert modern < over_features


def test_larger_networks_are_changed_more_gently() -> None:
    """By the square root of their parameters, beyond the size that the rate was measured at."""
    pairs = (
        ("tiny_vit_5m_224.imagenet-1k", "vit_base_patch16_224.imagenet-21k-to-1k"),
        ("convnext_atto.imagenet-1k", "convnext_base.imagenet-22k-to-1k"),
        ("tf_efficientnet_lite0.imagenet-1k", "resnet50.imagenet-1k"),
    )
    for names in pairs:
        specs = [spec_of(name) for name in names]
        small, large = (auto_plan(spec, TaskType.SINGLE_LABEL, DIGITS, {"batch_size": "64"}).learning_rate for spec in specs)
        assert small == pytest.approx(RECIPES[specs[0].recipe].learning_rate)
        assert large == pytest.approx(small * (6e6 / specs[1].parameters) ** 0.5, rel=0.01)
    scratch = auto_plan(spec_of("vit_base_patch16_224.none"), TaskType.SINGLE_LABEL, DIGITS, {"batch_size": "64"})
    assert scratch.learning_rate == pytest.approx(RECIPES["transformer"].scratch_learning_rate)


def test_a_model_that_learns_on_does_not_begin_anew():
    """A network that once began from scratch has learnt such a task by now: fewer images, a lower rate."""
    facts = DatasetFacts(images=1_000, classes=3, width=200, height=200)
    for name, lower in (("convnext_tiny.none", True), ("tf_efficientnet_lite0.none", False), ("retinanet-resnet18.none", True)):
        spec = spec_of(name)
        anew, on = (auto_plan(spec, spec.task_types[0], facts, learns_on=learns_on) for learns_on in (False, True))
        assert on.epochs < anew.epochs, name
        assert (on.learning_rate < anew.learning_rate) == lower, name
