"""A population in the database: the copies its members make, decided and stored with their new values in one transaction.

The copy itself is the engine's: a member whose latest row here is younger than its state takes over the weights of the row's source
before it goes on. So a worker that is lost in between leaves nothing half done: the next one makes the copy, or makes it again.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from core.db.tables import Epoch, Job, Lineage, Task
from core.settings import Settings
from core.tasks.epochs import best_epoch
from core.tasks.journal import held_job
from core.tasks.lifecycle import hand_back
from core.tasks.states import State
from core.tuning.population import Copy, decide, rescue, slice_end
from core.tuning.scores import members
from core.tuning.search import Search, values_of


@dataclass(frozen=True)
class Descent:
    """One copy: member `number` has gone on from `source`'s weights of about `source_epoch`, after `epoch` epochs of its own."""

    number: int
    epoch: int
    source: int
    source_epoch: int
    score: float | None  # of the copying member; None where it had diverged
    source_score: float
    before: dict[str, float]
    after: dict[str, float]


@dataclass(frozen=True)
class Stretch:
    """Epochs `start` to `end` of member `number`, in which weights were trained that went into another's."""

    number: int
    start: int
    end: int


@dataclass(frozen=True)
class Family:
    """The copies within a population in their order, and the line of its best member's best epoch, the first ancestor first."""

    copies: tuple[Descent, ...]
    line: tuple[Stretch, ...] = ()


def ancestry(copies: Sequence[Descent], number: int, epoch: int) -> tuple[Stretch, ...]:
    """Through which members, and which of their epochs, the weights went that member `number` had after `epoch` epochs; the first one first.

    A copied member that had itself been told to copy just then, but had not trained since, was copied as it was before.
    """
    stretches: list[Stretch] = []
    before = len(copies)
    while True:
        own = [place for place, copy in enumerate(copies[:before]) if copy.number == number and copy.epoch < epoch]
        stretches.append(Stretch(number, copies[own[-1]].epoch if own else 0, epoch))
        if not own:
            return tuple(reversed(stretches))
        before = own[-1]
        number, epoch = copies[before].source, copies[before].source_epoch


def begin_slice(session: Session, job_id: str, generation: int) -> None:
    """Exploit and explore, where a slice begins: a member among the worst is to go on from one of the best, with perturbed values.

    Call it for a member of a population that has just been claimed. Raises FencedError.
    """
    task, job = held_job(session, job_id, generation)
    search = Search.from_json(task.search)
    epochs = int(job.plan["epochs"])
    begins = 0 < job.epoch < epochs and job.epoch == slice_end(job.epoch - 1, epochs)
    if search is None or not begins or latest_copy_epoch(session, job) == job.epoch:
        return
    published = members(session, task.id)
    copy = decide(job.number, published, search.ranges, _random(task, job))
    if copy is not None:
        _store(session, task, job, copy, next(member.score for member in published if member.number == job.number))


def save_diverged(session: Session, settings: Settings, job_id: str, generation: int, *, device_seconds: float) -> bool:
    """Hand a member back whose training has diverged, to go on from one of the best; False where nothing can save it.

    As long as nobody has published a score, a member that diverges gets one more turn, after the others'. Raises FencedError.
    """
    task, job = held_job(session, job_id, generation)
    search = Search.from_json(task.search)
    saved = select(func.count()).where(Lineage.job_id == job.id, Lineage.epoch == job.epoch, Lineage.score.is_(None))
    if search is None or (session.scalar(saved) or 0) >= settings.max_attempts:
        return False
    copy = rescue(job.number, members(session, task.id), search.ranges, _random(task, job, generation))
    if copy is not None:
        # For the next generation: in this one it may have copied already, when its slice began.
        _store(session, task, job, copy, None, generation=generation + 1)
    elif job.attempts > 1 or not _others_go_on(session, job):
        return False
    hand_back(session, job_id, generation, device_seconds=device_seconds, between_slices=True)
    return True


def latest_copy(session: Session, job_id: str) -> Lineage | None:
    """The last copy that a member was to make."""
    return session.scalars(select(Lineage).where(Lineage.job_id == job_id).order_by(Lineage.generation.desc()).limit(1)).first()


def latest_copy_epoch(session: Session, job: Job) -> int:
    """After how many epochs a member made its last copy; 0 where it has made none."""
    copy = latest_copy(session, job.id)
    return copy.epoch if copy is not None else 0


def descents(session: Session, task_id: str) -> list[Descent]:
    """All copies within a population, in the order in which they were decided."""
    rows = session.execute(
        select(Job.number, Lineage).join(Lineage, Lineage.job_id == Job.id).where(Lineage.task_id == task_id).order_by(Lineage.created_at)
    )
    return [
        Descent(number, row.epoch, row.source, row.source_epoch, row.score, row.source_score, row.before, row.after) for number, row in rows
    ]


def family(session: Session, task_id: str, best: int | None) -> Family:
    """A population's copies, and the line that leads to the best epoch of member `best`, where there is one already."""
    copies = tuple(descents(session, task_id))
    rows = session.scalars(
        select(Epoch.values).join(Job, Job.id == Epoch.job_id).where(Job.task_id == task_id, Job.number == best).order_by(Epoch.number)
    ).all()
    if best is None or not rows:
        return Family(copies)
    return Family(copies, ancestry(copies, best, best_epoch(rows)))


def _store(session: Session, task: Task, job: Job, copy: Copy, score: float | None, *, generation: int | None = None) -> None:
    session.add(
        Lineage(
            job_id=job.id,
            generation=job.generation if generation is None else generation,
            epoch=job.epoch,
            task_id=task.id,
            source=copy.source.number,
            source_epoch=copy.source.epoch,
            score=score,
            source_score=copy.source.score,
            before=values_of(job.plan),
            after=copy.values,
        )
    )
    job.plan = {**job.plan, **copy.values}
    session.flush()


def _others_go_on(session: Session, job: Job) -> bool:
    others = select(func.count()).where(
        Job.task_id == job.task_id, Job.id != job.id, Job.state.in_((State.WAITING, State.RUNNING, State.STOPPING))
    )
    return bool(session.scalar(others))


def _random(task: Task, job: Job, *more: Any) -> np.random.Generator:
    """The same draws for the same member at the same epoch."""
    return np.random.default_rng((task.seed, job.number, job.epoch, *more))
