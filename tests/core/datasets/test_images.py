"""Images of every kind: upright, 8 bits a channel, DICOM as a viewer shows it, and labels that move with them."""

import json
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from deep_png import deep_png
from deep_tiff import DEFLATE, LZW, RAW, deep_tiff
from dicom_files import dicom, without_mark
from PIL import Image
from sqlalchemy import select

from core.datasets import masks
from core.datasets.dicom import read_dicom
from core.datasets.images import ImageError, flattened, read_image
from core.datasets.splitting import split_records
from core.db.tables import DatasetImage
from core.vocabulary import AnnotationKind

LIMIT = 1 << 30


def pixels(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(BytesIO(data)))


RAMP = np.tile(np.arange(32, dtype=np.uint16) * 100, (20, 1))


@pytest.mark.parametrize("channels", [2, 3, 4])
def test_colours_of_sixteen_bits_are_stretched_together_as_grey_is(channels: int) -> None:
    """Of cameras with twelve bits: of the upper bytes alone little but black would be left."""
    values = np.random.default_rng(0).integers(0, 4096, (20, 32, channels))
    values[0, 0], values[0, 1] = 0, 4095
    if channels in (2, 4):
        values[..., -1] = 257 * np.arange(32)
    stored = read_image(deep_png(values), LIMIT)
    shown = pixels(stored.data)
    colours = values[..., :1] if channels == 2 else values[..., :3]
    assert np.abs(shown[..., :3] - colours * (255 / 4095)).max() <= 0.5 + 1e-3
    if channels in (2, 4):
        assert (shown[..., 3] == np.arange(32)).all()
    assert (stored.width, stored.height) == (32, 20)


def test_colours_of_sixteen_bits_that_eight_would_hold_stay_as_they_are() -> None:
    values = np.arange(20 * 32 * 3).reshape(20, 32, 3) % 256
    assert (pixels(read_image(deep_png(values), LIMIT).data) == values).all()


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize(("compression", "differences"), [(RAW, False), (LZW, False), (LZW, True), (DEFLATE, False), (DEFLATE, True)])
@pytest.mark.parametrize(("channels", "extra"), [(3, 0), (4, 2), (4, 0)], ids=["RGB", "RGBA", "RGB and one more"])
def test_colours_of_sixteen_bit_tiffs_are_stretched_too(order: str, compression: int, differences: bool, channels: int, extra: int) -> None:
    values = np.random.default_rng(0).integers(0, 4096, (20, 32, channels), dtype=np.uint16)
    values[0, 0], values[0, 1] = 0, 4095
    if extra == 2:
        values[..., 3] = 257 * np.arange(32)
    shown = pixels(read_image(deep_tiff(values, order, compression, differences=differences, extra=extra), LIMIT).data)
    assert np.abs(shown[..., :3] - values[..., :3] * (255 / 4095)).max() <= 0.5 + 1e-3
    assert shown.shape[2] == 4 and (shown[..., 3] == np.arange(32)).all() if extra == 2 else shown.shape[2] == 3


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("compression", [RAW, DEFLATE])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("kind", ["u2", "i2", "u4", "i4", "f4"])
def test_a_tiff_is_shown_as_it_is_or_refused(kind: str, channels: int, compression: int, order: str) -> None:
    """Pillow takes planes of 16 bits for such of 8, and compressed big-endian values with a sign or a point for little-endian ones."""
    values = np.random.default_rng(0).integers(0, 4096, (20, 32, channels)).astype(kind)
    values[0, 0], values[0, 1] = 0, 4095
    if channels == 4:
        values[..., 3] = 4095
    for apart in (False, True)[:channels]:
        try:
            shown = pixels(read_image(deep_tiff(values, order, compression, apart=apart), LIMIT).data).reshape(20, 32, -1)
        except ImageError as error:
            assert "TIFF" in str(error) and "not read" in str(error)
            assert channels > 1 or (kind, order) == ("u4", ">") or (order, compression) == (">", DEFLATE)
            assert (kind, channels, apart) not in [("u2", 1, False), ("u2", 3, False), ("u2", 4, False)]
        else:
            colours = values[..., : min(channels, 3)]
            assert np.abs(shown[..., :3] - colours * (255 / 4095)).max() <= 0.5 + 1e-3


