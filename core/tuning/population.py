"""Population-based training: who copies whom, and which values the copy goes on with.

Jaderberg et al. (2017), “Population Based Training of Neural Networks” (arXiv:1711.09846), with the choices of its experiments:
*truncation selection* (a member in the bottom 20 % copies one drawn from the top 20 %), and *exploration* by perturbing each
hyperparameter by a factor of 0.8 or 1.2, or drawing it anew. Asynchronous: a member looks at the latest scores of all others
whenever its own slice of epochs is over, and never waits for them.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from core.tuning.search import TUNED, Ranges, Values, rounded

FIFTH = 0.2
FACTORS = (0.8, 1.2)
# The paper leaves it to the experiment how often a hyperparameter is drawn anew; a quarter is what Ray Tune's implementation does.
REDRAWN = 0.25
SLICES = 20  # of a training, as long as they are whole epochs
MOST_SLICE_EPOCHS = 5


@dataclass(frozen=True)
class Member:
    """One job of a population at its last published epoch. `score` is that epoch's, higher is better."""

    number: int
    epoch: int
    score: float
    values: Values


@dataclass(frozen=True)
class Copy:
    """A member goes on with `source`'s weights and optimizer state, and with `values`."""

    source: Member
    values: Values


def slice_epochs(epochs: int) -> int:
    """How many epochs a member trains before it looks at the others: a twentieth of all, 1–5."""
    return min(max(1, round(epochs / SLICES)), MOST_SLICE_EPOCHS)


def slice_end(epoch: int, epochs: int) -> int:
    """The epoch at whose end the slice is over that begins after `epoch` finished epochs."""
    length = slice_epochs(epochs)
    return min((epoch // length + 1) * length, epochs)


def decide(own: int, members: Sequence[Member], ranges: Ranges, random: np.random.Generator) -> Copy | None:
    """Exploit and explore: the copy that member `own` is to make before its next slice, None where it goes on as it is.

    Args:
        own: The member's number.
        members: All that have published a score, `own` among them.
        ranges: Within which values stay.
        random: Its draws; seeded with task, member and epoch, so that a decision taken again after a loss is the same.
    """
    ranked = sorted(members, key=lambda member: (_comparable(member.score), -member.number))
    size = math.ceil(len(ranked) * FIFTH)
    bottom, top = ranked[:size], ranked[-size:]
    poor = next((member for member in bottom if member.number == own), None)
    if poor is None or 2 * size > len(ranked):
        return None
    source = top[int(random.integers(len(top)))]
    if _comparable(source.score) <= _comparable(poor.score):
        return None
    return Copy(source, explore(source.values, ranges, random))


def rescue(own: int, members: Sequence[Member], ranges: Ranges, random: np.random.Generator) -> Copy | None:
    """The copy that saves a member whose training has diverged; None where nobody else has published a score yet."""
    ranked = sorted((member for member in members if member.number != own), key=lambda member: (_comparable(member.score), -member.number))
    if not ranked:
        return None
    top = ranked[-math.ceil(len(ranked) * FIFTH) :]
    source = top[int(random.integers(len(top)))]
    return Copy(source, explore(source.values, ranges, random))


def explore(values: Values, ranges: Ranges, random: np.random.Generator) -> Values:
    """Each value perturbed by a factor of 0.8 or 1.2, or drawn anew, and kept within its range."""
    return {
        name: _redrawn(name, ranges, random)
        if random.random() < REDRAWN
        else rounded(values[name] * FACTORS[int(random.integers(2))], ranges[name])
        for name in TUNED
    }


def _redrawn(name: str, ranges: Ranges, random: np.random.Generator) -> float:
    low, high = ranges[name]
    drawn = math.exp(random.uniform(math.log(low), math.log(high))) if name == "learning_rate" else random.uniform(low, high)
    return rounded(float(drawn), ranges[name])


def _comparable(score: float) -> float:
    return score if math.isfinite(score) else -math.inf
