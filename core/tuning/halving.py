"""Which jobs of a grid or random search are hopeless and end early: asynchronous successive halving, the rule being Optuna's pruner.

Li et al. (2020), “A System for Massively Parallel Hyperparameter Tuning” (ASHA). At each rung (an epoch) a job goes on only if it stands
in the better half of all that have reached that rung so far. Nobody waits for anybody.

Halves at a quarter and a half of the epochs, not thirds at a ninth and a third: curves of trainings from scratch cross late.
`benchmarks/early_ending.py` replays whole curves by this rule.
"""

from collections.abc import Mapping

REDUCTION = 2  # of those at a rung one in so many goes on
_RUNGS = 2  # the last one at half of the epochs
_FEWEST = 3  # jobs at a rung before one is judged: of two it would be the better one alone that goes on


def rungs(epochs: int) -> tuple[int, ...]:
    """The epochs after which a job of so many epochs is judged: about a quarter and a half of them, the first not before the second epoch.

    The first epochs say little: learning rates warm up, and small ones are ahead of large ones.
    """
    first = max(2, round(epochs / REDUCTION**_RUNGS))
    return tuple(rung for rung in (first * REDUCTION**step for step in range(_RUNGS)) if rung < epochs)


def is_hopeless(curves: Mapping[int, Mapping[int, float]], job: int, epochs: int) -> bool:
    """Whether the job, just at the end of its last epoch in `curves`, is to end there.

    Args:
        curves: Score by 1-based epoch, by job number, of all jobs of the search; higher is better.
        job: The job in question.
        epochs: What each job is planned for.

    Returns:
        True at a rung that at least three jobs have reached, where the job's best score so far is not among the better half's there.
    """
    levels = rungs(epochs)
    reached = max(curves.get(job, {}), default=0)
    if reached not in levels:
        return False
    best = {number: _best_at(curve, levels) for number, curve in curves.items()}
    if sum(reached in at for at in best.values()) < _FEWEST:
        return False
    from core.tuning.studies import halving, new_study

    study = new_study(pruner=halving(levels[0], REDUCTION))
    verdict = False
    # The pruner remembers of each trial what it reported at each rung; the job in question is asked about last.
    for number in sorted(best, key=lambda number: number == job):
        trial = study.ask()
        for level, score in best[number].items():
            trial.report(score, level)
            verdict = trial.should_prune()
    return verdict


def _best_at(curve: Mapping[int, float], levels: tuple[int, ...]) -> dict[int, float]:
    """The best score up to each rung that the curve has reached."""
    return {level: max(score for epoch, score in curve.items() if epoch <= level) for level in levels if max(curve, default=0) >= level}
