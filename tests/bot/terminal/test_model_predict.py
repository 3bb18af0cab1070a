"""`stationmaster model predict` before any worker is asked."""

import json
from pathlib import Path

import pytest
from finished_models import stripes_model

from bot.terminal.commands.app import main
from core.db.session import Database
from core.storage import Storage


@pytest.mark.parametrize(
    ("task_type", "instances", "code", "told"),
    [
        ("single-label", False, 2, "This model has no threshold"),
        ("object-segmentation", False, 2, "This model has no threshold"),
        ("object-segmentation", True, 1, "No light worker is running"),
        ("multi-label", False, 1, "No light worker is running"),
        ("object-detection", False, 1, "No light worker is running"),
    ],
)
def test_a_threshold_for_a_model_that_has_none_is_wrong_use(
    database: Database,
    storage: Storage,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    task_type: str,
    instances: bool,
    code: int,
    told: str,
) -> None:
    with database.write() as session:
        session.add(stripes_model(task_type=task_type))
    storage.write("models/m1/model_card.json", json.dumps({"spec": {"instances_only": instances}}).encode())
    image = tmp_path / "x.png"
    image.touch()
    monkeypatch.setattr("sys.argv", ["stationmaster", "model", "predict", "Stripes", str(image), "--threshold", "0.9"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert told in " ".join(capsys.readouterr().err.split()) and ended.value.code == code


@pytest.mark.parametrize("card", [{"task_type": "multi-label"}, {"spec": "resnet18"}])
def test_a_threshold_for_a_model_whose_card_is_damaged_is_refused_in_a_sentence(
    database: Database,
    storage: Storage,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    card: dict[str, str],
) -> None:
    with database.write() as session:
        session.add(stripes_model(task_type="multi-label"))
    storage.write("models/m1/model_card.json", json.dumps(card).encode())
    monkeypatch.setattr("sys.argv", ["stationmaster", "model", "predict", "Stripes", str(tmp_path / "x.png"), "--threshold", "0.9"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert "The files of this model are damaged. Train it again." in " ".join(capsys.readouterr().err.split())
    assert ended.value.code == 1


def test_what_is_not_there_is_told_with_all_that_can_be_given(
    database: Database, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with database.write() as session:
        session.add(stripes_model())
    monkeypatch.setattr("sys.argv", ["stationmaster", "model", "predict", "Stripes", "missing/"])
    with pytest.raises(SystemExit):
        main()
    assert "Give the path of an image file, or of a folder of images." in " ".join(capsys.readouterr().err.split())
