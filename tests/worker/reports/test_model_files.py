"""From a checkpoint to the model folder, and from the folder to predictions."""

import io
import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import load as load_safetensors

from core.errors import BadDataError, ConflictError, NotFoundError
from worker.engine.checkpoint import newest
from worker.engine.data import decode
from worker.link import Ask, TrainingResult
from worker.reports import model_files
from worker.reports.inference import load_model, predict, predict_all
from worker.reports.model_files import class_numbers, write_model


def make_model(bench: Any, job: Any, key: str = "models/m1") -> tuple[TrainingResult, dict[str, str]]:
    result, _ = bench.train(job)
    return result, write_model(job, result, key, database=bench.database, storage=bench.storage, settings=bench.settings)


def png(width: int = 32, height: int = 32, colour: tuple[int, int, int] = (200, 30, 30)) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (width, height), colour).save(out, "PNG")
    return out.getvalue()


def test_what_a_model_leaves_and_says(bench: Any) -> None:
    job = bench.job(bench.stripes(per_class=40), epochs=5)
    result, report = make_model(bench, job)
    assert set(report) == {"curves", "confusion_matrix", "best_and_worst", "training_report"}
    assert bench.storage.read(report.pop("training_report")).startswith(b"%PDF")
    for key in report.values():
        with Image.open(io.BytesIO(bench.storage.read(key))) as picture:
            assert picture.format == "PNG" and min(picture.size) > 200
    card = json.loads(bench.storage.read("models/m1/model_card.json"))
    assert card["classes"] == ["direction 0", "direction 1"]
    assert card["metrics"] == result.metrics and card["baseline"] == result.baseline
    assert card["dataset"]["fingerprint"] and card["software"]["torch"] == torch.__version__.split("+")[0]
    assert {"torchvision", "timm", "segmentation-models-pytorch", "transformers"} <= set(card["software"]), "whatever builds networks"
    assert card["plan"]["optimizer"] == job.plan.optimizer and card["spec"]["recipe"] == job.spec.recipe
    assert card["preprocessing"]["size"] == [32, 32]
    confusion, told = np.array(card["confusion"]), card["per_class"]
    assert confusion.sum() == card["dataset"]["validation_images"] and "a row for what they show" in card["confusion_meaning"]
    assert np.trace(confusion) / confusion.sum() == pytest.approx(card["metrics"]["accuracy"])
    assert np.mean([values["recall"] for values in told.values()]) == pytest.approx(card["metrics"]["balanced_accuracy"], abs=1e-6)
    assert np.mean([values["f1"] for values in told.values()]) == pytest.approx(card["metrics"]["macro_f1"], abs=1e-6)
    # The weights are those of the best epoch, readable without this project.
    network = timm.create_model("test_resnet", num_classes=2)
    network.load_state_dict(load_safetensors(bench.storage.read("models/m1/model.safetensors")))


def test_where_rare_classes_count_for_more_the_score_is_balanced_accuracy(bench: Any) -> None:
    result, _ = make_model(bench, bench.job(bench.stripes(per_class=12), epochs=1, class_balance=0.5))
    card = json.loads(bench.storage.read("models/m1/model_card.json"))
    assert result.score == card["metrics"]["balanced_accuracy"]
    assert card["baseline"] == result.baseline == card["metrics"]["baseline_balanced_accuracy"] == 0.5


def test_predictions_agree_with_the_measured_accuracy(bench: Any) -> None:
    job = bench.job(bench.stripes(per_class=40), epochs=5)
    result, _ = make_model(bench, job)
    right = 0
    paths = sorted((bench.folder / "stripes").rglob("*.png"))
    for path in paths[::4]:
        answer = predict("models/m1", path.read_bytes(), storage=bench.storage, settings=bench.settings)
        right += answer["labels"][0]["label"] == path.parent.name
    assert right / len(paths[::4]) >= min(0.9, (result.score or 0) - 0.1)
    assert sum(item["confidence"] for item in answer["labels"]) == pytest.approx(1, abs=1e-5)
    with Image.open(io.BytesIO(bench.storage.read(answer["picture_key"]))) as picture:
        assert picture.width == 512 and picture.height > 512, "a caption lies below"
    json.dumps(answer)