def grey_file(values: np.ndarray) -> bytes:
    """As a PNG of 16 bits, or a TIFF of 32 with a sign or a point."""
    out = BytesIO()
    Image.fromarray(values).save(out, "PNG" if values.dtype == np.uint16 else "TIFF")
    return out.getvalue()


CAMERA = np.random.default_rng(0).integers(30_000, 34_000, (120, 160))  # 19,200 pixels: two may be outliers
CAMERA[0, :2] = 30_000, 34_000


@pytest.mark.parametrize(("kind", "shift"), [(np.uint16, 0), (np.int32, -40_000), (np.float32, -40_000)])
@pytest.mark.parametrize(
    ("hot", "dead", "low", "high"),
    [
        ([], [], 30_000, 34_000),
        ([65_535], [], 30_000, 34_000),
        ([65_535, 50_000], [], 30_000, 34_000),
        ([65_535] * 3, [], 30_000, 65_535),  # more than a few: part of the picture
        ([37_900], [26_100], 26_100, 37_900),  # outside, but not farther than the rest is wide
        ([], [0], 30_000, 34_000),
        ([65_535], [0], 30_000, 34_000),
    ],
)
def test_a_few_pixels_far_outside_take_no_contrast_from_the_rest(
    kind: type, shift: int, hot: list[int], dead: list[int], low: int, high: int
) -> None:
    values = CAMERA.copy()
    values[50, 20 : 20 + len(hot)], values[70, 20 : 20 + len(dead)] = hot, dead
    stored = read_image(grey_file((values + shift).astype(kind)), LIMIT)
    wanted = (np.clip(values, low, high) - low) * (255 / (high - low))
    assert np.abs(pixels(stored.data) - wanted).max() <= 0.6  # the rest's own ends are some values nearer where some lie beyond
    assert stored.clipped == ((values.min(), values.max()) != (low, high))


@pytest.mark.parametrize("channels", [2, 3, 4])
def test_colours_are_clipped_together_a_pixel_at_once(channels: int) -> None:
    values = np.random.default_rng(0).integers(0, 4096, (20, 32, channels))
    if channels in (2, 4):
        values[..., -1] = 257 * np.arange(32)
    opaque = channels - 1 if channels in (2, 4) else channels
    values[5, 5, :opaque] = 65535  # all its channels
    stored = read_image(deep_png(values), LIMIT)
    shown = pixels(stored.data)
    assert stored.clipped and (shown[5, 5, :3] == 255).all()
    assert np.abs(shown[..., :3] - np.minimum(values[..., :opaque], 4095) * (255 / 4095)).max() <= 1.5
    assert channels == 3 or (shown[..., 3] == np.arange(32)).all()


