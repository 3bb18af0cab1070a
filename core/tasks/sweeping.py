"""Taking away the checkpoints of tasks that have ended: whoever ends a task does so, unless it is killed or there was no worker at all."""

from datetime import timedelta

from sqlalchemy import select

from core.clock import now
from core.db.session import Database
from core.db.tables import Task
from core.storage import Storage

_LATELY = timedelta(days=1)


def checkpoints_of(task_id: str) -> str:
    """The storage folder of the checkpoints of all jobs of a task."""
    return f"tasks/{task_id}/jobs"


def sweep_checkpoints(database: Database, storage: Storage) -> int:
    """Delete what tasks that ended within the last day have left of checkpoints; of how many tasks there was any."""
    with database.read() as session:
        ended = session.scalars(select(Task.id).where(Task.finished_at > now() - _LATELY)).all()
    left = [task_id for task_id in ended if storage.exists(checkpoints_of(task_id))]
    for task_id in left:
        storage.delete(checkpoints_of(task_id))
    return len(left)
