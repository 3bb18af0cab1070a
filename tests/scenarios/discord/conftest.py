"""A server of Discord in memory (simcord), the real bot in it, and every request held against what Discord itself would refuse."""

import asyncio
import importlib.util
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import simcord.http.client
from simcord.actors import MemberActor
from simcord.builders import ChannelHandle, GuildHandle
from simcord.env import Env
from simcord.results import InteractionResult, ResponseMessage

from bot.discord.app import StationmasterBot, create_bot
from bot.notifier import Notifier
from core.db.session import Database
from core.settings import Settings
from core.storage import Storage

CHECKS = Path(__file__).parents[2] / "bot" / "discord" / "api_checks.py"


@pytest.fixture(scope="session")
def problems() -> Callable[..., list[str]]:
    spec = importlib.util.spec_from_file_location("discord_api_checks", CHECKS)
    assert spec is not None and spec.loader is not None
    module: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.problems


@dataclass
class Sent:
    """One request of the bot's."""

    method: str
    path: str
    body: Any
    files: list[tuple[str, bytes]]


@pytest.fixture(autouse=True)
def requests(monkeypatch: pytest.MonkeyPatch, problems: Callable[..., list[str]]) -> Iterator[list[Sent]]:
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


@pytest.fixture
def simcord_bot(settings: Settings, database: Database, storage: Storage) -> StationmasterBot:
    return create_bot(settings, database=database, storage=storage, notifies=False)


@dataclass
class World:
    """A server with a channel and two people; Ada trains, Bob looks on."""

    env: Env
    settings: Settings
    database: Database
    storage: Storage
    guild: GuildHandle
    channel: ChannelHandle
    ada: MemberActor
    bob: MemberActor
    requests: list[Sent]
    _notifier: Notifier | None = field(default=None)

    @property
    def bot(self) -> StationmasterBot:
        bot = self.env.bot
        assert isinstance(bot, StationmasterBot)
        return bot

    @property
    def thread(self) -> ChannelHandle:
        """The newest thread."""
        return self.channel.threads[-1]

    async def restart(self) -> None:
        """Another process takes over: a new bot that knows nothing but the database."""
        self._notifier = None
        await self.env.restart_bot(create_bot(self.settings, database=self.database, storage=self.storage, notifies=False))

    async def tick(self) -> None:
        """The notifier goes over all threads once."""
        self._notifier = self._notifier or Notifier(self.database, self.storage, (self.bot.poster,), lambda: 1)
        await asyncio.to_thread(self._notifier.tick)

    async def choose(self, value: str, action: str = "", *, who: MemberActor | None = None, where: Any = None) -> InteractionResult:
        """Choose an option of the wizard's menu."""
        message = where or self.wizard
        menus = [item for item in walk(message.components) if item["type"] == 3]
        menu = next(item for item in menus if not action or item["custom_id"].endswith(f"|choose:{action}|"))
        return await (who or self.ada).select(message, [value], custom_id=menu["custom_id"])

    async def click(self, label: str, *, who: Any = None, where: Any = None) -> InteractionResult:
        """Press a button of the wizard's message."""
        return await (who or self.ada).click(where or self.wizard, label=label)

    @property
    def wizard(self) -> ResponseMessage:
        """The newest message of the newest thread."""
        return newest(self.env, self.thread)

    def posts(self, channel: ChannelHandle) -> list[str]:
        """The words of all messages of a channel, oldest first."""
        stored = self.env.backend.messages[channel.id].values()
        return [words(message.components) for message in stored if not message.is_ephemeral and message.components]

    def walk(self, components: Any) -> Iterator[dict[str, Any]]:
        """All components, nested ones too."""
        return walk(components)

    def controls(self, message: Any = None) -> dict[str, str]:
        """The custom_ids of the buttons of a message, by their labels."""
        items = walk((message or self.wizard).components)
        return {item["label"]: item["custom_id"] for item in items if item["type"] == 2}

    async def press(self, custom_id: str, *, who: MemberActor | None = None, where: Any = None) -> InteractionResult:
        """Press what stood on a message before it changed: the presser's client did not know yet."""
        message = where or self.wizard
        stored = message._message
        now, stored.components = (
            stored.components,
            [
                {
                    "type": 17,
                    "id": 1,
                    "components": [
                        {"type": 1, "id": 2, "components": [{"type": 2, "id": 3, "style": 1, "label": "old", "custom_id": custom_id}]}
                    ],
                }
            ],
        )
        result = await (who or self.ada).click(message, custom_id=custom_id)
        if stored.components and stored.components[0].get("id") == 1 and custom_id in str(stored.components):
            stored.components = now
        return result

    async def to_review(self, dataset: Any) -> None:
        """Ada has answered everything but Start."""
        await self.ada.slash(self.channel, "train")
        await self.click("Next")
        await self.choose("single-label")
        await self.click("Next")
        await self.choose(dataset.id)
        await self.click("Next")
        await self.choose("photo", "data-type")
        await self.click("Next")
        await self.click("Next")

    def words(self, message: Any = None) -> str:
        """All text of a message, markdown and labels."""
        return words((message or self.wizard).components)


def newest(env: Env, channel: ChannelHandle) -> ResponseMessage:
    """The newest message of a channel that everybody sees and that has components."""
    messages = [message for message in env.backend.messages[channel.id].values() if not message.is_ephemeral and message.components]
    return ResponseMessage(env, messages[-1])


def walk(components: Any) -> Iterator[dict[str, Any]]:
    for component in components or []:
        yield component
        yield from walk(component.get("components"))
        for key in ("accessory", "component"):
            if key in component:
                yield from walk([component[key]])


def words(components: Any) -> str:
    parts = []
    for item in walk(components):
        parts += [str(item[key]) for key in ("content", "label", "placeholder") if item.get(key)]
        parts += [option["label"] for option in item.get("options") or []]
    return "\n".join(parts)


@pytest.fixture
def world(simcord_env: Env, settings: Settings, database: Database, storage: Storage, requests: list[Sent]) -> World:
    guild = simcord_env.create_guild("Laboratory")
    channel = guild.create_text_channel("training")
    ada, bob = (guild.add_member(simcord_env.create_user(name)) for name in ("ada", "bob"))
    return World(simcord_env, settings, database, storage, guild, channel, ada, bob, requests)


@pytest.fixture
def said() -> Callable[[Any], str]:
    """All text of an answer to an interaction."""
    return lambda result: words(result.response.components) if result.response else ""
