"""What the curves say, in plain language."""

import itertools
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from worker.engine.watch import Unlearnt, exploding

# This project's own: below it one image is worth five points of accuracy.
FEW = 20
FEW_OF_CLASS = 5
FEW_STEPS = 100
_UNKNOWN = Unlearnt()
_NOISE = 0.01  # of a score, from one epoch to another
_NOTHING = 0.005  # a score that stands for no use at all, where there is no baseline
_SETTLED = 5  # epochs, before which nobody can say that something has settled
_LOW = 0.5  # a score that nobody would call good without having looked


@dataclass(frozen=True)
class Reading:
    """A verdict (`fine`, `exploding`, `learning-rate-too-high`, `overfitting`, `not-learning`, `unfinished`, `too-short`, `unread`), and in words what to do."""

    verdict: str
    text: str


def read_curves(
    history: Sequence[dict[str, Any]],
    *,
    score_name: str,
    baseline: float | None,
    planned_epochs: int,
    validation_images: int,
    lower: float,
    steps: int = FEW_STEPS,
    unlearnt: Unlearnt = _UNKNOWN,
) -> Reading:
    """Read the curves of a training.

    `history` holds per epoch train_loss, val_loss and score; `unlearnt` is what the training began from, `lower` the learning
    rate to try where the plan's was much too high, `steps` how often the weights were changed in all. The thresholds are this project's
    own: a loss that has exploded counts as come down where a tenth and more of the unlearnt one is learnt; a best score as chance when most
    epochs' are no better than the baseline, and it is not three standard errors above it; a validation loss as risen when it ends a twentieth
    of where it began above its lowest while the score fell by more than a hundredth since, or a quarter of its lowest and of the training loss
    while that went on falling, the score gained little and is not all but perfect; as hardly fallen where it lost less than a tenth and the
    score gained little, too; as jumping when most epochs change direction by more than a fifth of its level, and by more than a twentieth of
    where it began, the training loss alone where validation has not got much better all the same; as still falling when the last two epochs
    took more than a fifth, or a tenth and the last a twentieth. A detector's loss is lowest before it finds anything: there the score alone tells what was learnt.
    """
    exploded = any(
        exploding(history[:number], float(point["train_loss"]), lower, unlearnt, val_loss=float(point["val_loss"]))
        for number, point in enumerate(history)
    )
    if exploded and not _came_down(history, baseline, unlearnt):
        return Reading(
            "exploding",
            f"The loss explodes instead of falling: the learning rate is much too high. Try {lower:.1g}.",
        )
    score = score_name.replace("_", " ")
    if by_chance := _chance(history, score, baseline, validation_images):
        return by_chance
    reading = _read_calm(history, score=score, baseline=baseline, planned_epochs=planned_epochs, unlearnt=unlearnt)
    if reading.verdict in ("not-learning", "unfinished") and steps < FEW_STEPS:
        changed = f"In all the weights were changed {steps} times only: a smaller batch or more epochs give more to learn by."
        reading = replace(reading, text=f"{reading.text} {changed}")
    if exploded and max(float(point["train_loss"]) for point in history) >= unlearnt.limit:
        return replace(reading, text=f"The loss exploded before it fell: a lower learning rate would likely do better. {reading.text}")
    return reading


def _came_down(history: Sequence[dict[str, Any]], baseline: float | None, unlearnt: Unlearnt) -> bool:
    """Whether something was learnt all the same once the loss had exploded."""
    first, last = history[0], history[-1]
    if last["train_loss"] > first["train_loss"] or last["val_loss"] > first["val_loss"]:
        return False
    # What is left of an explosion falls back to guessing, whose score is now and then above the baseline.
    learnt = unlearnt.loss == 0 or last["train_loss"] < 0.9 * unlearnt.loss
    return learnt and max(float(point["score"]) for point in history) > (baseline or 0)


def _chance(history: Sequence[dict[str, Any]], score: str, baseline: float | None, images: int) -> Reading | None:
    """Of a training that has learnt nothing: among many epochs one is the best by chance, the more so the fewer images judge."""
    scores = [float(point["score"]) for point in history]
    if score != "accuracy" or baseline is None or not 0 < baseline < 0.98:  # of which alone the error is known
        return None
    if len(scores) < 6 or statistics.median(scores) > baseline + 0.02 * (1 - baseline):
        return None
    best, error = max(scores), math.sqrt(baseline * (1 - baseline) / images)
    if not baseline + 0.02 < best < baseline + 3 * error:
        return None
    return Reading(
        "not-learning",
        f"Most epochs do no better than always saying the commonest class; that the best reached {100 * best:.1f} % of {score} is likely chance: "
        f"{images} images judge {len(scores)} epochs. Look whether the labels are right and whether the images show what is asked; else add images.",
    )


