"""Detectors for other programs: one graph from a picture's bytes to boxes, labels and scores (and masks), and how its answers are compared.

The graph takes one picture at a time: how many objects it finds differs from picture to picture. Its non-maximum suppression is within.
"""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from worker.engine.errors import is_out_of_memory
from worker.networks import detection_transformers
from worker.objectives.average_precision import MOST_FOUND
from worker.reports.inference import LoadedModel

logger = logging.getLogger(__name__)

Arrays = Sequence[NDArray[Any]]
_OPSET = 18


class ExportedDetector(nn.Module):
    """A detector from bytes to objects: uint8 [1, side, side, 3] in RGB → boxes [n, 4], labels [n], scores [n], and masks [n, side, side]."""

    mean: Tensor
    std: Tensor

    def __init__(self, model: LoadedModel) -> None:
        super().__init__()
        preprocessing = model.card["preprocessing"]
        self.network = model.network
        detection_transformers.keep_positions(model.network, int(preprocessing["size"][0]))
        self.register_buffer("mean", 255 * torch.tensor(preprocessing["mean"]).view(1, 3, 1, 1))
        self.register_buffer("std", 255 * torch.tensor(preprocessing["std"]).view(1, 3, 1, 1))

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """The surest objects first; boxes are x1, y1, x2, y2 in pixels of the input, labels count from 0, masks are probabilities."""
        found = self.network((images.permute(0, 3, 1, 2).float() - self.mean) / self.std)[0]
        objects = (found["boxes"].float(), found["labels"], found["scores"].float())
        return (*objects, found["masks"][:, 0].float()) if "masks" in found else objects


def output_names(model: LoadedModel) -> list[str]:
    """What the graph gives, in its order."""
    return ["boxes", "labels", "scores", *(["masks"] if model.gives_instances else [])]


def describe_outputs(model: LoadedModel, side: int) -> list[dict[str, Any]]:
    """The outputs as the exported card tells of them."""
    told = {
        "boxes": ("float32", ["objects", 4], f"x1, y1, x2, y2 in pixels of the input, 0 to {side}; scale them to the picture"),
        "labels": ("int64", ["objects"], "numbers of `classes`, from 0"),
        "scores": ("float32", ["objects"], "confidence, the surest first; take those from the class's value in `thresholds` on"),
        "masks": ("float32", ["objects", side, side], "probability of each pixel of the input; at least 0.5 belongs to the object"),
    }
    return [dict(zip(("name", "type", "shape", "meaning"), (name, *told[name]), strict=True)) for name in output_names(model)]


def write_onnx(network: nn.Module, example: Tensor, names: Sequence[str], file: Path) -> None:
    """Export by tracing: torch's newer exporter cannot follow how many boxes remain after suppression, which depends on the picture.

    Raises:
        RuntimeError, torch.onnx.errors.OnnxExporterError: when the network computes in a way that cannot be exported.
    """
    torch.onnx.export(
        network,
        (example,),
        str(file),
        input_names=["images"],
        output_names=list(names),
        dynamic_axes={name: {0: "objects"} for name in names},
        opset_version=_OPSET,
        dynamo=False,
    )


def largest_difference(expected: Arrays, found: Arrays, side: int, tolerance: float) -> float:
    """How far the objects of two answers are apart at most, each with its nearest: scores, boxes as shares of the side, masks as probabilities.

    Objects of equal scores may come in another order. One that the other answer lacks counts as infinitely far, unless that answer is as long
    as detectors' answers get and its last score is the same within `tolerance`: there the list is cut.
    """
    if [array.shape[1:] for array in expected] != [array.shape[1:] for array in found]:
        return float("inf")
    if not all(np.isfinite(array).all() for array in found):
        return float("inf")
    largest = 0.0
    left = list(range(len(found[2])))
    for index in range(len(expected[2])):
        best, distance = -1, float("inf")
        for other in left:
            if found[1][other] == expected[1][index]:
                apart = _apart(expected, index, found, other, side)
                if apart < distance:
                    best, distance = other, apart
        if distance <= tolerance:
            left.remove(best)
            largest = max(largest, distance)
        elif not _at_the_cut(float(expected[2][index]), found[2], tolerance):
            return distance
    if any(not _at_the_cut(float(found[2][other]), expected[2], tolerance) for other in left):
        return float("inf")
    return largest


@torch.inference_mode()
def decided_by_rounding(network: nn.Module, images: Tensor, expected: Arrays, side: int, tolerance: float) -> bool:
    """Whether the original itself answers otherwise than `expected` in double precision, or when the picture is by a four-hundredth of a grey level
    brighter or darker.

    Detection transformers rank all places and give each of the first 300 another query: where two places are equally good, how a program
    rounds decides which of them comes first, and all answers are others. Such a picture says nothing of an export.
    """
    exact = in_double_precision(network, images)
    if exact is not None and largest_difference(expected, exact, side, tolerance) > tolerance:
        return True
    mean: Tensor = network.mean  # type: ignore[assignment]
    kept = mean.clone()
    try:
        for shift in (-1e-5, -3e-6, 3e-6, 1e-5):
            mean.copy_(kept + 255 * shift)
            if largest_difference(expected, arrays(network(images)), side, tolerance) > tolerance:
                return True
    finally:
        mean.copy_(kept)
    return False


@torch.inference_mode()
def in_double_precision(network: nn.Module, images: Tensor) -> Arrays | None:
    """What a network answers when it computes in double precision, as `arrays`; None where it cannot. `images` are uint8 [n, side, side, 3].

    Raises:
        RuntimeError: when memory runs out.
    """
    try:
        return arrays(network.double()(images))
    except RuntimeError as error:
        if is_out_of_memory(error):
            raise
        logger.info("not computed in double precision: %s", error)  # types that do not go together
        return None
    finally:
        network.float()


def arrays(outputs: Any) -> Arrays:
    """A network's answer as arrays on the host: [n, …] of a single tensor; of a detector as `ExportedDetector.forward` gives it, [objects, …] each."""
    return [tensor.numpy() for tensor in (outputs if isinstance(outputs, tuple | list) else (outputs,))]


def _apart(expected: Arrays, index: int, found: Arrays, other: int, side: int) -> float:
    apart = max(abs(float(expected[2][index]) - float(found[2][other])), float(np.abs(expected[0][index] - found[0][other]).max()) / side)
    if len(expected) > 3 and apart < 1:
        apart = max(apart, float(np.abs(expected[3][index] - found[3][other]).max()))
    return apart


def _at_the_cut(score: float, scores: NDArray[Any], tolerance: float) -> bool:
    return len(scores) >= MOST_FOUND and score <= float(scores.min()) + tolerance
