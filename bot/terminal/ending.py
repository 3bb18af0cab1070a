"""Being asked to end."""

import signal
from types import FrameType
from typing import NoReturn


def end_in_order() -> None:
    """From now on SIGTERM raises SystemExit, so that whatever is open is closed: the terminal shows keys again, children are ended.

    Not KeyboardInterrupt: where Ctrl-C goes back, or asks what to do, who sends SIGTERM waits in vain. Call it from the main thread.
    """
    signal.signal(signal.SIGTERM, _end)


def _end(number: int, _frame: FrameType | None) -> NoReturn:
    raise SystemExit(128 + number)
