"""The worker process: RQ's forking worker with the mends that plain RQ needs (docs/architecture.md, The queue's faults)."""

import ctypes
import gc
import importlib
import logging
import os
import signal
import socket
import sys
import threading
import time
from types import FrameType
from typing import Any, cast

from redis.client import Pipeline
from redis.exceptions import RedisError
from rq import Queue, Worker, worker_registration
from rq.job import Job as QueueEntry
from rq.serializers import JSONSerializer
from rq.utils import utcformat

from core.clock import now
from core.db.session import Database
from core.errors import UnavailableError
from core.host_limits import out_of_memory_kills
from core.identifiers import new_id
from core.process_identity import own_identity
from core.queue import WORK, QueueName, connect, parse_rq_job_id, poke, rq_name
from core.settings import Settings
from core.tasks.duties import Duties
from core.tasks.lifecycle import lose_job
from core.tasks.light import lose_light_job
from core.zoo.catalogue import entries
from core.zoo.devices import host_device, show
from worker.pausing import PAUSE
from worker.workplace import leave_to_work_horses

logger = logging.getLogger(__name__)

# How long a work-horse that was asked to pause may take for its checkpoint.
PAUSE_SECONDS = 60.0
# How often a gpu worker says what it trains on.
SHOW_DEVICE_SECONDS = 60.0

# torch._dynamo would else be imported by the first optimizer of each job, for a second and a half.
WARM_MODULES = (
    "torch",
    "torch._dynamo",
    "torchvision",
    "timm",
    "torchmetrics",
    "core.figures",
    "core.tuning.pictures",
    "core.tuning.studies",
    "worker.jobs",
    "worker.light",
)

_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_LIBC = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None


class TrainingWorker(Worker):
    """One worker on one queue. Stop commands go through the database, so it listens to none of RQ's."""

    def __init__(self, settings: Settings, database: Database, duties: Duties, kind: QueueName) -> None:
        self._settings = settings
        self._database = database
        self._duties = duties
        self._kind = kind
        self._identity = own_identity()
        self._device_shown = float("-inf")
        self._kills_before: int | None = None  # of processes of this host, for lack of memory, when the last work-horse began
        super().__init__(
            # One queue only: from several RQ pops in a way that loses the job of a worker that is killed just then.
            [rq_name(settings, kind)],
            name=f"{kind}-{socket.gethostname()}-{os.getpid()}-{new_id(4)}",
            connection=connect(settings, patient=True),
            serializer=JSONSerializer,
            # RQ's defaults notice an orphan after minutes, and idle workers never look.
            job_monitoring_interval=5,
            maintenance_interval=30,
            worker_ttl=30,
            log_job_description=False,
        )
        self.log_result_lifespan = False

    # ------------------------------------------------------------ showing itself

    def serialize(self) -> dict[str, Any]:
        """What the queue knows of this worker: also its identity, so that others can tell when it is dead."""
        return {**super().serialize(), "identity": self._identity}

    def heartbeat(self, timeout: int | None = None, pipeline: "Pipeline | None" = None) -> None:
        """Show itself; and anew where the server has forgotten it."""
        super().heartbeat(timeout, pipeline)
        if pipeline is None and not self.connection.hexists(self.key, "birth"):
            with self.connection.pipeline() as transaction:
                transaction.hset(self.key, mapping=cast("Any", self.serialize()))
                transaction.expire(self.key, self.worker_ttl + 60)
                worker_registration.register(self, transaction)
                transaction.execute()
        self._show_device()

    def _show_device(self) -> None:
        """Tell the database what this worker trains on, for the advice; once a minute, and without harm when the database is away."""
        if self._kind != "gpu" or time.monotonic() - self._device_shown < SHOW_DEVICE_SECONDS:
            return
        self._device_shown = time.monotonic()
        try:
            with self._database.write() as session:
                show(session, self._identity, host_device(self._settings.devices_per_job))
        except UnavailableError as error:
            logger.info("the device was not told: %s", error)

    def maintain_heartbeats(self, job: QueueEntry) -> None:
        """Show itself while a job runs. A queue that is away is no reason to end: the job goes on."""
        try:
            self.heartbeat()
            super().maintain_heartbeats(job)
        except RedisError as error:
            logger.warning("the queue is away, the job goes on: %s", error)

    def set_current_job_working_time(self, current_job_working_time: float, pipeline: "Pipeline | None" = None) -> None:
        """As RQ's; nor is this one."""
        try:
            super().set_current_job_working_time(current_job_working_time, pipeline)
        except RedisError as error:
            logger.warning("the queue is away, the job goes on: %s", error)

    def subscribe(self) -> None:
        """Nothing: no thread more that a fork could catch holding a lock."""

    # ------------------------------------------------------------ the work-horse

    def fork_work_horse(self, job: QueueEntry, queue: Queue) -> None:
        """Fork, while no thread is at the database and no connection to it is open, and no signal falls between."""
        with self._duties.quiet():
            self._database.engine.dispose()
            signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGTERM, signal.SIGINT))
            self._kills_before = out_of_memory_kills()
            try:
                super().fork_work_horse(job, queue)
            finally:
                signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGTERM, signal.SIGINT))
        if self._stop_requested:  # since before the fork
            self._pause_horse()
        # The job has left the queue: there is room for another. Said here, it costs no work-horse a connection of its own.
        poke(self.connection, self._settings, WORK)

    def setup_work_horse_signals(self) -> None:
        """In the work-horse: die with the worker, and pause when told to."""
        die_with_parent(self.pid)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, _pause)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGTERM, signal.SIGINT))

    def handle_work_horse_killed(self, job: QueueEntry, retpid: int, ret_val: int, rusage: Any) -> None:
        """Give the horse's job up at once, so that it goes on elsewhere. Never raises: RQ would quit, holding its locks."""
        try:
            entry = parse_rq_job_id(job.id)
            if entry is None:
                return
            out_of_memory = ran_out_of_memory(ret_val, self._kills_before)
            reason = "memory ran out and the system killed its process" if out_of_memory else _cause_of_death(ret_val)
            with self._database.write() as session:
                if self._kind == "gpu":
                    lost = lose_job(session, self._settings, *entry, reason, out_of_memory=out_of_memory)
                else:
                    lost = lose_light_job(session, self._settings, *entry, reason)
            logger.warning("the work-horse of job %s, generation %d, died: %s", *entry, reason)
            if lost:
                poke(self.connection, self._settings, WORK)
        except Exception:  # the reconcile loop will find the job
            logger.exception("the lost job %s could not be given up", job.id)

    # ------------------------------------------------------------ ending

    @property
    def was_told_to_end(self) -> bool:
        """Whether a signal asked it to, rather than that something went wrong."""
        return self._shutdown_requested_date is not None

    def handle_warm_shutdown_request(self) -> None:
        """SIGTERM or Ctrl-C: plain RQ would wait for the end of the job, however far."""
        logger.info("asked to end%s", ": the job is checkpointed and handed back" if self.horse_pid else "")
        self._pause_horse()

    def set_shutdown_requested_date(self) -> None:
        """Nothing: a signal handler must not wait for the queue."""

    def register_death(self) -> None:
        """Sign off, if the queue is there to hear it: ending does not wait for it."""
        try:
            connection = connect(self._settings)
            with connection.pipeline() as pipeline:
                worker_registration.unregister(self, pipeline)
                pipeline.hset(self.key, "death", utcformat(now()))
                pipeline.expire(self.key, 60)
                pipeline.execute()
        except (UnavailableError, RedisError) as error:
            logger.info("not signed off: %s", error)

    def _pause_horse(self) -> None:
        pid = self.horse_pid
        if not pid:
            return
        try:
            os.kill(pid, signal.SIGTERM)
        except ProcessLookupError:
            return
        timer = threading.Timer(PAUSE_SECONDS, self._kill_late_horse, (pid,))
        timer.daemon = True
        timer.start()

    def _kill_late_horse(self, pid: int) -> None:
        if self.horse_pid == pid:
            logger.warning("the job has not been checkpointed within %.0f s: killed", PAUSE_SECONDS)
            self.kill_horse()


