"""Masks as a picture that programs read: one number a pixel."""

from collections.abc import Iterable
from io import BytesIO
from typing import Any

import numpy as np
from PIL import Image

from core.datasets import masks


def numbered(layers: Iterable[tuple[int, dict[str, Any]]], size: tuple[int, int], wanted: tuple[int, int]) -> bytes:
    """A grey PNG, in which each mask's pixels have its number and all others 0.

    Of 8 bits where the numbers are at most 255, else of 16. Masks are run-length encoded as COCO's, of any size; where they overlap, the
    later lies on top. They are put together at `size`, width and height, and the result is stretched to the size that is `wanted`.
    """
    width, height = size
    numbers = np.zeros((height, width), np.uint16)
    for number, mask in layers:
        high, wide = mask["size"]
        inside = Image.fromarray(masks.decode(mask["counts"], wide, high) * np.uint8(255))
        numbers[np.asarray(inside.resize(size, Image.Resampling.NEAREST)) > 0] = number
    picture = Image.fromarray(numbers.astype(np.uint8) if numbers.max(initial=0) <= 255 else numbers)
    if wanted != size:
        picture = picture.resize(wanted, Image.Resampling.NEAREST)
    out = BytesIO()
    picture.save(out, "PNG")
    return out.getvalue()
