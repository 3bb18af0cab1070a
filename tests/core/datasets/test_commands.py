"""`stationmaster dataset …` as scripts call it: JSON on standard output, exit codes, one clear message."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from bot.terminal.commands.app import main


@dataclass
class Done:
    """What one command printed."""

    stdout: str
    stderr: str


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    """Runs `stationmaster dataset` as the script does, with a home of its own."""
    monkeypatch.setenv("STATIONMASTER_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("STATIONMASTER_MIN_FREE_BYTES", "0")
    monkeypatch.chdir(tmp_path)

    def call(*arguments: str, rc: int = 0) -> Done:
        monkeypatch.setattr("sys.argv", ["stationmaster", "dataset", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        done = Done(*capsys.readouterr())
        assert ended.value.code == rc, done.stderr
        return done

    return call


def test_the_life_of_a_dataset(run: Any, folders: Any, tmp_path: Path) -> None:
    source = folders(cat=4, dog=3)
    (source / "cat/broken.png").write_bytes(b"no image")
    made = json.loads(run("import", str(source), "--name", "pets", "--json").stdout)
    assert (made["name"], made["images"], made["classes"], made["task_types"]) == ("pets", 7, ["cat", "dog"], ["single-label"])
    assert [(finding["file"], finding["code"]) for finding in made["findings"]] == [("cat/broken.png", "damaged-image")]
    assert made["annotation_sets"][0]["class_counts"] == [4, 3]
    assert [one["name"] for one in json.loads(run("list", "--task-type", "single-label", "--search", "PET", "--json").stdout)] == ["pets"]
    assert json.loads(run("list", "--task-type", "object-detection", "--json").stdout) == []
    assert "pets" in run("list").stdout
    run("preview", "pets", "--page", "1", "--out", "grid.png")
    assert Image.open(tmp_path / "grid.png").width > 300
    assert "pets" in run("preview", "pets", "--page", "9", "--out", "x.png", rc=2).stderr or not (tmp_path / "x.png").exists()
    counted = json.loads(run("statistics", "pets", "--out", "statistics.png", "--json").stdout)
    assert [label["images"] for label in counted["labels"]] == [4, 3]
    split, same = (json.loads(run("split", "pets", "--percent", "30", "--seed", "5", "--json").stdout) for _ in range(2))
    assert split == same and not set(split["images"]["train"]) & set(split["images"]["validation"])
    assert [(one["class"], one["train"] + one["validation"]) for one in split["classes"]] == [("cat", 4), ("dog", 3)]
    run("findings", "pets", "--out", "findings.csv")
    assert "cat/broken.png" in (tmp_path / "findings.csv").read_text()
    run("export", "pets", "--format", "label-csv", "--out", "out.zip")
    run("import", "out.zip", "--name", "again")
    both = json.loads(run("combine", "pets", "again", "--name", "both", "--only", "cat", "--rename", "cat=chat", "--json").stdout)
    assert (both["images"], both["classes"]) == (8, ["chat"])
    assert json.loads(run("rename", "pets", "animals", "--json").stdout)["name"] == "animals"
    assert "animals" in run("show", "animal", rc=1).stderr
    assert "--yes" in run("delete", "animals", rc=2).stderr
    assert json.loads(run("delete", "animals", "--yes", "--json").stdout)["deleted"] is True
    assert sorted(one["name"] for one in json.loads(run("list", "--json").stdout)) == ["again", "both"]


def test_refusals(run: Any, folders: Any) -> None:
    source = folders(cat=3, dog=3)
    (source / "cat/broken.png").write_bytes(b"no image")
    refused = run("import", str(source), "--name", "pets", "--strict", "--json", rc=1)
    assert [finding["code"] for finding in json.loads(refused.stdout)["findings"]] == ["damaged-image"]
    assert "nowhere" in run("import", "nowhere", "--name", "pets", rc=1).stderr
    assert "parquet" in run("import", str(source), "--name", "pets", "--format", "parquet", rc=2).stderr
    assert json.loads(run("list", "--json").stdout) == []
