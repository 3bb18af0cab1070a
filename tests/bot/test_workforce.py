"""How many workers can train, as waiting tasks are told."""

import pytest

from bot import workforce
from bot.terminal.embedded_valkey import EmbeddedValkey
from bot.workforce import TrainingWorkers
from core.settings import Settings


def test_without_a_queue_it_cannot_be_told_and_without_a_worker_there_is_none(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workforce, "LASTS_SECONDS", 3600.0)
    workers = TrainingWorkers(settings)
    assert workers() is None
    valkey = EmbeddedValkey(settings)
    valkey.start()
    try:
        assert workers() is None, "it has just been asked"
        monkeypatch.setattr(workforce, "LASTS_SECONDS", 0.0)
        assert workers() == 0
    finally:
        valkey.stop()
