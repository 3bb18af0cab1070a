"""Work that a command leaves to the light worker and waits for: a face has no torch."""

from typing import Any

from bot.terminal.commands.runtime import Runtime
from core.errors import UnavailableError
from core.tasks.light import submit_light_job, wait_light_job


def need_light_worker(runtime: Runtime, what: str) -> None:
    """Raises UnavailableError where nobody would do it; `what` is the subject of “its work”, with its verb."""
    if runtime.light_workers() == 0:
        raise UnavailableError(
            f"No light worker is running, and {what} its work.",
            "Start one with `stationmaster up` or `stationmaster worker --kind light`.",
        )


def done_by_light_worker(runtime: Runtime, kind: str, payload: dict[str, Any], seconds: float) -> dict[str, Any]:
    """Submit a light job, wait for its end, and return its result. Raises what it failed with, in its own words."""
    with runtime.database.write() as session:
        job = submit_light_job(session, workspace=runtime.workspace, person=runtime.actor.person, kind=kind, payload=payload)
    runtime.wake_queue()
    return wait_light_job(runtime.database, job.id, seconds=seconds)
