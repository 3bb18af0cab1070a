"""How the jobs of a task stand: what a leaderboard, a progress bar over all of them and the pictures of a search are made from."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from core.db.tables import Job, Lineage, Task
from core.tasks.hyperparameters import FIELDS, value_text
from core.tasks.states import State
from core.tuning.search import TUNED, Values, values_of

_SCORES = ("accuracy", "map", "ap", "dice")


@dataclass(frozen=True)
class JobStanding:
    """One job. `score` is that of its best epoch so far, higher is better; `values` are those it trains by now."""

    number: int
    state: State
    epoch: int
    epochs: int
    score: float | None
    values: Values
    device_seconds: float = 0.0
    error: str = ""

    @property
    def ended_early(self) -> bool:
        """Whether it finished before its last epoch."""
        return self.state == State.FINISHED and self.epoch < self.epochs


@dataclass(frozen=True)
class Standings:
    """All jobs of a task, by number. `score_name` is the metric that is the score, `copies` how often a member copied another."""

    jobs: tuple[JobStanding, ...] = ()
    score_name: str = ""
    copies: int = 0

    @property
    def varied(self) -> tuple[str, ...]:
        """The hyperparameters in which the jobs differ."""
        return tuple(name for name in TUNED if len({job.values[name] for job in self.jobs}) > 1)

    @property
    def ranked(self) -> tuple[JobStanding, ...]:
        """The jobs that have a score, the best first; failed ones, of which no model is made, last."""
        scored = [job for job in self.jobs if job.score is not None]
        return tuple(sorted(scored, key=lambda job: (job.state == State.ERROR, -(job.score or 0.0), job.number)))

    @property
    def best(self) -> int | None:
        """The number of the best job; None where none has a score yet."""
        return self.ranked[0].number if self.ranked else None

    @property
    def fraction(self) -> float:
        """How much of all jobs is done, 0–1; one that has ended is done."""
        done = [1.0 if job.state.ended else min(1.0, job.epoch / job.epochs) for job in self.jobs]
        return sum(done) / len(done) if done else 0.0

    @property
    def seconds_left(self) -> float | None:
        """About how long all that is left will take on as many workers as there are at it; None until it can be told."""
        trained = [job for job in self.jobs if job.epoch]
        epochs = sum(job.epoch for job in trained)
        left = sum(job.epochs - job.epoch for job in self.jobs if not job.state.ended)
        running = sum(job.state in (State.RUNNING, State.STOPPING) for job in self.jobs)
        seconds = sum(job.device_seconds for job in trained)
        return left * seconds / epochs / max(1, running) if epochs and seconds else None

    @property
    def counts(self) -> str:
        """How many jobs are in which state, such as `2 running, 5 finished (3 of them early), 1 failed`."""
        states = Counter(job.state for job in self.jobs)
        early = sum(job.ended_early for job in self.jobs)
        numbers = (
            ("running", states[State.RUNNING] + states[State.STOPPING], ""),
            ("waiting", states[State.WAITING], ""),
            ("finished", states[State.FINISHED], f" ({early} of them early)" if early else ""),
            ("stopped", states[State.STOPPED], ""),
            ("failed", states[State.ERROR], ""),
        )
        return ", ".join(f"{number} {word}{more}" for word, number, more in numbers if number)

    @property
    def outcome(self) -> str:
        """How many jobs finished, stopped and failed, also where none did."""
        states = Counter(job.state for job in self.jobs)
        early = sum(job.ended_early for job in self.jobs)
        finished = f"{states[State.FINISHED]} finished" + (f" ({early} of them early)" if early else "")
        return f"{finished}, {states[State.STOPPED]} stopped, {states[State.ERROR]} failed"


def standings(session: Session, task: Task) -> Standings:
    """The jobs of a task as they stand."""
    rows = session.execute(
        select(Job.number, Job.state, Job.ending, Job.epoch, Job.plan, Job.score, Job.metrics, Job.device_seconds, Job.error)
        .where(Job.task_id == task.id)
        .order_by(Job.number)
    ).all()
    jobs = tuple(
        JobStanding(
            row.number,
            State(row.ending or row.state),  # the last of a task has ended when only the model is left to be made
            row.epoch,
            int(row.plan["epochs"]),
            row.score,
            values_of(row.plan),
            row.device_seconds,
            row.error,
        )
        for row in rows
    )
    copies = session.scalar(select(func.count()).where(Lineage.task_id == task.id)) or 0
    best = max((row for row in rows if row.score is not None), key=lambda row: row.score, default=None)
    return Standings(jobs, _score_name(best.metrics, best.score) if best is not None else "", copies)


def _score_name(metrics: dict[str, Any], score: float) -> str:
    """The metric that is the score; others may happen to have the same value, so those that objectives judge by come first.

    Where jobs are judged by balanced accuracy, its baseline is among the metrics.
    """
    first = ("balanced_accuracy",) if "baseline_balanced_accuracy" in metrics else ()
    return next((name for name in (*first, *_SCORES, *metrics) if metrics.get(name) == score), "")


def values_text(values: Values, names: Sequence[str] = TUNED) -> str:
    """Values as people read them, such as `learning rate 0.003 · momentum 0.9`."""
    return " · ".join(f"{FIELDS[name].label.lower()} {value_text(values[name])}" for name in names)