def die_with_parent(parent: int | None) -> None:
    """Have the kernel kill this process when its parent dies; where it cannot (macOS), nothing."""
    if _LIBC is not None:
        # Else the horse of a killed worker would go on training beside the one that takes its job over.
        _LIBC.prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
        if os.getppid() != parent:
            os._exit(1)


def _pause(_signal: int, _frame: FrameType | None) -> None:
    PAUSE.set()


def _cause_of_death(status: int | None) -> str:
    if status is None:
        return "its process vanished"
    if _was_killed(status):
        somebody = "" if out_of_memory_kills() is not None else ", which the system also does when memory runs out"
        return f"its process was killed{somebody}"
    if os.WIFSIGNALED(status):
        return f"its process was ended by {signal.Signals(os.WTERMSIG(status)).name}"
    return f"its process ended with code {os.waitstatus_to_exitcode(status)}"


def _was_killed(status: int | None) -> bool:
    return status is not None and os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL


def ran_out_of_memory(status: int | None, kills_before: int | None) -> bool:
    """Whether a process that ended so was most likely killed by the system for lack of memory: it has killed more than `kills_before`."""
    now = out_of_memory_kills()
    return _was_killed(status) and kills_before is not None and now is not None and now > kills_before


def warm_up() -> None:
    """Import and read everything a job needs, once, so that work-horses start in milliseconds.

    Import only: a process that has run one torch operation gives its children a thread pool without threads, and they hang in
    their first matrix product.
    """
    # Asking for CUDA devices must not start CUDA: a forked child could not use it any more.
    os.environ.setdefault("PYTORCH_NVML_BASED_CUDA_CHECK", "1")
    for module in WARM_MODULES:
        importlib.import_module(module)
    entries()
    # What is there now stays: no collection in a work-horse goes through it all, and its pages stay shared with the parent.
    gc.collect()
    gc.freeze()


def wait_for_queue(settings: Settings, seconds: float) -> None:
    """Wait for the queue's server to come up. Raises UnavailableError when it does not within `seconds`."""
    deadline = time.monotonic() + seconds
    said = False
    while True:
        try:
            connect(settings).close()
        except UnavailableError as error:
            if time.monotonic() > deadline:
                raise
            if not said:
                logger.warning("%s Waiting for it.", error.what)
                said = True
        else:
            return
        time.sleep(0.5)


def run(settings: Settings, database: Database, kind: QueueName, *, queue_seconds: float = 60.0) -> int:
    """Work until told to end; returns the exit code: 0 when it was told to, 1 when it ended by itself.

    Raises:
        UnavailableError: when the queue's server has not come up within `queue_seconds`.
    """
    wait_for_queue(settings, queue_seconds)
    duties = Duties(settings, database)
    duties.start()  # before the seconds that importing takes: jobs of a worker that died just now are given up meanwhile
    try:
        warm_up()
        from worker.rehearsal import rehearse  # brings torch with it

        rehearse(settings, database)
        leave_to_work_horses(settings, database)
        worker = TrainingWorker(settings, database, duties, kind)
        logger.info("worker %s is ready", worker.name)
        worker.work(logging_level=None)
        return 0 if worker.was_told_to_end else 1
    finally:
        duties.stop()
