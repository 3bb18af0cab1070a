"""The tables of the program and those that migrations make are the same, however a database gets there."""

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from setuptools import find_namespace_packages
from sqlalchemy import inspect, text

from core.db.migrate import config_for, current, differences, ensure_current, head, upgrade
from core.db.session import Database
from core.db.tables import Dataset
from core.errors import UnavailableError


def test_migrations_make_exactly_the_tables(database: Database) -> None:
    upgrade(database)
    assert differences(database) == []
    assert current(database) == head()


def test_an_empty_database_is_upgraded_by_itself_and_then_left_alone(database: Database) -> None:
    assert current(database) is None
    ensure_current(database)
    with database.write() as session:
        session.add(Dataset(workspace="default", name="Größe 'x\"; --", created_by="cli:ada"))
    ensure_current(database)
    with database.read() as session:
        assert session.query(Dataset).one().name == "Größe 'x\"; --"


def test_differences_are_seen(database: Database) -> None:
    upgrade(database)
    with database.write() as session:
        session.execute(text("ALTER TABLE leases ADD COLUMN stranger INTEGER"))
        session.execute(text("DROP INDEX ix_jobs_state"))
    assert {item[0] for item in differences(database)} == {"remove_column", "add_index"}


def test_several_processes_upgrade_one_database_at_once(url: str, database: Database) -> None:
    imports = "import sys; from core.db.migrate import ensure_current; from core.db.session import Database"
    script = f"{imports}; ensure_current(Database(sys.argv[1]))"
    processes = [subprocess.Popen([sys.executable, "-c", script, url], stderr=subprocess.PIPE, text=True) for _ in range(4)]
    assert [(process.communicate(timeout=60)[1], process.returncode) for process in processes] == [("", 0)] * 4
    assert differences(database) == []


def test_an_older_shared_database_is_left_to_its_operator(database: Database) -> None:
    upgrade(database)
    with database.write() as session:
        session.execute(text("UPDATE alembic_version SET version_num = '0000'"))
    # SQLite, which nobody shares, is tried at once; here that fails, as no script leads on from 0000.
    message, remedy = ("cannot be upgraded", "backup") if database.is_sqlite else ("older version", "db upgrade")
    with pytest.raises(UnavailableError, match=message) as caught:
        ensure_current(database)
    assert remedy in caught.value.remedy


def test_a_database_of_a_newer_program_is_refused(database: Database) -> None:
    upgrade(database)
    with database.write() as session:
        session.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    for call in (ensure_current, upgrade):
        with pytest.raises(UnavailableError, match="newer version"):
            call(database)


def test_tables_of_somebody_else_are_not_touched(database: Database) -> None:
    with database.write() as session:
        session.execute(text("CREATE TABLE tasks (id INTEGER)"))
    with pytest.raises(UnavailableError, match="did not make"):
        ensure_current(database)
    with database.read() as session:
        assert inspect(session.connection()).get_table_names() == ["tasks"]


def test_a_failed_upgrade_leaves_nothing_behind(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    def create_and_fail(config: Config, _revision: str) -> None:
        config.attributes["connection"].execute(text("CREATE TABLE half_done (id INTEGER)"))
        raise RuntimeError("killed")

    monkeypatch.setattr(command, "upgrade", create_and_fail)
    with pytest.raises(RuntimeError):
        upgrade(database)
    with database.read() as session:
        assert inspect(session.connection()).get_table_names() == []


def test_down_and_up_again(database: Database) -> None:
    upgrade(database)
    with database.write() as session:
        command.downgrade(config_for(session.connection()), "base")
    with database.read() as session:
        assert set(inspect(session.connection()).get_table_names()) == {"alembic_version"}
    upgrade(database)
    assert differences(database) == []


def test_the_highest_number_is_the_only_head() -> None:
    with Database("sqlite://").read() as session:
        scripts = ScriptDirectory.from_config(config_for(session.connection()))
    assert scripts.get_heads() == [head()]
    revisions = [script.revision for script in scripts.walk_revisions()]
    assert revisions == sorted(revisions, reverse=True)


def test_migrations_are_shipped_as_package_data() -> None:
    packaging = tomllib.loads(Path("pyproject.toml").read_text())["tool"]["setuptools"]
    assert "db/migrations/script.py.mako" in packaging["package-data"]["core"]
    # Folders without __init__.py are found too: setuptools' `find` takes namespace packages.
    assert "core.db.migrations.versions" in find_namespace_packages(include=packaging["packages"]["find"]["include"])


def test_an_unreachable_database_ends_in_one_clear_error() -> None:
    with pytest.raises(UnavailableError, match="does not answer") as caught:
        ensure_current(Database("postgresql://nobody:secret@127.0.0.1:1/none"))
    assert "secret" not in str(caught.value)
