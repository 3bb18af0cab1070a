"""`stationmaster up`, `bot`, `worker`, `doctor` and `db upgrade`: running the installation, and looking after it."""

import logging
import signal
import threading
from enum import StrEnum
from types import FrameType
from typing import Annotated

import typer

from bot.faces import FACES, configured_faces, run_faces
from bot.terminal.commands.output import JsonOption, print_json, print_table, say
from bot.terminal.commands.runtime import Runtime, load_settings
from bot.terminal.doctor import Health, examine
from bot.terminal.embedded_valkey import EmbeddedValkey
from bot.terminal.supervisor import ChildPlan, Supervisor, cuda_devices, only_one, plans_for_up, shared_out, worker_command
from core.db import migrate
from core.db.session import Database
from core.errors import InvalidInputError
from core.settings import Settings, entries

db = typer.Typer(help="The database.", no_args_is_help=True)


class WorkerKind(StrEnum):
    """gpu trains; light does what must not wait behind trainings."""

    GPU = "gpu"
    LIGHT = "light"


def register(app: typer.Typer) -> None:
    """Add the commands to the app."""
    app.command()(up)
    app.command()(bot)
    app.command()(worker)
    app.command()(doctor)
    app.add_typer(db, name="db")


def up(
    gpu_workers: Annotated[int, typer.Option(min=0, max=64, help="Training workers on this host; 0 means one per GPU.")] = 0,
) -> None:
    """Run everything on this host: queue, workers, and the configured chats. Ctrl-C ends it in order."""
    runtime = Runtime.load()
    settings = runtime.settings
    plans = plans_for_up(settings, gpu_workers)
    with only_one(settings.home):
        _ = runtime.database  # made or upgraded once, before several processes want it
        say(f"Home: {settings.home}")
        say("Queue: " + ("the server of STATIONMASTER_REDIS_URL." if settings.redis_url.get_secret_value() else "embedded Valkey."))
        if not configured_faces(settings):
            names = " or ".join(face.title for face in FACES)
            say(f"No chat is configured ({names}; `stationmaster doctor` says how); `stationmaster chat` and the other commands work.")
        code = Supervisor(plans, _valkey_for(settings), say=say).run()
    say("Stationmaster has ended.")
    raise typer.Exit(code)


def bot() -> None:
    """Run the configured chats in this process, without workers."""
    runtime = Runtime.load()
    _log_at_least(runtime.settings, "INFO")
    stop = threading.Event()

    def end(_number: int, _frame: FrameType | None) -> None:
        stop.set()

    configured_faces(runtime.settings)  # said before anything is opened
    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGINT, end)
    run_faces(runtime.settings, runtime.database, runtime.storage, stop)


def worker(
    kind: Annotated[WorkerKind, typer.Option(help="gpu trains; light imports, previews, tests and exports models.")] = WorkerKind.GPU,
    devices: Annotated[
        str, typer.Option(help="GPUs that this worker owns, such as 0,1: all of them train each of its jobs together.", metavar="N,N")
    ] = "",
) -> None:
    """Run one worker on this host, and the embedded queue if no other process does."""
    runtime = Runtime.load()
    command = worker_command("--kind", kind.value)
    own: dict[str, str] = {}
    if kind is WorkerKind.GPU:
        named = entries(devices)
        if named:
            own = {"CUDA_VISIBLE_DEVICES": ",".join(named), "STATIONMASTER_DEVICES_PER_JOB": str(len(named))}
        else:
            shared_out(cuda_devices(), runtime.settings.devices_per_job)  # says it where there are too few
    elif devices:
        raise InvalidInputError("A light worker trains nothing and owns no GPU.", "Leave --devices away, or start a worker of kind gpu.")
    _ = runtime.database
    plan = ChildPlan(f"The {kind.value} worker", command, own)
    raise typer.Exit(Supervisor([plan], _valkey_for(runtime.settings), say=say, restart=False).run())


def doctor(as_json: JsonOption = False) -> None:
    """Check settings, packages, database, storage, disk, queue, workers, devices and tokens, and say how to mend each."""
    findings = list(examine())
    if as_json:
        print_json([finding.to_json() for finding in findings])
    else:
        rows = [(finding.part, finding.health.value, f"{finding.message} {finding.remedy}".strip()) for finding in findings]
        print_table(("part", "health", "what was found"), rows, empty="Nothing was checked.")
        broken = sum(finding.health is Health.BROKEN for finding in findings)
        say(f"{broken} of these must be mended." if broken else "Nothing is broken.")
    if any(finding.health is Health.BROKEN for finding in findings):
        raise typer.Exit(1)


@db.command()
def upgrade(as_json: JsonOption = False) -> None:
    """Bring the database's tables up to this version. Make a backup and stop bots and workers first."""
    database = Database.of(load_settings())
    before = migrate.current(database)
    migrate.upgrade(database)
    after = migrate.current(database)
    if as_json:
        print_json({"database": database.url.render_as_string(hide_password=True), "before": before, "after": after})
    elif before == after:
        say(f"The tables were up to date ({after}).")
    else:
        say(f"Upgraded from {before or 'an empty database'} to {after}.")


def _valkey_for(settings: Settings) -> EmbeddedValkey | None:
    return None if settings.redis_url.get_secret_value() else EmbeddedValkey(settings)


def _log_at_least(settings: Settings, level: str) -> None:
    # A service's log is read afterwards: it tells more than a command's.
    if logging.getLogger().getEffectiveLevel() > logging.getLevelName(level) and settings.log_level == level:
        logging.getLogger().setLevel(level)
