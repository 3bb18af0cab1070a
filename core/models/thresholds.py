"""Which models have a threshold that may be asked for."""

from core.errors import InvalidInputError
from core.vocabulary import TaskType


def require_threshold(task_type: TaskType, *, instances: bool) -> None:
    """Raise InvalidInputError where a model of that type tells the likeliest class; `instances` says whether it marks single objects by masks."""
    if task_type not in (TaskType.MULTI_LABEL, TaskType.OBJECT_DETECTION) and not instances:
        raise InvalidInputError("This model has no threshold: it tells the likeliest class.", "Leave the threshold out.")
