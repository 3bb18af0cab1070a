"""A task that tries several plans, driven by the calls that its workers make, one transaction each."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from sqlalchemy import select

from core.db.session import Database
from core.db.tables import Job, Task
from core.events import Progress
from core.settings import Settings
from core.tasks.creation import NewTask, create_task
from core.tasks.hyperparameters import TrainingPlan
from core.tasks.lifecycle import NewModel, claim_job, complete_task, finish_job, hand_back, record_epoch
from core.tuning.lineage import begin_slice, descents
from core.tuning.search import draw, made
from core.vocabulary import Tuning

EPOCHS = 20  # a slice is one epoch


class Search:
    """A task that tries several plans, and its workers, one transaction per step."""

    def __init__(self, database: Database, settings: Settings, new: NewTask, tuning: Tuning, jobs: int, **plan: Any) -> None:
        self.database, self.settings = database, settings
        search = made(tuning, {"learning_rate": [1e-5, 0.01]} if tuning is not Tuning.GRID else {})
        ranges = search.ranges or made(Tuning.RANDOM, {}).ranges
        plans = [TrainingPlan(**{"epochs": EPOCHS, **plan, **values}) for values in draw(ranges, jobs, 0)]
        self.ranges = ranges
        with database.write() as session:
            self.task = create_task(session, settings, replace(new, tuning=tuning, search=search.to_json(), plans=plans))

    def job(self, number: int) -> Job:
        with self.database.read() as session:
            return session.scalars(select(Job).where(Job.task_id == self.task.id, Job.number == number)).one()

    def state(self) -> str:
        with self.database.read() as session:
            return session.get_one(Task, self.task.id).state

    def do(self, number: int, step: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
        job = self.job(number)
        with self.database.write() as session:
            return step(session, job.id, job.generation, *arguments, **named)

    def claim(self, number: int) -> None:
        job = self.job(number)
        with self.database.write() as session:
            claim = claim_job(session, job.id, job.generation, worker="w", device="CPU")
            assert claim is not None
            if claim.search == Tuning.POPULATION:
                begin_slice(session, job.id, job.generation)

    def epoch(self, number: int, score: float, loss: float | None = None) -> None:
        epoch = self.job(number).epoch + 1
        self.do(
            number,
            record_epoch,
            epoch,
            {"train_loss": 1.2 - score, "val_loss": 1.3 - score if loss is None else loss, "score": score},
            score=score,
            metrics={"accuracy": score},
            is_best=True,
            event=_progress(epoch),
            sequence=epoch,
        )

    def slice(self, number: int, score: float) -> None:
        """A whole slice of one epoch of a population's member."""
        self.claim(number)
        self.epoch(number, score)
        self.do(number, hand_back, device_seconds=1.0, between_slices=True)

    def copies(self) -> list[Any]:
        with self.database.read() as session:
            return descents(session, self.task.id)

    def finish(self, number: int, score: float) -> None:
        """The end of a job; of the last one also of the task, with its model."""
        if self.do(number, finish_job, score=score, metrics={"accuracy": score}) is not None:
            self.do(number, complete_task, NewModel(f"models/{self.task.id}", ["a", "b"]))


def _progress(epoch: int) -> Progress:
    return Progress(
        epoch=epoch,
        epochs=EPOCHS,
        step=1,
        steps=1,
        fraction=epoch / EPOCHS,
        loss=1,
        learning_rate=0.1,
        images_per_second=9,
        epoch_ended=True,
    )
