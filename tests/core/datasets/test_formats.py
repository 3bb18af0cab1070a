"""Sources as tools and people write them: what is read, and what is noticed in broken ones."""

import base64
import json
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from core.datasets import masks
from core.datasets.exporting import export_dataset
from core.datasets.listing import task_types
from core.db.tables import Dataset
from core.errors import BadDataError

Picture = Callable[..., bytes]


@pytest.fixture
def write(tmp_path: Path) -> Callable[[dict[str, bytes | str]], Path]:
    """Writes files below a folder and returns it."""

    def put(files: dict[str, bytes | str]) -> Path:
        for name, data in files.items():
            path = tmp_path / "source" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data if isinstance(data, bytes) else data.encode())
        return tmp_path / "source"

    return put


def said(home: Any, dataset: Dataset, kind: str) -> dict[str, Any]:
    """Values by path, class numbers replaced by names."""
    (number,) = [place for place, one in enumerate(dataset.annotation_sets) if one.kind == kind]
    classes = dataset.annotation_sets[number].classes
    found = {}
    for record in home.records(dataset, number):
        value, *_ = record.value.values()  # beside the objects may stand what is ignored, and areas
        if kind == "single-label":
            found[record.path] = classes[value]
        elif kind == "multi-label":
            found[record.path] = [classes[index] for index in value]
        else:
            found[record.path] = [(classes[item[0]], *item[1:]) for item in value]
    return found


def png(values: np.ndarray, palette: list[int] | None = None) -> bytes:
    image = Image.fromarray(values.astype(np.uint8), "P" if palette else None)
    if palette:
        image.putpalette(palette)
    out = BytesIO()
    image.save(out, "PNG")
    return out.getvalue()


# ---------------------------------------------------------------- label.csv


def test_csv_single_label(home: Any, write: Any, picture: Picture) -> None:
    dataset = home.bring(
        write(
            {
                "pets/label.csv": 'a.png,cat\nsub/b.png,dog\r\n"c,1.png",cat\n',
                "pets/a.png": picture(1),
                "pets/sub/b.png": picture(2),
                "pets/c,1.png": picture(3),
            }
        )
    )
    assert said(home, dataset, "single-label") == {"pets/a.png": "cat", "pets/sub/b.png": "dog", "pets/c,1.png": "cat"}


def test_csv_multi_label_with_an_image_that_has_none(home: Any, write: Any, picture: Picture) -> None:
    dataset = home.bring(
        write({"label.csv": "a.png,cat,1\na.png,dog,0\nb.png,dog,1\nb.png,cat,1\nc.png\n", **{f"{n}.png": picture(ord(n)) for n in "abc"}})
    )
    assert said(home, dataset, "multi-label") == {"a.png": ["cat"], "b.png": ["cat", "dog"], "c.png": []}


def test_csv_boxes(home: Any, write: Any, picture: Picture) -> None:
    dataset = home.bring(
        write({"label.csv": "a.png,cat,1,2,3.5,4\na.png,cat,0,0,32,24\nb.png,,,,,\n", "a.png": picture(1), "b.png": picture(2)})
    )
    assert said(home, dataset, "boxes") == {"a.png": [("cat", 1, 2, 3.5, 4), ("cat", 0, 0, 32, 24)], "b.png": []}
    assert [task.value for task in task_types(dataset)] == ["multi-label", "object-detection"]


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("nowhere.png,cat,1,1,5,5", "missing-image"),
        ("a.png,cat,1,1,x,5", "bad-row"),
        ("a.png,cat,1,1,nan,5", "bad-row"),
        ("a.png,cat,1,1,5", "bad-row"),
        ("a.png,,1,1,5,5", "bad-row"),
        ("a.png,cat,1,1,0,5", "box-without-area"),
        ("a.png,cat,5,5,-2,3", "box-without-area"),
        ("a.png,cat,40,1,5,5", "box-outside"),
        ("a.png,cat,20,1,50,5", "box-clipped"),
    ],
)
def test_each_bad_row_is_named_with_its_line(home: Any, write: Any, picture: Picture, line: str, code: str) -> None:
    dataset = home.bring(write({"label.csv": f"a.png,cat,1,1,5,5\n{line}\n", "a.png": picture(1)}))
    finding = home.finding(dataset, code)
    assert (finding.file, finding.line) == ("label.csv", 2)
    assert finding.remedy
    boxes = said(home, dataset, "boxes")["a.png"]
    assert boxes == [("cat", 1, 1, 5, 5)] + ([("cat", 20, 1, 12, 5)] if code == "box-clipped" else [])


def test_csv_masks_as_open_images_writes_them(home: Any, write: Any, picture: Picture) -> None:
    import zlib

    mask = np.zeros((24, 32), np.uint8)
    mask[4:9, 5:20] = 1
    half = base64.b64encode(zlib.compress(masks.encode(mask[::2, ::2]).encode())).decode()
    whole = base64.b64encode(zlib.compress(masks.encode(mask).encode())).decode()
    wrong = base64.b64encode(zlib.compress(masks.encode(mask[:, :20]).encode())).decode()
    text = f"a.png,cat,32,24,{whole}\nb.png,cat,16,12,{half}\na.png,dog,20,24,{wrong}\na.png,dog,32,24,!!\na.png,dog,32,24,{half}\n"
    dataset = home.bring(write({"label.csv": text, "a.png": picture(1), "b.png": picture(2)}))
    found = said(home, dataset, "regions")
    assert found["a.png"] == [("cat", masks.encode(mask))]
    assert abs(masks.area(found["b.png"][0][1], 32, 24) - int(mask.sum())) < 25  # coded at half the size
    assert sorted(home.codes(dataset)) == ["bad-mask", "bad-row", "empty-class", "mask-size", "small-class"]


def test_csv_conflicts_headers_and_other_encodings(home: Any, write: Any, picture: Picture) -> None:
    text = "\ufeffimage,label\n./a.png,cat\na.png,dog\nsub\\b.png,cat\n"
    dataset = home.bring(write({"label.csv": text, "a.png": picture(1), "sub/b.png": picture(2)}))
    assert said(home, dataset, "single-label") == {"a.png": "cat", "sub/b.png": "cat"}
    assert home.finding(dataset, "header").line == 1
    assert home.finding(dataset, "conflicting-label").line == 3


