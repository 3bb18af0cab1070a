"""Archives as people have them: packed by tools that nobody told of this one."""

import io
import json
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage, generate_uid

from core.errors import BadDataError

Picture = Callable[..., bytes]
Pack = Callable[[dict[str, bytes | str]], Path]


@pytest.fixture
def pack(tmp_path: Path) -> Pack:
    """A zip of these files."""

    def run(files: dict[str, bytes | str], name: str = "archive.zip") -> Path:
        with zipfile.ZipFile(tmp_path / name, "w") as archive:
            for path, data in files.items():
                archive.writestr(path, data)
        return tmp_path / name

    return run


def dicom(seed: int, study: str) -> bytes:
    """A scan of one frame."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = SecondaryCaptureImageStorage
    meta.MediaStorageSOPInstanceUID = generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    scan = FileDataset("scan", {}, file_meta=meta, preamble=b"\0" * 128)
    scan.Rows, scan.Columns, scan.SamplesPerPixel, scan.PhotometricInterpretation = 24, 32, 1, "MONOCHROME2"
    scan.BitsAllocated, scan.BitsStored, scan.HighBit, scan.PixelRepresentation = 16, 12, 11, 0
    scan.StudyInstanceUID, scan.SeriesInstanceUID = study, f"{study}.1"
    scan.PixelData = np.random.default_rng(seed).integers(0, 4000, (24, 32)).astype(np.uint16).tobytes()
    out = io.BytesIO()
    pydicom.dcmwrite(out, scan, enforce_file_format=True)
    return out.getvalue()


def mask(seed: int, values: tuple[int, ...]) -> bytes:
    """A grey picture of these values, in blocks."""
    blocks = np.random.default_rng(seed).permutation(np.resize(np.array(values, np.uint8), 12)).reshape(3, 4)
    out = io.BytesIO()
    Image.fromarray(blocks.repeat(8, 0).repeat(8, 1)).save(out, "PNG")
    return out.getvalue()


def splits(home: Any, dataset: Any) -> dict[str, str]:
    return {record.path: record.split for record in home.records(dataset)}


def test_what_a_mac_packs(home: Any, pack: Pack, picture: Picture) -> None:
    files: dict[str, bytes | str] = {f"My Pets/{c}/{n}.JPG": picture(n, suffix="JPEG") for n, c in enumerate(["cat", "dog"] * 3)}
    litter: dict[str, bytes | str] = {"My Pets/.DS_Store": "x", "__MACOSX/My Pets/cat/._0.JPG": "x", "My Pets/cat/._0.JPG": "y"}
    dataset = home.bring(pack(files | litter))
    assert dataset.annotation_sets[0].class_counts == [3, 3] and home.findings(dataset) == []


def test_backslashes_of_windows(home: Any, tmp_path: Path, picture: Picture) -> None:
    with zipfile.ZipFile(tmp_path / "w.zip", "w") as archive:
        for name in ("pets\\", "pets\\cat\\", *(f"pets\\{c}\\{n}.png" for c in ("cat", "dog") for n in range(3))):
            info = zipfile.ZipInfo("x")
            info.filename = name
            archive.writestr(info, b"" if name.endswith("\\") else picture(len(name) * 100 + ord(name[-5])))
    assert home.bring(tmp_path / "w.zip").annotation_sets[0].classes == ["cat", "dog"]


def test_a_tar_that_begins_with_a_point(home: Any, tmp_path: Path, picture: Picture) -> None:
    with tarfile.open(tmp_path / "x.tgz", "w:gz") as archive:
        for number in range(6):
            info, data = tarfile.TarInfo(f"./top/{'ab'[number % 2]}/{number}.png"), picture(number)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    assert home.bring(tmp_path / "x.tgz").annotation_sets[0].class_counts == [3, 3]


@pytest.mark.parametrize(
    ("name", "start", "says"),
    [
        ("x.7z", b"7z\xbc\xaf\x27\x1c", "7-Zip"),
        ("x.rar", b"Rar!\x1a\x07", "RAR"),
        ("x.tar.zst", b"\x28\xb5\x2f\xfd", "Zstandard"),
        ("x.zip.001", b"PK\x03\x04", "part of a divided archive"),
        ("x.z01", b"PK\x07\x08PK\x03\x04", "part of a divided archive"),
        ("cat.jpg", b"\xff\xd8\xff\xe0", "single image"),
        ("label.csv", b"a.png,cat\n", "file of labels"),
    ],
)
def test_what_is_no_dataset_is_called_by_its_name(home: Any, tmp_path: Path, name: str, start: bytes, says: str) -> None:
    (tmp_path / name).write_bytes(start + b"\0" * 400)
    with pytest.raises(BadDataError, match=says) as caught:
        home.bring(tmp_path / name)
    assert caught.value.remedy


def test_a_password(home: Any, pack: Pack, picture: Picture) -> None:
    path = pack({"cat/1.png": picture(1)})
    data = bytearray(path.read_bytes())
    data[6] |= 1
    data[data.find(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(data)
    with pytest.raises(BadDataError, match="password"):
        home.bring(path)


def test_classes_that_differ_in_case_only_are_named(home: Any, pack: Pack, picture: Picture) -> None:
    files: dict[str, bytes | str] = {f"{c}/{n}.png": picture(n + 10 * (c == "cat")) for c in ("Cat", "cat") for n in range(3)}
    dataset = home.bring(pack(files))
    assert dataset.annotation_sets[0].classes == ["Cat", "cat"]
    assert "“Cat” and “cat”" in home.finding(dataset, "similar-class").message


# ---------------------------------------------------------------- label.csv


@pytest.mark.parametrize(
    "text",
    [
        "\ufeffFile;Class\r\npics/1.png;Äpfel\r\npics/2.png;pear\r\n".encode(),
        "pics/1.png\tÄpfel\r\npics/2.png\tpear\r\n".encode("utf-16"),
        "filename,class\n1.png,Äpfel\n2.png,pear\n".encode(),  # bare names of images that lie elsewhere
        "pics/1.png;Äpfel\npics/2.png;pear\n".encode("cp1252"),
    ],
)
def test_csv_as_spreadsheets_write_it(home: Any, pack: Pack, picture: Picture, text: bytes) -> None:
    dataset = home.bring(pack({"set/label.csv": text, "set/pics/1.png": picture(1), "set/pics/2.png": picture(2)}))
    labels = {record.path: dataset.annotation_sets[0].classes[record.value["label"]] for record in home.records(dataset)}
    assert labels == {"set/pics/1.png": "Äpfel", "set/pics/2.png": "pear"}


def test_boxes_with_a_decimal_comma(home: Any, pack: Pack, picture: Picture) -> None:
    dataset = home.bring(pack({"label.csv": "1.png;cat;1,5;2;10,25;9\n", "1.png": picture(1)}))
    assert home.records(dataset)[0].value["boxes"] == [[0, 1.5, 2.0, 10.25, 9.0]]


# ---------------------------------------------------------------- COCO and YOLO


def coco(names: list[str]) -> str:
    annotations = [{"id": n, "image_id": n, "category_id": 1, "bbox": [1, 1, 9, 9], "segmentation": []} for n in range(len(names))]
    images = [{"id": n, "file_name": name, "width": 32, "height": 24} for n, name in enumerate(names)]
    return json.dumps({"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "cat"}]})


@pytest.mark.parametrize(
    ("there", "file", "named"),
    [
        ("images/default/sub dir/{}.jpg", "annotations/instances_default.json", "sub dir/{}.jpg"),  # CVAT
        ("images/{}ab-pic.jpg", "result.json", "images\\{}ab-pic.jpg"),  # Label Studio on Windows
        ("{}.jpg", "export.json", "https://storage.example.com/x/{}.jpg?Expires=1"),  # Labelbox
        ("all/{}.jpg", "export.json", "/home/ada/data/{}.jpg"),
    ],
)
def test_coco_names_images_as_its_tools_do(home: Any, pack: Pack, picture: Picture, there: str, file: str, named: str) -> None:
    files: dict[str, bytes | str] = {there.format(n): picture(n, suffix="JPEG") for n in range(3)}
    dataset = home.bring(pack(files | {file: coco([named.format(n) for n in range(3)])}))
    assert dataset.source_format == "coco" and dataset.annotation_sets[0].class_counts == [3]
    assert home.findings(dataset) == []


def test_yolo_with_the_notes_of_label_studio(home: Any, pack: Pack, picture: Picture) -> None:
    files: dict[str, bytes | str] = {"classes.txt": "cat\ndog\n", "notes.json": '{"categories": [{"id": 0, "name": "cat"}], "info": {}}'}
    for number in range(3):
        files |= {f"images/{number}.png": picture(number), f"labels/{number}.txt": "1 0.5 0.5 0.2 0.2\n"}
    dataset = home.bring(pack(files))
    assert (dataset.source_format, dataset.annotation_sets[0].class_counts) == ("yolo", [0, 3])


def test_darknets_lists_are_its_splits(home: Any, pack: Pack, picture: Picture) -> None:
    files: dict[str, bytes | str] = {
        "obj.names": "a\nb\n",
        "train.txt": "data/obj/0.jpg\ndata/obj/1.jpg\n",
        "valid.txt": "data/obj/2.jpg\n",
    }
    for number in range(4):
        files |= {f"obj/{number}.jpg": picture(number, suffix="JPEG"), f"obj/{number}.txt": "1 0.5 0.5 0.2 0.2\n"}
    dataset = home.bring(pack(files))
    assert splits(home, dataset) == {"obj/0.jpg": "train", "obj/1.jpg": "train", "obj/2.jpg": "val", "obj/3.jpg": ""}


def test_lists_tell_images_of_one_name_apart_by_their_folders(home: Any, pack: Pack, picture: Picture) -> None:
    files: dict[str, bytes | str] = {"data.yaml": "train: train.txt\nval: val.txt\nnames: [a]\n"}
    files |= {"train.txt": "/home/x/images/a/0.png\n/home/x/images/a/1.png\n", "val.txt": "/home/x/images/b/0.png\n"}
    for number, path in enumerate(("a/0", "a/1", "b/0")):
        files |= {f"images/{path}.png": picture(number), f"labels/{path}.txt": "0 0.5 0.5 0.2 0.2\n"}
    assert splits(home, home.bring(pack(files))) == {"images/a/0.png": "train", "images/a/1.png": "train", "images/b/0.png": "val"}


# ---------------------------------------------------------------- LabelMe, masks, DICOM


def test_labelme_with_paths_of_another_host(home: Any, pack: Pack, picture: Picture) -> None:
    files: dict[str, bytes | str] = {}
    for number in range(3):
        shapes = [
            {"label": "cat", "points": [[1, 1], [10, 1], [10, 10]], "shape_type": "polygon"},
            {"label": "dog", "points": [[12, 1], [20, 10]], "shape_type": "rectangle"},
        ]
        said = {"flags": {}, "shapes": shapes, "imagePath": f"C:\\data\\{number}.jpg", "imageData": None}
        files |= {f"{number}.jpg": picture(number, suffix="JPEG"), f"{number}.json": json.dumps(said)}
    dataset = home.bring(pack(files))
    boxes, instances = dataset.annotation_sets[:2]
    # What is outlined has a box too: whoever learns boxes must not take it for background.
    assert (boxes.kind, boxes.class_counts) == ("boxes", [3, 3])
    assert (instances.kind, instances.class_counts) == ("instances", [3, 0])
    assert home.codes(dataset) == ["object-without-mask"]


def test_camvid_with_its_class_list(home: Any, pack: Pack, picture: Picture) -> None:
    files: dict[str, bytes | str] = {"SegNet/CamVid/classes.txt": "Sky\nBuilding\nPole\n"}
    for offset, split in enumerate(("train", "val", "test")):
        for number in range(3):
            seed = offset * 10 + number
            files |= {
                f"SegNet/CamVid/{split}/{number}.png": picture(seed),
                f"SegNet/CamVid/{split}annot/{number}.png": mask(seed, (0, 1, 2)),
            }
    dataset = home.bring(pack(files))
    assert dataset.annotation_sets[0].classes == ["Sky", "Building", "Pole"]
    assert dataset.statistics["splits"] == {"train": 3, "val": 3, "test": 3}


def test_masks_in_segmentation_class_alone(home: Any, pack: Pack, picture: Picture) -> None:
    files: dict[str, bytes | str] = {"class_names.txt": "_background_\ncat\ndog\n"}
    for number in range(3):
        files |= {f"JPEGImages/{number}.jpg": picture(number, suffix="JPEG"), f"SegmentationClass/{number}.png": mask(number, (0, 1, 2))}
    dataset = home.bring(pack(files))
    assert (dataset.annotation_sets[0].kind, dataset.annotation_sets[0].classes) == ("regions", ["cat", "dog"])


def test_dicom_without_a_suffix(home: Any, pack: Pack) -> None:
    files: dict[str, bytes | str] = {
        f"{c}/IM{n:06d}": dicom(n + 50 * (c == "ill"), f"1.{c == 'ill':d}.{n}") for c in ("ill", "well") for n in range(3)
    }
    dataset = home.bring(pack(files | {"DICOMDIR": b"\0" * 128 + b"DICM", "README": "x" * 200}))
    assert dataset.annotation_sets[0].class_counts == [3, 3] and home.findings(dataset) == []


def test_dicom_as_scanners_write_it_to_a_disk(home: Any, pack: Pack) -> None:
    files: dict[str, bytes | str] = {f"DICOM/PA{p}/ST0/SE0/1.2.840.{n}": dicom(p * 10 + n, f"1.{p}") for p in range(3) for n in range(2)}
    dataset = home.bring(pack(files))
    assert (dataset.source_format, dataset.image_count, list(dataset.annotation_sets)) == ("images", 6, [])


# ---------------------------------------------------------------- names and masks as they are found


def test_decomposed_letters_of_a_mac_and_other_cases_are_the_same_names(home: Any, pack: Pack, picture: Picture) -> None:
    composed, decomposed = "Caf\u00e9 1.jpg", "Cafe\u0301 1.JPG"
    assert home.bring(pack({f"im/{decomposed}": picture(1, suffix="JPEG"), "x.json": coco([composed])}), "a").annotation_sets[
        0
    ].class_counts == [1]
    xml = f"<annotation><filename>{composed}</filename><object><name>cat</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>9</xmax><ymax>9</ymax></bndbox></object></annotation>"
    voc: dict[str, bytes | str] = {f"JPEGImages/{decomposed}": picture(2, suffix="JPEG"), "Annotations/1.xml": xml}
    assert home.bring(pack(voc), "b").annotation_sets[0].class_counts == [1]
    yolo: dict[str, bytes | str] = {f"images/{decomposed}": picture(3, suffix="JPEG"), "labels/Caf\u00e9 1.txt": "0 0.5 0.5 0.2 0.2"}
    assert home.bring(pack(yolo), "c").annotation_sets[0].class_counts == [1]
    masks: dict[str, bytes | str] = {f"images/{decomposed}": picture(4, suffix="JPEG"), "masks/caf\u00e9 1.png": mask(4, (0, 1))}
    assert home.bring(pack(masks), "d").annotation_sets[0].class_counts == [1]


def test_yolo_poses_are_boxes(home: Any, pack: Pack, picture: Picture) -> None:
    files: dict[str, bytes | str] = {"data.yaml": "kpt_shape: [2, 2]\nnames: [cat]\n"}
    for number in range(3):
        files |= {f"images/{number}.png": picture(number), f"labels/{number}.txt": "0 0.5 0.5 0.25 0.5 0.1 0.1 0.9 0.9\n"}
    (boxes, *_) = home.bring(pack(files)).annotation_sets
    assert boxes.kind == "boxes" and home.records(home.dataset())[0].value["boxes"] == [[0, 12.0, 6.0, 8.0, 12.0]]


def test_masks_of_one_class_as_jpeg(home: Any, pack: Pack, picture: Picture) -> None:
    files: dict[str, bytes | str] = {}
    for number in range(3):
        blurred = io.BytesIO()
        Image.open(io.BytesIO(mask(number, (0, 255)))).save(blurred, "JPEG", quality=90)
        files |= {f"set/images/{number}.jpg": picture(number, suffix="JPEG"), f"set/masks/{number}.jpg": blurred.getvalue()}
    dataset = home.bring(pack(files))
    assert (dataset.source_format, dataset.annotation_sets[0].kind, dataset.annotation_sets[0].class_counts) == ("masks", "regions", [3])


def test_masks_whose_names_begin_otherwise_than_their_images(home: Any, pack: Pack, picture: Picture) -> None:
    files = {f"images/img_{n}.png": picture(n) for n in range(3)} | {f"masks/mask_{n}.png": mask(n, (0, 1)) for n in range(3)}
    dataset = home.bring(pack(files))
    assert (dataset.source_format, dataset.image_count) == ("masks", 3) and home.codes(dataset) == ["no-class-names"]


def test_a_folder_around_everything_may_be_called_like_one_of_masks(home: Any, pack: Pack, picture: Picture) -> None:
    files = {f"pets_labels/{c}/{n}.png": picture(n + 9 * (c == "cat")) for c in ("cat", "dog") for n in range(3)}
    assert home.bring(pack(files)).source_format == "class-folders"
