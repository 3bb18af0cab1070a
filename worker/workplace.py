"""What every job of a process uses: settings, database and storage; in a work-horse those that its worker has warmed up."""

from dataclasses import dataclass

from core.db.session import Database
from core.settings import Settings
from core.storage import Storage

_inherited: list[tuple[Settings, Database]] = []


def leave_to_work_horses(settings: Settings, database: Database) -> None:
    """Have work-horses forked from now on use these: a database knows its statements already, compiled.

    No connection to it may be open at a fork: `TrainingWorker.fork_work_horse` sees to that.
    """
    _inherited[:] = [(settings, database)]


@dataclass(frozen=True)
class Workplace:
    """Settings, database and storage of a job."""

    settings: Settings
    database: Database
    storage: Storage

    @classmethod
    def open(cls) -> "Workplace":
        """Those that the worker has left, or else those of the environment. Call it once, first thing in the work-horse."""
        if _inherited:
            settings, database = _inherited[0]
        else:
            settings = Settings()
            database = Database.of(settings)
        return cls(settings, database, Storage.of(settings))