def test_a_bright_spot_on_black_stays_and_what_eight_bits_hold_is_as_it_was() -> None:
    spot = np.zeros((40, 40), np.uint16)
    spot[7, 9] = 60000
    stored = read_image(grey_file(spot), LIMIT)
    assert not stored.clipped and (pixels(stored.data) == spot // 60000 * 255).all()
    dim = np.random.default_rng(0).integers(0, 40, (40, 40), dtype=np.uint16)
    dim[7, 9] = 250
    stored = read_image(grey_file(dim), LIMIT)
    assert not stored.clipped and (pixels(stored.data) == dim).all()
    dim[7, 9] = 65535
    stored = read_image(grey_file(dim), LIMIT)
    assert stored.clipped and (pixels(stored.data) == np.minimum(dim, 39)).all(), "as its neighbours without that pixel"


@pytest.mark.parametrize("none", [np.nan, np.inf])
def test_a_few_values_that_are_no_number_take_no_contrast_either(none: float) -> None:
    values = np.random.default_rng(0).uniform(1000, 1010, (40, 40)).astype(np.float32)
    values[3, 4] = none
    shown = pixels(read_image(grey_file(values), LIMIT).data)
    assert shown[3, 4] == 0 and len(np.unique(shown)) > 200


@pytest.mark.parametrize("colour", [False, True])
def test_dicom_shows_its_own_range(colour: bool) -> None:
    hot = RAMP.copy()
    hot[3, 3] = 60_000
    values, tags = hot, {}
    if colour:
        values = np.repeat(hot, 3, axis=1)
        tags = {"SamplesPerPixel": 3, "PhotometricInterpretation": "RGB", "PlanarConfiguration": 0, "Columns": 32}
    (stored,) = read_dicom(dicom(values, **tags), LIMIT)
    shown = pixels(stored.data).reshape(20, 32, -1)
    assert (shown[3, 3] == 255).all() and shown[0].max() == 13 and not stored.clipped


def test_dicom_without_a_window_is_stretched() -> None:
    (stored,) = read_dicom(dicom(RAMP, StudyInstanceUID="1.2.3", SeriesInstanceUID="1.2.3.4"), LIMIT)
    shown = pixels(stored.data)
    assert (shown[0, 0], shown[0, -1], stored.study, stored.series) == (0, 255, "1.2.3", "1.2.3.4")


def test_dicom_window_rescale_and_monochrome1() -> None:
    # Values −1000 … 2100 after rescaling; the window shows 0 … 1000.
    tags = {"RescaleSlope": 1, "RescaleIntercept": -1000, "WindowCenter": 500, "WindowWidth": 1000}
    (stored,) = read_dicom(dicom(RAMP, **tags), LIMIT)
    shown = pixels(stored.data)[0].astype(int)
    assert list(shown[:10]) == [0] * 10
    assert abs(shown[15] - 127) <= 2
    assert list(shown[21:]) == [255] * 11
    (negative,) = read_dicom(dicom(RAMP, **tags | {"PhotometricInterpretation": "MONOCHROME1"}), LIMIT)
    assert np.abs(pixels(negative.data)[0].astype(int) + shown - 255).max() <= 1


def test_dicom_frames_become_images_of_one_group(home: Any, tmp_path: Path) -> None:
    folder = tmp_path / "scans" / "ct"
    folder.mkdir(parents=True)
    frames = np.random.default_rng(0).integers(0, 4000, (5, 24, 32)).astype(np.int16)
    (folder / "a.dcm").write_bytes(dicom(frames, StudyInstanceUID="1.2.3"))
    dataset = home.bring(folder.parent)
    records = home.records(dataset)
    assert [record.path for record in records] == [f"ct/a.dcm#{number}" for number in range(1, 6)]
    assert {record.group for record in records} == {"1.2.3"}


def test_study_and_series_are_kept_and_a_study_is_never_divided(home: Any, tmp_path: Path) -> None:
    folder = tmp_path / "scans"
    for patient in range(6):
        for view in range(3):
            place = folder / ("ct" if patient % 2 else "mr")
            place.mkdir(parents=True, exist_ok=True)
            frame = np.random.default_rng(patient * 10 + view).integers(0, 4000, (24, 32)).astype(np.int16)
            ids = {"StudyInstanceUID": f"1.2.{patient}", "SeriesInstanceUID": f"1.2.{patient}.{view}"}
            (place / f"{patient}-{view}.dcm").write_bytes(dicom(frame, **ids))
    dataset = home.bring(folder, group_pattern=r"(nothing)")
    with home.database.read() as session:
        rows = session.scalars(select(DatasetImage).where(DatasetImage.dataset_id == dataset.id)).all()
    stem = {row.path: row.path.split("/")[1].removesuffix(".dcm").split("-") for row in rows}
    assert all((row.study, row.series) == (f"1.2.{stem[row.path][0]}", f"1.2.{'.'.join(stem[row.path])}") for row in rows)
    records = home.records(dataset)
    for seed in range(5):
        split = split_records(records, AnnotationKind.SINGLE_LABEL, 30, seed)
        sides = [{records[position].group for position in side} for side in (split.train, split.validation)]
        assert sides[0] and sides[1] and not sides[0] & sides[1]


@pytest.mark.parametrize("cut", [200, 600])
def test_damaged_dicom_is_left_out(home: Any, tmp_path: Path, cut: int, picture: Callable[..., bytes]) -> None:
    folder = tmp_path / "scans" / "ct"
    folder.mkdir(parents=True)
    (folder / "a.dcm").write_bytes(dicom(RAMP)[:cut])
    (folder / "b.png").write_bytes(picture(1))
    dataset = home.bring(folder.parent)
    assert [finding.file for finding in home.findings(dataset) if finding.severity == "error"] == ["ct/a.dcm"]


def test_sixteen_bit_tiff_and_png_keep_their_shades() -> None:
    for suffix in ("TIFF", "PNG"):
        out = BytesIO()
        Image.fromarray(RAMP * 20).save(out, suffix)
        shown = pixels(read_image(out.getvalue(), LIMIT).data)
        assert shown.dtype == np.uint8
        assert (shown[0, 0], shown[0, -1], len(np.unique(shown))) == (0, 255, 32)


@pytest.mark.parametrize("name", ["a.png", "a.tif", "deep.tif"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_turns_pixels_boxes_and_masks_alike(home: Any, tmp_path: Path, orientation: int, name: str) -> None:
    """A bright patch stays under its box and its mask."""
    values = np.zeros((60, 80), np.uint8)
    values[8:24, 10:40] = 255
    exif = Image.Exif()
    exif[0x0112] = orientation
    source = tmp_path / "source"
    source.mkdir()
    if name == "deep.tif":
        (source / name).write_bytes(deep_tiff(np.repeat(values[..., None] * np.uint16(16), 3, axis=2), orientation=orientation))
    else:
        Image.fromarray(values).save(source / name, exif=exif)
    entry = {
        "id": 1,
        "image_id": 1,
        "category_id": 1,
        "bbox": [10, 8, 30, 16],
        "segmentation": {"size": [60, 80], "counts": masks.encode(values)},
    }
    images = [{"id": 1, "file_name": name, "width": 80, "height": 60}]
    (source / "all.json").write_text(json.dumps({"images": images, "annotations": [entry], "categories": [{"id": 1, "name": "patch"}]}))
    dataset = home.bring(source)
    (boxes,), (objects,) = home.records(dataset, 0), home.records(dataset, 1)
    shown = np.asarray(Image.open(BytesIO(home.storage.read(boxes.key))).convert("L"))
    assert shown.shape == ((80, 60) if orientation > 4 else (60, 80))
    ((_, x, y, width, height),) = boxes.value["boxes"]
    expected = np.zeros_like(shown)
    expected[round(y) : round(y + height), round(x) : round(x + width)] = 255
    assert np.array_equal(shown, expected)
    assert np.array_equal(masks.decode(objects.value["objects"][0][1], objects.width, objects.height) * 255, shown)


def test_labels_are_scaled_with_their_image(home: Any, tmp_path: Path) -> None:
    values = np.zeros((40, 8192), np.uint8)
    values[8:24, 1000:3000] = 255
    source = tmp_path / "source"
    source.mkdir()
    Image.fromarray(values).save(source / "a.png")
    (source / "label.csv").write_text("a.png,patch,1000,8,2000,16\n")
    dataset = home.bring(source)
    (record,) = home.records(dataset)
    assert (record.width, record.height, record.value) == (4096, 20, {"boxes": [[0, 500.0, 4.0, 1000.0, 8.0]]})


@pytest.mark.parametrize("suffix", ["JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF"])
@pytest.mark.parametrize("mode", ["L", "RGB", "P", "1"])
def test_every_format_is_stored_as_something_that_everybody_reads(suffix: str, mode: str) -> None:
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (24, 32, 3), dtype=np.uint8)).convert(mode)
    out = BytesIO()
    image.convert("RGB" if suffix in ("JPEG", "WEBP") and mode in ("P", "1") else mode).save(out, suffix)
    stored = read_image(out.getvalue(), LIMIT)
    assert stored.suffix in (".jpg", ".png", ".webp")
    assert Image.open(BytesIO(stored.data)).convert("RGB").size == (stored.width, stored.height) == (32, 24)


@pytest.mark.parametrize(("suffix", "turned"), [("GIF", False), ("PNG", True)])
def test_what_is_transparent_stays_so_where_a_picture_is_encoded_anew(suffix: str, turned: bool) -> None:
    """Else the colour that a palette hides there would be learnt: red here."""
    image = Image.new("P", (24, 32), 1)
    image.putpalette([0, 0, 255, 255, 0, 0])
    image.paste(0, (0, 0, 12, 32))
    exif = Image.Exif()
    exif[0x0112] = 6
    out = BytesIO()
    image.save(out, suffix, transparency=1, **({"exif": exif} if turned else {}))
    stored = read_image(out.getvalue(), LIMIT)
    with Image.open(BytesIO(stored.data)) as opened:
        seen = np.asarray(flattened(opened))
    assert {tuple(colour) for colour in seen.reshape(-1, 3).tolist()} == {(0, 0, 255), (255, 255, 255)}


def test_windows_and_rescaling_of_enhanced_multi_frame_objects() -> None:
    def group(**tags: Any) -> pydicom.Dataset:
        item = pydicom.Dataset()
        for name, value in tags.items():
            setattr(item, name, value)
        return item

    shared = group(PixelValueTransformationSequence=[group(RescaleSlope="2", RescaleIntercept="-1000")])
    frames = [group(FrameVOILUTSequence=[group(WindowCenter=center, WindowWidth="100")]) for center in ("0", "2000")]
    file = dicom(np.stack([RAMP, RAMP]), SharedFunctionalGroupsSequence=[shared], PerFrameFunctionalGroupsSequence=frames)
    first, second = (pixels(one.data)[0] for one in read_dicom(file, LIMIT))
    # Stored 400, 500, 600 are -200, 0 and 200: below, in the middle of and above the first frame's window; 1500 is 2000.
    assert first[4] == 0 and 120 <= first[5] <= 135 and first[6] == 255
    assert second[14] == 0 and 120 <= second[15] <= 135 and second[16] == 255


def test_dicom_of_before_its_mark(home: Any, tmp_path: Path) -> None:
    old = without_mark(dicom(RAMP))
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "old.dcm").write_bytes(old)
    (tmp_path / "in" / "none.dcm").write_bytes(b"no dicom at all" * 20)
    dataset = home.bring(tmp_path / "in")
    assert dataset.image_count == 1 and home.finding(dataset, "damaged-image").file == "none.dcm"


@pytest.mark.parametrize("name", ["MR_small_jpeg_ls_lossless", "SC_rgb_jpeg_gdcm"])
def test_compressions_of_hospital_archives(name: str) -> None:
    from pydicom.data import get_testdata_file

    path = get_testdata_file(f"{name}.dcm", download=False)
    (stored,) = read_dicom(Path(str(path)).read_bytes(), LIMIT)
    assert pixels(stored.data).std() > 20


def test_every_file_that_pydicom_is_tested_with_is_read_or_refused() -> None:
    read = 0
    for path in sorted((Path(pydicom.__file__).parent / "data" / "test_files").rglob("*.dcm")):
        try:
            read += len(read_dicom(path.read_bytes(), LIMIT)) > 0
        except ImageError as error:
            assert error.what and error.remedy and error.code
    assert read > 35
