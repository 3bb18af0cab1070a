"""Where a dataset comes from: a folder, a zip or a tar, here or behind a URL, read without trusting a word of it.

Members are read one by one, never unpacked under names of theirs. Symbolic links, device files, absolute paths and `..` are
left out with a finding; archives whose unpacked size is out of all proportion are refused as a whole.
"""

import bz2
import errno
import gzip
import io
import lzma
import os
import shutil
import stat
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import IO, Any, Protocol

import fsspec

from core.datasets.findings import Findings
from core.errors import BadDataError, NotFoundError, UnavailableError
from core.settings import Settings

IMAGE_SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".bmp", ".tif", ".tiff", ".dcm", ".dicom", ".gif", ".pgm", ".ppm"}
)
ARCHIVE_SUFFIXES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tbz", ".tar.xz", ".txz", ".7z", ".rar", ".gz")
TAR_SUFFIXES = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tbz", ".tar.xz", ".txz")

# What operating systems leave behind in folders; nobody wants to hear of them.
_LITTER = frozenset({".ds_store", "thumbs.db", "desktop.ini", "__macosx", ".git", ".svn", ".ipynb_checkpoints", "@eadir"})

_BOMB_RATIO = 200  # unpacked : packed, of a member or a whole archive that is also large
_BOMB_BYTES = 200_000_000


@dataclass(frozen=True, slots=True)
class Member:
    """One file of a source: its path with forward slashes, relative to the source's root, and its size in bytes."""

    path: str
    size: int


class Source(Protocol):
    """Files that can be listed and read, from several threads at once."""

    name: str
    members: dict[str, Member]
    folders: set[str]

    def open(self, path: str) -> IO[bytes]:
        """The file opened for reading. Raises OSError or KeyError where that fails."""
        ...

    def read(self, path: str, limit: int) -> bytes:
        """The whole file. Raises ValueError if it holds more than `limit` bytes."""
        ...


def is_image(path: str) -> bool:
    """Whether the name is that of an image that can be read; DICOM files without a suffix are looked into elsewhere."""
    return PurePosixPath(path).suffix.lower() in IMAGE_SUFFIXES


def _is_litter(path: PurePosixPath) -> bool:
    return any(part.lower() in _LITTER or part.startswith("._") for part in path.parts)


def _unsafe(name: str) -> str:
    """Why a member's name cannot be trusted, or nothing."""
    path = name.replace("\\", "/")
    if path.startswith("/") or (len(path) > 1 and path[1] == ":" and path[0].isalpha()):
        return "is an absolute path"
    if ".." in path.split("/"):
        return "leads out of the archive with `..`"
    if any(ord(character) < 32 for character in path):
        return "holds control characters"
    return ""


@dataclass
class _Listing:
    """Members and folders gathered under the limits of the settings."""

    name: str
    settings: Settings
    findings: Findings
    members: dict[str, Member] = field(default_factory=dict)
    folders: set[str] = field(default_factory=set)
    total: int = 0

    def add_folder(self, name: str) -> None:
        if name and not _unsafe(name) and not _is_litter(PurePosixPath(name)):
            self.folders.add(name.strip("/"))

    def add(self, name: str, size: int, *, regular: bool = True) -> str:
        """Take a file in; its path, or nothing where it is left out."""
        shown = name.encode("utf-8", "replace").decode()
        why = _unsafe(name)
        if why:
            self.findings.error("unsafe-path", shown, f"The name {why}.", "Pack the archive anew with paths relative to its root.")
            return ""
        path = str(PurePosixPath(name.replace("\\", "/")))
        if _is_litter(PurePosixPath(path)) or path == ".":
            return ""
        if not regular:
            self.findings.error(
                "not-a-file", shown, "It is a link or a device, not a file; links are never followed.", "Put the file itself in its place."
            )
            return ""
        if path.lower().endswith(ARCHIVE_SUFFIXES) and not path.lower().endswith(".nii.gz"):
            self.findings.error(
                "nested-archive",
                shown,
                "An archive within the source is not opened.",
                "Unpack it first, or import it as a dataset of its own.",
            )
            return ""
        if path in self.members:
            self.findings.error(
                "duplicate-name", shown, "The archive holds this name twice; the first one counts.", "Pack the archive anew."
            )
            return ""
        self.total += size
        if len(self.members) >= self.settings.max_images * 3:
            raise BadDataError(
                f"{self.name} holds more than {self.settings.max_images * 3:,} files.",
                "Split it into several datasets, or raise STATIONMASTER_MAX_IMAGES.",
            )
        self.members[path] = Member(path, size)
        return path


