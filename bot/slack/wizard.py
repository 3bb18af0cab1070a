"""The wizard in Slack: one message in a thread that changes from step to step."""

import logging
import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta

from slack_sdk.errors import SlackApiError

from bot.once import key_of, release, take
from bot.slack.caller import Caller
from bot.slack.forms import form_view, notice_view
from bot.slack.pictures import error_code
from bot.slack.poster import LOST
from bot.slack.render import WIZARD, no_pictures, options, screen_blocks, screen_text, section
from bot.slack.switchboard import Switchboard
from bot.slack.text import Json, literal
from core.access import Actor, Place
from core.clock import now
from core.errors import StationmasterError
from core.wizard.conversation import STALE, Press
from core.wizard.screens import Picture, Screen

logger = logging.getLogger(__name__)

DOUBLE_CLICK = timedelta(seconds=10)
REMEMBERED = 5000
OPTIONS = 100


@dataclass(frozen=True)
class Mark:
    """What the id of a wizard's block carries."""

    draft: str
    version: int


def read_mark(block_id: str) -> Mark | None:
    """The draft and version of a block; None where it is none of a wizard's."""
    parts = block_id.split(":")
    if len(parts) < 3 or parts[0] != WIZARD or not (parts[2].isascii() and parts[2].isdigit()):
        return None
    return Mark(parts[1], int(parts[2]))


class SlackWizard:
    """Begins conversations, takes their presses, and shows their screens."""

    def __init__(self, board: Switchboard) -> None:
        self.board = board
        self._shown: OrderedDict[str, int] = OrderedDict()  # the version that a draft's message shows
        self._lock = threading.Lock()

    def begin(self, caller: Caller, begin: Callable[[Place], Screen], line: str = "") -> None:
        """Begin a conversation in the caller's thread; where they are in none, under a message of its own."""
        client = self.board.client(caller)
        root = ""
        if not caller.channel:
            caller = replace(caller, channel=self.board.direct_channel(caller), direct=True, thread="")
        if not caller.thread:
            text = line or f"<@{caller.user}> sets out to train a model. The conversation is in this thread."
            root = str(client.chat_postMessage(channel=caller.channel, text=text, blocks=[section(text)])["ts"])
            caller = replace(caller, thread=root)
        try:
            screen = begin(caller.place)
        except StationmasterError:
            if root:
                client.chat_delete(channel=caller.channel, ts=root)
            raise
        self.post(caller, screen)

    def post(self, caller: Caller, screen: Screen) -> None:
        """Show a conversation's screen as a new message of the thread."""
        blocks, waiting = self._drawn(caller, screen)
        sent = self.board.client(caller).chat_postMessage(
            channel=caller.channel, thread_ts=caller.thread or None, blocks=blocks, text=screen_text(screen), unfurl_links=False
        )
        self._remember(screen)
        self._add_pictures(replace(caller, message=str(sent["ts"])), screen, waiting)

    def press(self, caller: Caller, actor: Actor, press: Press) -> None:
        """Take a press, and change the message. The same press again at once is a double click, and nothing."""
        key = key_of("press", press.draft_id, press.version, press.action, press.value, actor.person)
        before = take(self.board.database, key) if not press.values else None
        if before is not None and now() - before < DOUBLE_CLICK:
            return
        try:
            screen = self.board.conversation.handle(actor, press)
        except StationmasterError:
            release(self.board.database, key)
            raise
        if screen.notice is not None and screen.notice.body == STALE:
            self.board.tell(caller, STALE)
            screen = replace(screen, notice=None)
        self.show(caller, screen)

    def show(self, caller: Caller, screen: Screen) -> None:
        """Change the message that the caller acted on; where it is gone, a new one stands in for it."""
        blocks, waiting = self._drawn(caller, screen)
        try:
            self._update(caller, screen, blocks)
        except SlackApiError as error:
            if error_code(error) not in LOST:
                raise
            self.post(caller, screen)
            return
        self._remember(screen)
        self._add_pictures(caller, screen, waiting)

    def options(self, caller: Caller, mark: Mark, action: str, query: str) -> list[Json]:
        """The options of a menu that match what was typed."""
        actor = self.board.people.actor(caller)
        page = self.board.conversation.options(actor, mark.draft, action, query, 0, OPTIONS)
        return options(page.options)

    def open_form(self, caller: Caller, actor: Actor, mark: Mark, action: str, view_id: str) -> None:
        """Fill the dialog that has been opened with the form of that action, as it stands now."""
        client = self.board.client(caller)
        screen = self.board.conversation.show(actor, mark.draft)
        form = next((item for item in screen.forms() if item.action == action), None)
        if form is None:
            client.views_update(view_id=view_id, view=notice_view("Moved on", literal(STALE)))
            self.show(caller, screen)
            return
        metadata = {
            "kind": WIZARD,
            "draft": screen.draft_id,
            "version": screen.version,
            "action": form.action,
            "channel": caller.channel,
            "thread": caller.thread,
            "message": caller.message,
        }
        client.views_update(view_id=view_id, view=form_view(form, metadata))

    def _drawn(self, caller: Caller, screen: Screen) -> tuple[list[Json], bool]:
        """The blocks with the pictures that Slack has, and whether others have to follow."""
        missing = False

        def file_of(picture: Picture) -> str | None:
            nonlocal missing
            found = self.board.gallery.known(caller.team, picture)
            missing = missing or not found
            return found

        return screen_blocks(screen, file_of), missing

    def _add_pictures(self, caller: Caller, screen: Screen, waiting: bool) -> None:
        """Upload a screen's pictures apart from the conversation, which goes on meanwhile; then show them if it still stands."""
        if not waiting:
            return

        def upload() -> None:
            file_of: Callable[[Picture], str | None]
            try:
                file_of = self.board.gallery.files(self.board.client(caller), caller.team, screen.blocks)
            except SlackApiError as error:
                logger.warning("a screen's pictures could not be uploaded: %s", error_code(error))
                file_of = no_pictures
            self.board.work.submit(screen.draft_id, lambda: add(file_of))

        def add(file_of: Callable[[Picture], str | None]) -> None:
            with self._lock:
                current = self._shown.get(screen.draft_id) == screen.version
            if not current:
                return
            try:
                self.board.gallery.send(lambda blocks: self._update(caller, screen, blocks), screen_blocks(screen, file_of))
            except SlackApiError as error:
                logger.warning("a screen's pictures could not be shown: %s", error_code(error))
                self._update(caller, screen, screen_blocks(screen, no_pictures))

        self.board.slow.submit(f"pictures {screen.draft_id} {screen.version}", upload)

    def _update(self, caller: Caller, screen: Screen, blocks: list[Json]) -> None:
        client = self.board.client(caller)
        client.chat_update(channel=caller.channel, ts=caller.message, blocks=blocks, text=screen_text(screen))

    def _remember(self, screen: Screen) -> None:
        with self._lock:
            self._shown[screen.draft_id] = screen.version
            self._shown.move_to_end(screen.draft_id)
            while len(self._shown) > REMEMBERED:
                self._shown.popitem(last=False)
