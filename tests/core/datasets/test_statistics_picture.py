"""The picture of a dataset's statistics is filled, however few its classes are."""

import io

import numpy as np
import pytest
from PIL import Image

from core.datasets.representation import WELL
from core.datasets.statistics_picture import draw


@pytest.mark.parametrize("classes", [1, 2, 5, 25, 60])
@pytest.mark.parametrize("boxes", [False, True])
def test_bars_fill_the_height(classes: int, boxes: bool) -> None:
    found = {
        "labels": [{"class": f"class {number}", "images": 50, "representation": WELL} for number in range(classes)],
        "cut_off": 0.5,
        "image_sizes": [{"width": 640, "height": 480, "images": 50}],
    }
    if boxes:
        histogram = {"histogram": {"edges": [0.5, 1, 2], "counts": [3, 4]}}
        found |= {"boxes_per_image": {"histogram": {"1": 50}}, "box_area": histogram, "box_aspect_ratio": histogram}
    picture = np.asarray(Image.open(io.BytesIO(draw(found))).convert("RGB")).astype(int)
    left = picture[:, : picture.shape[1] // 2]
    rows = np.flatnonzero((np.abs(left - (0, 0x72, 0xB2)).sum(2) < 20).sum(1) > left.shape[1] // 3)
    assert len(rows), "bars reach far to the right"
    above, below = rows[0], picture.shape[0] - rows[-1]
    assert below < 0.65 * picture.shape[0] and abs(above - below) < 0.2 * picture.shape[0]