def test_csv_with_a_column_of_groups(home: Any, write: Any, picture: Picture) -> None:
    dataset = home.bring(write({"label.csv": "a.png,p1,cat\nb.png,p2,dog\n", "a.png": picture(1), "b.png": picture(2)}), group_column=2)
    assert {record.path: record.group for record in home.records(dataset)} == {"a.png": "p1", "b.png": "p2"}


@pytest.mark.parametrize("text", ["", "\n\n", "a.png\n", "a.png,b,c,d\n", "nowhere.png,cat\n", "\x00\x01\x02"])
def test_useless_csv_is_refused(home: Any, write: Any, picture: Picture, text: str) -> None:
    with pytest.raises(BadDataError):
        home.bring(write({"label.csv": text, "a.png": picture(1)}))
    assert home.leftovers() == []


# ---------------------------------------------------------------- COCO


def coco(images: list[Any], annotations: list[Any], categories: list[Any] | None = None) -> str:
    return json.dumps(
        {"images": images, "annotations": annotations, "categories": categories or [{"id": 1, "name": "cat"}, {"id": 5, "name": "dog"}]}
    )


def entry(number: int, image: int = 1, category: int = 1, bbox: Any = (1, 2, 10, 8), **more: Any) -> dict[str, Any]:
    return {"id": number, "image_id": image, "category_id": category, "bbox": list(bbox) if bbox else bbox, **more}


A = {"id": 1, "file_name": "a.png", "width": 32, "height": 24}


def test_coco_boxes_polygons_and_run_lengths(home: Any, write: Any, picture: Picture) -> None:
    mask = np.zeros((24, 32), np.uint8)
    mask[2:10, 1:11] = 1
    runs = [1 * 24 + 2, *[8, 16] * 9, 8, 24 * 32 - (24 + 2 + 9 * 24 + 8)]
    shapes = [[[1, 2, 11, 2, 11, 10, 1, 10]], {"size": [24, 32], "counts": masks.encode(mask)}, {"size": [24, 32], "counts": runs}]
    dataset = home.bring(
        write({"a.png": picture(1), "_annotations.coco.json": coco([A], [entry(n, segmentation=shape) for n, shape in enumerate(shapes)])})
    )
    assert said(home, dataset, "boxes")["a.png"] == [("cat", 1, 2, 10, 8)] * 3
    assert said(home, dataset, "instances")["a.png"] == [("cat", masks.encode(mask))] * 3
    assert [task.value for task in task_types(dataset)] == ["multi-label", "object-detection", "object-segmentation"]
    assert {one.kind: one.derived_from is None for one in dataset.annotation_sets} == {
        "boxes": True,
        "instances": True,
        "multi-label": False,
        "regions": False,
    }


def test_coco_splits_as_the_challenge_lays_them_out(home: Any, write: Any, picture: Picture) -> None:
    files: dict[str, bytes | str] = {}
    for split in ("train", "val"):
        files[f"coco/{split}2017/a.png"] = picture(len(split))
        files[f"coco/annotations/instances_{split}2017.json"] = coco([A], [entry(1)])
    files["coco/annotations/captions_val2017.json"] = coco([A], [{"id": 1, "image_id": 1, "caption": "a cat"}])
    dataset = home.bring(write(files))
    assert {record.path: record.split for record in home.records(dataset)} == {"coco/train2017/a.png": "train", "coco/val2017/a.png": "val"}
    assert home.codes(dataset).count("file-ignored") == 1


def test_coco_as_roboflow_packs_it(home: Any, write: Any, picture: Picture) -> None:
    categories = [{"id": 0, "name": "animals", "supercategory": "none"}, {"id": 1, "name": "cat", "supercategory": "animals"}]
    files = {f"{split}/_annotations.coco.json": coco([A], [entry(1)], categories) for split in ("train", "valid")}
    dataset = home.bring(write({**files, "train/a.png": picture(1), "valid/a.png": picture(2), "README.roboflow.txt": "hello"}))
    assert dataset.annotation_sets[0].classes == ["cat"]
    assert {record.split for record in home.records(dataset)} == {"train", "val"}


def test_a_copy_of_an_annotation_counts_once(home: Any, write: Any, picture: Picture) -> None:
    """Of an image, a class, a box and a mask; what differs in any of them is another object."""
    outline = [[1, 2, 11, 2, 11, 10, 1, 10]]
    first = entry(1, segmentation=outline)
    others = [
        entry(2, segmentation=[[1, 2, 11, 2, 11, 10, 1, 9]]),
        entry(3, bbox=(1, 2, 10, 7), segmentation=outline),
        entry(4, category=5, segmentation=outline),
        entry(5, image=2, segmentation=outline),
    ]
    files = {"a.png": picture(1), "b.png": picture(2)}
    images = [A, {**A, "id": 2, "file_name": "b.png"}]
    dataset = home.bring(write({**files, "all.json": coco(images, [first, *others, {**first, "id": 6}])}))
    for kind in ("boxes", "instances"):
        assert {path: len(found) for path, found in said(home, dataset, kind).items()} == {"a.png": 4, "b.png": 1}
    finding = home.finding(dataset, "duplicate-annotation")
    assert (finding.severity, finding.file) == ("warning", "all.json")
    assert finding.message == "The annotation 6 of a.png says the same as the annotation 1; it counts once."


