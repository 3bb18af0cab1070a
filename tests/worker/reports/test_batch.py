"""A model on a whole dataset with ground truth: numbers that other libraries confirm, curves, and case studies."""

import json
import threading
from dataclasses import replace
from io import BytesIO
from typing import Any

import numpy as np
import pytest
import torch
from finished_models import stripes_model
from PIL import Image
from sklearn import metrics as sklearn_metrics
from small_networks import BOXES, INSTANCES, REGIONS
from sqlalchemy import select

from bot.desk.desk import Desk
from bot.messages import LEARNT_FROM
from core.access import Actor, Place
from core.datasets.records import Record
from core.db.tables import AnnotationSet
from core.errors import InvalidInputError
from core.tasks.light import submit_light_job
from core.vocabulary import AnnotationKind
from core.wizard.screens import Facts, Picture, Text
from worker import light
from worker.engine.device import Device
from worker.objectives.average_precision import IGNORED
from worker.objectives.objects import Objects
from worker.reports.batch import labels as batch_labels
from worker.reports.batch import run
from worker.reports.batch.objects import froc
from worker.reports.batch.run import batch_test
from worker.reports.batch.truth import in_the_model_s_classes
from worker.reports.inference import LoadedModel
from worker.reports.model_files import write_model
from worker.reports.rates import counts_of
from worker.workplace import Workplace

SPECS = {"boxes": BOXES, "regions": REGIONS, "instances": INSTANCES}


def make_model(bench: Any, dataset: Any, **options: Any) -> Any:
    job = bench.job(dataset, **options)
    result, _ = bench.train(job)
    write_model(job, result, "models/m1", database=bench.database, storage=bench.storage, settings=bench.settings)
    return result


def report_of(bench: Any, dataset: Any, annotation_set: str = "") -> dict[str, Any]:
    report = batch_test("models/m1", dataset.id, annotation_set, database=bench.database, storage=bench.storage, settings=bench.settings)
    kept = json.loads(bench.storage.read(report["report_key"]))
    assert kept["per_class"] == report["per_class"] and "pictures" not in kept
    for key in report["pictures"].values():
        assert min(Image.open(BytesIO(bench.storage.read(key))).size) > 100
    return report


def test_a_chat_chooses_the_dataset_and_is_told(bench: Any) -> None:
    dataset = bench.stripes(per_class=8)
    make_model(bench, dataset, epochs=1)
    bench.squares(images=4)  # has no labels: not offered
    model = stripes_model()
    with bench.database.write() as session:
        session.add(model)
    desk = Desk(bench.database, bench.storage, bench.settings)
    person, place = Actor("default", "slack:U1", "Ada"), Place("slack", "T1", "C1")
    assert "model:batch" in [control.action for control in desk.press(person, place, "model:show", model.id).controls]
    offered = desk.press(person, place, "model:batch", model.id).controls
    assert [(control.action, control.value) for control in offered] == [("model:test-on", f"{model.id} {dataset.id}")]
    worker = threading.Thread(target=bench.serve_a_light_job)
    worker.start()
    reply = desk.press(person, place, "model:test-on", offered[0].value)
    worker.join()
    pictures = [block.alt for block in reply.blocks if isinstance(block, Picture)]
    assert pictures[0] == "Confusion matrix" and len(pictures) == 4
    rows = [row for block in reply.blocks if isinstance(block, Facts) for row in block.rows]
    assert any(title == "Accuracy" for title, _ in rows)
    assert LEARNT_FROM in [block.body for block in reply.blocks if isinstance(block, Text)]
    assert "sensitivity" in next(value for title, value in rows if title == "direction 0")
    assert json.loads(bench.storage.read(reply.files[0].key))["images"] == 16


def test_one_label_an_image_with_classes_that_the_model_does_not_know(bench: Any) -> None:
    make_model(bench, bench.stripes(per_class=16), epochs=2)
    others = bench.stripes(per_class=6, classes=3, name="others")  # its third direction is unknown to the model
    model = stripes_model()
    with bench.database.write() as session:
        session.add(model)
        session.flush()
        payload = {"model_id": model.id, "dataset_id": others.id}
        job = submit_light_job(session, workspace="default", person="cli:test", kind="batch-test", payload=payload)
    light._run(Workplace(bench.settings, bench.database, bench.storage), job.id, job.generation)
    with bench.database.read() as session:
        job = session.get_one(type(job), job.id)
    assert job.error == "" and job.result is not None
    report = job.result
    assert report["images"] == 12 and report["left_out_images"] == 6 and report["unknown_classes"] == ["direction 2"]
    assert not report["learnt_from"], "other images than the model has learnt from"
    assert set(report["pictures"]) == {"confusion_matrix", "roc", "precision_recall", "case_studies"}
    confusion = np.array(report["confusion"])
    assert confusion.sum() == 12 and report["metrics"]["accuracy"] == pytest.approx(np.trace(confusion) / 12)
    for number, name in enumerate(("direction 0", "direction 1")):
        values, cases = report["per_class"][name], report["cases"].get(name, {})
        assert values["sensitivity"] == pytest.approx(confusion[number, number] / 6)
        assert values["specificity"] == pytest.approx(confusion[1 - number, 1 - number] / 6)
        assert bool(cases.get("true-positive")) == (confusion[number, number] > 0)
        assert bool(cases.get("false-negative")) == (confusion[number, number] < 6)
        assert report["curves"]["roc"][name]["area"] == pytest.approx(values["auroc"])


