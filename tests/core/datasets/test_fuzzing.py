"""Whatever a source holds: a dataset or a typed error, never anything else, and nothing written outside."""

import contextlib
import json
import random
import tempfile
import zipfile
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

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