@pytest.mark.parametrize(
    ("annotation", "code"),
    [
        (entry(2, category=9), "unknown-class"),
        (entry(2, image=9), "unknown-image"),
        (entry(2, bbox=(1, 2, 0, 5)), "box-without-area"),
        (entry(2, bbox=(100, 2, 5, 5)), "box-outside"),
        (entry(2, bbox=("a", 2, 5, 5)), "bad-entry"),
        (entry(2, bbox=None), "box-without-area"),
        ({"id": 2}, "bad-entry"),
        (7, "bad-entry"),
        (entry(2, iscrowd=1), "crowd"),
        (entry(2, segmentation={"size": [24, 32], "counts": "zzz"}), "bad-mask"),
        (entry(2, segmentation={"size": [24], "counts": []}), "bad-mask"),
        (entry(2, segmentation=[[1, 2, 3]]), "bad-polygon"),
        (entry(2, segmentation={"size": [10, 12], "counts": masks.encode(np.ones((10, 12)))}), "mask-size"),
        (entry(2, segmentation={"size": [24, 32], "counts": [768]}), "mask-without-area"),
    ],
)
def test_each_bad_annotation_is_named(home: Any, write: Any, picture: Picture, annotation: Any, code: str) -> None:
    dataset = home.bring(write({"a.png": picture(1), "all.json": coco([A], [entry(1), annotation])}))
    finding = home.finding(dataset, code)
    assert finding.file == "all.json"
    assert finding.remedy
    assert said(home, dataset, "boxes")["a.png"][0] == ("cat", 1, 2, 10, 8)


@pytest.mark.parametrize(("many", "said_of_them"), [(1, "1 annotation is of the image 999"), (2, "2 annotations are of the image 999")])
def test_annotations_of_images_that_are_not_listed(home: Any, write: Any, picture: Picture, many: int, said_of_them: str) -> None:
    annotations = [entry(1, segmentation=[[1, 1, 9, 1, 9, 9]]), entry(2), *(entry(3 + number, image=999) for number in range(many))]
    dataset = home.bring(write({"a.png": picture(1), "all.json": coco([A], annotations)}))
    assert home.finding(dataset, "unknown-image").message == f"{said_of_them}, which is not listed."
    held = home.finding(dataset, "object-without-mask").message
    assert held == "1 object has a box but no mask; only the set of boxes holds it."


@pytest.mark.parametrize(
    ("bad", "said_of_it"),
    [
        ({"bbox": (1, 2, 0, 8)}, ["The cat box of the annotation 17 on a.png has no area."]),
        ({"bbox": (90, 2, 3, 8)}, ["The cat box of the annotation 17 on a.png lies outside"]),
        ({"bbox": (30, 2, 9, 8)}, ["The cat box of the annotation 17 on a.png sticks out"]),
        ({"segmentation": [[1, 1, 2, 2]]}, ["The cat polygon of the annotation 17 on a.png cannot be used: no polygon has three points."]),
        ({"segmentation": {"size": [24, 32], "counts": [5]}}, ["The cat mask of the annotation 17 on a.png cannot be used"]),
        ({"segmentation": {"size": [4, 32], "counts": [128]}}, ["The cat mask of the annotation 17 is 32 × 4 px, a.png 32 × 24 px."]),
        ({"segmentation": [[40, 40, 50, 40, 50, 50]]}, ["The cat mask of the annotation 17 on a.png covers no pixel."]),
        ({"bbox": [], "segmentation": []}, ["The annotation 17 has neither box nor mask."]),
    ],
)
def test_what_is_wrong_with_an_annotation_names_it(
    home: Any, write: Any, picture: Picture, bad: dict[str, Any], said_of_it: list[str]
) -> None:
    """Most of these files are one line, which tells nothing."""
    shown = [[1, 1, 9, 1, 9, 9]]
    annotations = [entry(3, segmentation=shown), {**entry(17), **bad}, entry(20, bbox=(2, 2, 9, 8), segmentation=shown)]
    dataset = home.bring(write({"a.png": picture(1), "all.json": coco([A], annotations)}))
    messages = [one.message for one in home.findings(dataset) if "class" not in one.code and one.file == "all.json"]
    assert [message[: len(start)] for message, start in zip(messages, said_of_it, strict=True)] == said_of_it


@pytest.mark.parametrize(
    "text",
    ['{"images": [', '{"images": [], "annotations": []}', '{"images": [{"id": 1, "file_name": "b.png"}]}', '{"images": ' + "[" * 100_000],
)
def test_useless_coco_is_refused(home: Any, write: Any, picture: Picture, text: str) -> None:
    with pytest.raises(BadDataError):
        home.bring(write({"a.png": picture(1), "all.json": text}), format="coco")


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ('{"images": [{"id":1,', "all.json:1 cannot be read as JSON: it ends before it is complete, so it has been cut off."),
        ('{"images": [\n{"id": 1, "file_name": "a.p', "all.json:2 cannot be read as JSON: it ends before it is complete"),
        ('{"images": [\n{"id": 1}\n', "all.json:3 cannot be read as JSON: it ends before it is complete"),
        ('{"info": {"year": 20', "all.json:1 cannot be read as JSON: it ends before it is complete"),
        ('[{"image": "a.png"},\n', "all.json:2 cannot be read as JSON: it ends before it is complete"),
        ('{\n"info": {},\n"images": [{"id": 1} {"id": 2}]}', "all.json:3 cannot be read as JSON: expected “]”, found “{”."),
        ('{"images": [\n{"id": 1,\n "file_name": a.png}]}', "all.json:3 cannot be read as JSON: Expecting value."),
        (b'{"info": "caf\xe9"}', "all.json cannot be read as JSON: it is not in UTF-8."),
        ("", "all.json:1 cannot be read as JSON: it ends before it is complete"),
    ],
)
def test_a_broken_json_does_not_pass_for_images_without_labels(home: Any, write: Any, picture: Picture, text: Any, what: str) -> None:
    source = write({"a.png": picture(1), "all.json": text})
    with pytest.raises(BadDataError) as refused:
        home.bring(source)
    assert str(refused.value).startswith(what)
    if "images" not in str(text):  # it may be about anything
        assert home.bring(source, format="images").image_count == 1


