"""The sample data that packages carry."""

import filecmp
from pathlib import Path

import numpy as np
from PIL import Image

from core.datasets import masks, scattered_digits
from core.datasets.importing import import_dataset
from core.datasets.records import load_records
from core.datasets.samples import load_digits
from core.db.session import Database
from core.settings import Settings
from core.storage import Storage


def test_scattered_digits_are_the_same_for_the_same_seed(tmp_path: Path) -> None:
    digits = load_digits()
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        scattered_digits.write(tmp_path / name, *digits, images=3, seed=seed)
    files = ["images/0001.jpg", "images/0003.jpg", "annotations/instances.json"]
    assert filecmp.cmpfiles(tmp_path / "a", tmp_path / "b", files, shallow=False)[0] == files
    assert not filecmp.cmpfiles(tmp_path / "a", tmp_path / "c", files, shallow=False)[0]


def test_no_digit_hides_another_and_each_stands_out() -> None:
    pictures, labels = load_digits()
    random = np.random.default_rng(3)
    photographs = scattered_digits.load_photographs()
    contrasts = []
    for start in range(0, 4000, 200):
        chosen = range(start, start + 8)
        scene = scattered_digits.draw_scene(random, photographs, [(pictures[number], int(labels[number])) for number in chosen])
        assert len(scene.labels) >= 2
        covered = np.sum(scene.marks, axis=0)
        assert covered.max() == 1
        pixels = np.asarray(scene.image, np.float32)
        for (x, y, width, height), mark in zip(scene.boxes, scene.marks, strict=True):
            assert masks.box(masks.encode(mark), *scene.image.size) == (x, y, width, height)  # as tight as can be
            box = np.s_[y : y + height, x : x + width]
            digit, beside = pixels[box][mark[box] == 1].mean(0), pixels[box][mark[box] == 0].mean(0)
            contrasts.append(float(np.abs(digit - beside).mean()))
    assert np.median(contrasts) > 40


def test_scattered_digits_come_in_as_boxes_and_as_masks(database: Database, storage: Storage, settings: Settings, tmp_path: Path) -> None:
    scattered_digits.write(tmp_path / "scattered", *load_digits(), images=25)
    dataset = import_dataset(
        database, storage, settings, workspace="default", person="cli:test", name="scattered", source=str(tmp_path / "scattered")
    )
    assert dataset.image_count == 25 and dataset.median_width >= 160
    by_kind = {one.kind: one for one in dataset.annotation_sets}
    assert {"boxes", "instances", "regions"} <= by_kind.keys()
    assert by_kind["boxes"].classes == [str(digit) for digit in range(10)]
    with database.read() as session:
        boxes = load_records(session, dataset.id, by_kind["boxes"].id)
        instances = load_records(session, dataset.id, by_kind["instances"].id)
    assert boxes[24].value["boxes"] == []  # one of 25 shows nothing
    first = [[number, *masks.box(rle, boxes[0].width, boxes[0].height)] for number, rle in instances[0].value["objects"]]
    assert boxes[0].value["boxes"] == first
    assert Image.open(tmp_path / "scattered" / "images" / "0001.jpg").size == (boxes[0].width, boxes[0].height)
