"""Waiting for what may come back by itself, or by somebody's making room: a full disk, a storage that does not answer."""

import logging
import math
import time
from collections.abc import Callable
from typing import TypeVar

from sqlalchemy.exc import DBAPIError

from core.errors import UnavailableError

logger = logging.getLogger(__name__)

AGAIN_SECONDS = 10.0  # between two tries
HURRY_SECONDS = 60.0  # for what was begun before a stop: long enough for a hiccup
_LOOK_SECONDS = 0.5  # how soon it is noticed that nobody wants to wait any more

Result = TypeVar("Result")


def is_database_away(error: BaseException) -> bool:
    """Whether the error says that the database cannot be reached: then waiting helps, and the training is not at fault."""
    return isinstance(error, UnavailableError) and isinstance(error.__cause__, DBAPIError)


def may_pass(error: BaseException) -> bool:
    """Whether it may go by itself, or by somebody's making room: a full disk, a storage that does not answer."""
    return isinstance(error, UnavailableError) or (
        isinstance(error, OSError) and not isinstance(error, (FileNotFoundError, PermissionError))
    )


class Patience:
    """How long one waits, who is told, and what ends it."""

    def __init__(
        self,
        waits: Callable[[str, str], None],
        over: Callable[[], bool],
        *,
        seconds: float = 3600.0,
        then: str = "the training ends with the best epoch it has had",
        hurries: Callable[[], bool] = lambda: False,
    ) -> None:
        """`waits` is told what is waited for, with a remedy. `over` is asked twice a second, and true ends the waiting.

        What `then` says is told to follow after so many `seconds` from the first failure on. Once `hurries` is true a minute is left, and
        where it is from the first failure on, nobody is told.

        Any thread may call the three; they may raise, FencedError for one, and that ends it, too.
        """
        self._waits, self._over, self._seconds, self._then, self._hurries = waits, over, seconds, then, hurries

    def until_it_passes(self, work: Callable[[], Result], what: str, over: Callable[[], bool] = lambda: False) -> Result:
        """What `work` gives, tried again and again while it fails for what may pass; `what` is a sentence's beginning: what cannot be done.

        Raises:
            Exception: what `work` raised last, where that does not pass, the time is up, or it is `over`.
        """
        deadline = math.inf  # until the first failure: the work itself may take long

        def ended() -> bool:
            nonlocal deadline
            if self._hurries():
                deadline = min(deadline, time.monotonic() + HURRY_SECONDS)
            return over() or self._over()

        while True:
            try:
                return work()
            except Exception as error:
                if is_database_away(error) or not may_pass(error) or ended() or time.monotonic() > deadline:
                    raise
                logger.warning("%s: %s", what, error)
                if deadline == math.inf:
                    deadline = time.monotonic() + self._seconds
                    why = error.what if isinstance(error, UnavailableError) else f"The storage fails ({type(error).__name__})."
                    hours = round(self._seconds / 3600)
                    patience = f"It is tried again for {hours} hour{'s' if hours != 1 else ''}; then {self._then}."
                    self._waits(f"{what}: {why} {patience}", "Make room or restore the storage; nothing is lost meanwhile.")
                again = time.monotonic() + AGAIN_SECONDS
                while (left := again - time.monotonic()) > 0:
                    time.sleep(min(left, _LOOK_SECONDS))
                    if ended():
                        raise