def test_other_json_is_passed_over(home: Any, write: Any, picture: Picture) -> None:
    broken = '{"theme": "dark",'
    alone = home.bring(write({"a.png": picture(1), "settings.json": '{"theme": "dark"}', "list.json": "[1, 2]"}), "alone")
    beside = home.bring(write({"all.json": coco([A], [entry(1)]), "settings.json": broken}), "beside")
    assert (alone.source_format, home.codes(alone)) == ("images", [])
    assert (beside.source_format, said(home, beside, "boxes")) == ("coco", {"a.png": [("cat", 1, 2, 10, 8)]})


def test_an_annotation_file_is_known_however_long_what_stands_first_in_it(home: Any, write: Any, picture: Picture) -> None:
    text = coco([A], [entry(1)]).replace('"a.png"', '"a.png", "notes": "' + "x" * 100_000 + '"', 1)
    assert home.bring(write({"a.png": picture(1), "all.json": text})).source_format == "coco"


# ---------------------------------------------------------------- YOLO


def test_yolo_with_data_yaml_and_splits(home: Any, write: Any, picture: Picture) -> None:
    files = {
        "data.yaml": "path: ../somewhere/else\ntrain: ../train/images\nval: ../valid/images\nnc: 2\nnames: ['cat', 'dog']\n",
        "train/images/a.png": picture(1),
        "train/labels/a.txt": "0 0.5 0.5 0.25 0.5\n1 0.25 0.25 0.5 0.5\n",
        "valid/images/b.png": picture(2),
        "valid/labels/b.txt": "",
    }
    dataset = home.bring(write(files))
    assert said(home, dataset, "boxes") == {"train/images/a.png": [("cat", 12, 6, 8, 12), ("dog", 0, 0, 16, 12)], "valid/images/b.png": []}
    assert {record.path[0]: record.split for record in home.records(dataset)} == {"t": "train", "v": "val"}


def test_yolo_polygons(home: Any, write: Any, picture: Picture) -> None:
    dataset = home.bring(
        write({"data.yaml": "names: {0: cat}\n", "images/a.png": picture(1), "labels/a.txt": "0 0.25 0.25 0.75 0.25 0.75 0.75 0.25 0.75\n"})
    )
    ((name, rle),) = said(home, dataset, "instances")["images/a.png"]
    assert (name, masks.box(rle, 32, 24)) == ("cat", (8, 6, 16, 12))
    assert said(home, dataset, "boxes")["images/a.png"] == [("cat", 8, 6, 16, 12)]


def test_darknet_with_images_beside_labels(home: Any, write: Any, picture: Picture) -> None:
    files = {
        "obj.names": "cat\ndog\n",
        "obj.data": "classes = 2\n",
        "train.txt": "data/obj_train_data/a.png\n",
        "obj_train_data/a.png": picture(1),
        "obj_train_data/a.txt": "1 0.5 0.5 1 1\n",
    }
    dataset = home.bring(write(files))
    assert said(home, dataset, "boxes") == {"obj_train_data/a.png": [("dog", 0, 0, 32, 24)]}


def test_yolo_findings(home: Any, write: Any, picture: Picture) -> None:
    files = {
        "data.yaml": "names: [cat]\n",
        "images/a.png": picture(1),
        "images/b.png": picture(2),
        "labels/a.txt": "0 0.5 0.5 0.5 0.5\n3 0.5 0.5 0.5 0.5\n0 0.5 0.5\nx y z\n0 2 2 0.1 0.1\n2e9 0.5 0.5 0.1 0.1\n",
        "labels/lost.txt": "0 0.5 0.5 0.5 0.5\n",
    }
    dataset = home.bring(write(files))
    found = [(finding.code, finding.line) for finding in home.findings(dataset) if finding.file == "labels/a.txt"]
    assert found == [("unknown-class", 2), ("bad-row", 3), ("bad-row", 4), ("bad-row", 6), ("box-outside", 5)]
    assert home.finding(dataset, "missing-image").file == "labels/lost.txt"
    assert home.finding(dataset, "no-label-file").severity == "warning"
    assert dataset.annotation_sets[0].classes == ["cat"]


@pytest.mark.parametrize(
    ("names", "naming"),
    [({"data.yaml": "nc: 3\nnames: [disc, star, bolt]\n"}, "data.yaml"), ({"classes.txt": "disc\nstar\nbolt\n"}, "classes.txt")],
)
def test_yolo_rows_of_a_class_that_is_not_named_are_left_out(
    home: Any, write: Any, picture: Picture, names: dict[str, str], naming: str
) -> None:
    files = {
        "images/a.png": picture(1),
        "images/b.png": picture(2),
        "labels/a.txt": "2 0.5 0.5 0.25 0.5\n7 .5 .5 .1 .1\n",
        "labels/b.txt": "7 .5 .5 .1 .1\n",  # as an image without objects it would mislead
    }
    dataset = home.bring(write(files | names))
    assert dataset.annotation_sets[0].classes == ["disc", "star", "bolt"]
    assert said(home, dataset, "boxes") == {"images/a.png": [("bolt", 12, 6, 8, 12)]}
    found = [one for one in home.findings(dataset) if one.code == "unknown-class"]
    assert [(one.severity, one.file, one.line) for one in found] == [("error", "labels/a.txt", 2), ("error", "labels/b.txt", 1)]
    assert f"the class 7, which {naming} does not name" in found[0].message
    assert home.finding(dataset, "nothing-usable").file == "images/b.png"


@pytest.mark.parametrize(
    ("described", "classes"),
    [
        ("nc: 9\nnames: [cat]\n", ["cat", "class_2", "class_7"]),  # they are there, as it says, but not named
        ("names: {2: cat, 7: dog, 9: hen}\n", ["cat", "dog", "hen"]),
        ("names: []\n", ["class_2", "class_7"]),
    ],
)
def test_yolo_has_no_classes_that_nobody_speaks_of(home: Any, write: Any, picture: Picture, described: str, classes: list[str]) -> None:
    files = {"data.yaml": described, "images/a.png": picture(1), "labels/a.txt": "7 0.5 0.5 0.25 0.5\n2 0.25 0.25 0.5 0.5\n"}
    dataset = home.bring(write(files))
    assert dataset.annotation_sets[0].classes == classes
    seven, two = ("dog", "cat") if "dog" in classes else ("class_7", "class_2")
    assert said(home, dataset, "boxes")["images/a.png"] == [(seven, 12, 6, 8, 12), (two, 0, 0, 16, 12)]


