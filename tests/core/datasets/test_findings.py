"""Each thing that an import notices, provoked by a file made for it: the finding names the file, and says what to do."""

import io
import json
import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import MPEG2MPML, ExplicitVRLittleEndian, SecondaryCaptureImageStorage, generate_uid

from core.datasets import finishing
from core.errors import BadDataError

Picture = Callable[..., bytes]
Files = dict[str, bytes | str]


@pytest.fixture
def write(tmp_path: Path) -> Callable[[Files], Path]:
    """Writes a source folder."""

    def put(files: Files) -> Path:
        for name, data in files.items():
            path = tmp_path / "source" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data if isinstance(data, bytes) else data.encode())
        return tmp_path / "source"

    return put


def report(*, syntax: str = ExplicitVRLittleEndian, pixels: bytes = b"") -> bytes:
    """A DICOM file without pixels, or with such as are compressed in an unknown way."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = SecondaryCaptureImageStorage
    meta.MediaStorageSOPInstanceUID = generate_uid()
    meta.TransferSyntaxUID = syntax
    scan = FileDataset("scan", {}, file_meta=meta, preamble=b"\0" * 128)
    if pixels:
        scan.Rows, scan.Columns, scan.SamplesPerPixel, scan.PhotometricInterpretation = 24, 32, 1, "MONOCHROME2"
        scan.BitsAllocated, scan.BitsStored, scan.HighBit, scan.PixelRepresentation = 8, 8, 7, 0
        scan.PixelData = pydicom.encaps.encapsulate([pixels])
        scan["PixelData"].is_undefined_length = True
    out = io.BytesIO()
    pydicom.dcmwrite(out, scan, enforce_file_format=True)
    return out.getvalue()


def images(picture: Picture, *names: str) -> Files:
    return {name: picture(number) for number, name in enumerate(names)}


COCO: dict[str, Any] = {
    "images": [{"id": 1, "file_name": "a.png"}, {"id": 1, "file_name": "b.png"}],
    "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 1, 9, 9]}],
    "categories": [{"id": 1, "name": "cat"}],
}
FAR = {**COCO, "images": COCO["images"][:1], "annotations": [{"id": 7, "image_id": 1, "category_id": 1, "bbox": [900, 1, 9, 9]}]}
TWICE = {**COCO, "images": [{**COCO["images"][0], "id": number} for number in (1, 2)]}
SHAPES = {"shapes": [{"label": "cat", "points": [[1, 1], [9, 9]], "shape_type": "rectangle"}], "imagePath": "a.png", "imageData": None}
BOX = "<object><name>cat</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>9</xmax><ymax>9</ymax></bndbox></object>"


@pytest.mark.parametrize(
    ("code", "file", "more", "pictures"),
    [
        ("duplicate-id", "c.json", {"c.json": json.dumps(COCO)}, ("a.png", "b.png")),
        ("image-listed-twice", "c.json", {"c.json": json.dumps(TWICE)}, ("a.png",)),
        ("duplicate-name", "b.json", {"a.json": json.dumps(SHAPES), "b.json": json.dumps(SHAPES)}, ("a.png",)),
        (
            "duplicate-name",
            "b.xml",
            dict.fromkeys(("a.xml", "b.xml"), f"<annotation><filename>a.png</filename>{BOX}</annotation>"),
            ("a.png",),
        ),
        ("no-class", "loose.png", {}, ("cat/1.png", "cat/2.png", "cat/3.png", "loose.png")),
        ("no-class", "b.png", {"label.csv": "a.png,cat\nb.png\n"}, ("a.png", "b.png")),
        ("nothing-usable", "b.png", {"label.csv": "a.png,cat,1,1,5,5\nb.png,cat,1,x,5,5\n"}, ("a.png", "b.png")),
        (
            "nothing-usable",
            "images/b.png",
            {"data.yaml": "names: [cat]\n", "labels/a.txt": "0 0.5 0.5 0.5 0.5\n", "labels/b.txt": "0 0.5 0.5\n"},
            ("images/a.png", "images/b.png"),
        ),
        ("not-an-image", "cat/x.heic", {"cat/x.heic": b"x"}, ("cat/1.png", "cat/2.png", "cat/3.png")),
        ("second-label-file", "sub/label.csv", {"label.csv": "a.png,cat\n", "sub/label.csv": "a.png,dog\n"}, ("a.png",)),
        ("unlisted-image", "b.png", {"label.csv": "a.png,cat\n"}, ("a.png", "b.png")),
        ("no-pixels", "cat/r.dcm", {"cat/r.dcm": report()}, ("cat/1.png",)),
        ("unknown-compression", "cat/r.dcm", {"cat/r.dcm": report(syntax=MPEG2MPML, pixels=b"\xff\x0a0123")}, ("cat/1.png",)),
    ],
)
def test_each_is_named(home: Any, write: Any, picture: Picture, code: str, file: str, more: Files, pictures: tuple[str, ...]) -> None:
    dataset = home.bring(write(images(picture, *pictures) | more))
    found = home.finding(dataset, code)
    assert found.file == file and found.message and found.remedy


def test_the_same_image_on_both_sides_of_a_split(home: Any, write: Any, picture: Picture) -> None:
    files: Files = {
        f"{split}/cat/{number}.png": picture(number) for split, numbers in (("train", (1, 2, 3)), ("val", (3, 4, 5))) for number in numbers
    }
    assert home.finding(home.bring(write(files)), "duplicate-across-splits").file == "val/cat/3.png"


def test_images_outside_the_group_pattern(home: Any, write: Any, picture: Picture) -> None:
    dataset = home.bring(write(images(picture, "cat/p1-1.png", "cat/p1-2.png", "cat/other.png")), group_pattern=r"p(\d+)-")
    assert home.finding(dataset, "no-group").message.startswith("1 of 3 images does not match")


def test_boxes_on_an_image_that_exif_turns_by_nobody_knows_whom(home: Any, write: Any, picture: Picture) -> None:
    from PIL import Image

    exif = Image.Exif()
    exif[0x0112] = 6
    dataset = home.bring(write({"a.jpg": picture(1, 40, 40, suffix="JPEG", exif=exif), "label.csv": "a.jpg,cat,1,2,3,4\n"}))
    assert home.finding(dataset, "orientation-assumed").file == "label.csv"


def test_a_file_larger_than_any_image(home: Any, write: Any, picture: Picture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(finishing, "MOST_BYTES", 5_000)
    dataset = home.bring(write({"cat/1.png": picture(1), "cat/2.png": picture(2, 100, 100)}))
    assert home.finding(dataset, "too-large-file").file == "cat/2.png"


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is forbidden to root")
def test_files_that_may_not_be_read(home: Any, write: Any, picture: Picture) -> None:
    source = write(images(picture, "cat/1.png", "cat/2.png"))
    (source / "cat/2.png").chmod(0)
    assert home.finding(home.bring(source), "unreadable").file == "cat/2.png"


def test_a_member_whose_bytes_have_changed(home: Any, tmp_path: Path, picture: Picture) -> None:
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        for number in range(3):
            archive.writestr(f"cat/{number}.png", picture(number))
    data = bytearray((tmp_path / "x.zip").read_bytes())
    data[200] ^= 255
    (tmp_path / "x.zip").write_bytes(data)
    assert home.finding(home.bring(tmp_path / "x.zip"), "unreadable").file == "cat/0.png"


# ---------------------------------------------------------------- lines


LINES = [
    ("label.csv", "a.png,cat,1,1,5,5\na.png,cat,900,1,5,5\n", "box-outside", 2),
    ("all.json", json.dumps(FAR, indent=1), "box-outside", 9),
    ("a.json", json.dumps({"shapes": [SHAPES["shapes"][0], {"points": []}], "imagePath": "a.png"}, indent=1), "bad-entry", 17),
    (
        "a.json",
        json.dumps({"shapes": [{**SHAPES["shapes"][0], "points": [[90, 1], [99, 9]]}], "imagePath": "a.png"}, indent=1),
        "box-outside",
        3,
    ),
    (
        "a.xml",
        f"<annotation>\n<filename>a.png</filename>\n{BOX}\n{BOX.replace('>1<', '>50<').replace('>9<', '>60<')}</annotation>",
        "box-outside",
        4,
    ),
    ("a.txt", "0 0.5 0.5 0.2 0.2\n0 7 7 0.2 0.2\n", "box-outside", 2),
    ("data.yaml", "names: [cat\ntrain: images\n", "bad-yaml", 2),
]


@pytest.mark.parametrize(("file", "text", "code", "line"), LINES)
def test_file_and_line_are_named(home: Any, write: Any, picture: Picture, file: str, text: str, code: str, line: int) -> None:
    beside = {"a.txt": "0 0.5 0.5 0.2 0.2\n"} if file == "data.yaml" else {}
    dataset = home.bring(write({"a.png": picture(1), file: text, **beside}))
    found = home.finding(dataset, code)
    assert (found.file, found.line) == (file, line) and found.remedy


def test_what_is_said_of_the_whole_names_the_source(home: Any, write: Any, picture: Picture) -> None:
    dataset = home.bring(write(images(picture, "cat/1.png")))
    assert home.finding(dataset, "small-class").file == "source"


def test_classes_that_nothing_names(home: Any, write: Any, picture: Picture) -> None:
    dataset = home.bring(write({"images/a.png": picture(1), "labels/a.txt": "1 0.5 0.5 0.2 0.2\n"}))
    assert dataset.annotation_sets[0].classes == ["class_1"]  # no label speaks of another
    assert "such as class_1" in home.finding(dataset, "no-class-names").message


@pytest.mark.parametrize(("most", "told"), [(9, True), (3, False)])
def test_masks_that_number_single_objects(home: Any, write: Any, picture: Picture, most: int, told: bool) -> None:
    """As programs for cells write them: each number would be a class of its own. A few numbers may well be classes."""
    files: Files = {}
    for number in range(4):
        files[f"images/{number}.png"] = picture(number)
        counted = np.zeros((24, 32), np.uint8)
        counted[0, : most - number + 1] = range(most - number + 1)
        out = io.BytesIO()
        Image.fromarray(counted).save(out, "PNG")
        files[f"masks/{number}.png"] = out.getvalue()
    assert ("numbered-objects" in home.codes(home.bring(write(files)))) is told


def test_a_group_that_the_source_divides(home: Any, write: Any, picture: Picture) -> None:
    files = images(picture, "train/cat/p1-1.png", "train/cat/p2-1.png", "val/cat/p1-2.png", "val/cat/p1-3.png")
    found = home.finding(home.bring(write(files), group_pattern=r"p(\d)"), "group-across-splits")
    assert found.file == "val/cat/p1-2.png" and "“train”" in found.message and "“val”" in found.message


def test_pictures_behind_the_first(home: Any, write: Any, picture: Picture) -> None:
    from PIL import Image

    out = io.BytesIO()
    pages = [Image.new("L", (30, 30), number) for number in range(3)]
    pages[0].save(out, "TIFF", save_all=True, append_images=pages[1:])
    found = home.finding(home.bring(write({"cat/1.tif": out.getvalue()})), "first-frame-only")
    assert found.file == "cat/1.tif" and "3 pictures" in found.message


def test_a_pixel_that_would_take_the_contrast_from_the_rest(home: Any, write: Any) -> None:
    import numpy as np
    from PIL import Image

    values = np.random.default_rng(0).integers(0, 4096, (30, 30), dtype=np.uint16)
    values[3, 3] = 65535
    out = io.BytesIO()
    Image.fromarray(values).save(out, "PNG")
    found = home.finding(home.bring(write({"cat/1.png": out.getvalue()})), "outliers-clipped")
    assert found.file == "cat/1.png" and found.severity == "warning"


def test_where_nothing_can_be_used_the_first_reason_is_told(home: Any, write: Any, picture: Picture) -> None:
    with pytest.raises(BadDataError, match=r"a\.json:3: Shape 1 has no label or no points"):
        home.bring(write({"a.png": picture(1), "a.json": json.dumps({"shapes": [{"points": []}], "imagePath": "a.png"}, indent=1)}))


def test_a_set_of_which_nothing_could_be_used(home: Any, write: Any, picture: Picture) -> None:
    said = {"images": [{"id": 1, "file_name": "a.png"}], "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 1, 9, 9]}]}
    dataset = home.bring(write({"a.png": picture(1), "all.json": json.dumps(said)}))
    assert home.finding(dataset, "unknown-class").file == "all.json" and "boxes" in home.finding(dataset, "no-classes").message
