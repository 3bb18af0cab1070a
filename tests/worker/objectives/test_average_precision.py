"""COCO's numbers of an imported dataset, against pycocotools on the file that was imported: crowds, and areas that are not those of the boxes."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from core.datasets import masks
from core.datasets.combining import choose_parts, combine_datasets
from core.datasets.exporting import export_dataset
from core.datasets.records import load_records
from core.db.tables import Dataset
from core.vocabulary import AnnotationKind
from worker.objectives.average_precision import IGNORED, Found, judge
from worker.objectives.detection import Detection
from worker.objectives.objects import Objects
from worker.objectives.places import BoxTargets

IMAGES, WIDTH, HEIGHT, CLASSES = 12, 240, 160, 2


def ellipse(x: float, y: float, width: float, height: float) -> np.ndarray:
    down, right = np.mgrid[0:HEIGHT, 0:WIDTH]
    return (((right - x - width / 2) / width) ** 2 + ((down - y - height / 2) / height) ** 2 <= 0.25).astype(np.uint8)


@pytest.fixture
def document(bench: Any) -> dict[str, Any]:
    """Ellipses around COCO's limits of small and medium, whose boxes are larger; on a fifth of the images a crowd."""
    random = np.random.default_rng(0)
    folder: Path = bench.folder / "coco"
    (folder / "images").mkdir(parents=True)
    images, annotations = [], []
    for number in range(1, IMAGES + 1):
        Image.fromarray(random.integers(0, 255, (HEIGHT, WIDTH, 3), dtype=np.uint8)).save(folder / "images" / f"{number}.png")
        images.append({"id": number, "file_name": f"{number}.png", "width": WIDTH, "height": HEIGHT})
        for place in range(5 + (number % 5 == 0)):
            crowd = place == 5
            width, height = random.uniform(80, 120, 2) if crowd else random.uniform(12, 60, 2)
            x, y = float(random.uniform(0, WIDTH - width)), float(random.uniform(0, HEIGHT - height))
            mask = ellipse(x, y, width, height)
            rle = {"size": [HEIGHT, WIDTH], "counts": masks.encode(mask)}
            entry = {"id": len(annotations) + 1, "image_id": number, "category_id": 1 + place % CLASSES, "iscrowd": int(crowd)}
            box = list(masks.box(rle["counts"], WIDTH, HEIGHT))
            annotations.append({**entry, "bbox": box, "area": float(mask.sum()), "segmentation": rle})
    found = {
        "images": images,
        "annotations": annotations,
        "categories": [{"id": number + 1, "name": f"class {number}"} for number in range(CLASSES)],
    }
    (folder / "instances.json").write_text(json.dumps(found))
    return found


def detections(document: dict[str, Any]) -> list[dict[str, Any]]:
    """Something near each object, half of the time a little off, several within each crowd, and some nowhere near anything."""
    random = np.random.default_rng(1)
    said = []
    for annotation in document["annotations"]:
        x, y, width, height = annotation["bbox"]
        boxes = [np.array([x, y, width, height]) + random.normal(0, 2, 4)]
        if annotation["iscrowd"]:
            boxes = [np.array([x + 10 + 15 * step, y + 20, 25, 30]) for step in range(4)]
        elif random.random() < 0.3:
            boxes.append(random.uniform(10, 60, 4))
        for box in boxes:
            mask = masks.encode(ellipse(*box))
            said.append(
                {
                    "image_id": annotation["image_id"],
                    "category_id": annotation["category_id"],
                    "score": float(random.random()),
                    "bbox": [float(side) for side in box],
                    "segmentation": {"size": [HEIGHT, WIDTH], "counts": mask},
                }
            )
    return said


def reference(document: dict[str, Any], said: list[dict[str, Any]], kind: str) -> dict[str, float]:
    truth = COCO()
    truth.dataset = document
    truth.createIndex()
    # Without a box: pycocotools would take its area for the detection's.
    evaluation = COCOeval(
        truth, truth.loadRes([{key: value for key, value in one.items() if kind == "bbox" or key != "bbox"} for one in said]), kind
    )
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    names = ("ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large", "ar_1", "ar_10", "ar_100", "ar_small", "ar_medium", "ar_large")
    return {name: float(value) for name, value in zip(names, evaluation.stats, strict=True) if value >= 0}


def as_found(said: list[dict[str, Any]]) -> Found:
    said.sort(key=lambda one: one["image_id"])
    boxes = np.array([one["bbox"] for one in said], np.float32)
    boxes[:, 2:] += boxes[:, :2]
    return Found(
        np.array([one["image_id"] - 1 for one in said]),
        boxes,
        np.array([one["category_id"] - 1 for one in said]),
        np.array([one["score"] for one in said]),
        tuple(one["segmentation"]["counts"] for one in said),
    )


def records_of(bench: Any, dataset: Dataset, kind: str) -> list[Any]:
    with bench.database.read() as session:
        stored = session.get_one(Dataset, dataset.id)
        chosen = next(one for one in stored.annotation_sets if one.kind == kind)
        return load_records(session, dataset.id, chosen.id)


