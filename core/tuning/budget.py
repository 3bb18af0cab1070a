"""What auto tuning does with the budget that the operator has set: one good recipe, or the recipe and variations of it."""

from core.tasks.hyperparameters import FIELDS, TrainingPlan
from core.tuning.search import MAX_JOBS, Ranges, Search, draw
from core.vocabulary import Tuning
from core.zoo.facts import DatasetFacts, DeviceFacts
from core.zoo.spec import ModelSpec

# Arithmetic that a device keeps up in training, in operations per second: rough, on the low side, to choose by and not to promise by.
_GPU_SPEED = 1e13
_CPU_SPEED_PER_CORE = 1e10
_PASSES = 3  # forward once, backward twice
FEWEST = 8  # jobs of a random search
SPREAD = 5.0  # learning rates are tried from a fifth to five times the recipe's


def training_hours(plan: TrainingPlan, spec: ModelSpec, facts: DatasetFacts, device: DeviceFacts) -> float:
    """About how many hours one training by the plan takes on the device."""
    scale = (plan.image_size / spec.input_size) ** 2 if spec.input_size else 1.0
    operations = plan.epochs * facts.training * spec.gmacs * 1e9 * 2 * _PASSES * scale
    return operations / (_CPU_SPEED_PER_CORE * device.cores if device.kind == "cpu" else _GPU_SPEED) / 3600


def auto_jobs(
    recipe: TrainingPlan, spec: ModelSpec, facts: DatasetFacts, device: DeviceFacts, budget_hours: float
) -> tuple[list[TrainingPlan], Search | None]:
    """The plans that auto trains by, and what it searches, with the reason; no search where it is the recipe alone."""
    if budget_hours <= 0:
        return [recipe], None
    hours = training_hours(recipe, spec, facts, device)
    affordable = min(MAX_JOBS, int(budget_hours / hours)) if hours > 0 else MAX_JOBS
    if affordable < FEWEST:
        return [recipe], None
    rates = FIELDS["learning_rate"]
    low, high = float(rates.minimum or 0), float(rates.maximum or 1)
    ranges: Ranges = {
        "learning_rate": (max(low, recipe.learning_rate / SPREAD), min(high, recipe.learning_rate * SPREAD)),
        "weight_decay": (0.0, min(0.1, max(2 * recipe.weight_decay, 0.001))),
        "momentum": (recipe.momentum, recipe.momentum),
    }
    why = (
        f"The budget of {budget_hours:g} GPU-hours holds {affordable} trainings of about {max(hours, 0.001):.2g} h each: "
        "the recipe, and random variations of it."
    )
    others = [TrainingPlan(**{**recipe.model_dump(), **values}) for values in draw(ranges, affordable - 1, recipe.seed)]
    return [recipe, *others], Search(Tuning.RANDOM, ranges=ranges, why=why)