class FolderSource:
    """A folder on this host. Links inside it are not followed."""

    def __init__(self, root: Path, settings: Settings, findings: Findings) -> None:
        self.name = root.name
        self._root = root
        listing = _Listing(self.name, settings, findings)
        pending = [root]
        while pending:
            folder = pending.pop()
            try:
                entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
            except PermissionError:
                findings.error("unreadable", str(folder.relative_to(root)), "The folder may not be read.", "Give read permission to it.")
                continue
            for entry in entries:
                relative = Path(entry.path).relative_to(root).as_posix()
                if entry.is_dir(follow_symlinks=False):
                    if not _is_litter(PurePosixPath(relative)):
                        listing.add_folder(relative)
                        pending.append(Path(entry.path))
                    continue
                regular = entry.is_file(follow_symlinks=False)
                listing.add(relative, entry.stat(follow_symlinks=False).st_size if regular else 0, regular=regular)
        self.members, self.folders = listing.members, listing.folders

    def open(self, path: str) -> IO[bytes]:
        """The file opened for reading."""
        # O_NOFOLLOW: between listing and opening somebody may have put a link there.
        return os.fdopen(os.open(self._root / path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0)), "rb")

    def read(self, path: str, limit: int) -> bytes:
        """The whole file."""
        with self.open(path) as file:
            return _read_limited(file, limit)


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
        listing = _Listing(name, settings, findings)
        packed = 0
        self._infos: dict[str, zipfile.ZipInfo] = {}
        for info in infos:
            if info.is_dir():
                listing.add_folder(info.filename)
                continue
            kind = stat.S_IFMT(info.external_attr >> 16)
            path = listing.add(info.filename, info.file_size, regular=kind in (0, stat.S_IFREG))
            packed += info.compress_size
            if not path:
                continue
            if info.flag_bits & 1:
                raise BadDataError(f"{name} is protected by a password.", "Pack it anew without one.")
            if info.file_size > _BOMB_BYTES and info.file_size > _BOMB_RATIO * max(1, info.compress_size):
                raise _bomb(name, path, info.file_size)
            self._infos[path] = info
        if listing.total > _BOMB_BYTES * 5 and listing.total > _BOMB_RATIO * max(1, packed):
            raise _bomb(name, "", listing.total)
        self.members, self.folders = listing.members, listing.folders
        for path in self.members:
            self.folders.update(str(parent) for parent in PurePosixPath(path).parents if str(parent) != ".")

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
                return _read_limited(file, limit)
        except (zipfile.BadZipFile, zlib.error, EOFError) as error:
            raise OSError(f"damaged in the archive: {error}") from error

    def close(self) -> None:
        """Let go of the file."""
        self._zip.close()


class TarSource:
    """A plain tar file, read at random through the offsets of its members; packed ones are unpacked to one plain file first."""

    def __init__(self, file: Path, name: str, settings: Settings, findings: Findings) -> None:
        self.name = name
        listing = _Listing(name, settings, findings)
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
        self.members, self.folders = listing.members, listing.folders
        for path in self.members:
            self.folders.update(str(parent) for parent in PurePosixPath(path).parents if str(parent) != ".")
        self._file = os.open(file, os.O_RDONLY)

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


