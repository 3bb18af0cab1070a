"""The pictures of a search, and the line of ancestors that the lineage draws."""

from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from core.tasks.states import State
from core.tuning.lineage import Descent, Family, Stretch, ancestry
from core.tuning.pictures import lineage_picture, scores_picture
from core.tuning.search import grid
from core.tuning.standings import JobStanding, Standings

VALUES = {"learning_rate": 0.001, "weight_decay": 0.0, "momentum": 0.9}


def copied(number: int, epoch: int, source: int, source_epoch: int) -> Descent:
    return Descent(number, epoch, source, source_epoch, 0.1, 0.9, VALUES, {**VALUES, "learning_rate": 0.0012})


@pytest.mark.parametrize(
    ("copies", "number", "epoch", "line"),
    [
        ([], 3, 10, [(3, 0, 10)]),
        ([copied(1, 5, 2, 10)], 1, 10, [(2, 0, 10), (1, 5, 10)]),
        ([copied(1, 5, 2, 10)], 1, 5, [(1, 0, 5)]),  # its best epoch was before it copied
        ([copied(1, 5, 2, 10)], 2, 20, [(2, 0, 20)]),  # whoever is copied has not changed
        # Through three members: 3 gave to 2, and 2, then better, to 1.
        ([copied(2, 5, 3, 5), copied(1, 10, 2, 10)], 1, 15, [(3, 0, 5), (2, 5, 10), (1, 10, 15)]),
        # 2 has copied 3 only after it had been copied itself.
        ([copied(1, 10, 2, 10), copied(2, 10, 3, 15)], 1, 15, [(2, 0, 10), (1, 10, 15)]),
        # 2 had been told to copy 3, but had not trained since: its newest checkpoint was still its own.
        ([copied(2, 10, 3, 15), copied(1, 5, 2, 10)], 1, 10, [(2, 0, 10), (1, 5, 10)]),
        # Weights that come back: 1 gave to 2, fell behind, and copied 2.
        ([copied(2, 5, 1, 10), copied(1, 15, 2, 15)], 1, 20, [(1, 0, 10), (2, 5, 15), (1, 15, 20)]),
        ([copied(1, 5, 2, 5), copied(1, 10, 3, 10)], 1, 15, [(3, 0, 10), (1, 10, 15)]),  # the latest copy counts
    ],
)
def test_the_line_of_the_best_weights(copies: list[Descent], number: int, epoch: int, line: list[tuple[int, int, int]]) -> None:
    assert ancestry(copies, number, epoch) == tuple(Stretch(*stretch) for stretch in line)


def job(number: int, score: float | None, epoch: int = 10, state: State = State.RUNNING, **values: float) -> JobStanding:
    return JobStanding(number, state, epoch, 20, score, {**VALUES, **values})


def dark_pixels(picture: bytes) -> int:
    pixels = np.asarray(Image.open(BytesIO(picture)).convert("L"))
    return int((pixels < 60).sum())


def test_the_line_to_the_best_is_drawn_darker() -> None:
    standings = Standings(tuple(job(number, number / 10) for number in range(1, 6)), "accuracy", 1)
    copies = (copied(5, 5, 2, 10),)
    plain, with_line = (lineage_picture(standings, Family(copies, line)) for line in ((), ancestry(copies, 5, 10)))
    assert dark_pixels(with_line) > dark_pixels(plain) + 1000


@pytest.mark.parametrize("jobs", [0, 1, 48])
def test_pictures_of_few_and_of_many_jobs(jobs: int) -> None:
    searched = Standings(
        tuple(
            job(number, None if number == 48 else 1 / number, state=list(State)[number % 6], learning_rate=number / 1000)
            for number in range(1, jobs + 1)
        ),
        "accuracy",
    )
    assert Image.open(BytesIO(scores_picture(searched))).size[0] > 700
    if jobs:
        assert Image.open(BytesIO(lineage_picture(searched, Family(())))).size[1] > 200


def test_jobs_of_a_grid_that_share_a_value_stand_side_by_side() -> None:
    """Twelve jobs of the same score: drawn over one another they would be as few marks as there are values."""
    points = grid({"learning_rate": [0.1, 0.01], "weight_decay": [0.0, 0.01], "momentum": [0.8, 0.9, 0.95]})
    twelve = Standings(tuple(JobStanding(n, State.FINISHED, 20, 20, 0.5, point) for n, point in enumerate(points, 1)), "accuracy")
    pixels = np.asarray(Image.open(BytesIO(scores_picture(twelve))).convert("RGB")).astype(int)
    blue = (abs(pixels - [48, 139, 196]).sum(axis=2) < 60).any(axis=0)
    runs = int((np.diff(blue.astype(int)) == 1).sum())
    assert runs >= 3 * 12, "each of the three panels shows all twelve"


def test_values_tried_by_magnitude_do_not_lie_on_each_other() -> None:
    jobs = tuple(job(number, 0.5, weight_decay=10.0**-number) for number in range(1, 9))
    pixels = np.asarray(Image.open(BytesIO(scores_picture(Standings(jobs, "accuracy")))).convert("RGB")).astype(int)
    blue = (abs(pixels[:-90] - [48, 139, 196]).sum(axis=2) < 60).any(axis=0)  # without the legend
    assert int((np.diff(blue.astype(int)) == 1).sum()) >= 8
