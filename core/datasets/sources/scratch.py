"""Folders on this host for what an import unpacks or fetches: they end with it, and bear its name, so that those of a killed one can be told."""

import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote, unquote

from core.process_identity import is_provably_dead, own_identity
from core.settings import Settings

_OLD = 7 * 24 * 3600  # s; of processes of which nothing can be told, such as those before a reboot


def _root(settings: Settings) -> Path:
    return settings.cache / "imports"


@contextmanager
def scratch_folder(settings: Settings) -> Iterator[Path]:
    """A new empty folder, gone when the block ends."""
    root = _root(settings)
    root.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f"{quote(own_identity(), safe='')}~", dir=root) as folder:
        yield Path(folder)


def leftovers(settings: Settings) -> list[Path]:
    """Folders whose import is certainly dead."""
    root = _root(settings)
    folders = [entry for entry in root.iterdir() if entry.is_dir()] if root.is_dir() else []
    return [folder for folder in folders if is_provably_dead(unquote(folder.name.partition("~")[0])) or _age(folder) > _OLD]


def _age(folder: Path) -> float:
    try:
        return time.time() - folder.stat().st_mtime
    except OSError:  # gone in between
        return 0.0
