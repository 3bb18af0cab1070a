"""What a person brings to the desk, and what they get."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from core.access import Actor, Place
from core.errors import InvalidInputError
from core.wizard.screens import Block, Control, Form, Screen


@dataclass(frozen=True)
class Upload:
    """A file that a person sent; `path` is where the face has put it, in a folder of its own that it removes afterwards."""

    name: str
    path: Path


@dataclass(frozen=True)
class Request:
    """One press outside the wizard. `value` is what the control carries, `values` what a form brought."""

    actor: Actor
    place: Place
    value: str = ""
    values: Mapping[str, str] = field(default_factory=dict)
    uploads: tuple[Upload, ...] = ()

    def part(self, number: int) -> str:
        """A part of a value of several, such as a task's id and how to stop it.

        Raises:
            InvalidInputError: when there is no such part.
        """
        parts = self.value.split()
        if number >= len(parts):
            raise InvalidInputError("This button is from another version.", "Ask for the list again.")
        return parts[number]

    def typed(self, name: str) -> str:
        """What was typed into a form's field, without blanks at its ends."""
        return self.values.get(name, "").strip()


@dataclass(frozen=True)
class Attachment:
    """A file to send along: bytes, or an object of the storage."""

    name: str
    data: bytes = b""
    key: str = ""


@dataclass(frozen=True)
class Reply:
    """What to show. `private` only to the person who asked; `form` is to be opened at once; `screen` is a wizard that began."""

    blocks: tuple[Block, ...] = ()
    controls: tuple[Control, ...] = ()
    private: bool = False
    files: tuple[Attachment, ...] = ()
    form: Form | None = None
    screen: Screen | None = None
