"""What is enqueued, where and under which id. The queue (RQ on Redis or Valkey) only carries work: the database is the truth."""

import contextlib
import hashlib
import os
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal

from redis import Redis
from redis.backoff import ExponentialWithJitterBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError
from redis.exceptions import TimeoutError as RedisTimeoutError
from redis.retry import Retry
from rq import Queue, worker_registration
from rq.exceptions import DuplicateJobError
from rq.job import Job as QueueEntry
from rq.serializers import JSONSerializer
from rq.utils import as_text, utcparse

from core.clock import now
from core.errors import UnavailableError
from core.process_identity import is_provably_dead
from core.settings import Settings

QueueName = Literal["gpu", "light"]
QUEUES: tuple[QueueName, ...] = ("gpu", "light")

# RQ finds the functions by name, so that bots need not import the worker.
ENTRY_POINTS: dict[QueueName, str] = {"gpu": "worker.jobs.run_training", "light": "worker.light.run_light"}

# An idle worker shows itself every 15 s, a busy one every 5 s (worker.process); older entries belong to the dead.
WORKER_SILENT_SECONDS = 45
# RQ's own record of a job that has ended serves nobody here; kept a while for those who look with RQ's tools.
RESULT_SECONDS = 300
FAILURE_SECONDS = 24 * 3600


# A unix socket's address has room for 108 bytes, the closing zero included (104 on macOS); the server's own temporary names are as long.
SOCKET_PATH_BYTES = 100


def valkey_socket(settings: Settings) -> Path:
    """Where the embedded Valkey of this home listens; the same for every process that has the same `home`.

    `home/valkey/valkey.sock`, or where that path is too long for a socket, a name made from it in a folder of the user's in `/tmp`
    (not in TMPDIR, which differs between a shell and a service). Both folders are private: whoever may write to the socket rules the queue.
    """
    folder = settings.home.expanduser().absolute() / "valkey"
    path = folder / "valkey.sock"
    if len(os.fsencode(path)) <= SOCKET_PATH_BYTES:
        return path
    digest = hashlib.sha256(os.fsencode(folder)).hexdigest()[:16]
    return Path(f"/tmp/stationmaster-{os.getuid()}/{digest}.sock")  # noqa: S108 (the server checks that the folder is ours)


def connect(settings: Settings, *, patient: bool = False) -> "Redis":
    """A connection to the queue's server: STATIONMASTER_REDIS_URL, or the embedded Valkey's socket under the home folder.

    Args:
        settings: Where the server is.
        patient: For workers: every command waits up to three minutes for a server that is away, and nothing is tried now.
            Otherwise the server must answer at once.

    Raises:
        UnavailableError: when not patient and there is no server, or the URL cannot be used.
    """
    # Plain RQ loses its worker when the server is away for a second while a job runs; these retries outlast a restart.
    retry = Retry(ExponentialWithJitterBackoff(base=0.2, cap=5), 40 if patient else 2)
    common: dict[str, Any] = {
        "retry": retry,
        "retry_on_error": [RedisConnectionError, RedisTimeoutError],
        "health_check_interval": 15,
        "socket_timeout": 30 if patient else 5,
        "socket_connect_timeout": 5,
    }
    url = settings.redis_url.get_secret_value()
    if url:
        if not url.startswith("unix:"):
            common |= {"socket_keepalive": True, "socket_keepalive_options": _keepalive()}
        try:
            redis = Redis.from_url(url, **common)
        except ValueError as error:
            raise UnavailableError(
                "STATIONMASTER_REDIS_URL is not a URL of a Redis server.",
                "Write it like redis://:password@host:6379/0, or leave it empty for the embedded Valkey.",
            ) from error
    else:
        path = valkey_socket(settings)
        if not patient and not path.exists():
            raise UnavailableError("The queue does not run.", "Start it with `stationmaster up`, or set STATIONMASTER_REDIS_URL.")
        common.pop("socket_connect_timeout")
        redis = Redis(unix_socket_path=str(path), **common)
    if not patient:
        with reachable():
            redis.ping()
    return redis


def _keepalive() -> dict[int, int]:
    # A server that vanished without a word is noticed after 30 s of silence and three unanswered probes.
    wanted = {"TCP_KEEPIDLE": 30, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 3}
    return {getattr(socket, name): value for name, value in wanted.items() if hasattr(socket, name)}


@contextlib.contextmanager
def reachable() -> Iterator[None]:
    """Turn the errors of Redis in the block into UnavailableError."""
    try:
        yield
    except RedisError as error:
        reason = str(error).rstrip(".") or type(error).__name__
        raise UnavailableError(
            f"The queue does not answer: {reason}.", "Check that it runs (`stationmaster doctor`), and STATIONMASTER_REDIS_URL."
        ) from error


def rq_name(settings: Settings, queue: QueueName) -> str:
    """The queue's name in RQ."""
    return f"{settings.queue_prefix}-{queue}"


def rq_job_id(job_id: str, generation: int) -> str:
    """The id under which a job's generation is enqueued: the same twice means the same work."""
    return f"{job_id}-g{generation}"


def parse_rq_job_id(text: str) -> tuple[str, int] | None:
    """Job id and generation of `rq_job_id`'s text; None for what is not ours."""
    job_id, separator, generation = text.rpartition("-g")
    return (job_id, int(generation)) if separator and generation.isdecimal() else None


