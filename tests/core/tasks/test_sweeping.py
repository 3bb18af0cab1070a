"""Checkpoints go with the end of their task, also where no worker was there to take them away."""

from collections.abc import Callable
from typing import Any

from core.access import Actor
from core.db.session import Database
from core.db.tables import Task
from core.storage import Storage
from core.tasks.actions import stop_task
from core.tasks.sweeping import checkpoints_of, sweep_checkpoints


def test_what_ended_tasks_have_left_goes_and_the_rest_stays(
    database: Database, storage: Storage, make_task: Callable[..., Task], ada: Actor, jobs_of: Any
) -> None:
    stopped, waiting = make_task(3), make_task(1)
    for task in (stopped, waiting):
        storage.write(f"{checkpoints_of(task.id)}/1/checkpoint/state-1.pt", b"weights")
    storage.write(f"tasks/{stopped.id}/split.json", b"{}")
    with database.write() as session:
        stop_task(session, ada, session.get_one(Task, stopped.id), "discard")
    assert sweep_checkpoints(database, storage) == 1
    assert not storage.exists(checkpoints_of(stopped.id)) and storage.exists(f"tasks/{stopped.id}/split.json")
    assert storage.exists(checkpoints_of(waiting.id))
    assert sweep_checkpoints(database, storage) == 0
