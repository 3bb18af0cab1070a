"""The engine's link over the database: a thread that says the job lives and hears what is wanted, and the writing of events and epochs."""

import itertools
import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any, TypeVar

from redis import Redis
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from core.db.session import Database
from core.errors import UnavailableError
from core.events import Noticed, Progress
from core.queue import TASK, WORK, connect, poke
from core.settings import Settings
from core.tasks.lifecycle import FencedError, asked, heartbeat, record_epoch, record_event, remark
from worker.link import Ask
from worker.waiting import is_database_away

logger = logging.getLogger(__name__)

LOOK_SECONDS = 1.0  # how soon a person's stop is heard
PROGRESS_SECONDS = 2.0  # between two progress events within an epoch
MAX_PAUSE_SECONDS = 5.0  # between two attempts to write while the database is away
RECONNECT_SECONDS = 10.0

Result = TypeVar("Result")


class Bell:
    """Pokes those who listen, without ever waiting for a queue that is away."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._redis: Redis | None = None
        self._tried = float("-inf")

    def ring(self, word: str) -> None:
        """Poke with the word."""
        if self._redis is None and time.monotonic() - self._tried > RECONNECT_SECONDS:
            self._tried = time.monotonic()
            try:
                self._redis = connect(self._settings)
            except UnavailableError:
                return
        if self._redis is not None:
            poke(self._redis, self._settings, word)


class DatabaseLink:
    """`worker.link.JobLink` of one generation of one job. Start it when the job is claimed, stop it when it has ended.

    The database being away holds up only what must be stored (epochs); all else is told later or not at all.
    """

    def __init__(
        self,
        database: Database,
        settings: Settings,
        task_id: str,
        job_id: str,
        generation: int,
        *,
        pause: threading.Event,
        before: float = 0.0,
        judge: Callable[[Session, int], str] | None = None,
        devices: int = 1,
    ) -> None:
        """`pause` is set when the worker is to shut down; `before` are the device seconds of earlier attempts; `devices` are in use.

        `judge` says of an epoch that has been stored why the job is to end with it, and nothing where it is to go on.
        """
        self._database = database
        self._settings = settings
        self._task_id = task_id
        self._holder = (job_id, generation)
        self._pause = pause
        self._before = before
        self._devices = devices
        self._judge = judge
        self._enough = False
        self._began = time.monotonic()
        self._wanted = Ask.GO_ON
        self._fenced = False
        self._latest: Progress | None = None
        self._notices: deque[tuple[int, Noticed, bool]] = deque()
        self._sequence = itertools.count(1)
        self._writing = threading.Lock()  # progress of an epoch never comes after its end
        self._beaten = self._progressed = float("-inf")
        self._away = False
        self._bell = Bell(settings)
        self._stop = threading.Event()
        self._wake = threading.Event()
        self._thread = threading.Thread(target=self._run, name="link", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread. What is still untold then, see `flush`, stays so."""
        self._stop.set()
        self._wake.set()
        self._thread.join()

    @property
    def device_seconds(self) -> float:
        """Time on devices, each counted, earlier attempts included."""
        return self._before + self._devices * (time.monotonic() - self._began)

    # ------------------------------------------------------------ what the engine calls

    def asked(self) -> Ask:
        """What is wanted now. Raises FencedError when the job has been taken over."""
        if self._fenced:
            raise FencedError(f"job {self._holder[0]}, generation {self._holder[1]}")
        if self._wanted or self._enough:
            return self._wanted or Ask.ENOUGH
        return Ask.PAUSE if self._pause.is_set() else Ask.GO_ON

    def pausing(self) -> bool:
        """See `JobLink`."""
        return self._pause.is_set()

    def progress(self, event: Progress) -> None:
        """Have the thread tell how far it is, if it has not told something newer by then."""
        first, self._latest = self._progressed == float("-inf"), event
        if first:
            self._wake.set()  # people wait for the first sign that it trains

    def epoch_ended(
        self, number: int, values: dict[str, Any], *, score: float, metrics: dict[str, Any], is_best: bool, event: Progress
    ) -> None:
        """Store an epoch's numbers, waiting for a database that is away. Raises FencedError when the job has been taken over."""
        with self._writing:
            self._latest = None
            sequence = next(self._sequence)

            def write(session: Session) -> bool:
                return record_epoch(
                    session, *self._holder, number, values, score=score, metrics=metrics, is_best=is_best, event=event, sequence=sequence
                )

            self.persist(write)
            self._progressed = time.monotonic()
        self._bell.ring(TASK + self._task_id)
        if self._judge is not None and not self._enough:
            # Also of an epoch that was stored before: the worker may have been lost between its storing and its judgement.
            self._hear(self._judge, number)

    def _hear(self, judge: Callable[[Session, int], str], number: int) -> None:
        try:
            with self._database.read() as session:
                reason = judge(session, number)
        except UnavailableError as error:
            self._say_away(error)
            return
        if reason:
            self._enough = True
            self.noticed(reason)

    def noticed(self, message: str, remedy: str = "") -> None:
        """Have the thread tell a sentence."""
        self._notices.append((next(self._sequence), Noticed(message, remedy), False))

    def waits(self, message: str, remedy: str) -> None:
        """Have the thread tell a sentence that concerns the whole task."""
        self._notices.append((next(self._sequence), Noticed(message, remedy), True))

    # ------------------------------------------------------------ for worker.jobs

    def persist(self, change: Callable[[Session], Result]) -> Result:
        """Make a change that must not be lost: while the database is away it is tried again, until the worker is to shut down.

        Raises:
            FencedError: when the job has been taken over.
            UnavailableError: when the worker is to shut down and the database is still away.
        """
        pause = 0.2
        while True:
            try:
                with self._database.write() as session:
                    return change(session)
            except FencedError:
                self._fenced = True
                raise
            except UnavailableError as error:
                if not is_database_away(error) or self._pause.is_set():
                    raise
                self._say_away(error)
            self._pause.wait(pause)
            pause = min(2 * pause, MAX_PAUSE_SECONDS)

    def flush(self) -> None:
        """Tell now what is still untold: once the job has ended, nothing more is taken. Raises FencedError."""
        try:
            self._tell(last=True)
        except UnavailableError as error:
            self._say_away(error)

    def ring_work(self) -> None:
        """Say that the dispatcher may have something to do."""
        self._bell.ring(WORK)

    # ------------------------------------------------------------ the thread

    def _run(self) -> None:
        while not self._fenced:
            self._wake.wait(LOOK_SECONDS)
            self._wake.clear()
            if self._stop.is_set():
                return
            try:
                self._look()
                self._tell()
                self._away = False
            except FencedError:
                self._fenced = True
            except UnavailableError as error:
                self._say_away(error)
            except Exception:  # a thread that ended here would let the job be taken for lost
                logger.exception("the link's thread met something unexpected")

    def _look(self) -> None:
        moment = time.monotonic()
        if moment - self._beaten < self._settings.heartbeat_seconds:
            with self._database.read() as session:
                self._wanted = Ask(asked(session, *self._holder))
            return
        with self._database.write() as session:
            self._wanted = Ask(heartbeat(session, *self._holder, device_seconds=self.device_seconds))
        self._beaten = moment

    def _tell(self, *, last: bool = False) -> None:
        told = False
        with self._writing:
            while self._notices:
                sequence, notice, of_task = self._notices[0]
                try:
                    with self._database.write() as session:
                        if of_task:
                            remark(session, *self._holder, notice.message, notice.remedy)
                        else:
                            record_event(session, *self._holder, notice, sequence=sequence)
                except IntegrityError:
                    logger.debug("told before, when its answer was lost: %s", notice)
                self._notices.popleft()
                told = True
            event = self._latest
            if event is not None and (last or time.monotonic() - self._progressed >= PROGRESS_SECONDS):
                self._latest = None
                self._progressed = time.monotonic()
                with self._database.write() as session:
                    record_event(session, *self._holder, event, sequence=next(self._sequence))
                told = True
        if told:
            self._bell.ring(TASK + self._task_id)

    def _say_away(self, error: UnavailableError) -> None:
        if not self._away:
            logger.warning("%s Trying on.", error.what)
        self._away = True