class RemoteSource:
    """A folder behind an fsspec URL, such as `s3://bucket/pets`."""

    def __init__(self, url: str, settings: Settings, findings: Findings) -> None:
        self.name = url.rstrip("/").rsplit("/", 1)[-1]
        self._filesystem, self._root = fsspec.url_to_fs(url)
        listing = _Listing(self.name, settings, findings)
        start = len(self._root.rstrip("/")) + 1
        for path, info in sorted(self._filesystem.find(self._root, detail=True).items()):
            listing.add(path[start:], int(info.get("size") or 0), regular=info.get("type", "file") == "file")
        self.members, self.folders = listing.members, listing.folders
        for path in self.members:
            self.folders.update(str(parent) for parent in PurePosixPath(path).parents if str(parent) != ".")

    def open(self, path: str) -> IO[bytes]:
        """The object opened for reading."""
        return self._filesystem.open(f"{self._root.rstrip('/')}/{path}", "rb")  # type: ignore[no-any-return]

    def read(self, path: str, limit: int) -> bytes:
        """The whole object."""
        if self.members[path].size > limit:
            raise ValueError(f"it holds {self.members[path].size:,} bytes, more than {limit:,}")
        return bytes(self._filesystem.cat_file(f"{self._root.rstrip('/')}/{path}"))


def _read_limited(file: IO[bytes], limit: int) -> bytes:
    data = file.read(limit + 1)
    if len(data) > limit:
        raise ValueError(f"it holds more than {limit:,} bytes")
    return data


def _bomb(name: str, path: str, size: int) -> BadDataError:
    where = f"{path} in {name}" if path else name
    return BadDataError(
        f"{where} would unpack to {size:,} bytes, out of all proportion: it looks like a decompression bomb.",
        "Import the images as a folder if they are really that large.",
    )


@contextmanager
def open_source(location: str, settings: Settings, findings: Findings) -> Iterator[Source]:
    """Open a folder, an archive or a URL for reading.

    Raises:
        NotFoundError: when there is nothing at `location`.
        BadDataError: when it is no folder and no archive that can be read, or too large.
        UnavailableError: when a URL cannot be reached.
    """
    if "://" in location and not location.startswith("file://"):
        with _open_remote(location, settings, findings) as source:
            yield source
        return
    path = Path(location.removeprefix("file://")).expanduser()
    try:
        mode = path.stat().st_mode
    except PermissionError as error:
        raise BadDataError(f"{location} may not be read.", "Give read permission to it.") from error
    except (OSError, ValueError) as error:
        raise NotFoundError(
            f"There is no file or folder {location}.", "Check the path; relative paths start at the current folder."
        ) from error
    if stat.S_ISDIR(mode):
        yield FolderSource(path, settings, findings)
    elif stat.S_ISREG(mode):
        with _open_archive(path, path.name, settings, findings) as source:
            yield source
    else:
        raise BadDataError(f"{location} is neither a file nor a folder.", "Give a folder, a zip or a tar.")


@contextmanager
def _open_archive(path: Path, name: str, settings: Settings, findings: Findings) -> Iterator[Source]:
    size = path.stat().st_size
    if size > settings.max_archive_bytes:
        raise BadDataError(
            f"{name} has {size:,} bytes, more than the {settings.max_archive_bytes:,} allowed.",
            "Import it as a folder, split it, or raise STATIONMASTER_MAX_ARCHIVE_BYTES.",
        )
    try:
        with path.open("rb") as file:
            magic = file.read(265)
    except PermissionError as error:
        raise BadDataError(f"{name} may not be read.", "Give read permission to it.") from error
    archive: ZipSource | TarSource
    if magic[:4] in (b"PK\x03\x04", b"PK\x05\x06", b"PK\x07\x08"):
        archive = ZipSource(path, name, settings, findings)
        try:
            yield archive
        finally:
            archive.close()
        return
    packer = next((packer for start, packer in _PACKERS if magic.startswith(start)), None)
    if packer is not None:
        with tempfile.TemporaryDirectory(prefix="import-", dir=_scratch(settings)) as folder:
            plain = Path(folder) / "plain.tar"
            _unpack_stream(path, plain, packer, name, size, settings)
            archive = TarSource(plain, name, settings, findings)
            try:
                yield archive
            finally:
                archive.close()
        return
    if magic[257:262] == b"ustar" or tarfile.is_tarfile(path):
        archive = TarSource(path, name, settings, findings)
        try:
            yield archive
        finally:
            archive.close()
        return
    raise BadDataError(f"{name} is no folder and no archive that can be read.", "Give a folder, a zip or a tar (plain, gz, bz2, xz).")


