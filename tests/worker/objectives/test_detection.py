"""The numbers of detection against cases worked out by hand: in the pixels of the original images, whatever the network's input size."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from core.datasets import masks
from core.datasets.records import Record
from worker.objectives.detection import Detection, Outputs, in_original
from worker.objectives.outlines import outlines_of

CPU = torch.device("cpu")


def record(position: int, value: dict[str, Any], width: int = 200, height: int = 100) -> Record:
    return Record(position, f"{position}.png", str(position), width, height, "", "", value)


def judged(objective: Detection, found: list[dict[str, Any]], side: int = 100) -> Any:
    evaluator = objective.evaluator()
    for row, one in enumerate(found):
        tensors = {
            "boxes": torch.tensor(one["boxes"], dtype=torch.float32).view(-1, 4),
            "labels": torch.tensor(one["labels"], dtype=torch.int64),
            "scores": torch.tensor(one["scores"], dtype=torch.float32),
        }
        if "masks" in one:
            tensors["masks"] = one["masks"]
        evaluator.update(Outputs(torch.tensor(float(row + 1)), [tensors], side), np.array([row]))
    return evaluator.compute()


NOTHING: dict[str, Any] = {"boxes": [], "labels": [], "scores": []}


def test_answers_that_are_no_numbers_are_judged_by_their_loss() -> None:
    """COCO's metrics refuse them; that the training diverged is for the loss to say."""
    objective = Detection([record(0, {"boxes": [[0, 20, 10, 40, 50]]})], ["a"], CPU, instances=False)
    evaluator = objective.evaluator()
    found = {"boxes": torch.full((1, 4), torch.nan), "labels": torch.tensor([0]), "scores": torch.tensor([torch.nan])}
    evaluator.update(Outputs(torch.tensor(torch.nan), [found], 100), np.array([0]))
    assert np.isnan(evaluator.compute().loss)


def test_everything_found_in_its_place() -> None:
    # 200 × 100 px seen as 100 × 100: x is halved.
    objective = Detection([record(0, {"boxes": [[0, 20, 10, 40, 30]]}), record(1, {"boxes": []})], ["a", "b"], CPU, instances=False)
    result = judged(objective, [{"boxes": [[10, 10, 30, 40]], "labels": [0], "scores": [0.9]}, NOTHING])
    assert result.metrics["ap"] == result.metrics["ap50"] == result.metrics["ap75"] == result.score == pytest.approx(1)
    assert result.metrics["ap_medium"] == pytest.approx(1)  # 40 × 30 px in the original, 20 × 30 for the network
    assert "ap_small" not in result.metrics and "ap_large" not in result.metrics  # there are none
    assert result.loss == pytest.approx(1.5)
    assert result.details["found_boxes"].tolist() == [[20, 10, 60, 40]]
    assert result.details["found_true"].tolist() == [True]
    assert torch.isnan(result.details["class_ap"][1])  # no image shows b
    assert not result.remarks


def test_a_box_a_little_off_counts_at_low_overlaps_only() -> None:
    objective = Detection([record(0, {"boxes": [[0, 0, 0, 100, 100]]})], ["a"], CPU, instances=False)
    result = judged(objective, [{"boxes": [[0, 0, 50, 66]], "labels": [0], "scores": [0.9]}])  # overlap 0.66
    assert result.metrics["ap50"] == pytest.approx(1) and result.metrics["ap75"] == 0
    assert result.metrics["ap"] == pytest.approx(0.4)  # at 0.5, 0.55, 0.6 and 0.65 of ten


def test_right_place_wrong_class_is_wrong_and_a_class_never_found_is_remarked() -> None:
    objective = Detection([record(0, {"boxes": [[1, 0, 0, 100, 100]]})], ["a", "b"], CPU, instances=False)
    result = judged(objective, [{"boxes": [[0, 0, 50, 100]], "labels": [0], "scores": [0.9]}])
    assert result.score == 0 and result.details["found_true"].tolist() == [False]
    assert "“b”" in result.remarks["never-predicted"][0] and "“a”" not in result.remarks["never-predicted"][0]


def test_nothing_found_and_nothing_to_find() -> None:
    objective = Detection([record(0, {"boxes": [[0, 0, 0, 9, 9]]})], ["a"], CPU, instances=False)
    assert judged(objective, [NOTHING]).score == 0
    empty = judged(Detection([record(0, {"boxes": []})], ["a"], CPU, instances=False), [NOTHING])
    assert empty.score == 0 and empty.metrics == {} and not empty.remarks


