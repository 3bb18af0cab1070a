"""Names as people search for them: whatever the case of their letters, in any script, the same on every database.

SQLite folds ASCII alone and Postgres what its locale knows, so the folded name is a column of its own.
"""

import unicodedata
from typing import Any

from sqlalchemy import ColumnElement, Text
from sqlalchemy.orm import Mapped, mapped_column, validates


def folded(text: str) -> str:
    """Text without regard to case and to how accents are composed: what is searched for and what is searched in."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", text).casefold())


def _of_name(context: Any) -> str:
    return folded(context.get_current_parameters()["name"])


class Named:
    """A table whose rows people find by their name."""

    name: Mapped[str] = mapped_column(Text)
    folded_name: Mapped[str] = mapped_column(Text, default=_of_name)

    @validates("name")
    def _fold(self, _key: str, name: str) -> str:
        self.folded_name = folded(name)
        return name

    @classmethod
    def name_holds(cls, search: str) -> ColumnElement[bool]:
        """Whether a row's name holds the text."""
        return cls.folded_name.contains(folded(search.strip()), autoescape=True)
