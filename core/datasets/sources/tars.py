"""A tar archive as a source."""

import io
import os
import tarfile
from pathlib import Path
from typing import IO, Any

from core.datasets.findings import Findings
from core.datasets.sources.inventory import Inventory
from core.errors import BadDataError
from core.settings import Settings


class TarSource:
    """A plain tar file, read at random through the offsets of its members; packed ones are unpacked to one plain file first."""

    shared = True

    def __init__(self, file: Path, name: str, settings: Settings, findings: Findings) -> None:
        self.name = name
        listing = Inventory(name, settings, findings)
        self._places: dict[str, tuple[int, int]] = {}
        try:
            with tarfile.open(file, "r:") as archive:
                for info in archive:
                    if info.isdir():
                        listing.add_folder(info.name)
                        continue
                    regular = info.isreg() and not info.issparse()
                    path = listing.add(info.name, info.size if regular else 0, regular=regular)
                    if path:
                        self._places[path] = (info.offset_data, info.size)
                    archive.members = []  # type: ignore[attr-defined]  # it would keep every header in memory
        except (tarfile.TarError, ValueError, EOFError) as error:
            raise BadDataError(
                f"{name} is no tar archive that can be read: {error}.", "Pack it anew and check that it was copied whole."
            ) from error
        self.members, self.folders = listing.members, listing.parents()
        self._path = file
        self._file = os.open(file, os.O_RDONLY)

    def __getstate__(self) -> dict[str, Any]:
        return {"name": self.name, "path": self._path, "places": self._places}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.name, self._path, self._places, self.members, self.folders = state["name"], state["path"], state["places"], {}, set()
        self._file = os.open(self._path, os.O_RDONLY)

    def open(self, path: str) -> IO[bytes]:
        """The member as a stream."""
        offset, size = self._places[path]
        return io.BufferedReader(_Slice(self._file, offset, size))

    def read(self, path: str, limit: int) -> bytes:
        """The whole member."""
        offset, size = self._places[path]
        if size > limit:
            raise ValueError(f"it holds {size:,} bytes, more than {limit:,}")
        data = os.pread(self._file, size, offset)
        if len(data) != size:
            raise OSError("the archive ends too early")
        return data

    def close(self) -> None:
        """Let go of the file."""
        os.close(self._file)


class _Slice(io.RawIOBase):
    """A stretch of an open file as a stream of its own, so that threads do not move each other's position."""

    def __init__(self, descriptor: int, offset: int, size: int) -> None:
        self._descriptor, self._offset, self._size, self._position = descriptor, offset, size, 0

    def readable(self) -> bool:
        """It can be read."""
        return True

    def seekable(self) -> bool:
        """It can be sought."""
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move the position."""
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._size}[whence]
        self._position = max(0, start + offset)
        return self._position

    def readinto(self, buffer: Any) -> int:
        """Read into `buffer`."""
        view = memoryview(buffer).cast("B")
        wanted = min(len(view), max(0, self._size - self._position))
        data = os.pread(self._descriptor, wanted, self._offset + self._position)
        view[: len(data)] = data
        self._position += len(data)
        return len(data)
