"""How the jobs of a task stand: order, progress, time left, and counts in words."""

import pytest

from core.tasks.states import State
from core.tuning.standings import JobStanding, Standings, _score_name


def job(number: int, state: State, epoch: int = 0, score: float | None = None, seconds: float = 0.0, rate: float = 0.1) -> JobStanding:
    return JobStanding(number, state, epoch, 10, score, {"learning_rate": rate, "weight_decay": 0.0, "momentum": 0.9}, seconds)


MIXED = Standings(
    (
        job(1, State.FINISHED, 10, 0.8, 100.0),
        job(2, State.ERROR, 4, 0.95, 40.0),  # it cannot become the model
        job(3, State.RUNNING, 5, 0.9, 60.0),
        job(4, State.RUNNING, 1, 0.8, 10.0, rate=0.2),
        job(5, State.FINISHED, 2, 0.3, 20.0),
        job(6, State.WAITING),
        job(7, State.STOPPED, 3, 0.5, 30.0),
        job(8, State.STOPPING, 1, None, 5.0),
    )
)


def test_the_best_come_first_the_failed_last_and_those_without_a_score_not_at_all() -> None:
    assert [job.number for job in MIXED.ranked] == [3, 1, 4, 7, 5, 2]
    assert MIXED.best == 3
    assert Standings((job(1, State.ERROR, 3, 0.9),)).best == 1
    assert Standings((job(1, State.WAITING),)).best is None


def test_what_has_ended_is_done() -> None:
    assert MIXED.fraction == pytest.approx((1 + 1 + 0.5 + 0.1 + 1 + 0 + 1 + 0.1) / 8)
    assert Standings().fraction == 0.0


def test_time_left_is_shared_by_those_that_run() -> None:
    """26 epochs took 265 s; 5 + 9 + 10 + 9 are left, and three are at it."""
    assert MIXED.seconds_left == pytest.approx(33 * 265 / 26 / 3)
    assert Standings((job(1, State.RUNNING), job(2, State.WAITING))).seconds_left is None
    waiting = Standings((job(1, State.FINISHED, 10, 0.8, 100.0), job(2, State.WAITING)))
    assert waiting.seconds_left == pytest.approx(100.0), "as if one were at it"


def test_in_words() -> None:
    assert MIXED.counts == "3 running, 1 waiting, 2 finished (1 of them early), 1 stopped, 1 failed"
    assert MIXED.outcome == "2 finished (1 of them early), 1 stopped, 1 failed"
    assert Standings((job(1, State.FINISHED, 10),)).outcome == "1 finished, 0 stopped, 0 failed"
    assert MIXED.varied == ("learning_rate",)


@pytest.mark.parametrize(
    ("metrics", "name"),
    [
        ({"accuracy": 0.9, "balanced_accuracy": 0.9, "baseline_accuracy": 0.5}, "accuracy"),
        ({"accuracy": 0.9, "balanced_accuracy": 0.9, "baseline_accuracy": 0.8, "baseline_balanced_accuracy": 0.5}, "balanced_accuracy"),
        (
            {"accuracy": 0.9, "balanced_accuracy": 0.8, "baseline_accuracy": 0.8, "baseline_balanced_accuracy": 0.5},
            "accuracy",
        ),  # of a version before
        ({"auroc": 0.9, "map": 0.9}, "map"),
        ({}, ""),
    ],
)
def test_the_score_s_name(metrics: dict[str, float], name: str) -> None:
    assert _score_name(metrics, 0.9) == name
