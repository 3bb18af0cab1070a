"""Whatever goes wrong ends in one clear message on standard error, never in a trace."""

import errno
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from bot.terminal.commands import task
from bot.terminal.commands.app import main
from bot.terminal.supervisor import only_one
from core.errors import UnavailableError

Run = Callable[..., str]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs a command that fails with exit code 1; what it said."""

    def call(*arguments: str) -> str:
        monkeypatch.setattr("sys.argv", ["stationmaster", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        stdout, stderr = capsys.readouterr()
        assert (ended.value.code, stdout) == (1, "")
        assert "Traceback" not in stderr
        return stderr

    return call


@pytest.mark.parametrize("url", ["nix://user:secret", "postgresql://user:secret", "oracle://host/name", "no url"])
def test_an_address_of_a_database_that_is_none(run: Run, monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv("STATIONMASTER_DATABASE_URL", url)
    said = run("task", "list", "--json")
    assert "STATIONMASTER_DATABASE_URL is not a database URL" in said and "password@host" in said and "secret" not in said


def test_a_database_on_a_full_disk(run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "home" / "stationmaster.db").mkdir(parents=True)  # cannot be opened, as on a disk without room for the index of changes
    assert "does not answer" in run("task", "list")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=0))
    said = run("task", "list")
    assert "There is no space left on the disk" in said and "Free some space" in said


def test_up_on_a_full_disk(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def full(descriptor: int, data: bytes) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(UnavailableError, match="Free some space"), only_one(tmp_path):
        pass


@pytest.mark.parametrize(
    ("error", "said", "logged"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "/data/x"), "There is no space left on the disk that holds /data/x.", False),
        (ZeroDivisionError("division by zero"), "This should not have happened: ZeroDivisionError: division by zero.", True),
    ],
    ids=["disk", "fault"],
)
def test_what_nobody_expected(run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, error: Exception, said: str, logged: bool) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(task, "list_tasks", fail)
    assert said in run("task", "list")
    log = tmp_path / "home" / "logs" / "faults.log"
    assert log.exists() is logged
    if logged:
        assert "Traceback" in log.read_text() and "task list" in log.read_text()
