"""Taking away what has had its time: what tasks that have ended leave of checkpoints and of models that were never finished, and what tests
of models gave.

Whoever ends a task takes these away, unless it is killed or there was no worker at all.
"""

import logging
from datetime import timedelta

from sqlalchemy import select, update

from core.clock import now
from core.db.session import Database
from core.db.tables import Model, Task
from core.errors import UnavailableError
from core.settings import Settings
from core.storage import Storage

logger = logging.getLogger(__name__)

_LATELY = timedelta(days=1)


def checkpoints_of(task_id: str) -> str:
    """The storage folder of the checkpoints of all jobs of a task."""
    return f"tasks/{task_id}/jobs"


def models_of(task_id: str) -> str:
    """The storage folder of the model of a task, and of the attempts to make it, each under a name of its own."""
    return f"models/{task_id}"


def sweep_ended(database: Database, storage: Storage) -> int:
    """Delete what tasks that have ended have left of checkpoints, and of models of which none is kept; how many folders.

    For a day each is looked at again and again: a worker that does not know yet that its job was given up may still write. Then until all that
    it has left could be deleted.
    """
    lately = now() - _LATELY
    with database.read() as session:
        ended = session.scalars(select(Task.id).where(Task.finished_at.is_not(None), ~Task.swept)).all()
        kept = set(session.scalars(select(Model.task_id).join(Task, Task.id == Model.task_id).where(~Task.swept)))
    count, done = 0, []
    for task_id in ended:
        try:
            for folder in (checkpoints_of(task_id), *(() if task_id in kept else (models_of(task_id),))):
                if storage.exists(folder):
                    storage.delete(folder)
                    count += 1
            done.append(task_id)
        except UnavailableError:  # all of the storage
            raise
        except Exception:  # one folder must not keep the others
            logger.exception("what task %s has left cannot be deleted", task_id)
    with database.write() as session:
        swept = update(Task).where(Task.id.in_(done), Task.finished_at <= lately).values(swept=True)
        session.execute(swept, execution_options={"synchronize_session": False})
    return count


PREDICTIONS = "predictions"  # the storage folder of what tests of models gave: pictures, and folders of reports


def sweep_predictions(storage: Storage, settings: Settings) -> int:
    """Delete pictures and reports of tests all of which is older than `settings.draft_days`; how many tests there were.

    They were sent or saved when their test ended; whoever wants them again repeats it.
    """
    most = timedelta(days=settings.draft_days)
    tests: dict[str, list[str]] = {}
    for key in storage.list(PREDICTIONS):
        tests.setdefault("/".join(key.split("/")[:2]), []).append(key)
    old = [test for test, keys in tests.items() if all(storage.age(key) > most for key in keys)]
    for test in old:
        storage.delete(test)
    return len(old)