def enqueue(redis: "Redis", settings: Settings, queue: QueueName, job_id: str, generation: int) -> bool:
    """Put a job's generation on the queue, behind all others; False where the queue has it already. Raises RedisError."""
    # JSON, not pickle: whoever can write to Redis must not be able to run code.
    target = Queue(rq_name(settings, queue), connection=redis, serializer=JSONSerializer)
    try:
        target.enqueue_call(
            ENTRY_POINTS[queue],
            args=(job_id, generation),
            job_id=rq_job_id(job_id, generation),
            timeout=-1,  # the default of 180 s would kill trainings
            result_ttl=RESULT_SECONDS,
            failure_ttl=FAILURE_SECONDS,
            description=f"{queue} job {job_id}, generation {generation}",
            unique=True,
        )
    except DuplicateJobError:
        return False
    return True


# Where a worker has taken what was to come behind it, it is next itself.
_EXCHANGE = """
if redis.call('LREM', KEYS[1], -1, ARGV[1]) == 0 then
    return 0
end
if redis.call('LINSERT', KEYS[1], 'BEFORE', ARGV[2], ARGV[1]) < 1 then
    redis.call('LPUSH', KEYS[1], ARGV[1])
end
if redis.call('LREM', KEYS[1], 1, ARGV[3]) == 0 then
    return 0
end
redis.call('DEL', KEYS[2])
return 1
"""


def exchange(
    redis: "Redis", settings: Settings, queue: QueueName, entry: tuple[str, int], before: tuple[str, int], instead_of: tuple[str, int]
) -> bool:
    """Move what was put on the queue `before` something that is there, and take off it what it is there `instead_of`, all at once.

    Each is a job id with its generation. False where a worker had taken the first or the last of them: then the last is left alone. Raises RedisError.
    """
    target = Queue(rq_name(settings, queue), connection=redis, serializer=JSONSerializer)
    removed = rq_job_id(*instead_of)
    names = [rq_job_id(*entry), rq_job_id(*before), removed]
    return bool(redis.eval(_EXCHANGE, 2, target.key, QueueEntry.key_for(removed), *names))


@dataclass(frozen=True)
class QueueView:
    """What the queue holds at one moment, as (job id, generation): `queued` in order, `taken` by a worker (or lost on the way to one)."""

    queued: tuple[tuple[str, int], ...]
    taken: frozenset[tuple[str, int]]


def alive(redis: "Redis", settings: Settings, queue: QueueName) -> QueueView:
    """Everything the queue knows to be queued or in work. Raises RedisError."""
    target = Queue(rq_name(settings, queue), connection=redis, serializer=JSONSerializer)
    with redis.pipeline(transaction=True) as pipeline:  # a job on its way from list to list is seen in one of them
        pipeline.lrange(target.key, 0, -1)
        pipeline.lrange(target.intermediate_queue_key, 0, -1)
        pipeline.zrange(target.started_job_registry.key, 0, -1)
        queued, popped, started = pipeline.execute()
    return QueueView(
        tuple(filter(None, (parse_rq_job_id(as_text(entry)) for entry in queued))),
        frozenset(filter(None, (parse_rq_job_id(as_text(entry).partition(":")[0]) for entry in [*popped, *started]))),
    )


def queue_length(redis: "Redis", settings: Settings, queue: QueueName) -> int:
    """Jobs enqueued that no worker has taken yet. Raises RedisError."""
    return Queue(rq_name(settings, queue), connection=redis, serializer=JSONSerializer).count


def worker_count(redis: "Redis", settings: Settings, queue: QueueName, *, host: str = "") -> int:
    """Workers that listen to the queue and have shown themselves lately, on all hosts or on one. Raises RedisError."""
    target = Queue(rq_name(settings, queue), connection=redis, serializer=JSONSerializer)
    keys = list(worker_registration.get_keys(queue=target))
    with redis.pipeline(transaction=False) as pipeline:
        for key in keys:
            pipeline.hmget(key, "last_heartbeat", "death", "identity")
        facts = pipeline.execute()
    count = 0
    for heartbeat, death, identity in facts:
        silent = heartbeat is None or now() - utcparse(as_text(heartbeat)) > timedelta(seconds=WORKER_SILENT_SECONDS)
        elsewhere = host and not (identity and as_text(identity).startswith(f"{host}|"))
        count += not (silent or death or elsewhere or (identity and is_provably_dead(as_text(identity))))
    return count


# ---------------------------------------------------------------- pokes: "look into the database now", lost without harm

WORK = "work"  # something waits to be dispatched
TASK = "task "  # followed by a task's id: it has new events


def poke(redis: "Redis", settings: Settings, word: str = WORK) -> None:
    """Tell whoever listens that there is news; a server that is away is passed over, as everybody also looks by themselves."""
    with contextlib.suppress(RedisError):
        redis.publish(f"{settings.queue_prefix}:poke", word)


class Pokes:
    """A subscription to the pokes. Not for several threads."""

    def __init__(self, redis: "Redis", settings: Settings) -> None:
        self._pubsub = redis.pubsub(ignore_subscribe_messages=True)  # type: ignore[no-untyped-call]
        self._channel = f"{settings.queue_prefix}:poke"
        self._subscribed = False

    def wait(self, seconds: float) -> set[str]:
        """The words said within `seconds`, as soon as there is one; empty when none was. Raises RedisError."""
        if not self._subscribed:
            self._pubsub.subscribe(self._channel)
            self._subscribed = True
        words: set[str] = set()
        deadline = seconds
        while message := self._pubsub.get_message(timeout=deadline):
            words.add(as_text(message["data"]))
            deadline = 0.0
        return words

    def close(self) -> None:
        """End the subscription."""
        with contextlib.suppress(RedisError, OSError):
            self._pubsub.close()
