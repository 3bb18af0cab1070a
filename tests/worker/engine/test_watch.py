"""What is noticed while a training runs."""

import pytest

from worker.engine.watch import exploding


def losses(*values: float) -> list[dict[str, float]]:
    return [{"train_loss": value} for value in values]


@pytest.mark.parametrize("before", [(), (2.0,), (2.0, 1.0, 0.5), (0.0,)])
def test_a_loss_that_wavers_is_no_explosion(before: tuple[float, ...]) -> None:
    assert exploding(losses(*before), 1.4, 0.1) == {}


def test_a_low_loss_that_wavers_is_no_explosion() -> None:
    """As an ordinary training on three images a class told."""
    assert exploding(losses(1.2, 0.5, 0.2, 0.13), 0.464, 0.002) == {}


def test_an_exploding_loss_is_said_with_its_remedy() -> None:
    what, remedy = exploding(losses(2.0, 0.5, 0.7), 40.0, 0.1)["exploding"]
    assert "40 in epoch 4" in what and "0.5 before" in what and "0.01" in remedy
