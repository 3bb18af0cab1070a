"""Names: order in which people expect them, class numbering, and what a dataset may be called."""

import re
import unicodedata

_DIGITS = re.compile(r"(\d+)")


def natural_key(name: str) -> tuple[object, ...]:
    """Sort key under which `class 9` comes before `class 10`, letters without regard to case."""
    parts = _DIGITS.split(name)
    numbered = ((0, int(part), "") if part.isdecimal() and len(part) < 18 else (1, 0, part.casefold()) for part in parts)
    return (*numbered, name)


def match_key(name: str) -> str:
    """What two spellings of one file name have in common: macOS decomposes letters, Windows does not tell their cases apart."""
    return name if name.isascii() and name.islower() else unicodedata.normalize("NFC", name).casefold()


def class_name(text: str) -> str:
    """A class name as it is stored: composed, without surrounding blanks or control characters, at most 200 characters."""
    text = unicodedata.normalize("NFC", text)
    return "".join(" " if unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp") else c for c in text).strip()[:200]


class ClassList:
    """Numbers class names in the order in which they are first met."""

    def __init__(self, names: "list[str] | None" = None) -> None:
        self.names: list[str] = list(names or [])
        self._indices = {name: index for index, name in enumerate(self.names)}

    def index(self, name: str) -> int:
        """The number of a class, a new one if it was not met before."""
        index = self._indices.get(name)
        if index is None:
            index = self._indices[name] = len(self.names)
            self.names.append(name)
        return index

    def sorted_order(self) -> list[int]:
        """For each index the one that it has once the names are in natural order."""
        order = sorted(range(len(self.names)), key=lambda index: natural_key(self.names[index]))
        new = [0] * len(order)
        for position, index in enumerate(order):
            new[index] = position
        return new
