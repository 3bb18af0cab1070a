"""The Discord face: the whole bot built without network or token, and run in a thread of its own."""

import asyncio
import logging
import threading
from concurrent.futures import ThreadPoolExecutor

import discord
from discord.ext import commands as ext

from bot.discord import commands, desk, wizard
from bot.discord.answers import answering
from bot.discord.custom_ids import unpack
from bot.discord.items import PressButton, PressMenu
from bot.discord.keeping import keep_open
from bot.discord.office import Office
from bot.discord.people import data_of
from bot.discord.poster import DiscordPoster
from bot.links import Links, is_id
from bot.notifier import Notifier
from bot.workforce import TrainingWorkers
from core.db.migrate import ensure_current
from core.db.session import Database
from core.errors import InvalidInputError, UnavailableError
from core.settings import Settings
from core.storage import Storage

logger = logging.getLogger(__name__)

CONNECT_SECONDS = 60.0
THREADS = 64
STOP_SECONDS = 10.0


class StationmasterBot(ext.Bot):
    """All presses, dialogs and commands come in here and are handed over; it keeps no state of any conversation."""

    def __init__(self, office: Office, *, notifies: bool) -> None:
        """`notifies`: tell the threads itself; otherwise somebody else's notifier uses `poster`."""
        # Interactions bring everything a press needs. Servers, channels and threads are known by `guilds`; no privileged intent is asked for.
        intents = discord.Intents.none()
        intents.guilds = True
        super().__init__(
            command_prefix=ext.when_mentioned,
            help_command=None,
            intents=intents,
            allowed_mentions=discord.AllowedMentions.none(),
            allowed_contexts=discord.app_commands.AppCommandContext(guild=True, dm_channel=True, private_channel=False),
            allowed_installs=discord.app_commands.AppInstallationType(guild=True, user=False),
            max_messages=None,
            max_ratelimit_timeout=30,  # what has to wait longer is told later, by the notifier's next round
        )
        self.office = office
        self._home_loop: asyncio.AbstractEventLoop | None = None
        self.poster = DiscordPoster(office, self, lambda: self._home_loop)
        self._notifies = notifies
        self._stop_notifying = threading.Event()
        commands.register(self.tree, office)

    async def setup_hook(self) -> None:
        """Make buttons of earlier messages work, publish the commands, and begin to tell threads."""
        self._home_loop = asyncio.get_running_loop()
        # The core is called in threads, and some of its answers wait for a light worker. asyncio's own few would hold up everybody else's presses.
        self._home_loop.set_default_executor(ThreadPoolExecutor(THREADS, thread_name_prefix="discord"))
        self.add_dynamic_items(PressButton, PressMenu)
        await self.tree.sync()
        if self._notifies:
            self._stop_notifying = threading.Event()
            notifier = Notifier(
                self.office.database,
                self.office.storage,
                (self.poster,),
                TrainingWorkers(self.office.settings),
                Links.of(self.office.settings),
            )
            threading.Thread(target=notifier.run, args=(self._stop_notifying,), name="discord-notifier", daemon=True).start()

    async def close(self) -> None:
        """Disconnect."""
        self._stop_notifying.set()
        self._home_loop = None
        await super().close()

    async def pressed(self, interaction: discord.Interaction) -> None:
        """A button or a menu."""
        data = data_of(interaction)
        control = unpack(str(data.get("custom_id", "")).removeprefix("m"))
        if control is None:
            return
        chosen = str(next(iter(data.get("values") or []), ""))
        async with answering(interaction):
            await (wizard if control.draft_id else desk).pressed(self.office, interaction, control, chosen)

    async def on_interaction(self, interaction: discord.Interaction) -> None:
        """A dialog that was sent; discord.py itself forgets dialogs when the bot restarts."""
        if interaction.type is not discord.InteractionType.modal_submit:
            return
        control = unpack(str(data_of(interaction).get("custom_id", "")))
        if control is None:
            return
        async with answering(interaction):
            await (wizard if control.draft_id else desk).sent(self.office, interaction, control)

    async def on_raw_thread_update(self, payload: discord.RawThreadUpdateEvent) -> None:
        """A thread in which a training goes on does not stay in the archive; one that a moderator opens again is told what it has missed."""
        standing = payload.data["thread_metadata"]
        if standing.get("locked"):
            return
        if standing["archived"]:
            await keep_open(self.office, self, payload.thread_id)
        else:
            self.poster.opened(payload.thread_id)


