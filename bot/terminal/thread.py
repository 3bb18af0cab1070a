"""A task's thread in the terminal: the progress message changes in place, everything else is printed below one another."""

import time
from collections.abc import Callable
from dataclasses import replace

from rich.console import Console
from rich.live import Live

from bot.messages import in_sentence
from bot.notifier import Notifier
from bot.terminal.keyboard import unheard_keys
from bot.terminal.pictures import PictureShelf
from bot.terminal.render import message_panel
from core.access import Place
from core.process_identity import is_provably_dead, own_identity
from core.wizard.screens import Button, Facts, Message, Picture, ProgressBar

FACE = "terminal"
TICK_SECONDS = 0.5
LINE_SECONDS = 10.0  # between two lines of progress where it cannot change in place


class TerminalPoster:
    """Prints the messages of one person's conversation: this process's own, and those whose process is gone.

    On a terminal the progress message is drawn in place; elsewhere it is a line every few seconds.
    """

    face = FACE
    edits_per_minute = 0

    def __init__(self, console: Console, pictures: PictureShelf, channel: str) -> None:
        self.console = console
        self.pictures = pictures
        self.place = Place(FACE, channel, own_identity())
        self.buttons: tuple[Button, ...] = ()  # of the last message; what a terminal has printed cannot be pressed, only chosen below it
        self._live: Live | None = None
        self._next_line = 0.0

    def wants(self, place: Place) -> bool:
        """This person's threads, but for those that another open chat of theirs shows."""
        return place.channel == self.place.channel and (place.thread == self.place.thread or is_provably_dead(place.thread))

    def find(self, place: Place, key: str) -> str:
        """A terminal remembers nothing: what another process printed is on another screen."""
        return ""

    def post(self, place: Place, message: Message) -> str:
        """Print a message; the progress message becomes the one that changes in place."""
        if message.key.endswith(":progress"):
            self._show_progress(message)
        else:
            self.settle()
            self.console.print(message_panel(message, self.pictures))
            self.buttons = message.buttons
        return message.key

    def edit(self, place: Place, message_id: str, message: Message) -> str:
        """Draw the progress message anew."""
        self._show_progress(message)
        return message_id

    def settle(self) -> None:
        """Leave the progress message as it is and go on below it."""
        if self._live is not None:
            self._live.stop()
            self._live = None

    def _show_progress(self, message: Message) -> None:
        if self.console.is_terminal:
            # What is drawn in place must fit the window; a terminal has no room for pictures there.
            slim = replace(message, blocks=tuple(block for block in message.blocks if not isinstance(block, Picture)))
            panel = message_panel(slim, self.pictures)
            if self._live is None:
                self._live = Live(panel, console=self.console, auto_refresh=False)
                self._live.start()
            self._live.update(panel, refresh=True)
            return
        progress = next((block for block in message.blocks if isinstance(block, ProgressBar)), None)
        if progress is None:
            self.console.print(message_panel(replace(message, buttons=()), self.pictures))
            return
        facts = [f"{in_sentence(name)} {value}" for block in message.blocks if isinstance(block, Facts) for name, value in block.rows]
        line = " · ".join([progress.caption, *facts])
        if time.monotonic() >= self._next_line:
            self._next_line = time.monotonic() + LINE_SECONDS
            self.console.print(line, markup=False, soft_wrap=True)


def follow(notifier: Notifier, poster: TerminalPoster, still_going: Callable[[], bool] = lambda: True) -> None:
    """Show what happens in the person's threads until none is open any more, or `still_going` says no. Ctrl-C leaves, other keys do nothing."""
    try:
        with unheard_keys():
            while notifier.tick() and still_going():
                time.sleep(TICK_SECONDS)
    finally:
        poster.settle()
