"""Which jobs end early."""

import random

import pytest

from core.tuning.halving import is_hopeless, rungs


@pytest.mark.parametrize(
    ("epochs", "expected"),
    [(1, ()), (2, ()), (3, (2,)), (6, (2,)), (7, (2, 6)), (9, (2, 6)), (20, (2, 6)), (100, (11, 33)), (200, (22, 66))],
)
def test_rungs_lie_at_a_ninth_and_a_third(epochs: int, expected: tuple[int, ...]) -> None:
    assert rungs(epochs) == expected


def curve(*scores: float) -> dict[int, float]:
    return dict(enumerate(scores, 1))


FAIR = {1: curve(0.5, 0.6), 2: curve(0.5, 0.7), 3: curve(0.5, 0.8), 4: curve(0.4, 0.75), 5: curve(0.3, 0.5), 6: curve(0.6, 0.65)}


@pytest.mark.parametrize(
    ("curves", "job", "hopeless"),
    [
        ({1: curve(0.5, 0.1)}, 1, False),  # the first at a rung
        ({1: curve(0.5, 0.9), 2: curve(0.1, 0.1)}, 2, False),  # two say nothing yet
        ({1: curve(0.5, 0.9), 2: curve(0.5, 0.8), 3: curve(0.1, 0.1)}, 3, True),
        ({1: curve(0.5, 0.9), 2: curve(0.5, 0.8), 3: curve(0.1, 0.95)}, 3, False),
        ({1: curve(0.5, 0.9), 2: curve(0.5, 0.8), 3: curve(0.1)}, 3, False),  # not at the rung yet
        ({1: curve(0.5, 0.9), 2: curve(0.5, 0.8), 3: curve(0.1, 0.1, 0.1)}, 3, False),  # past it: judged at the next one only
        (FAIR, 3, False),
        (FAIR, 4, False),  # the second of six: the best third
        (FAIR, 2, True),
        (FAIR, 5, True),
        ({**FAIR, 6: curve(0.9, 0.1)}, 6, False),  # what it reached once is what would be its model
        ({1: curve(0.5, 0.5), 2: curve(0.5, 0.5), 3: curve(0.5, 0.5)}, 3, False),  # equals go on
    ],
)
def test_the_best_third_at_a_rung_goes_on(curves: dict[int, dict[int, float]], job: int, hopeless: bool) -> None:
    assert is_hopeless(curves, job, epochs=20) is hopeless


def test_the_best_job_is_never_ended_and_most_of_the_work_is_saved() -> None:
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
    assert sum(len(curve) for curve in curves.values()) < 0.5 * epochs * jobs
