"""Boxes and masks follow their images: through stretching, flips, crops, shifts and turns, to the pixel."""

from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from core.datasets import masks
from core.datasets.records import Record
from core.settings import Settings
from core.tasks.hyperparameters import TrainingPlan
from worker.engine.augment import Augmentation, Normalisation
from worker.objectives import places
from worker.objectives.objects import Objects
from worker.objectives.places import BoxTargets, MaskTargets, boxes_through
from worker.objectives.scaled_masks import ScaledMasks, packed_masks, scaled_masks

CPU = torch.device("cpu")
STILL = np.eye(3, dtype=np.float32)[None]
NOTHING = {"horizontal_flip": False, "resized_crop": False, "translation": False, "rotation": False, "colour_jitter": False}


def record(value: dict[str, Any], width: int = 64, height: int = 64, position: int = 0) -> Record:
    return Record(position, f"{position}.png", str(position), width, height, "", "", value)


def rectangle(x: int, y: int, wide: int, high: int, width: int = 64, height: int = 64) -> str:
    mask = np.zeros((height, width), np.uint8)
    mask[y : y + high, x : x + wide] = 1
    return masks.encode(mask)


def boxes_of(*records: Record, device: torch.device = CPU) -> BoxTargets:
    return BoxTargets(Objects.of_boxes(records), device)


def test_a_very_wide_image_is_stretched_with_its_boxes() -> None:
    targets = boxes_of(record({"boxes": [[2, 100, 10, 50, 20]]}, width=400, height=40))
    (target,) = targets.of(np.array([0]), STILL, 80)
    assert target["boxes"].tolist() == [[20, 20, 30, 60]]
    assert target["labels"].tolist() == [2]


def test_images_without_objects_have_empty_targets_among_others() -> None:
    targets = boxes_of(record({"boxes": []}), record({"boxes": [[1, 0, 0, 32, 32], [0, 32, 32, 32, 32]]}), record({"boxes": []}))
    first, second, third = targets.of(np.array([2, 1, 0]), np.repeat(STILL, 3, 0), 64)
    assert first["boxes"].shape == third["boxes"].shape == (0, 4)
    assert second["boxes"].tolist() == [[0, 0, 32, 32], [32, 32, 64, 64]] and second["labels"].tolist() == [1, 0]
    none = boxes_of(record({"boxes": []})).of(np.array([0]), STILL, 64)
    assert none[0]["boxes"].shape == (0, 4) and none[0]["labels"].dtype == torch.int64


def test_a_mirrored_box() -> None:
    mirror = np.diag([-1, 1, 1]).astype(np.float32)[None]
    (target,) = boxes_of(record({"boxes": [[0, 4, 10, 20, 30]]})).of(np.array([0]), mirror, 64)
    np.testing.assert_allclose(target["boxes"].numpy(), [[40, 10, 60, 40]], atol=1e-4)


def test_what_is_hardly_in_view_is_left_out_and_what_is_cut_keeps_its_visible_part() -> None:
    to_the_left = STILL.copy()
    to_the_left[0, 0, 2] = 0.5  # the new image shows what lies a quarter of the width further right
    value = {"boxes": [[0, 0, 0, 20, 20], [1, 10, 0, 20, 20], [2, 40, 0, 10, 10]]}
    (target,) = boxes_of(record(value)).of(np.array([0]), to_the_left, 64)
    assert target["labels"].tolist() == [1, 2]  # of the first 4 of 20 columns are left, of the second 14
    np.testing.assert_allclose(target["boxes"].numpy(), [[0, 0, 14, 20], [24, 0, 34, 10]], atol=1e-4)


@pytest.mark.parametrize(
    "changes",
    [
        {"horizontal_flip": True},
        {"resized_crop": True},
        {"translation": True, "translation_percent": 20},
        {"rotation": True, "rotation_degrees": 180},
        {"colour_jitter": True, "brightness": 0.3, "contrast": 0.3, "saturation": 0.3, "hue": 0.2},
        {
            "horizontal_flip": True,
            "resized_crop": True,
            "translation": True,
            "rotation": True,
            "rotation_degrees": 30,
            "colour_jitter": True,
        },
    ],
    ids=["flip", "crop", "shift", "turn", "colours", "everything"],
)
def test_targets_lie_where_the_pixels_lie(changes: dict[str, Any]) -> None:
    """A bright rectangle on a dark image: after augmentation the mask is where it is bright, and the box around it."""
    plan = TrainingPlan(**{**NOTHING, **changes})
    images = torch.zeros(24, 3, 64, 64, dtype=torch.uint8)
    images[:, :, 20:40, 24:52] = 255
    augmentation = Augmentation(plan, Normalisation((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)), "zeros")
    pixels, geometry = augmentation(images, np.random.default_rng(1))
    rows = np.zeros(24, np.int64)
    instances = Objects.of_instances([record({"objects": [[3, rectangle(24, 20, 28, 20)]]})])
    packed = torch.from_numpy(np.packbits(scaled_masks(instances, 0, 64), axis=2))
    by_mask = MaskTargets(instances, CPU).of(rows, geometry, [packed] * 24, 64)
    by_corners = boxes_through(np.array([[24, 20, 52, 40]] * 24, np.float32) / 32 - 1, geometry)
    seen = 0
    for picture, target, corners in zip(pixels, by_mask, by_corners, strict=True):
        bright = picture[0] >= 0.5
        if not len(target["masks"]):
            assert bright.float().mean() < 0.4
            continue
        seen += 1
        assert (target["masks"][0].bool() != bright).float().mean() < 0.01
        rows_bright, columns_bright = bright.any(1).nonzero().flatten(), bright.any(0).nonzero().flatten()
        around = [columns_bright[0], rows_bright[0], columns_bright[-1] + 1, rows_bright[-1] + 1]
        np.testing.assert_allclose(target["boxes"][0].numpy(), np.array(around), atol=1)
        # The corners' box holds what is seen; for moves without a turn it is the same.
        inside = (corners.clip(-1, 1) + 1) * 32
        assert (inside[:2] <= target["boxes"][0, :2].numpy() + 1).all() and (inside[2:] >= target["boxes"][0, 2:].numpy() - 1).all()
        if not plan.rotation:
            np.testing.assert_allclose(target["boxes"][0].numpy(), inside, atol=1)
    assert seen >= 12