def test_several_labels_are_said_from_the_model_s_own_thresholds(bench: Any) -> None:
    dataset = bench.several_labels(images=40)
    make_model(bench, dataset, epochs=3)
    report = report_of(bench, dataset)
    assert set(report["per_class"]) == {"left", "right"} and "confusion_matrix" not in report["pictures"]
    assert report["images"] == 40 and report["per_class"]["left"]["images"] == 20
    assert report["metrics"]["macro_f1"] == pytest.approx(np.mean([values["f1"] for values in report["per_class"].values()]))


@pytest.mark.parametrize("kind", ["boxes", pytest.param("instances", marks=pytest.mark.long)])
def test_objects_have_precision_recall_and_free_response_curves(bench: Any, kind: str) -> None:
    dataset = bench.squares(images=12)
    make_model(bench, dataset, kind=kind, spec=SPECS[kind], batch_size=4, epochs=4, image_size=64, learning_rate=2e-3, gradient_clip=5.0)
    report = report_of(bench, dataset)
    overlaps = report["ap_by_overlap"]
    assert len(overlaps) == 10 and overlaps["0.50"] == pytest.approx(report["metrics"]["ap50"], abs=1e-6)
    assert np.mean(list(overlaps.values())) == pytest.approx(report["metrics"]["ap"], abs=1e-6)
    assert report["average_recall"]["ar_1"] <= report["average_recall"]["ar_10"] <= report["average_recall"]["ar_100"]
    assert {"precision_recall", "froc", "case_studies"} <= set(report["pictures"])
    found = sum(values["objects"] for values in report["per_class"].values())
    assert found == 24  # every true object is a hit or missed
    assert 0 <= report["froc"]["all classes"] <= 1


@pytest.mark.parametrize(("fits", "went_through"), [(4, [16, 8, 4, 4, 4, 4]), (0, [16, 8, 4, 2, 1, 1] + [1] * 15)])
def test_a_dataset_is_tested_on_the_device_in_parts_that_fit_and_on_the_cpu_where_none_does(
    bench: Any, monkeypatch: pytest.MonkeyPatch, fits: int, went_through: list[int]
) -> None:
    dataset = bench.stripes(per_class=8)
    make_model(bench, dataset, epochs=1)
    alone = report_of(bench, dataset)
    elsewhere = Device(torch.device("cpu", 0), "another", False)  # the host, under a name of its own
    monkeypatch.setattr(run, "choose_device", lambda: elsewhere)
    tried: list[int] = []
    prepare = LoadedModel.prepare

    def prepared(model: LoadedModel, *files: bytes) -> torch.Tensor:
        tried.append(len(files))
        if model.device == elsewhere.torch and len(files) > fits:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB")
        return prepare(model, *files)

    monkeypatch.setattr(LoadedModel, "prepare", prepared)
    assert report_of(bench, dataset)["confusion"] == alone["confusion"]
    assert tried == went_through


def test_regions_have_their_numbers_per_class(bench: Any) -> None:
    dataset = bench.squares(images=12)
    result = make_model(bench, dataset, kind="regions", spec=REGIONS, batch_size=4, epochs=4, image_size=64)
    report = report_of(bench, dataset)
    assert set(report["pictures"]) >= {"classes", "case_studies"}
    for values in report["per_class"].values():
        assert set(values) == {"dice", "iou", "precision", "recall", "specificity"} and 0 <= values["specificity"] <= 1
    assert report["metrics"]["dice"] == pytest.approx(np.mean([values["dice"] for values in report["per_class"].values()]))
    assert result.score is not None


def test_a_dataset_of_another_kind_is_refused(bench: Any) -> None:
    make_model(bench, bench.stripes(per_class=4), epochs=1)
    with pytest.raises(InvalidInputError, match="no such annotations"):
        report_of(bench, bench.squares(images=4))


@pytest.mark.parametrize("kind", ["boxes", "regions", "multi-label"])
def test_a_dataset_of_other_classes_is_refused(bench: Any, kind: str) -> None:
    """Without a word its images would show nothing, and the model be right never."""
    if kind == "multi-label":
        dataset = bench.several_labels(images=8)
        make_model(bench, dataset, epochs=1)
    else:
        dataset = bench.squares(images=4)
        make_model(bench, dataset, kind=kind, spec=SPECS[kind], batch_size=4, epochs=1, image_size=64)
    with bench.database.write() as session:
        sets = session.scalars(select(AnnotationSet).where(AnnotationSet.dataset_id == dataset.id)).all()
        known = next(list(one.classes) for one in sets if one.kind == kind)
        for one in sets:
            one.classes = ["nut", "bolt"]
    with pytest.raises(InvalidInputError, match="shares no class") as caught:
        report_of(bench, dataset)
    assert f"it has nut, bolt; the model knows {', '.join(known)}." in caught.value.what and "to the letter" in caught.value.remedy


