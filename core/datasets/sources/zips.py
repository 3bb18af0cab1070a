"""A zip archive as a source."""

import stat
import zipfile
import zlib
from pathlib import Path
from typing import IO, Any

from core.datasets.findings import Findings
from core.datasets.sources.inventory import Inventory
from core.datasets.sources.limits import BOMB_BYTES, BOMB_RATIO, bomb, read_limited
from core.errors import BadDataError
from core.settings import Settings


class ZipSource:
    """A zip archive, read member by member."""

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
        try:
            return self._zip.open(self._infos[path])
        except (zipfile.BadZipFile, NotImplementedError, RuntimeError) as error:
            raise OSError(str(error)) from error

    def read(self, path: str, limit: int) -> bytes:
        """The whole member, its checksum checked."""
        try:
            with self.open(path) as file:
                return read_limited(file, limit)
        except (zipfile.BadZipFile, zlib.error, EOFError) as error:
            raise OSError(f"damaged in the archive: {error}") from error

    def close(self) -> None:
        """Let go of the file."""
        self._zip.close()
