"""A task of the kind that tests ask for when any will do."""

from typing import Any

from core.db.tables import Dataset
from core.tasks.creation import NewTask
from core.tasks.hyperparameters import TrainingPlan
from core.vocabulary import TaskType


def training_of(dataset: Dataset, **otherwise: Any) -> NewTask:
    """ResNet-18 from scratch for single labels of `dataset`, one job; `otherwise` are fields of `NewTask` that are not as usual."""
    usual: dict[str, Any] = {
        "workspace": "default",
        "person": "terminal:ada",
        "name": "cells",
        "task_type": TaskType.SINGLE_LABEL,
        "dataset_id": dataset.id,
        "annotation_set_id": dataset.annotation_sets[0].id,
        "network": "resnet18",
        "pretraining": "none",
        "plans": [TrainingPlan()],
    }
    return NewTask(**usual | otherwise)
