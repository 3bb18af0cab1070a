"""Paths as people type them, or drag them into a terminal."""

import shlex
from pathlib import Path


def typed_path(text: str) -> Path:
    """The path that a line means: as it stands where there is such a file or folder, else without the quotes or backslashes that a terminal puts
    around what is dropped into it.
    """
    text = text.strip()
    if (path := _there(text)) is not None:
        return path
    try:
        words = shlex.split(text)
    except ValueError:  # a quote that does not end
        words = []
    dropped = _there(words[0]) if len(words) == 1 else None
    return dropped if dropped is not None else Path(text)


def _there(text: str) -> Path | None:
    """The file or folder that a text names as it stands; None where there is none, or it cannot be one's name."""
    try:
        path = Path(text).expanduser()
        return path if path.exists() else None
    except (OSError, RuntimeError, ValueError):  # too long for a name, the home of nobody
        return None
