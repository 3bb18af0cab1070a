"""A server with the real bot in it; every request is held against what Discord itself would refuse."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import pytest
import simcord.http.client
from discord_permissions import apply_rules_of_threads
from discord_rules import problems
from discord_world import Clock, Sent, Training, World, laboratory, words
from new_tasks import training_of
from simcord.env import Env

import bot.discord.poster
import bot.notifier
from bot.discord.app import StationmasterBot, create_bot
from core.access import Place
from core.db.session import Database
from core.db.tables import Job
from core.settings import Settings
from core.storage import Storage
from core.tasks.creation import create_task
from core.tasks.hyperparameters import TrainingPlan


@pytest.fixture(autouse=True)
def requests(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Sent]]:
    """All requests of the test; it fails when Discord would have refused one."""
    sent: list[Sent] = []
    wrong: list[str] = []
    dispatch = simcord.http.client.router.dispatch

    def recording(backend: Any, method: str, path: str, **more: Any) -> Any:
        files = [(file.filename, file.fp.getvalue()) for file in more.get("files") or []]
        sent.append(Sent(method, path, more.get("json"), files))
        wrong.extend(problems(method, path, more.get("json"), files))
        return dispatch(backend, method, path, **more)

    monkeypatch.setattr(simcord.http.client.router, "dispatch", recording)
    yield sent
    assert not wrong, "\n".join(dict.fromkeys(wrong))


@pytest.fixture(autouse=True)
def _rules_of_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    apply_rules_of_threads(monkeypatch)


@pytest.fixture
def simcord_bot(settings: Settings, database: Database, storage: Storage) -> StationmasterBot:
    return create_bot(settings, database=database, storage=storage, notifies=False)


@pytest.fixture
def world(simcord_env: Env, settings: Settings, database: Database, storage: Storage, requests: list[Sent]) -> World:
    return laboratory(simcord_env, settings, database, storage, requests)


@pytest.fixture
def said() -> Callable[[Any], str]:
    """All text of an answer to an interaction."""
    return lambda result: words(result.response.components) if result.response else ""


@pytest.fixture
def clock(world: Any, monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock(world)
    monkeypatch.setattr(bot.notifier, "now", clock)
    monkeypatch.setattr(bot.discord.poster.discord.utils, "utcnow", lambda: world.env.now())
    return clock


@pytest.fixture
def started(world: Any, add_dataset: Callable[..., Any], clock: Clock) -> Callable[..., Any]:
    async def start(place: Place | None = None) -> Training:
        pets = add_dataset("pets")
        if place is None:
            await world.ada.slash(world.channel, "train")
            await world.click("Cancel")
            place = Place("discord", str(world.channel.id), str(world.thread.id))
        with world.database.write() as session:
            new = training_of(pets, person=f"discord:{world.ada.id}", name="Pets", plans=[TrainingPlan(image_size=64)], place=place)
            task = create_task(session, world.settings, new)
            job = session.query(Job).one()
        return Training(world, task, job, clock)

    return start


@pytest.fixture
def crash(monkeypatch: pytest.MonkeyPatch) -> Callable[[], AbstractContextManager[None]]:
    """The process dies before it has kept what it told."""

    @contextmanager
    def crashing() -> Iterator[None]:
        def die(*_: Any, **__: Any) -> None:
            raise KeyboardInterrupt

        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(bot.notifier.Notifier, "_save", die)
            yield

    return crashing
