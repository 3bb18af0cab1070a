"""What a control carries: at most 100 characters that say whose press it is and where in the database everything else stands."""

from dataclasses import dataclass
from enum import StrEnum

MAX_LENGTH = 100
SEPARATOR = "|"


class Verb(StrEnum):
    """What a control does when pressed."""

    PRESS = "p"
    ASK = "c"  # ask whether it is meant, then press
    FORM = "f"  # open a dialog; in a dialog's own id: its values are sent
    SEARCH = "s"  # open the dialog that searches a long menu; in a dialog's own id: the search is sent
    PAGE = "g"  # turn to another page of a long menu
    DISMISS = "x"  # the answer No


@dataclass(frozen=True)
class Control:
    """One control. `draft_id` is empty outside the wizard; `rest` is a value, a form's part, or an offset and a search."""

    verb: Verb
    action: str
    rest: str = ""
    draft_id: str = ""
    version: int = 0

    def pack(self) -> str:
        """As a custom_id.

        Raises:
            ValueError: when it is longer than Discord takes.
        """
        about = ("w", self.verb, self.draft_id, str(self.version)) if self.draft_id else ("d", self.verb)
        packed = SEPARATOR.join((*about, self.action, self.rest))
        if len(packed) > MAX_LENGTH:
            raise ValueError(f"custom_id of {len(packed)} characters: {packed[:40]}…")
        return packed


def unpack(custom_id: str) -> Control | None:
    """The control that `pack` wrote; None for anything else."""
    kind, _, text = custom_id.partition(SEPARATOR)
    if kind not in ("w", "d"):
        return None
    parts = text.split(SEPARATOR, 4 if kind == "w" else 2)
    if len(parts) != (5 if kind == "w" else 3) or parts[0] not in set(Verb):
        return None
    if kind == "d":
        return Control(Verb(parts[0]), parts[1], parts[2])
    if not (parts[2].isascii() and parts[2].isdigit()):
        return None
    return Control(Verb(parts[0]), parts[3], parts[4], parts[1], int(parts[2]))
