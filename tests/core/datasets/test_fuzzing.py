"""Whatever a source holds: a dataset or a typed error, never anything else, and nothing written outside."""

import base64
import contextlib
import json
import os
import random
import tarfile
import tempfile
import zipfile
import zlib
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from pydicom.data import get_testdata_file

from core.datasets.findings import Findings
from core.datasets.finishing import finish
from core.datasets.formats import READERS
from core.datasets.grouping import apply_groups
from core.datasets.images import ImageError, read_image
from core.datasets.masks import from_counts, from_polygons
from core.datasets.sources.opening import open_source
from core.errors import StationmasterError
from core.settings import Settings

SETTINGS = Settings(_env_file=None)
FUZZ = settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))


def image(suffix: str = "PNG") -> bytes:
    out = BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 4, (20, 24), dtype=np.uint8)).save(out, suffix)
    return out.getvalue()


IMAGE = image()


def dicom_file() -> bytes:
    """A scan with a window, from the files that pydicom is tested with."""
    return Path(str(get_testdata_file("CT_small.dcm", download=False))).read_bytes()


JSON_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(["a.png", "polygon", "rectangle", "mask", "cat"]),
    lambda inner: (
        st.lists(inner, max_size=5)
        | st.dictionaries(
            st.sampled_from(
                [
                    "images",
                    "annotations",
                    "categories",
                    "id",
                    "file_name",
                    "width",
                    "height",
                    "image_id",
                    "category_id",
                    "bbox",
                    "segmentation",
                    "size",
                    "counts",
                    "name",
                    "iscrowd",
                    "shapes",
                    "flags",
                    "label",
                    "points",
                    "shape_type",
                    "imagePath",
                    "imageData",
                    "imageHeight",
                    "imageWidth",
                    "group_id",
                    "names",
                    "train",
                    "val",
                    "path",
                    "nc",
                    "supercategory",
                ]
            ),
            inner,
            max_size=8,
        )
    ),
    max_leaves=25,
)
CELLS = st.sampled_from(
    ["a.png", "b.png", "../a.png", "/etc/passwd", "cat", "", "0", "1", "-5", "nan", "1e400", "1e308", "5", "'=x", '"', "犬", "\x00"]
)
TEXTS = st.lists(st.lists(CELLS, max_size=7).map(",".join), max_size=6).map("\n".join)
NUMBERS = st.lists(
    st.lists(st.sampled_from(["0", "1", "99999999999", "-1", "0.5", "nan", "inf", "x", "2e9", "0.1"]), max_size=9).map(" ".join), max_size=5
).map("\n".join)
TAGS = st.recursive(
    st.text(st.characters(codec="utf-8", exclude_characters="<&"), max_size=5) | st.sampled_from(["a.png", "5", "-3", "1e999", "nan"]),
    lambda inner: st.tuples(
        st.sampled_from(["annotation", "object", "name", "bndbox", "xmin", "ymin", "xmax", "ymax", "size", "width", "filename"]),
        st.lists(inner, max_size=5),
    ).map(lambda pair: f"<{pair[0]}>{''.join(pair[1])}</{pair[0]}>"),
    max_leaves=20,
)
FILES = st.dictionaries(
    st.sampled_from(
        [
            "a.png",
            "b.png",
            "cat/a.png",
            "images/a.png",
            "masks/a.png",
            "train/cat/b.png",
            "a_mask.png",
            "SegmentationObject/a.png",
            "SegmentationClass/a.png",
        ]
    ),
    st.just(IMAGE) | st.binary(max_size=40),
    min_size=1,
    max_size=6,
)
TEXT_FILES = st.fixed_dictionaries(
    {},
    optional={
        "label.csv": TEXTS,
        "groups.csv": TEXTS,
        "all.json": JSON_VALUES.map(json.dumps),
        "a.json": JSON_VALUES.map(json.dumps),
        "data.yaml": JSON_VALUES.map(json.dumps),
        "labels/a.txt": NUMBERS,
        "a.txt": NUMBERS,
        "classes.txt": TEXTS,
        "table.csv": TEXTS.map(lambda text: f"filename,label,xmin,ymin,xmax,ymax\n{text}"),
        "_classes.csv": TEXTS.map(lambda text: f"filename,cat,dog\n{text}"),
        "class_dict.csv": TEXTS,
        "a.xml": TAGS.map(lambda text: f"<annotation>{text}</annotation>"),
        "ImageSets/Main/train.txt": NUMBERS,
    },
)


def bring(location: str, reader: Any) -> None:
    """Read and finish a source as an import does; typed errors are answers."""
    findings = Findings()
    try:
        with open_source(location, SETTINGS, findings) as source:
            reader.detect(source)
            parsed = reader.read(source, SETTINGS, findings)
            apply_groups(parsed, source, None, findings)
            for one in parsed.images:
                outcome = finish(source, one, parsed.sets, SETTINGS.max_image_pixels)
                for finished in outcome.finished:
                    json.dumps(finished.values)
                findings.extend(outcome.findings)
    except StationmasterError as error:
        assert error.what
    assert all(finding.message and finding.remedy for finding in findings)


