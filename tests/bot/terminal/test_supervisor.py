"""What watches over children: dead ones come back, the end reaches all, none is left behind."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from subprocess import Popen

import psutil
import pytest

from bot.terminal.supervisor import cuda_devices, only_one, shared_out
from core.errors import ConflictError, InvalidInputError, UnavailableError

# Children note their pid in argv[1]/<name>; the stubborn one does not hear SIGTERM.
SUPERVISOR = """
import sys
from pathlib import Path
from bot.terminal.embedded_valkey import EmbeddedValkey
from bot.terminal.supervisor import ChildPlan, Supervisor
from core.settings import Settings
folder, names, options = Path(sys.argv[1]), sys.argv[2].split(","), sys.argv[3:]
body = (
    "import os, pathlib, signal, sys, time\\n"
    "name = sys.argv[1]\\n"
    "signal.signal(signal.SIGTERM, signal.SIG_IGN) if name == 'stubborn' else None\\n"
    "pathlib.Path(name).open('a').write(f'{os.getpid()}\\\\n')\\n"
    "sys.exit(7) if name == 'failing' else time.sleep(60)\\n"
)
plans = [ChildPlan(name, (sys.executable, "-c", body.replace("pathlib.Path(name)", f"pathlib.Path({str(folder)!r}, name)"), name)) for name in names]
valkey = EmbeddedValkey(Settings(home=folder / "home")) if "valkey" in options else None
say = lambda text: print(text, file=sys.stderr, flush=True)
sys.exit(Supervisor(plans, valkey, say=say, restart="once" not in options, grace_seconds=1.0).run())
"""


class Running:
    """A supervisor in a process of its own."""

    def __init__(self, folder: Path, names: str, *options: str) -> None:
        self.folder = folder
        self.process = Popen([sys.executable, "-c", SUPERVISOR, str(folder), names, *options], stderr=subprocess.PIPE, text=True)

    def pids(self, name: str, count: int = 1) -> list[int]:
        """The pids that children of that name noted, once there are `count`."""
        _wait(lambda: len(self._noted(name)) >= count)
        return self._noted(name)

    def _noted(self, name: str) -> list[int]:
        file = self.folder / name
        return [int(line) for line in file.read_text().split()] if file.exists() else []

    def end(self, number: int = signal.SIGTERM) -> tuple[int, str]:
        """Send a signal; the exit code, and what was said."""
        self.process.send_signal(number)
        said = self.process.communicate(timeout=20)[1]
        return self.process.returncode, said


def _wait(condition: Callable[[], bool], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come to pass"
        time.sleep(0.02)


def _gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Callable[..., Running]]:
    """Starts supervisors, and ends those that a failing test leaves."""
    started: list[Running] = []

    def start(names: str, *options: str) -> Running:
        started.append(Running(tmp_path, names, *options))
        return started[-1]

    yield start
    for running in started:
        running.process.kill()
        running.process.communicate()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_the_end_reaches_all_children(run: Callable[..., Running], number: int) -> None:
    running = run("one,two")
    pids = running.pids("one") + running.pids("two")
    assert running.end(number)[0] == 0
    assert all(_gone(pid) for pid in pids)


def test_a_killed_child_is_started_again(run: Callable[..., Running]) -> None:
    running = run("one,two")
    other = running.pids("two")
    os.kill(running.pids("one")[0], signal.SIGKILL)
    first, second = running.pids("one", 2)
    assert _gone(first)
    assert not _gone(second)
    assert running.pids("two") == other  # and nobody else is disturbed
    code, said = running.end()
    assert code == 0
    assert "one was killed by signal 9; started again in 1 s." in said


def test_a_child_that_keeps_dying_is_tried_ever_more_slowly(run: Callable[..., Running]) -> None:
    running = run("failing")
    running.pids("failing", 3)
    said = running.end()[1]
    assert [f"failing ended with code 7; started again in {pause} s." in said for pause in (1, 2)] == [True, True]


def test_children_die_with_a_supervisor_that_is_killed(run: Callable[..., Running]) -> None:
    running = run("one,two", "valkey")
    pids = running.pids("one") + running.pids("two")
    pids += [child.pid for child in psutil.Process(running.process.pid).children() if "valkey" in child.name()]
    assert len(pids) == 3
    running.process.kill()
    _wait(lambda: all(_gone(pid) for pid in pids))


def test_a_child_that_does_not_end_in_time_is_killed(run: Callable[..., Running]) -> None:
    running = run("stubborn")
    [pid] = running.pids("stubborn")
    code, said = running.end()
    assert code == 0
    assert _gone(pid)
    assert "stubborn did not end in time and is killed." in said


def test_a_dead_queue_is_started_again(run: Callable[..., Running]) -> None:
    running = run("one", "valkey")
    running.pids("one")

    def servers() -> list[int]:
        children = psutil.Process(running.process.pid).children()
        return [child.pid for child in children if not _gone(child.pid) and "valkey" in child.name()]

    [first] = servers()
    os.kill(first, signal.SIGKILL)
    _wait(lambda: servers() not in ([], [first]))
    code, said = running.end()
    assert code == 0
    assert "The queue's server had ended; it runs again." in said


def test_without_restarts_the_exit_code_is_the_child_s(run: Callable[..., Running]) -> None:
    running = run("failing", "once")
    assert running.process.wait(20) == 7


def test_only_one_per_home(tmp_path: Path) -> None:
    with only_one(tmp_path / "home"):
        with pytest.raises(ConflictError, match=rf"is up on .*home already \(process {os.getpid()}\)"), only_one(tmp_path / "home"):
            pass
        with only_one(tmp_path / "other"):
            pass
    with only_one(tmp_path / "home"):
        pass


def test_a_home_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UnavailableError, match="cannot be used"), only_one(tmp_path / "file" / "home"):
        pass


def test_gpus_are_shared_out_by_what_the_environment_or_the_driver_shows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert cuda_devices(tmp_path / "none") == []
    for bus in ("0000:01:00.0", "0000:02:00.0"):
        (tmp_path / "gpus" / bus).mkdir(parents=True)
    assert cuda_devices(tmp_path / "gpus") == ["0", "1"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3, GPU-5ebe9f43")
    assert cuda_devices(tmp_path / "gpus") == ["3", "GPU-5ebe9f43"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert cuda_devices(tmp_path / "gpus") == []


def test_gpus_are_shared_out_among_workers() -> None:
    assert shared_out([], 4) == [[]], "a host without GPUs has one worker all the same"
    assert shared_out(["0", "1", "2", "3"], 2) == [["0", "1"], ["2", "3"]]
    assert shared_out(["0", "1", "2"], 2) == [["0", "1"]]
    assert shared_out(["0", "1"], 1) == [["0"], ["1"]]
    with pytest.raises(InvalidInputError, match="this host shows 1"):
        shared_out(["0"], 2)
