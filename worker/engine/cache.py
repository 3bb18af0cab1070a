"""Arrays that are worked out once for all jobs of a host: memory-mapped files under the cache folder.

They take no more than the settings allow. Where one more needs room, those that no job has mapped go, the least recently used first.
"""

import fcntl
import hashlib
import os
import shutil
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, get_args

import filelock
import numpy as np
from numpy.typing import NDArray

from core.errors import UnavailableError
from core.settings import Settings

Array = NDArray[Any]


# Whose arrays share the cache's room: pixels of images; masks of regions at training size, at the size at which they are judged, and which is where;
# masks of instances.
Folder = Literal["pixels", "masks", "judged", "layers", "instances"]


class PreparationCancelledError(Exception):
    """Preparation was broken off because the job is to stop."""


class NoRoomError(UnavailableError):
    """An array is larger than the room that can be made for it. Whoever can does without it."""


def identity_of(*parts: Any, positions: Sequence[int]) -> str:
    """A name for what is worked out from `parts` (of which each must have a telling repr) for the records at `positions`."""
    identity = hashlib.sha256(repr(parts).encode())
    identity.update(np.array(positions, np.int64).tobytes())
    return identity.hexdigest()[:32]


def cached_array(
    folder: Folder,
    identity: str,
    shape: tuple[int, ...],
    fill: Callable[[Array], None],
    *,
    dtype: type[np.generic] = np.uint8,
    settings: Settings,
    cancelled: Callable[[], bool] = lambda: False,
) -> Array:
    """The array of that identity, read-only and mapped from disk; `fill` is given an empty one to work it out where there is none yet.

    Raises:
        NoRoomError: when neither the disk nor the settings have the room.
        PreparationCancelledError: when `cancelled()` says so while another job of this host is at the same work.
    """
    place = settings.cache / folder
    place.mkdir(parents=True, exist_ok=True)
    target = place / f"{identity}.npy"
    if (found := _open(target, shape, dtype)) is not None:
        return found
    with _locked(place / f"{identity}.lock", cancelled):
        if (found := _open(target, shape, dtype)) is not None:
            return found
        _make_room(settings, int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize)
        _write(target, shape, dtype, fill)
    found = _open(target, shape, dtype)
    if found is None:
        raise UnavailableError(f"The cache {place} loses its files.", "Check STATIONMASTER_CACHE_DIR.")
    return found


def _write(target: Path, shape: tuple[int, ...], dtype: type[np.generic], fill: Callable[[Array], None]) -> None:
    for left_over in target.parent.glob(f"{target.stem}.*.part"):  # of a job that was killed; the lock says that none is at work
        left_over.unlink(missing_ok=True)
    temporary = target.with_name(f"{target.stem}.{uuid.uuid4().hex[:8]}.part")
    try:
        array = np.lib.format.open_memmap(temporary, mode="w+", dtype=dtype, shape=shape)
        fill(array)
        array.flush()
        del array
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def _locked(path: Path, cancelled: Callable[[], bool]) -> Iterator[None]:
    lock = filelock.FileLock(path)
    while True:  # another job of this host may be at the same work: wait for it, but not deaf
        try:
            lock.acquire(timeout=0.5)
            break
        except filelock.Timeout:
            if cancelled():
                raise PreparationCancelledError from None
    try:
        yield
    finally:
        lock.release()


def _open(target: Path, shape: tuple[int, ...], dtype: type[np.generic]) -> Array | None:
    try:
        with target.open("rb") as file:
            # Says that the array is in use for as long as it is mapped: the mapping has a descriptor of its own of the same open file.
            fcntl.flock(file, fcntl.LOCK_SH)
            if not os.fstat(file.fileno()).st_nlink:  # it has just made room
                return None
            version = np.lib.format.read_magic(file)
            if version != (1, 0) or np.lib.format.read_array_header_1_0(file) != (shape, False, np.dtype(dtype)):
                return None
            array: Array = np.memmap(file, dtype, "r", offset=file.tell(), shape=shape)
    except (FileNotFoundError, ValueError, EOFError):
        return None
    os.utime(target)  # the least recently used makes room first
    return array


def _make_room(settings: Settings, needed: int) -> None:
    """Have room for so many bytes; nothing goes where that would not be enough."""
    found = [path for folder in get_args(Folder) for path in (settings.cache / folder).glob("*.npy")]
    sizes = {path: status for path in found if (status := _status(path)) is not None}
    missing = needed + settings.min_free_bytes - shutil.disk_usage(settings.cache).free
    if settings.cache_bytes:
        missing = max(missing, needed + sum(status.st_size for status in sizes.values()) - settings.cache_bytes)
    old = sorted((path for path in sizes if missing > 0 and _unused(path)), key=lambda path: sizes[path].st_mtime)
    if missing <= sum(sizes[path].st_size for path in old):
        for path in old:
            if missing > 0 and _unused(path, remove=True):
                missing -= sizes[path].st_size
    if missing > 0:
        raise NoRoomError(
            f"The image cache needs {needed / 1e9:.1f} GB more, and {settings.cache} has not so much for it.",
            "Free some space, allow it more by STATIONMASTER_CACHE_BYTES, or set STATIONMASTER_CACHE_DIR to a larger disk.",
        )


def _status(path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except FileNotFoundError:
        return None


def _unused(path: Path, *, remove: bool = False) -> bool:
    """Whether no process has the array mapped; it is removed then, where that is asked for."""
    try:
        with path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if remove:
                path.unlink(missing_ok=True)
    except OSError:  # in use, or gone
        return False
    return True
