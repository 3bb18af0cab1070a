"""Which epoch is the best."""

import pytest

from core.tasks.epochs import best_epoch


@pytest.mark.parametrize(
    ("points", "best"),
    [
        ([(0.0, 2.0), (0.0, 1.5), (0.0, 1.2), (0.0, 1.4)], 3),  # of equal scores the lower loss
        ([(0.0003, 1.9), (0.0001, 0.9)], 2),  # both are told as 0.0 %
        ([(0.5, 1.0), (0.6, 2.0)], 2),  # the score comes first
        ([(0.5, 1.0), (0.5, 1.0)], 1),  # the training keeps what it has unless another is better
    ],
)
def test_of_equal_scores_the_lower_loss_is_better(points: list[tuple[float, float]], best: int) -> None:
    assert best_epoch([{"score": score, "val_loss": loss} for score, loss in points]) == best
