"""Which jobs end early."""

import random

import pytest

from core.tuning.halving import is_hopeless, rungs


@pytest.mark.parametrize(
    ("epochs", "expected"),
    [(1, ()), (2, ()), (3, (2,)), (4, (2,)), (5, (2, 4)), (8, (2, 4)), (12, (3, 6)), (20, (5, 10)), (100, (25, 50)), (200, (50, 100))],
)
def test_rungs_lie_at_a_quarter_and_a_half(epochs: int, expected: tuple[int, ...]) -> None:
    assert rungs(epochs) == expected


def curve(*scores: float) -> dict[int, float]:
    return dict(enumerate(scores, 1))


EPOCHS = 8  # judged after 2 and 4
FAIR = {1: curve(0.5, 0.6), 2: curve(0.5, 0.7), 3: curve(0.5, 0.8), 4: curve(0.4, 0.75), 5: curve(0.3, 0.5), 6: curve(0.6, 0.65)}


@pytest.mark.parametrize(
    ("curves", "job", "hopeless"),
    [
        ({1: curve(0.5, 0.1)}, 1, False),  # the first at a rung
        ({1: curve(0.5, 0.9), 2: curve(0.1, 0.1)}, 2, False),  # two say nothing yet
        ({1: curve(0.5, 0.9), 2: curve(0.5, 0.8), 3: curve(0.1, 0.1)}, 3, True),
        ({1: curve(0.5, 0.9), 2: curve(0.5, 0.8), 3: curve(0.1, 0.85)}, 3, True),  # the better half of three is one
        ({1: curve(0.5, 0.9), 2: curve(0.5, 0.8), 3: curve(0.1, 0.95)}, 3, False),
        ({1: curve(0.5, 0.9), 2: curve(0.5, 0.8), 3: curve(0.1)}, 3, False),  # not at the rung yet
        ({1: curve(0.5, 0.9), 2: curve(0.5, 0.8), 3: curve(0.1, 0.1, 0.1)}, 3, False),  # past it: judged at the next one only
        (FAIR, 3, False),
        (FAIR, 4, False),
        (FAIR, 2, False),  # the third of six: the better half
        (FAIR, 6, True),  # the fourth
        (FAIR, 5, True),
        ({**FAIR, 6: curve(0.9, 0.1)}, 6, False),  # what it reached once is what would be its model
        ({1: curve(0.5, 0.5), 2: curve(0.5, 0.5), 3: curve(0.5, 0.5)}, 3, False),  # equals go on
        # At the second rung only those count that have come so far: it is behind at the first, but the best of three at the second.
        ({**FAIR, 1: curve(0.5, 0.6, 0.7, 0.7), 2: curve(0.5, 0.7, 0.7, 0.8), 3: curve(0.5, 0.5, 0.5, 0.9)}, 3, False),
        ({**FAIR, 1: curve(0.5, 0.6, 0.7, 0.7), 2: curve(0.5, 0.7, 0.7, 0.8), 3: curve(0.5, 0.9, 0.5, 0.5)}, 1, True),
    ],
)
def test_the_better_half_at_a_rung_goes_on(curves: dict[int, dict[int, float]], job: int, hopeless: bool) -> None:
    assert is_hopeless(curves, job, EPOCHS) is hopeless


def test_the_best_job_is_never_ended_and_a_good_third_of_the_work_is_saved() -> None:
    epochs, jobs = 27, 27
    order = list(range(1, jobs + 1))
    random.Random(0).shuffle(order)
    curves: dict[int, dict[int, float]] = {job: {} for job in order}
    going = set(order)
    for epoch in range(1, epochs + 1):
        for job in order:
            if job in going:
                curves[job][epoch] = job / jobs * (1 - 0.5**epoch)
                if is_hopeless(curves, job, epochs):
                    going.discard(job)
    assert jobs in going
    assert sum(len(curve) for curve in curves.values()) < 0.65 * epochs * jobs
