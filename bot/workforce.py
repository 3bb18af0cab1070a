"""How many workers can train now, as the threads of waiting tasks say it; asked of the queue at most every few seconds."""

import time

from redis.exceptions import RedisError

from core.errors import UnavailableError
from core.queue import connect, worker_count
from core.settings import Settings

LASTS_SECONDS = 5.0


class TrainingWorkers:
    """Call it for the number of training workers; None where the queue does not say."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._known: int | None = None
        self._asked_at = -LASTS_SECONDS

    def __call__(self) -> int | None:
        """The number, at most five seconds old."""
        if time.monotonic() - self._asked_at >= LASTS_SECONDS:
            self._known, self._asked_at = self._ask(), time.monotonic()
        return self._known

    def _ask(self) -> int | None:
        try:
            with connect(self._settings) as redis:
                return worker_count(redis, self._settings, "gpu")
        except (UnavailableError, RedisError):
            return None