@pytest.mark.parametrize("reader", READERS, ids=lambda reader: reader.name)
def test_each_reader_gives_a_dataset_or_a_typed_error(reader: Any) -> None:
    @FUZZ
    @given(FILES, TEXT_FILES)
    def check(files: dict[str, bytes], texts: dict[str, str]) -> None:
        with tempfile.TemporaryDirectory() as folder:
            archive = Path(folder) / "source.zip"
            with zipfile.ZipFile(archive, "w") as packed:
                for name, data in files.items():
                    packed.writestr(name, data)
                for name, text in texts.items():
                    packed.writestr(name, text.encode("utf-8", "replace"))
            bring(str(archive), reader)
            assert [path.name for path in Path(folder).iterdir()] == ["source.zip"]

    check()


@pytest.mark.parametrize("seed", range(60))
def test_archives_with_flipped_bytes(seed: int, tmp_path: Path) -> None:
    rng = random.Random(seed)
    out = BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as packed:
        packed.writestr("cat/a.png", IMAGE)
        packed.writestr("../dog/b.png", IMAGE)
    data = bytearray(out.getvalue())
    for _ in range(rng.randrange(1, 8)):
        data[rng.randrange(len(data))] = rng.randrange(256)
    (tmp_path / "a.zip").write_bytes(bytes(data[: rng.choice([len(data), rng.randrange(len(data))])]))
    bring(str(tmp_path / "a.zip"), next(reader for reader in READERS if reader.name == "class-folders"))


@pytest.mark.parametrize("suffix", ["JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF", "PPM"])
def test_images_with_flipped_bytes(suffix: str) -> None:
    good = image(suffix)
    rng = random.Random(suffix)
    for _ in range(150):
        data = bytearray(good)
        for _ in range(rng.randrange(1, 6)):
            data[rng.randrange(len(data))] = rng.randrange(256)
        try:
            read_image(bytes(data), 1_000_000)
        except ImageError as error:
            assert error.remedy


@FUZZ
@given(st.binary(max_size=60) | st.lists(st.integers(48, 111), max_size=40).map(bytes), st.integers(1, 50), st.integers(1, 50))
def test_run_lengths_from_anywhere(counts: bytes, width: int, height: int) -> None:
    with contextlib.suppress(ValueError):
        from_counts(counts, width, height)


@FUZZ
@given(st.lists(st.floats(allow_nan=True, allow_infinity=True), max_size=20), st.integers(1, 50), st.integers(1, 50))
def test_polygons_from_anywhere(ring: list[float], width: int, height: int) -> None:
    with contextlib.suppress(ValueError):
        from_polygons([ring], width, height)


# ---------------------------------------------------------------- good sources, spoilt

_COCO = {
    "images": [{"id": 1, "file_name": "a.png", "width": 24, "height": 20}],
    "annotations": [
        {"id": 1, "image_id": 1, "category_id": 2, "bbox": [1, 2, 5, 6], "segmentation": [[1, 2, 8, 2, 8, 9]], "iscrowd": 0},
        {"id": 2, "image_id": 1, "category_id": 2, "bbox": [1, 2, 5, 6], "segmentation": {"size": [20, 24], "counts": [100, 30, 350]}},
        {"id": 3, "image_id": 1, "category_id": 2, "segmentation": {"size": [20, 24], "counts": "T3n0R<"}},
    ],
    "categories": [{"id": 2, "name": "cat", "supercategory": "animal"}],
}
_LABELME = {
    "flags": {"day": True},
    "shapes": [
        {"label": "cat", "points": [[1, 1], [9, 9]], "shape_type": "rectangle", "group_id": None},
        {"label": "cat", "points": [[1, 1], [9, 1], [9, 9]], "shape_type": "polygon", "group_id": 1},
        {"label": "dog", "points": [[5, 5], [8, 5]], "shape_type": "circle"},
        {"label": "dog", "points": [[2, 2], [5, 5]], "shape_type": "mask", "mask": base64.b64encode(IMAGE).decode()},
    ],
    "imagePath": "a.png",
    "imageData": base64.b64encode(IMAGE).decode(),
    "imageWidth": 24,
    "imageHeight": 20,
}
_VOC = (
    "<annotation><filename>a.png</filename><size><width>24</width><height>20</height></size><object><name>cat</name>"
    "<bndbox><xmin>1</xmin><ymin>1</ymin><xmax>9</xmax><ymax>9</ymax></bndbox></object></annotation>"
)
_MASK_CSV = f"a.png,cat,24,20,{base64.b64encode(zlib.compress(b'T3n0R<')).decode()}\n"
SOURCES: dict[str, dict[str, bytes]] = {
    "coco": {"a.png": IMAGE, "all.json": json.dumps(_COCO).encode()},
    "labelme": {"a.png": IMAGE, "a.json": json.dumps(_LABELME).encode()},
    "labelme embedded": {"x.json": json.dumps(_LABELME).encode()},
    "voc": {
        "a.png": IMAGE,
        "a.xml": _VOC.encode(),
        "SegmentationClass/a.png": IMAGE,
        "SegmentationObject/a.png": IMAGE,
        "ImageSets/Main/train.txt": b"a\n",
    },
    "yolo": {
        "images/a.png": IMAGE,
        "labels/a.txt": b"0 0.5 0.5 0.2 0.2\n1 0.1 0.1 0.5 0.1 0.5 0.5\n",
        "data.yaml": b"names: [cat, dog]\ntrain: images\nkpt_shape: [2, 2]\n",
    },
    "label-csv": {"a.png": IMAGE, "label.csv": b"a.png,cat,1,2,3,4\na.png,dog,1.5,2,3,4\n", "groups.csv": b"a.png,1\n"},
    "label-csv masks": {"a.png": IMAGE, "label.csv": _MASK_CSV.encode()},
    "csv-table": {"a.png": IMAGE, "t.csv": b"filename,class,xmin,ymin,xmax,ymax\na.png,cat,1,2,3,4\n"},
    "masks": {"images/a.png": IMAGE, "masks/a.png": IMAGE, "classes.txt": b"cat\ndog\n"},
    "class-folders": {"train/cat/a.png": IMAGE, "val/cat/b.png": IMAGE},
    "images": {"scan": dicom_file()},
}
# What breaks parsers: other types, other signs, too much, nothing, other alphabets.
STINGS = st.sampled_from(
    [b"null", b"-1", b"1e999", b"NaN", b"9" * 400, b'""', b"[]", b"{}", b"[[[[", b"\x00", b"\xff\xfe", b"\xef\xbb\xbf", b"\r", b"\n\n", b",,,,", b"../../x",
     b"&a", b"*a", b"<!DOCTYPE a>", b"]]>", b"'=1", b"\xf0\x9f\x90\xb1", b"\xed\xa0\x80", b"0", b"true", b"2147483648", b"-9223372036854775809"]
)  # fmt: skip