# ---------------------------------------------------------------- numbers


def test_numbers_of_labels_are_those_of_scikit_learn() -> None:
    random = np.random.default_rng(0)
    truth = random.integers(0, 3, 200)
    probabilities = random.dirichlet([1, 1, 1], 200) + 0.4 * np.eye(3)[truth]
    said = probabilities.argmax(1)
    confusion = sklearn_metrics.confusion_matrix(truth, said)
    counts = counts_of(torch.from_numpy(confusion))
    wide = torch.from_numpy(np.eye(3, dtype=bool)[truth])
    numbers = batch_labels.label_numbers(counts, torch.from_numpy(probabilities), wide, ["a", "b", "c"])
    told = sklearn_metrics.precision_recall_fscore_support(truth, said)
    for number, name in enumerate("abc"):
        values, mine = numbers[name], truth == number
        hits, wrong = confusion[number, number], confusion[:, number].sum() - confusion[number, number]
        lost, rest = mine.sum() - hits, 200 - mine.sum() - wrong
        assert counts[number].tolist() == [hits, wrong, lost, rest]
        assert values["auroc"] == pytest.approx(sklearn_metrics.roc_auc_score(mine, probabilities[:, number]), abs=1e-6)
        expected = sklearn_metrics.average_precision_score(mine, probabilities[:, number])
        assert values["average_precision"] == pytest.approx(expected, abs=1e-6)
        assert [values[name] for name in ("precision", "sensitivity", "f1", "images")] == pytest.approx([row[number] for row in told])
        assert values["specificity"] == pytest.approx(rest / (rest + wrong))
        assert values["diagnostic_odds_ratio"] == pytest.approx(hits * rest / (wrong * lost))
    roc, _ = batch_labels.label_curves(torch.from_numpy(probabilities), wide, ["a", "b", "c"])
    assert np.trapezoid(roc[0].y, roc[0].x) == pytest.approx(roc[0].area, abs=1e-3)


def test_odds_where_a_count_is_nought() -> None:
    assert batch_labels.diagnostic_odds_ratio(10, 0, 0, 10) == pytest.approx(10.5 * 10.5 / 0.25)
    assert batch_labels.diagnostic_odds_ratio(0, 3, 0, 7) is None  # no image shows the class
    assert batch_labels.diagnostic_odds_ratio(0, 0, 1, 9_999) is None  # it is never said
    assert batch_labels.diagnostic_odds_ratio(1, 9_999, 0, 0) is None  # it is always said


def test_free_response_curves_count_false_finds_by_image() -> None:
    details = {
        "found_labels": torch.zeros(4, dtype=torch.int64),
        "found_scores": torch.tensor([0.9, 0.8, 0.7, 0.6]),
        "found_true": torch.tensor([True, False, True, False]),
        "found_match": torch.tensor([0, -1, 1, -1]),
    }
    records = [Record(number, f"{number}.png", "", 100, 100, "", "", {"boxes": [[0, 0, 0, 10, 10]]}) for number in range(2)]
    curve = froc(details, Objects.of_boxes(records), [0, 1], ["a"])[0]
    assert curve.x.tolist() == [0, 0, 0.5, 0.5, 1.0] and curve.y.tolist() == [0, 0.5, 0.5, 1.0, 1.0]
    details["found_match"][1] = IGNORED  # neither right nor wrong
    assert froc(details, Objects.of_boxes(records), [0, 1], ["a"])[0].x.tolist() == [0, 0, 0, 0.5]
    # at 1/8 and 1/4 false finds an image one of two is found, from 1/2 on both
    assert curve.area == pytest.approx((2 * 0.5 + 5 * 1.0) / 7)


def test_classes_are_taken_by_their_names() -> None:
    record = Record(0, "a.png", "", 10, 10, "", "", {"boxes": [[0, 1, 1, 2, 2], [1, 3, 3, 2, 2]]})
    kept, unknown = in_the_model_s_classes([record], AnnotationKind.BOXES, ["cat", "dog"], ["bird", "dog"])
    assert kept[0].value == {"boxes": [[1, 3, 3, 2, 2]]} and unknown == ["cat"]
    value = {"boxes": [[0, 1, 1, 2, 2], [1, 3, 3, 2, 2]], "areas": [3.0, 4.0], "ignored": [[1, 5, 5, 1, 1], [0, 6, 6, 1, 1]]}
    kept, _ = in_the_model_s_classes([replace(record, value=value)], AnnotationKind.BOXES, ["cat", "dog"], ["bird", "dog"])
    assert kept[0].value == {"boxes": [[1, 3, 3, 2, 2]], "areas": [4.0], "ignored": [[1, 5, 5, 1, 1]]}
    labels = [Record(0, "a.png", "", 10, 10, "", "", {"label": number}) for number in (0, 1)]
    kept, unknown = in_the_model_s_classes(labels, AnnotationKind.SINGLE_LABEL, ["cat", "dog"], ["dog"])
    assert [one.value for one in kept] == [{"label": 0}] and unknown == ["cat"]
