"""The training report: what it says of the classes, and pages for every kind of data."""

from typing import Any

import numpy as np
import pytest

from core.datasets import masks
from core.datasets.records import Record
from core.datasets.statistics import describe
from core.tasks.hyperparameters import TrainingPlan
from core.vocabulary import AnnotationKind
from worker.reports import pictures
from worker.reports import training_report as training_report_module
from worker.reports.training_report import insights, training_report


def labels(*images: tuple[str, int, str]) -> list[dict[str, Any]]:
    return [{"class": name, "images": count, "representation": level} for name, count, level in images]


def test_under_represented_classes_are_named_with_their_numbers() -> None:
    text = " ".join(
        insights(labels(("cat", 90, "well"), ("dog", 9, "mildly under-represented"), ("emu", 2, "seriously under-represented")))
    )
    assert "1 of 3 classes is well represented: “cat” (90)." in text
    assert "is mildly under-represented: “dog” (9)." in text and "is seriously under-represented: “emu” (2)." in text
    assert "50%" in text and "25%" in text


def test_even_data_takes_one_sentence() -> None:
    assert insights(labels(("cat", 50, "well"), ("dog", 50, "well"))) == ["All 2 classes are evenly represented."]


def test_even_data_may_be_too_few() -> None:
    even, few = insights(labels(("cat", 3, "well"), ("dog", 3, "well")))
    assert even == "All 2 classes are evenly represented."
    assert few == "All of them have fewer than 20 images, “cat” 3: more images of them would likely help most."
    assert insights(labels(("cat", 5, "well"))) == ["There is one class, “cat”, on 5 images."]


@pytest.mark.parametrize("kind", ["single-label", "multi-label", "boxes", "regions", "instances"])
@pytest.mark.parametrize("classes", [1, 60])
def test_pages_for_every_kind_of_data(kind: str, classes: int) -> None:
    mask = masks.encode(np.eye(20, dtype=np.uint8))
    values = {
        "single-label": lambda n: {"label": n},
        "multi-label": lambda n: {"labels": [n]},
        "boxes": lambda n: {"boxes": [[n, 1, 1, 5, 5]]},
        "regions": lambda n: {"masks": [[n, mask]]},
        "instances": lambda n: {"objects": [[n, mask]]},
    }
    records = [
        Record(n, f"{n}", f"{n}", 20, 20, "val" if n < 3 else "test" if n == 11 else "train", "", values[kind](n % classes))
        for n in range(12)
    ]
    names = [f"class {n} of $money and {{braces}}" for n in range(classes)]
    history = [{"train_loss": 1.0, "val_loss": 1.0, "score": 0.5}]
    drawn = {
        "curves": pictures.curves(history, score_name="dice", score_title="Dice", baseline=None, best_epoch=1, reading="Fine."),
        "classes": pictures.class_bars([0.5] * classes, names, "Dice", "Dice"),
    }
    card = {
        "name": "A $5 task",
        "created_at": "2026-01-01T00:00:00+00:00",
        "task_type": "object-segmentation",
        "classes": names,
        "network": "unet",
        "pretraining": "none",
        "preprocessing": {"size": [64, 64]},
        "metrics": {"dice": 0.5},
        "best_epoch": 1,
        "epochs": 1,
        "reading": {"text": "Fine."},
        "plan": TrainingPlan().model_dump(mode="json"),
        "dataset": {"name": "d", "fingerprint": "ab", "annotation_kind": kind, "images": 12, "training_images": 8, "validation_images": 3},
        "software": {"python": "3"},
        "per_class": {name: {"dice": 0.5, "recall": None} for name in names},
    }
    report = training_report(card, drawn, records, [0, 1, 2])
    assert report.startswith(b"%PDF") and report.count(b"/Type /Page\n") + report.count(b"/Type /Page ") >= 4


@pytest.mark.parametrize("classes", [3, 40, 60])
def test_the_numbers_of_all_classes_have_room(classes: int) -> None:
    """Below what stands on the page, or on one of their own; of more than forty the page says how many there are besides."""
    page = training_report_module._Page("A task")
    page.y = 0.3
    card = {
        "task_type": "object-segmentation",
        "per_class": {f"class {number} at $5": {"dice": 0.5, "iou": None} for number in range(classes)},
    }
    pages = [page, *training_report_module._classes(card, page)]
    texts = {text.get_text() for one in pages for text in one.figure.texts}
    assert {f"class {number} at $5" for number in range(min(classes, 40))} <= texts and "IoU" in texts
    assert any("20 more classes" in text for text in texts) == (classes == 60)
    assert all(one.y > 0.05 for one in pages)


@pytest.mark.parametrize(("task_type", "title"), [("multi-label", "AP"), ("object-detection", "AP 50:95")])
def test_average_precision_is_of_what_was_judged(task_type: str, title: str) -> None:
    """Of labels it is no mean over the overlaps of boxes."""
    page = training_report_module._Page("A task")
    training_report_module._classes({"task_type": task_type, "per_class": {"cat": {"ap": 0.5}}}, page)
    assert title in {text.get_text() for text in page.figure.texts}


def test_a_test_set_that_took_no_part_is_said() -> None:
    records = [Record(n, f"{n}", f"{n}", 20, 20, name, "", {"label": 0}) for n, name in enumerate(["train", "train", "val", "test"])]
    found = describe(records, AnnotationKind.SINGLE_LABEL, ["a"])
    (page, *_) = training_report_module._data(found, records, AnnotationKind.SINGLE_LABEL, ["a"], {2})
    texts = " ".join(text.get_text() for text in page.figure.texts)
    assert "1 image of the source's own test set took no part" in texts
    widths = [bar.get_width() for axes in page.figure.axes[:1] for bar in axes.patches]
    assert widths == [2, 1], "of training and of validation"


def test_a_baseline_is_told_as_one() -> None:
    assert training_report_module._title("baseline_map") == "Mean average precision of the baseline"


def test_settings_without_effect_are_left_out() -> None:
    def told(**plan: Any) -> set[str]:
        plan = TrainingPlan(**plan).model_dump(mode="json")
        card = {"plan": plan, "software": {}, "dataset": {"fingerprint": "0123456789abcdef" * 4}}
        return {text.get_text() for text in training_report_module._settings(card).figure.texts}

    quiet = told(optimizer="adamw", rotation=False, colour_jitter=False, early_stop=False)
    assert not {"momentum", "rotation degrees", "hue", "patience"} & quiet and {"weight decay", "rotation"} <= quiet
    assert {"momentum", "rotation degrees", "hue", "patience"} <= told(rotation=True, colour_jitter=True, early_stop=True)
    assert (
        "".join(sorted(quiet & {"0123456789abcdef" * 2 + "01234567", "89abcdef" + "0123456789abcdef"}, key=len, reverse=True))
        == "0123456789abcdef" * 4
    )


def test_of_many_classes_the_weakest_are_shown() -> None:
    page = training_report_module._Page("A task")
    page.y = 0.3
    per_class = {f"class {number}": {"images": 5, "f1": number / 100} for number in range(99, -1, -1)}
    pages = training_report_module._classes({"task_type": "single-label", "per_class": per_class}, page)
    texts = [text.get_text() for text in pages[0].figure.texts]
    assert "The 40 weakest classes" in texts and "class 0" in texts and "class 39" in texts and "class 40" not in texts
