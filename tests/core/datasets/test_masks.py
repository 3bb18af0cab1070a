"""Run-length encodings of masks: of a part the same as of the whole, to the letter."""

import numpy as np
import pytest

from core.datasets import masks

WIDTH, HEIGHT = 9, 6


@pytest.mark.parametrize(
    ("left", "top", "part"),
    [
        (2, 1, [[1, 0, 1], [1, 1, 0]]),
        (0, 0, [[1, 1], [0, 1]]),
        (7, 4, [[1, 1], [1, 1]]),  # up to the last pixel
        (3, 0, [[1, 1]] * HEIGHT),  # whole columns: one run
        (3, 0, [[1, 1, 1]] * (HEIGHT - 1) + [[0, 1, 1]]),
        (0, 0, [[1] * WIDTH] * HEIGHT),
        (4, 2, [[0, 0]]),
    ],
)
def test_a_part_is_encoded_as_the_mask_that_it_is_part_of(left: int, top: int, part: list[list[int]]) -> None:
    seen = np.array(part)
    whole = np.zeros((HEIGHT, WIDTH), np.uint8)
    whole[top : top + seen.shape[0], left : left + seen.shape[1]] = seen
    encoded = masks.encode_part(seen != 0, left, top, WIDTH, HEIGHT)
    assert encoded == masks.encode(whole)
    assert (masks.decode(encoded, WIDTH, HEIGHT) == whole).all()


def test_nothing_at_all_is_encoded() -> None:
    assert masks.encode_part(np.zeros((0, 0), np.bool_), 0, 0, WIDTH, HEIGHT) == masks.encode(np.zeros((HEIGHT, WIDTH)))
