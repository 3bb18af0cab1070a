"""A face's way to post, and how it fails."""

from typing import Protocol, runtime_checkable

from core.access import Place
from core.wizard.screens import Message


class ChatError(Exception):
    """A platform did not take a message; it is tried again. `gone` when the place no longer exists and never will."""

    def __init__(self, reason: str, *, gone: bool = False) -> None:
        super().__init__(reason)
        self.gone = gone


class NotYetError(ChatError):
    """No attempt was made, or the platform has named a time to wait: it is tried again, and nothing is amiss."""


class Poster(Protocol):
    """A face's way to post. Raises ChatError when the platform does not take it."""

    face: str
    edits_per_minute: int  # that the platform takes of one bot in all its threads together; 0 where each thread counts for itself

    def wants(self, place: Place) -> bool:
        """Whether this poster serves that place."""
        ...

    def find(self, place: Place, key: str) -> str:
        """The id of the message posted under `key`, empty if there is none: asked before posting again after a crash."""
        ...

    def post(self, place: Place, message: Message) -> str:
        """Post in the thread, mark the message with its key, and return its id."""
        ...

    def edit(self, place: Place, message_id: str, message: Message) -> str:
        """Change a posted message; returns the id of the message that stands now (a face may post afresh instead)."""
        ...


@runtime_checkable
class Announcer(Protocol):
    """A poster whose announcements do not wait for the thread's message: a thread can be closed where its channel is not.

    Others announce when they `post`.
    """

    def announce(self, place: Place, message: Message) -> None:
        """Tell in the channel what the message announces, where it has not been told. Never raises `ChatError`: the thread is what matters."""
        ...
