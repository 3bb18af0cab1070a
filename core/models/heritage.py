"""What is known of how a model was trained: auto goes by it where the model learns on."""

from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.orm import Session

from core.db.tables import Job, Model, Task
from core.vocabulary import DataType


@dataclass(frozen=True)
class Heritage:
    """What the images of a model's training showed, and at which side in pixels; None where its task is gone or does not say."""

    data_type: DataType | None = None
    image_size: int | None = None


def heritage_of(session: Session, model: Model) -> Heritage:
    """What the model's task tells; all jobs of a task have the same input size."""
    task = session.get(Task, model.task_id) if model.task_id else None
    if task is None:
        return Heritage()
    plan = session.scalar(select(Job.plan).where(Job.task_id == task.id).order_by(Job.number).limit(1)) or {}
    said = task.suggestion.get("data_type")
    return Heritage(DataType(said) if said else None, plan.get("image_size"))