@pytest.mark.parametrize(("kind", "instances"), [("bbox", False), ("segm", True)])
def test_numbers_are_those_of_pycocotools(bench: Any, document: dict[str, Any], kind: str, instances: bool) -> None:
    said = detections(document)
    dataset = bench.import_folder(bench.folder / "coco")
    records = records_of(bench, dataset, "instances" if instances else "boxes")
    objects = Objects.of_instances(records) if instances else Objects.of_boxes(records)
    found = as_found(said)
    judged = judge(objects, np.arange(IMAGES), found, CLASSES, by_masks=instances)
    expected = reference(document, said, kind)
    assert {"ap_small", "ap_medium"} <= expected.keys()
    for name, value in expected.items():
        assert {**judged.metrics, **judged.recalls}[name] == pytest.approx(value, abs=1e-6), name
    crowds = [entry for entry in document["annotations"] if entry["iscrowd"]]
    assert (judged.matches == IGNORED).sum() >= 3 * len(crowds), "what was found in a crowd is not wrong"
    assert judged.matches.max() < len(document["annotations"]) - len(crowds)


def test_crowds_are_neither_learnt_nor_counted_and_go_out_as_they_came(bench: Any, document: dict[str, Any]) -> None:
    dataset = bench.import_folder(bench.folder / "coco")
    crowds = sum(entry["iscrowd"] for entry in document["annotations"])
    for kind in ("boxes", "instances"):
        objective = Detection(records_of(bench, dataset, kind), ["a", "b"], torch.device("cpu"), instances=kind == "instances")
        rows = np.arange(IMAGES)
        if kind == "boxes":
            still = np.tile(np.eye(3, dtype=np.float32), (IMAGES, 1, 1))
            asked = sum(len(one["boxes"]) for one in BoxTargets(objective.objects, torch.device("cpu")).of(rows, still, 160))
        else:
            objective.keep_masks(160, bench.settings)
            assert objective.targets is not None
            asked = len(objective.targets.of(rows))
        assert asked == len(document["annotations"]) - crowds
        assert objective.objects.ignored is not None and len(objective.objects.ignored.labels) == crowds
        with bench.database.read() as session:
            stored = session.get_one(Dataset, dataset.id)
            chosen = next(one for one in stored.annotation_sets if one.kind == kind)
            assert sum(chosen.class_counts) == len(document["annotations"]) - crowds
            export_dataset(bench.database, bench.storage, stored, "coco", bench.folder / f"out-{kind}", annotation_set_id=chosen.id)
        written = json.loads((bench.folder / f"out-{kind}" / "annotations" / "instances.json").read_text())
        for key in ("iscrowd", "category_id", "area"):
            went_in, came_out = (
                sorted((one["image_id"], one["iscrowd"], one[key]) for one in file["annotations"] if key != "area" or not one["iscrowd"])
                for file in (document, written)
            )
            assert came_out == went_in


def test_boxes_that_follow_from_masks_are_as_large_as_these(bench: Any, document: dict[str, Any]) -> None:
    for entry in document["annotations"]:
        del entry["area"]
    (bench.folder / "coco" / "instances.json").write_text(json.dumps(document))
    records = records_of(bench, bench.import_folder(bench.folder / "coco"), "instances")
    expected = [masks.area(one["segmentation"]["counts"], WIDTH, HEIGHT) for one in document["annotations"] if not one["iscrowd"]]
    assert sorted(Objects.of_instances(records).areas.tolist()) == sorted(expected)


@pytest.mark.parametrize("kind", [AnnotationKind.BOXES, AnnotationKind.INSTANCES])
def test_what_is_ignored_goes_into_combinations_and_what_follows_from_them(
    bench: Any, document: dict[str, Any], kind: AnnotationKind
) -> None:
    first = bench.import_folder(bench.folder / "coco", "first")
    second = bench.squares(images=2, name="second")
    with bench.database.read() as session:
        parts = choose_parts([session.get_one(Dataset, one.id) for one in (first, second)], kind)
        together = combine_datasets(
            bench.database,
            bench.storage,
            bench.settings,
            workspace="default",
            person="cli:test",
            name="both",
            parts=parts,
            only=["class 1"],
        )
    before, after = (records_of(bench, one, kind) for one in (first, together))
    crowds = [item[1:] for record in before for item in record.value.get("ignored", ()) if item[0] == 1]
    assert crowds and [item[1:] for record in after for item in record.value.get("ignored", ())] == crowds
    read = Objects.of_boxes if kind is AnnotationKind.BOXES else Objects.of_instances
    was, now = read(before), read(after)
    assert now.areas.tolist() == was.areas[was.labels == 1].tolist()
    if kind is AnnotationKind.INSTANCES:
        boxes, regions = records_of(bench, together, "boxes"), records_of(bench, together, "regions")
        assert Objects.of_boxes(boxes).areas.tolist() == now.areas.tolist(), "an object is as large as its mask"
        around = [list(masks.box(rle, WIDTH, HEIGHT)) for (rle,) in crowds]
        assert [item[1:] for record in boxes for item in record.value.get("ignored", ())] == around
        assert [[record.value["ignored"]] for record in regions if "ignored" in record.value] == crowds
