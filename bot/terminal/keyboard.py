"""What is typed while nobody asks."""

import sys
import termios
from collections.abc import Iterator
from contextlib import contextmanager

from prompt_toolkit.application import get_app_session
from prompt_toolkit.input.typeahead import clear_typeahead


@contextmanager
def unheard_keys() -> Iterator[None]:
    """Within the block keys are not shown, and forgotten at its end: they were meant for no question asked later. Ctrl-C is heard as ever."""
    if not sys.stdin.isatty():
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
        termios.tcsetattr(terminal, termios.TCSAFLUSH, before)  # what has not been read is discarded
        clear_typeahead(get_app_session().input)  # what was typed faster than the last question took it