_Packer = type[gzip.GzipFile] | type[bz2.BZ2File] | type[lzma.LZMAFile]
_PACKERS: tuple[tuple[bytes, _Packer], ...] = (
    (b"\x1f\x8b", gzip.GzipFile),
    (b"BZh", bz2.BZ2File),
    (b"\xfd7zXZ\x00", lzma.LZMAFile),
)


def _scratch(settings: Settings) -> Path:
    folder = settings.cache / "imports"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _unpack_stream(path: Path, target: Path, packer: _Packer, name: str, size: int, settings: Settings) -> None:
    """Write the plain tar that a packed one holds, no further than the limits go."""
    written = 0
    try:
        with packer(path) as stream, target.open("wb") as out:
            while chunk := stream.read(1 << 20):
                written += len(chunk)
                if written > _BOMB_BYTES and written > _BOMB_RATIO * size:
                    raise _bomb(name, "", written)
                if written > settings.max_archive_bytes * 4:
                    raise BadDataError(
                        f"{name} unpacks to more than {settings.max_archive_bytes * 4:,} bytes.", "Import it as a folder, or split it."
                    )
                if written % (64 << 20) < (1 << 20) and shutil.disk_usage(target.parent).free < settings.min_free_bytes:
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                out.write(chunk)
    except (gzip.BadGzipFile, EOFError, zlib.error, lzma.LZMAError) as error:
        raise BadDataError(f"{name} is damaged: {error}.", "Check that it was copied whole.") from error
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise UnavailableError(
                f"There is no space left on the disk that holds {target.parent}.", "Free some space, then try again."
            ) from error
        if error.errno is None:  # bz2 says it so
            raise BadDataError(f"{name} is damaged: {error}.", "Check that it was copied whole.") from error
        raise


@contextmanager
def _open_remote(url: str, settings: Settings, findings: Findings) -> Iterator[Source]:
    try:
        filesystem, path = fsspec.url_to_fs(url)
        if not filesystem.exists(path):
            raise NotFoundError(f"There is nothing at {url}.", "Check the address and that this host may read it.")
        if filesystem.isdir(path):
            yield RemoteSource(url, settings, findings)
            return
        size = int(filesystem.size(path) or 0)
        if size > settings.max_archive_bytes:
            raise BadDataError(
                f"{url} has {size:,} bytes, more than the {settings.max_archive_bytes:,} allowed.", "Raise STATIONMASTER_MAX_ARCHIVE_BYTES."
            )
        with tempfile.TemporaryDirectory(prefix="import-", dir=_scratch(settings)) as folder:
            local = Path(folder) / "archive"
            filesystem.get_file(path, str(local))
            with _open_archive(local, url.rstrip("/").rsplit("/", 1)[-1], settings, findings) as source:
                yield source
    except ImportError as error:
        raise UnavailableError(f"{url} cannot be read: {error}.", "Install that package beside Stationmaster.") from error
    except (OSError, ValueError) as error:
        raise UnavailableError(
            f"{url} cannot be read: {error}.", "Check the address, the network and the credentials of this host."
        ) from error
