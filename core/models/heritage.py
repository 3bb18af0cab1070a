"""What is known of how a model was trained: auto goes by it where the model learns on."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from core.db.tables import Job, Model, Task
from core.tasks.hyperparameters import AUGMENTATION
from core.vocabulary import DataType, Tuning


@dataclass(frozen=True)
class Heritage:
    """What the images of a model's training showed, and at which side in pixels; None where its task is gone or does not say.

    `augmentation` are the hyperparameters of the random changes that auto gave them; none where a person typed them.
    """

    data_type: DataType | None = None
    image_size: int | None = None
    augmentation: Mapping[str, Any] = field(default_factory=dict)


def heritage_of(session: Session, model: Model) -> Heritage:
    """What the model's task tells; all jobs of a task have the same input size."""
    task = session.get(Task, model.task_id) if model.task_id else None
    if task is None:
        return Heritage()
    plan = session.scalar(select(Job.plan).where(Job.task_id == task.id).order_by(Job.number).limit(1)) or {}
    said = task.suggestion.get("data_type")
    changes = {name: plan[name] for name in AUGMENTATION if name in plan} if task.tuning == Tuning.AUTO else {}
    return Heritage(DataType(said) if said else None, plan.get("image_size"), changes)
