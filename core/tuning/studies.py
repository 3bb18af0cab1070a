"""Optuna, as far as it is used here: samplers and pruners over studies in memory. Importing it takes half a second; do so where it is needed."""

from collections.abc import Collection, Mapping

import optuna
from optuna.distributions import BaseDistribution, FloatDistribution
from optuna.pruners import BasePruner, SuccessiveHalvingPruner
from optuna.samplers import BaseSampler, RandomSampler

# Optuna would print every study it makes, on a handler of its own.
optuna.logging.disable_default_handler()
optuna.logging.set_verbosity(optuna.logging.WARNING)


def new_study(*, sampler: BaseSampler | None = None, pruner: BasePruner | None = None) -> optuna.Study:
    """An empty study in memory; higher scores are better."""
    return optuna.create_study(direction="maximize", sampler=sampler or random_sampler(0), pruner=pruner)


def space(ranges: Mapping[str, tuple[float, float]], *, logarithmic: Collection[str]) -> dict[str, BaseDistribution]:
    """Numbers between lowest and highest, those named drawn evenly on a log scale."""
    return {name: FloatDistribution(*ends, log=name in logarithmic) for name, ends in ranges.items()}


def random_sampler(seed: int) -> BaseSampler:
    """Draws without looking at what came of earlier draws."""
    return RandomSampler(seed=seed)


def halving(first: int, factor: int) -> BasePruner:
    """Successive halving whose rungs are at `first`, `first` × `factor`, `first` × `factor`² … epochs."""
    return SuccessiveHalvingPruner(min_resource=first, reduction_factor=factor)
