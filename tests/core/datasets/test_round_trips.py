"""In, out and in again: nothing is lost in any format that is written."""

import csv
import io
import json
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sqlalchemy import select, update

from core.datasets import masks
from core.datasets.combining import choose_parts, combine_datasets
from core.datasets.exporting import export_dataset
from core.datasets.outlines import joined, outlines
from core.db.tables import Dataset, DatasetImage
from core.errors import ConflictError, InvalidInputError
from core.vocabulary import AnnotationKind

Picture = Callable[..., bytes]
CLASSES = ["cat", "=SUM(A1)", "собака", "a, b"]


def blob(seed: int, width: int = 48, height: int = 40) -> np.ndarray:
    """A mask with holes, islands and pixels that touch at corners only."""
    rng = np.random.default_rng(seed)
    mask = np.zeros((height, width), np.uint8)
    y, x = rng.integers(2, 12, 2)
    mask[y : y + 18, x : x + 20] = 1
    mask[y + 4 : y + 9, x + 4 : x + 9] = 0
    mask[y + 20, x + 21] = mask[y + 21, x + 22] = 1
    return mask


def boxes_of(seed: int) -> list[list[Any]]:
    rng = np.random.default_rng(seed)
    return [[int(rng.integers(len(CLASSES))), *np.round(rng.uniform(0.5, 20, 4), 3).tolist()] for _ in range(seed % 4)]


@pytest.fixture
def make(home: Any, picture: Picture, tmp_path: Path) -> Callable[..., Dataset]:
    """Imports a dataset of a kind from a COCO file or label.csv written here, splits and an image without objects among it."""

    def write(kind: AnnotationKind, name: str = "first", splits: bool = False) -> Dataset:
        root = tmp_path / name
        (root / "images").mkdir(parents=True)
        splits_of = ["train", "val", "test"]
        if kind in (AnnotationKind.BOXES, AnnotationKind.INSTANCES):
            files: dict[str, dict[str, Any]] = {}
            for number in range(8):
                split = splits_of[number % 3] if splits else ""
                folder = f"images/{split}".rstrip("/")
                (root / folder).mkdir(exist_ok=True)
                (root / folder / f"im {number}.png").write_bytes(picture(number, 48, 40))
                file = files.setdefault(
                    split,
                    {"images": [], "annotations": [], "categories": [{"id": n * 7 + 3, "name": text} for n, text in enumerate(CLASSES)]},
                )
                file["images"].append({"id": number, "file_name": f"im {number}.png", "width": 48, "height": 40})
                for place, box in enumerate(boxes_of(number)):
                    entry = {"id": number * 100 + place, "image_id": number, "category_id": box[0] * 7 + 3, "bbox": box[1:], "iscrowd": 0}
                    if kind is AnnotationKind.INSTANCES:
                        entry["segmentation"] = {"size": [40, 48], "counts": masks.encode(blob(number * 100 + place))}
                    file["annotations"].append(entry)
            (root / "annotations").mkdir()
            for split, content in files.items():
                (root / "annotations" / f"instances_{split or 'all'}.json").write_text(json.dumps(content))
            return home.bring(root, name)  # type: ignore[no-any-return]
        rows: list[list[Any]] = []
        for number in range(8):
            folder = f"images/{splits_of[number % 3]}" if splits else "images"
            (root / folder).mkdir(exist_ok=True)
            path = f"{folder}/im {number}.png"
            (root / path).write_bytes(picture(number, 48, 40))
            if kind is AnnotationKind.SINGLE_LABEL:
                rows.append([path, CLASSES[number % 4]])
            elif kind is AnnotationKind.MULTI_LABEL:
                rows += [[path, text, int(number >> place & 1)] for place, text in enumerate(CLASSES)]
            elif number % 4 == 3:
                rows.append([path])
            else:
                rle = masks.encode(blob(number)).encode()
                rows.append([path, CLASSES[number % 4], 48, 40, __import__("base64").b64encode(zlib.compress(rle)).decode()])
        text = io.StringIO()
        csv.writer(text).writerows(
            [[f"'{cell}" if isinstance(cell, str) and cell.startswith("=") else cell for cell in row] for row in rows]
        )
        (root / "label.csv").write_text(text.getvalue())
        return home.bring(root, name)  # type: ignore[no-any-return]

    return write


