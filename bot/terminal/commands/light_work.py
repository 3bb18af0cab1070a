"""Work that a command leaves to the light worker and waits for: a face has no torch."""

from collections.abc import Callable
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


def done_by_light_worker(
    runtime: Runtime,
    kind: str,
    payload: dict[str, Any],
    seconds: float,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, Any]:
    """Submit a light job, wait for its end, and return its result. Raises what it failed with, in its own words.

    `progress` is told how many of how many are done, where the job says it.
    """
    with runtime.database.write() as session:
        job = submit_light_job(session, workspace=runtime.workspace, person=runtime.actor.person, kind=kind, payload=payload)
    runtime.wake_queue()

    def tell(told: dict[str, Any]) -> None:
        if "total" in told:
            progress(int(told["done"]), int(told["total"]))

    return wait_light_job(runtime.database, job.id, seconds=seconds, progress=tell)
