"""Regions: what is wanted follows the images, the numbers are those of torchmetrics, and whatever an image shows or does not, it trains."""

import io
import json
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from small_networks import REGIONS
from torch import Tensor, nn
from torchmetrics.segmentation import DiceScore, MeanIoU

from core.datasets import masks
from core.datasets.records import Record
from core.db.tables import Dataset
from core.models.exporting import ExportFormat
from core.settings import Settings
from core.tasks.hyperparameters import TrainingPlan
from core.vocabulary import AnnotationKind, TaskType
from worker.engine.augment import Augmentation, Normalisation
from worker.engine.device import choose_device
from worker.engine.training import build_objective, read_records
from worker.objectives import region_maps
from worker.objectives.region_maps import RegionMaps, ignored_number, regions_of
from worker.objectives.regions import RegionMasks, image_dice, pixel_counts, probabilities_of, region_loss, region_metrics, said_of
from worker.reports.export import export_model
from worker.reports.inference import predict
from worker.reports.model_files import write_model


def record(position: int, covers: dict[int, np.ndarray], width: int = 64, height: int = 64) -> Record:
    value = {"masks": [[number, masks.encode(mask)] for number, mask in covers.items()]}
    return Record(position, f"{position}.png", f"k{position}", width, height, "", "", value)


def block(top: int, left: int, bottom: int, right: int, width: int = 64, height: int = 64) -> np.ndarray:
    mask = np.zeros((height, width), np.uint8)
    mask[top:bottom, left:right] = 1
    return mask


def objective(settings: Settings, records: list[Record], classes: int = 2, size: int = 64) -> RegionMasks:
    made = RegionMasks(records, AnnotationKind.REGIONS, [f"c{n}" for n in range(classes)], settings)
    made.keep_masks(size)
    return made


def targets_of(made: RegionMasks, rows: np.ndarray) -> Any:
    """The masks of the images `rows` as they travel with them."""
    assert made.targets is not None
    return torch.split(torch.from_numpy(made.targets.of(rows)), made.targets.counts[rows].tolist())


# ---------------------------------------------------------------- what is wanted


class Says(nn.Module):
    """A network that looks at the images and says what it was told to: a stand-in for learning."""

    def __init__(self, logits: Tensor) -> None:
        super().__init__()
        self.logits, self.seen = logits, torch.empty(0)

    def forward(self, images: Tensor) -> Tensor:
        self.seen = images
        return self.logits.requires_grad_()


