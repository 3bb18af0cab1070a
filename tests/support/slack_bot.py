"""A bot that is really connected to a local Slack, and people who talk to it: fixtures for the conftest of whoever wants them."""

from collections.abc import Callable, Iterator

import pytest
from pydantic import SecretStr
from slack_person import Person
from slack_server import APP_TOKEN, BOT_TOKEN, FakeSlack

import bot.slack.app
from bot.notifier import Notifier
from bot.slack.app import RunningSlack
from core.db.session import Database
from core.settings import Settings
from core.storage import Storage


class Bot:
    """The face in this process; it can be restarted, and keeps nothing."""

    def __init__(self, settings: Settings, database: Database, storage: Storage) -> None:
        self.settings, self.database, self.storage = settings, database, storage
        self.face: RunningSlack = bot.slack.app.start(settings, database, storage)
        self.notifier = self._notifier()

    def _notifier(self) -> Notifier:
        return Notifier(self.database, self.storage, (self.face.poster,), lambda: 1)

    def settle(self) -> None:
        assert self.face.board.settle(30)

    def restart(self) -> None:
        self.face.stop()
        self.face = bot.slack.app.start(self.settings, self.database, self.storage)
        self.notifier = self._notifier()

    def stop(self) -> None:
        self.face.stop()


@pytest.fixture
def slack() -> Iterator[FakeSlack]:
    with FakeSlack() as slack:
        yield slack
        assert not slack.violations, "\n".join(slack.violations)


@pytest.fixture
def slack_settings(settings: Settings, slack: FakeSlack) -> Settings:
    return settings.model_copy(
        update={"slack_api_url": slack.api_url, "slack_bot_token": SecretStr(BOT_TOKEN), "slack_app_token": SecretStr(APP_TOKEN)}
    )


@pytest.fixture
def running(slack_settings: Settings, database: Database, storage: Storage) -> Iterator[Bot]:
    running = Bot(slack_settings, database, storage)
    yield running
    running.stop()


@pytest.fixture
def person(slack: FakeSlack, running: Bot) -> Person:
    return Person(slack, running.settle)


@pytest.fixture
def grace_at_slack(slack: FakeSlack, running: Bot) -> Person:
    return Person(slack, running.settle, "U0000GRACE")


@pytest.fixture
def root(slack: FakeSlack, running: Bot) -> Person:
    return Person(slack, running.settle, "U0000ROOT")


StartBot = Callable[..., Bot]


@pytest.fixture
def start_bot(slack_settings: Settings, database: Database, storage: Storage) -> Iterator[StartBot]:
    """Starts a bot with other settings than usual."""
    started: list[Bot] = []

    def start(**changes: object) -> Bot:
        bot = Bot(slack_settings.model_copy(update=changes), database, storage)
        started.append(bot)
        return bot

    yield start
    for bot_ in started:
        bot_.stop()