# ---------------------------------------------------------------- Pascal VOC


def voc_xml(name: str, objects: str, size: tuple[int, int] = (32, 24)) -> str:
    return f"<annotation><filename>{name}</filename><size><width>{size[0]}</width><height>{size[1]}</height><depth>3</depth></size>{objects}</annotation>"


OBJECT = "<object><name>{}</name><bndbox><xmin>{}</xmin><ymin>{}</ymin><xmax>{}</xmax><ymax>{}</ymax></bndbox></object>"


def test_voc_boxes_and_splits(home: Any, write: Any, picture: Picture) -> None:
    files = {
        "VOCdevkit/VOC2007/JPEGImages/a.png": picture(1),
        "VOCdevkit/VOC2007/JPEGImages/b.png": picture(2),
        "VOCdevkit/VOC2007/Annotations/a.xml": voc_xml("a.png", OBJECT.format("cat", 1, 1, 32, 24) + OBJECT.format("dog", 3, 4, 10, 12)),
        "VOCdevkit/VOC2007/Annotations/b.xml": voc_xml("b.png", ""),
        "VOCdevkit/VOC2007/ImageSets/Main/train.txt": "a\n",
        "VOCdevkit/VOC2007/ImageSets/Main/val.txt": "b\n",
        "VOCdevkit/VOC2007/ImageSets/Main/cat_train.txt": "a  1\n",
    }
    dataset = home.bring(write(files))
    assert {path[-5:]: boxes for path, boxes in said(home, dataset, "boxes").items()} == {
        "a.png": [("cat", 0, 0, 32, 24), ("dog", 2, 3, 8, 9)],
        "b.png": [],
    }
    assert [record.split for record in home.records(dataset)] == ["train", "val"]


def test_voc_s_difficult_objects_are_kept_apart_and_go_out_again(home: Any, write: Any, picture: Picture, tmp_path: Path) -> None:
    difficult = OBJECT.format("dog", 3, 4, 10, 12).replace("<bndbox>", "<difficult>1</difficult><bndbox>")
    plain = OBJECT.format("cat", 1, 1, 32, 24).replace("<bndbox>", "<difficult>0</difficult><bndbox>")
    dataset = home.bring(write({"a.png": picture(1), "a.xml": voc_xml("a.png", plain + difficult)}))
    assert said(home, dataset, "boxes") == {"a.png": [("cat", 0, 0, 32, 24)]}
    (record,) = home.records(dataset, 0)
    assert record.value["ignored"] == [[1, 2, 3, 8, 9]]
    assert dataset.annotation_sets[0].class_counts == [1, 0]
    assert home.finding(dataset, "difficult").line == 1
    assert home.finding(dataset, "difficult").message.startswith("1 object is marked as difficult: it is not learnt from")
    for format in ("voc", "coco"):
        assert export_dataset(home.database, home.storage, dataset, format, tmp_path / format).losses == ()
        (again,) = home.records(home.bring(tmp_path / format, name=format), 0)
        assert again.value == record.value
    for format in ("yolo", "label-csv"):
        (loss,) = export_dataset(home.database, home.storage, dataset, format, tmp_path / format).losses
        assert loss.startswith("1 object(s) that are neither learnt nor judged") and "left out" in loss


def test_difficult_objects_of_a_file_are_told_in_one_line(home: Any, write: Any, picture: Picture) -> None:
    difficult = OBJECT.format("dog", 3, 4, 10, 12).replace("<bndbox>", "<difficult>1</difficult><bndbox>")
    files = {"a.png": picture(1), "a.xml": voc_xml("a.png", difficult * 5), "b.png": picture(2), "b.xml": voc_xml("b.png", difficult)}
    told = [(one.file, one.message.split(":")[0]) for one in home.findings(home.bring(write(files))) if one.code == "difficult"]
    assert told == [("a.xml", "5 objects are marked as difficult"), ("b.xml", "1 object is marked as difficult")]


def test_voc_masks(home: Any, write: Any, picture: Picture, tmp_path: Path) -> None:
    classes, objects = np.zeros((24, 32)), np.zeros((24, 32))
    classes[2:8, 2:8], classes[12:20, 4:30] = 8, 15
    objects[2:8, 2:8], objects[12:20, 4:10], objects[12:20, 10:30] = 1, 2, 3
    classes[0, 0] = objects[0, 0] = 255
    from core.datasets.writers.voc import palette

    files = {
        "JPEGImages/a.png": picture(1),
        "SegmentationClass/a.png": png(classes, palette()),
        "SegmentationObject/a.png": png(objects, palette()),
    }
    dataset = home.bring(write(files))
    border = masks.encode(classes == 255)
    regions, instances = said(home, dataset, "regions"), said(home, dataset, "instances")
    assert [one.value.get("ignored") for one in home.records(dataset, 0)] == [border]
    assert "value 255" in home.finding(dataset, "ignored-pixels").message
    export_dataset(home.database, home.storage, dataset, "voc", tmp_path / "out", annotation_set_id=dataset.annotation_sets[0].id)
    (again,) = home.records(home.bring(tmp_path / "out", name="again"), 0)
    assert (
        again.value["ignored"] == border and said(home, home.dataset("again"), "regions")["JPEGImages/a.png"] == regions["JPEGImages/a.png"]
    )
    assert {name: masks.area(rle, 32, 24) for name, rle in regions["JPEGImages/a.png"]} == {"cat": 36, "person": 8 * 26}
    for format in ("coco", "yolo", "label-csv"):
        chosen = {"annotation_set_id": dataset.annotation_sets[0].id}
        (loss,) = export_dataset(home.database, home.storage, dataset, format, tmp_path / format, **chosen).losses
        assert loss.startswith("1 image(s) with places that are neither learnt nor judged") and "background" in loss
    assert [(name, masks.area(rle, 32, 24)) for name, rle in instances["JPEGImages/a.png"]] == [
        ("cat", 36),
        ("person", 48),
        ("person", 160),
    ]


