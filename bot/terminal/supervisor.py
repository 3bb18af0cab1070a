"""Watches over child processes: starts dead ones again, passes the end on, and never leaves one behind.

Behind `stationmaster up` (everything on one host) and `stationmaster worker` (one worker, and a queue where there is none).
"""

import errno
import fcntl
import importlib.util
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from subprocess import Popen
from types import FrameType

from bot.faces import configured_faces
from bot.terminal.children import start_child
from bot.terminal.embedded_valkey import EmbeddedValkey
from core.errors import ConflictError, InvalidInputError, UnavailableError
from core.settings import Settings

POLL_SECONDS = 0.2
VALKEY_CHECK_SECONDS = 2.0
# A worker gives its training up to 60 s for a last checkpoint (worker.process.PAUSE_SECONDS).
GRACE_SECONDS = 75.0
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 30.0
# A child that has lived so long was well: its next death is its first again.
WELL_SECONDS = 60.0
KEEPS_DYING = 4


@dataclass(frozen=True)
class ChildPlan:
    """A process that shall run. `environment` adds to ours."""

    name: str
    command: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass
class _Child:
    plan: ChildPlan
    process: "Popen[bytes] | None" = None
    started: float = 0.0
    due: float = 0.0
    deaths: int = 0


class Supervisor:
    """Runs the planned children, and the embedded Valkey where one is given, until a signal says to end."""

    def __init__(
        self,
        plans: Sequence[ChildPlan],
        valkey: EmbeddedValkey | None,
        *,
        say: Callable[[str], None],
        restart: bool = True,
        grace_seconds: float = GRACE_SECONDS,
    ) -> None:
        self._children = [_Child(plan) for plan in plans]
        self._valkey = valkey
        self._valkey_due = 0.0
        self._valkey_fault = ""
        self._say = say
        self._restart = restart
        self._grace = grace_seconds
        self._signals: list[int] = []
        self._woken = threading.Event()

    def run(self) -> int:
        """Work until SIGTERM, SIGINT or SIGHUP. Call it from the main thread.

        Returns:
            The exit code: 0 after an orderly end; without `restart`, the code of the first child that ended.

        Raises:
            UnavailableError: when the queue's server or a child cannot be started at all.
        """
        with self._handling_signals():
            try:
                if self._valkey is not None:
                    self._valkey.start()
                for child in self._children:
                    self._start(child)
                    self._say(f"{child.plan.name} started (process {child.process.pid if child.process else '?'}).")
                while not self._signals:
                    self._woken.wait(POLL_SECONDS)
                    self._watch_valkey()
                    for child in self._children:
                        code = self._watch(child)
                        if code is not None:
                            return code
                return 0
            finally:
                self._end()

    @contextmanager
    def _handling_signals(self) -> Iterator[None]:
        def note(number: int, _frame: FrameType | None) -> None:
            self._signals.append(number)
            self._woken.set()

        before = {number: signal.signal(number, note) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _start(self, child: _Child) -> None:
        try:
            child.process = start_child(child.plan.command, environment={**os.environ, **child.plan.environment})
        except OSError as error:
            raise UnavailableError(f"{child.plan.name} cannot be started: {error.strerror}.", "Install Stationmaster again.") from error
        child.started = time.monotonic()

    def _watch(self, child: _Child) -> int | None:
        """Look after one child; its exit code where that ends everything."""
        time_now = time.monotonic()
        if child.process is None:
            if time_now >= child.due:
                self._start(child)
            return None
        code = child.process.poll()
        if code is None:
            return None
        child.process = None
        how = f"was killed by signal {-code}" if code < 0 else f"ended with code {code}"
        if not self._restart:
            if code:
                self._say(f"{child.plan.name} {how}.")
            return code if code >= 0 else 128 - code
        child.deaths = 1 if time_now - child.started > WELL_SECONDS else child.deaths + 1
        pause = min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** (child.deaths - 1))
        child.due = time_now + pause
        more = " It keeps ending; what it wrote above should say why." if child.deaths >= KEEPS_DYING else ""
        self._say(f"{child.plan.name} {how}; started again in {pause:.0f} s.{more}")
        return None

    def _watch_valkey(self) -> None:
        valkey = self._valkey
        if valkey is None or (time.monotonic() < self._valkey_due and not valkey.died()):
            return
        self._valkey_due = time.monotonic() + VALKEY_CHECK_SECONDS
        # A server that is busy for a moment is left alone: only one that is gone is started anew.
        if not valkey.died() and (valkey.pid is not None or valkey.answers()):
            return
        try:
            valkey.start()
        except UnavailableError as error:
            if str(error) != self._valkey_fault:
                self._say(str(error))
            self._valkey_fault = str(error)
            self._valkey_due = time.monotonic() + LONGEST_PAUSE
        else:
            self._say("The queue's server had ended; it runs again.")
            self._valkey_fault = ""

    def _end(self) -> None:
        self._woken.clear()
        asked = len(self._signals)
        processes = [(child.plan.name, child.process) for child in self._children if child.process is not None]
        for _, process in processes:
            process.terminate()
        deadline = time.monotonic() + self._grace
        while any(process.poll() is None for _, process in processes):
            # A second Ctrl-C means: now.
            if time.monotonic() > deadline or len(self._signals) > asked:
                for name, process in processes:
                    if process.poll() is None:
                        self._say(f"{name} did not end in time and is killed.")
                        process.kill()
                break
            time.sleep(0.05)
        for _, process in processes:
            process.wait()
        if self._valkey is not None:
            self._valkey.stop()


