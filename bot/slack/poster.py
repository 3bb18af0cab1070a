"""What the notifier has to say, posted in Slack threads; each message carries its key, so that none is posted twice."""

import logging
import threading
import time
from collections.abc import Callable
from typing import Any

from slack_sdk import WebClient
from slack_sdk.errors import SlackApiError, SlackClientError

from bot.posting import ChatError, NotYetError
from bot.slack.caller import FACE, team_and_channel
from bot.slack.clients import Clients
from bot.slack.pictures import RATE_LIMITED, Gallery, error_code
from bot.slack.render import fallback, message_blocks, section
from bot.slack.text import Json, literal
from core.access import Place
from core.errors import UnavailableError
from core.wizard.screens import Message

logger = logging.getLogger(__name__)

EVENT_TYPE = "stationmaster_message"
# The place is no more, or will never again take what we say.
GONE = frozenset(
    {"channel_not_found", "is_archived", "account_inactive", "team_not_found", "is_inactive", "user_disabled", "cannot_dm_bot"}
)
# The message is no more, or may not be changed any more: what it would have said is posted afresh.
LOST = frozenset({"message_not_found", "cant_update_message", "edit_window_closed", "update_failed"})
THREAD_LOST = frozenset({"thread_not_found", "cannot_reply_to_message", "invalid_thread_ts"})
FIRST_PAUSE, LONGEST_PAUSE = 2.0, 300.0
EDITS_PER_MINUTE = 40  # chat.update takes fifty a minute of a team; some are left for what people press
RETRY_SECONDS = 30.0  # after a 429 that does not say how long
PAGES = 20  # of a thread that are looked through for a message