def _fell_back(scores: Sequence[float], score: str, baseline: float) -> int | None:
    """The epoch since which a score that was better is no better than the baseline; None where there is none in the first half, or one in the second."""
    if score != "accuracy" or len(scores) < 4 or baseline >= 0.98:
        return None
    last = max((number for number, value in enumerate(scores, 1) if value > _least(baseline)), default=0)
    return last if 0 < last <= len(scores) // 2 else None


def _least(baseline: float) -> float:
    """Up to which score no more is known than the commonest class. Of many classes that is next to nothing: a few times its share has been learnt."""
    return baseline + min(0.02 * (1 - baseline), 2 * baseline)


def _read_calm(
    history: Sequence[dict[str, Any]], *, score: str, baseline: float | None, planned_epochs: int, unlearnt: Unlearnt
) -> Reading:
    """What the curves say where the loss has not exploded, or has come down again."""
    scores = [float(point["score"]) for point in history]
    validation = [float(point["val_loss"]) for point in history]
    training = [float(point["train_loss"]) for point in history]
    if not scores:
        return Reading("too-short", "No epoch was finished: there is nothing to read yet.")
    best = max(scores)
    if best <= 0 or best < (_NOTHING if baseline is None else baseline - 0.02):
        worse = (
            "Next to nothing was found rightly in any epoch"
            if baseline is None
            else "The network does worse than always saying the commonest class"
        )
        return Reading(
            "not-learning",
            f"{worse}: look whether the labels are right and whether there are validation images enough to judge by; else train longer, "
            "or choose another network.",
        )
    if baseline is not None and best <= _least(baseline) and baseline < 0.98:
        if len(training) > 1 and training[-1] < 0.7 * training[0]:
            return Reading(
                "overfitting",
                "The network learns the training images by heart and knows no more of others than the commonest class: add images, or look whether the labels are right.",
            )
        return Reading(
            "not-learning",
            "The network does no better than always saying the commonest class: try a higher learning rate, more epochs or another network, and look whether the labels are right.",
        )
    if len(history) < 3:
        return Reading("too-short", "Too few epochs to read the curves; the numbers stand as they are.")
    better = validation[-1] < 0.5 * validation[0] or (scores[-1] > 0.99 and min(validation) < 0.5 * validation[0])
    if _jumps(validation) or (_jumps(training) and not better):  # the training loss of a few small batches jumps by itself
        return Reading(
            "learning-rate-too-high",
            "The loss jumps up and down from epoch to epoch: the learning rate is likely too high. Try a third of it.",
        )
    lowest = min(range(len(validation)), key=validation.__getitem__)
    risen = validation[-1] - validation[lowest] > 0.05 * validation[0]  # a loss near nothing may double
    found_since = best >= 1.5 * scores[lowest] + 0.05
    # Trained on smoothed labels a network comes back from a lucky minimum to the confidence that it is taught, as on its training images.
    parted = validation[-1] > 1.25 * max(validation[lowest], training[-1]) and training[-1] < 0.8 * training[lowest]
    if risen and not found_since and parted and scores[-1] < 0.99:
        return Reading(
            "overfitting",
            f"Since epoch {lowest + 1} the validation loss rises while the training loss falls: the network begins to learn the training images by heart. "
            "The best epoch was kept; more images or stronger augmentation would help.",
        )
    if risen and scores[-1] < scores[lowest] - min(_NOISE, 0.1 * scores[lowest]):
        return Reading(
            "overfitting",
            f"The validation loss rises since epoch {lowest + 1}, and the {score} falls: what is learnt does not hold for other images. The best "
            "epoch was kept; a lower learning rate or more images would likely help, and a look whether the validation images are like the others.",
        )
    whole = len(history) >= planned_epochs
    end = "at the end" if whole else f"when the training ended, after {len(history)} of {planned_epochs} epochs"
    gain = scores[-1] - scores[-3]
    at_lowest = validation[-1] <= validation[lowest] * 1.001
    if (at_lowest or scores[-1] > scores[-2]) and gain > 0.02 and scores[-1] >= best:
        return Reading("unfinished", f"The {score} was still rising {end}: more epochs would likely bring more.")
    falling = at_lowest and (validation[-1] < 0.8 * validation[-3] or validation[-1] < min(0.9 * validation[-3], 0.95 * validation[-2]))
    if baseline is not None and (fallen := _fell_back(scores, score, baseline)):
        remedy = (
            "More epochs would likely bring more: the validation loss was still falling"
            if falling
            else "Try a lower learning rate, or add images"
        )
        return Reading(
            "unfinished" if falling else "not-learning",
            f"After epoch {fallen} the {score} fell back to that of always saying the commonest class: the best epoch may be chance. {remedy}.",
        )
    if at_lowest and max(scores[-2:]) < 0.8 * best:
        since = scores.index(best) + 1
        return Reading(
            "unfinished",
            f"The {score} has not come back to what it was after epoch {since}, though the validation loss was at its lowest {end}: "
            "more epochs would likely bring more.",
        )
    if falling and best < 0.99:
        return Reading("unfinished", f"The validation loss was still falling {end}: more epochs would likely bring more.")
    learnt_at_once = validation[0] < 0.5 * unlearnt.loss
    if best < 0.99 and validation[lowest] > 0.9 * validation[0] and best < 1.5 * scores[0] + 0.05 and not learnt_at_once:
        remedy = (
            "more epochs would likely bring more"
            if whole and at_lowest
            else "a higher learning rate, other weights or more images may help"
        )
        return Reading("unfinished", f"The validation loss has hardly fallen: {remedy}.")
    course = f"Both losses fall{'' if falling or len(history) < _SETTLED else ' and settle'}"
    if risen:
        held = "holds" if best < scores[lowest] + 0.05 else "has risen"
        course = f"The training loss falls, and the {score} {held} while the validation loss has not fallen since epoch {lowest + 1}"
    elif validation[lowest] > 0.9 * validation[0] and not learnt_at_once:
        course = f"The training loss falls and the {score} has risen, though the validation loss has hardly changed"
    ended = "" if whole else f" It ended after {len(history)} of {planned_epochs} epochs."
    if best < _LOW:
        return Reading(
            "fine",
            f"{course}, the best {score} being {100 * best:.1f} %.{ended} Where that is too little, look at the worst predictions and at their "
            "labels; more images, a larger input size or another network help more than more epochs.",
        )
    return Reading("fine", f"{course}: the training went well.{ended}")