@pytest.mark.parametrize("damage", ["spec", "classes", "preprocessing", "task_type"])
def test_a_card_that_lacks_something_is_told_as_damaged(bench: Any, damage: str) -> None:
    make_model(bench, bench.job(bench.stripes(per_class=4), epochs=1))
    card = json.loads(bench.storage.read("models/m1/model_card.json"))
    del card[damage]
    bench.storage.write("models/m1/model_card.json", json.dumps(card).encode())
    with pytest.raises(BadDataError, match="damaged"):
        load_model("models/m1", storage=bench.storage, settings=bench.settings)


def test_a_folder_is_predicted_as_each_of_its_images_and_a_damaged_one_is_told(bench: Any) -> None:
    make_model(bench, bench.job(bench.stripes(per_class=6), epochs=1))
    paths = sorted((bench.folder / "stripes").rglob("*.png"))[:3]
    images = {path.name: f"inference/x/{number}" for number, path in enumerate(paths)} | {"bad.png": "inference/x/bad"}
    for path in paths:
        bench.storage.write(images[path.name], path.read_bytes())
    bench.storage.write("inference/x/bad", b"no image")
    told: list[tuple[int, int]] = []
    arguments = {"storage": bench.storage, "settings": bench.settings}
    answers = predict_all("models/m1", images, progress=lambda done, total: told.append((done, total)), **arguments)
    assert [answer["file"] for answer in answers] == list(images) and told[-1] == (4, 4)
    assert "no image" in answers[-1]["error"] and "labels" not in answers[-1]
    for path, answer in zip(paths, answers, strict=False):
        alone = predict("models/m1", path.read_bytes(), **arguments)["labels"]
        assert [item["label"] for item in answer["labels"]] == [item["label"] for item in alone]
        assert answer["labels"][0]["confidence"] == pytest.approx(alone[0]["confidence"], abs=1e-5)
    assert len(bench.storage.list("predictions")) == len(paths)  # those of the single ones


def test_a_loaded_model_computes_what_was_judged(bench: Any) -> None:
    job = bench.job(bench.stripes(), ema_decay=0.9)
    make_model(bench, job)
    model = load_model("models/m1", storage=bench.storage, settings=bench.settings)
    path = next((bench.folder / "stripes").rglob("*.png"))
    images = model.prepare(path.read_bytes())
    expected = (torch.from_numpy(decode(path.read_bytes(), 32).copy()).permute(2, 0, 1).float() / 255 - 0.5) / 0.5
    assert torch.allclose(images[0], expected, atol=1e-6)


def test_curves_that_cannot_be_read_cost_no_model(bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model_files, "read_curves", lambda *_, **__: 1 / 0)
    make_model(bench, bench.job(bench.stripes(per_class=8), epochs=1))
    card = json.loads(bench.storage.read("models/m1/model_card.json"))
    assert "could not be read" in card["reading"]["text"] and bench.storage.exists("models/m1/model.safetensors")


def test_several_labels_have_thresholds(bench: Any) -> None:
    job = bench.job(bench.several_labels(), epochs=6)
    result, report = make_model(bench, job)
    assert {"curves", "classes", "best_and_worst", "training_report"} == set(report)
    card = json.loads(bench.storage.read("models/m1/model_card.json"))
    assert (card["dataset"]["images"], card["dataset"]["training_images"], card["dataset"]["validation_images"]) == (64, 48, 16)
    saved = newest(bench.storage, job.checkpoint_folder)
    exact = saved.best.details["thresholds"]
    assert torch.equal(torch.tensor(card["thresholds"]), exact.float()), "rounded, that of a rare class might be 0"
    told = card["per_class"]
    assert [values["threshold"] for values in told.values()] == exact.tolist()
    shown = saved.best.details["labels"].sum(0).tolist()
    assert [values["images"] for values in told.values()] == shown, "of validation"
    assert np.mean([values["ap"] for values in told.values()]) == pytest.approx(result.metrics["map"], abs=1e-6)
    assert np.mean([values["f1"] for values in told.values()]) == pytest.approx(result.metrics["macro_f1"], abs=1e-6)
    answer = predict("models/m1", (bench.folder / "several" / "3.png").read_bytes(), storage=bench.storage, settings=bench.settings)
    assert {item["label"]: item["present"] for item in answer["labels"]} == {"left": True, "right": True}
    nothing = predict("models/m1", (bench.folder / "several" / "0.png").read_bytes(), storage=bench.storage, settings=bench.settings)
    assert {item["label"]: item["present"] for item in nothing["labels"]} == {"left": False, "right": False}


