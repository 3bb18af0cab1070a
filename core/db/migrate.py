"""Brings a database to the tables this version of the program knows: Alembic, run over our own connection under a lock."""

import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from filelock import FileLock, Timeout
from sqlalchemy import JSON, Connection, inspect, text
from sqlalchemy.orm import Session

from core.db.session import Database
from core.db.tables import Base
from core.db.types import UtcDateTime
from core.errors import UnavailableError

if TYPE_CHECKING:
    from alembic.config import Config
    from alembic.runtime.migration import MigrationContext

SCRIPTS = Path(__file__).with_name("migrations")
VERSION_TABLE = "alembic_version"
# SQLite hosts only one writer: whoever waits longer than this for another's upgrade should say so.
LOCK_SECONDS = 120
# Any number will do, as long as nobody else on the same Postgres database takes it.
ADVISORY_LOCK = zlib.crc32(b"stationmaster migrations")


def head() -> str:
    """The revision of this program's tables: scripts are numbered, the last one is the head (a test holds Alembic to that)."""
    return max(path.name for path in (SCRIPTS / "versions").glob("[0-9]*_*.py")).partition("_")[0]


def current(database: Database) -> str | None:
    """The revision of the database, None where it has no tables of ours yet.

    Raises:
        UnavailableError: when it cannot be reached, or holds tables that no migration made.
    """
    with database.read() as session:
        return _current(session)


def upgrade(database: Database) -> None:
    """Migrate to `head()`, all or nothing. Several processes may call this at once: one works, the others wait for it.

    Raises:
        UnavailableError: when the database cannot be reached, or was made by a newer version of the program.
    """
    from alembic import command  # costs nearly half a second that only upgrades need
    from alembic.util import CommandError

    with _one_at_a_time(database), database.write() as session:
        connection = session.connection()
        if not database.is_sqlite:
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": ADVISORY_LOCK})
        found = _current(session)
        if found == head():
            return
        _refuse_newer(found)
        try:
            command.upgrade(config_for(connection), "head")
        except CommandError as error:
            raise UnavailableError(
                f"The database cannot be upgraded from tables {found or 'none'} to {head()}: {error}.",
                "Restore a backup, or give an empty database in STATIONMASTER_DATABASE_URL.",
            ) from error


def ensure_current(database: Database) -> None:
    """Let pass a database whose tables are this program's; upgrade SQLite and empty databases.

    A shared database that holds data is upgraded by its operator, at a time of their choosing.

    Raises:
        UnavailableError: when it cannot be reached, or must be upgraded by hand.
    """
    found = current(database)
    if found == head():
        return
    _refuse_newer(found)
    if not database.is_sqlite and found is not None:
        raise UnavailableError(
            f"The database's tables are those of an older version ({found}, needed is {head()}).",
            "Make a backup, stop bots and workers, then run `stationmaster db upgrade`.",
        )
    upgrade(database)


def differences(database: Database) -> list[Any]:
    """What the tables in the database lack or have too much, beside `core.db.tables`; empty when they agree."""
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext

    with database.read() as session:
        context = MigrationContext.configure(session.connection(), opts={"compare_type": True, "compare_server_default": _default_differs})
        found: list[Any] = []
        for item in compare_metadata(context, Base.metadata):
            found.extend(item if isinstance(item, list) else [item])  # changes of one column come as a list of their own
        return found


def config_for(connection: Connection) -> "Config":
    """Alembic's configuration for one connection; there is no alembic.ini."""
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(SCRIPTS).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    return config


def migration_options() -> dict[str, Any]:
    """How `env.py` sets up Alembic: batch mode, so that one script alters tables on SQLite and Postgres alike."""
    return {"target_metadata": Base.metadata, "render_as_batch": True, "render_item": _render_item, "compare_type": True}


def _render_item(kind: str, item: Any, context: Any) -> str | Literal[False]:
    # Scripts must go on working when our own types change: they name what stands in the database.
    if kind == "type" and isinstance(item, UtcDateTime):
        return "sa.DateTime(timezone=True)"
    if kind == "type" and isinstance(item, JSON):
        context.imports.add("from sqlalchemy.dialects import postgresql")
        return "sa.JSON().with_variant(postgresql.JSONB(), 'postgresql')"
    return False


def _default_differs(
    context: "MigrationContext", _found: Any, _wanted: Any, found: str | None, _default: Any, wanted: str | None
) -> bool | None:
    if context.dialect.name != "sqlite":
        return None  # as Alembic compares
    # Alembic takes the quotes off one side only where the default is the empty string.
    return (found or "").strip("()'\"") != (wanted or "").strip("()'\"") or (found is None) != (wanted is None)


def _current(session: Session) -> str | None:
    tables = inspect(session.connection()).get_table_names()
    if VERSION_TABLE not in tables:
        ours = sorted(set(tables) & set(Base.metadata.tables))
        if ours:
            raise UnavailableError(
                f"The database has tables of the same names ({', '.join(ours[:3])} …) that Stationmaster did not make.",
                "Give it an empty database of its own in STATIONMASTER_DATABASE_URL.",
            )
        return None
    version: str | None = session.scalar(text(f"SELECT version_num FROM {VERSION_TABLE}"))  # noqa: S608 (a constant)
    return version


def _refuse_newer(found: str | None) -> None:
    if found is not None and found > head():
        raise UnavailableError(
            f"The database was made by a newer version of Stationmaster (tables {found}, this one knows {head()}).",
            "Install that version again, or restore a backup from before the upgrade.",
        )


@contextmanager
def _one_at_a_time(database: Database) -> Iterator[None]:
    file = database.url.database if database.is_sqlite else None
    if not file or file == ":memory:":
        yield
        return
    try:
        with FileLock(f"{file}.upgrade-lock", timeout=LOCK_SECONDS):
            yield
    except Timeout as error:
        raise UnavailableError(
            f"Another process has been upgrading {file} for over {LOCK_SECONDS} s.", "Wait for it to end, or stop it."
        ) from error
    except PermissionError as error:
        raise UnavailableError(
            f"The database file {file} may not be written: {error.strerror}.", "Check the owner of its folder, and STATIONMASTER_HOME."
        ) from error
