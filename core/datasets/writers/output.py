"""Where an export goes: a new folder or a zip, and the names that files get there."""

import errno
import os
import re
import shutil
import zipfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path, PurePosixPath
from typing import IO, Protocol

from core.datasets.records import Record
from core.errors import ConflictError, UnavailableError

_WINDOWS_NAMES = frozenset({"con", "prn", "aux", "nul", *(f"com{n}" for n in range(1, 10)), *(f"lpt{n}" for n in range(1, 10))})


class Output(Protocol):
    """Files are written one after the other."""

    def writing(self, path: str) -> AbstractContextManager[IO[bytes]]:
        """A file opened for writing, closed when the block ends."""
        ...

    def write(self, path: str, data: bytes) -> None:
        """Write a whole file."""
        ...


class _Folder:
    def __init__(self, root: Path) -> None:
        self._root = root

    @contextmanager
    def writing(self, path: str) -> Iterator[IO[bytes]]:
        target = self._root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("wb") as file:
            yield file

    def write(self, path: str, data: bytes) -> None:
        with self.writing(path) as file:
            file.write(data)


class _Zip:
    def __init__(self, archive: zipfile.ZipFile) -> None:
        self._archive = archive

    @contextmanager
    def writing(self, path: str) -> Iterator[IO[bytes]]:
        info = zipfile.ZipInfo(path)
        info.external_attr = 0o644 << 16
        info.compress_type = zipfile.ZIP_STORED if PurePosixPath(path).suffix in (".jpg", ".png", ".webp") else zipfile.ZIP_DEFLATED
        with self._archive.open(info, "w", force_zip64=True) as file:
            yield file

    def write(self, path: str, data: bytes) -> None:
        with self.writing(path) as file:
            file.write(data)


@contextmanager
def open_output(target: Path) -> Iterator[Output]:
    """An output at `target`: a zip if its name ends so, else a folder that must be new or empty. Nothing remains of it when the block raises.

    Raises:
        ConflictError: when there is something at `target` already.
        UnavailableError: when it cannot be written.
    """
    is_zip = target.suffix.lower() == ".zip"
    part = target.with_name(f".{target.name}.part")
    try:
        if target.exists() and not (not is_zip and target.is_dir() and not any(target.iterdir())):
            raise ConflictError(f"There is something at {target} already.", "Choose another --out.")
        target.parent.mkdir(parents=True, exist_ok=True)
        _clear(part)
        try:
            if is_zip:
                with zipfile.ZipFile(part, "w", allowZip64=True) as archive:
                    yield _Zip(archive)
            else:
                part.mkdir()
                yield _Folder(part)
            if not is_zip and target.is_dir():
                target.rmdir()
            part.replace(target)
        finally:
            _clear(part)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise UnavailableError(
                f"There is no space left on the disk that holds {target}.", "Free some space, then try again."
            ) from error
        raise UnavailableError(
            f"{target} cannot be written: {error.strerror or error}.", "Check that the folder is there and may be written."
        ) from error


def _clear(part: Path) -> None:
    if part.is_dir() and not part.is_symlink():
        shutil.rmtree(part)
    elif part.exists():
        os.unlink(part)  # noqa: PTH108  # a link goes, not what it points to


def safe_part(name: str) -> str:
    """One part of a path that every file system takes and that leads nowhere else."""
    name = re.sub(r'[\x00-\x1f<>:"/\\|?*]', "_", name).strip().rstrip(".")[:120]
    return f"_{name}" if not name or name.partition(".")[0].lower() in _WINDOWS_NAMES else name


class FileNames:
    """A file name for each record: that of the source where it can be kept, else numbered; stems are unique, so labels can be told apart."""

    def __init__(self) -> None:
        self._taken: set[str] = set()

    def name(self, record: Record, folder: str = "") -> str:
        """The file name of a record's image, its suffix that of the stored file; unique within `folder` in any case of letters."""
        source = record.path.replace("#", "-")
        stem = safe_part(PurePosixPath(source).stem)
        wanted, number = stem, 1
        while f"{folder}/{wanted}".casefold() in self._taken:
            number += 1
            wanted = f"{stem}-{number}"
        self._taken.add(f"{folder}/{wanted}".casefold())
        return wanted + PurePosixPath(record.key).suffix