# ---------------------------------------------------------------- what runs


@contextmanager
def only_one(home: Path) -> Iterator[None]:
    """Hold the home's lock against a second `up`.

    Raises:
        ConflictError: naming the process that holds it.
        UnavailableError: when the home cannot be written.
    """
    home = home.expanduser().absolute()
    try:
        home.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(home / "up.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise _unusable(home, error) from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = os.read(descriptor, 20).decode(errors="replace").strip() or "unknown"
            what = f"Stationmaster is up on {home} already (process {holder})."
            raise ConflictError(what, "Stop that one first, or set another STATIONMASTER_HOME.") from error
        try:
            os.ftruncate(descriptor, 0)
            os.write(descriptor, str(os.getpid()).encode())
        except OSError as error:
            raise _unusable(home, error) from error
        yield
    finally:
        os.close(descriptor)


def _unusable(home: Path, error: OSError) -> UnavailableError:
    what = f"The home folder {home} cannot be used: {error.strerror}."
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return UnavailableError(what, "Free some space, then try again.")
    return UnavailableError(what, "Set STATIONMASTER_HOME to a folder that you may write to.")


def plans_for_up(settings: Settings, gpu_workers: int = 0) -> list[ChildPlan]:
    """Both kinds of worker, unless told otherwise one gpu worker for every `devices_per_job` devices, and one process for all configured faces.

    Raises:
        InvalidInputError: when a face is configured by half, or there are fewer devices than train one job.
        UnavailableError: when the worker's libraries are not installed.
    """
    owned = shared_out(cuda_devices(), settings.devices_per_job)
    count = gpu_workers or len(owned)
    plans = [ChildPlan("The light worker", worker_command("--kind", "light"), {"CUDA_VISIBLE_DEVICES": ""})]
    for number in range(count):
        name = "The gpu worker" if count == 1 else f"The gpu worker {number + 1} of {count}"
        # Set before it starts: a process that shares its device with another's training would run out of its memory.
        devices = owned[number % len(owned)]
        plans.append(ChildPlan(name, worker_command("--kind", "gpu"), {"CUDA_VISIBLE_DEVICES": ",".join(devices)} if devices else {}))
    if faces := configured_faces(settings):
        titles = " and ".join(face.title for face in faces)
        plans.append(ChildPlan(f"The bot ({titles})", (sys.executable, "-m", "bot", "bot")))
    return plans


def worker_command(*arguments: str) -> tuple[str, ...]:
    """How `python -m worker` is started.

    Raises:
        UnavailableError: when its libraries are not installed.
    """
    if importlib.util.find_spec("torch") is None:
        raise UnavailableError("The worker's libraries are not installed.", "Install them with `pip install 'stationmaster[worker]'`.")
    return (sys.executable, "-m", "worker", *arguments)


def shared_out(devices: list[str], devices_per_job: int) -> list[list[str]]:
    """The devices that each gpu worker of a host owns; of a host without GPUs one worker that owns none.

    Raises:
        InvalidInputError: when there are GPUs, but fewer than train one job.
    """
    if not devices:
        return [[]]
    owned = [devices[start : start + devices_per_job] for start in range(0, len(devices) - devices_per_job + 1, devices_per_job)]
    if not owned:
        raise InvalidInputError(
            f"{devices_per_job} GPUs are to train one job (STATIONMASTER_DEVICES_PER_JOB), and this host shows {len(devices)}.",
            "Set it to as many as there are, or to 1.",
        )
    return owned


def cuda_devices(drivers: Path = Path("/proc/driver/nvidia/gpus")) -> list[str]:
    """The GPUs that workers may use, as CUDA names them, found without torch: CUDA_VISIBLE_DEVICES, or all the driver shows."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return [name.strip() for name in visible.split(",") if name.strip() not in ("", "-1")]
    try:
        return [str(number) for number in range(len(list(drivers.iterdir())))]
    except OSError:
        return []
