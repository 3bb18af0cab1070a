"""What all listeners share: the wizard and the desk behind, Slack's clients before, and a private word to whoever acts."""

import logging
from collections.abc import Callable
from typing import Any

from slack_sdk import WebClient
from slack_sdk.errors import SlackApiError, SlackClientError
from slack_sdk.webhook import WebhookClient

from bot.desk.desk import Desk
from bot.once import release, take
from bot.slack.caller import Caller
from bot.slack.clients import Clients
from bot.slack.forms import notice_view
from bot.slack.people import People
from bot.slack.pictures import Gallery, error_code, without_pictures
from bot.slack.render import section
from bot.slack.text import Json, clip, literal
from bot.slack.work import Work
from core.access import Actor
from core.db.session import Database
from core.errors import StationmasterError
from core.settings import Settings
from core.storage import Storage
from core.tasks.dispatcher import nudge
from core.wizard.conversation import Conversation

logger = logging.getLogger(__name__)

SLOW_THREADS = 16
INVITE = "I am no member here. Invite me with `/invite @Stationmaster` and try again, or write to me directly: I answer there too."
TROUBLE = "That did not work, and it is my fault. Try again; the bot's log says what happened."
NOT_MEMBER = frozenset({"not_in_channel", "channel_not_found"})


class Switchboard:
    """One installation's connections. Nothing here is needed after a restart: what matters is in the database."""

    def __init__(self, settings: Settings, database: Database, storage: Storage, clients: Clients, *, per_team: bool) -> None:
        self.settings = settings
        self.database = database
        self.storage = storage
        self.clients = clients
        self.people = People(settings, clients.of, per_team=per_team)
        self.conversation = Conversation(database, storage, settings, self.wake_queue)
        self.desk = Desk(database, storage, settings, self.wake_queue)
        self.gallery = Gallery(self.conversation.picture)
        self.work = Work()
        self.slow = Work(SLOW_THREADS)

    def settle(self, seconds: float) -> bool:
        """Wait until everything that was asked for is done; False where it takes longer."""
        # A picture's upload is slow work that ends in quick work.
        return self.slow.settle(seconds) and self.work.settle(seconds) and self.slow.settle(seconds) and self.work.settle(seconds)

    def close(self) -> None:
        """Take nothing more, and end what was begun."""
        self.slow.close()
        self.work.close()

    def wake_queue(self) -> None:
        """Have the queue take new work at once."""
        nudge(self.database, self.settings)

    def client(self, caller: Caller) -> WebClient:
        """The client of the caller's team."""
        return self.clients.of(caller.team)

    def later(
        self,
        caller: Caller,
        key: str,
        job: Callable[[Actor], None],
        *,
        once: str = "",
        slow: bool = False,
        complain: Callable[[str], None] | None = None,
    ) -> None:
        """Do a job after the acknowledgement, in order with others of its `key`, for a request that is taken `once`.

        What it raises is told to the caller alone, by `complain` or in the channel; what they cannot mend is logged too.
        A `slow` one fetches files or waits for a worker: others do not wait behind it.
        """
        say = complain or (lambda text: self.tell(caller, text))

        def run() -> None:
            try:
                if once and take(self.database, once) is not None:
                    logger.info("a request was delivered twice and is done once")
                    return
                try:
                    job(self.people.actor(caller))
                except StationmasterError as error:
                    say(str(error))
            except SlackApiError as error:
                code = error_code(error)
                if code in NOT_MEMBER:
                    say(INVITE)
                else:
                    logger.exception("Slack refused: %s %s", code, error.response.get("response_metadata"))
                    say(TROUBLE)
            except Exception as error:  # nobody must be left without an answer
                logger.exception("a request failed")
                if once:
                    self._let_again(once)
                say(str(error) if isinstance(error, StationmasterError) else TROUBLE)

        (self.slow if slow else self.work).submit(key, run)

    def tell(self, caller: Caller, text: str, blocks: list[Json] | None = None, *, replace: bool = False) -> None:
        """A word that only the caller sees: where they are, or else in a direct message. Never raises."""
        shown = blocks or [section(literal(text))]
        plain = clip(text, 3000)
        if caller.response_url and (replace or not caller.message) and self._respond(caller, plain, shown, replace=replace):
            return
        client = self.client(caller)
        if caller.channel:
            thread: dict[str, Any] = {"thread_ts": caller.thread} if caller.thread else {}
            try:
                client.chat_postEphemeral(channel=caller.channel, user=caller.user, text=plain, blocks=shown, **thread)
                return
            except (SlackClientError, OSError) as error:
                logger.info("no ephemeral message in %s: %s", caller.channel, error)
            if caller.response_url and self._respond(caller, plain, shown, replace=False):
                return
        try:
            client.chat_postMessage(channel=self.direct_channel(caller), text=plain, blocks=without_pictures(shown))
        except (SlackClientError, OSError) as error:
            logger.warning("%s could not be told anything: %s", caller.user, error)

    def say_in_dialog(self, caller: Caller, view_id: str, text: str) -> None:
        """A word in an open dialog; where it has been closed meanwhile, as `tell` does. Never raises."""
        try:
            self.client(caller).views_update(view_id=view_id, view=notice_view("Stationmaster", literal(text)))
        except (SlackClientError, OSError) as error:
            logger.info("a dialog is no longer open: %s", error)
            self.tell(caller, text)

    def direct_channel(self, caller: Caller) -> str:
        """The conversation of the bot with the caller alone."""
        return str(self.client(caller).conversations_open(users=caller.user)["channel"]["id"])

    def _respond(self, caller: Caller, text: str, blocks: list[Json], *, replace: bool) -> bool:
        try:
            # Ephemeral answers reach also channels that the bot is no member of.
            response = WebhookClient(caller.response_url, timeout=10).send(
                text=text, blocks=blocks, response_type="ephemeral", replace_original=replace
            )
        except (OSError, ValueError, SlackClientError) as error:
            logger.info("Slack did not take a response: %s", error)
            return False
        if response.status_code != 200:
            # Nothing is raised for these: the address has been used five times, or is half an hour old.
            logger.info("Slack did not take a response: %d %s", response.status_code, response.body[:200])
            return False
        return True

    def _let_again(self, key: str) -> None:
        try:
            release(self.database, key)
        except StationmasterError:
            logger.info("a failed request could not be released", exc_info=True)
