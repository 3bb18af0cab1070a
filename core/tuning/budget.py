"""What auto tuning does with the budget that the operator has set: one good recipe, random variations of it, or a population of them."""

from dataclasses import dataclass

from core.tasks.hyperparameters import FIELDS, TrainingPlan
from core.tuning.population import slice_epochs
from core.tuning.search import MAX_JOBS, Ranges, Search, draw
from core.vocabulary import Tuning
from core.zoo.estimates import NOTHING_YET, Experience, training_seconds
from core.zoo.facts import DatasetFacts, DeviceFacts
from core.zoo.recipes import auto_batch_size
from core.zoo.spec import ModelSpec

FEWEST = 8  # jobs of a random search
POPULATION = 24  # members, the reference's default: its top and bottom fifths are five members each
FEWEST_SLICES = 10  # in shorter trainings members look at one another too rarely for copies to pay
SPREAD = 5.0  # learning rates are tried from a fifth to five times the recipe's


@dataclass(frozen=True)
class JobsChoice:
    """The plan of each training job, what they search (None: one plan), and where auto has chosen that, why."""

    plans: list[TrainingPlan]
    search: Search | None
    why: str


def training_hours(
    plan: TrainingPlan, spec: ModelSpec, facts: DatasetFacts, device: DeviceFacts, experience: Experience = NOTHING_YET
) -> float:
    """About how many hours one training by the plan takes on the device."""
    batch = auto_batch_size(spec, facts.training) if plan.batch_size == "auto" else plan.batch_size
    return training_seconds(spec, plan.image_size, batch, plan.epochs, facts, device, experience) / 3600


def auto_choice(
    recipe: TrainingPlan,
    spec: ModelSpec,
    facts: DatasetFacts,
    device: DeviceFacts,
    budget_hours: float,
    experience: Experience = NOTHING_YET,
) -> JobsChoice:
    """What auto takes: the recipe alone for less than 8 trainings' worth of budget; for 24 or more a population, where the training is long
    enough for it; else as many variations at random as the budget holds, at most 48.
    """
    if budget_hours <= 0:
        return JobsChoice([recipe], None, "The network family's recipe: the operator has set no budget for trying variations of it.")
    hours = training_hours(recipe, spec, facts, device, experience)
    affordable = min(MAX_JOBS, int(budget_hours / hours))
    holds = f"The budget of {budget_hours:g} GPU-hours holds {_trainings(affordable)} of about {max(hours, 0.001):.2g} h each"
    if affordable < FEWEST:
        return JobsChoice([recipe], None, f"{holds}, too few to search with ({FEWEST} are needed): the network family's recipe.")
    slices = recipe.epochs // slice_epochs(recipe.epochs)
    if affordable >= POPULATION and slices >= FEWEST_SLICES:
        why = f"{holds}, and {recipe.epochs} epochs are long enough for a population: the recipe and variations of it, the poor ones copying the good."
        return _searched(Tuning.POPULATION, recipe.model_copy(update={"early_stop": False}), POPULATION, why)
    short = f", and {recipe.epochs} epochs are too short for a population" if affordable >= POPULATION else ""
    return _searched(Tuning.RANDOM, recipe, affordable, f"{holds}{short}: the recipe, and random variations of it.")


def _searched(tuning: Tuning, recipe: TrainingPlan, jobs: int, why: str) -> JobsChoice:
    ranges = _around(recipe)
    others = [TrainingPlan(**{**recipe.model_dump(), **values}) for values in draw(ranges, jobs - 1, recipe.seed)]
    return JobsChoice([recipe, *others], Search(tuning, ranges=ranges, why=why), why)


def _around(recipe: TrainingPlan) -> Ranges:
    """What is varied: the learning rate and the weight decay; the momentum is no part of every recipe's optimizer."""
    rates = FIELDS["learning_rate"]
    low, high = float(rates.minimum or 0), float(rates.maximum or 1)
    return {
        "learning_rate": (max(low, recipe.learning_rate / SPREAD), min(high, recipe.learning_rate * SPREAD)),
        "weight_decay": (0.0, min(0.1, max(2 * recipe.weight_decay, 0.001))),
        "momentum": (recipe.momentum, recipe.momentum),
    }


def _trainings(number: int) -> str:
    return "no whole training" if number == 0 else "one training" if number == 1 else f"{number} trainings"