def test_voc_findings(home: Any, write: Any, picture: Picture) -> None:
    bomb = '<?xml version="1.0"?><!DOCTYPE a [<!ENTITY b "x"><!ENTITY c "&b;&b;">]>' + voc_xml("&c;", "")
    files = {
        "a.png": picture(1),
        "b.png": picture(2),
        "broken.png": picture(3),
        "a.xml": voc_xml(
            "a.png",
            OBJECT.format("cat", 1, 1, 9, 9)
            + OBJECT.format("cat", "x", 1, 9, 9)
            + OBJECT.format("", 1, 1, 9, 9)
            + OBJECT.format("cat", 90, 1, 99, 9),
        ),
        "bomb.xml": bomb,
        "broken.xml": "<annotation><object>",
        "lost.xml": voc_xml("lost.png", ""),
    }
    dataset = home.bring(write(files))
    found = {finding.file: finding.code for finding in home.findings(dataset)}
    assert found["bomb.xml"] == "unsafe-xml"
    assert found["broken.xml"] == "bad-xml"
    assert found["lost.xml"] == "missing-image"
    assert home.codes(dataset).count("bad-entry") == 2
    assert home.codes(dataset).count("box-outside") == 1
    assert home.finding(dataset, "image-without-annotation").message == "1 image has no annotation and is not part of the dataset."


# ---------------------------------------------------------------- LabelMe


def labelme(path: str, shapes: list[Any] | None = None, flags: dict[str, bool] | None = None, data: bytes | None = None) -> str:
    return json.dumps(
        {
            "version": "5.4",
            "flags": flags or {},
            "shapes": shapes or [],
            "imagePath": path,
            "imageData": base64.b64encode(data).decode() if data else None,
            "imageHeight": 24,
            "imageWidth": 32,
        }
    )


def shape(label: str, points: list[list[float]], kind: str = "polygon", **more: Any) -> dict[str, Any]:
    return {"label": label, "points": points, "shape_type": kind, **more}


def test_labelme_rectangles_polygons_and_groups(home: Any, write: Any, picture: Picture) -> None:
    shapes = [
        shape("cat", [[20, 12], [4, 2]], "rectangle"),
        shape("dog", [[2, 2], [10, 2], [10, 10], [2, 10]]),
        shape("dog", [[12, 2], [16, 2], [16, 10], [12, 10]], group_id=7),
        shape("dog", [[20, 2], [24, 2], [24, 10], [20, 10]], group_id=7),
        shape("dog", [[1, 1], [2, 2]], "line"),
    ]
    dataset = home.bring(write({"a.png": picture(1), "a.json": labelme("a.png", shapes)}))
    assert said(home, dataset, "boxes")["a.png"] == [("cat", 4, 2, 16, 10), ("dog", 2, 2, 8, 8), ("dog", 12, 2, 12, 8)]
    assert [masks.area(rle, 32, 24) for _, rle in said(home, dataset, "instances")["a.png"]] == [64, 64]
    unused = home.finding(dataset, "shape-not-used")
    assert (unused.severity, unused.file, unused.message) == ("error", "a.json", "Shape 5 is a line of 2 points; it is left out.")
    held = home.finding(dataset, "object-without-mask").message
    assert held == "1 object has a rectangle but no outline; only the set of boxes holds it."


def test_labelme_flags_and_images_inside_the_file(home: Any, write: Any, picture: Picture) -> None:
    files = {f"{n}.json": labelme(f"{n}.png", flags={"cat": n == 0, "dog": n == 1}, data=picture(n)) for n in range(2)}
    dataset = home.bring(write(files))
    assert said(home, dataset, "single-label") == {"0.png": "cat", "1.png": "dog"}
    assert dataset.image_count == 2


def test_labelme_several_flags_are_multi_label(home: Any, write: Any, picture: Picture) -> None:
    dataset = home.bring(
        write(
            {
                "a.png": picture(1),
                "a.json": labelme("a.png", flags={"cat": True, "dog": True}),
                "b.png": picture(2),
                "b.json": labelme("b.png", flags={"cat": False}),
            }
        )
    )
    assert said(home, dataset, "multi-label") == {"a.png": ["cat", "dog"], "b.png": []}


def test_labelme_findings(home: Any, write: Any, picture: Picture) -> None:
    files = {
        "a.png": picture(1),
        "a.json": labelme("a.png", [shape("cat", [[1, 1], [9, 9]], "rectangle"), {"label": "cat"}, shape("", [[1, 1]])]),
        "b.json": labelme("lost.png"),
        "c.json": '{"shapes": [',
        "d.png": picture(2),
        "d.json": labelme("d.png", [shape("cat", [[1, 1], [10**400, 9]], "rectangle")]),
    }
    dataset = home.bring(write(files))
    found = [(finding.file, finding.code) for finding in home.findings(dataset) if finding.severity == "error"]
    bad = [(file, "bad-entry") for file in ("a.json", "a.json", "d.json")]
    assert sorted(found) == sorted([*bad, ("b.json", "missing-image"), ("c.json", "bad-json")])


# ---------------------------------------------------------------- masks


