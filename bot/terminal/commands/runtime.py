"""What most commands need: settings, database, storage, and who is acting."""

import getpass
import logging
import os
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated

import typer
from pydantic import ValidationError
from redis.exceptions import RedisError

from core.access import Actor
from core.db.migrate import ensure_current
from core.db.session import Database
from core.errors import InvalidInputError, UnavailableError
from core.queue import QueueName, connect, worker_count
from core.settings import Settings
from core.storage import Storage
from core.tasks.dispatcher import nudge
from core.wizard.conversation import Conversation

WorkspaceOption = Annotated[str, typer.Option("--workspace", help="Workspace to act in; default: the installation's.")]


def load_settings() -> Settings:
    """The settings of the environment, and logging set up by them.

    Raises:
        InvalidInputError: naming each variable that holds an unusable value.
    """
    try:
        settings = Settings()
    except ValidationError as error:
        lines = [f"STATIONMASTER_{str(item['loc'][0]).upper()}: {item['msg']}" for item in error.errors()]
        raise InvalidInputError("Settings cannot be used. " + "; ".join(lines) + ".", "Mend them in the environment or in .env.") from error
    logging.basicConfig(
        level=settings.log_level if "STATIONMASTER_LOG_LEVEL" in os.environ else "WARNING",
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
    )
    logging.getLogger("alembic").setLevel(logging.WARNING)  # which migrations there are concerns nobody while they go well
    return settings


@dataclass
class Runtime:
    """Settings, database and storage, each opened at first use."""

    settings: Settings
    workspace: str

    @classmethod
    def load(cls, workspace: str = "") -> "Runtime":
        """From the environment."""
        settings = load_settings()
        return cls(settings, workspace or settings.workspace)

    @cached_property
    def database(self) -> Database:
        """The database, its tables up to date."""
        database = Database.of(self.settings)
        ensure_current(database)
        return database

    @cached_property
    def storage(self) -> Storage:
        """The storage."""
        try:
            return Storage.of(self.settings)
        except (ImportError, ValueError, OSError) as error:
            raise UnavailableError(f"The storage cannot be used: {error}.", "Check STATIONMASTER_STORAGE_URL.") from error

    @cached_property
    def actor(self) -> Actor:
        """The person at the keyboard: whoever can run commands on the host is an admin."""
        try:
            name = getpass.getuser()
        except (KeyError, OSError):
            name = str(os.getuid())
        return Actor(self.workspace, f"cli:{name}", name, admin=True)

    @cached_property
    def conversation(self) -> Conversation:
        """The wizard."""
        return Conversation(self.database, self.storage, self.settings, on_start=self.wake_queue)

    def wake_queue(self) -> None:
        """Have the queue take new work at once. Without a queue it stays in the database, where the next `up` finds it."""
        nudge(self.database, self.settings)

    def training_workers(self) -> int | None:
        """How many workers can train now: 0 where the embedded queue does not run, None where a server of the operator's does not answer."""
        try:
            return self._workers("gpu")
        except (UnavailableError, RedisError):
            return None if self.settings.redis_url.get_secret_value() else 0

    def light_workers(self) -> int:
        """How many workers take light jobs now: 0 without a queue."""
        try:
            return self._workers("light")
        except (UnavailableError, RedisError):
            return 0

    def _workers(self, queue: QueueName) -> int:
        return worker_count(connect(self.settings), self.settings, queue)