def test_the_threshold_of_a_class_is_where_f1_is_highest() -> None:
    objective = Detection([record(0, {"boxes": [[0, 0, 0, 20, 20], [0, 100, 50, 20, 20]]})], ["a"], CPU, instances=False)
    boxes = [[0, 0, 10, 20], [50, 50, 60, 70], [80, 80, 90, 90], [20, 80, 30, 90]]
    result = judged(objective, [{"boxes": boxes, "labels": [0] * 4, "scores": [0.9, 0.6, 0.4, 0.3]}])
    assert float(result.details["thresholds"][0]) == pytest.approx(0.5)  # half way between the last right one and the first wrong one
    assert result.details["precision"].shape == (2, 101)


def test_masks_are_judged_by_masks_and_sizes_by_their_area() -> None:
    mask = np.zeros((100, 200), np.uint8)
    mask[20:80, 40:100] = np.triu(np.ones((60, 60), np.uint8))  # a triangle: 1,830 px in a box of 3,600
    objective = Detection([record(0, {"objects": [[0, masks.encode(mask)]]})], ["a"], CPU, instances=True)
    whole_box = torch.zeros(1, 1, 100, 100)
    whole_box[0, 0, 20:80, 20:50] = 1.0
    found = {"boxes": [[20, 20, 50, 80]], "labels": [0], "scores": [0.9]}
    result = judged(objective, [{**found, "masks": whole_box}])
    assert result.metrics["box_ap"] == pytest.approx(1)
    assert result.metrics["ap50"] == pytest.approx(1) and result.metrics["ap75"] == 0  # 1,830 of 3,600 px overlap
    assert "ap_medium" in result.metrics
    assert result.details["found_outline_ends"].tolist() == [len(result.details["found_outlines"])]


def test_boxes_beyond_the_edge_end_at_the_edge() -> None:
    assert in_original(torch.tensor([[-5.0, 10, 120, 50]]), 100, 300, 50).tolist() == [[0, 5, 300, 25]]


def test_masks_grow_to_the_size_of_the_image() -> None:
    probabilities = torch.zeros(3, 1, 10, 10)
    probabilities[1, 0, :, 5:] = 0.9
    empty, half, _ = outlines_of(probabilities, 40, 20)
    assert masks.area(empty, 40, 20) == 0 and masks.area(half, 40, 20) == 400


@pytest.mark.parametrize(("width", "height"), [(130, 61), (32, 32), (19, 23), (200, 7)])
def test_masks_are_stretched_as_the_whole_of_them_would_be(width: int, height: int) -> None:
    """Only what is covered is stretched and encoded; nobody may see a difference, at no edge and in no size."""
    noise = torch.rand(8, 1, 6, 6, generator=torch.Generator().manual_seed(0))
    probabilities = functional.interpolate(noise, (32, 32), mode="bicubic")
    left, top = torch.tensor([0, 0, 5, 20, 31, 0, 0, 9]), torch.tensor([0, 3, 0, 31, 9, 30, 0, 9])
    for mask, x, y in zip(probabilities, left.tolist(), top.tolist(), strict=True):
        mask[0, :y] = mask[0, :, :x] = 0
    probabilities[5, 0, 30:] = probabilities[6, 0, :, 10:14] = 0.9  # along the lower edge; from the upper edge to the lower
    whole = functional.interpolate(probabilities, (height, width), mode="bilinear", align_corners=False)[:, 0].numpy()
    for outline, expected in zip(outlines_of(probabilities, width, height), whole, strict=True):
        differing = masks.decode(outline, width, height) != (expected >= 0.5)
        assert np.abs(expected[differing] - 0.5).max(initial=0) < 1e-6, "but for what lies on the very edge"


class Counting(nn.Module):
    """A detector that tells which mode it was asked in."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(3)

    def forward(self, images: torch.Tensor, targets: Any = None) -> Any:
        self.norm(images)
        if self.training:
            return {"places": images.mean(), "classes": images.new_tensor(float(len(targets[0]["labels"])))}
        return [{"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64), "scores": torch.zeros(0)} for _ in images]


def test_the_validation_loss_changes_no_statistics_and_leaves_the_network_in_evaluation() -> None:
    objective = Detection([record(0, {"boxes": [[0, 0, 0, 50, 50]]})], ["a"], CPU, instances=False)
    network = Counting().eval()
    before = network.norm.running_mean.clone()  # type: ignore[union-attr]
    outputs = objective.evaluation_step(network, torch.ones(1, 3, 32, 32), (), np.array([0]))
    assert float(outputs.loss) == 2  # the mean of ones, and one object
    assert torch.equal(network.norm.running_mean, before) and not network.training  # type: ignore[arg-type]


def test_the_loss_of_images_without_objects_is_no_measure() -> None:
    objective = Detection([record(0, {"boxes": []}), record(1, {"boxes": [[0, 0, 0, 50, 50]]})], ["a"], CPU, instances=False)
    assert [objective.shows_something(np.array(rows)) for rows in ([0], [1], [0, 1])] == [False, True, True]
