"""An engine room that really works, one for the tests of a module: a worker takes its time to start."""

import os
import sys
from collections.abc import Iterator
from subprocess import Popen

import pytest
from slack_bot import grace_at_slack, person, root, running, slack, slack_settings, start_bot

from bot.terminal.embedded_valkey import EmbeddedValkey
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
    """Valkey, and a worker of each kind, as processes."""
    valkey = EmbeddedValkey(settings)
    valkey.start()
    kept = {name: value for name, value in os.environ.items() if not name.startswith("STATIONMASTER_")}
    environment = kept | {"STATIONMASTER_HOME": str(settings.home), "STATIONMASTER_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": ""}
    workers = [Popen([sys.executable, "-m", "worker", "--kind", kind], env=environment) for kind in ("gpu", "light")]
    yield
    for worker in workers:
        worker.terminate()
    for worker in workers:
        worker.wait(60)
    valkey.stop()
