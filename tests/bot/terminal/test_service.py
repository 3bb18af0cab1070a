"""`up`, `bot`, `worker`, `doctor` and `db upgrade` as processes, the way an operator runs them."""

import contextlib
import json
import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from installation import Installation, wait_until

# A worker imports torch, timm and torchvision first: 6 s alone on two cores, ten times that beside other trainings.
pytestmark = pytest.mark.timeout(600)


@pytest.fixture
def installation(tmp_path: Path) -> Iterator[Installation]:
    made = Installation(tmp_path)
    yield made
    made.end()


def _family(process: "subprocess.Popen[str]") -> dict[str, psutil.Process]:
    kinds = {}
    for child in psutil.Process(process.pid).children():
        with contextlib.suppress(psutil.Error):  # it has just ended
            name, words = child.name(), child.cmdline()
            if words:  # one that was killed and not yet waited for has a name, but none
                kinds["valkey" if "valkey" in name else words[-1]] = child
    return kinds


def _lives(process: psutil.Process) -> bool:
    """Whether it runs; one that has ended and not been waited for does not: an orphan's new parent may never do so."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_up_runs_watches_and_ends_everything(installation: Installation) -> None:
    up = installation.start("up")
    wait_until(lambda: "The gpu worker started" in installation.said() and installation.workers() == {"gpu": 1, "light": 1})
    assert "No chat is configured" in installation.said()

    second = installation.run("up")
    assert second.returncode == 1
    assert f"(process {up.pid})" in second.stderr
    assert "Traceback" not in second.stderr

    code, parts = installation.doctor()
    assert code == 0
    assert "embedded Valkey 9" in parts["queue"][0]["message"]
    assert [finding["message"] for finding in parts["workers"]] == ["1 gpu worker alive", "1 light worker alive"]

    family = _family(up)
    assert set(family) == {"valkey", "gpu", "light"}
    family["gpu"].kill()
    wait_until(lambda: _family(up).get("gpu") not in (None, family["gpu"]) and installation.workers()["gpu"] == 1)
    assert "The gpu worker was killed by signal 9; started again in 1 s." in installation.said()

    family = _family(up)
    up.send_signal(signal.SIGINT)
    assert up.wait(120) == 0
    assert not any(_lives(child) for child in family.values())
    assert "Traceback" not in installation.said()


def test_nothing_outlives_an_up_that_is_killed(installation: Installation) -> None:
    up = installation.start("up")
    wait_until(lambda: set(_family(up)) == {"valkey", "gpu", "light"})
    family = _family(up)
    up.kill()
    up.wait()
    wait_until(lambda: not any(_lives(child) for child in family.values()))


def test_a_worker_alone_brings_the_queue_and_ends_in_order(installation: Installation) -> None:
    worker = installation.start("worker", "--kind", "light")
    wait_until(lambda: "light worker started" in installation.said() and installation.workers() == {"gpu": 0, "light": 1})
    family = _family(worker)
    assert "valkey" in family
    worker.terminate()
    assert worker.wait(120) == 0
    assert not any(_lives(child) for child in family.values())


def test_a_worker_that_cannot_work_says_so(installation: Installation) -> None:
    answer = installation.run("worker", database_url="postgresql://nobody@127.0.0.1:1/none")
    assert answer.returncode == 1
    assert "does not answer" in answer.stderr
    assert "Traceback" not in answer.stderr
    assert installation.run("worker", "--kind", "heavy").returncode == 2


def test_bot_without_a_token(installation: Installation) -> None:
    answer = installation.run("bot")
    assert answer.returncode == 1
    words = " ".join(answer.stderr.split())
    assert "No chat is configured." in words
    assert "STATIONMASTER_SLACK_BOT_TOKEN" in words
    assert "STATIONMASTER_DISCORD_TOKEN" in words
    assert "Traceback" not in answer.stderr


def test_a_face_configured_by_half(installation: Installation) -> None:
    for command in ("bot", "up"):
        answer = installation.run(command, slack_bot_token="xoxb-secret")
        assert answer.returncode == 2
        assert "STATIONMASTER_SLACK_APP_TOKEN is not set" in " ".join(answer.stderr.split())
        assert "xoxb-secret" not in answer.stderr


def test_the_doctor_finds_a_fresh_installation_sound(installation: Installation) -> None:
    code, parts = installation.doctor()
    assert code == 0
    assert set(parts) == {"settings", "packages", "home", "database", "storage", "disk", "queue", "devices", "tokens"}
    assert {finding["health"] for findings in parts.values() for finding in findings} == {"ok", "notice"}
    assert "does not run" in parts["queue"][0]["message"]
    assert parts["devices"][-1]["message"].startswith("cpu:")
    # Each notice says what to do.
    assert all(finding["remedy"] for findings in parts.values() for finding in findings if finding["health"] == "notice")
    for_people = installation.run("doctor")
    assert for_people.returncode == 0
    assert "Nothing is broken." in for_people.stderr


# Several faults at a time: a doctor who stopped at the first would show here. (part, settings, message, remedy)
FAULTS = [
    [
        ("database", {"database_url": "postgresql://someone:secret@127.0.0.1:1/none"}, "does not answer", "STATIONMASTER_DATABASE_URL"),
        ("queue", {"redis_url": "redis://:secret@127.0.0.1:1/0"}, "does not answer", "STATIONMASTER_REDIS_URL"),
        ("disk", {"min_free_bytes": str(1 << 60)}, "nothing is written", "Free some space"),
        ("storage", {}, "no space left", "Free some space"),
    ],
    [
        ("database", {"database_url": "oracle://x"}, "not a database URL", "postgresql://"),
        ("queue", {"redis_url": "http://somewhere"}, "not a URL of a Redis", "redis://"),
        ("storage", {"storage_url": "nosuch://bucket/x"}, "cannot be used", "STATIONMASTER_STORAGE_URL"),
        ("tokens", {"slack_app_token": "xapp-secret"}, "configured by half", "Set it"),
    ],
    [("settings", {"max_attempts": "many", "log_level": "LOUD"}, "STATIONMASTER_MAX_ATTEMPTS", ".env")],
]


@pytest.mark.parametrize("faults", FAULTS, ids=["away", "wrong", "unreadable"])
def test_what_is_broken_is_named_with_its_remedy(installation: Installation, faults: list[tuple[str, dict[str, str], str, str]]) -> None:
    code, parts = installation.doctor(**{name: value for _, settings, _, _ in faults for name, value in settings.items()})
    assert code == 1
    for part, _, message, remedy in faults:
        [broken] = [finding for finding in parts[part] if finding["health"] == "broken"]
        assert message in broken["message"]
        assert remedy in broken["remedy"]
    assert "secret" not in json.dumps(parts)
    assert len(parts) >= (9 if len(faults) > 1 else 1)  # the other parts were looked at all the same


def test_db_upgrade(installation: Installation) -> None:
    first = installation.run("db", "upgrade")
    assert first.returncode == 0
    assert re.search(r"Upgraded from an empty database to \d+", first.stderr)
    second = installation.run("db", "upgrade", "--json")
    assert second.returncode == 0
    answer = json.loads(second.stdout)
    assert answer["before"] == answer["after"] != ""
    unreachable = installation.run("db", "upgrade", database_url="postgresql://nobody@127.0.0.1:1/none")
    assert unreachable.returncode == 1
    assert "Traceback" not in unreachable.stderr