def content(home: Any, dataset: Dataset, kind: AnnotationKind) -> dict[str, Any]:
    """What the dataset says, by the content of its images, class names instead of numbers."""
    (number,) = [place for place, one in enumerate(dataset.annotation_sets) if one.kind == kind]
    classes = dataset.annotation_sets[number].classes
    said: dict[str, Any] = {}
    for record in home.records(dataset, number):
        value = record.value
        if kind is AnnotationKind.SINGLE_LABEL:
            shown: Any = classes[value["label"]]
        elif kind is AnnotationKind.MULTI_LABEL:
            shown = sorted(classes[index] for index in value["labels"])
        elif kind is AnnotationKind.BOXES:
            shown = sorted((classes[box[0]], *(round(side, 6) for side in box[1:])) for box in value["boxes"])
        else:
            shown = sorted((classes[index], rle) for index, rle in value["masks" if kind is AnnotationKind.REGIONS else "objects"])
        said[zlib.adler32(home.storage.read(record.key))] = (shown, record.split, record.group)
    return said


CASES = [
    ("coco", AnnotationKind.BOXES),
    ("coco", AnnotationKind.INSTANCES),
    ("yolo", AnnotationKind.BOXES),
    ("yolo", AnnotationKind.INSTANCES),
    ("voc", AnnotationKind.BOXES),
    ("voc", AnnotationKind.REGIONS),
    ("label-csv", AnnotationKind.SINGLE_LABEL),
    ("label-csv", AnnotationKind.MULTI_LABEL),
    ("label-csv", AnnotationKind.BOXES),
    ("label-csv", AnnotationKind.REGIONS),
    ("class-folders", AnnotationKind.SINGLE_LABEL),
]


@pytest.mark.parametrize("splits", [False, True])
@pytest.mark.parametrize(("format_name", "kind"), CASES)
@pytest.mark.parametrize("suffix", ["", ".zip"])
def test_nothing_is_lost(home: Any, make: Any, tmp_path: Path, format_name: str, kind: AnnotationKind, splits: bool, suffix: str) -> None:
    if suffix and splits:
        pytest.skip("a zip holds what a folder holds")
    first = make(kind, splits=splits)
    (set_id,) = [one.id for one in first.annotation_sets if one.kind == kind]
    target = tmp_path / f"out{suffix}"
    exported = export_dataset(home.database, home.storage, first, format_name, target, annotation_set_id=set_id)
    assert exported.losses == ()
    second = home.bring(target, "second")
    assert second.source_format == format_name
    assert content(home, first, kind) == content(home, second, kind)
    assert [finding.code for finding in home.findings(second) if finding.severity == "error"] == []


def test_the_boxes_given_beside_masks_are_kept(home: Any, make: Any, tmp_path: Path) -> None:
    first = make(AnnotationKind.INSTANCES)
    export_dataset(home.database, home.storage, first, "coco", tmp_path / "out")
    second = home.bring(tmp_path / "out", "second")
    assert content(home, first, AnnotationKind.BOXES) == content(home, second, AnnotationKind.BOXES)


def test_voc_instances_that_do_not_overlap_are_kept(home: Any, picture: Picture, tmp_path: Path) -> None:
    root = tmp_path / "in"
    (root / "images").mkdir(parents=True)
    left, right = np.zeros((40, 48), np.uint8), np.zeros((40, 48), np.uint8)
    left[5:20, 3:20] = 1
    right[10:30, 25:40] = 1
    entries = [
        {
            "id": n,
            "image_id": image,
            "category_id": n % 2 + 1,
            "bbox": [1, 1, 5, 5],
            "segmentation": {"size": [40, 48], "counts": masks.encode(mask)},
        }
        for image in range(3)
        for n, mask in enumerate((left, right), 10 * image)
    ]
    for number in range(3):
        (root / f"images/{number}.png").write_bytes(picture(number, 48, 40))
    images = [{"id": n, "file_name": f"{n}.png", "width": 48, "height": 40} for n in range(3)]
    categories = [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}]
    (root / "all.json").write_text(json.dumps({"images": images, "annotations": entries, "categories": categories}))
    first = home.bring(root, "first")
    export_dataset(home.database, home.storage, first, "voc", tmp_path / "out")
    second = home.bring(tmp_path / "out", "second")
    assert content(home, first, AnnotationKind.INSTANCES) == content(home, second, AnnotationKind.INSTANCES)


