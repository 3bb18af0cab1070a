"""Paths as people type them, or drag them into a terminal."""

import shlex
from pathlib import Path


def typed_path(text: str) -> Path:
    """The path that a line means: as it stands where there is such a file or folder, else without the quotes or backslashes that a terminal puts
    around what is dropped into it.
    """
    text = text.strip()
    path = Path(text).expanduser()
    if path.exists():
        return path
    try:
        words = shlex.split(text)
    except ValueError:  # a quote that does not end
        return path
    return Path(words[0]).expanduser() if len(words) == 1 else path
