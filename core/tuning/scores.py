"""What the jobs of a search have published so far, read for the decisions about them."""

from collections import defaultdict

from sqlalchemy import select
from sqlalchemy.orm import Session

from core.db.tables import Epoch, Job, Task
from core.tasks.states import State
from core.tuning.halving import is_hopeless, rungs
from core.tuning.population import Member
from core.tuning.search import Search, values_of
from core.vocabulary import Tuning


def curves(session: Session, task_id: str, epochs: int) -> dict[int, dict[int, float]]:
    """Score by epoch, up to `epochs`, by job number."""
    rows = session.execute(
        select(Job.number, Epoch.number, Epoch.values)
        .join(Epoch, Epoch.job_id == Job.id)
        .where(Job.task_id == task_id, Epoch.number <= epochs)
    )
    found: dict[int, dict[int, float]] = defaultdict(dict)
    for number, epoch, values in rows:
        found[number][epoch] = float(values["score"])
    return dict(found)


def members(session: Session, task_id: str) -> list[Member]:
    """The members of a population that have published a score and have not failed, each at its last finished epoch."""
    rows = session.execute(
        select(Job.number, Epoch.number, Epoch.values, Job.plan)
        .join(Epoch, (Epoch.job_id == Job.id) & (Epoch.number == Job.epoch))
        .where(Job.task_id == task_id, Job.state != State.ERROR, Job.error == "")
        .order_by(Job.number)
    )
    return [Member(number, epoch, float(values["score"]), values_of(plan)) for number, epoch, values, plan in rows]


def why_enough(session: Session, job_id: str, epoch: int) -> str:
    """Why a job of a grid or random search is to end after its epoch `epoch`, as a sentence; empty where it is to go on."""
    job = session.get(Job, job_id)
    task = session.get(Task, job.task_id) if job is not None else None
    search = Search.from_json(task.search) if task is not None else None
    if job is None or search is None or search.tuning == Tuning.POPULATION or not job.plan["early_stop"]:
        return ""
    epochs = int(job.plan["epochs"])
    if epoch not in rungs(epochs):
        return ""
    found = curves(session, job.task_id, epoch)
    if not is_hopeless(found, job.number, epochs):
        return ""
    reached = sum(epoch in curve for curve in found.values())
    return f"Ended early after epoch {epoch}: of the {reached} jobs that have come so far, it is not in the better half."
