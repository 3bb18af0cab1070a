"""Pictures from the smallest to the largest case; heat maps and readings that say what is there."""

import io
import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import timm
import torch
from PIL import Image

from core import figures
from core.datasets import masks
from worker.engine.watch import Unlearnt
from worker.reports import found_objects, found_regions, pictures
from worker.reports.activation import _as_maps, activation_maps
from worker.reports.batch import curves as batch_curves
from worker.reports.batch.curves import Curve
from worker.reports.lettering import listed
from worker.reports.object_drawings import Drawn, draw_objects
from worker.reports.reading import Reading, mindful, read_curves
from worker.reports.region_pictures import fitted


def opened(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data)).convert("RGB")


@pytest.mark.parametrize("classes", [1, 2, 10, 25, 100, 300])
def test_confusion_matrices_of_any_size(classes: int) -> None:
    counts = np.eye(classes, dtype=np.int64) * 7
    picture = opened(
        pictures.confusion_matrix(counts, [f"a rather long name of class {number} with $ and 漢" for number in range(classes)])
    )
    assert max(picture.size) <= 2400


LONG = [f"Squamous cell carcinoma in situ, {side} forearm, patient {number}" for number in range(20) for side in ("left", "right")]


def straight(number: int) -> list[Curve]:
    return [Curve(name, np.array([0.0, 1.0]), np.array([0.0, 1.0]), 0.5) for name in LONG[:number]]


@pytest.mark.parametrize("classes", [1, 5, 40])
@pytest.mark.parametrize(
    "draw",
    [
        lambda names: pictures.confusion_matrix(np.full((len(names), len(names)), 12_345), names),
        lambda names: pictures.class_bars([number / len(names) for number in range(len(names))], names, "F1 per class", "F1"),
        lambda names: batch_curves.roc(straight(len(names))),
        lambda names: batch_curves.precision_recall(straight(len(names))),
        lambda names: batch_curves.froc(straight(len(names))),
    ],
    ids=["confusion", "bars", "roc", "precision", "froc"],
)
def test_nothing_is_cut_off(draw: Callable[[list[str]], bytes], classes: int) -> None:
    """However long the names are, the picture's edge is white all around."""
    pixels = np.asarray(opened(draw(LONG[:classes])))
    for edge in (pixels[:2], pixels[-2:], pixels[:, :2], pixels[:, -2:]):
        assert (edge == 255).all()


@pytest.mark.parametrize(
    ("names", "told"),
    [
        (["circle"], "circle"),
        (["circle", "square"], "circle, square"),
        (["circle", "square", "triangle"], "circle and 2 more"),
        (["a", "b", "c", "d", "e", "f", "g", "h"], "a, b, c and 5 more"),
        (["internationalisation", "square"], "inter…ion and 1 more"),
    ],
)
def test_a_list_of_labels_is_cut_between_them(names: list[str], told: str) -> None:
    assert listed(names, 20) == told and len(told) <= 20


def test_the_class_that_is_known_worst_is_the_first_bar() -> None:
    pixels = np.asarray(opened(pictures.class_bars([0.9, 0.2], ["well", "badly"], "F1 per class", "F1"))).astype(int)
    bars = (np.abs(pixels - (0, 114, 178)).sum(2) < 6).sum(1)
    lengths = bars[bars > 20]
    assert lengths[0] < 0.3 * lengths[-1]