def test_indexed_masks_in_sibling_folders(home: Any, write: Any, picture: Picture) -> None:
    values = np.zeros((24, 32))
    values[:5], values[10:20, 10:20] = 1, 2
    files = {f"{split}/{n}.jpg": picture(len(split) + n, suffix="JPEG") for split in ("train", "val") for n in range(2)}
    files |= {f"{split}annot/{n}.png": png(values) for split in ("train", "val") for n in range(2)}
    dataset = home.bring(write(files))
    assert dataset.source_format == "masks"
    assert {name: masks.area(rle, 32, 24) for name, rle in said(home, dataset, "regions")["train/0.jpg"]} == {
        "class_1": 160,
        "class_2": 100,
    }
    assert sorted({(record.path.split("/")[0], record.split) for record in home.records(dataset)}) == [("train", "train"), ("val", "val")]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("classes.txt", "background\ncat\ndog\n"),
        ("classes.txt", "cat\ndog\n"),
        ("labels.txt", "1 cat\n2 dog\n"),
        ("classes.json", '{"cat": 1, "dog": 2}'),
        ("classes.json", '{"1": "cat", "2": "dog"}'),
        ("classes.json", '["background", "cat", "dog"]'),
        ("_classes.csv", "Pixel Value, Class\n0, background\n1, cat\n2, dog\n"),
    ],
)
def test_class_lists_as_people_write_them(home: Any, write: Any, picture: Picture, name: str, text: str) -> None:
    values = np.zeros((24, 32))
    values[:5], values[10:20, 10:20], values[23] = 1, 2, 255
    dataset = home.bring(write({"images/a.png": picture(1), "masks/a.png": png(values), name: text}))
    assert {label: masks.area(rle, 32, 24) for label, rle in said(home, dataset, "regions")["images/a.png"]} == {"cat": 160, "dog": 100}
    assert home.records(dataset)[0].value["ignored"] == masks.encode(values == 255)
    assert home.finding(dataset, "ignored-pixels").message.startswith("On 1 mask pixels of value 255 ")


@pytest.mark.parametrize("text", ["1 disc\n2 star\n3 bolt\n", "disc\nstar\nbolt\n", "background\ndisc\nstar\nbolt\n"])
def test_a_value_that_the_class_list_does_not_name_is_no_class(home: Any, write: Any, picture: Picture, text: str) -> None:
    values, stray, only = np.zeros((24, 32)), np.zeros((24, 32)), np.zeros((24, 32))
    values[:5], values[10:20, 10:20], stray[:5], stray[20:], only[:2], only[2:4] = 1, 3, 2, 77, 78, 77
    files = {f"images/{name}.png": picture(number) for number, name in enumerate("abc")}
    files |= {"masks/a.png": png(values), "masks/b.png": png(stray), "masks/c.png": png(only), "classes.txt": text}
    dataset = home.bring(write(files))
    assert dataset.annotation_sets[0].classes == ["disc", "star", "bolt"]
    assert {path: [(label, masks.area(rle, 32, 24)) for label, rle in found] for path, found in said(home, dataset, "regions").items()} == {
        "images/a.png": [("disc", 160), ("bolt", 100)],
        "images/b.png": [("star", 160)],
    }
    assert home.records(dataset)[1].value["ignored"] == masks.encode(stray == 77)
    found = [one for one in home.findings(dataset) if one.code == "unknown-class"]
    assert [(one.severity, one.file) for one in found] == [("error", "masks/b.png"), ("error", "masks/c.png")]
    assert "Pixels of the value 77 are of no class that classes.txt names" in found[0].message and "“77 cat”" in found[0].remedy
    assert "Pixels of the values 77, 78 are" in found[1].message
    assert home.finding(dataset, "nothing-usable").file == "images/c.png"


def test_a_colour_that_the_class_list_does_not_name_is_no_class(home: Any, write: Any, picture: Picture) -> None:
    colours = np.zeros((24, 32, 3), np.uint8)
    colours[:5], colours[20:] = (255, 0, 0), (9, 8, 7)
    files = {"images/a.png": picture(1), "masks/a.png": png(colours), "classes.txt": "cat,255,0,0\ndog,0,0,255\n"}
    dataset = home.bring(write(files))
    assert sorted(dataset.annotation_sets[0].classes) == ["cat", "dog"]
    found = home.finding(dataset, "unknown-class")
    assert found.file == "masks/a.png" and "the colour 9,8,7 are of no class" in found.message and "“cat,9,8,7”" in found.remedy


def test_a_list_of_colours_names_no_grey_values(home: Any, write: Any, picture: Picture) -> None:
    values = np.zeros((24, 32))
    values[:5] = 1
    files = {"images/a.png": picture(1), "masks/a.png": png(values), "classes.txt": "cat,255,0,0\ndog,0,0,255\n"}
    dataset = home.bring(write(files))
    assert dataset.annotation_sets[0].classes == ["class_1"] and home.finding(dataset, "no-class-names")


@pytest.mark.parametrize(
    ("others", "names", "ignored"),
    [
        ((1, 2), "", True),  # numbers of classes
        ((85, 170), "", False),  # greys that are far from each other: the brightest is one of them
        ((), "", False),  # the object
        ((85, 170), "85 cat\n170 dog\n", True),  # a list that knows nothing of it
        ((1, 2), "1 cat\n2 dog\n255 bird\n", False),
        ((1, 2), "1 cat\n2 dog\n255 background\n", False),
        ((1, 2), "1 cat\n2 dog\n255 void\n", True),
        (tuple(range(1, 182)), "", True),
    ],
)
def test_when_pixels_of_value_255_are_ignored(
    home: Any, write: Any, picture: Picture, others: tuple[int, ...], names: str, ignored: bool
) -> None:
    values = np.zeros((24, 32))
    values.flat[: len(others)], values[20:] = others, 255
    files = {"images/a.png": picture(1), "masks/a.png": png(values)} | ({"classes.txt": names} if names else {})
    dataset = home.bring(write(files))
    (record,) = home.records(dataset)
    assert record.value.get("ignored") == (masks.encode(values == 255) if ignored else None)
    assert ("ignored-pixels" in home.codes(dataset)) == ignored
    background = "background" in names
    assert len(dataset.annotation_sets[0].classes) == len(others) + (not ignored and not background)


@pytest.mark.parametrize(
    "text",
    [
        "name,r,g,b\nbackground,0,0,0\nroad,128,64,128\ncar,64,0,128\n",
        "0 0 0\tVoid\n128 64 128\troad\n64 0 128\tcar\n",
        "background:0,0,0::\nroad:128,64,128::\ncar:64,0,128::\n",
    ],
)
def test_coloured_masks_with_a_class_list(home: Any, write: Any, picture: Picture, text: str) -> None:
    colours = np.zeros((24, 32, 3), np.uint8)
    colours[:5], colours[10:20, 10:20] = (128, 64, 128), (64, 0, 128)
    dataset = home.bring(
        write({"images/a.png": picture(1), "labels/a_L.png": png(colours), "class_dict.csv" if "r,g" in text else "label_colors.txt": text})
    )
    assert {label: masks.area(rle, 32, 24) for label, rle in said(home, dataset, "regions")["images/a.png"]} == {"road": 160, "car": 100}


