"""The scripting interface as people's scripts rely on it: one JSON document on standard output, exit codes 0, 1 and 2, one clear sentence."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from installation import Installation, wait_until
from PIL import Image

from bot.terminal.commands.app import main

pytestmark = pytest.mark.timeout(600)

SMALL = ("--network", "mobilenetv3_small_050", "--pretraining", "none", "--set", "batch_size=8", "--set", "image_size=32")
Run = Callable[..., Any]


@pytest.fixture
def run(installation: Installation, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs a command in the installation: its JSON, or with `code` 1 or 2 what it said on standard error."""
    for name, value in installation.environment.items():
        monkeypatch.setenv(name, value)

    def call(*arguments: str, code: int = 0) -> Any:
        monkeypatch.setattr("sys.argv", ["stationmaster", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        stdout, stderr = capsys.readouterr()
        assert ended.value.code == code, stderr
        assert "Traceback" not in stderr
        return json.loads(stdout) if code == 0 else stderr

    return call


def create(run: Run, name: str, *more: str, code: int = 0) -> Any:
    return run(
        *("task", "create", "--task-type", "single-label", "--dataset", "stripes", "--name", name, *SMALL, *more, "--json"), code=code
    )


def test_a_task_from_creation_to_prediction(run: Run, stripes: Path) -> None:
    task = create(run, "Stripes", "--description", "Which way?", "--set", "epochs=40", "--wait")
    assert (task["name"], task["state"], task["attempts"]) == ("Stripes", "finished", 1)
    assert (task["jobs"]["finished"], task["jobs"]["stopped"], task["jobs"]["failed"]) == (1, 0, 0)
    assert task["seconds"] > 0
    assert 0.8 <= task["metrics"]["accuracy"] <= 1
    assert {type(value) for value in task["metrics"].values()} == {float}

    (job,) = run("task", "show", "Stripes", "--json")["job_list"]
    assert job["state"] == "finished"
    epochs = run("task", "show", "Stripes", "--job", "1", "--json")["epochs"]
    assert [epoch["number"] for epoch in epochs] == list(range(1, len(epochs) + 1))

    model = run("model", "show", task["model_id"], "--json")
    assert model["per_class"].keys() == set(model["classes"]) and model["reading"]["text"] and model["best_epoch"]
    assert (model["name"], model["classes"]) == ("Stripes", ["across", "down"])
    assert (Path(model["place"]) / "model.safetensors").is_file()
    answer = run("model", "predict", "Stripes", str(stripes / "down" / "01.png"), "--json")
    assert Path(answer["picture"]).is_file()
    answered = run("model", "predict", "Stripes", str(stripes), "--out", str(stripes.parent / "answers"), "--json")["images"]
    assert all(Path(one["picture"]).is_file() for one in answered)
    assert {path.name for path in (stripes.parent / "answers").iterdir()} == {"across", "down", "predictions.json", "predictions.csv"}
    answers = {one["file"]: one["labels"][0]["label"] for one in run("model", "predict", "Stripes", str(stripes), "--json")["images"]}
    assert len(answers) == len(list(stripes.rglob("*.png")))
    assert answers["down/01.png"] == answer["labels"][0]["label"]
    assert sum(file.partition("/")[0] == label for file, label in answers.items()) >= 0.8 * len(answers)

    exports = stripes.parent / "exports"
    assert ".onnx" in run("model", "export", "Stripes", "--out", f"{exports}.pt", code=2)
    exports.write_bytes(b"")
    assert "is a file" in run("model", "export", "Stripes", "--out", str(exports), code=2)
    exports.unlink()
    exported = Path(run("model", "export", "Stripes", "--out", str(exports), "--json")["file"])
    assert exported.parent == exports and exported.suffix == ".onnx" and exported.stat().st_size > 10_000

    assert run("model", "rename", "Stripes", "Ways", "--json")["name"] == "Ways"
    assert [one["name"] for one in run("model", "list", "--json")] == ["Ways"]
    retrained = run(
        "task",
        "create",
        "--model",
        "Ways",
        "--dataset",
        "stripes",
        "--name",
        "More",
        "--json",
        "--wait",
        "--set",
        "epochs=2",
    )
    assert (retrained["flow"], retrained["network"], retrained["state"]) == ("retraining", "mobilenetv3_small_050", "finished")

    assert run("task", "rename", "Stripes", "Old stripes", "--json")["name"] == "Old stripes"
    assert [one["name"] for one in run("task", "list", "--search", "STRIPES", "--state", "finished", "--sort", "finished", "--json")] == [
        "Old stripes"
    ]
    assert "used by" in run("dataset", "delete", "stripes", "--yes", code=1)
    run("task", "delete", "Old stripes", "--yes", "--json")
    assert "Old stripes" not in [one["name"] for one in run("task", "list", "--json")]
    assert run("model", "show", "Ways", "--json")["id"] == task["model_id"]  # the model outlives its task


@pytest.mark.parametrize(("discard", "kept"), [((), True), (("--discard",), False)], ids=["keep", "discard"])
def test_stop(run: Run, discard: tuple[str, ...], kept: bool) -> None:
    task = create(run, f"Endless {kept}", "--tuning", "manual", "--set", "epochs=200", "--set", "early_stop=off")
    wait_until(lambda: run("task", "show", task["id"], "--json")["epoch"] >= 2)
    assert run("task", "stop", task["id"], *discard, "--json")["state"] in ("stopping", "stopped")
    wait_until(lambda: run("task", "show", task["id"], "--json")["state"] != "stopping")
    task = run("task", "show", task["id"], "--json")
    assert task["state"] == "stopped"
    assert (task["model_id"] is not None) == kept
    assert "stopped" in run("task", "stop", task["id"], code=1)


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("--set", "epochs=0"), 2, "Training epochs (epochs) takes an integer from 1 to 200; “0” was given"),
        (("--set", "learning_rate=fast"), 2, "“fast” was given"),
        (("--set", "epoch=3"), 2, "Did you mean epochs?"),
        (("--set", "epochs"), 2, "key=value"),
        (("--set", "image_size=20"), 2, "Input size (image_size)"),
        (("--dataset", "horses"), 1, "horses"),
        (("--task-type", "object-detection"), 1, "no annotations for object detection"),
        (("--network", "resnet19"), 2, "resnet18"),
        (("--pretraining", "imagenet-30k"), 2, "imagenet-1k"),
        (("--name", ""), 2, "has no name yet"),
        (("--name", "two\nlines"), 2, "line breaks"),
        (("--preset", "pneumothorax", "--flow", "retraining"), 2, "--preset belongs to --flow specialized"),
        (("--flow", "retraining"), 2, "--network"),
        (("--task-type", "cats"), 2, "single-label"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else None,
)
def test_wrong_use_is_one_clear_sentence(run: Run, arguments: tuple[str, ...], code: int, said: str) -> None:
    before = run("task", "list", "--json")
    assert said in " ".join(create(run, "Wrong", *arguments, code=code).split())
    assert run("task", "list", "--json") == before


def test_which_of_several_tasks_of_one_name_is_meant_must_be_said(run: Run) -> None:
    first, second = create(run, "Twins", "--set", "epochs=1", "--wait"), create(run, "Twins", "--set", "epochs=1", "--wait")
    for arguments in (("stop", "Twins"), ("rename", "Twins", "Other"), ("delete", "Twins", "--yes")):
        said = run("task", *arguments, code=2)
        assert "several tasks called “Twins”" in said
        assert first["id"] in said
        assert second["id"] in said
    assert "--yes" in run("task", "delete", first["id"], code=2)
    run("task", "delete", first["id"], "--yes", "--json")
    assert run("task", "rename", "Twins", "Only one", "--json")["id"] == second["id"]


def test_a_missing_and_a_damaged_image(run: Run, installation: Installation) -> None:
    run("model", "list", "--json")
    broken = installation.folder / "broken.png"
    broken.write_bytes(b"no picture at all")
    create(run, "For a look", "--set", "epochs=1", "--wait")
    assert "nowhere.png" in run("model", "predict", "For a look", "nowhere.png", code=1)
    assert "image" in run("model", "predict", "For a look", str(broken), code=1)
    folder = installation.folder / "some"
    folder.mkdir()
    (folder / "broken.png").write_bytes(b"no picture at all")
    Image.new("RGB", (40, 40), "red").save(folder / "red.png")
    out = folder / "answers"
    said = run("model", "predict", "For a look", str(folder), "--out", str(out), code=1)
    assert "1 of 2 images could not be read: broken.png" in said
    assert (out / "red.png").is_file() and len(json.loads((out / "predictions.json").read_text())["images"]) == 2
    assert "other files" in run("model", "predict", "For a look", str(folder / "red.png"), "--out", str(folder), code=2)
    assert "no threshold" in run("model", "predict", "For a look", str(folder / "red.png"), "--threshold", "0.5", code=2)


def test_without_any_worker_a_task_waits_and_that_is_said(
    tmp_path: Path, stripes: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("STATIONMASTER_HOME", str(tmp_path / "lonely"))

    def call(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["stationmaster", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        return (int(str(ended.value.code or 0)), *capsys.readouterr())

    assert call("dataset", "import", str(stripes), "--name", "stripes")[0] == 0
    code, stdout, stderr = call(
        *("task", "create", "--task-type", "single-label", "--dataset", "stripes", "--name", "Lonely", *SMALL, "--json")
    )
    assert (code, json.loads(stdout)["state"]) == (0, "waiting")
    assert "No training worker is running" in stderr
    code, _, stderr = call("model", "predict", "any", "any.png")
    assert code == 1
    assert "There is no model “any”" in stderr


def test_a_database_that_cannot_be_reached(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("STATIONMASTER_DATABASE_URL", "postgresql://nobody@127.0.0.1:9/none")
    monkeypatch.setattr("sys.argv", ["stationmaster", "task", "list", "--json"])
    with pytest.raises(SystemExit) as ended:
        main()
    stdout, stderr = capsys.readouterr()
    assert (ended.value.code, stdout) == (1, "")
    assert "does not answer" in stderr
    assert "Traceback" not in stderr