def mindful(reading: Reading, validation_images: int, shown: Mapping[str, int]) -> Reading:
    """The reading with words of caution where so few images validate that numbers of theirs are rough; `shown` tells how many show each class."""
    said = [reading.text]
    if validation_images < FEW:
        images = "one image validates" if validation_images == 1 else f"{validation_images} images validate"
        said.append(f"Only {images} it: all its numbers are rough.")
    if unseen := [name for name, count in shown.items() if not count]:
        said.append(
            f"{_some(unseen, len(shown))} no validation image: nothing is known of how well {'it is' if len(unseen) == 1 else 'they are'} told."
        )
    rare = [name for name, count in shown.items() if 0 < count < FEW_OF_CLASS]
    if rare and validation_images >= FEW:
        few = f"fewer than {FEW_OF_CLASS} validation images"
        said.append(f"{_some(rare, len(shown))} {few}: what is told of {'it' if len(rare) == 1 else 'them'} is rough.")
    return replace(reading, text=" ".join(said))


def _some(names: Sequence[str], classes: int) -> str:
    """The beginning of a sentence on some of the classes, up to its object."""
    if len(names) == 1:
        return f"The class {names[0]} has"
    if len(names) <= 3:
        return f"The classes {', '.join(names[:-1])} and {names[-1]} have"
    return f"{len(names):,} of the {classes:,} classes have"


def _jumps(losses: Sequence[float]) -> bool:
    """Whether most neighbouring changes are large and turn back."""
    if len(losses) < 4:
        return False
    changes = [(after - before) / max(abs(before), losses[0] / 4, 1e-9) for before, after in itertools.pairwise(losses)]
    turns = sum(1 for first, second in itertools.pairwise(changes) if first * second < 0 and min(abs(first), abs(second)) > 0.2)
    return turns >= max(2, len(changes) // 3)
