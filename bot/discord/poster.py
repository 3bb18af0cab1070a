"""Messages of a task's thread, posted once, found again after a crash, and changed as often as Discord likes."""

import asyncio
import hashlib
import logging
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import CancelledError as FutureCancelledError
from concurrent.futures import TimeoutError as FutureTimeoutError
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import discord

from bot.discord.answers import OLD_MESSAGE, UNKNOWN_MESSAGE
from bot.discord.keeping import open_again
from bot.discord.office import DEFAULT_LIMIT, Office
from bot.discord.people import FACE
from bot.discord.render import Shown, load_pictures, mark_of, thread_message
from bot.discord.sheet import Drawn
from bot.posting import ChatError, NotYetError
from core.access import Place
from core.wizard.screens import Message, Text

logger = logging.getLogger(__name__)

Result = TypeVar("Result")

UNKNOWN_CHANNEL, THREAD_ARCHIVED, THREAD_LOCKED = 10003, 50083, 160005
MAX_NONCE = 25
HISTORY = 200  # messages looked through for one of ours
EDITABLE = timedelta(minutes=59)  # an older message takes few edits more, so a fresh one takes its place
REQUEST_SECONDS = 60.0
# Discord shuts out bots that keep asking for what they may not: each pause is twice as long as the last one.
FORBIDDEN_PAUSE, LONGEST_PAUSE = 60.0, 3600.0
TROUBLE_PAUSE = 5.0


@dataclass(frozen=True)
class _Pause:
    """A channel that refused something is left alone `until` then, by `time.monotonic`."""

    until: float
    seconds: float
    reason: str


