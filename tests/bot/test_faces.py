"""Faces plug in by a module and run together with the notifier until told to end."""

import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
from installation import wait_until
from pydantic import SecretStr

from bot import faces
from bot.faces import Face, configured_faces, run_faces
from core.access import Place
from core.db.migrate import ensure_current
from core.db.session import Database
from core.errors import InvalidInputError, UnavailableError
from core.settings import Settings
from core.storage import Storage
from core.wizard.screens import Message


class Pager:
    """A platform of our own, to stand for Slack or Discord."""

    face = "pager"
    edits_per_minute = 0

    def __init__(self) -> None:
        self.poster = self
        self.works = True
        self.stopped = False

    def alive(self) -> bool:
        return self.works

    def stop(self) -> None:
        self.stopped = True

    def wants(self, place: Place) -> bool:
        return True

    def find(self, place: Place, key: str) -> str:
        return ""

    def post(self, place: Place, message: Message) -> str:
        return message.key

    def edit(self, place: Place, message_id: str, message: Message) -> str:
        return message_id


@pytest.fixture
def pager(monkeypatch: pytest.MonkeyPatch) -> Iterator[Pager]:
    connection = Pager()
    module = ModuleType("pager_for_tests")

    def start(_settings: Settings, _database: Database, _storage: Storage) -> Pager:
        return connection

    vars(module)["start"] = start
    module.__spec__ = __spec__
    monkeypatch.setitem(sys.modules, "pager_for_tests", module)
    monkeypatch.setattr(faces, "FACES", (Face("pager", "Pager", "pager_for_tests", ("discord_token",)),))
    yield connection


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    made = Settings(home=tmp_path / "home", discord_token=SecretStr("token"))
    ensure_current(Database.of(made))
    return made


def test_a_face_runs_until_told_to_end(pager: Pager, settings: Settings) -> None:
    stop = threading.Event()
    faults: list[BaseException] = []

    def work() -> None:
        try:
            run_faces(settings, Database.of(settings), Storage.of(settings), stop)
        except BaseException as error:  # noqa: BLE001 (handed to the test)
            faults.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    wait_until(lambda: any(thread.name == "notifier" for thread in threading.enumerate()), 60)
    stop.set()
    thread.join(60)
    assert not thread.is_alive()
    assert pager.stopped
    assert faults == []
    assert not any(thread.name in ("notifier", "duties") for thread in threading.enumerate())


def test_a_face_that_ends_by_itself_ends_the_bot_with_a_reason(pager: Pager, settings: Settings) -> None:
    pager.works = False
    with pytest.raises(UnavailableError, match="Pager ended by itself"):
        run_faces(settings, Database.of(settings), Storage.of(settings), threading.Event())
    assert pager.stopped


def test_without_any_face(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path / "home")
    assert configured_faces(settings) == ()
    with pytest.raises(UnavailableError, match="No chat is configured"):
        run_faces(settings, Database.of(settings), Storage.of(settings), threading.Event())


def test_half_a_configuration_and_a_face_that_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InvalidInputError, match="STATIONMASTER_SLACK_BOT_TOKEN is not set"):
        configured_faces(Settings(home=tmp_path, slack_app_token=SecretStr("xapp-1")))
    monkeypatch.setattr(faces, "FACES", (Face("telex", "Telex", "bot.telex.app", ("discord_token",)),))
    with pytest.raises(UnavailableError, match="this version has no Telex face"):
        configured_faces(Settings(home=tmp_path, discord_token=SecretStr("token")))
