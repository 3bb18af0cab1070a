"""Patience with what may pass by itself: when it begins, what ends it, and how soon."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from core.errors import UnavailableError
from worker import waiting
from worker.engine.training import patience_to_write
from worker.link import Ask
from worker.waiting import Patience


class Clock:
    """Time that passes when somebody sleeps, and then at once."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(waiting, "time", clock)
    return clock


def test_whoever_is_to_let_go_does_not_begin_to_wait() -> None:
    def full() -> None:
        raise UnavailableError("There is no space left.", "Free some.")

    said: list[str] = []
    with pytest.raises(UnavailableError):
        Patience(lambda message, _: said.append(message), lambda: True).until_it_passes(full, "It cannot be written")
    assert not said


def test_patience_begins_with_the_first_failure(clock: Clock) -> None:
    """Not with the work, which may take longer than that: a large set's images are decoded."""
    failures = [TimeoutError()] * 2

    def slow() -> str:
        clock.sleep(3000)
        if failures:
            raise failures.pop()
        return "done"

    patience = Patience(lambda *_: None, lambda: False, seconds=4000)
    assert patience.until_it_passes(slow, "It cannot be read") == "done"
    failures += [TimeoutError()] * 9
    with pytest.raises(TimeoutError):
        patience.until_it_passes(slow, "It cannot be read")
    assert len(failures) == 6  # after 0, 3010 and 6020 seconds of patience


def seconds_waited(clock: Clock, asked: Callable[[], Ask], *, pausing: Callable[[], bool] = lambda: False) -> float:
    """For how long a checkpoint that cannot be written is tried again, while that is asked for."""
    link: Any = SimpleNamespace(asked=asked, pausing=pausing, waits=lambda *_: None)

    def reset() -> None:
        raise ConnectionResetError

    began = clock.now
    with pytest.raises(ConnectionResetError):
        patience_to_write(link).until_it_passes(reset, "The checkpoint cannot be written")
    return clock.now - began


@pytest.mark.parametrize("asked", [Ask.GO_ON, Ask.ENOUGH])
def test_an_epoch_that_counts_is_waited_for(clock: Clock, asked: Ask) -> None:
    """Also by a search that has seen enough of its job."""
    assert 3600 <= seconds_waited(clock, lambda: asked) < 3620


def test_the_last_epoch_before_a_stop_is_waited_for_a_minute(clock: Clock) -> None:
    """For a hiccup of the storage; counted from the stop, where it has failed for longer."""
    assert 60 <= seconds_waited(clock, lambda: Ask.STOP_KEEP) < 80
    began = clock.now
    assert 1260 <= seconds_waited(clock, lambda: Ask.STOP_KEEP if clock.now > began + 1200 else Ask.GO_ON) < 1280


@pytest.mark.parametrize("asked", list(Ask))
def test_a_worker_that_shuts_down_waits_for_nothing(clock: Clock, asked: Ask) -> None:
    """Whatever else is asked: it would be killed meanwhile, and its job counted as lost."""
    assert seconds_waited(clock, lambda: asked, pausing=lambda: True) == 0
    began = clock.now
    assert seconds_waited(clock, lambda: asked, pausing=lambda: clock.now > began + 25) <= 26


@pytest.mark.parametrize("asked", [Ask.STOP_DISCARD, Ask.PAUSE])
def test_what_nobody_needs_is_not_waited_for(clock: Clock, asked: Ask) -> None:
    assert seconds_waited(clock, lambda: asked) == 0
