"""Opening what people name: a folder, an archive, or a URL of either."""

import bz2
import errno
import gzip
import lzma
import os
import re
import shutil
import stat
import tarfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import fsspec

from core.datasets.findings import Findings
from core.datasets.images import is_dicom
from core.datasets.reading import may_be_dicom
from core.datasets.source import Source
from core.datasets.sources.folders import FolderSource
from core.datasets.sources.limits import BOMB_BYTES, BOMB_RATIO, bomb
from core.datasets.sources.remote import RemoteSource
from core.datasets.sources.scratch import scratch_folder
from core.datasets.sources.tars import TarSource
from core.datasets.sources.zips import ZipSource
from core.errors import BadDataError, InvalidInputError, NotFoundError, UnavailableError
from core.settings import Settings

_FOREIGN = (
    (b"7z\xbc\xaf\x27\x1c", "7-Zip archive"),
    (b"Rar!", "RAR archive"),
    (b"\x28\xb5\x2f\xfd", "Zstandard archive"),
    (b"\xff\xd8\xff", "single image"),
    (b"\x89PNG", "single image"),
)


@contextmanager
def open_source(location: str, settings: Settings, findings: Findings) -> Iterator[Source]:
    """Open a folder, an archive or a URL for reading.

    Raises:
        InvalidInputError: when `location` is empty.
        NotFoundError: when there is nothing at `location`.
        BadDataError: when it is no folder and no archive that can be read, or too large.
        UnavailableError: when a URL cannot be reached.
    """
    with _opened(location, settings, findings) as source:
        _find_dicom(source)
        yield source


def _find_dicom(source: Source) -> None:
    """Look into files without a suffix, or with a number for one: so scanners name DICOM files."""
    for path, member in source.members.items():
        if member.size <= 132 or not may_be_dicom(path):
            continue
        try:
            with source.open(path) as file:
                found = is_dicom(file.read(132))
        except (OSError, KeyError, zlib.error, EOFError):
            continue  # whoever wants it will say what is wrong with it
        if found:
            source.members[path] = replace(member, is_dicom=True)


@contextmanager
def _opened(location: str, settings: Settings, findings: Findings) -> Iterator[Source]:
    if not location.strip():
        raise InvalidInputError("Nothing was named to be imported.", "Give a folder, a zip or tar, or a URL.")
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
    if re.search(r"\.(z\d\d|zip\.\d{3}|part\d+\.\w+)$", name, re.I):
        raise BadDataError(f"{name} is one part of a divided archive.", "Join the parts into one archive first, or unpack them.")
    if magic[:4] in (b"PK\x03\x04", b"PK\x05\x06", b"PK\x07\x08"):
        archive = ZipSource(path, name, settings, findings)
        try:
            yield archive
        finally:
            archive.close()
        return
    packer = next((packer for start, packer in _PACKERS if magic.startswith(start)), None)
    if packer is not None:
        with scratch_folder(settings) as folder:
            plain = folder / "plain.tar"
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
    what = next((what for start, what in _FOREIGN if magic.startswith(start)), "")
    if what == "single image" or name.lower().endswith((".csv", ".json", ".xml", ".yaml", ".txt")):
        raise BadDataError(f"{name} is {f'a {what}' if what else 'a file of labels'}, not a dataset.", "Give the folder that holds it.")
    if what:
        raise BadDataError(
            f"{name} is a {what}, which cannot be read here.", "Pack it as a zip or a tar (plain, gz, bz2, xz), or unpack it."
        )
    raise BadDataError(f"{name} is no folder and no archive that can be read.", "Give a folder, a zip or a tar (plain, gz, bz2, xz).")


_Packer = type[gzip.GzipFile] | type[bz2.BZ2File] | type[lzma.LZMAFile]
_PACKERS: tuple[tuple[bytes, _Packer], ...] = (
    (b"\x1f\x8b", gzip.GzipFile),
    (b"BZh", bz2.BZ2File),
    (b"\xfd7zXZ\x00", lzma.LZMAFile),
)


def _unpack_stream(path: Path, target: Path, packer: _Packer, name: str, size: int, settings: Settings) -> None:
    """Write the plain tar that a packed one holds, no further than the limits go."""
    written = 0
    try:
        with packer(path) as stream, target.open("wb") as out:
            while chunk := stream.read(1 << 20):
                written += len(chunk)
                if written > BOMB_BYTES and written > BOMB_RATIO * size:
                    raise bomb(name, "", written)
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
        with scratch_folder(settings) as folder:
            local = folder / "archive"
            filesystem.get_file(path, str(local))
            with _open_archive(local, url.rstrip("/").rsplit("/", 1)[-1], settings, findings) as source:
                yield source
    except ImportError as error:
        raise UnavailableError(f"{url} cannot be read: {error}.", "Install that package beside Stationmaster.") from error
    except (OSError, ValueError) as error:
        raise UnavailableError(
            f"{url} cannot be read: {error}.", "Check the address, the network and the credentials of this host."
        ) from error