def test_a_class_keeps_its_colour_from_picture_to_picture() -> None:
    """Whichever of them is known worse, its line is the first class's blue."""
    blue, orange = (31, 119, 180), (255, 127, 14)
    for areas in ((0.9, 0.5), (0.5, 0.9)):
        levels = [Curve(name, np.array([0.0, 1.0]), np.array([area, area]), area) for name, area in zip("ab", areas, strict=True)]
        pixels = np.asarray(opened(batch_curves.precision_recall(levels))).astype(int)
        heights = [np.argmax((np.abs(pixels[:, : pixels.shape[1] * 9 // 10] - colour).sum(2) < 12).sum(1)) for colour in (blue, orange)]
        assert (heights[0] < heights[1]) == (areas[0] > areas[1])


def test_whoever_invents_nothing_has_a_line_too() -> None:
    """A detector without false positives: its free-response curve lies left of a logarithmic axis but for what is added to it."""
    perfect = [Curve(name, np.array([0.0, 0.0]), np.array([0.0, 0.9]), 0.9) for name in ("all classes", "cell")]
    pixels = np.asarray(opened(batch_curves.froc(perfect))).astype(int)
    dark = (np.abs(pixels - (29, 33, 41)).sum(2) < 30).sum(1)
    assert dark.max() > 0.8 * pixels.shape[1]


def test_what_lies_beyond_the_axis_of_false_finds_is_not_drawn_back_into_it() -> None:
    """Twenty false finds an image, the last object among them: at the right edge, at 8, the line still has its height there."""
    x, y = np.array([0.0, 1.0, 20.0]), np.array([0.0, 0.5, 1.0])
    pixels = np.asarray(opened(batch_curves.froc([Curve("all classes", x, y, 0.5)]))).astype(int)
    dark = np.abs(pixels - (29, 33, 41)).sum(2) < 30
    edge = max(column for column in range(dark.shape[1]) if dark[30:-120, column].any())
    assert np.ptp(np.flatnonzero(dark[30:-120, edge])) < 10


def test_no_score_below_nought_is_on_the_axis() -> None:
    low, high = figures._score_range([{"score": 0.0, "train_accuracy": 0.9}] * 3, "", None)
    assert -0.1 * high < low < 0 < high


def test_names_of_objects_do_not_cover_each_other() -> None:
    """Two objects in one place, and a name longer than the picture: both names and both confidences can be read."""
    grey = Image.new("RGB", (200, 200), (128, 128, 128))
    first, second = (0, 158, 115), (0, 114, 178)
    box = (20.0, 60.0, 90.0, 120.0)
    both = draw_objects(grey, [Drawn(box, first, "first", "97 %"), Drawn(box, second, "second, " * 20, "58 %")], 200)
    alone = draw_objects(grey, [Drawn(box, first, "first", "97 %")], 200)
    other = draw_objects(grey, [Drawn(box, second, "second, " * 20, "58 %")], 200)
    for colour, least in ((first, (alone, first)), (second, (other, second))):
        filled = [(np.asarray(picture) == wanted).all(2).sum() for picture, wanted in ((both, colour), least)]
        assert filled[0] > 0.6 * filled[1]
    values = [draw_objects(grey, [Drawn(box, second, "second, " * 20, value)], 200) for value in ("58 %", "59 %")]
    assert (np.asarray(values[0]) != np.asarray(values[1])).any(), "the confidence is not cut off"


@pytest.mark.parametrize(
    ("size", "drawn"),
    [
        ((480, 48), (1600, 160)),
        ((48, 480), (160, 1600)),
        ((4000, 100), (2048, 51)),
        ((100, 80), (512, 410)),
        ((3000, 2000), (1600, 1067)),
    ],
)
def test_objects_of_a_narrow_image_are_drawn_large_enough_to_be_seen(size: tuple[int, int], drawn: tuple[int, int]) -> None:
    """Box, mask and name where they belong, the name no higher than a part of the picture."""
    width, height = size
    mask = np.zeros((height, width), np.uint8)
    mask[height // 4 : height // 2, width // 4 : width // 2] = 1
    box = [width / 4, height / 4, width / 4, height / 4]
    cell = {"label": "cell", "confidence": 0.9, "box": box, "mask": {"size": [height, width], "counts": masks.encode(mask)}}
    picture = opened(found_objects.drawing_of(Image.new("RGB", size, (128, 128, 128)), [cell], ["cell"]))
    assert picture.size == drawn
    changed = (np.asarray(picture).astype(int) - 128).any(2)
    assert changed[int(drawn[1] * 3 / 8), int(drawn[0] * 3 / 8)] and not changed[int(drawn[1] * 0.8), int(drawn[0] * 0.8)]
    region = cell | {"share": 0.1}
    page = opened(found_regions.drawing_of(Image.new("RGB", size, (128, 128, 128)), [region], ["cell"]))
    assert page.width >= min(drawn[0], 640) and page.height >= min(drawn[1], 160)


def test_a_class_without_validation_images_leaves_an_empty_row() -> None:
    assert opened(pictures.confusion_matrix(np.array([[5, 0], [0, 0]]), ["a", "b"])).size


def history(**curves: list[float]) -> list[dict[str, Any]]:
    return [dict(zip(curves, values, strict=True)) for values in zip(*curves.values(), strict=True)]


@pytest.mark.parametrize("epochs", [1, 3, 200])
def test_curves_draw_the_baseline(epochs: int) -> None:
    points = history(train_loss=[1.0] * epochs, val_loss=[0.9] * epochs, score=[0.8] * epochs, train_accuracy=[0.7] * epochs)
    arguments: dict[str, Any] = {"score_name": "accuracy", "score_title": "Accuracy", "best_epoch": 1, "reading": "Fine."}
    with_line = np.asarray(opened(pictures.curves(points, baseline=0.1, **arguments)))
    without = np.asarray(opened(pictures.curves(points, baseline=None, **arguments)))
    assert with_line.shape == without.shape and (with_line != without).any()


@pytest.mark.parametrize(
    ("verdict", "train", "val", "score"),
    [
        ("fine", [1, 0.5, 0.3, 0.2, 0.18], [0.9, 0.5, 0.35, 0.3, 0.29], [0.6, 0.8, 0.9, 0.91, 0.91]),
        ("overfitting", [1, 0.5, 0.2, 0.05, 0.01], [0.9, 0.6, 0.7, 0.9, 1.1], [0.6, 0.75, 0.75, 0.74, 0.73]),
        ("learning-rate-too-high", [2, 1, 3, 1.2, 4, 1.1], [2, 1, 3, 1.2, 4, 1.1], [0.3, 0.5, 0.2, 0.6, 0.2, 0.5]),
        ("not-learning", [0.70, 0.69, 0.69, 0.69], [0.70, 0.69, 0.69, 0.69], [0.5, 0.5, 0.5, 0.5]),
        ("unfinished", [1, 0.9, 0.8, 0.7], [1, 0.9, 0.8, 0.7], [0.55, 0.6, 0.65, 0.7]),
        ("unfinished", [0.71, 0.7, 0.68, 0.65], [0.695, 0.68, 0.66, 0.639], [0.75, 0.75, 0.75, 0.75]),
        ("fine", [1, 0.02, 0.05, 0.02, 0.04, 0.01], [1.0, 0.3, 0.1, 0.06, 0.04, 0.037], [0.7, 1, 1, 1, 1, 1]),
        ("exploding", [2.0, 30, 40, 90], [14, 102, 82, 231], [0.5, 0.4, 0.4, 0.5]),
        ("not-learning", [1.6, 1.2, 0.9], [1.5, 1.4, 1.3], [0, 0, 0]),
        ("too-short", [1.0], [1.0], [0.9]),
    ],
)
def test_the_reading_of_curves(verdict: str, train: list[float], val: list[float], score: list[float]) -> None:
    reading = read_curves(
        history(train_loss=train, val_loss=val, score=score),
        score_name="accuracy",
        baseline=0.5,
        planned_epochs=len(train),
        validation_images=500,
        lower=0.01,
    )
    assert reading.verdict == verdict and reading.text


@pytest.mark.parametrize(
    ("verdict", "train", "val", "score"),
    [
        ("exploding", [23.3, 19, 8.4, 2.5, 1.75], [927, 572, 55, 2.8, 3.05], [0.25, 0.25, 0.275, 0.22, 0.25]),
        ("exploding", [23.3, 1.6, 1.45, 1.40, 1.39], [927, 1.45, 1.42, 1.39, 1.39], [0.25, 0.25, 0.25, 0.25, 0.25]),
        ("exploding", [8.0, 0.9, 0.3, 0.1, 0.05], [9, 8, 7, 6, 5.5], [0.25, 0.25, 0.25, 0.25, 0.25]),
        ("exploding", [15.3], [586], [0.27]),
        ("fine", [5.1, 0.5, 0.3, 0.2, 0.18], [5, 0.5, 0.35, 0.3, 0.29], [0.4, 0.8, 0.9, 0.91, 0.91]),
    ],
)
def test_an_explosion_in_the_first_epoch_is_read_before_all_else(
    verdict: str, train: list[float], val: list[float], score: list[float]
) -> None:
    reading = read_curves(
        history(train_loss=train, val_loss=val, score=score),
        score_name="accuracy",
        baseline=0.25,
        planned_epochs=len(train),
        validation_images=500,
        lower=0.01,
        unlearnt=Unlearnt.of(math.log(4), None),
    )
    assert reading.verdict == verdict and reading.text.startswith("The loss explode"), "said, too, where it has come down"


@pytest.mark.parametrize(
    ("train", "val", "score", "told"),
    [
        ([1.60, 1.55, 1.53, 1.52], [1.505, 1.554, 1.615, 1.676], [0.006, 0.0, 0.0, 0.0], "rises since epoch 1, and the dice falls"),
        ([0.70, 0.69, 0.69, 0.69], [0.681, 0.692, 0.694, 0.691], [0.697, 0.66, 0.66, 0.659], "hardly fallen"),
        ([1.12, 1.12, 1.12], [1.102, 1.072, 1.088], [0.4, 0.5, 0.5], "hardly fallen"),
        ([3.0, 1.8, 1.2, 1.0, 0.9], [3.1, 2.0, 1.5, 1.4, 1.3], [0.01, 0.03, 0.06, 0.07, 0.072], "still falling at the end"),
        ([3.0, 1.8, 1.2, 1.0, 0.9], [3.1, 2.0, 1.5, 1.4, 1.38], [0.01, 0.03, 0.06, 0.07, 0.072], "settle, the best dice being 7.2 %"),
        ([0.6, 0.4, 0.3], [0.456, 0.298, 0.303], [0.6, 0.7, 0.69], "Both losses fall: the training went well"),
        ([0.5, 0.1, 0.01, 0.002, 0.001], [0.4, 0.05, 0.0017, 0.0020, 0.0028], [0.8, 0.98, 1.0, 1.0, 1.0], "went well"),
        # A detector's loss is lowest before it finds anything; and a score that is a hair lower than it was has not fallen.
        ([1.5, 1.4, 1.2, 1.1, 1.0], [1.08, 1.54, 1.44, 1.38, 1.34], [0.007, 0.05, 0.11, 0.163, 0.161], "the dice has risen while"),
        ([0.6, 0.5, 0.45, 0.42, 0.40], [0.60, 0.51, 0.50, 0.52, 0.54], [0.60, 0.67, 0.687, 0.690, 0.679], "the dice holds while"),
        ([1.5, 1.3, 1.2, 1.1, 1.0], [1.1, 1.09, 1.08, 1.08, 1.08], [0.01, 0.2, 0.31, 0.31, 0.32], "the dice has risen, though"),
        ([1.5, 1.3, 1.2, 1.1], [1.08, 1.5, 1.4, 1.38], [0.01, 0.1, 0.2, 0.3], "still rising at the end"),
        # FCOS, learning rate 0.001: a first epoch that had found something by luck.
        (
            [2.07, 1.9, 1.7, 1.5, 1.4, 1.25],
            [1.92, 1.6, 1.5, 1.4, 1.35, 1.29],
            [0.114, 0.001, 0.015, 0.015, 0.08, 0.074],
            "come back to what",
        ),
    ],
)
def test_what_did_not_go_well_is_not_called_so(train: list[float], val: list[float], score: list[float], told: str) -> None:
    """Nor a loss near nothing that doubles called overfitting. The numbers are those of a new user's trainings."""
    numbers = history(train_loss=train, val_loss=val, score=score)
    assert told in read_curves(numbers, score_name="dice", baseline=None, planned_epochs=len(train), validation_images=500, lower=0.01).text


@pytest.mark.parametrize(("baseline", "score", "learnt"), [(0.001, 0.02, True), (0.001, 0.0025, False), (0.5, 0.505, False)])
def test_little_is_much_of_many_classes(baseline: float, score: float, learnt: bool) -> None:
    numbers = history(train_loss=[6.9, 6.7, 6.5], val_loss=[6.9, 6.8, 6.6], score=[baseline, score / 2, score])
    reading = read_curves(numbers, score_name="accuracy", baseline=baseline, planned_epochs=3, validation_images=500, lower=0.01)
    assert (reading.verdict != "not-learning") == learnt


@pytest.mark.parametrize("baseline", [0.0, 0.001, 0.005, 0.0099, 0.1, 0.5, 0.97, 1.0])
@pytest.mark.parametrize("epochs", [1, 3, 4, 8])
def test_whatever_was_learnt_the_curves_can_be_read(baseline: float, epochs: int) -> None:
    """A thousand classes of which a few in a hundred are known, above all: words must never cost a model."""
    for best in (0.0, baseline, 2 * baseline, 4 * baseline, baseline + 0.015, baseline + 0.03, 0.999):
        for score in ([best] * epochs, [best, *[baseline] * (epochs - 1)], [baseline] * (epochs - 1) + [best]):
            for loss in ([7.0 - epoch / 10 for epoch in range(epochs)], [7.0] * epochs, [5.0 + epoch for epoch in range(epochs)]):
                numbers = history(train_loss=loss, val_loss=loss, score=score)
                for name, known in (("accuracy", baseline), ("dice", None)):
                    asked: dict[str, Any] = {"planned_epochs": epochs, "validation_images": 500, "lower": 0.01}
                    assert read_curves(numbers, score_name=name, baseline=known, **asked).text


def test_many_classes_fall_back_to_their_own_baseline() -> None:
    numbers = history(train_loss=[6.0] * 6, val_loss=[6.0] * 6, score=[0.005, 0.022, 0.019, 0.018, 0.0195, 0.0195])
    text = read_curves(numbers, score_name="accuracy", baseline=0.001, planned_epochs=6, validation_images=5000, lower=0.01).text
    assert "fell back" not in text, "19 times as good as always naming one"


def test_a_training_below_its_baseline_did_not_go_well() -> None:
    numbers = history(train_loss=[1, 0.5, 0.3], val_loss=[1, 0.8, 0.7], score=[0, 0, 0])
    assert (
        read_curves(numbers, score_name="accuracy", baseline=1.0, planned_epochs=3, validation_images=500, lower=0.01).verdict
        == "not-learning"
    )


def test_what_smoothed_labels_do_to_the_validation_loss_is_not_called_overfitting() -> None:
    """After a lucky minimum it comes back to the confidence that is taught, and lies there as the training loss does. A new user's numbers."""
    val = [0.351, 0.07, 0.03, 0.083, 0.106, 0.058, 0.054, 0.057, 0.055, 0.055]
    train = [0.584, 0.246, 0.127, 0.1, 0.09, 0.07, 0.06, 0.055, 0.052, 0.052]
    score = [0.49, 0.88, 0.97, 0.97, 0.95, 0.97, 0.97, 0.97, 0.97, 0.97]
    numbers = history(train_loss=train, val_loss=val, score=score)
    reading = read_curves(numbers, score_name="accuracy", baseline=0.5, planned_epochs=10, validation_images=80, lower=0.01)
    assert reading.verdict == "fine" and "by heart" not in reading.text


def test_the_best_of_many_epochs_of_guessing_is_called_chance() -> None:
    """Labels drawn by lot: among 34 epochs one had 62.5 % of 40 images."""
    score = [0.425, 0.575, 0.4, 0.475, 0.35, 0.375, 0.5, 0.625, 0.45, 0.5, 0.475, 0.375]
    numbers = history(
        train_loss=[0.7 / (epoch + 1) for epoch in range(12)], val_loss=[0.7 + epoch / 20 for epoch in range(12)], score=score
    )
    reading = read_curves(numbers, score_name="accuracy", baseline=0.5, planned_epochs=12, validation_images=40, lower=0.01)
    assert reading.verdict == "not-learning" and "62.5 % of accuracy is likely chance" in reading.text
    learnt = read_curves(numbers, score_name="accuracy", baseline=0.5, planned_epochs=12, validation_images=4000, lower=0.01)
    assert "chance" not in learnt.text, "so many images do not say 62.5 % by chance"


@pytest.mark.parametrize(
    ("val", "told"),
    [
        ([0.64, 0.59, 0.54, 0.49, 0.443], "More epochs would likely bring more"),  # a new user's
        ([0.64, 0.60, 0.57, 0.56, 0.555], "Try a lower learning rate"),
    ],
)
def test_a_training_that_falls_back_to_its_baseline_did_not_go_well(val: list[float], told: str) -> None:
    """A lucky first epoch on eight images, and then always one class."""
    numbers = history(train_loss=[0.67, 0.55, 0.45, 0.37, 0.30], val_loss=val, score=[0.75, 0.5, 0.5, 0.5, 0.5])
    reading = read_curves(numbers, score_name="accuracy", baseline=0.5, planned_epochs=5, validation_images=8, lower=0.01)
    assert reading.verdict != "fine" and "After epoch 1 the accuracy fell back" in reading.text and told in reading.text


def test_the_training_loss_of_a_few_small_batches_jumps_by_itself() -> None:
    numbers = history(train_loss=[2, 1, 3, 1.2, 4, 1.1], val_loss=[1.0, 0.8, 0.6, 0.3, 0.29, 0.28], score=[0.5, 0.6, 0.8, 0.94, 0.95, 0.95])
    assert read_curves(numbers, score_name="accuracy", baseline=0.5, planned_epochs=6, validation_images=500, lower=0.01).verdict == "fine"


@pytest.mark.parametrize(
    ("train", "val", "score"),
    [
        # FCOS over lite0, learning rates 0.01 and 0.03, where 0.003 went well. A new user's numbers.
        ([2.55, 6.12, 4.39, 3.19, 2.21, 1.91], [1.65, 2.78, 3.47, 2.44, 2.19, 1.68], [0.064, 0.0, 0.0, 0.0, 0.0, 0.0]),
        ([11.5, 13.9, 5.6, 4.6, 4.3, 7.7], [36.1, 5.6, 4.4, 3.5, 3.9, 3.1], [0.0] * 6),
    ],
)
def test_a_detector_whose_learning_rate_was_too_high_is_told_so(train: list[float], val: list[float], score: list[float]) -> None:
    reading = read_curves(
        history(train_loss=train, val_loss=val, score=score),
        score_name="average precision (50:95)",
        baseline=None,
        planned_epochs=6,
        validation_images=12,
        lower=0.003,
        unlearnt=Unlearnt.of(None, 2.1),
    )
    assert reading.verdict == "exploding" and "Try 0.003" in reading.text


def test_that_there_were_hardly_any_steps_is_said_where_little_was_learnt() -> None:
    asked: dict[str, Any] = {"score_name": "dice", "baseline": None, "planned_epochs": 3, "validation_images": 500, "lower": 0.01}
    nothing = history(train_loss=[1.1, 1.1, 1.1], val_loss=[1.1, 1.09, 1.08], score=[0.0, 0.0, 0.0])
    assert "changed 33 times only" in read_curves(nothing, steps=33, **asked).text
    assert "times only" not in read_curves(nothing, steps=3300, **asked).text
    well = history(train_loss=[1, 0.4, 0.2], val_loss=[0.45, 0.4, 0.39], score=[0.9, 0.9, 0.9])
    assert read_curves(well, steps=33, **asked).verdict == "fine" and "times only" not in read_curves(well, steps=33, **asked).text


def test_a_training_that_ended_before_its_last_epoch_says_so() -> None:
    numbers = history(train_loss=[0.5, 0.2, 0.1, 0.09, 0.09], val_loss=[0.5, 0.2, 0.15, 0.15, 0.15], score=[0.8, 0.9, 0.95, 0.95, 0.95])
    reading = read_curves(numbers, score_name="accuracy", baseline=0.2, planned_epochs=60, validation_images=500, lower=0.01)
    assert reading.verdict == "fine" and "after 5 of 60 epochs" in reading.text


def test_a_training_that_was_ended_while_it_got_better_is_not_said_to_have_settled() -> None:
    numbers = history(train_loss=[0.5, 0.3, 0.2, 0.1], val_loss=[0.5, 0.3, 0.2, 0.13], score=[0.4, 0.6, 0.8, 0.9])
    reading = read_curves(numbers, score_name="accuracy", baseline=0.2, planned_epochs=60, validation_images=500, lower=0.01)
    assert "still rising when the training ended, after 4 of 60 epochs" in reading.text


def test_few_validation_images_are_said() -> None:
    fine, even = Reading("fine", "Well."), {"cat": 200, "dog": 300}
    assert mindful(fine, 500, even) == fine
    assert mindful(fine, 8, {"cat": 4, "dog": 4}).text == "Well. Only 8 images validate it: all its numbers are rough."
    assert mindful(fine, 80, {"well": 76, "ill": 4}).text == (
        "Well. The class ill has fewer than 5 validation images: what is told of it is rough."
    )
    unseen = mindful(fine, 80, {"a": 80, "b": 0, "c": 0}).text
    assert unseen == "Well. The classes b and c have no validation image: nothing is known of how well they are told."
    many = mindful(fine, 600, {str(number): number % 2 for number in range(1000)}).text
    assert "500 of the 1,000 classes have no validation image" in many and "500 of the 1,000 classes have fewer than 5" in many


@pytest.mark.parametrize("name", ["test_efficientnet", "test_resnet", "test_vit", "test_convnext", "test_byobnet", "test_nfnet"])
def test_maps_of_every_kind_of_network(name: str) -> None:
    side = 160 if name == "test_vit" else 96
    network = timm.create_model(name, num_classes=3).eval()
    images = torch.randn(3, 3, side, side, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        plain = network(images)
    logits, heats = activation_maps(network, images)
    assert torch.allclose(logits, plain, atol=1e-5)
    for number, (heat,) in enumerate(heats):
        _, ((alone,),) = activation_maps(network, images[number : number + 1])
        if heat is None or alone is None:
            assert heat is alone, "what is said of one image does not depend on the others"
            continue
        assert np.allclose(heat, alone, atol=1e-3)
        assert heat.shape[0] == heat.shape[1] and heat.max() == pytest.approx(1) and heat.min() >= 0


@pytest.mark.parametrize(
    ("name", "side", "sides"),
    [
        ("swin_tiny_patch4_window7_224", 96, {3, 6}),  # attention has 9 queries × 9 keys in its last windows
        ("edgenext_xx_small", 96, {3, 6}),  # and channels × channels here
        ("hiera_tiny_224", 96, {3}),  # tokens lie in the order of windows before the last block
        ("tiny_vit_5m_224", 96, {3, 6}),  # its windows of 7 × 7 are larger than what they are filled with
        ("cait_xxs24_224", 224, {14}),  # a class token that it has in the last blocks only
        ("crossvit_9_240", 240, {14, 20}),  # a class token that it does not declare: else the map would be that of the patches' embedding
    ],
)
def test_maps_are_of_places(name: str, side: int, sides: set[int]) -> None:
    network = timm.create_model(name, num_classes=3, **({} if name.startswith(("edgenext", "tiny_vit")) else {"img_size": side})).eval()
    for head in network.modules():
        if isinstance(head, torch.nn.Linear) and head.out_features == 3:
            torch.nn.init.normal_(head.weight)  # some begin at nothing, for which nothing speaks
    _, heats = activation_maps(network, torch.randn(4, 3, side, side, generator=torch.Generator().manual_seed(0)))
    found = {heat.shape[0] for (heat,) in heats if heat is not None}
    assert found and found <= sides


def test_a_class_token_that_a_network_does_not_declare_is_left_out() -> None:
    tokens = torch.rand(2, 1 + 16, 5)
    maps = _as_maps(torch.nn.Identity(), tokens, 2)
    assert maps is not None and torch.equal(maps.flatten(2).transpose(1, 2), tokens[:, 1:])


def test_the_map_lies_where_the_evidence_is() -> None:
    class BrightSpot(torch.nn.Module):
        """Says class 1 by how bright the image is anywhere."""

        def __init__(self) -> None:
            super().__init__()
            self.features = torch.nn.AvgPool2d(4)

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            bright = torch.relu(self.features(images)).mean((1, 2, 3))
            return torch.stack([bright * 0, bright], 1)

    images = torch.zeros(1, 3, 64, 64)
    images[:, :, 40:56, 8:24] = 1
    _, ((heat, other),) = activation_maps(BrightSpot(), images, lambda _: torch.tensor([[1, 0]]))
    assert other is None, "nothing speaks for the other class"
    assert heat is not None
    assert np.unravel_index(heat.argmax(), heat.shape)[0] in range(10, 14)
    assert heat[10:14, 2:6].min() > 0.9 and heat[:8].max() == 0


@pytest.mark.parametrize(("values", "bottom"), [([0.0, 0.9], 0), ([0.1, 0.9], 0), ([0.62, 0.70], 0.5), ([3.0, 3.0], 2.5), ([0.0, 0.0], 0)])
def test_losses_lie_in_the_middle_of_their_axes(values: list[float], bottom: float) -> None:
    low, high = figures._loss_range(values)
    assert low >= bottom and low <= min(values) and high > max(values)
    if bottom:
        assert 0.2 < (np.mean(values) - low) / (high - low) < 0.8


@pytest.mark.parametrize("size", [(640, 480), (90, 640), (20, 20)])
def test_a_heat_map_says_of_what_it_is(size: tuple[int, int]) -> None:
    heat = np.zeros((8, 8), np.float32)
    heat[:4] = 1
    picture = Image.new("RGB", size, (150, 150, 150))
    cat, dog = (np.asarray(opened(pictures.heat_over(picture, [pictures.Heat(name, 0.93, heat)]))) for name in ("cat", "a dog " * 40))
    less = np.asarray(opened(pictures.heat_over(picture, [pictures.Heat("cat", 0.12, heat)])))
    shown = 512 * size[1] // max(size)
    assert cat.shape == dog.shape and cat.shape[0] > shown, "the caption lies below the picture"
    assert (cat[:shown] == dog[:shown]).all() and (cat[shown:] != dog[shown:]).any() and (cat[shown:] != less[shown:]).any()
    assert (dog[shown:, -4:] == 255).all(), "long names are shortened"
    middle = cat.shape[1] // 2
    reddest = cat[shown // 4, middle].astype(int)
    assert np.abs(cat[shown:].astype(int) - reddest).sum(2).min() < 12, "the legend holds the colour of the warmest place"


def test_each_label_that_counts_has_a_map_and_what_does_not_count_says_so() -> None:
    upper, lower = np.zeros((8, 8), np.float32), np.zeros((8, 8), np.float32)
    upper[:4], lower[4:] = 1, 1
    picture = Image.new("RGB", (512, 512), (150, 150, 150))
    one, two = pictures.Heat("one", 0.93, upper), pictures.Heat("two", 0.81, lower)
    both = np.asarray(opened(pictures.heat_over(picture, [one, two])))
    left = np.asarray(opened(pictures.heat_over(picture, [one])))
    assert (both[:, :512] == left).all() and both.shape[1] > 1024
    assert (both[100, 256] == both[400, -256]).all() and (both[100, 256] != both[100, -256]).any()
    quiet = np.asarray(opened(pictures.heat_over(picture, [replace(one, counts=False)])))
    assert (quiet[:512] == left[:512]).all() and (quiet[512:] != left[512:]).any()


def test_what_is_transparent_is_white_as_the_network_sees_it() -> None:
    """Black lines on a transparent ground would be nothing but black."""
    clear = Image.new("RGBA", (64, 64), (0, 0, 0, 0))
    clear.paste((0, 0, 0, 255), (30, 0, 34, 64))
    drawings = [
        opened(pictures.heat_over(clear, [pictures.Heat("line", 0.9, np.zeros((8, 8), np.float32))], side=64)),
        draw_objects(clear, [Drawn((5, 5, 20, 20), (0, 158, 115))], 64),
        fitted(clear, 64, 64, 64),
    ]
    for picture in drawings:
        left = (picture.width - 64) // 2  # a heat map stands in the middle above its caption
        assert picture.getpixel((left + 60, 60)) == (255, 255, 255) and picture.getpixel((left + 32, 60)) == (0, 0, 0)
