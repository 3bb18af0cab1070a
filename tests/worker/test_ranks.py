"""What is understood of how the processes of a team have ended."""

import json
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from new_tasks import training_of
from sqlalchemy import select

from core.access import Actor
from core.db.session import Database
from core.db.tables import Dataset, Event, Job, Task
from core.errors import UnavailableError
from core.events import Progress
from core.settings import Settings
from core.storage import Storage
from core.tasks.actions import stop_task
from core.tasks.creation import create_task
from core.tasks.lifecycle import FencedError, claim_job, record_epoch
from worker import rank, ranks
from worker.engine.team import TeamLostError, _together
from worker.link import Ask
from worker.rank import FollowersLink
from worker.ranks import GAVE_UP_FILE, LACKS_MEMORY, PAUSE_FILE, ran_out_of_memory
from worker.workplace import Workplace


def ended(*codes: int) -> list[Any]:
    """Processes with these exit codes, as torchrun's agent tells of them."""
    return [SimpleNamespace(exitcode=code) for code in codes]


def test_lack_of_memory_is_told_from_other_losses(monkeypatch: pytest.MonkeyPatch) -> None:
    """The next attempt takes smaller parts then; else it would be lost in the same way again."""
    monkeypatch.setattr(ranks, "out_of_memory_kills", lambda: 5)
    assert ran_out_of_memory(ended(1, LACKS_MEMORY), kills_before=5)  # it said so itself
    assert ran_out_of_memory(ended(1, -signal.SIGKILL), kills_before=4)  # the system has killed somebody since
    assert not ran_out_of_memory(ended(1, -signal.SIGKILL), kills_before=5)  # somebody else killed it
    assert not ran_out_of_memory(ended(1, -signal.SIGTERM), kills_before=4)


@pytest.mark.parametrize(
    ("error", "expected"),
    [(torch.OutOfMemoryError("CUDA out of memory."), True), (RuntimeError("Connection closed by peer"), False)],
)
def test_who_cannot_keep_up_knows_whether_it_lacks_memory(error: RuntimeError, expected: bool) -> None:
    with pytest.raises(TeamLostError) as lost, _together():
        raise error
    assert lost.value.out_of_memory is expected


@pytest.fixture
def held(settings: Settings, database: Database, add_dataset: Callable[..., Dataset]) -> str:
    """The id of a job whose first generation is being trained."""
    dataset = add_dataset("cells")
    with database.write() as session:
        task = create_task(session, settings, training_of(dataset, person="p"))
    with database.write() as session:
        job = session.scalars(select(Job).where(Job.task_id == task.id)).one()
        assert claim_job(session, job.id, 1, worker="w", device="CPU") is not None
    return job.id


def now_of(database: Database, job_id: str) -> tuple[Job, Task, list[str]]:
    """The job, its task, and what was remarked."""
    with database.read() as session:
        job = session.get_one(Job, job_id)
        said = [event.payload["message"] for event in session.scalars(select(Event).where(Event.kind == "noticed"))]
        return job, session.get_one(Task, job.task_id), said


def ask_to_stop(database: Database, job_id: str) -> None:
    with database.write() as session:
        task = session.get_one(Task, session.get_one(Job, job_id).task_id)
        stop_task(session, Actor(task.workspace, task.created_by, ""), task, "keep")


def test_who_waits_for_the_storage_hears_of_a_stop_and_an_end_without_the_leader(
    database: Database, held: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who may be waiting for this very process, in a collective operation, and hears nothing."""
    monkeypatch.setattr(rank, "LOOK_SECONDS", 0.0)
    link = FollowersLink(database, held, 1, tmp_path)
    assert not link.pausing()
    ask_to_stop(database, held)
    assert not link.pausing(), "the leader has the time to end in good order"
    monkeypatch.setattr(rank, "LEADER_SECONDS", -1.0)
    assert link.pausing() and link.asked() is Ask.GO_ON
    link = FollowersLink(database, held, 2, tmp_path)
    with pytest.raises(FencedError):
        link.pausing()
    (tmp_path / PAUSE_FILE).touch()
    assert link.pausing()


def test_who_waits_for_the_storage_tells_so_once(database: Database, held: str, tmp_path: Path) -> None:
    for _ in range(2):
        FollowersLink(database, held, 1, tmp_path).waits("The images cannot be read.", "Restore the storage.")
    assert now_of(database, held)[2] == ["The images cannot be read."]


@pytest.mark.parametrize(("epochs", "state"), [(0, "error"), (1, "waiting")], ids=["nothing is left", "the model is left to be made"])
def test_what_keeps_a_team_from_going_on_is_told_and_is_no_loss(
    settings: Settings, database: Database, held: str, tmp_path: Path, epochs: int, state: str
) -> None:
    """Else it was tried five times, and a smaller batch size was advised."""
    for number in range(1, epochs + 1):
        event = Progress(number, 3, 1, 1, fraction=number / 3, loss=0.1, learning_rate=0.01, images_per_second=1, epoch_ended=True)
        with database.write() as session:
            record_epoch(session, held, 1, number, {}, score=0.5, metrics={}, is_best=True, event=event, sequence=number)
    rank.give_up(tmp_path, UnavailableError("The storage does not answer.", "Mend it."))
    told = json.loads((tmp_path / GAVE_UP_FILE).read_text())
    ranks._give_up(Workplace(settings, database, Storage.of(settings)), held, 1, "lost", out_of_memory=False, told=told)
    job, task, said = now_of(database, held)
    assert (job.state, job.error, job.error_remedy, job.losses_in_a_row) == (state, "The storage does not answer.", "Mend it.", 0)
    assert (task.error, said) == (("", [f"{job.error} It ended early: the best epoch is kept."]) if epochs else (job.error, []))


@pytest.mark.parametrize(("ended_by", "state"), [("pause", "waiting"), ("stop", "stopped")])
def test_a_team_that_is_to_end_while_one_waits_for_the_storage_has_not_failed(
    settings: Settings, database: Database, held: str, monkeypatch: pytest.MonkeyPatch, ended_by: str, state: str
) -> None:
    monkeypatch.setattr(ranks, "PAUSE", threading.Event())
    if ended_by == "pause":
        ranks.PAUSE.set()
    else:
        ask_to_stop(database, held)
    workplace = Workplace(settings, database, Storage.of(settings))
    ranks._give_up(workplace, held, 1, "lost", out_of_memory=False, told=("The storage does not answer.", "Mend it."))
    job, _, said = now_of(database, held)
    assert (job.state, job.error, job.losses_in_a_row, said) == (state, "", 0, [])
