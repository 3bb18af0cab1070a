"""The periodic duties of an installation: dispatch, repair, and chores.

A thread in every bot and worker; one at a time holds the lease and acts.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from redis import Redis
from redis.exceptions import RedisError
from sqlalchemy.exc import DBAPIError

from core.datasets.sweeping import sweep
from core.db.session import Database
from core.errors import StationmasterError, UnavailableError
from core.identifiers import new_id
from core.process_identity import own_identity
from core.queue import QUEUES, WORK, Pokes, connect, poke
from core.settings import Settings
from core.storage import Storage
from core.tasks import lease
from core.tasks.dispatcher import dispatch
from core.tasks.reconcile import reconcile
from core.tasks.sweeping import sweep_ended, sweep_predictions
from core.wizard.conversation import expire_drafts

logger = logging.getLogger(__name__)

LEASE = "duties"
LEASE_SECONDS = 15.0
RENEW_SECONDS = 4.0
ROUND_SECONDS = 1.0
RECONCILE_SECONDS = 10.0


@dataclass(frozen=True)
class Chore:
    """Something else that has to be done every so often. What it raises is logged, and it is tried again at its next turn."""

    name: str
    seconds: float
    run: Callable[[Database, Settings], object]


def _sweep_datasets(database: Database, settings: Settings) -> None:
    sweep(database, Storage.of(settings), settings)


def _sweep_ended(database: Database, settings: Settings) -> None:
    sweep_ended(database, Storage.of(settings))


def _sweep_predictions(_database: Database, settings: Settings) -> None:
    sweep_predictions(Storage.of(settings), settings)


# Whoever has a chore adds it here.
CHORES: list[Chore] = [
    Chore("expire drafts", 600, expire_drafts),
    Chore("sweep what imports left", 600, _sweep_datasets),
    Chore("sweep what ended tasks have left", 600, _sweep_ended),
    Chore("sweep results of tests", 3600, _sweep_predictions),
]


class Duties:
    """The thread. Survives a queue and a database that are away: says so once, and goes on when they are back."""

    def __init__(self, settings: Settings, database: Database | None = None, chores: list[Chore] | None = None) -> None:
        """The thread uses a connection pool of its own, so that forks can be kept clear of it: see `quiet`."""
        self._settings = settings
        self._database = Database.of(settings)
        if database is not None and database.is_sqlite and not database.url.database:
            self._database = database  # a database in memory exists only once
        self._chores = CHORES if chores is None else chores
        self._holder = ""
        self._stop = threading.Event()
        self._busy = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="duties", daemon=True)
        self._redis: Redis | None = None
        self._pokes: Pokes | None = None
        self._away: dict[str, str] = {}
        self._renewed = self._reconciled = self._last_round = float("-inf")
        self._well_since = time.monotonic()
        self._chores_done: dict[str, float] = {}

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread and give the lease back."""
        self._stop.set()
        if self._thread.is_alive():
            if self._redis is not None:
                poke(self._redis, self._settings, "")  # it need not sleep to the end of its second
            self._thread.join(timeout=10)

    @contextmanager
    def quiet(self) -> Iterator[None]:
        """While the block runs the thread does nothing and holds no connection to the database: a process may fork."""
        with self._busy:
            self._database.engine.dispose()
            yield

    def _run(self) -> None:
        self._holder = f"{own_identity()} {new_id(6)}"
        while not self._stop.is_set():
            words = self._wait()
            with self._busy:
                try:
                    self._round(words)
                    self._is_back("database")
                except UnavailableError as error:
                    self._is_away("database" if isinstance(error.__cause__, DBAPIError) else "queue", error)
                except Exception:  # whatever it is, the next round may do better, and no other thread would take over
                    logger.exception("a round of duties failed")
        try:
            lease.release(self._database, LEASE, self._holder)
        except StationmasterError:
            logger.debug("the lease was not given back", exc_info=True)
        if self._pokes is not None:
            self._pokes.close()

    def _wait(self) -> set[str]:
        """Until somebody pokes, or a second has passed."""
        try:
            if self._pokes is None:
                self._redis = connect(self._settings)
                self._pokes = Pokes(self._redis, self._settings)
                # What was enqueued may be gone with the server: look at once.
                self._reconciled = float("-inf")
                self._is_back("queue")
            return self._pokes.wait(ROUND_SECONDS)
        except (UnavailableError, RedisError, OSError) as error:
            self._is_away("queue", error)
            if self._pokes is not None:
                self._pokes.close()
            self._redis = self._pokes = None
            self._stop.wait(ROUND_SECONDS)
            return set()

    def _round(self, words: set[str]) -> None:
        moment = time.monotonic()
        if time.time() - self._last_round > 10 + ROUND_SECONDS:
            # This process, the host or the database has been away: nobody can have said anything meanwhile.
            self._well_since = moment
        due = WORK in words or not words or moment - self._renewed > RENEW_SECONDS
        if not due or not self._holds_lease(moment):
            self._last_round = time.time()
            return
        for chore in self._chores:
            if moment - self._chores_done.get(chore.name, float("-inf")) >= chore.seconds:
                self._chores_done[chore.name] = moment
                self._do(chore)
        self._last_round = time.time()
        if self._redis is None:
            return
        if moment - self._reconciled > RECONCILE_SECONDS:
            listened = moment - self._well_since > self._settings.lost_after_seconds
            reconcile(self._database, self._redis, self._settings, judge_silence=listened)
            self._reconciled = moment
        for queue in QUEUES:
            dispatch(self._database, self._redis, self._settings, queue)

    def _holds_lease(self, moment: float) -> bool:
        if moment - self._renewed < RENEW_SECONDS:
            return True
        if lease.acquire(self._database, LEASE, self._holder, LEASE_SECONDS):
            self._renewed = moment
            return True
        self._renewed = float("-inf")
        return False

    def _do(self, chore: Chore) -> None:
        try:
            chore.run(self._database, self._settings)
        except UnavailableError:
            raise
        except Exception:  # one chore's fault must not keep the queue from being filled
            logger.exception("chore %r failed", chore.name)

    def _is_away(self, what: str, error: Exception) -> None:
        if what not in self._away:
            logger.warning("the %s is away, trying on: %s", what, error)
        self._away[what] = str(error)

    def _is_back(self, what: str) -> None:
        if self._away.pop(what, None) is not None:
            logger.warning("the %s is back", what)
