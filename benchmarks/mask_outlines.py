"""Found masks of single objects, encoded at the size of the original image: by the part that each covers, and by the whole picture. One line of JSON.

python benchmarks/mask_outlines.py --sides 20 120       # px, of the objects at the network's input of 640 px
python benchmarks/mask_outlines.py --sides 300 630      # objects that fill most of the picture
"""

import argparse
import json
import os
import time
from collections.abc import Callable

import training_material  # noqa: F401  # before torch

# isort: split

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional
from torchvision.models.detection.roi_heads import paste_masks_in_image

from core.datasets import masks
from worker.objectives.outlines import outlines_of

SIDE = 640  # px, of the network's input


def found(count: int, sides: tuple[float, float]) -> Tensor:
    """So many masks [count, 1, SIDE, SIDE] as Mask R-CNN gives them: 28 px within boxes of those sides."""
    random = torch.Generator().manual_seed(0)
    shapes = functional.interpolate(torch.rand(count, 1, 7, 7, generator=random), (28, 28), mode="bilinear")
    extent = sides[0] + (sides[1] - sides[0]) * torch.rand(count, 2, generator=random)
    corner = torch.rand(count, 2, generator=random) * (SIDE - extent)
    return paste_masks_in_image(shapes, torch.cat([corner, corner + extent], 1), (SIDE, SIDE))


def of_whole_pictures(probabilities: Tensor, width: int, height: int) -> list[str]:
    """The plain way, ten at once."""
    outlines = []
    for part in torch.split(probabilities, 10):
        whole = functional.interpolate(part, (height, width), mode="bilinear", align_corners=False) >= 0.5
        outlines += [masks.encode(mask) for mask in whole[:, 0].numpy()]
    return outlines


def main() -> None:
    """Measure by turns and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--masks", type=int, default=100)
    parser.add_argument("--size", type=int, nargs=2, default=(2048, 1536), help="width and height of the image")
    parser.add_argument(
        "--sides", type=float, nargs=2, default=(20, 120), help="least and greatest of the objects at the network's input, px"
    )
    parser.add_argument("--rounds", type=int, default=5)
    asked = parser.parse_args()
    probabilities, (width, height) = found(asked.masks, tuple(asked.sides)), asked.size
    ways: dict[str, Callable[[Tensor, int, int], list[str]]] = {"part": outlines_of, "whole": of_whole_pictures}
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(asked.rounds):
        for name, way in ways.items():
            began = time.monotonic()
            way(probabilities, width, height)
            seconds[name].append(time.monotonic() - began)
    pairs = zip(*(way(probabilities, width, height) for way in ways.values()), strict=True)
    differing = sum(int((masks.decode(one, width, height) != masks.decode(other, width, height)).sum()) for one, other in pairs)
    middle = {name: float(np.median(values)) for name, values in seconds.items()}
    print(
        json.dumps(
            {
                "benchmark": "mask_outlines",
                "masks": asked.masks,
                "image": [width, height],
                "sides": list(asked.sides),
                "seconds": {name: round(value, 3) for name, value in middle.items()},
                "faster": round(middle["whole"] / middle["part"], 1),
                "differing_pixels": differing,  # probabilities of one half but for rounding
                "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
            }
        )
    )


if __name__ == "__main__":
    main()
