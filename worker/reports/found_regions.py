"""What a model for regions marks on one image: each class's place as a mask at the image's own size, and a picture of them."""

from collections.abc import Sequence
from io import BytesIO
from typing import Any

import numpy as np
import torch.nn.functional as functional
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from core.datasets import masks
from worker.objectives.regions import judged_size, probabilities_of, said_of
from worker.reports.object_drawings import drawn_side
from worker.reports.region_pictures import covered, fitted, with_legend

_SIDE = 640  # px, of the picture


def find_regions(logits: Tensor, size: tuple[int, int], classes: Sequence[str], *, exclusive: bool) -> list[dict[str, Any]]:
    """The classes that cover anything in one image, the largest first.

    Args:
        logits: what a network for regions says of the image, [classes, side, side].
        size: width and height of the image in pixels.
        classes: their names.
        exclusive: whether a place belongs to one class at most.

    Returns:
        For each `label`, `confidence` (the mean probability over its pixels), `share` of the image and `pixels` of it that it covers, and `mask`,
        COCO's run-length encoding: `size` [height, width] and `counts`. Of images larger than `JUDGED_SIDE` it is that of the scaled image.
    """
    width, height = judged_size(*size)
    found = []
    scaled = functional.interpolate(logits[None].float(), (height, width), mode="bilinear", align_corners=False)
    said, probabilities = said_of(scaled, exclusive=exclusive)[0], probabilities_of(scaled, exclusive=exclusive)[0]
    for name, inside, probability in zip(classes, said, probabilities, strict=True):
        pixels = int(inside.sum())
        if pixels:
            found.append(
                {
                    "label": name,
                    "confidence": float(probability[inside].mean()),
                    "share": pixels / (width * height),
                    "pixels": pixels_at(inside.cpu().numpy(), size),
                    "mask": {"size": [height, width], "counts": masks.encode(inside.cpu().numpy())},
                }
            )
    return sorted(found, key=lambda region: -region["share"])


def drawing_of(image: Image.Image, objects: Sequence[dict[str, Any]], classes: Sequence[str]) -> bytes:
    """The image with the regions in their classes' colours under a legend, as PNG."""
    picture = fitted(image, *image.size, side=drawn_side(image.size, _SIDE))
    covers = []
    for region in objects:
        height, width = region["mask"]["size"]
        covers.append((classes.index(region["label"]), masks.decode(region["mask"]["counts"], width, height).astype(bool)))
    out = BytesIO()
    with_legend(covered(picture, covers), [index for index, _ in covers], classes).save(out, "PNG")
    return out.getvalue()


def pixels_at(mask: NDArray[np.bool_], size: tuple[int, int]) -> int:
    """How many pixels a mask, [height, width], covers where it is stretched to `size`, width and height, by nearest neighbours.

    The script of an export, which stands alone, has the same.
    """
    across, down = (
        # Which pixel each comes from, as Pillow has it.
        np.bincount(np.asarray(Image.fromarray(np.arange(given, dtype=np.int32)[None]).resize((wanted, 1), Image.Resampling.NEAREST))[0])
        for wanted, given in zip(size, mask.shape[::-1], strict=True)
    )
    high, wide = len(down), len(across)  # the last ones may be left out where the mask is larger
    return int(down @ mask[:high, :wide].astype(np.int64) @ across)
