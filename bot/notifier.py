"""Events → messages in each task's thread: coalesced while running, the final state always, each message once.

The notifier reads events past a stored cursor, so that nothing is missed while a bot was down. Only a face's `Poster`
talks to its platform. A failing chat never fails a training: the notifier tries again at its next tick.
"""

import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from bot import light_messages, messages
from bot.curves import LiveCurves
from bot.links import NO_LINKS, Links
from bot.messages import Standing
from bot.posting import Announcer, ChatError, NotYetError, Poster
from core.access import Place
from core.clock import now
from core.datasets.listing import count_findings, findings_of
from core.db.session import Database
from core.db.tables import Dataset, Delivery, Event, LightJob, Model, Task
from core.errors import StationmasterError
from core.events import Failed, Finished, Noticed, Progress, Started, Stopped, from_row
from core.models.listing import card_of
from core.process_identity import own_identity
from core.storage import Storage
from core.tasks.lease import acquire
from core.tasks.listing import interrupted_job, is_held, last_progress, place_in_queue, seconds_of
from core.tasks.states import State
from core.tuning.standings import standings
from core.wizard.screens import Message

__all__ = ["ChatError", "Notifier", "Poster"]

logger = logging.getLogger(__name__)

EDIT_SECONDS = 3.0  # between two edits of a progress message
SLOW_EDIT_SECONDS = 60.0  # after the first hour
SLOW_AFTER_SECONDS = 3600.0
LIGHT_SECONDS = 5.0  # a light job that has ended by then needs no progress message
GIVEN_UP = timedelta(days=7)  # after its end: a thread that takes nothing for so long is not told any more
LEASE_SECONDS = 30.0  # of two bot processes one tells; the other takes over when it is gone


@dataclass
class _Thread:
    """What this process remembers of a thread; losing it costs one look-up."""

    looked: bool = False
    edited_at: datetime | None = None
    shown: Message | None = None
    progress: Progress | None = None
    device: str = ""
    announced: set[str] = field(default_factory=set)  # keys of messages


@dataclass
class _LightThread:
    """What this process remembers of the progress message of a light job."""

    message_id: str
    shown: Message | None
    edited_at: datetime


