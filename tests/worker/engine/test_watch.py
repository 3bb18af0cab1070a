"""What is noticed while a training runs."""

import math

import pytest

from core.tasks.hyperparameters import TrainingPlan
from worker.engine.watch import Unlearnt, exploding, lower_rate, of_epoch, of_model

UNKNOWN = Unlearnt.of(None, None)


def losses(*values: float) -> list[dict[str, float]]:
    return [{"train_loss": value} for value in values]


@pytest.mark.parametrize("before", [(), (2.0,), (2.0, 1.0, 0.5), (0.0,)])
def test_a_loss_that_wavers_is_no_explosion(before: tuple[float, ...]) -> None:
    assert exploding(losses(*before), 1.4, 0.1, Unlearnt.of(math.log(2), None)) == {}


def test_a_low_loss_that_wavers_is_no_explosion() -> None:
    """As an ordinary training on three images a class told."""
    assert exploding(losses(1.2, 0.5, 0.2, 0.13), 0.464, 0.002, Unlearnt.of(math.log(2), None)) == {}


def test_an_exploding_loss_is_said_with_its_remedy() -> None:
    what, remedy = exploding(losses(2.0, 0.5, 0.7), 40.0, 0.01, UNKNOWN)["exploding"]
    assert "40 in epoch 4" in what and "0.5 before" in what and "0.01" in remedy


@pytest.mark.parametrize(
    ("chance", "first", "loss"),
    [
        (math.log(4), 1.46, 5.07),  # lite0, SGD, learning rate 0.3
        (math.log(40), 3.65, 8.24),
        (None, 2.31, 1857.6),  # Faster R-CNN, learning rate 0.1
    ],
)
def test_a_first_epoch_that_explodes_is_said(chance: float | None, first: float, loss: float) -> None:
    what, remedy = exploding([], loss, 0.03, Unlearnt.of(chance, first))["exploding"]
    assert f"{loss:.3g} in epoch 1" in what and f"about {chance or first:.3g}" in what and "0.03" in remedy
    assert exploding(losses(2 * loss), loss, 0.3, Unlearnt.of(chance, first)), "and so is a later one that is below it"


def test_a_loss_that_doubles_or_whose_validation_explodes_too_is_said() -> None:
    """FCOS at a tenfold learning rate: 10 times the first step's loss would be 21."""
    unlearnt = Unlearnt.of(None, 2.1)
    assert exploding(losses(2.55), 6.12, 0.001, unlearnt)
    assert exploding([], 11.5, 0.003, unlearnt, val_loss=36.1)
    assert not exploding([], 2.5, 0.003, unlearnt, val_loss=36.1), "batch statistics of an early epoch"
    assert not exploding(losses(0.6), 1.3, 0.003, unlearnt), "a finished model that learns on"


@pytest.mark.parametrize(
    ("chance", "first", "loss"),
    [
        (math.log(4), 1.46, 1.59),
        (math.log(2), 0.69, 2.0),  # one batch of six images, made with new weights
        (math.log(2), 0.1, 0.7),  # several labels, from a finished model
        (math.log(1000), 6.9, 7.3),
        (0.0, 0.0, 0.0),  # one class
        (None, 2.31, 3.72),  # Faster R-CNN, learning rate 0.01: it came down
        (None, 0.58, 2.11),  # RetinaNet, whose first batch shows objects on one of four images, the others on all
        (None, 45.0, 48.0),  # a detector whose loss is the sum over its layers
        (None, 0.0, 0.5),
        (None, None, 900.0),  # a checkpoint of a version before
    ],
)
def test_a_bad_first_epoch_is_no_explosion(chance: float | None, first: float | None, loss: float) -> None:
    assert exploding([], loss, 0.1, Unlearnt.of(chance, first)) == {}


def test_the_rate_to_try_instead_is_one_that_is_in_use() -> None:
    """A tenth of 1 would diverge again."""
    assert lower_rate(TrainingPlan(optimizer="sgd", learning_rate=1.0)) == 0.01
    assert lower_rate(TrainingPlan(optimizer="adamw", learning_rate=0.1)) == 0.001
    assert lower_rate(TrainingPlan(optimizer="sgd", learning_rate=0.02)) == pytest.approx(0.002)


def test_the_end_tells_what_was_not_told_of_the_best_epoch_yet() -> None:
    remarks = {"never-predicted": ("The network never says “cat”.", "Add images.")}
    assert of_model(3, remarks, {"never-predicted": 3}) == {}
    assert "Epoch 3, the best and thus the model" in of_model(3, remarks, {"never-predicted": 2})["never-predicted"][0]
    assert "does not hold of the best epoch, 3" in of_model(3, {}, {"never-predicted": 2})["never-predicted"][0]


def test_where_the_loss_exploded_that_is_the_remedy() -> None:
    remarks = {"never-predicted": ("The network never says “cat”.", "Add images.")}
    assert of_epoch(2, remarks, exploded=True)["never-predicted"] == ("Epoch 2: The network never says “cat”.", "")
    assert of_epoch(2, remarks)["never-predicted"][1] == of_model(2, remarks, {})["never-predicted"][1] == "Add images."
    assert of_model(2, remarks, {}, exploded=True)["never-predicted"][1] == ""