class DiscordPoster:
    """The notifier's way to Discord; called from its thread, it works in the bot's event loop."""

    face = FACE
    edits_per_minute = 0

    def __init__(self, office: Office, client: discord.Client, loop: Callable[[], asyncio.AbstractEventLoop | None]) -> None:
        self.office = office
        self.client = client
        self._loop = loop
        self._pauses: dict[str, _Pause] = {}

    def wants(self, place: Place) -> bool:
        """Every place of Discord, once the bot is connected."""
        return place.face == FACE and self._loop() is not None and self.client.is_ready()

    def find(self, place: Place, key: str) -> str:
        """The newest message that carries the key's mark."""
        return self._run(place, lambda: self._find(_target(place), key), writes=False)

    def post(self, place: Place, message: Message) -> str:
        """Post in the thread."""
        pictures = self._pictures(place, message)
        return self._run(place, lambda: self._send(place, thread_message(message, pictures, mark_of(message.key)), _nonce(message.key)))

    def announce(self, place: Place, message: Message) -> None:
        """See `Announcer`."""
        channel = self._board(place)
        if channel is None:
            return
        key = f"{message.key}:announcement"
        line = Message(key, (Text(message.announcement),))
        try:
            if not self.find(channel, key):
                drawn = thread_message(line, {}, mark_of(key), links=f"<#{_target(place)}>")
                self._run(channel, lambda: self._send(channel, drawn, _nonce(key)))
        except ChatError as error:
            logger.warning("the channel of %s was not told: %s", message.key, error)

    def opened(self, thread_id: int) -> None:
        """A thread that was closed is open again: what it refused is told at once."""
        self._pauses.pop(str(thread_id), None)

    def edit(self, place: Place, message_id: str, message: Message) -> str:
        """Change a message; an old one is replaced by a fresh one, a deleted one too."""
        pictures = self._pictures(place, message)
        return self._run(place, lambda: self._edit(place, message_id, message, pictures))

    def _board(self, place: Place) -> Place | None:
        """Where results are announced; nowhere beside a conversation that is held in place: between two, in the channel itself, or in a post of
        a forum, which takes nothing but posts.
        """
        if wanted := self.office.settings.discord_announcements.strip():
            return Place(FACE, wanted)
        if not place.thread or isinstance(self.client.get_channel(int(place.channel)), discord.ForumChannel):
            return None
        return Place(FACE, place.channel)

    def _pictures(self, place: Place, message: Message) -> Shown:
        channel = self.client.get_channel(_target(place))
        if not isinstance(channel, discord.abc.GuildChannel | discord.Thread):
            return load_pictures(message.blocks, self.office.picture, DEFAULT_LIMIT)
        if not channel.permissions_for(channel.guild.me).attach_files:
            return {}  # the words are told all the same, and that a picture cannot be shown
        return load_pictures(message.blocks, self.office.picture, channel.guild.filesize_limit)

    async def _find(self, channel_id: int, key: str) -> str:
        mark = mark_of(key)
        async for message in self._channel(channel_id).history(limit=HISTORY):
            own = self.client.user is not None and message.author.id == self.client.user.id
            if own and message.components and getattr(message.components[0], "id", None) == mark:
                return str(message.id)
        return ""

    async def _send(self, place: Place, drawn: Drawn, nonce: str) -> str:
        async def send() -> discord.Message:
            return await self._channel(_target(place)).send(view=drawn.view, files=drawn.uploads(), nonce=nonce)

        return str((await self._awake(place, send)).id)

    async def _edit(self, place: Place, message_id: str, message: Message, pictures: Shown) -> str:
        drawn = thread_message(message, pictures, mark_of(message.key))
        old = self._channel(_target(place)).get_partial_message(int(message_id))
        if discord.utils.utcnow() - old.created_at < EDITABLE:

            async def edit() -> discord.Message:
                return await old.edit(view=drawn.view, attachments=drawn.uploads())

            try:
                await self._awake(place, edit)
                return message_id
            except discord.HTTPException as error:
                if error.code not in (OLD_MESSAGE, UNKNOWN_MESSAGE):
                    raise
        # A crash may have come between a fresh message and its id being kept.
        found = await self._find(_target(place), message.key)
        if found and int(found) > old.id:
            return await self._edit(place, found, message, pictures)
        fresh = await self._send(place, drawn, _nonce(f"{message.key}:{message_id}"))
        try:
            await old.delete()
        except discord.HTTPException as error:
            logger.info("an old message stays beside its successor: %s", error)
        return fresh

    async def _awake(self, place: Place, request: Callable[[], Coroutine[Any, Any, discord.Message]]) -> discord.Message:
        """Do it; an archived thread is opened first, as a training goes on in it."""
        try:
            return await request()
        except discord.HTTPException as error:
            if error.code != THREAD_ARCHIVED or not place.thread:
                raise
        await open_again(self.client, int(place.thread))
        return await request()

    def _channel(self, channel_id: int) -> discord.PartialMessageable:
        return self.client.get_partial_messageable(channel_id)

    def _run(self, place: Place, work: Callable[[], Coroutine[Any, Any, Result]], *, writes: bool = True) -> Result:
        """Run in the bot's loop and wait; Discord's refusals become the notifier's. What is locked can still be read: only writing shows that it is not."""
        where, loop = str(_target(place)), self._loop()
        pause = self._pauses.get(where)
        if pause is not None and time.monotonic() < pause.until:
            raise NotYetError(pause.reason)
        if loop is None or loop.is_closed():
            raise ChatError("the bot is not connected")
        task = asyncio.run_coroutine_threadsafe(work(), loop)
        try:
            result = task.result(REQUEST_SECONDS)
        except (FutureTimeoutError, FutureCancelledError) as error:
            task.cancel()
            raise ChatError("Discord does not answer") from error
        except discord.HTTPException as error:
            gone = error.code == UNKNOWN_CHANNEL
            if not gone:
                self._pauses[where] = _pause_after(error, pause)
            raise ChatError(str(error), gone=gone) from error
        except (OSError, RuntimeError, discord.DiscordException) as error:
            raise ChatError(f"{type(error).__name__}: {error}") from error
        if writes:
            self._pauses.pop(where, None)
        return result


def _pause_after(error: discord.HTTPException, before: _Pause | None) -> _Pause:
    """How long a channel is left alone that has refused something, after the pause `before`."""
    closed = error.status in (401, 403) or error.code in (THREAD_ARCHIVED, THREAD_LOCKED)
    seconds = TROUBLE_PAUSE
    if closed:
        seconds = FORBIDDEN_PAUSE if before is None else min(LONGEST_PAUSE, max(FORBIDDEN_PAUSE, 2 * before.seconds))
    return _Pause(time.monotonic() + seconds, seconds, str(error))


def _target(place: Place) -> int:
    return int(place.thread or place.channel)


def _nonce(key: str) -> str:
    """Discord posts only one message with a nonce within some minutes."""
    return key if len(key) <= MAX_NONCE else hashlib.sha256(key.encode()).hexdigest()[:MAX_NONCE]