@pytest.mark.parametrize("colour", [False, True])
def test_masks_without_names_say_how_to_name_them(home: Any, write: Any, picture: Picture, colour: bool) -> None:
    values = np.zeros((24, 32, 3) if colour else (24, 32), np.uint8)
    values[:5], values[10:20, 10:20] = ((255, 0, 0), (0, 0, 255)) if colour else (1, 2)
    files = {"images/a.png": picture(1), "masks/a.png": png(values)}
    unnamed = home.bring(write(files))
    finding = home.finding(unnamed, "no-class-names")
    assert unnamed.annotation_sets[0].classes[0] in finding.message
    # What it says helps: names beside values, or beside colours.
    assert "“1 cat”" in finding.remedy and "“cat,255,0,0”" in finding.remedy
    names = "cat,255,0,0\ndog,0,0,255\n" if colour else "1 cat\n2 dog\n"
    named = home.bring(write(files | {"classes.txt": names}), name="named")
    assert sorted(named.annotation_sets[0].classes) == ["cat", "dog"] and "no-class-names" not in home.codes(named)


def test_binary_masks_of_0_and_255(home: Any, write: Any, picture: Picture) -> None:
    values = np.zeros((24, 32))
    values[:5] = 255
    dataset = home.bring(
        write(
            {
                "a.jpg": picture(1, suffix="JPEG"),
                "a_mask.png": png(values),
                "b.jpg": picture(2, suffix="JPEG"),
                "b_mask.png": png(values * 0),
            }
        )
    )
    assert said(home, dataset, "regions")["a.jpg"] == [("class_255", masks.encode(values))]
    assert said(home, dataset, "regions")["b.jpg"] == []


def test_mask_findings(home: Any, write: Any, picture: Picture) -> None:
    values = np.zeros((24, 32))
    values[:5] = 1
    files = {
        "images/a.png": picture(1),
        "masks/a.png": png(values),
        "images/small.png": picture(2),
        "masks/small.png": png(values[:20]),
        "images/none.png": picture(3),
        "masks/lost.png": png(values),
        "images/broken.png": picture(4),
        "masks/broken.png": png(values)[:40],
        "images/photo.png": picture(5),
        "masks/photo.png": picture(6),
    }
    dataset = home.bring(write(files))
    found = {finding.file: finding.code for finding in home.findings(dataset) if finding.severity == "error"}
    assert found == {
        "masks/small.png": "mask-size",
        "images/none.png": "missing-mask",
        "masks/lost.png": "missing-image",
        "masks/broken.png": "damaged-mask",
        "masks/photo.png": "damaged-mask",
    }
    assert list(said(home, dataset, "regions")) == ["images/a.png"]


def jpeg_mask(*greys: int) -> bytes:
    out = BytesIO()
    Image.fromarray(np.repeat(np.array(greys, np.uint8), 24 * 32 // len(greys)).reshape(24, 32)).save(out, "JPEG")
    return out.getvalue()


def test_a_mask_among_others_that_cannot_be_used_says_why(home: Any, write: Any, picture: Picture) -> None:
    values = np.zeros((24, 32))
    values[:5] = 1
    cut = png(values)[:20]
    files = {f"images/{name}.png": picture(number) for number, name in enumerate("abcde")}
    files |= {"masks/a.png": png(values), "masks/b.jpg": jpeg_mask(0, 80, 160), "masks/c.png": cut, "masks/d.png": b"no picture"}
    files |= {"masks/e.jpg": jpeg_mask(0, 255)}  # of one class it can be told
    dataset = home.bring(write(files))
    found = {finding.file: f"{finding.code} {finding.message} {finding.remedy}" for finding in home.findings(dataset)}
    assert found["masks/b.jpg"] == (
        "damaged-mask The mask cannot be used: JPEG does not keep values and colours exactly, so it can hold one class only, as black and white. "
        "Save it as a PNG whose values or colours are the classes."
    )
    for broken in ("masks/c.png", "masks/d.png"):
        assert found[broken].startswith("damaged-mask The mask cannot be used: it is no picture that can be read, or it is cut off.")
    assert not [text for text in found.values() if "object at" in text or "this image's name" in text]
    assert sorted(said(home, dataset, "regions")) == ["images/a.png", "images/e.png"]


def test_jpegs_beside_their_masks_are_images(home: Any, write: Any, picture: Picture) -> None:
    values = np.zeros((24, 32))
    values[:5] = 1
    files = {f"annotations/{name}.jpg": picture(number, suffix="JPEG") for number, name in enumerate("ab")}
    dataset = home.bring(
        write(files | {f"annotations/{name}.png": png(values) for name in "ab"} | {"notes/c.jpg": picture(3, suffix="JPEG")})
    )
    assert sorted(said(home, dataset, "regions")) == ["annotations/a.jpg", "annotations/b.jpg"]


def test_masks_that_were_all_saved_as_jpeg_do_not_pass_for_images(home: Any, write: Any, picture: Picture) -> None:
    source = write({"images/a.png": picture(1), "masks/a.jpg": jpeg_mask(0, 80, 160)})
    with pytest.raises(BadDataError, match=r"^masks/a.jpg seems to be a mask, but JPEG does not keep"):
        home.bring(source)
    assert home.bring(source, format="images").image_count == 2


# ---------------------------------------------------------------- images alone


def test_images_without_labels(home: Any, write: Any, picture: Picture) -> None:
    dataset = home.bring(write({"images/a.png": picture(1), "images/b.png": picture(2)}))
    assert (dataset.source_format, dataset.image_count, dataset.annotation_sets, task_types(dataset)) == ("images", 2, [], [])
