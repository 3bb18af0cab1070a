"""What auto tuning does with a budget."""

import pytest

from core.tasks.hyperparameters import TrainingPlan
from core.tuning.budget import auto_jobs, training_hours
from core.vocabulary import Tuning
from core.zoo.catalogue import find_spec
from core.zoo.facts import DatasetFacts, DeviceFacts

SPEC = find_spec("resnet18", "none")
FACTS = DatasetFacts(images=5000, classes=10, width=28, height=28)
RECIPE = TrainingPlan(epochs=10, image_size=64, learning_rate=0.001, weight_decay=0.05, optimizer="adamw")
GPU = DeviceFacts("cuda")


@pytest.mark.parametrize(("trainings", "jobs"), [(0, 1), (1.5, 1), (7.9, 1), (8.1, 8), (20.5, 20), (1000, 48)])
def test_the_budget_decides_how_many_variations_are_tried(trainings: float, jobs: int) -> None:
    plans, search = auto_jobs(RECIPE, SPEC, FACTS, GPU, trainings * training_hours(RECIPE, SPEC, FACTS, GPU))
    assert len(plans) == jobs and plans[0] == RECIPE
    assert (search is not None) == (jobs > 1)
    if search is not None:
        assert search.tuning == Tuning.RANDOM and f"holds {jobs} trainings" in search.why
        assert all(0.0002 <= plan.learning_rate <= 0.005 and plan.optimizer == "adamw" for plan in plans)
