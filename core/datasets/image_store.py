"""Images on their way into the storage: written plainly, made safe together at the end, because nobody sees them before that.

Synchronising each of thousands of small files to the disk would cost more than the whole import.
"""

import errno
import os
import shutil
from pathlib import Path

from core.errors import UnavailableError
from core.storage import Storage


def write(storage: Storage, key: str, data: bytes) -> None:
    """Write one image.

    Raises:
        UnavailableError: when the disk is full.
    """
    path = storage.local_path(key)
    if path is None:
        storage.write(key, data)
        return
    try:
        try:
            _write_new(str(path), data)
        except FileNotFoundError:
            path.parent.mkdir(parents=True, exist_ok=True)
            _write_new(str(path), data)
    except OSError as error:
        raise _full_or(error, storage) from error


def _write_new(path: str, data: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
    try:
        left = memoryview(data)
        while left:
            left = left[os.write(descriptor, left) :]
    finally:
        os.close(descriptor)


def check_space(storage: Storage) -> None:
    """Raise UnavailableError when less space is free than the settings want to keep."""
    path = storage.local_path("datasets")
    if path is None:
        return
    try:
        path.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(path).free
    except OSError as error:
        raise _full_or(error, storage) from error
    if free < storage.min_free_bytes:
        raise _full(storage)


def settle(storage: Storage) -> None:
    """Wait until all that was written is on the disk."""
    if storage.local_path("datasets") is not None and hasattr(os, "sync"):
        os.sync()


def _full(storage: Storage) -> UnavailableError:
    return UnavailableError(f"There is no space left on the disk that holds {storage.root}.", "Free some space, then try again.")


def _full_or(error: OSError, storage: Storage) -> UnavailableError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return _full(storage)
    where = Path(str(error.filename or storage.root))
    return UnavailableError(
        f"The storage cannot be written: {error.strerror}: {where}.",
        "Check STATIONMASTER_STORAGE_URL, STATIONMASTER_HOME and its permissions.",
    )
