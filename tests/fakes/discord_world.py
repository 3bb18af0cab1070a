"""A server of Discord in memory (simcord) with the real bot in it, what people see and press there, and trainings as workers tell them."""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from discord_permissions import MEMBERS, grant, invited
from discord_rules import walk
from PIL import Image
from simcord.actors import MemberActor
from simcord.builders import ChannelHandle, GuildHandle, RoleHandle
from simcord.env import Env
from simcord.results import InteractionResult, ResponseMessage

from bot.discord.app import StationmasterBot, create_bot
from bot.notifier import Notifier
from core.clock import now
from core.db.session import Database
from core.db.tables import Delivery, Job, Task
from core.events import Progress
from core.settings import Settings
from core.storage import Storage
from core.tasks.lifecycle import NewModel, claim_job, complete_task, finish_job, record_event


@dataclass
class Sent:
    """One request of the bot's."""

    method: str
    path: str
    body: Any
    files: list[tuple[str, bytes]]


@dataclass
class World:
    """A server with a channel and two people; Ada trains, Bob looks on. The bot has the permissions of the invite link, and no others."""

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

    def join(self, name: str, *roles: RoleHandle) -> MemberActor:
        """Somebody else comes into the server."""
        return self.guild.add_member(self.env.create_user(name), roles=[self.guild.roles["members"], *roles])

    async def restart(self) -> None:
        """Another process takes over: a new bot that knows nothing but the database."""
        self._notifier = None
        await self.env.restart_bot(create_bot(self.settings, database=self.database, storage=self.storage, notifies=False))

    async def tick(self) -> None:
        """The notifier goes over all threads once."""
        self._notifier = self._notifier or Notifier(self.database, self.storage, (self.bot.poster,), lambda: 1)
        await asyncio.to_thread(self._notifier.tick)

    async def choose(self, value: str, action: str = "", *, who: MemberActor | None = None, where: Any = None) -> InteractionResult:
        """Choose an option of the wizard, by its own button or in its menu."""
        message = where or self.wizard
        own = [item for item in walk(message.components) if item["type"] == 2 and f"|choose:{action}" in item["custom_id"]]
        button = next((item for item in own if item["custom_id"].endswith(f"|{value}")), None)
        if button is not None:
            return await (who or self.ada).click(message, custom_id=button["custom_id"])
        menus = [item for item in walk(message.components) if item["type"] == 3]
        menu = next(item for item in menus if not action or item["custom_id"].endswith(f"|choose:{action}|"))
        return await (who or self.ada).select(message, [value], custom_id=menu["custom_id"])

    async def open(self, listed: Any, about: str, *, who: MemberActor | None = None) -> InteractionResult:
        """Press the button beside an entry of a list; `about` is the id of what it leads to."""
        message = listed.response if isinstance(listed, InteractionResult) else listed
        button = next(item for item in walk(message.components) if item["type"] == 2 and item["custom_id"].endswith(f":show|{about}"))
        return await (who or self.ada).click(message, custom_id=button["custom_id"])

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


def laboratory(env: Env, settings: Settings, database: Database, storage: Storage, requests: list[Sent]) -> World:
    """A server with a channel, Ada and Bob, and the bot invited with the guide's link."""
    guild = env.create_guild("Laboratory")
    grant(env, guild, invited())
    guild.create_role("members", permissions=MEMBERS)
    channel = guild.create_text_channel("training")
    world = World(env, settings, database, storage, guild, channel, None, None, requests)  # type: ignore[arg-type]
    world.ada, world.bob = world.join("ada"), world.join("bob")
    return world


def newest(env: Env, channel: ChannelHandle) -> ResponseMessage:
    """The newest message of a channel that everybody sees and that has components."""
    messages = [message for message in env.backend.messages[channel.id].values() if not message.is_ephemeral and message.components]
    return ResponseMessage(env, messages[-1])


def words(components: Any) -> str:
    parts = []
    for item in walk(components):
        parts += [str(item[key]) for key in ("content", "label", "placeholder") if item.get(key)]
        parts += [option["label"] for option in item.get("options") or []]
    return "\n".join(parts)


class Clock:
    """The notifier's clock, which the test moves on; the server's moves with it."""

    def __init__(self, world: Any) -> None:
        self.world = world
        self.passed = timedelta()

    def __call__(self) -> datetime:
        return now() + self.passed

    async def passes(self, seconds: float) -> None:
        self.passed += timedelta(seconds=seconds)
        await self.world.env.advance_time(seconds)


@dataclass
class Training:
    """A task that was started in Ada's thread, driven by the calls that workers make."""

    world: Any
    task: Task
    job: Job
    clock: Clock
    sequence: int = 0

    def claim(self) -> None:
        with self.world.database.write() as session:
            assert claim_job(session, self.job.id, 1, worker="w", device="CPU")

    def tell(self, epoch: int, fraction: float, **more: Any) -> None:
        self.sequence += 1
        event = Progress(
            epoch=epoch, epochs=10, step=1, steps=10, fraction=fraction, loss=0.5, learning_rate=0.001, images_per_second=400, **more
        )
        with self.world.database.write() as session:
            record_event(session, self.job.id, 1, event, sequence=self.sequence)

    def finish(self) -> None:
        key = f"models/{self.task.id}"
        for name, size in (("curves", 400), ("confusion_matrix", 300)):
            with self.world.storage.writing(f"{key}/{name}.png") as file:
                Image.new("RGB", (size, size), "white").save(file, "PNG")
        with self.world.database.write() as session:
            finish_job(session, self.job.id, 1, score=0.986, metrics={"accuracy": 0.986, "baseline_accuracy": 0.114})
        report = {name: f"{key}/{name}.png" for name in ("curves", "confusion_matrix")}
        with self.world.database.write() as session:
            complete_task(session, self.job.id, 1, NewModel(key, ["cat", "dog"], report=report))

    @property
    def state(self) -> str:
        with self.world.database.read() as session:
            return session.get_one(Task, self.task.id).state

    @property
    def delivery(self) -> Delivery:
        with self.world.database.read() as session:
            return session.get_one(Delivery, (self.task.id, "discord"))
