"""An engine room that really works, one for the tests of a module: a worker takes its time to start."""

from collections.abc import Iterator

import pytest
from engine_room import engine_room as workers_of
from slack_bot import grace_at_slack, person, root, running, slack, slack_settings, start_bot

from core.db.migrate import upgrade
from core.db.session import Database
from core.settings import Settings
from core.storage import Storage

__all__ = ["grace_at_slack", "person", "root", "running", "slack", "slack_settings", "start_bot"]


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    return Settings(home=tmp_path_factory.mktemp("installation") / "home", offline=True)


@pytest.fixture(scope="module")
def database(settings: Settings) -> Iterator[Database]:
    database = Database.of(settings)
    upgrade(database)
    yield database
    database.engine.dispose()


@pytest.fixture(scope="module")
def storage(settings: Settings) -> Storage:
    return Storage.of(settings)


@pytest.fixture(scope="module")
def engine_room(settings: Settings, database: Database) -> Iterator[None]:
    with workers_of(settings):
        yield
