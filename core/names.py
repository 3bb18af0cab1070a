"""Names that people give to datasets, tasks and models."""

import unicodedata
from collections.abc import Sequence

from core.errors import InvalidInputError

LONGEST = 100
SHOWN_NAMESAKES = 6


def clean_name(name: str, what: str) -> str:
    """A name that people may give to a `what`: any unicode, 1–100 characters, no control characters; composed as Unicode's NFC.

    Raises:
        InvalidInputError: for any other.
    """
    name = unicodedata.normalize("NFC", name.strip())
    if not 1 <= len(name) <= LONGEST:
        raise InvalidInputError(f"The name of a {what} has 1 to {LONGEST} characters; {len(name)} were given.")
    if any(unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp") for character in name):
        raise InvalidInputError(f"The name of a {what} cannot hold line breaks or other control characters.", "Give another name.")
    return name


def first_of(names: Sequence[str], most: int) -> str:
    """The first `most` of some names for a sentence, and how many more there are."""
    more = len(names) - most
    return ", ".join(names[:most]) + (f" and {more:,} more" if more > 0 else "")


def refuse_namesakes(what: str, name: str, ids: Sequence[str]) -> None:
    """Refuse to change one of several `what` of the same name: which of them is meant cannot be told.

    Raises:
        InvalidInputError: naming their ids, the newest first.
    """
    if len(ids) > 1:
        more = " and more" if len(ids) >= SHOWN_NAMESAKES else ""
        raise InvalidInputError(f"There are several {what} called “{name}”.", f"Give the id of one, newest first: {', '.join(ids)}{more}.")