def create_bot(
    settings: Settings, *, database: Database | None = None, storage: Storage | None = None, notifies: bool = True
) -> StationmasterBot:
    """The whole bot, commands and persistent views included, without any network or token.

    Raises:
        InvalidInputError: for a setting of Discord's that cannot be meant so.
        UnavailableError: when the database cannot be opened.
    """
    board = settings.discord_announcements.strip()
    if board and not is_id(board):
        raise InvalidInputError(
            f"STATIONMASTER_DISCORD_ANNOUNCEMENTS: “{board[:60]}” is no id of a channel.",
            "Copy the channel's id, which is a number (docs/discord.md).",
        )
    if database is None:
        database = Database.of(settings)
        ensure_current(database)
    return StationmasterBot(Office(settings, database, storage or Storage.of(settings)), notifies=notifies)


class RunningDiscord:
    """The bot in a thread of its own, with its own event loop. discord.py connects again by itself when Discord is away."""

    def __init__(self, settings: Settings, database: Database, storage: Storage) -> None:
        self._token = settings.discord_token.get_secret_value()
        self._settings, self._database, self._storage = settings, database, storage
        self._built = threading.Event()
        self._connected = threading.Event()
        self._failure: BaseException | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self.bot = create_bot(settings, database=database, storage=storage, notifies=False)
        self.poster = self.bot.poster
        self._thread = threading.Thread(target=self._run, name="discord", daemon=True)

    def start(self) -> None:
        """Log in. Raises UnavailableError when Discord does not let the bot in, or cannot be reached."""
        self._thread.start()
        if not self._connected.wait(CONNECT_SECONDS) or self._failure is not None:
            self.stop()
            raise UnavailableError(f"Discord does not let the bot in: {_reason(self._failure)}", _remedy(self._failure)) from self._failure

    def alive(self) -> bool:
        """Whether the bot's thread lives; it does while discord.py tries to connect again."""
        return self._thread.is_alive()

    def stop(self) -> None:
        """Disconnect. Never raises."""
        loop = self._loop
        if loop is not None and loop.is_running():
            asyncio.run_coroutine_threadsafe(self.bot.close(), loop)
        if self._thread.is_alive():
            self._thread.join(STOP_SECONDS)

    def _run(self) -> None:
        try:
            asyncio.run(self._talk())
        except Exception as error:  # told by `start`, or in the log when it comes later
            self._failure = error
            logger.log(logging.ERROR if self._connected.is_set() else logging.DEBUG, "Discord ended: %s", error, exc_info=error)
        finally:
            self._connected.set()

    async def _talk(self) -> None:
        self._loop = asyncio.get_running_loop()
        async with self.bot:
            await self.bot.login(self._token)
            self._connected.set()
            await self.bot.connect(reconnect=True)


def _reason(failure: BaseException | None) -> str:
    return str(failure) if failure is not None else f"no answer within {CONNECT_SECONDS:.0f} s."


def _remedy(failure: BaseException | None) -> str:
    if isinstance(failure, discord.LoginFailure):
        return "Check STATIONMASTER_DISCORD_TOKEN: it is shown once, under Bot in Discord's developer portal (docs/discord.md)."
    return "Check the network, then start again."


def start(settings: Settings, database: Database, storage: Storage) -> RunningDiscord:
    """Connect to Discord. Raises UnavailableError when that cannot be done."""
    running = RunningDiscord(settings, database, storage)
    running.start()
    return running
