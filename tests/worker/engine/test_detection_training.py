"""Small trainings of detectors: the same loop, resumed exactly, on odd data, down to the pictures and a test on an image."""

import json
import math
from dataclasses import replace
from io import BytesIO
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from small_networks import BOXES, INSTANCES

from core.zoo.recipes import RECIPES
from worker.engine import training
from worker.engine.checkpoint import newest
from worker.engine.device import choose_device
from worker.engine.errors import TooFewImagesError
from worker.link import Ask
from worker.reports.inference import predict
from worker.reports.model_files import write_model

SPECS = {"boxes": BOXES, "instances": INSTANCES}
PLAN: dict[str, Any] = {"batch_size": 4, "epochs": 2, "image_size": 64, "learning_rate": 1e-3, "gradient_clip": 5.0}


def job_of(bench: Any, dataset: Any, kind: str = "boxes", **changes: Any) -> Any:
    return bench.job(dataset, kind=kind, spec=SPECS[kind], **{**PLAN, **changes})


@pytest.mark.parametrize("kind", ["boxes", "instances"])
def test_a_detector_learns_and_leaves_a_model_that_can_be_tried(bench: Any, kind: str) -> None:
    job = job_of(bench, bench.squares(images=12), kind, epochs=3)
    result, link = bench.train(job)
    assert {"ap", "ap50", "ap75", "ar", "ar_1", "ar_10"} <= result.metrics.keys() and result.score == max(
        values["score"] for _, values in link.epochs
    )
    assert ("box_ap" in result.metrics) == (kind == "instances")
    assert result.baseline is None
    assert link.epochs[-1][1]["val_loss"] < link.epochs[0][1]["val_loss"]
    assert "train_accuracy" not in link.epochs[0][1]  # detectors have none
    json.dumps(link.epochs)

    report = write_model(job, result, "models/m", database=bench.database, storage=bench.storage, settings=bench.settings)
    assert {"curves", "precision_recall", "classes", "best_and_worst"} <= report.keys()
    for key in (key for key in report.values() if key.endswith(".png")):
        assert min(Image.open(BytesIO(bench.storage.read(key))).size) > 50
    card = json.loads(bench.storage.read("models/m/model_card.json"))
    assert len(card["thresholds"]) == 2 and card["metrics"]["ap50"] == result.metrics["ap50"]
    for name in ("ap", "ap50"):
        of_classes = [values[name] for values in card["per_class"].values() if values[name] is not None]
        assert np.mean(of_classes) == pytest.approx(result.metrics[name], abs=1e-6), "the mean over the classes that images show"

    image = (bench.folder / "squares" / "images" / "1.png").read_bytes()
    answer = predict("models/m", image, storage=bench.storage, settings=bench.settings)
    json.dumps(answer)
    assert Image.open(BytesIO(bench.storage.read(answer["picture_key"]))).size == (512, 512)
    for one in answer["labels"]:
        x, y, width, height = one["box"]
        assert x >= 0 and x + width <= 64.01 and y >= 0 and y + height <= 64.01 and 0 < one["confidence"] <= 1
        assert ("mask" in one) == (kind == "instances")


def test_a_detector_that_explodes_within_its_first_epoch_is_noticed(bench: Any, recording_link: Any) -> None:
    """By its first step's loss, also where it was paused after that."""
    job = job_of(bench, bench.squares(), epochs=1, batch_size=2, learning_rate=0.1)
    bench.train(job, recording_link(lambda link: Ask.PAUSE if link.events else Ask.GO_ON))
    _, link = bench.train(replace(job, generation=2))
    assert "The loss explodes" in link.notices[0] and "in epoch 1" in link.notices[0]
    assert float(link.notices[0].rpartition("about ")[2].rstrip(".")) < 5, "of the first step"


def test_a_backbone_learns_by_its_share_of_the_rate_and_the_heads_by_all_of_it(bench: Any) -> None:
    dataset, moved = bench.squares(), {}
    for factor in (1.0, 1e-4):
        job = job_of(bench, dataset, task=f"factor {factor}", epochs=1, optimizer="adamw", frozen_statistics=True, backbone_factor=factor)
        bench.train(job)
        saved = newest(bench.storage, job.checkpoint_folder)
        assert saved is not None
        torch.manual_seed(job.plan.seed)
        begun = training.begin_network(job, bench.storage, bench.settings, learnt=False).state_dict()
        for part in ("inner.backbone.body", "inner.backbone.fpn"):
            names = [name for name in begun if name.startswith(part) and name.endswith("weight") and begun[name].ndim == 4]
            moved[part, factor] = max(float((saved.state["network"][name] - begun[name]).abs().max()) for name in names)
    assert moved["inner.backbone.body", 1e-4] < 0.01 * moved["inner.backbone.body", 1.0]
    assert moved["inner.backbone.fpn", 1e-4] > 0.3 * moved["inner.backbone.fpn", 1.0]


