"""What auto tuning does with a budget, and what it says of it."""

import pytest

from core.tasks.hyperparameters import TrainingPlan
from core.tuning.budget import auto_choice, training_hours
from core.vocabulary import Tuning
from core.zoo.catalogue import find_spec
from core.zoo.estimates import Experience, planned_rate
from core.zoo.facts import DatasetFacts, DeviceFacts

SPEC = find_spec("resnet18", "none")
FACTS = DatasetFacts(images=5000, classes=10, width=28, height=28)
SHORT = TrainingPlan(epochs=6, image_size=64, learning_rate=0.001, weight_decay=0.05, optimizer="adamw")
LONG = SHORT.model_copy(update={"epochs": 60})
GPU = DeviceFacts("cuda")


@pytest.mark.parametrize(
    ("recipe", "trainings", "jobs", "tuning", "why"),
    [
        (SHORT, 0, 1, None, "no budget"),
        (SHORT, 0.5, 1, None, "holds no whole training"),
        (SHORT, 1.5, 1, None, "holds one training of about"),
        (SHORT, 7.9, 1, None, "holds 7 trainings of about"),
        (SHORT, 8.1, 8, Tuning.RANDOM, "holds 8 trainings of about"),
        (SHORT, 23.5, 23, Tuning.RANDOM, "random variations"),
        (SHORT, 1000, 48, Tuning.RANDOM, "6 epochs are too short for a population"),
        (LONG, 7.9, 1, None, "too few to search with (8 are needed)"),
        (LONG, 23.5, 23, Tuning.RANDOM, "random variations"),
        (LONG, 24.1, 24, Tuning.POPULATION, "60 epochs are long enough for a population"),
        (LONG, 1000, 24, Tuning.POPULATION, "holds 48 trainings"),
    ],
)
def test_the_budget_decides_what_is_tried_and_that_is_said(
    recipe: TrainingPlan, trainings: float, jobs: int, tuning: Tuning | None, why: str
) -> None:
    chosen = auto_choice(recipe, SPEC, FACTS, GPU, trainings * training_hours(recipe, SPEC, FACTS, GPU))
    assert why in chosen.why
    assert len(chosen.plans) == jobs
    assert chosen.plans[0].model_copy(update={"early_stop": True}) == recipe, "the recipe itself is always among them"
    assert (chosen.search.tuning if chosen.search else None) == tuning
    if chosen.search is not None:
        assert chosen.search.why == chosen.why
        assert all(0.0002 <= plan.learning_rate <= 0.005 and plan.optimizer == "adamw" for plan in chosen.plans)
        assert {plan.early_stop for plan in chosen.plans} == {tuning is not Tuning.POPULATION}


def test_a_budget_holds_more_trainings_where_past_ones_were_fast() -> None:
    cpu = DeviceFacts("cpu")
    budget = 10 * training_hours(LONG, SPEC, FACTS, cpu)
    assert len(auto_choice(LONG, SPEC, FACTS, cpu, budget).plans) == 10
    fast = Experience(macs_per_second={SPEC.recipe: 1.5 * planned_rate(cpu)})
    assert len(auto_choice(LONG, SPEC, FACTS, cpu, budget, fast).plans) in (13, 14, 15)
