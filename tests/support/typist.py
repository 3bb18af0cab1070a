"""A person at a real terminal: sees what is on the screen, moves with arrow keys, types."""

import time
from pathlib import Path

import pexpect
import pyte

ROWS, COLUMNS = 60, 140
POINTER = "»"
MOST_OPTIONS = 60
LATEST_ROWS = 5000  # kept above the screen, as a terminal keeps them; pictures take many


class Typist:
    """One command in one terminal."""

    def __init__(self, command: list[str], folder: Path, environment: dict[str, str], seconds: float = 60) -> None:
        self.seconds = seconds
        self.child = pexpect.spawn(command[0], command[1:], cwd=str(folder), env=environment, dimensions=(ROWS, COLUMNS), encoding="utf-8")
        self._screen = pyte.HistoryScreen(COLUMNS, ROWS, history=LATEST_ROWS)
        self._screen.write_process_input = self.child.send  # terminals tell where their cursor is when they are asked
        self._stream = pyte.Stream(self._screen)
        self._seen = 0

    def look(self, seconds: float = 0.05) -> list[str]:
        """The lines on the screen now."""
        try:
            while True:
                self._stream.feed(self.child.read_nonblocking(4096, timeout=seconds))
        except (pexpect.TIMEOUT, pexpect.EOF):
            pass
        return [line.rstrip() for line in self._screen.display]

    def shown(self) -> str:
        """All that was shown, scrollback included, with the frames of messages taken off and broken lines put together."""
        screen = self.look()
        above = ["".join(row[column].data for column in range(COLUMNS)) for row in self._screen.history.top]
        return " ".join(" ".join(line.strip(" │╭╮╰╯─") for line in [*above, *screen]).split())

    def see(self, text: str, seconds: float | None = None) -> None:
        """Wait until the text has been shown.

        Raises:
            AssertionError: with the screen, when it is not in time.
        """
        deadline = time.monotonic() + (seconds or self.seconds)
        while text not in self.shown():
            assert time.monotonic() < deadline and self.child.isalive(), f"“{text}” is not to be seen in:\n" + "\n".join(self.look())
            time.sleep(0.2)

    def choose(self, label: str) -> None:
        """Move the pointer to the option that begins with `label`, and press Enter."""
        self._wait_for_pointer()
        for _ in range(MOST_OPTIONS):
            if self.pointed().startswith(label):
                before = self.look()
                self.child.send("\r")
                self._wait_for_change(before)
                return
            self.child.send("\x1b[B")
            time.sleep(0.05)
        raise AssertionError(f"There is no option “{label}” in:\n" + "\n".join(self.look()))

    def pointed(self) -> str:
        """The option under the pointer."""
        for line in reversed(self.look()):
            if line.strip().startswith(POINTER):
                return line.strip().removeprefix(POINTER).strip()
        return ""

    def type(self, text: str) -> None:
        """Type over what the line holds, and press Enter; an empty text leaves what it holds."""
        self.look(0.3)
        self.child.send(f"\x15{text}\r" if text else "\r")
        self.look(0.3)

    def write(self, text: str) -> None:
        """Type over what the line holds, without Enter."""
        self.look(0.3)
        self.child.send(f"\x15{text}")
        self.look(0.3)

    def press_control_c(self) -> None:
        """Ctrl-C."""
        self.child.sendintr()

    def leave(self) -> None:
        """Close the terminal's window: the command gets SIGHUP, and what does not end then is killed."""
        self.child.close(force=True)

    def _wait_for_pointer(self) -> None:
        deadline = time.monotonic() + self.seconds
        while not self.pointed():
            assert time.monotonic() < deadline and self.child.isalive(), "no question is asked:\n" + "\n".join(self.look())

    def _wait_for_change(self, before: list[str]) -> None:
        """The question's options vanish as soon as it is answered; what follows may look alike."""
        deadline = time.monotonic() + self.seconds
        while self.look() == before and time.monotonic() < deadline and self.child.isalive():
            pass
        self.look(0.2)
