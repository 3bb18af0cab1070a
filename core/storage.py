"""Where bytes live: one fsspec URL, a local folder or an object store. Keys are made by us, never by people.

Writes are atomic: a reader sees the whole old or the whole new object, also when the writer is killed.
"""

import errno
import functools
import os
import shutil
import tempfile
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path, PurePosixPath
from typing import IO, TYPE_CHECKING, Any, ParamSpec, TypeVar, cast

import fsspec
from fsspec.implementations.local import LocalFileSystem
from fsspec.implementations.memory import MemoryFileSystem

from core.clock import now
from core.errors import StationmasterError, UnavailableError

if TYPE_CHECKING:  # the processes that decode images need no settings
    from core.settings import Settings


Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


def _answered(method: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """Of a storage on a network raise UnavailableError where its library has errors of its own for one that does not answer."""

    @functools.wraps(method)
    def asking(*arguments: Arguments.args, **more: Arguments.kwargs) -> Result:
        try:
            return method(*arguments, **more)
        except (OSError, StationmasterError, ValueError, TypeError, LookupError, AttributeError, AssertionError, NotImplementedError):
            raise
        except Exception as error:
            storage = cast("Storage", arguments[0])
            if isinstance(storage.filesystem, LocalFileSystem):
                raise
            raise UnavailableError(
                f"The storage {storage.root} does not answer ({type(error).__name__}).",
                "Check STATIONMASTER_STORAGE_URL, its credentials and the network.",
            ) from error

    return asking


class Storage:
    """Objects under a root URL, addressed by relative keys such as `models/ab12/model.safetensors`."""

    def __init__(self, url: str, min_free_bytes: int = 0) -> None:
        self.url = url
        self.filesystem, self.root = fsspec.core.url_to_fs(url)
        self.min_free_bytes = min_free_bytes

    @classmethod
    def of(cls, settings: "Settings") -> "Storage":
        """The installation's storage."""
        return cls(settings.storage, settings.min_free_bytes)

    @property
    def shared(self) -> bool:
        """Whether another process reaches the same objects under the same URL."""
        return not isinstance(self.filesystem, MemoryFileSystem)

    def _path(self, key: str) -> str:
        parts = PurePosixPath(key).parts
        if not parts or key.startswith("/") or ".." in parts or "\\" in key:
            raise ValueError(f"not a storage key: {key!r}")
        return f"{self.root}/{key}"

    def local_path(self, key: str) -> Path | None:
        """The file of `key` where the storage is a local folder, else None."""
        return Path(self._path(key)) if isinstance(self.filesystem, LocalFileSystem) else None

    @_answered
    def exists(self, key: str) -> bool:
        """Whether there is an object or folder at `key`."""
        return bool(self.filesystem.exists(self._path(key)))

    @_answered
    def read(self, key: str) -> bytes:
        """The whole object. Raises FileNotFoundError where there is none."""
        return bytes(self.filesystem.cat_file(self._path(key)))

    @_answered
    def open(self, key: str) -> IO[bytes]:
        """The object opened for reading."""
        return self.filesystem.open(self._path(key), "rb")  # type: ignore[no-any-return]

    @_answered
    def write(self, key: str, data: bytes) -> None:
        """Write the whole object atomically."""
        if not isinstance(self.filesystem, LocalFileSystem):
            self.filesystem.pipe_file(self._path(key), data)
            return
        with self.writing(key) as file:
            file.write(data)

    @contextmanager
    def writing(self, key: str) -> Iterator[IO[bytes]]:
        """A file that becomes `key` when the block ends well, and vanishes when it raises.

        Raises:
            UnavailableError: when the disk is full, or fuller than `min_free_bytes` allows.
        """
        target = self._path(key)
        try:
            if not isinstance(self.filesystem, LocalFileSystem):
                # Not in a transaction of fsspec's: it is one for all threads of the process, and not every filesystem heeds it.
                with tempfile.NamedTemporaryFile() as whole:
                    yield whole
                    whole.flush()
                    self._put(whole.name, target)
                return
            path = Path(target)
            path.parent.mkdir(parents=True, exist_ok=True)
            if shutil.disk_usage(path.parent).free < self.min_free_bytes:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.part")
            try:
                with temporary.open("wb") as local:
                    yield local
                    local.flush()
                    os.fsync(local.fileno())
                temporary.replace(path)
            finally:
                temporary.unlink(missing_ok=True)
        except Exception as error:
            if _no_space(error):
                raise UnavailableError(
                    f"There is no space left on the disk that holds {self.root}.", "Free some space, then try again."
                ) from error
            raise

    @_answered
    def _put(self, name: str, target: str) -> None:
        self.filesystem.put_file(name, target)

    @_answered
    def list(self, prefix: str) -> list[str]:
        """Keys of all objects below the folder `prefix`, sorted."""
        root = self._path(prefix)
        if not self.filesystem.exists(root):
            return []
        start = len(self.root) + 1
        return sorted(path[start:] for path in self.filesystem.find(root))

    @_answered
    def delete(self, key: str) -> None:
        """Delete an object, or a folder with all it holds; nothing happens where there is none."""
        path = self._path(key)
        if self.filesystem.exists(path):
            self.filesystem.rm(path, recursive=True)

    @_answered
    def age(self, key: str) -> timedelta:
        """How long ago an object was last written; nothing where the storage does not say."""
        try:
            changed: datetime = self.filesystem.modified(self._path(key))
        except NotImplementedError:
            return timedelta(0)
        return now() - (changed if changed.tzinfo else changed.replace(tzinfo=UTC))

    @_answered
    def info(self, key: str) -> dict[str, Any]:
        """Size and the like, as fsspec says it."""
        return dict(self.filesystem.info(self._path(key)))


def _no_space(error: BaseException | None) -> bool:
    """Whether it is for want of space that a write failed, also where whoever wrote, such as `torch.save`, says something else in the end."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            return True
        error = error.__cause__ or error.__context__
    return False