@pytest.mark.parametrize("kept", [False, True])
def test_masks_of_a_wide_image_are_stretched(kept: bool, settings: Settings) -> None:
    if not kept:
        settings = settings.model_copy(update={"cache_bytes": 1})
    value = {"objects": [[1, rectangle(0, 0, 40, 10, 160, 20)], [0, rectangle(100, 10, 1, 1, 160, 20)]]}
    objects = Objects.of_instances([record(value, 160, 20)])
    packed = packed_masks(objects, 60, settings, lambda: False)
    assert packed.at_hand == kept and packed.nbytes == 2 * 60 * 8
    (target,) = MaskTargets(objects, CPU).of(np.array([0]), STILL, [torch.from_numpy(packed.of(np.array([0])))], 60)
    # The single pixel has none of its own at the network's input; the other is a quarter wide and half high.
    assert target["labels"].tolist() == [1]
    assert target["boxes"].tolist() == [[0, 0, 15, 30]]
    assert target["masks"].shape == (1, 60, 60) and int(target["masks"].sum()) == 15 * 30


def test_masks_of_a_crowded_image_are_moved_some_at_a_time(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the same outcome: what is in view, and whose it is."""
    value = {"objects": [[number, rectangle(8 * number, 10, 6, 6)] for number in range(7)]}
    objects = Objects.of_instances([record(value)])
    packed = torch.from_numpy(packed_masks(objects, 64, settings, lambda: False).of(np.array([0])))
    moved = np.eye(3, dtype=np.float32)[None].copy()
    moved[0, 0, 2] = 0.5  # a quarter of the image leaves it on the left
    (whole,) = MaskTargets(objects, CPU).of(np.array([0]), moved, [packed], 64)
    sizes = []
    real = places.resample
    monkeypatch.setattr(places, "resample", lambda masks, *rest, **named: (sizes.append(masks.shape[1]), real(masks, *rest, **named))[1])
    monkeypatch.setattr(places, "_MASK_VALUES_AT_ONCE", 3 * 64**2)
    (in_parts,) = MaskTargets(objects, CPU).of(np.array([0]), moved, [packed], 64)
    assert sizes == [3, 3, 1] and whole["labels"].tolist() == [2, 3, 4, 5, 6]
    assert all(torch.equal(whole[name], in_parts[name]) for name in ("boxes", "labels", "masks"))


def test_kept_masks_are_those_of_whole_images_and_scaled_once_for_all_jobs(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(0)
    records, wanted = [], []
    for position, (width, height) in enumerate([(150, 97), (40, 31), (64, 64), (300, 20)]):
        drawn = []
        for _ in range(5 * (position != 2)):  # one image shows nothing
            mask = np.zeros((height, width), np.uint8)
            left, top = random.integers(0, width - 8), random.integers(0, height - 8)
            patch = mask[top : top + random.integers(1, 60), left : left + random.integers(1, 90)]
            patch[:] = random.random(patch.shape) < 0.7
            drawn.append(mask)
        records.append(record({"objects": [[0, masks.encode(mask)] for mask in drawn]}, width, height, position))
        whole = [np.asarray(Image.fromarray(mask * 255).resize((64, 64), Image.Resampling.BILINEAR)) >= 128 for mask in drawn]
        wanted.append(np.array(whole, np.uint8).reshape(-1, 64, 64))
    objects = Objects.of_instances(records)
    made = ScaledMasks(objects, 64, settings, lambda: False)
    for row, masks_of_row in enumerate(wanted):
        assert np.array_equal(made.of_row(row), masks_of_row) and np.array_equal(scaled_masks(objects, row, 64), masks_of_row)
    monkeypatch.setattr(Objects, "mask", None)  # nothing is decoded any more
    again = ScaledMasks(objects, 64, settings, lambda: False)
    assert np.array_equal(again.of_row(0), wanted[0])