class SlackPoster:
    """Posts, finds and changes the messages of task threads."""

    face = FACE
    edits_per_minute = EDITS_PER_MINUTE

    def __init__(self, clients: Clients, gallery: Gallery, announcements: str = "", clock: Callable[[], float] = time.monotonic) -> None:
        self.clients = clients
        self.gallery = gallery
        self.announcements = announcements
        self.clock = clock
        self._pauses: dict[Place, tuple[float, float]] = {}  # when to try again after a failure, and how long was waited
        self._asked: dict[str, float] = {}  # teams that Slack has asked us to wait for, and until when
        self._lock = threading.Lock()

    def wants(self, place: Place) -> bool:
        """Every thread of Slack."""
        return place.face == FACE

    def find(self, place: Place, key: str) -> str:
        """The ts of the message posted under `key`. One whose announcement was not made any more is announced now."""
        return self._attempt(place, lambda client, team, channel: self._find(client, team, channel, place, key))

    def post(self, place: Place, message: Message) -> str:
        """Post in the thread, and the announcement in the channel."""

        def act(client: WebClient, team: str, channel: str) -> str:
            ts = self._post(client, team, channel, place, message)
            if message.announcement:
                self._announce(client, channel, ts, message.key, message.announcement)
            return ts

        return self._attempt(place, act)

    def edit(self, place: Place, message_id: str, message: Message) -> str:
        """Change a message; where it is gone it is posted afresh."""

        def act(client: WebClient, team: str, channel: str) -> str:
            blocks, text, metadata = self._drawn(client, team, message)
            try:
                self.gallery.send(
                    lambda shown: client.chat_update(channel=channel, ts=message_id, blocks=shown, text=text, metadata=metadata), blocks
                )
            except SlackApiError as error:
                if error_code(error) not in LOST:
                    raise
                return self._post(client, team, channel, place, message)
            return message_id

        return self._attempt(place, act)

    # ------------------------------------------------------------ with one client

    def _post(self, client: WebClient, team: str, channel: str, place: Place, message: Message) -> str:
        blocks, text, metadata = self._drawn(client, team, message)

        def send(shown: list[Json], thread: str | None) -> str:
            return str(
                client.chat_postMessage(
                    channel=channel, thread_ts=thread, blocks=shown, text=text, metadata=metadata, unfurl_links=False, unfurl_media=False
                )["ts"]
            )

        try:
            return str(self.gallery.send(lambda shown: send(shown, place.thread or None), blocks))
        except SlackApiError as error:
            if not place.thread or error_code(error) not in THREAD_LOST:
                raise
            return str(self.gallery.send(lambda shown: send(shown, None), blocks))

    def _drawn(self, client: WebClient, team: str, message: Message) -> tuple[list[Json], str, Json]:
        blocks = message_blocks(message, self.gallery.files(client, team, message.blocks))
        payload = {"key": message.key} | ({"announcement": message.announcement} if message.announcement else {})
        return blocks, fallback(message.blocks), {"event_type": EVENT_TYPE, "event_payload": payload}

    def _find(self, client: WebClient, team: str, channel: str, place: Place, key: str) -> str:
        found = _marked(client, channel, place.thread, key)
        if found is None:
            return ""
        ts = str(found["ts"])
        announcement = str(_payload(found).get("announcement") or "")
        if announcement and _marked(client, self._board(channel) or channel, "", f"{key}:announcement", since=ts) is None:
            self._announce(client, channel, ts, key, announcement)
        return ts

    def _board(self, channel: str) -> str:
        """Where results are announced; nowhere for what goes on between two."""
        return self.announcements or ("" if channel.startswith("D") else channel)

    def _announce(self, client: WebClient, channel: str, ts: str, key: str, line: str) -> None:
        """Say it in one line. The message in the thread stands already: a failure here is only logged, but for a 429."""
        board = self._board(channel)
        if not board:
            return
        try:
            link = str(client.chat_getPermalink(channel=channel, message_ts=ts).get("permalink") or "")
        except SlackApiError as error:
            logger.info("no link to a message: %s", error_code(error))
            link = ""
        shown = f"📣 {literal(line)}" + (f" <{link}|Open the thread>" if link.startswith("https://") and "|" not in link else "")
        metadata = {"event_type": EVENT_TYPE, "event_payload": {"key": f"{key}:announcement"}}
        try:
            client.chat_postMessage(
                channel=board, blocks=[section(shown)], text=f"📣 {literal(line)}", metadata=metadata, unfurl_links=False
            )
        except SlackApiError as error:
            if error_code(error) == RATE_LIMITED:
                raise  # looked for, and made, at the next attempt
            logger.warning("a result could not be announced: %s", error_code(error))

    # ------------------------------------------------------------ failures

    def _attempt(self, place: Place, act: Callable[[WebClient, str, str], str]) -> str:
        """Act; a place that failed is left alone for a while, longer each time, and a team for as long as Slack says."""
        team, channel = team_and_channel(place)
        with self._lock:
            until, pause = self._pauses.get(place, (0.0, 0.0))
            until = max(until, self._asked.get(team, 0.0))
        if self.clock() < until:
            raise NotYetError("waiting before the next attempt")
        try:
            done = act(self.clients.hasty(team), team, channel)
        except SlackApiError as error:
            code = error_code(error) or str(error)
            if code in GONE:
                raise ChatError(code, gone=True) from error
            if code == RATE_LIMITED:
                with self._lock:
                    self._asked[team] = self.clock() + retry_after(error)
                raise NotYetError(code) from error
            self._wait(place, pause)
            raise ChatError(code) from error
        except (SlackClientError, OSError, UnavailableError) as error:
            self._wait(place, pause)
            raise ChatError(str(error)) from error
        with self._lock:
            self._pauses.pop(place, None)
        return done

    def _wait(self, place: Place, pause: float) -> None:
        pause = min(LONGEST_PAUSE, pause * 2 or FIRST_PAUSE)
        with self._lock:
            self._pauses[place] = (self.clock() + pause, pause)


def retry_after(error: SlackApiError) -> float:
    """How many seconds a 429 asks to wait."""
    headers = {str(name).lower(): value for name, value in (getattr(error.response, "headers", None) or {}).items()}
    given = headers.get("retry-after", "")
    given = given[0] if isinstance(given, list) and given else given
    return float(given) if str(given).isdigit() else RETRY_SECONDS


def _marked(client: WebClient, channel: str, thread: str, key: str, since: str = "") -> Json | None:
    """The message of a thread, or of the channel, that carries `key`."""
    cursor = ""
    for _ in range(PAGES):
        more: dict[str, Any] = {"cursor": cursor} if cursor else {}
        try:
            if thread:
                page = client.conversations_replies(channel=channel, ts=thread, limit=200, include_all_metadata=True, **more)
            else:
                after: dict[str, Any] = {"oldest": since} if since else {}
                page = client.conversations_history(channel=channel, limit=200, include_all_metadata=True, **after, **more)
        except SlackApiError as error:
            if error_code(error) in THREAD_LOST or error_code(error) == "message_not_found":
                return None
            raise
        for message in page.get("messages") or ():
            if _payload(message).get("key") == key:
                return dict(message)
        cursor = str((page.get("response_metadata") or {}).get("next_cursor") or "")
        if not cursor:
            return None
    return None


def _payload(message: Json) -> Json:
    metadata = message.get("metadata") or {}
    return dict(metadata.get("event_payload") or {}) if metadata.get("event_type") == EVENT_TYPE else {}
