"""A zip archive as a source."""

import io
import lzma
import stat
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from core.datasets.findings import Findings
from core.datasets.sources.inventory import Inventory
from core.datasets.sources.limits import BOMB_BYTES, BOMB_RATIO, bomb, read_limited
from core.errors import BadDataError
from core.settings import Settings


@contextmanager
def _told_as_oserror() -> Iterator[None]:
    """What is wrong with a member comes as the error that a file would give."""
    try:
        yield
    except (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, NotImplementedError, RuntimeError) as error:
        raise OSError(f"damaged in the archive: {error}") from error


class _Member(io.RawIOBase):
    """A member as a stream whose errors are those of a file."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file

    def readable(self) -> bool:
        """It can be read."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Read into `buffer`."""
        with _told_as_oserror():
            data = self._file.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def close(self) -> None:
        """Let go of it."""
        self._file.close()
        super().close()


class ZipSource:
    """A zip archive, read member by member."""

    shared = True

    def __init__(self, file: Path, name: str, settings: Settings, findings: Findings) -> None:
        self.name = name
        try:
            self._zip = zipfile.ZipFile(file)
            infos = self._zip.infolist()
        except (zipfile.BadZipFile, NotImplementedError, ValueError, OverflowError, IndexError, UnicodeDecodeError) as error:
            raise BadDataError(
                f"{name} is no zip archive that can be read: {error}.", "Pack it anew and check that it was copied whole."
            ) from error
        self._file = file
        listing = Inventory(name, settings, findings)
        packed = 0
        self._infos: dict[str, zipfile.ZipInfo] = {}
        for info in infos:
            if info.is_dir() or info.filename.endswith("\\"):  # some tools of Windows write their own separator
                listing.add_folder(info.filename.replace("\\", "/"))
                continue
            kind = stat.S_IFMT(info.external_attr >> 16)
            path = listing.add(info.filename, info.file_size, regular=kind in (0, stat.S_IFREG))
            packed += info.compress_size
            if not path:
                continue
            if info.flag_bits & 1:
                raise BadDataError(f"{name} is protected by a password.", "Pack it anew without one.")
            if info.file_size > BOMB_BYTES and info.file_size > BOMB_RATIO * max(1, info.compress_size):
                raise bomb(name, path, info.file_size)
            self._infos[path] = info
        if listing.total > BOMB_BYTES * 5 and listing.total > BOMB_RATIO * max(1, packed):
            raise bomb(name, "", listing.total)
        self.members, self.folders = listing.members, listing.parents()

    def __getstate__(self) -> dict[str, Any]:
        return {"name": self.name, "file": self._file, "places": {path: info.filename for path, info in self._infos.items()}}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.name, self._file, self.members, self.folders = state["name"], state["file"], {}, set()
        self._zip = zipfile.ZipFile(self._file)
        first: dict[str, zipfile.ZipInfo] = {}
        for info in self._zip.infolist():
            first.setdefault(info.filename, info)
        self._infos = {path: first[name] for path, name in state["places"].items()}

    def open(self, path: str) -> IO[bytes]:
        """The member opened for reading."""
        return io.BufferedReader(_Member(self._open(path)))

    def read(self, path: str, limit: int) -> bytes:
        """The whole member, its checksum checked."""
        with _told_as_oserror(), self._open(path) as file:
            return read_limited(file, limit)

    def _open(self, path: str) -> IO[bytes]:
        with _told_as_oserror():
            return self._zip.open(self._infos[path])

    def close(self) -> None:
        """Let go of the file."""
        self._zip.close()