def test_groups_come_along(home: Any, make: Any, folders: Any, tmp_path: Path) -> None:
    make(AnnotationKind.BOXES)
    first = home.bring(tmp_path / "first", "grouped", group_pattern=r"im (\d)")
    assert {record.group for record in home.records(first)} == {str(number) for number in range(8)}
    export_dataset(home.database, home.storage, first, "coco", tmp_path / "out")
    second = home.bring(tmp_path / "out", "second")
    assert content(home, first, AnnotationKind.BOXES) == content(home, second, AnnotationKind.BOXES)


def test_no_cell_is_a_formula(home: Any, make: Any, tmp_path: Path) -> None:
    first = make(AnnotationKind.SINGLE_LABEL)
    export_dataset(home.database, home.storage, first, "label-csv", tmp_path / "out")
    cells = [cell for row in csv.reader(io.StringIO((tmp_path / "out/label.csv").read_text())) for cell in row]
    assert cells
    assert not any(cell.startswith(("=", "+", "-", "@")) for cell in cells)


def test_what_cannot_be_written_is_said(home: Any, make: Any, tmp_path: Path) -> None:
    first = make(AnnotationKind.BOXES)
    with pytest.raises(InvalidInputError, match="class-folders"):
        export_dataset(home.database, home.storage, first, "class-folders", tmp_path / "out")
    with pytest.raises(InvalidInputError, match="parquet"):
        export_dataset(home.database, home.storage, first, "parquet", tmp_path / "out")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("mine")
    with pytest.raises(ConflictError):
        export_dataset(home.database, home.storage, first, "coco", tmp_path / "full")
    assert (tmp_path / "full" / "mine.txt").read_text() == "mine"
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("seed", range(20))
def test_outlines_are_exact(seed: int) -> None:
    rng = np.random.default_rng(seed)
    height, width = (int(side) for side in rng.integers(3, 40, 2))
    mask = (rng.random((height, width)) < rng.choice([0.2, 0.5, 0.8])).astype(np.uint8)
    mask[1, 1] = 1
    ring = [float(side) for point in joined(outlines(mask)) for side in point]
    assert np.array_equal(masks.decode(masks.from_polygons([ring], width, height), width, height), mask)


@pytest.mark.parametrize("format_name", ["coco", "yolo"])
def test_regions_come_back_as_objects_that_give_the_same_regions(home: Any, make: Any, tmp_path: Path, format_name: str) -> None:
    first = make(AnnotationKind.REGIONS, splits=True)
    export_dataset(home.database, home.storage, first, format_name, tmp_path / "out")
    second = home.bring(tmp_path / "out", "second")
    assert content(home, first, AnnotationKind.REGIONS) == content(home, second, AnnotationKind.REGIONS)


def test_studies_and_series_survive_a_combination(home: Any, make: Any, tmp_path: Path) -> None:
    make(AnnotationKind.BOXES)
    parts = [home.bring(tmp_path / "first", name, group_pattern=r"im (\d)") for name in ("one", "two")]
    with home.database.write() as session:
        session.execute(update(DatasetImage).values(study="1.2", series="1.2.3"))
    both = combine_datasets(
        home.database, home.storage, home.settings, workspace="default", person="p", name="both", parts=choose_parts(parts)
    )
    with home.database.read() as session:
        found = session.execute(select(DatasetImage.study, DatasetImage.series).where(DatasetImage.dataset_id == both.id)).all()
    assert len(found) == 16 and set(found) == {("1.2", "1.2.3")}


def test_what_a_format_cannot_hold_is_said(home: Any, make: Any, tmp_path: Path) -> None:
    first = make(AnnotationKind.INSTANCES)
    overlapping = export_dataset(home.database, home.storage, first, "voc", tmp_path / "out")
    assert overlapping.annotation_set.kind == "instances"
    (loss,) = overlapping.losses
    assert "masks lie over others" in loss and int(loss.split()[0]) > 0


def test_class_names_that_no_folder_can_bear(home: Any, folders: Any, picture: Picture, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for number in range(3):
        (tmp_path / "in" / f"{number}.png").write_bytes(picture(number))
    (tmp_path / "in" / "label.csv").write_text("0.png,cat/dog\n1.png,con\n2.png,cat_dog\n")
    exported = export_dataset(home.database, home.storage, home.bring(tmp_path / "in"), "class-folders", tmp_path / "out")
    assert "names that no folder can bear" in exported.losses[0]
    assert len(home.bring(tmp_path / "out", "again").annotation_sets[0].classes) == 3
