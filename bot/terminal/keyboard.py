"""What is typed while nobody asks."""

import os
import sys
import termios
from collections.abc import Iterator
from contextlib import contextmanager

from prompt_toolkit.application import get_app_session
from prompt_toolkit.input.typeahead import clear_typeahead


@contextmanager
def unheard_keys() -> Iterator[None]:
    """Within the block keys are not shown, and forgotten at its end: they were meant for no question asked later. Ctrl-C is heard as ever.

    In the background, as after `&`, the terminal is left alone: keys are meant for others there.
    """
    if not sys.stdin.isatty() or not _in_foreground(sys.stdin.fileno()):
        yield
        return
    terminal = sys.stdin.fileno()
    before = termios.tcgetattr(terminal)
    silent = termios.tcgetattr(terminal)
    silent[3] &= ~termios.ECHO
    try:
        termios.tcsetattr(terminal, termios.TCSADRAIN, silent)
        yield
    finally:
        if _in_foreground(terminal):
            termios.tcsetattr(terminal, termios.TCSAFLUSH, before)  # what has not been read is discarded
        clear_typeahead(get_app_session().input)  # what was typed faster than the last question took it


def _in_foreground(terminal: int) -> bool:
    """Whether this process may set the terminal: from the background it would be stopped by SIGTTOU."""
    try:
        return os.tcgetpgrp(terminal) == os.getpgrp()
    except OSError:  # it controls no processes of ours, and stops none
        return True
