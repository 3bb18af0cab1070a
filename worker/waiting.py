"""Waiting for what may come back by itself, or by somebody's making room: a full disk, a storage that does not answer."""

import logging
import time
from collections.abc import Callable
from typing import TypeVar

from sqlalchemy.exc import DBAPIError

from core.errors import UnavailableError

logger = logging.getLogger(__name__)

AGAIN_SECONDS = 10.0  # between two tries
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
    ) -> None:
        """`waits` is told what is waited for, with a remedy. `over` is asked twice a second, and true ends the waiting.

        What `then` says is told to follow after so many `seconds` from the first failure on.

        Any thread may call both; they may raise, FencedError for one, and that ends it, too.
        """
        self._waits, self._over, self._seconds, self._then = waits, over, seconds, then

    def until_it_passes(self, work: Callable[[], Result], what: str, over: Callable[[], bool] = lambda: False) -> Result:
        """What `work` gives, tried again and again while it fails for what may pass; `what` is a sentence's beginning: what cannot be done.

        Raises:
            Exception: what `work` raised last, where that does not pass, the time is up, or it is `over`.
        """
        deadline: float | None = None  # from the first failure on: the work itself may take long

        def ended() -> bool:
            return over() or self._over()

        while True:
            try:
                return work()
            except Exception as error:
                if is_database_away(error) or not may_pass(error) or (deadline and time.monotonic() > deadline) or ended():
                    raise
                logger.warning("%s: %s", what, error)
                if deadline is None:
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
