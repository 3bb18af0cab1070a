"""The embedded Valkey: one per home, nothing lost on a kill, gone with its parent, and clear words when it cannot run."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
import redis

from bot.terminal import embedded_valkey
from bot.terminal.embedded_valkey import EmbeddedValkey
from core.errors import UnavailableError
from core.queue import connect, valkey_socket
from core.settings import Settings

# Starts the server of the home in argv[1], says its pid, and waits to be killed.
HOLDER = """
import sys, time
from bot.terminal.embedded_valkey import EmbeddedValkey
from core.settings import Settings
valkey = EmbeddedValkey(Settings(home=sys.argv[1]))
print(valkey.start(), valkey.pid, flush=True)
time.sleep(60)
"""


def _wait(condition: Callable[[], bool], seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come to pass"
        time.sleep(0.02)


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.delenv("STATIONMASTER_REDIS_URL", raising=False)
    return Settings(home=tmp_path / "home")


@pytest.fixture
def valkey(settings: Settings) -> Iterator[EmbeddedValkey]:
    server = EmbeddedValkey(settings)
    yield server
    server.stop()


def test_it_starts_answers_and_ends(valkey: EmbeddedValkey, settings: Settings) -> None:
    assert not valkey.answers()
    assert valkey.start()
    assert connect(settings).ping()
    assert (valkey.folder.stat().st_mode & 0o777, valkey.socket.stat().st_mode & 0o777) == (0o700, 0o700)
    [process] = [psutil.Process(valkey.pid)]
    assert not process.net_connections("tcp")  # nobody on the network can reach it
    valkey.stop()
    assert not valkey.answers()
    assert not process.is_running()


def test_a_running_one_is_used_again_and_not_stopped_by_its_guest(valkey: EmbeddedValkey, settings: Settings) -> None:
    valkey.start()
    guest = EmbeddedValkey(settings)
    assert guest.start() is False
    guest.stop()
    assert valkey.answers()


def test_nothing_is_lost_on_a_kill(valkey: EmbeddedValkey, settings: Settings) -> None:
    valkey.start()
    client = redis.Redis(unix_socket_path=str(valkey.socket))
    client.rpush("jobs", *range(500))
    assert valkey.pid is not None
    os.kill(valkey.pid, signal.SIGKILL)
    _wait(valkey.died)
    assert valkey.start()
    assert connect(settings).llen("jobs") == 500


def test_it_dies_with_its_parent_even_on_a_kill_and_can_start_again_at_once(valkey: EmbeddedValkey, settings: Settings) -> None:
    holder = subprocess.Popen([sys.executable, "-c", HOLDER, str(settings.home)], stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    started, pid = holder.stdout.readline().split()
    assert started == "True"
    assert valkey.start() is False
    holder.kill()
    holder.wait()
    # The old one may still be writing its log out: nobody may work on it meanwhile, so this waits for it.
    _wait(lambda: valkey.start() is True)
    assert valkey.pid != int(pid)
    assert connect(settings).ping()


def test_started_by_many_at_once_there_is_one(valkey: EmbeddedValkey, settings: Settings) -> None:
    holders = [subprocess.Popen([sys.executable, "-c", HOLDER, str(settings.home)], stdout=subprocess.PIPE, text=True) for _ in range(4)]
    try:
        answers = [holder.stdout.readline().split()[0] for holder in holders if holder.stdout is not None]
        assert sorted(answers) == ["False", "False", "False", "True"]
    finally:
        for holder in holders:
            holder.kill()
            holder.wait()


def test_a_home_too_long_for_a_socket(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path / ("long" * 30))
    server = EmbeddedValkey(settings)
    try:
        assert server.start()
        assert len(os.fsencode(server.socket)) <= 100
        assert connect(settings).ping()
        assert (settings.home / "valkey" / "appendonlydir").is_dir()
        assert valkey_socket(Settings(home=tmp_path / ("lang" * 30))) != server.socket
    finally:
        server.stop()


def test_a_socket_folder_that_others_may_write_to_is_refused(valkey: EmbeddedValkey) -> None:
    valkey.folder.mkdir(parents=True)
    valkey.folder.chmod(0o777)
    with pytest.raises(UnavailableError, match="others may write") as caught:
        valkey.start()
    assert "chmod 700" in caught.value.remedy


def test_no_program_for_this_machine(valkey: EmbeddedValkey, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.machine", lambda: "abacus")
    with pytest.raises(UnavailableError, match="no Valkey program for this machine") as caught:
        valkey.start()
    assert "STATIONMASTER_REDIS_URL" in caught.value.remedy


def test_no_space(valkey: EmbeddedValkey, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded_valkey, "NEEDED_BYTES", 1 << 60)
    with pytest.raises(UnavailableError, match="no space left"):
        valkey.start()


def test_a_home_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(UnavailableError, match="cannot be used"):
        EmbeddedValkey(Settings(home=tmp_path / "file" / "home")).start()


def test_a_damaged_log_of_changes_is_said_with_where_to_look(valkey: EmbeddedValkey) -> None:
    valkey.start()
    redis.Redis(unix_socket_path=str(valkey.socket)).set("a", "b")
    valkey.stop()
    [changes] = (valkey.folder / "appendonlydir").glob("*.incr.aof")
    changes.write_bytes(b"this is no log of changes\n" * 10)
    with pytest.raises(UnavailableError, match="does not start") as caught:
        valkey.start()
    assert str(valkey.log) in caught.value.remedy


def test_a_long_log_is_set_aside(valkey: EmbeddedValkey, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded_valkey, "LOG_BYTES", 100)
    for _ in range(2):
        valkey.start()
        valkey.stop()
    assert valkey.log.with_suffix(".log.1").stat().st_size > 100