@dataclass
class Notifier:
    """Tells every open thread of the given posters what has happened since it was last told.

    `workers` says how many training workers there are, None where that cannot be told.
    """

    database: Database
    storage: Storage
    posters: tuple[Poster, ...]
    workers: Callable[[], int | None] = lambda: None
    links: Links = NO_LINKS
    _threads: dict[tuple[str, str], _Thread] = field(default_factory=dict)
    _light: dict[str, _LightThread] = field(default_factory=dict)
    _visits: dict[tuple[str, str], Delivery] = field(default_factory=dict)  # threads of this process only, never in the database

    def __post_init__(self) -> None:
        self._curves = LiveCurves(self.storage)

    def tick(self) -> bool:
        """Go over all open threads once; returns whether any is still open."""
        any_open = False
        for poster in self.posters:
            with self.database.read() as session:
                rows = session.execute(
                    select(Delivery.task_id, Delivery.place).where(Delivery.face == poster.face, Delivery.done.is_(False))
                ).all()
            wanted = [task_id for task_id, place in rows if poster.wants(Place.from_json(place))]
            wanted = list(dict.fromkeys([*wanted, *(task_id for face, task_id in self._visits if face == poster.face)]))
            jobs = self._light_jobs(poster)
            share = _share(poster, len(wanted), jobs)
            for task_id in wanted:
                any_open = True
                try:
                    self._tell(poster, task_id, share)
                except ChatError as error:
                    _log_refusal(error, poster, f"task {task_id}")
                    if thread := self._threads.get((poster.face, task_id)):
                        thread.looked = False  # it may stand there all the same: the answer can have been lost
                    if error.gone or self._is_over(task_id):
                        self._close(poster.face, task_id)
            self._tell_light_jobs(poster, jobs, share)
            any_open = any_open or bool(jobs)
        return any_open

    @contextmanager
    def visit(self, poster: Poster, place: Place, task_id: str) -> Iterator[None]:
        """Within the block `place` is told of a task from now on, also where its thread is elsewhere, or where it has none."""
        key = (poster.face, task_id)
        with self.database.read() as session:
            delivery, task = session.get(Delivery, (task_id, poster.face)), session.get(Task, task_id)
        told = delivery is not None and not delivery.done and poster.wants(Place.from_json(delivery.place))
        if task is not None and not told:
            self._visits[key] = Delivery(
                task_id=task_id, face=poster.face, place=place.to_json(), cursor=task.event_count, progress_message="", done=False
            )
        try:
            yield
        finally:
            if self._visits.pop(key, None) is not None:
                self._threads.pop(key, None)

    def run(self, stop: threading.Event, seconds: float = 1.0) -> None:
        """Tick until `stop` is set, while no other process does; faults of the database are logged and outlasted."""
        holder = own_identity()
        lease = "notifier " + ",".join(poster.face for poster in self.posters)
        while not stop.is_set():
            try:
                if acquire(self.database, lease, holder, LEASE_SECONDS):
                    self.tick()
                else:
                    # What another process posts meanwhile has to be looked up.
                    self._threads.clear()
                    self._light.clear()
            except StationmasterError:
                logger.exception("the notifier waits for the database")
            stop.wait(seconds)

    def _tell(self, poster: Poster, task_id: str, share: float) -> None:
        thread = self._threads.setdefault((poster.face, task_id), _Thread())
        with self.database.read() as session:
            delivery, task = self._delivery(session, poster.face, task_id), session.get(Task, task_id)
            if delivery is None or task is None:  # deleted meanwhile
                return
            place = Place.from_json(delivery.place)
            rows = session.scalars(
                select(Event).where(Event.task_id == task_id, Event.number > delivery.cursor).order_by(Event.number)
            ).all()
            searched = bool(task.search.get("tuning"))
            # Of a search only what concerns the task is told: each of its jobs has its own remarks, and they are among the job's details.
            events = [
                (row.number, from_row(row.kind, row.payload)) for row in rows if not (searched and row.job_id and row.kind == Noticed.kind)
            ]
            for _, event in events:
                if isinstance(event, Progress):
                    thread.progress = event
                elif isinstance(event, Started):
                    thread.device, thread.progress = event.device, None
            if thread.progress is None and task.state in (State.RUNNING, State.STOPPING):
                thread.progress = last_progress(session, Event.task_id == task_id)
            standing = self._standing(session, task, thread)
            model = session.get(Model, task.model_id) if task.model_id else None
        for number, event in events:
            message = self._message(task, model, number, event, standing, place)
            if message is not None:
                self._announce(poster, place, thread, message)
                # The thread's progress message stands above what follows it, so it is brought up to date first.
                self._show_progress(poster, place, delivery, thread, messages.progress_message(task, standing))
                if thread.looked or not poster.find(place, message.key):
                    poster.post(place, message)
                self._save(poster.face, task_id, cursor=number)
        final = State(task.state).ended and any(isinstance(event, (Finished, Stopped, Failed)) for _, event in events)
        self._show_progress(poster, place, delivery, thread, messages.progress_message(task, standing), None if final else share)
        thread.looked = True
        if rows:
            self._save(poster.face, task_id, cursor=rows[-1].number, done=final)
        if final:
            self._threads.pop((poster.face, task_id), None)
            self._curves.forget(task_id)

    def _announce(self, poster: Poster, place: Place, thread: _Thread, message: Message) -> None:
        """Before the thread is told, which may be locked: then this is all that people hear."""
        if not message.announcement or message.key in thread.announced:
            return
        self.links.announce(self.posters, place, message)
        if isinstance(poster, Announcer):
            poster.announce(place, message)
        thread.announced.add(message.key)

    def _is_over(self, task_id: str) -> bool:
        with self.database.read() as session:
            task = session.get(Task, task_id)
        return task is None or _long_ended(task.finished_at)

    def tell_light_jobs(self, poster: Poster) -> bool:
        """Tell imports and the like, how far they are and how they ended, in the threads they were asked for in; returns whether any is
        still awaited.
        """
        jobs = self._light_jobs(poster)
        self._tell_light_jobs(poster, jobs, _share(poster, 0, jobs))
        return bool(jobs)

    def _light_jobs(self, poster: Poster) -> list[LightJob]:
        with self.database.read() as session:
            untold = session.scalars(select(LightJob).where(LightJob.untold_face == poster.face)).all()
        return [job for job in untold if poster.wants(Place.from_json(job.place))]

    def _tell_light_jobs(self, poster: Poster, jobs: Sequence[LightJob], share: float) -> None:
        for job in jobs:
            place, ended = Place.from_json(job.place), State(job.state).ended
            try:
                self._show_light_progress(poster, place, job, share)
                if not ended:
                    continue
                message = self._light_message(job)
                if not poster.find(place, message.key):
                    poster.post(place, message)
            except ChatError as error:
                _log_refusal(error, poster, f"light job {job.id}")
                if not error.gone and not _long_ended(job.finished_at):
                    continue
            self._light.pop(job.id, None)
            with self.database.write() as session:
                session.execute(update(LightJob).where(LightJob.id == job.id).values(untold_face=""))

    def _show_light_progress(self, poster: Poster, place: Place, job: LightJob, share: float) -> None:
        """One message that changes, for what takes longer than a moment."""
        time, ended = now(), State(job.state).ended
        message = light_messages.progress_message(job)
        if message is None or ((job.finished_at or time) - job.created_at).total_seconds() < LIGHT_SECONDS:
            return
        thread = self._light.get(job.id)
        if thread is None:
            found = poster.find(place, message.key)  # posted by a process before this one
            if not found and ended:
                return
            thread = self._light[job.id] = _LightThread(found or poster.post(place, message), None if found else message, time)
        if message == thread.shown or (not ended and not _due(time, job.created_at, thread.edited_at, share)):
            return
        thread.message_id = poster.edit(place, thread.message_id, message)
        thread.shown, thread.edited_at = message, time

    def _light_message(self, job: LightJob) -> Message:
        with self.database.read() as session:
            dataset = session.get(Dataset, str(job.result.get("dataset_id", ""))) if job.kind in light_messages.MADE else None
            findings = findings_of(session, dataset.id, limit=light_messages.SHOWN_FINDINGS + 1) if dataset else []
            counts = count_findings(session, dataset.id) if dataset else {}
        return light_messages.end_message(job, dataset, findings, counts)

    def _standing(self, session: Session, task: Task, thread: _Thread) -> Standing:
        search = standings(session, task) if task.search.get("tuning") else None
        if task.state == State.WAITING:
            job = interrupted_job(session, task)
            goes_on = messages.goes_on_text(job.epoch, job.ending) if job is not None else ""
            return Standing(place=place_in_queue(session, task), workers=self.workers(), search=search, goes_on=goes_on)
        seconds = seconds_of(session, task) if State(task.state).ended else 0.0
        curves = None
        if task.state == State.RUNNING and search is not None:
            curves = self._curves.of_search(task, search)
        elif task.state == State.RUNNING and thread.progress is not None:
            curves = self._curves.of(session, task, thread.progress.metric_name)
        held = task.state != State.STOPPING or is_held(session, task)
        return Standing(device=thread.device, progress=thread.progress, search=search, curves=curves, held=held, seconds=seconds)

    def _message(self, task: Task, model: Model | None, number: int, event: object, standing: Standing, place: Place) -> Message | None:
        if isinstance(event, Noticed):
            return messages.notice_message(task, number, event)
        if isinstance(event, (Finished, Stopped)):
            # A path of the host's tells only those something who sit there.
            lies_at = self._model_place(model) if place.at_the_host else ""
            card = card_of(self.storage, model) if model else messages.NO_CARD
            name = model.name if model else ""
            return messages.finished_message(task, number, event, name, lies_at, standing.search, standing.seconds, card)
        if isinstance(event, Failed):
            return messages.failed_message(task, number, event, standing.search)
        return None

    def _model_place(self, model: Model | None) -> str:
        if model is None:
            return ""
        local = self.storage.local_path(model.key)
        return str(local) if local is not None else f"{self.storage.root}/{model.key}"

    def _show_progress(
        self, poster: Poster, place: Place, delivery: Delivery, thread: _Thread, message: Message, share: float | None = None
    ) -> None:
        """Bring the progress message up to date: at once, or as often as a `share` of the platform's edits allows."""
        if message == thread.shown:
            return
        time = now()
        if not delivery.progress_message:
            found = "" if thread.looked else poster.find(place, message.key)
            delivery.progress_message = found or poster.post(place, message)
            delivery.progress_posted_at = delivery.progress_posted_at or time
            self._save(poster.face, delivery.task_id, message_id=delivery.progress_message, posted_at=delivery.progress_posted_at)
            if not found:
                thread.shown, thread.edited_at = message, time
                return
        posted_at = delivery.progress_posted_at or time
        if share is not None and thread.edited_at is not None and not _due(time, posted_at, thread.edited_at, share):
            return
        stands = poster.edit(place, delivery.progress_message, message)
        if stands != delivery.progress_message:
            delivery.progress_message = stands
            self._save(poster.face, delivery.task_id, message_id=stands, posted_at=posted_at)
        thread.shown, thread.edited_at = message, time

    def _save(
        self,
        face: str,
        task_id: str,
        *,
        cursor: int | None = None,
        done: bool = False,
        message_id: str = "",
        posted_at: datetime | None = None,
    ) -> None:
        with self.database.write() as session:
            delivery = self._delivery(session, face, task_id)
            if delivery is None:  # the task was deleted meanwhile
                return
            if cursor is not None:
                delivery.cursor = max(delivery.cursor, cursor)
            delivery.done = delivery.done or done
            if message_id:
                delivery.progress_message, delivery.progress_posted_at = message_id, posted_at
        if done:
            self._visits.pop((face, task_id), None)

    def _delivery(self, session: Session, face: str, task_id: str) -> Delivery | None:
        return self._visits.get((face, task_id)) or session.get(Delivery, (task_id, face))

    def _close(self, face: str, task_id: str) -> None:
        self._save(face, task_id, done=True)
        self._threads.pop((face, task_id), None)


def _share(poster: Poster, tasks: int, jobs: Sequence[LightJob]) -> float:
    """Seconds between two edits of each progress message, where all together share what the platform takes of one bot; 0 where they do not."""
    changing = tasks + sum(job.kind in light_messages.MADE for job in jobs)
    return changing * 60 / poster.edits_per_minute if poster.edits_per_minute else 0.0


def _due(time: datetime, posted_at: datetime, edited_at: datetime, share: float) -> bool:
    """Whether a progress message may be changed again: seldom once it is old, and never more often than its share of the edits allows."""
    pause = SLOW_EDIT_SECONDS if (time - posted_at).total_seconds() > SLOW_AFTER_SECONDS else EDIT_SECONDS
    return (time - edited_at).total_seconds() >= max(pause, share)


def _long_ended(finished_at: datetime | None) -> bool:
    return finished_at is not None and now() - finished_at > GIVEN_UP


def _log_refusal(error: ChatError, poster: Poster, whose: str) -> None:
    level = logging.DEBUG if isinstance(error, NotYetError) else logging.WARNING
    logger.log(level, "%s did not take a message of %s: %s", poster.face, whose, error)
