"""Arrays that are worked out once for all jobs of a host: memory-mapped files under the cache folder, the least recently used go first."""

import hashlib
import os
import shutil
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import filelock
import numpy as np
from numpy.typing import NDArray

from core.errors import UnavailableError
from core.settings import Settings

Array = NDArray[Any]


class PreparationCancelledError(Exception):
    """Preparation was broken off because the job is to stop."""


def identity_of(*parts: Any, positions: Sequence[int]) -> str:
    """A name for what is worked out from `parts` (of which each must have a telling repr) for the records at `positions`."""
    identity = hashlib.sha256(repr(parts).encode())
    identity.update(np.array(positions, np.int64).tobytes())
    return identity.hexdigest()[:32]


def cached_array(
    folder: str,
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
        UnavailableError: when the disk has not enough room.
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
        _make_room(place, int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize, settings.min_free_bytes)
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
        array: Array = np.load(target, mmap_mode="r", allow_pickle=False)
    except (FileNotFoundError, ValueError, EOFError):
        return None
    if array.shape != shape or array.dtype != np.dtype(dtype):
        return None
    os.utime(target)  # the least recently used makes room first
    return array


def _make_room(folder: Path, needed: int, min_free: int) -> None:
    # A file that a running job has mapped stays readable for it after it is unlinked.
    old = sorted(folder.glob("*.npy"), key=lambda path: path.stat().st_mtime)
    while shutil.disk_usage(folder).free < needed + min_free:
        if not old:
            raise UnavailableError(
                f"The image cache needs {needed / 1e9:.1f} GB, and the disk of {folder} has not so much.",
                "Free some space, or set STATIONMASTER_CACHE_DIR to a larger disk.",
            )
        old.pop(0).unlink(missing_ok=True)
