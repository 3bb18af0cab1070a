"""A folder behind a URL as a source."""

from typing import IO, Any

import fsspec
from fsspec.implementations.memory import MemoryFileSystem

from core.datasets.findings import Findings
from core.datasets.sources.inventory import Inventory
from core.settings import Settings


class RemoteSource:
    """A folder behind an fsspec URL, such as `s3://bucket/pets`."""

    def __init__(self, url: str, settings: Settings, findings: Findings) -> None:
        self.name = url.rstrip("/").rsplit("/", 1)[-1]
        self._filesystem, self._root = fsspec.url_to_fs(url)
        listing = Inventory(self.name, settings, findings)
        start = len(self._root.rstrip("/")) + 1
        for path, info in sorted(self._filesystem.find(self._root, detail=True).items()):
            listing.add(path[start:], int(info.get("size") or 0), regular=info.get("type", "file") == "file")
        self.members, self.folders = listing.members, listing.parents()
        self._url = url
        self.shared = not isinstance(self._filesystem, MemoryFileSystem)

    def __getstate__(self) -> dict[str, Any]:
        return {"name": self.name, "url": self._url, "members": self.members}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.name, self._url, self.members, self.folders, self.shared = state["name"], state["url"], state["members"], set(), True
        self._filesystem, self._root = fsspec.url_to_fs(self._url)

    def open(self, path: str) -> IO[bytes]:
        """The object opened for reading."""
        return self._filesystem.open(f"{self._root.rstrip('/')}/{path}", "rb")  # type: ignore[no-any-return]

    def read(self, path: str, limit: int) -> bytes:
        """The whole object."""
        if self.members[path].size > limit:
            raise ValueError(f"it holds {self.members[path].size:,} bytes, more than {limit:,}")
        return bytes(self._filesystem.cat_file(f"{self._root.rstrip('/')}/{path}"))
