"""What the desk's people work with."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

from core.db.session import Database
from core.settings import Settings
from core.storage import Storage
from core.wizard.conversation import Conversation
from core.wizard.screens import Button, Field, Form

LIST_LENGTH = 10  # entries of a list in a chat: each has a button


@dataclass(frozen=True)
class Office:
    """Database, storage and settings; `on_start` wakes the queue."""

    database: Database
    storage: Storage
    settings: Settings
    on_start: Callable[[], None]

    @cached_property
    def conversation(self) -> Conversation:
        """The wizard."""
        return Conversation(self.database, self.storage, self.settings, self.on_start)


def rename_form(action: str, value: str, name: str) -> Form:
    """The dialog that asks for another name; `value` travels in the action, after a blank."""
    return Form(f"{action} {value}", "Rename", (Field("name", "New name", "text", name, required=True, max_length=100),), submit="Rename")


def delete_form(action: str, value: str, name: str) -> Form:
    """The dialog that asks to type DELETE."""
    field = Field("confirmation", "Type DELETE", "text", "", hint=f"“{name[:60]}” is deleted for ever", required=True, max_length=10)
    return Form(f"{action} {value}", "Delete for ever", (field,), submit="Delete")


def pager(action: str, query: str, offset: int, total: int, length: int = LIST_LENGTH) -> tuple[Button, ...]:
    """Buttons to the pages before and after; `value` is the offset and the search."""
    buttons = []
    if offset > 0:
        buttons.append(Button(action, "◀ Previous", value=f"{max(0, offset - length)} {query}".strip()))
    if offset + length < total:
        buttons.append(Button(action, "More ▶", value=f"{offset + length} {query}".strip()))
    return tuple(buttons)


def page_of(value: str) -> tuple[int, str]:
    """Offset and search that `pager` wrote; a bare search has the offset 0."""
    first, _, rest = value.partition(" ")
    if first.isascii() and first.isdigit() and len(first) < 9:
        return int(first), rest.strip()
    return 0, value.strip()
