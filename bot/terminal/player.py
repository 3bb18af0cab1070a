"""A scripted person: reads each screen of the real wizard, finds the control that the script speaks of, and uses it."""

import time
from collections.abc import Iterable
from dataclasses import dataclass, field

from rich.console import Console

from bot.terminal.pictures import PictureShelf
from bot.terminal.render import said, screen_panel
from core.access import Actor
from core.errors import StationmasterError
from core.wizard.conversation import Conversation, Press
from core.wizard.screens import Button, Form, Menu, Screen

READING_SECONDS = 0.6  # a person reads before they press


class ScriptError(StationmasterError):
    """The script speaks of something that is not on the screen: the wizard has refused an answer, or changed."""


@dataclass(frozen=True)
class Line:
    """One thing the person does: press the button `label`, choose `choice` of the menu `label`, or fill in the form `label`.

    A choice is named as a person reads it, by (the beginning of) its label.
    """

    label: str
    choice: str = ""
    values: dict[str, str] = field(default_factory=dict)


class Player:
    """Plays lines against a conversation and shows both sides of it."""

    def __init__(
        self, conversation: Conversation, actor: Actor, console: Console, pictures: PictureShelf, seconds: float = READING_SECONDS
    ) -> None:
        self.conversation = conversation
        self.actor = actor
        self.console = console
        self.pictures = pictures
        self.seconds = seconds

    def play(self, screen: Screen, lines: Iterable[Line]) -> Screen:
        """Answer screen after screen; returns the last one.

        Raises:
            ScriptError: when a line finds no control, or the wizard answers with a complaint.
        """
        self.console.print(screen_panel(screen, self.pictures))
        for line in lines:
            time.sleep(self.seconds)
            press, words = self.press_for(screen, line)
            self.console.print(said(words))
            screen = self.conversation.handle(self.actor, press)
            self.console.print(screen_panel(screen, self.pictures))
            if screen.notice is not None:
                raise ScriptError(f"The wizard did not take “{words}”: {screen.notice.body}")
        return screen

    def press_for(self, screen: Screen, line: Line) -> tuple[Press, str]:
        """The press that a line means on this screen, and how it reads."""
        control = next((item for item in screen.controls if _name(item) == line.label), None)
        if isinstance(control, Menu):
            page = self.conversation.options(self.actor, screen.draft_id, control.action, line.choice)
            option = next((item for item in page.options if item.label.startswith(line.choice)), None)
            if option is not None:
                return Press(screen.draft_id, screen.version, control.action, option.value), f"{control.label}: {option.label}"
        elif isinstance(control, Form):
            values = {item.name: item.value for item in control.fields} | line.values
            words = ", ".join(f"{item.label}: {values[item.name]}" for item in control.fields if item.name in line.values)
            return Press(screen.draft_id, screen.version, control.action, values=values), words
        elif isinstance(control, Button):
            return Press(screen.draft_id, screen.version, control.action, control.value), control.label
        raise ScriptError(f"“{line.label}{': ' + line.choice if line.choice else ''}” is not on the screen “{screen.title}”.")


def _name(control: Menu | Form | Button) -> str:
    return control.title if isinstance(control, Form) else control.label