def test_batches_of_auto_are_as_large_as_the_recipe_s_rate_is_for(bench: Any) -> None:
    job = job_of(bench, bench.squares(), batch_size="auto")
    assert training.batch_size_of(job, 10_000, choose_device()) == RECIPES[job.spec.recipe].batch_size == 4


@pytest.mark.parametrize("frozen", [True, False])
def test_statistics_that_the_plan_freezes_stay_while_all_else_learns(bench: Any, frozen: bool) -> None:
    job = job_of(bench, bench.squares(), epochs=1, frozen_statistics=frozen)
    result, _ = bench.train(job)
    saved = newest(bench.storage, job.checkpoint_folder)
    assert saved is not None and result.score is not None
    weights = saved.state["network"]
    means = [tensor for name, tensor in weights.items() if name.endswith("running_mean")]
    scales = [tensor for name, tensor in weights.items() if name.removesuffix("weight") + "running_mean" in weights]
    assert means and all(mean.any() != frozen for mean in means), "new batch norms begin with means of nought"
    assert not any(torch.equal(scale, torch.ones_like(scale)) for scale in scales)


def test_a_paused_detector_ends_exactly_as_an_unbroken_one(bench: Any, recording_link: Any) -> None:
    dataset = bench.squares()
    changes = {"horizontal_flip": True, "resized_crop": True, "rotation": True, "ema_decay": 0.9}
    whole = job_of(bench, dataset, task="whole", **changes)
    unbroken, unbroken_link = bench.train(whole)
    broken = job_of(bench, dataset, task="broken", **changes)
    paused, first = bench.train(broken, recording_link(lambda link: Ask.PAUSE if link.asked_times > 6 else Ask.GO_ON))
    assert paused.asked is Ask.PAUSE
    resumed, second = bench.train(replace(broken, generation=2))
    assert resumed.metrics == unbroken.metrics
    told = dict(first.epochs + second.epochs)
    assert [told[number]["val_loss"] for number in sorted(told)] == [values["val_loss"] for _, values in unbroken_link.epochs]
    states = [newest(bench.storage, one.checkpoint_folder) for one in (whole, broken)]
    assert all(state is not None for state in states)
    first_weights, second_weights = (state.state["network"] for state in states)  # type: ignore[union-attr]
    assert all(torch.equal(first_weights[name], second_weights[name]) for name in first_weights)


@pytest.mark.parametrize("kind", ["boxes", "instances"])
@pytest.mark.parametrize(
    ("options", "plan"),
    [
        ({"images": 2}, {}),
        ({"images": 4, "classes": 1}, {"batch_size": 1}),
        ({"images": 6, "empty_every": 2}, {"batch_size": 2}),
        ({"images": 8, "classes": 1000}, {}),
        ({"images": 4, "size": (300, 30)}, {"resized_crop": True, "rotation": True}),
        ({"images": 4, "mode": "L"}, {"colour_jitter": True, "horizontal_flip": True}),
        ({"images": 4, "mode": "I;16"}, {}),
    ],
    ids=["two-images", "one-class-single-images", "images-without-objects", "thousand-classes", "wide", "grey", "16-bit"],
)
def test_odd_datasets_train(bench: Any, kind: str, options: dict[str, Any], plan: dict[str, Any]) -> None:
    result, link = bench.train(job_of(bench, bench.squares(**options), kind, **{"epochs": 1, **plan}))
    assert result.score is not None and 0 <= result.score <= 1
    assert all(math.isfinite(values["val_loss"]) for _, values in link.epochs)


def test_a_batch_without_a_single_object_trains(bench: Any) -> None:
    dataset = bench.squares(images=8, empty_every=2)
    result, link = bench.train(job_of(bench, dataset, epochs=1, batch_size=1))
    assert result.score is not None and math.isfinite(link.epochs[0][1]["train_loss"]) and math.isfinite(link.epochs[0][1]["val_loss"])


def test_where_nothing_shows_anything_nothing_is_trained(bench: Any) -> None:
    with pytest.raises(TooFewImagesError, match="None of the images to train on shows anything"):
        bench.train(job_of(bench, bench.squares(images=8, empty_every=1), epochs=1))