def test_of_a_class_without_validation_images_nothing_is_known() -> None:
    detector = {"class_ap": torch.tensor([0.5, torch.nan]), "class_ap50": torch.tensor([0.75, torch.nan])}
    assert class_numbers(detector, ["a", "b"], "f1") == {"a": {"ap": 0.5, "ap50": 0.75}, "b": {"ap": None, "ap50": None}}
    version_before = {"counts": torch.tensor([[1, 1, 0, 2], [0, 0, 0, 4]])}
    assert class_numbers(version_before, ["a", "b"], "f1")["a"] == {"f1": pytest.approx(2 / 3), "precision": 0.5, "recall": 1.0}
    one_label = {"confusion": torch.tensor([[3, 1, 0], [2, 0, 0], [0, 0, 0]])}  # a row for what is true
    told = class_numbers(one_label, ["a", "b", "c"], "f1")
    assert told["a"] == {"f1": pytest.approx(6 / 9), "precision": pytest.approx(3 / 5), "recall": pytest.approx(3 / 4)}
    assert told["b"] == {"f1": 0, "precision": 0, "recall": 0} and set(told["c"].values()) == {None}
    assert class_numbers({"confusion": torch.tensor([[2]])}, ["a"], "f1")["a"]["f1"] == 1
    assert class_numbers({}, ["a"], "f1") == {}


def test_a_model_is_a_start_for_another(bench: Any) -> None:
    dataset = bench.stripes(per_class=40)
    make_model(bench, bench.job(dataset, epochs=5))
    again = replace(bench.job(dataset, task="again", epochs=1, learning_rate=1e-5), parent_model_key="models/m1")
    fresh = bench.job(dataset, task="fresh", epochs=1, learning_rate=1e-5)
    assert (bench.train(again)[0].score or 0) > (bench.train(fresh)[0].score or 0) + 0.2


def test_no_epoch_no_model(bench: Any) -> None:
    with pytest.raises(ConflictError, match="no finished epoch"):
        write_model(
            bench.job(bench.stripes(per_class=3)),
            TrainingResult(Ask.STOP_KEEP),
            "models/m1",
            database=bench.database,
            storage=bench.storage,
            settings=bench.settings,
        )


def test_what_cannot_be_predicted_is_said(bench: Any) -> None:
    with pytest.raises(NotFoundError):
        predict("models/none", png(), storage=bench.storage, settings=bench.settings)
    with pytest.raises(BadDataError):
        predict("models/none", b"no image", storage=bench.storage, settings=bench.settings)
    make_model(bench, bench.job(bench.stripes(per_class=6), epochs=1))
    bench.storage.write("models/m1/model.safetensors", b"\0" * 40)
    with pytest.raises(BadDataError):
        predict("models/m1", png(), storage=bench.storage, settings=bench.settings)


@pytest.mark.parametrize("size", [(16, 16), (3000, 40), (64, 64)])
def test_images_of_any_shape_are_predicted(bench: Any, size: tuple[int, int]) -> None:
    make_model(bench, bench.job(bench.stripes(per_class=6), epochs=1))
    random = np.random.default_rng(0)
    out = io.BytesIO()
    Image.fromarray(random.integers(0, 255, (size[1], size[0]), dtype=np.uint8)).save(out, "PNG")
    assert predict("models/m1", out.getvalue(), storage=bench.storage, settings=bench.settings)["labels"]


def test_the_surest_hits_of_several_labels_show_something() -> None:
    labels = torch.tensor([[False, False], [True, False], [False, False], [True, True], [False, True]])
    details = {"labels": labels, "losses": torch.tensor([0.0, 0.1, 0.0, 0.3, 0.9])}
    hits, misses = model_files._chosen(details, torch.tensor([True, True, True, True, False]))
    assert hits == [1, 3, 0, 2] and misses == [4]
