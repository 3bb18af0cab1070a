"""Keys that are pressed while the terminal chat asks nothing."""

import os
import select
import signal
import sys
import termios
from collections.abc import Iterator

import pexpect
import pytest
from prompt_toolkit.application import create_app_session, get_app_session
from prompt_toolkit.input import create_input
from prompt_toolkit.input.typeahead import get_typeahead, store_typeahead
from prompt_toolkit.key_binding.key_processor import KeyPress

from bot.terminal.keyboard import unheard_keys


class Terminal:
    """A terminal whose keys the test presses."""

    def __init__(self) -> None:
        self.keys, program = os.openpty()
        self.stdin = os.fdopen(program)

    def press(self, keys: bytes) -> None:
        os.write(self.keys, keys)

    def waiting(self) -> bool:
        return bool(select.select([self.stdin], [], [], 0.1)[0])

    def echoes(self) -> bool:
        return bool(termios.tcgetattr(self.stdin)[3] & termios.ECHO)


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Iterator[Terminal]:
    opened = Terminal()
    monkeypatch.setattr("sys.stdin", opened.stdin)
    with create_app_session(input=create_input(opened.stdin)):
        yield opened
    opened.stdin.close()
    os.close(opened.keys)


def test_keys_of_the_meantime_are_neither_shown_nor_kept(terminal: Terminal) -> None:
    store_typeahead(get_app_session().input, [KeyPress("\r")])  # a second Enter on the button before
    with unheard_keys():
        terminal.press(b"\r\x1b[A\r")
        assert terminal.waiting() and not terminal.echoes()
    assert not terminal.waiting() and terminal.echoes()
    assert not get_typeahead(get_app_session().input)
    terminal.press(b"\r")
    assert terminal.waiting(), "what is pressed from now on counts"


@pytest.mark.parametrize("ending", [KeyboardInterrupt, RuntimeError])
def test_the_terminal_shows_keys_again_however_it_ends(terminal: Terminal, ending: type[BaseException]) -> None:
    with pytest.raises(ending), unheard_keys():
        raise ending
    assert terminal.echoes()


def test_without_a_terminal_nothing_is_touched(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    with (tmp_path / "keys").open("w+") as file:
        monkeypatch.setattr("sys.stdin", file)
        with unheard_keys():
            pass


@pytest.mark.parametrize("when", ["before", "within"])
def test_in_the_background_the_process_is_not_stopped(when: str) -> None:
    """As of `stationmaster demo &`, or Ctrl-Z and `bg` while it follows."""
    script = """
import os, signal, sys
from bot.terminal.keyboard import unheard_keys
child = os.fork()
if not child:
    if sys.argv[1] == "before":
        os.setpgid(0, 0)
    with unheard_keys():
        if sys.argv[1] == "within":
            os.setpgid(0, 0)
    os._exit(0)
status = os.waitpid(child, os.WUNTRACED)[1]
print("stopped" if os.WIFSTOPPED(status) else f"ended with {os.waitstatus_to_exitcode(status)}")
if os.WIFSTOPPED(status):
    os.kill(child, signal.SIGKILL)
"""
    shell = pexpect.spawn(sys.executable, ["-c", script, when], encoding="utf-8", timeout=30)
    assert shell.read().strip() == "ended with 0"


def test_chat_that_is_ended_while_it_follows_leaves_a_terminal_that_shows_keys() -> None:
    """By `kill`: like a closing of the door, not like Ctrl-C, which asks what to do."""
    script = """
import sys, time
from bot.terminal.chat import Chat
from bot.terminal.keyboard import unheard_keys

class Following(Chat):
    def __init__(self):
        self.console = self
    def print(self, *_):
        pass
    def news(self):
        with unheard_keys():
            print("following", flush=True)
            time.sleep(60)

Following().run()
"""
    chat = pexpect.spawn(sys.executable, ["-c", script], encoding="utf-8", timeout=30)
    chat.expect("following")
    assert not chat.getecho()
    chat.kill(signal.SIGTERM)
    chat.expect(pexpect.EOF)
    chat.wait()
    assert chat.exitstatus == 143 and chat.getecho()
