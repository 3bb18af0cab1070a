"""What is understood of how the processes of a team have ended."""

import signal
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from worker import ranks
from worker.engine.team import TeamLostError, _together
from worker.ranks import LACKS_MEMORY, ran_out_of_memory


def ended(*codes: int) -> list[Any]:
    """Processes with these exit codes, as torchrun's agent tells of them."""
    return [SimpleNamespace(exitcode=code) for code in codes]


def test_lack_of_memory_is_told_from_other_losses(monkeypatch: pytest.MonkeyPatch) -> None:
    """The next attempt takes smaller parts then; else it would be lost in the same way again."""
    monkeypatch.setattr(ranks, "out_of_memory_kills", lambda: 5)
    assert ran_out_of_memory(ended(1, LACKS_MEMORY), kills_before=5)  # it said so itself
    assert ran_out_of_memory(ended(1, -signal.SIGKILL), kills_before=4)  # the system has killed somebody since
    assert not ran_out_of_memory(ended(1, -signal.SIGKILL), kills_before=5)  # somebody else killed it
    assert not ran_out_of_memory(ended(1, -signal.SIGTERM), kills_before=4)


@pytest.mark.parametrize(
    ("error", "expected"),
    [(torch.OutOfMemoryError("CUDA out of memory."), True), (RuntimeError("Connection closed by peer"), False)],
)
def test_who_cannot_keep_up_knows_whether_it_lacks_memory(error: RuntimeError, expected: bool) -> None:
    with pytest.raises(TeamLostError) as lost, _together():
        raise error
    assert lost.value.out_of_memory is expected
