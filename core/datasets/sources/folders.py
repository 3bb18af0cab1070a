"""A folder on this host as a source."""

import os
from pathlib import Path
from typing import IO, Any

from core.datasets.findings import Findings
from core.datasets.sources.inventory import Inventory, is_litter
from core.datasets.sources.limits import read_limited
from core.settings import Settings


class FolderSource:
    """A folder on this host. Links inside it are not followed."""

    shared = True

    def __init__(self, root: Path, settings: Settings, findings: Findings) -> None:
        self.name = root.name
        root = self._root = root.absolute()
        listing = Inventory(self.name, settings, findings)
        pending = [root]
        start = len(os.path.join(root, ""))  # noqa: PTH118  # a root of "/" ends in its slash
        while pending:
            folder = pending.pop()
            try:
                entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
            except PermissionError:
                findings.error("unreadable", str(folder.relative_to(root)), "The folder may not be read.", "Give read permission to it.")
                continue
            for entry in entries:
                relative = entry.path[start:]
                if entry.is_dir(follow_symlinks=False):
                    if not is_litter(relative):
                        listing.add_folder(relative)
                        pending.append(Path(entry.path))
                    continue
                regular = entry.is_file(follow_symlinks=False)
                listing.add(relative, entry.stat(follow_symlinks=False).st_size if regular else 0, regular=regular)
        self.members, self.folders = listing.members, listing.folders

    def __getstate__(self) -> dict[str, Any]:
        return {"name": self.name, "root": self._root}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.name, self._root, self.members, self.folders = state["name"], state["root"], {}, set()

    def open(self, path: str) -> IO[bytes]:
        """The file opened for reading."""
        # O_NOFOLLOW: between listing and opening somebody may have put a link there.
        return os.fdopen(os.open(self._root / path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0)), "rb")

    def read(self, path: str, limit: int) -> bytes:
        """The whole file."""
        with self.open(path) as file:
            # Asking for the limit at once would have room for all of it set aside, for each file anew.
            size = os.fstat(file.fileno()).st_size
            if size > limit:
                raise ValueError(f"it holds {size:,} bytes, more than {limit:,}")
            data = file.read(size + 1)
            return data if len(data) <= size else data + read_limited(file, limit - len(data))
