"""Paths as people type them, or drag them into a terminal."""

import shlex
from pathlib import Path

from core.errors import InvalidInputError


def typed_path(text: str) -> Path:
    """The file or folder that a line names: as it stands, else without the quotes or backslashes that a terminal puts around what is dropped into it.

    Raises:
        InvalidInputError: where there is none of that name, or none was given.
    """
    text = text.strip()
    if not text.strip("'\" "):  # else it would be the folder one is in
        raise InvalidInputError("No path was given.", "Give the path of what you mean; ~ stands for your home.")
    try:
        words = shlex.split(text)
    except ValueError:  # a quote that does not end
        words = []
    meant = text
    for name in (text, words[0] if len(words) == 1 else text):
        try:
            path = Path(name).expanduser().absolute()
            if path.exists():
                return path
            meant = str(path)
        except (OSError, RuntimeError, ValueError):  # too long for a name, the home of nobody
            continue
    raise InvalidInputError(f"There is no file or folder {meant[:200]}.", "Give the path of what you mean; ~ stands for your home.")
