"""Curves of a job, and the scores of a search's jobs, while they may still be training: drawn for their thread and for whoever asks."""

import logging
import time
from collections.abc import Callable, Sequence
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from core.db.tables import Epoch, Job, Task
from core.errors import StationmasterError
from core.storage import Storage
from core.tasks.epochs import best_epoch
from core.tuning.standings import Standings
from core.vocabulary import METRIC_NAMES
from core.wizard.screens import Picture

logger = logging.getLogger(__name__)

FEWEST_EPOCHS = 2  # one point is no curve
DRAW_SECONDS = 20.0  # between two drawings of a thread: each is half a second's work and an upload


def kept_picture(storage: Storage, task: Task, name: str, alt: str, drawn: bytes) -> Picture:
    """A picture beside the task's other files, where faces fetch it; it goes with the task."""
    key = f"tasks/{task.id}/pictures/{name}.png"
    storage.write(key, drawn)
    return Picture(alt, key=key)


def drawn_curves(job: Job, score_name: str, history: Sequence[dict[str, Any]]) -> bytes:
    """Loss and score of `history`, a job's epochs from the first on, as PNG."""
    from core.figures import curves  # half a second to import: only whoever draws pays it

    return curves(
        history,
        score_name=score_name,
        score_title=METRIC_NAMES.get(score_name, "Score"),
        baseline=job.metrics.get(f"baseline_{score_name}"),
        best_epoch=best_epoch(history),
        reading="",
    )


def curves_picture(
    storage: Storage, task: Task, job: Job, score_name: str, history: Sequence[dict[str, Any]], *, name: str, alt: str
) -> Picture:
    """The curves of a job, kept for faces to fetch."""
    return kept_picture(storage, task, name, alt, drawn_curves(job, score_name, history))


class LiveCurves:
    """The latest curves of each running task with one job, of a search the scores of its jobs; drawn again when there are new epochs, but
    not too often.
    """

    def __init__(self, storage: Storage) -> None:
        self.storage = storage
        self._drawn: dict[str, tuple[int, float, Picture]] = {}

    def of(self, session: Session, task: Task, score_name: str) -> Picture | None:
        """The picture for the thread's progress message; None before there is a curve, or where it cannot be kept."""
        known = self._drawn.get(task.id)
        if known is not None and time.monotonic() - known[1] < DRAW_SECONDS:
            return known[2]
        job = session.scalars(select(Job).where(Job.task_id == task.id).order_by(Job.number)).first()
        if job is None:
            return None
        history = list(session.scalars(select(Epoch.values).where(Epoch.job_id == job.id).order_by(Epoch.number)))
        if len(history) < FEWEST_EPOCHS:
            return None
        alt = f"Curves of {len(history)} epochs so far, with the baseline"
        return self._latest(task, len(history), alt, lambda: drawn_curves(job, score_name, history))

    def of_search(self, task: Task, found: Standings) -> Picture | None:
        """The scores against the hyperparameters for the thread's progress message; None before there is a score, or as for curves."""
        known = self._drawn.get(task.id)
        if known is not None and time.monotonic() - known[1] < DRAW_SECONDS:
            return known[2]
        if not found.ranked:
            return None

        def draw() -> bytes:
            from core.tuning.pictures import scores_picture

            return scores_picture(found)

        epochs = sum(job.epoch for job in found.jobs)
        return self._latest(task, epochs, f"Scores against hyperparameters after {epochs} epochs of all jobs", draw)

    def _latest(self, task: Task, epochs: int, alt: str, draw: Callable[[], bytes]) -> Picture | None:
        known = self._drawn.get(task.id)
        if known is not None and known[0] == epochs:
            return known[2]
        try:
            picture = kept_picture(self.storage, task, "live", alt, draw())
        except (OSError, StationmasterError) as error:
            # The numbers are worth telling without their picture.
            logger.warning("the picture of task %s could not be kept: %s", task.id, error)
            return None
        self._drawn[task.id] = (epochs, time.monotonic(), picture)
        return picture

    def forget(self, task_id: str) -> None:
        """The task has ended."""
        self._drawn.pop(task_id, None)