@pytest.mark.parametrize(
    "change",
    [
        {"horizontal_flip": True},
        {"resized_crop": True},
        {"translation": True, "translation_percent": 20},
        {"rotation": True, "rotation_degrees": 180},
        {"colour_jitter": True, "brightness": 0.3, "contrast": 0.3, "saturation": 0.3, "hue": 0.2},
        {"horizontal_flip": True, "resized_crop": True, "translation": True, "rotation": True, "colour_jitter": True},
    ],
    ids=["flip", "crop", "shift", "turn", "colours", "everything"],
)
def test_masks_move_exactly_as_the_images_do(settings: Settings, change: dict[str, Any]) -> None:
    """The images are drawn from the masks, so that wherever a moved image is bright, and only there, the class is wanted."""
    random = np.random.default_rng(1)
    covers = [block(*sorted_corners(random)) for _ in range(6)]
    made = objective(settings, [record(place, {0: cover}) for place, cover in enumerate(covers)], classes=1)
    plan = TrainingPlan(**(dict.fromkeys(("horizontal_flip", "resized_crop", "translation", "rotation", "colour_jitter"), False) | change))
    normalisation = Normalisation((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
    images = torch.from_numpy(np.stack(covers) * 255)[:, None].repeat(1, 3, 1, 1)
    moved, geometry = Augmentation(plan, normalisation, "zeros")(images, np.random.default_rng(3))
    # What is right everywhere costs nothing; what is wrong anywhere costs more.
    logits = (moved[:, :1] > 0.5).float() * 40 - 20
    rows = np.arange(6)
    targets = targets_of(made, rows)
    right = made.training_step(Says(logits), moved, targets, rows, geometry)
    wrong = made.training_step(Says(logits.roll(6, 3).clone()), moved, targets, rows, geometry)
    # The images are sampled between pixels and the masks at the nearest one: they may differ along edges only.
    right_loss, wrong_loss = float(right.plain_loss), float(wrong.plain_loss)
    assert right_loss < 0.4 and wrong_loss > 1.5 * right_loss + 0.3


def sorted_corners(random: np.random.Generator) -> tuple[int, int, int, int]:
    top, left = random.integers(4, 24, 2)
    height, width = random.integers(16, 34, 2)
    return int(top), int(left), int(top + height), int(left + width)


def test_places_from_beyond_an_images_edge_do_not_count(settings: Settings) -> None:
    made = objective(settings, [record(0, {0: block(0, 0, 64, 64)})], classes=1)
    half_out = np.array([[[1, 0, 1], [0, 1, 0], [0, 0, 1]]], np.float32)  # what was right of the middle is now on the left
    logits = torch.full((1, 1, 64, 64), 20.0)
    logits[:, :, :, 32:] = -20.0  # whatever is said of the half beyond the edge
    rows = np.array([0])
    loss = made.training_step(Says(logits), torch.zeros(1, 3, 64, 64), targets_of(made, rows), rows, half_out).plain_loss
    assert float(loss) < 1e-3


def test_classes_that_overlap_keep_their_places(settings: Settings) -> None:
    covers = {0: block(0, 0, 40, 40), 1: block(20, 20, 60, 60), 2: block(0, 50, 10, 60)}
    one = record(0, covers)
    made = objective(settings, [one, record(1, {})], classes=3)
    rows = np.array([1, 0, 1])
    targets = targets_of(made, rows)
    assert [len(maps) for maps in targets] == [1, 2, 1], "what one image needs, the others need not"
    assert [{*np.unique(map_)} for map_ in targets[1]] == [{0, 1, 3}, {0, 2}] and not targets[0].any()
    logits = torch.full((3, 3, 64, 64), -40.0)
    logits[1][torch.from_numpy(np.stack(list(covers.values())).astype(bool))] = 40.0
    still = np.tile(np.eye(3, dtype=np.float32), (3, 1, 1))
    assert float(made.training_step(Says(logits), torch.zeros(3, 3, 64, 64), targets, rows, still).plain_loss) < 1e-3
    assert float(made.evaluation_step(Says(logits), torch.zeros(3, 3, 64, 64), targets, rows).loss.detach()) < 1e-3


def test_maps_take_a_byte_a_pixel_and_are_worked_out_once(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    records = [record(place, {place % 3: block(10, 10, 30, 30), 3: block(40, 0, 50, 64)}) for place in range(5)]
    made = RegionMaps(records, AnnotationKind.REGIONS, 4, settings)
    maps, validation = made.at(32), made.at_sizes({1: (64, 64), 4: (16, 8)})
    drawn = maps.of(np.arange(5))
    assert drawn.shape == (5, 32, 32) and drawn.dtype == np.uint8 and maps.at_hand
    assert RegionMaps(records, AnnotationKind.REGIONS, 300, settings).at(32).of(np.arange(5)).dtype == np.int16
    assert np.array_equal(validation(4), made.drawn(4, (16, 8))) and validation(4).shape == (1, 8, 16)
    shares = made.shares(np.array([0, 1]))
    assert shares.tolist() == pytest.approx([400 / 64**2 / 2, 400 / 64**2 / 2, 0, 640 / 64**2])

    def again(*_: Any) -> None:
        raise AssertionError("a mask is decoded again")

    for name in ("regions_of", "overlap_of", "covered_at"):
        monkeypatch.setattr(region_maps, name, again)
    once_more = RegionMaps(records, AnnotationKind.REGIONS, 4, settings)
    assert np.array_equal(once_more.at(32).of(np.arange(5)), drawn)
    assert np.array_equal(once_more.at_sizes({1: (64, 64), 4: (16, 8)})(1), validation(1))
    assert once_more.shares(np.array([0, 1])).tolist() == shares.tolist()


def test_masks_for_which_the_cache_has_no_room_are_drawn_for_each_batch(settings: Settings) -> None:
    """As the cache would have kept them; images of one map and of two side by side."""
    records = [record(0, {0: block(0, 0, 40, 40), 1: block(20, 20, 60, 60)}), record(1, {}), record(2, {1: block(5, 5, 60, 20)})]
    full = settings.model_copy(update={"cache_bytes": 3000})  # for where masks go, and how large they are, but not for the masks
    anew = RegionMaps(records, AnnotationKind.REGIONS, 2, full).at(48)
    kept = RegionMaps(records, AnnotationKind.REGIONS, 2, settings).at(48)
    assert kept.at_hand and not anew.at_hand
    assert kept.nbytes == anew.nbytes == 4 * 48 * 48 and kept.counts.tolist() == anew.counts.tolist() == [2, 1, 1]
    for rows in (np.array([0, 1, 2]), np.array([2, 0]), np.array([1, 1, 0, 2, 0])):
        assert np.array_equal(kept.of(rows), anew.of(rows))


def test_what_is_true_of_validation_images_is_kept_at_the_size_at_which_they_are_judged(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    large = record(0, {1: block(100, 300, 900, 1500, 2048, 1000), 0: block(0, 0, 50, 2048, 2048, 1000)}, 2048, 1000)
    made = RegionMasks([large], AnnotationKind.REGIONS, ["a", "b"], settings, validation=[0])
    monkeypatch.setattr(region_maps, "covered_at", None)
    truth = made.truth(0)
    assert truth.shape == (1, 500, 1024)
    assert [int((truth == number).sum()) for number in (1, 2)] == [25 * 1024, 400 * 600]


def test_maps_are_others_where_other_places_are_ignored(settings: Settings) -> None:
    """Two annotation sets of the same images: what was worked out for one is not taken for the other."""
    plain = record(0, {0: block(0, 0, 10, 10)})
    ignoring = replace(plain, value={**plain.value, "ignored": masks.encode(block(20, 0, 40, 64))})
    first, second = (RegionMaps([one], AnnotationKind.REGIONS, 2, settings).at(64).of(np.array([0])) for one in (plain, ignoring))
    assert int((first == ignored_number(2)).sum()) == 0 and int((second == ignored_number(2)).sum()) == 20 * 64


def test_instances_are_united_by_class() -> None:
    value = {
        "objects": [
            [0, masks.encode(block(0, 0, 10, 10))],
            [0, masks.encode(block(20, 20, 30, 30))],
            [1, masks.encode(block(40, 0, 50, 9))],
        ]
    }
    one = Record(0, "a", "a", 64, 64, "", "", value)
    found = regions_of(one, AnnotationKind.INSTANCES)
    assert [(number, masks.area(rle, 64, 64)) for number, rle in found] == [(0, 200), (1, 90)]


# ---------------------------------------------------------------- numbers


def evaluated(settings: Settings, records: list[Record], logits: Tensor, classes: int) -> Any:
    made = objective(settings, records, classes, logits.shape[-1])
    evaluator = made.evaluator()
    for rows in np.array_split(np.arange(len(records)), 2):
        evaluator.update(made.evaluation_step(Says(logits[rows].clone()), torch.empty(0), targets_of(made, rows), rows), rows)
    return evaluator.compute()


def test_dice_and_iou_are_those_of_torchmetrics_at_the_images_own_proportions(settings: Settings) -> None:
    random = np.random.default_rng(0)
    sizes = [(64, 64), (200, 30), (40, 90), (64, 64)]
    covers = []
    for width, height in sizes:
        covers.append({number: (random.random((height, width)) < 0.3).astype(np.uint8) for number in (0, 2)})
    records = [record(place, cover, *sizes[place]) for place, cover in enumerate(covers)]
    logits = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    found = evaluated(settings, records, logits, 3)
    dice = DiceScore(3, average="none", aggregation_level="global", input_format="one-hot")
    iou = MeanIoU(3, per_class=True, input_format="one-hot")
    flat_said, flat_true = [], []
    for place, (width, height) in enumerate(sizes):
        said = nn.functional.interpolate(logits[place][None], (height, width), mode="bilinear", align_corners=False) > 0
        true = torch.zeros(1, 3, height, width, dtype=torch.bool)
        for number, cover in covers[place].items():
            true[0, number] = torch.from_numpy(cover.astype(bool))
        dice.update(said.int(), true.int())
        flat_said.append(said.flatten(2))
        flat_true.append(true.flatten(2))
    per_class = dice.compute()
    iou.update(torch.cat(flat_said, 2)[..., None].int(), torch.cat(flat_true, 2)[..., None].int())
    assert found.metrics["dice"] == pytest.approx(float(per_class[[0, 2]].mean()), abs=1e-6) and found.score == found.metrics["dice"]
    assert found.metrics["iou"] == pytest.approx(float(iou.compute()[[0, 2]].mean()), abs=1e-6)


@pytest.mark.parametrize("classes", [2, 254])
def test_ignored_pixels_are_neither_learnt_nor_judged(settings: Settings, classes: int) -> None:
    one = record(0, {0: block(0, 0, 32, 64), 1: block(20, 0, 40, 64)})  # two maps, for they overlap
    border = replace(one, value={**one.value, "ignored": masks.encode(block(28, 0, 48, 64))})  # of which rows 40 to 48 belong to no class
    logits = torch.full((1, classes, 64, 64), -20.0)
    logits[:, 0, :32], logits[:, 1, 20:48] = 20.0, 20.0  # right but for these rows
    still = np.eye(3, dtype=np.float32)[None]
    for value, right in ((one, False), (border, True)):
        made = objective(settings, [value], classes)
        images, rows = torch.zeros(1, 3, 64, 64), np.array([0])
        targets = targets_of(made, rows)
        loss = float(made.training_step(Says(logits.clone()), images, targets, rows, still).plain_loss)
        looked = []
        evaluator = made.evaluator(lambda row, counts, said, looked=looked: looked.append((counts, said)))  # type: ignore[misc]
        evaluator.update(made.evaluation_step(Says(logits.clone()), images, targets, rows), rows)
        judged = evaluator.compute()
        (counts, said), *_ = looked
        assert (loss < 0.02) == (judged.loss < 0.02) == (judged.metrics["dice"] == 1) == right
        assert bool(said[1, 40:48].any()) != right
        assert counts.sum(1).tolist() == [64 * (56 if right else 64)] * classes


@pytest.mark.parametrize(("maps", "exclusive"), [(1, True), (1, False), (2, True), (2, False)])
def test_pixels_are_counted_where_classes_overlap_and_where_they_do_not(maps: int, exclusive: bool) -> None:
    """Of five classes, of which one is shown and never said, one said and never shown, one neither; and of a place that is ignored."""
    random = np.random.default_rng(0)
    truth = np.stack([random.integers(0, 3, (20, 30)), 3 * random.integers(0, 2, (20, 30))]).astype(np.uint8)[:maps]
    truth[0, 5:9] = ignored_number(5)
    logits = torch.from_numpy(random.normal(size=(5, 20, 30)))
    logits[[0, 4]] = -9.0
    said = said_of(logits[None], exclusive=exclusive)[0]
    wanted = torch.from_numpy(np.stack([(truth == number).any(0) for number in range(1, 6)]))
    counted = torch.from_numpy(truth[0] != ignored_number(5))
    expected = [
        [int((a & b & counted).sum()), int((a & ~b & counted).sum()), int((~a & b & counted).sum()), int((~a & ~b & counted).sum())]
        for a, b in zip(said, wanted, strict=True)
    ]
    assert pixel_counts(said, truth, exclusive=exclusive).tolist() == expected


def test_a_class_that_is_never_marked_is_remarked_on(settings: Settings) -> None:
    records = [record(place, {0: block(0, 0, 32, 64), 1: block(40, 0, 64, 64)}) for place in range(2)]
    logits = torch.full((2, 2, 64, 64), -9.0)
    logits[:, 0, :32] = 9.0
    found = evaluated(settings, records, logits, 2)
    assert found.metrics["dice"] == pytest.approx(0.5)
    what, remedy = found.remarks["never-predicted"]
    assert "“c1”" in what and "“c0”" not in what and remedy


def test_nothing_there_and_nothing_said_is_right() -> None:
    counts = torch.zeros(2, 1, 4, dtype=torch.int64)
    counts[1, 0, 1] = 50  # something was said of an image that shows nothing
    assert image_dice(counts).tolist() == [1.0, 0.0]
    assert region_metrics(counts[0])["dice"] == 1.0 and region_metrics(counts.sum(0))["dice"] == 0.0


@pytest.mark.parametrize("exclusive", [True, False])
def test_the_loss_is_cross_entropy_and_soft_dice_of_what_counts(exclusive: bool) -> None:
    torch.manual_seed(0)
    maps = torch.randint(0, 4, (2, 6, 6))  # 0 is the background, class 2 of three is shown nowhere
    wanted = torch.stack([maps == 1, maps == 2, torch.zeros_like(maps, dtype=torch.bool)], 1)
    judged = torch.rand(2, 1, 6, 6) < 0.8
    logits = torch.randn(2, 3, 6, 6, dtype=torch.float64)
    likely = torch.cat([torch.zeros(2, 1, 6, 6), logits], 1).softmax(1)[:, 1:] if exclusive else logits.sigmoid()
    entropy, dice = [], []
    for image, y, x in judged[:, 0].nonzero().tolist():
        one, true = likely[image, :, y, x], wanted[image, :, y, x].double()
        if exclusive:
            entropy.append(-torch.log(one[true.bool()] if true.any() else 1 - one.sum()).sum())
        else:
            entropy.append(-(true * one.log() + (1 - true) * (1 - one).log()).mean())
    for number in (0, 1):
        one, true = likely[:, number][judged[:, 0]], wanted[:, number][judged[:, 0]].double()
        dice.append((2 * (one * true).sum() + 1) / (one.sum() + true.sum() + 1))  # smoothed by one place
    expected = torch.stack(entropy).mean() + 1 - torch.stack(dice).mean()
    assert float(region_loss(logits, wanted, judged, exclusive=exclusive)) == pytest.approx(float(expected), abs=1e-9)


@pytest.mark.parametrize("overlap", [0, 8])
def test_guessing_loses_no_more_than_is_said(settings: Settings, overlap: int) -> None:
    made = objective(settings, [record(0, {0: block(0, 0, 16, 16), 1: block(16 - overlap, 0, 32, 16)})])
    assert made.exclusive == (overlap == 0) and made.chance_loss is not None
    loss = made.evaluation_step(Says(torch.zeros(1, 2, 64, 64)), torch.empty(0), targets_of(made, np.array([0])), np.array([0])).loss
    assert made.chance_loss - 0.5 < float(loss) < made.chance_loss


@pytest.mark.parametrize(("exclusive", "most"), [(True, 2.7), (False, 3.7)])
def test_the_loss_of_many_classes_keeps_little(exclusive: bool, most: float) -> None:
    """For the backward pass, in sizes of the logits; what plain cross-entropy keeps is one."""
    kept: dict[int, int] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        kept[tensor.data_ptr()] = tensor.numel() * tensor.element_size()
        return tensor

    logits = torch.zeros(2, 60, 32, 32, requires_grad=True)
    wanted = torch.zeros(2, 60, 32, 32, dtype=torch.bool)
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        region_loss(logits, wanted, exclusive=exclusive).backward()
    assert sum(kept.values()) < most * logits.numel() * 4


@pytest.mark.parametrize("exclusive", [False, True])
def test_the_loss_falls_from_wrong_to_right_and_is_finite_without_objects(exclusive: bool) -> None:
    wanted = torch.zeros(2, 2, 8, 8, dtype=torch.bool)
    wanted[:, 0, :4] = True
    right = region_loss(wanted.float() * 20 - 10, wanted, exclusive=exclusive)
    unsure = region_loss(torch.zeros(2, 2, 8, 8), wanted, exclusive=exclusive)
    wrong = region_loss(10 - wanted.float() * 20, wanted, exclusive=exclusive)
    assert float(right) < 0.01 < float(unsure) < float(wrong)
    empty = torch.zeros(2, 2, 8, 8, requires_grad=True)
    loss = region_loss(empty, torch.zeros(2, 2, 8, 8, dtype=torch.bool), exclusive=exclusive)
    loss.backward()
    assert torch.isfinite(loss) and torch.isfinite(empty.grad).all() and float(empty.grad.min()) > 0


def test_classes_that_overlap_by_slips_of_the_hand_exclude_each_other(settings: Settings) -> None:
    large, beside = block(0, 0, 40, 60), block(39, 0, 60, 60)  # a line of 60 px in common
    made = objective(settings, [record(0, {0: large, 1: beside}), record(1, {1: large}), record(2, {0: block(0, 0, 60, 60)})])
    assert made.exclusive
    assert not objective(settings, [record(0, {0: large, 1: beside})]).exclusive, "60 of 1,260 px"
    logits = torch.full((1, 2, 64, 64), -30.0)
    logits[0, 0, :40, :60], logits[0, 1, 40:60, :60] = 30.0, 30.0  # what both claim is the first one's
    rows, targets = np.array([0]), targets_of(made, np.array([0]))
    assert float(made.evaluation_step(Says(logits), torch.zeros(1, 3, 64, 64), targets, rows).loss.detach()) < 0.02


@pytest.mark.parametrize(("said", "exclusive"), [(None, True), (True, True), (False, False)])
def test_whether_classes_exclude_each_other_is_the_plan_s_to_say(bench: Any, said: bool | None, exclusive: bool) -> None:
    job = bench.job(blobs(bench, images=4), kind="instances", spec=REGIONS, exclusive_regions=said)
    made = build_objective(job, read_records(job, bench.database)[0], [0], choose_device(), bench.settings, lambda: False)
    assert isinstance(made, RegionMasks) and made.exclusive == exclusive


@pytest.mark.parametrize("small", [0, 1])
def test_a_class_that_lies_within_another_does_not_exclude_it(settings: Settings, small: int) -> None:
    """However small it is: a helmet is part of the person who wears it."""
    helmets = [record(place, {small: block(5, 5, 8, 8), 1 - small: block(0, 0, 60, 60)}) for place in range(3)]
    assert not objective(settings, helmets).exclusive


def test_where_classes_exclude_each_other_the_likeliest_alone_is_said(settings: Settings) -> None:
    apart = objective(settings, [record(0, {0: block(0, 0, 30, 30), 1: block(30, 30, 60, 60)})])
    overlapping = objective(settings, [record(0, {0: block(0, 0, 40, 40), 1: block(30, 30, 60, 60)})])
    assert apart.exclusive and not overlapping.exclusive
    logits = torch.tensor([2.0, 1.0, -1.0]).view(1, 3, 1, 1).expand(1, 3, 2, 2)
    assert said_of(logits, exclusive=True)[0, :, 0, 0].tolist() == [True, False, False]
    assert said_of(logits, exclusive=False)[0, :, 0, 0].tolist() == [True, True, False]
    shares = probabilities_of(logits, exclusive=True)[0, :, 0, 0]
    whole = np.exp([0.0, 2.0, 1.0, -1.0])
    assert shares.tolist() == pytest.approx((whole / whole.sum())[1:].tolist(), rel=1e-5)  # the background's logit is 0


# ---------------------------------------------------------------- whole trainings


def blobs(bench: Any, images: int = 16, size: tuple[int, int] = (48, 48), classes: int = 2, mode: str = "RGB", name: str = "blobs") -> Any:
    """COCO: a bright disc in one of two halves of grey levels; every fourth image shows none."""
    random = np.random.default_rng(5)
    folder: Path = bench.folder / name
    (folder / "images").mkdir(parents=True)
    width, height = size
    listed, annotations = [], []
    y, x = np.mgrid[0:height, 0:width]
    for number in range(images):
        grey = random.integers(0, 40, (height, width)).astype(np.uint16)
        listed.append({"id": number, "file_name": f"{number}.png", "width": width, "height": height})
        if number % 4 != 3:
            label = number % classes
            radius = min(size) // 4
            disc = (x - random.integers(radius, width - radius)) ** 2 + (y - random.integers(radius, height - radius)) ** 2 < radius**2
            grey[disc] = 120 + 100 * label / max(1, classes - 1)
            rle = {"size": [height, width], "counts": masks.encode(disc.astype(np.uint8))}
            annotations.append({"id": number, "image_id": number, "category_id": label, "iscrowd": 0, "segmentation": rle})
        picture = Image.fromarray(grey * 256) if mode == "I;16" else Image.fromarray(grey.astype(np.uint8)).convert(mode)
        picture.save(folder / "images" / f"{number}.png")
    categories = [{"id": number, "name": f"disc {number}"} for number in range(classes)]
    (folder / "instances.json").write_text(json.dumps({"images": listed, "categories": categories, "annotations": annotations}))
    return bench.import_folder(folder, name)


def segmentation_job(bench: Any, dataset: Any, **plan: Any) -> Any:
    job = bench.job(dataset, spec=REGIONS, **({"image_size": 64, "batch_size": 4, "learning_rate": 5e-3} | plan))
    with bench.database.read() as session:
        chosen = next(one for one in session.get_one(Dataset, dataset.id).annotation_sets if one.kind == "instances")
    return replace(
        job,
        task_type=TaskType.OBJECT_SEGMENTATION,
        annotation_set_id=chosen.id,
        annotation_kind=AnnotationKind.INSTANCES,
        classes=tuple(chosen.classes),
    )


def test_from_masks_to_a_model_that_marks_them(bench: Any) -> None:
    job = segmentation_job(bench, blobs(bench, images=24), epochs=10)
    result, link = bench.train(job)
    assert (result.score or 0) > 0.6, [values["dice"] for _, values in link.epochs]
    report = write_model(job, result, "models/m1", database=bench.database, storage=bench.storage, settings=bench.settings)
    assert set(report) == {"curves", "classes", "best_and_worst", "training_report"}
    card = json.loads(bench.storage.read("models/m1/model_card.json"))
    assert card["metrics"]["dice"] == result.score and set(card["per_class"]) == {"disc 0", "disc 1"}
    path = bench.folder / "blobs" / "images" / "0.png"
    answer = predict("models/m1", path.read_bytes(), storage=bench.storage, settings=bench.settings)
    shown = np.asarray(Image.open(path).convert("L")) >= 100
    largest = answer["labels"][0]
    said = masks.decode(largest["mask"]["counts"], 48, 48).astype(bool)
    assert largest["pixels"] == said.sum() and (said & shown).sum() > 0.5 * (said | shown).sum()
    assert Image.open(io.BytesIO(bench.storage.read(answer["picture_key"]))).width == 640
    # What runs elsewhere marks the same places.
    exported = export_model("models/m1", "m", ExportFormat.ZIP, storage=bench.storage, settings=bench.settings)
    zipfile.ZipFile(io.BytesIO(bench.storage.read(exported["key"]))).extractall(bench.folder / "out")
    command = [sys.executable, "-I", str(bench.folder / "out" / "predict.py"), str(path), "--masks", str(bench.folder / "marks")]
    elsewhere = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)["regions"]
    region = next(one for one in elsewhere if one["label"] == largest["label"])
    assert region["pixels"] == pytest.approx(largest["pixels"], rel=0.1)
    assert Image.open(region["mask"]).size == (48, 48)


@pytest.mark.parametrize(
    "data",
    [
        {"classes": 1},
        {"mode": "I;16"},
        {"mode": "L"},
        {"size": (160, 20)},
        {"images": 3},
        {"images": 6, "classes": 1000},
    ],
    ids=["one class", "16 bits", "grey", "very wide", "three images", "a thousand classes"],
)
def test_odd_data_trains(bench: Any, data: dict[str, Any]) -> None:
    job = segmentation_job(bench, blobs(bench, **({"images": 8} | data)), epochs=1)
    result, link = bench.train(job)
    assert result.score is not None and len(link.epochs) == 1 and np.isfinite(link.epochs[0][1]["val_loss"])
    assert write_model(job, result, "models/m1", database=bench.database, storage=bench.storage, settings=bench.settings)
