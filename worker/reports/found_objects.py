"""What a detector finds on one image: boxes or masks with their labels, as data and drawn on the image."""

from collections.abc import Mapping, Sequence
from io import BytesIO
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from core.datasets import masks
from core.datasets.legend import colour_of
from worker.objectives.detection import in_original
from worker.objectives.outlines import outlines_of
from worker.reports.object_drawings import Drawn, draw_objects, drawn_side

_SIDES = (512, 1600)  # px: the drawing is as large as the image, within these limits, but where it would be narrow
_USUAL_THRESHOLD = 0.5


def find_objects(
    found: Mapping[str, Tensor], side: int, size: tuple[int, int], classes: Sequence[str], thresholds: Sequence[float]
) -> list[dict[str, Any]]:
    """The objects of one image, the surest first, from each class's threshold on.

    Args:
        found: what a detector in evaluation mode gives for the image, on the CPU, see `worker.networks.detection`.
        side: of the square that the detector saw, in pixels.
        size: width and height of the original image.
        classes: their names.
        thresholds: per class the confidence from which on an object counts; where there are none, 0.5 for all.

    Returns:
        For each `label`, `confidence`, `box` (x, y, width, height in pixels of the original image), and where the network gives masks
        `mask`: {"size": [height, width], "counts": COCO's compressed run-length encoding}, and how many `pixels` it covers.
    """
    least = torch.tensor([*thresholds] or [_USUAL_THRESHOLD] * len(classes))
    kept = found["scores"] >= least[found["labels"]]
    boxes = in_original(found["boxes"][kept].float(), side, *size).tolist()
    outlines = outlines_of(found["masks"][kept], *size) if "masks" in found else []
    objects: list[dict[str, Any]] = []
    for number, (label, score, (x1, y1, x2, y2)) in enumerate(
        zip(found["labels"][kept].tolist(), found["scores"][kept].tolist(), boxes, strict=True)
    ):
        objects.append({"label": classes[label], "confidence": score, "box": [round(side, 2) for side in (x1, y1, x2 - x1, y2 - y1)]})
        if outlines:
            objects[-1]["mask"] = {"size": [size[1], size[0]], "counts": outlines[number]}
            objects[-1]["pixels"] = masks.area(outlines[number], *size)
    return objects


def drawing_of(image: Image.Image, objects: Sequence[dict[str, Any]], classes: Sequence[str]) -> bytes:
    """The image with what `find_objects` found on it, as PNG."""
    drawn = []
    for one in objects:
        x, y, width, height = one["box"]
        mask = masks.decode(one["mask"]["counts"], image.width, image.height) if "mask" in one else None
        colour, sure = colour_of(list(classes).index(one["label"])), f"{100 * one['confidence']:.0f} %"
        drawn.append(Drawn((x, y, x + width, y + height), colour, one["label"], sure, mask=mask))
    out = BytesIO()
    side = drawn_side(image.size, min(max(max(image.size), _SIDES[0]), _SIDES[1]))
    draw_objects(image, drawn, side).save(out, "PNG", compress_level=4)
    return out.getvalue()
