"""CSV files with a line of column names, as labelling services and competitions write them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from core.datasets import findings
from core.errors import BadDataError

Picture = Callable[..., bytes]
Files = dict[str, bytes | str]


@pytest.fixture
def bring(home: Any, tmp_path: Path) -> Callable[..., Any]:
    """Imports a folder of these files."""

    def put(files: Files, **options: Any) -> Any:
        for name, data in files.items():
            path = tmp_path / "source" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data if isinstance(data, bytes) else data.encode())
        return home.bring(tmp_path / "source", **options)

    return put


def pictures(picture: Picture, *names: str) -> Files:
    return {name: picture(number, suffix="JPEG") for number, name in enumerate(names)}


def test_a_column_per_class_in_each_split(home: Any, bring: Any, picture: Picture) -> None:
    files = pictures(picture, *(f"{split}/{n}.jpg" for split in ("train", "valid") for n in range(3)))
    table = "filename, cat, dog\n0.jpg, 1, 0\n1.jpg, 1, 1\n2.jpg, 0, 0\n"
    dataset = bring(files | {"train/_classes.csv": table, "valid/_classes.csv": table, "README.roboflow.txt": "x"})
    (labels,) = dataset.annotation_sets
    assert (dataset.source_format, labels.kind, labels.classes, labels.class_counts) == ("csv-table", "multi-label", ["cat", "dog"], [4, 2])
    assert dataset.statistics["splits"] == {"train": 3, "val": 3}
    said = {record.path: record.value["labels"] for record in home.records(dataset)}
    assert said["valid/1.jpg"] == [0, 1] and said["train/2.jpg"] == []


def test_exactly_one_class_each_is_single_label(home: Any, bring: Any, picture: Picture) -> None:
    files = pictures(picture, "im/0.jpg", "im/1.jpg")
    dataset = bring(files | {"GroundTruth.csv": "image,MEL,NV\n0,1.0,0.0\n1,0.0,1.0\n"})
    assert dataset.annotation_sets[0].kind == "single-label"
    assert [record.value["label"] for record in home.records(dataset)] == [0, 1]


def test_boxes_by_corners(home: Any, bring: Any, picture: Picture) -> None:
    rows = "filename,width,height,class,xmin,ymin,xmax,ymax\na.jpg,32,24,cat,1,2,11,14\na.jpg,32,24,dog,5,5,9,9\nb.jpg,32,24,cat,x,2,3,4\n"
    dataset = bring(pictures(picture, "train/a.jpg", "train/b.jpg") | {"train/_annotations.csv": rows})
    boxes = {record.path: record.value["boxes"] for record in home.records(dataset)}
    assert boxes == {"train/a.jpg": [[0, 1.0, 2.0, 10.0, 12.0], [1, 5.0, 5.0, 4.0, 4.0]]}
    bad = home.finding(dataset, "bad-row")
    assert (bad.file, bad.line) == ("train/_annotations.csv", 4)


def test_an_image_whose_rows_were_all_refused_is_left_out(home: Any, bring: Any, picture: Picture) -> None:
    """It is no image without objects: a training would learn that what it shows is background."""
    table = "filename,class,xmin,ymin,xmax,ymax\na.jpg,cat,1,2,11,14\na.jpg,cat,x,2,3,4\nb.jpg,cat,x,2,3,4\nc.jpg,,,,,\nd.jpg,,,,,\nd.jpg,cat,1,2,nan,4\n"
    dataset = bring(pictures(picture, "a.jpg", "b.jpg", "c.jpg", "d.jpg") | {"boxes.csv": table})
    assert {record.path: len(record.value["boxes"]) for record in home.records(dataset)} == {"a.jpg": 1, "c.jpg": 0, "d.jpg": 0}
    left_out = home.finding(dataset, "nothing-usable")
    assert (left_out.severity, left_out.file) == ("error", "b.jpg") and "left out" in left_out.message
    assert "unlisted-image" not in home.codes(dataset), "it is listed, only not rightly"


def test_images_left_out_beyond_the_findings_that_are_listed_are_not_called_unlisted(
    home: Any, bring: Any, picture: Picture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(findings, "MOST_PER_CODE", 1)
    table = "filename,class,xmin,ymin,xmax,ymax\na.jpg,cat,1,2,11,14\nb.jpg,cat,x,2,3,4\nc.jpg,cat,x,2,3,4\n"
    dataset = bring(pictures(picture, "a.jpg", "b.jpg", "c.jpg", "d.jpg") | {"boxes.csv": table})
    assert home.finding(dataset, "unlisted-image").message.startswith("1 image is not named")


def test_boxes_by_sizes_in_a_spreadsheets_csv(home: Any, bring: Any, picture: Picture) -> None:
    dataset = bring(pictures(picture, "a.jpg") | {"boxes.csv": "\ufeffImage;X;Y;Width;Height;Label\r\nA.JPG;1,5;2;10;12;cat\r\n"})
    assert home.records(dataset)[0].value["boxes"] == [[0, 1.5, 2.0, 10.0, 12.0]]


def test_labels_of_a_competition_with_groups_and_no_suffixes(home: Any, bring: Any, picture: Picture) -> None:
    files = pictures(picture, "train_images/0a.jpg", "train_images/1b.jpg", "train_images/2c.jpg", "test_images/9.jpg")
    files |= {
        "train.csv": "image_id,patient_id,label\n0a,p1,cat\n1b,p1,dog\n2c,p2,cat\nmissing,p3,cat\n",
        "sample_submission.csv": "id,label\n9,0\n",
    }
    dataset = bring(files)
    assert (dataset.source_format, dataset.annotation_sets[0].class_counts) == ("csv-table", [2, 1])
    assert [record.group for record in home.records(dataset)] == ["p1", "p1", "p2"]
    assert home.finding(dataset, "missing-image").line == 5
    assert home.finding(dataset, "unlisted-image").file == "test_images/9.jpg"


def test_several_labels_in_one_cell(home: Any, bring: Any, picture: Picture) -> None:
    table = "Image Index,Finding Labels\na.jpg,Effusion|Mass\nb.jpg,No Finding\n"
    dataset = bring(pictures(picture, "images/a.jpg", "images/b.jpg") | {"Data_Entry.csv": table})
    assert (dataset.annotation_sets[0].kind, dataset.annotation_sets[0].classes) == ("multi-label", ["Effusion", "Mass", "No Finding"])


@pytest.mark.parametrize("count", [2, 3, 4, 5])
def test_column_names_count_whatever_the_file_is_called(home: Any, bring: Any, picture: Picture, count: int) -> None:
    """Without them two columns of 0 and 1 look like a class and whether it shows, five like boxes."""
    classes = ["a", "b", "c", "d", "e"][:count]
    rows = [f"{number}.jpg," + ",".join(str(number >> place % 3 & 1) for place in range(count)) for number in range(8)]
    table = "\n".join([f"filename,{','.join(classes)}", *rows])
    dataset = bring(pictures(picture, *(f"{number}.jpg" for number in range(8))) | {"labels.csv": table})
    (labels,) = dataset.annotation_sets
    assert (labels.kind, labels.classes, labels.class_counts) == ("multi-label", classes, [4] * count)


def test_corners_are_no_sizes_whatever_the_file_is_called(home: Any, bring: Any, picture: Picture) -> None:
    table = "filename,class,xmin,ymin,xmax,ymax\n1.jpg,cat,5,6,15,18\n"
    dataset = bring(pictures(picture, "1.jpg") | {"label.csv": table})
    assert home.records(dataset)[0].value["boxes"] == [[0, 5, 6, 10, 12]]


def test_a_table_of_something_else_is_none(home: Any, bring: Any, picture: Picture) -> None:
    files = pictures(picture, "cat/1.jpg", "cat/2.jpg", "dog/3.jpg")
    assert bring(files | {"classes.csv": "id,name\n0,cat\n1,dog\n"}).source_format == "class-folders"
    with pytest.raises(BadDataError, match="column names"):
        bring(files, name="other", format="csv-table")


def test_of_a_row_that_cannot_be_used_nothing_is_taken(home: Any, bring: Any, picture: Picture) -> None:
    names = [f"{number}.jpg" for number in range(52)]
    rows = [f"{name},1,1" for name in names[:-1]] + [f"{names[-1]},1,maybe"]
    dataset = bring(pictures(picture, *names) | {"table.csv": "\n".join(["filename,cat,dog", *rows])})
    assert home.finding(dataset, "bad-row").line == 53
    assert home.finding(dataset, "nothing-usable").file == names[-1]
    assert {record.path for record in home.records(dataset)} == {*names[:-1]}


COMBINED = [("1.jpg", "circle square"), ("2.jpg", "circle"), ("3.jpg", "square"), ("4.jpg", "circle square")]


@pytest.mark.parametrize("file", ["label.csv", "labels.csv", "train.csv"])
@pytest.mark.parametrize(
    ("header", "mark"),
    [
        ("image,labels", " "),
        ("image_path,tags", "|"),
        ("id,classes", ";"),
        ("filename,Labels", ","),
        ("file,category", ","),
        ("path,class", ";"),
    ],
)
def test_several_labels_in_a_cell_are_divided(home: Any, bring: Any, picture: Picture, file: str, header: str, mark: str) -> None:
    files = pictures(picture, *(f"images/{name}" for name, _ in COMBINED))
    table = "\n".join([header, *(f'images/{name},"{labels.replace(" ", mark)}"' for name, labels in COMBINED)])
    dataset = bring(files | {file: table})
    (labels,) = dataset.annotation_sets
    assert (labels.kind, labels.classes, labels.class_counts) == ("multi-label", ["circle", "square"], [3, 3])
    if not (mark == "|" and file == "train.csv"):
        found = home.finding(dataset, "header")
        assert found.line == 1 and "several labels an image, divided by" in found.message and header.partition(",")[2] in found.message


@pytest.mark.parametrize("file", ["label.csv", "train.csv"])
@pytest.mark.parametrize(
    ("header", "names"),
    [
        ("image,label", ["tench, Tinca tinca", "goldfish, Carassius auratus"]),
        ("image,labels", ["golden retriever", "labrador retriever"]),
        ("image,class", ["circle square", "circle"]),
    ],
)
def test_names_of_several_words_stay_whole(home: Any, bring: Any, picture: Picture, file: str, header: str, names: list[str]) -> None:
    table = f'{header}\n1.jpg,"{names[0]}"\n2.jpg,"{names[1]}"\n'
    dataset = bring(pictures(picture, "1.jpg", "2.jpg") | {file: table})
    assert (dataset.annotation_sets[0].kind, sorted(dataset.annotation_sets[0].classes)) == ("single-label", sorted(names))
    if file == "label.csv":
        assert "one label an image" in home.finding(dataset, "header").message


def test_a_slip_in_a_column_of_a_class_costs_its_row_not_the_class(home: Any, bring: Any, picture: Picture) -> None:
    names = [f"{n}.jpg" for n in range(6)]
    rows = [f"{name},{n % 2},{(n + 1) % 2},{2 if n == 3 else 1}" for n, name in enumerate(names)]
    dataset = bring(pictures(picture, *names) | {"label.csv": "\n".join(["filename,a,b,c", *rows])})
    (labels,) = dataset.annotation_sets
    assert (labels.classes, labels.class_counts) == (["a", "b", "c"], [2, 3, 5])
    bad = home.finding(dataset, "bad-row")
    assert (bad.file, bad.line) == ("label.csv", 5) and "“2” in the column “c” is neither 0 nor 1" in bad.message


def test_a_column_that_may_be_a_class_is_not_left_out_silently(home: Any, bring: Any, picture: Picture) -> None:
    names = [f"{n}.jpg" for n in range(3)]
    rows = ["0.jpg,1,0,0,61", "1.jpg,0,1,1,48", "2.jpg,1,1,2,57"]
    dataset = bring(pictures(picture, *names) | {"label.csv": "\n".join(["filename,a,b,c,age", *rows])})
    assert dataset.annotation_sets[0].classes == ["a", "b"]
    left_out = home.finding(dataset, "column-left-out")  # and none on the age
    assert (left_out.severity, left_out.file, left_out.line) == ("warning", "label.csv", 4)
    assert "The column “c” is left out: “2” is neither 0 nor 1." in left_out.message


def test_labels_that_are_all_empty_are_what_is_wrong(bring: Any, picture: Picture) -> None:
    with pytest.raises(BadDataError, match=r"No image of source can be used.*No row gives the image a class") as refused:
        bring(pictures(picture, "a.jpg", "b.jpg") | {"label.csv": "image,label\na.jpg,\nb.jpg,\n"})
    assert "Nothing needs to be done" not in str(refused.value)
