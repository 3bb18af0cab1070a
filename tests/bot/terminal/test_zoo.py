"""`stationmaster zoo …` as scripts read it."""

import json

import pytest
from typer.testing import CliRunner

from bot.terminal.commands.zoo import app
from core.db.session import Database


@pytest.fixture
def zoo(database: Database):
    """Runs a command; its standard output."""

    def run(*arguments: str, code: int = 0) -> str:
        result = CliRunner().invoke(app, [str(argument) for argument in arguments])
        assert result.exit_code == code, result.output
        return result.stdout

    return run


@pytest.mark.parametrize("task_type", ["single-label", "multi-label", "object-detection", "object-segmentation"])
def test_the_list_as_json(zoo, task_type):
    rows = json.loads(zoo("list", "--task-type", task_type, "--json"))
    assert len(rows) > 100
    for row in rows:
        assert task_type in row["task_types"]
        assert {
            "network",
            "pretraining",
            "licence",
            "parameters",
            "gmacs",
            "family",
            "input_size",
            "memory_mb",
            "allowed",
            "at_hand",
        } <= set(row)
        assert row["licence"] or row["pretraining"] == "none"
    names = [(row["network"], row["pretraining"]) for row in rows]
    assert len(names) == len(set(names))


def test_the_list_through_a_pipe_has_whole_names_and_what_to_compare_by(zoo):
    lines = zoo("list", "--search", "resnet18").splitlines()
    row = next(line for line in lines if line.startswith("faster_rcnn-resnet18") and "imagenet-1k" in line)
    assert row.rstrip().endswith("Apache-2.0")
    assert {"accuracy", "parameters", "GMACs", "images/s", "licence"} <= set(lines[0].split())


def test_show_as_json_binds_weights_to_their_preprocessing(zoo):
    entry = json.loads(zoo("show", "tf_efficientnet_lite0", "--json"))
    assert (entry["network"], entry["pretraining"], entry["licence"]) == ("tf_efficientnet_lite0", "imagenet-1k", "Apache-2.0")
    assert entry["mean"] == entry["std"] == [0.5, 0.5, 0.5]
    assert entry["at_hand"]
    assert entry["parameters"] > 3_000_000
    assert entry["gmacs"] > 0
    assert entry["recipe"] == "convolutional"
    assert {"optimizer", "learning_rate", "batch_size", "images_seen"} <= set(entry["training_recipe"])
    assert entry["images_per_second"] > 0
    assert entry["speed_source"]


@pytest.mark.parametrize("preference", range(1, 6))
def test_advice_as_json_is_an_array_best_first_with_reasons(zoo, add_dataset, preference):
    for kind, task_type in (("single-label", "single-label"), ("boxes", "object-detection"), ("regions", "object-segmentation")):
        add_dataset(kind, kind)
        found = json.loads(
            zoo("recommend", "--task-type", task_type, "--dataset", kind, "--data-type", "x-ray", "--preference", preference, "--json")
        )
        assert found
        assert all(item["reasons"] and task_type in item["task_types"] for item in found)
        assert found[0]["estimated_seconds"] > 0


def test_applications_as_json(zoo):
    rows = {row["preset"]: row for row in json.loads(zoo("presets", "--json"))}
    assert len(rows) >= 6
    assert rows["pneumothorax"]["classes"] == ["PTX", "normal"]
    assert rows["cell-nuclei"]["task_type"] == "object-segmentation"


def test_show_says_of_every_pretraining_whether_its_weights_are_at_hand(zoo):
    (line,) = (line for line in zoo("show", "tf_efficientnet_lite0").splitlines() if line.startswith("all pre-trainings"))
    assert "imagenet-1k (at hand)" in line and line.endswith(", none")
    (line,) = (line for line in zoo("show", "resnet18").splitlines() if line.startswith("all pre-trainings"))
    assert line.count("(not at hand") == line.count("(") > 1
