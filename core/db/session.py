"""Engine and transactions. Every transaction that writes is serialised where the database needs it."""

import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError
from sqlalchemy.orm import Session, sessionmaker

from core.db.json_text import dump_json
from core.errors import UnavailableError
from core.settings import Settings


class Database:
    """One engine, and `read()` and `write()` transactions over it."""

    def __init__(self, url: str) -> None:
        try:
            parsed = make_url(url)
            if parsed.drivername == "postgresql":
                parsed = parsed.set(drivername="postgresql+psycopg")
            self.is_sqlite = parsed.get_backend_name() == "sqlite"
            self.engine: Engine = create_engine(
                parsed,
                json_serializer=dump_json,
                **({} if self.is_sqlite else {"pool_pre_ping": True, "connect_args": {"connect_timeout": 5}}),
            )
        except (ArgumentError, NoSuchModuleError, ImportError, ValueError) as error:  # ValueError: a port that is no number
            raise UnavailableError(
                "STATIONMASTER_DATABASE_URL is not a database URL that can be used here.",
                "Write it like postgresql://user:password@host:5432/name or sqlite:////path/to/file.db.",
            ) from error
        self.url = parsed
        if self.is_sqlite:
            event.listen(self.engine, "connect", _sqlite_connect)
            event.listen(self.engine, "begin", _sqlite_begin)
        self._sessions = sessionmaker(self.engine, expire_on_commit=False)

    @classmethod
    def of(cls, settings: Settings) -> "Database":
        """The installation's database. Its folder is made within the home; any other must be there.

        Raises:
            UnavailableError: when the folder cannot be made.
        """
        database = cls(settings.database)
        if database.is_sqlite and settings.home in Path(database.url.database or "").parents:
            try:
                Path(str(database.url.database)).parent.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise UnavailableError(
                    f"The folder of the database cannot be made: {error.strerror}: {error.filename}.", "Check STATIONMASTER_HOME."
                ) from error
        return database

    @contextmanager
    def write(self) -> Iterator[Session]:
        """A transaction that commits when the block ends well and rolls back when it raises.

        Raises:
            UnavailableError: when the database cannot be reached.
        """
        with _reachable(self), self._sessions() as session, session.begin():
            yield session

    @contextmanager
    def read(self) -> Iterator[Session]:
        """A transaction that only reads: on SQLite it never waits for a writer."""
        with _reachable(self), self._sessions() as session:
            session.connection(execution_options={"stationmaster_read_only": True})
            yield session


def _sqlite_connect(connection: Any, _record: Any) -> None:
    # Autocommit mode: SQLAlchemy's "begin" event, not the driver, opens transactions.
    connection.isolation_level = None
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA synchronous=NORMAL")
    cursor.execute("PRAGMA foreign_keys=ON")
    cursor.execute("PRAGMA busy_timeout=30000")
    cursor.close()


def _sqlite_begin(connection: Any) -> None:
    # A deferred transaction that reads and then writes can lose updates of others; an immediate one cannot.
    read_only = connection.get_execution_options().get("stationmaster_read_only", False)
    connection.exec_driver_sql("BEGIN" if read_only else "BEGIN IMMEDIATE")


@contextmanager
def _reachable(database: Database) -> Iterator[None]:
    try:
        yield
    except DBAPIError as error:
        cause = error.orig
        lost = error.connection_invalidated or (
            type(cause).__name__ in ("OperationalError", "ConnectionTimeout") and not isinstance(cause, sqlite3.ProgrammingError)
        )
        if not lost:
            raise
        reason = str(cause).splitlines()[0] if str(cause) else type(cause).__name__
        where = database.url.render_as_string(hide_password=True)
        if database.is_sqlite and _disk_is_full(Path(database.url.database or "")):
            raise UnavailableError(f"There is no space left on the disk that holds {where}.", "Free some space, then try again.") from error
        missing = "no such table" in reason
        remedy = (
            "Run `stationmaster db upgrade`."
            if missing
            else "Check that it runs, STATIONMASTER_DATABASE_URL, the disk, and `stationmaster doctor`."
        )
        raise UnavailableError(f"The database {where} does not answer: {reason}.", remedy) from error


def _disk_is_full(file: Path) -> bool:
    """Whether the disk of an SQLite database has no room for its next page and its index of changes (32 KiB)."""
    try:
        return shutil.disk_usage(file.parent).free < 1 << 16
    except OSError:
        return False