@pytest.mark.parametrize("name", SOURCES)
def test_good_sources_spoilt_somewhere(name: str) -> None:
    files = SOURCES[name]
    reader = next(reader for reader in READERS if reader.name == name.partition(" ")[0])

    @settings(FUZZ, max_examples=int(os.environ.get("FUZZ_EXAMPLES", "60")))
    @given(st.data(), st.sampled_from(["zip", "tar", "folder"]))
    def check(data: Any, packing: str) -> None:
        spoilt = dict(files)
        for _ in range(data.draw(st.integers(1, 3))):
            path = data.draw(st.sampled_from(sorted(files)))
            start = data.draw(st.integers(0, len(spoilt[path])))
            end = start + data.draw(st.sampled_from([0, 1, 1, 2, 5, 40]))
            spoilt[path] = spoilt[path][:start] + data.draw(STINGS | st.binary(max_size=3)) + spoilt[path][end:]
        with tempfile.TemporaryDirectory() as folder:
            source = Path(folder) / "source"
            if packing == "zip":
                with zipfile.ZipFile(source, "w") as archive:
                    for path, content in spoilt.items():
                        archive.writestr(path, content)
            elif packing == "tar":
                with tarfile.open(source, "w") as tar:
                    for path, content in spoilt.items():
                        info = tarfile.TarInfo(path)
                        info.size = len(content)
                        tar.addfile(info, BytesIO(content))
            else:
                for path, content in spoilt.items():
                    (source / path).parent.mkdir(parents=True, exist_ok=True)
                    (source / path).write_bytes(content)
            bring(str(source), reader)
            assert [path.name for path in Path(folder).iterdir()] == ["source"]

    check()


@pytest.mark.parametrize("packing", ["zip", "tar", "tar.gz", "tar.xz", "tar.bz2"])
@pytest.mark.parametrize("name", ["coco", "voc", "label-csv"])
def test_packed_bytes_flipped_under_every_reader_of_text(name: str, packing: str, tmp_path: Path) -> None:
    out = BytesIO()
    if packing == "zip":
        with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
            for path, content in SOURCES[name].items():
                archive.writestr(path, content)
    else:
        with tarfile.open(fileobj=out, mode=f"w:{packing.partition('.')[2]}") as tar:
            for path, content in SOURCES[name].items():
                info = tarfile.TarInfo(path)
                info.size = len(content)
                tar.addfile(info, BytesIO(content))
    rng = random.Random(f"{name} {packing}")
    reader = next(reader for reader in READERS if reader.name == name)
    for _ in range(25):
        data = bytearray(out.getvalue())
        for _ in range(rng.randrange(1, 5)):
            data[rng.randrange(len(data))] = rng.randrange(256)
        (tmp_path / "source").write_bytes(bytes(data[: rng.choice([len(data), rng.randrange(len(data))])]))
        bring(str(tmp_path / "source"), reader)
