"""Who copies whom, and what the copy goes on with."""

import math
import statistics
from dataclasses import dataclass, field

import numpy as np
import pytest

from core.tuning.population import FACTORS, Member, decide, explore, rescue, slice_end, slice_epochs
from core.tuning.search import Values, draw, grid, made
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

STIFF, FLAT = 100.0, 1.0  # curvatures of a quadratic bowl: gradient descent with momentum is at its best at a rate between them
STEPS = 3  # of an epoch
EPOCHS = 40
JOBS = 12
SEARCHED = {"learning_rate": (1e-5, 0.03), "weight_decay": (0.0, 0.01), "momentum": (0.8, 0.99)}


@dataclass
class Training:
    """SGD with momentum on ½(100 x² + y²), from the same place each time: weights, and the optimizer's state."""

    weights: np.ndarray = field(default_factory=lambda: np.ones(2))
    velocity: np.ndarray = field(default_factory=lambda: np.zeros(2))

    def epoch(self, values: Values) -> None:
        for _ in range(STEPS):
            gradient = np.array([STIFF, FLAT]) * self.weights + values["weight_decay"] * self.weights
            self.velocity = values["momentum"] * self.velocity + gradient
            self.weights = self.weights - values["learning_rate"] * self.velocity

    @property
    def score(self) -> float:
        with np.errstate(over="ignore", invalid="ignore"):
            return -float(np.log10(0.5 * (STIFF * self.weights[0] ** 2 + FLAT * self.weights[1] ** 2) + 1e-300))


def trained(values: Values) -> float:
    training = Training()
    best = -math.inf
    for _ in range(EPOCHS):
        training.epoch(values)
        best = max(best, training.score)
    return best


def bred(seed: int) -> tuple[float, int]:
    """The best score of a population, and how many epochs it trained in all; slices in an order of chance, nobody waiting for anybody."""
    values = dict(enumerate(draw(SEARCHED, JOBS, seed), 1))
    trainings = {number: Training() for number in values}
    epochs, scores = dict.fromkeys(values, 0), dict.fromkeys(values, -math.inf)
    order, best, spent = np.random.default_rng(seed), -math.inf, 0
    while going := [number for number in values if epochs[number] < EPOCHS]:
        own = going[int(order.integers(len(going)))]
        published = [Member(number, epochs[number], scores[number], values[number]) for number in values if epochs[number]]
        copy = decide(own, published, SEARCHED, np.random.default_rng((seed, own, epochs[own]))) if epochs[own] else None
        if copy is not None:
            source = trainings[copy.source.number]
            trainings[own], values[own] = Training(source.weights, source.velocity), copy.values
        for _ in range(slice_end(epochs[own], EPOCHS) - epochs[own]):
            trainings[own].epoch(values[own])
            epochs[own], spent = epochs[own] + 1, spent + 1
        scores[own] = trainings[own].score
        best = max(best, scores[own])
    return best, spent


@pytest.mark.parametrize("momentum", [0.8, 0.9])
def test_the_bowl_s_best_rates_are_those_of_theory(momentum: float) -> None:
    """With momentum m all rates from (1 − √m)² / flattest to (1 + √m)² / stiffest curvature shrink both parts by √m a step (Polyak 1964)."""
    scores = {rate: trained({"learning_rate": rate, "weight_decay": 0.0, "momentum": momentum}) for rate in np.geomspace(1e-5, 0.1, 60)}
    best = max(scores, key=lambda rate: scores[rate])
    assert (1 - momentum**0.5) ** 2 / FLAT <= best <= (1 + momentum**0.5) ** 2 / STIFF
    assert scores[best] > 3 + scores[1e-5]


def test_random_and_population_beat_the_median_grid_point_over_ten_seeds() -> None:
    """Twelve jobs of forty epochs each, whichever the search."""
    points = grid({"learning_rate": [1e-5, 1e-4, 1e-3, 3e-2], "weight_decay": [0.0], "momentum": [0.8, 0.9, 0.99]})
    assert len(points) == JOBS
    median = statistics.median(trained(point) for point in points)
    for seed in range(10):
        by_chance = max(trained(values) for values in draw(SEARCHED, JOBS, seed))
        best, spent = bred(seed)
        assert spent == JOBS * EPOCHS
        assert by_chance > median, seed
        assert best > median, seed


def test_copies_are_worth_their_while() -> None:
    """The same first values, the same epochs: on average over seeds a population ends where random search does not come to."""
    gained = [bred(seed)[0] - max(trained(values) for values in draw(SEARCHED, JOBS, seed)) for seed in range(10)]
    assert statistics.mean(gained) > 0, gained
