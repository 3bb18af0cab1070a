"""Who copies whom, and what the copy goes on with."""

import math

import numpy as np
import pytest

from core.tuning.population import FACTORS, Member, decide, explore, rescue, slice_end, slice_epochs
from core.tuning.search import draw, grid, made
from core.vocabulary import Tuning

RANGES = made(Tuning.POPULATION, {}).ranges
VALUES = {"learning_rate": 0.001, "weight_decay": 0.001, "momentum": 0.9}


def members(*scores: float) -> list[Member]:
    return [Member(number, 5, score, VALUES) for number, score in enumerate(scores, 1)]


@pytest.mark.parametrize(
    ("epochs", "length", "ends"),
    [(1, 1, [1]), (8, 1, [1, 2, 3]), (20, 1, [1, 2, 3]), (43, 2, [2, 4]), (100, 5, [5, 10]), (200, 5, [5, 10])],
)
def test_a_slice_is_a_twentieth_of_the_epochs_and_at_most_five(epochs: int, length: int, ends: list[int]) -> None:
    assert slice_epochs(epochs) == length
    reached = [0]
    while reached[-1] < epochs:
        reached.append(slice_end(reached[-1], epochs))
    assert reached[1 : len(ends) + 1] == ends and reached[-1] == epochs


def test_a_slice_interrupted_in_its_midst_ends_where_it_would_have() -> None:
    assert slice_end(7, 100) == 10 == slice_end(5, 100) == slice_end(9, 100)


@pytest.mark.parametrize(
    ("scores", "own", "sources"),
    [
        ((0.5,), 1, set()),  # nobody to copy
        ((0.5, 0.4), 2, {1}),
        ((0.5, 0.4), 1, set()),
        ((0.1, 0.2, 0.3, 0.4, 0.5), 1, {5}),
        ((0.1, 0.2, 0.3, 0.4, 0.5), 2, set()),  # not in the bottom fifth
        ((0.1, 0.2, 0.3, 0.4, 0.5), 5, set()),
        ((0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8), 1, {7, 8}),
        ((0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8), 2, {7, 8}),
        ((0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8), 3, set()),
        ((0.5, 0.5, 0.5, 0.5, 0.5), 5, set()),  # nobody is better
        ((math.nan, 0.1, 0.2, 0.3, 0.4), 1, {5}),  # a score that is none is the worst
    ],
)
def test_the_bottom_fifth_copies_from_the_top_fifth(scores: tuple[float, ...], own: int, sources: set[int]) -> None:
    copies = [decide(own, members(*scores), RANGES, np.random.default_rng(seed)) for seed in range(40)]
    assert {copy.source.number for copy in copies if copy} == sources
    assert all((copy is not None) == bool(sources) for copy in copies)


def test_a_decision_taken_again_is_the_same() -> None:
    first, second = (decide(1, members(0.1, 0.2, 0.9), RANGES, np.random.default_rng((7, 1, 5))) for _ in range(2))
    assert first == second is not None


def test_values_are_perturbed_or_redrawn_within_their_ranges() -> None:
    drawn = [explore(VALUES, RANGES, np.random.default_rng(seed)) for seed in range(400)]
    assert all(low <= values[name] <= high for values in drawn for name, (low, high) in RANGES.items())
    perturbed = {round(VALUES["learning_rate"] * factor, 6) for factor in FACTORS}
    share = sum(values["learning_rate"] in perturbed for values in drawn) / len(drawn)
    assert 0.68 < share < 0.82, "three quarters are perturbed, the others drawn anew"
    assert {values["momentum"] for values in drawn} >= {0.99}, "0.9 × 1.2 is held at the end of the range"


def test_a_member_that_diverged_copies_one_of_the_best() -> None:
    copy = rescue(1, members(0.9, 0.1, 0.2, 0.3, 0.8), RANGES, np.random.default_rng(0))
    assert copy is not None and copy.source.number == 5
    assert rescue(1, members(0.9), RANGES, np.random.default_rng(0)) is None


# ---------------------------------------------------------------- on a function whose best learning rate is known

BEST_RATE = 0.003
EPOCHS = 40


def trained(loss: float, rate: float) -> float:
    """One epoch: the loss falls the faster the nearer the rate is to the best one, and rises where it is ten times too large."""
    distance = math.log10(rate / BEST_RATE)
    return loss * (1.05 if distance > 1 else 1 - 0.15 * math.exp(-3 * distance**2))


def searched(rates: list[float]) -> float:
    """The lowest loss after all epochs."""
    return min(_final(rate) for rate in rates)


def _final(rate: float) -> float:
    loss = 1.0
    for _ in range(EPOCHS):
        loss = trained(loss, rate)
    return loss


def population(seed: int, size: int) -> float:
    ranges = {**RANGES, "learning_rate": (1e-5, 0.03)}
    values = dict(enumerate(draw(ranges, size, seed), 1))
    losses, epochs = dict.fromkeys(values, 1.0), dict.fromkeys(values, 0)
    order = np.random.default_rng(seed)
    while going := [number for number in values if epochs[number] < EPOCHS]:
        own = going[int(order.integers(len(going)))]  # no barrier: whoever comes first
        published = [Member(number, epochs[number], -losses[number], values[number]) for number in values if epochs[number]]
        copy = decide(own, published, ranges, np.random.default_rng((seed, own, epochs[own])))
        if copy is not None:
            losses[own], values[own] = losses[copy.source.number], copy.values
        end = slice_end(epochs[own], EPOCHS)
        while epochs[own] < end:
            losses[own] = trained(losses[own], values[own]["learning_rate"])
            epochs[own] += 1
    return min(losses.values())


def test_random_and_population_beat_the_median_grid_point_over_ten_seeds() -> None:
    size = 8
    points = grid({"learning_rate": [1e-5, 1e-4, 1e-3, 1e-2, 3e-2], "weight_decay": [0.0], "momentum": [0.9]})
    median = sorted(_final(point["learning_rate"]) for point in points)[len(points) // 2]
    ranges = {**RANGES, "learning_rate": (1e-5, 0.03)}
    for seed in range(10):
        by_chance = searched([values["learning_rate"] for values in draw(ranges, size, seed)])
        bred = population(seed, size)
        assert by_chance < median, seed
        assert bred < median, seed
