"""A dataset as the command line prints it."""

from typing import Any

import pytest

from bot.terminal.commands.dataset_output import print_dataset
from core.db.tables import DatasetFinding


def test_it_is_not_the_findings_that_are_left_out(add_dataset: Any, capsys: pytest.CaptureFixture[str]) -> None:
    finding = DatasetFinding(severity="error", code="damaged", file="a.png", message="Cut short.", remedy="Send it again.")
    print_dataset(add_dataset("pets"), [finding])
    printed = " ".join("".join(capsys.readouterr()).split())
    assert "1 finding, 1 of them on what was left out of the dataset:" in printed
