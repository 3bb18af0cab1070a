"""Workspaces, people and who may do what."""

from dataclasses import asdict, dataclass
from typing import Any

from core.errors import NotAllowedError


@dataclass(frozen=True)
class Actor:
    """The person acting. `person` is unique over all faces: `slack:U123`, `discord:42`, `cli:ada`."""

    workspace: str
    person: str
    name: str
    admin: bool = False


@dataclass(frozen=True)
class Place:
    """The channel and thread a conversation lives in. `face` is `slack`, `discord` or `terminal`."""

    face: str
    channel: str = ""
    thread: str = ""

    @property
    def at_the_host(self) -> bool:
        """Whether whoever talks here sits at the host, and may read its files anyway."""
        return self.face == "terminal"

    def to_json(self) -> dict[str, Any]:
        """As a JSON object, for the database."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> "Place":
        """The place that `to_json` wrote."""
        return cls(**value)


def require_owner(actor: Actor, created_by: str, what: str) -> None:
    """Let pass the creator and admins.

    Raises:
        NotAllowedError: for anybody else.
    """
    if actor.admin or actor.person == created_by:
        return
    raise NotAllowedError(f"Only the person who made {what}, or an admin, may do that.", "Ask them, or start one of your own.")
