"""From the bytes of one image file to what is stored: checked to the last pixel, upright, 8 bits a channel, 16–4,096 px a side."""

import hashlib
import math
import warnings
from dataclasses import dataclass, replace
from io import BytesIO

import numpy as np
from PIL import (  # the plugins register themselves; named here so that Pillow need not load those of fifty other formats
    BmpImagePlugin,  # noqa: F401
    GifImagePlugin,  # noqa: F401
    Image,
    ImageFile,
    JpegImagePlugin,  # noqa: F401
    MpoImagePlugin,  # noqa: F401
    PngImagePlugin,  # noqa: F401
    PpmImagePlugin,  # noqa: F401
    TiffImagePlugin,
    UnidentifiedImageError,
    WebPImagePlugin,  # noqa: F401
)

from core.errors import BadDataError

SMALLEST_SIDE = 16
LARGEST_SIDE = 4096
MOST_BYTES = 512_000_000  # of one image file

_FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF", "PPM")
_KEPT = {"JPEG": ".jpg", "MPO": ".jpg", "PNG": ".png", "WEBP": ".webp"}  # stored as they came, if nothing must be done to them
_SEVERAL = frozenset({"TIFF", "GIF", "WEBP", "PNG"})  # may hold several pictures; that of MPO are small copies of its first one
_KEPT_MODES = frozenset({"L", "RGB", "RGBA", "P", "LA", "1"})
_DEEP_GREY = frozenset({"I;16", "I;16B", "I;16L", "I;16N", "I", "F"})
_ORIENTATION = 0x0112

# The size is checked here against the settings before a pixel is decoded; Pillow's own limit is global and lower.
Image.MAX_IMAGE_PIXELS = None
ImageFile.LOAD_TRUNCATED_IMAGES = False
# Pillow warns of EXIF and palette oddities that change no pixel.
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")


class ImageError(BadDataError):
    """An image that cannot be used. `code` is that of the finding it becomes."""

    def __init__(self, code: str, what: str, remedy: str) -> None:
        super().__init__(what, remedy)
        self.code = code


@dataclass(frozen=True, slots=True)
class StoredImage:
    """An image ready to be stored.

    `width` × `height` are those of the stored picture, `source_width` × `source_height` of the file before its EXIF `orientation`
    (1–8) was applied.
    `data` are the bytes to store and `sha256` the hash of its content; `scale` what was done to its sides (1 = nothing).
    """

    data: bytes
    suffix: str
    width: int
    height: int
    source_width: int
    source_height: int
    orientation: int
    scale: float
    sha256: str
    study: str = ""  # DICOM study and series, by their unique ids
    series: str = ""
    frame: int = -1  # number of the frame in a file of several, -1 = the only one
    frames: int = 1  # pictures in the file, where only the first of several is used
    clipped: bool = False  # whether a few values of more than 8 bits lay far outside the range of all others

    @property
    def upright_source_size(self) -> tuple[int, int]:
        """Width and height of the file's own picture, turned as it is to be looked at: larger than the stored one's where `scale` is below 1."""
        size = self.source_width, self.source_height
        return size if self.orientation < 5 else size[::-1]


# How channels of 16 bits are read by Pillow, and as what the same bytes give the lower ones: of grey with alpha each byte as a channel. What
# libtiff unpacks has the order of the machine, N, which is L.
_OTHER_BYTES = {
    f"{channels};16{order}": f"{channels};16{other}" for channels in ("RGB", "RGBA", "RGBX") for order, other in ("BL", "LB", "NB")
}
_OTHER_BYTES["LA;16B"] = "RGBA"
# Grey values of big-endian TIFFs whose order Pillow does not correct where libtiff has unpacked them.
_MISREAD = frozenset({"I;16BS", "I;32BS", "F;32BF"})


def read_image(data: bytes, max_pixels: int) -> StoredImage:
    """Check and normalise one image file.

    Raises:
        ImageError: when it is damaged, of an unknown format, too small, or a pixel bomb.
    """
    try:
        opened = Image.open(BytesIO(data), formats=_FORMATS)
        image: Image.Image = opened
        _check_size(image.width, image.height, max_pixels)
        width, height = image.size
        image_format = image.format or ""
        _refuse_misread(opened)
        lower = _lower_bytes(opened, data)  # before anything loads it, as looking for EXIF does
        orientation = int(image.getexif().get(_ORIENTATION, 1)) if image_format != "BMP" else 1
        if image_format == "JPEG" and orientation == 1 and image.mode in ("L", "RGB") and max(width, height) <= LARGEST_SIDE:
            # It is stored as it came and nobody needs its pixels here: the whole stream is read and checked, but drawn at an eighth.
            image.draft(image.mode, (width // 8, height // 8))
            image.load()
            return StoredImage(data, ".jpg", width, height, width, height, 1, 1.0, hashlib.sha256(data).hexdigest())
        frames = int(getattr(image, "n_frames", 1)) if image_format in _SEVERAL else 1
        image.load()
        clipped = False
        if lower is not None or image.mode in _DEEP_GREY:
            image, clipped = _in_eight_bits(image, lower)
            image_format = "" if image_format == "PNG" else image_format  # not stored as it came
    except ImageError:
        raise
    except UnidentifiedImageError as error:
        if data.startswith((b"II", b"MM")):
            raise ImageError(
                "damaged-image",
                "The TIFF is damaged, or its kind of pixels is not read.",
                "Colours are read with 8 or 16 bits a channel and without sign, grey also with more; convert it, or take it out.",
            ) from error
        raise ImageError(
            "damaged-image",
            "The file is no image that can be read.",
            "JPEG, PNG, WebP, BMP, TIFF and DICOM are read; convert it, or take it out.",
        ) from error
    except (
        OSError,
        SyntaxError,
        ValueError,
        TypeError,
        EOFError,
        OverflowError,
        IndexError,
        KeyError,
        AttributeError,
        RuntimeError,
        MemoryError,
        Image.DecompressionBombError,
    ) as error:
        # What Pillow's decoders raise on damaged files is not one family.
        reason = str(error).replace("<_io.BytesIO object", "the file <").split("<", 1)[0].strip() or type(error).__name__
        raise ImageError("damaged-image", f"The image cannot be decoded ({reason}).", "Save it again, or take it out.") from error
    if orientation not in range(1, 9):
        orientation = 1
    if image_format == "TIFF":  # turned by Pillow already
        width, height = image.size if orientation < 5 else image.size[::-1]
    stored = _normalised(image, data, image_format, width, height, orientation)
    return replace(stored, frames=frames, clipped=clipped) if frames > 1 or clipped else stored


def is_dicom(data: bytes) -> bool:
    """Whether the bytes begin as a DICOM file does."""
    return data[128:132] == b"DICM"


def store_picture(image: Image.Image, *, study: str = "", series: str = "", frame: int = -1) -> StoredImage:
    """An image that was made here (a DICOM frame) as it is stored: PNG, scaled down where it is too large."""
    width, height = image.size
    scale = min(1.0, LARGEST_SIDE / max(width, height))
    if scale < 1:
        image = _scaled(image, scale)
    data = _encode(image, "PNG")
    sha256 = hashlib.sha256(data).hexdigest()
    return StoredImage(data, ".png", image.width, image.height, width, height, 1, scale, sha256, study, series, frame)


def check_size(width: int, height: int, max_pixels: int) -> None:
    """Refuse images that are too small to learn from, or so large that decoding them is an attack.

    Raises:
        ImageError: naming the size and the limit.
    """
    _check_size(width, height, max_pixels)


def _check_size(width: int, height: int, max_pixels: int) -> None:
    if width * height > max_pixels:
        raise ImageError(
            "too-many-pixels",
            f"The image has {width} × {height} px, more than the {max_pixels:,} pixels allowed.",
            "Scale it down, or raise STATIONMASTER_MAX_IMAGE_PIXELS.",
        )
    if min(width, height) < SMALLEST_SIDE:
        raise ImageError(
            "too-small", f"The image has {width} × {height} px; a side has at least {SMALLEST_SIDE} px.", "Take it out, or enlarge it."
        )


def _normalised(image: Image.Image, data: bytes, image_format: str, width: int, height: int, orientation: int) -> StoredImage:
    scale = min(1.0, LARGEST_SIDE / max(width, height))
    suffix = _KEPT.get(image_format, "")
    if (
        suffix
        and scale == 1
        and orientation == 1
        and image.mode in _KEPT_MODES
        and not (image_format == "MPO" and not data.startswith(b"\xff\xd8"))
    ):
        return StoredImage(data, suffix, width, height, width, height, 1, 1.0, hashlib.sha256(data).hexdigest())
    if "transparency" in image.info:  # of a palette, or one colour: lost where the picture is encoded anew
        image = image.convert("RGBA")
    picture = image if image.mode in _KEPT_MODES else image.convert("RGB")
    if scale < 1:
        picture = _scaled(picture, scale)
    if orientation != 1 and image_format != "TIFF":
        picture = _upright(picture, orientation)
    stored_as = "JPEG" if image_format in ("JPEG", "MPO") else "PNG"
    encoded = _encode(picture, stored_as)
    return StoredImage(
        encoded, _KEPT[stored_as], picture.width, picture.height, width, height, orientation, scale, hashlib.sha256(data).hexdigest()
    )


def _raw_mode(image: ImageFile.ImageFile) -> str:
    """As what Pillow takes the bytes of a PNG or TIFF; of other formats nothing."""
    if image.format not in ("PNG", "TIFF") or not image.tile:
        return ""
    args = image.tile[0].args
    return str(args[0] if isinstance(args, tuple) else args)


def _refuse_misread(image: ImageFile.ImageFile) -> None:
    """Refuse TIFFs of which Pillow makes another picture, or the first channel alone, without a word."""
    if not isinstance(image, TiffImagePlugin.TiffImageFile):
        return
    tags = image.tag_v2
    apart = tags.get(TiffImagePlugin.PLANAR_CONFIGURATION) == 2 and tags.get(TiffImagePlugin.SAMPLESPERPIXEL, 1) > 1
    if (apart and max(tags.get(TiffImagePlugin.BITSPERSAMPLE, (1,))) > 8) or (
        image.tile[0].codec_name == "libtiff" and _raw_mode(image) in _MISREAD
    ):
        raise ImageError(
            "damaged-image",
            "The TIFF holds its values of more than 8 bits in a way that is not read: channels in separate planes, or big-endian and compressed.",
            "Save it with the channels of a pixel side by side (planar configuration 1) and uncompressed, or take it out.",
        )


def _lower_bytes(image: ImageFile.ImageFile, data: bytes) -> np.ndarray | None:
    """Of a PNG or TIFF with 16 bits for each of several channels the lower eight of red, green and blue, [height, width, 3]; None of any other image.

    Pillow reads the upper ones alone.
    """
    other = _OTHER_BYTES.get(_raw_mode(image))
    if other is None:
        return None
    again = Image.open(BytesIO(data), formats=("PNG", "TIFF"))
    again.tile = [tile._replace(args=(other, *tile.args[1:]) if isinstance(tile.args, tuple) else other) for tile in again.tile]
    lower = np.asarray(again)
    return lower[..., [1, 1, 1]] if other == "RGBA" else lower[..., :3]


def _in_eight_bits(image: Image.Image, lower: np.ndarray | None) -> tuple[Image.Image, bool]:
    """An image of more than 8 bits a channel with 8, and whether outliers were clipped; of colours `lower` holds the lower bits.

    Values are stretched linearly from the smallest to the largest in the image, colours together: few cameras and scanners use the whole range
    of their container, and cutting off the lower byte would leave them black. Of how transparent they are the upper bits will do.
    """
    read = np.asarray(image.convert("I") if image.mode == "I;16B" else image)
    values = read if lower is None else read[..., :3].astype(np.uint16) * 256 + lower
    limits = outlier_limits(values)
    shown = stretch(values, limits)
    return Image.fromarray(shown if lower is None else np.concatenate([shown, read[..., 3:]], axis=2)), limits is not None


def flattened(image: Image.Image) -> Image.Image:
    """As RGB, what is transparent white: so networks see an image, and so people are to see it."""
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        layered = image.convert("RGBA")
        paper = Image.new("RGBA", layered.size, "white")
        paper.alpha_composite(layered)
        return paper.convert("RGB")
    return image.convert("RGB")


# Of so many pixels one may be an outlier. A dead or padding pixel at the end of the container's range would leave the rest a few grey levels.
_OUTLIER_IN = 10_000


def outlier_limits(values: np.ndarray) -> tuple[float, float] | None:
    """To what values of more than 8 bits, [height, width] or with channels, are to be clipped; None where nothing is.

    Beyond `low` and beyond `high` lies one pixel of each 10,000, and one at least. An end of the range that is farther from them than they are
    from each other is made of outliers; where they are equal nothing is, so that a few bright spots on black stay.
    """
    ordered = np.sort(_numbers(values), axis=None)  # selecting takes ten times as long where many are equal, as black is
    least, most = float(ordered[0]), float(ordered[-1])
    if _fit_eight_bits(values, least, most):
        return None
    pixels = values.shape[0] * values.shape[1]
    few = math.ceil(pixels / _OUTLIER_IN) * (values.size // pixels)
    low, high = float(ordered[few]), float(ordered[-1 - few])
    limits = (low if low - least > high - low > 0 else least, high if most - high > high - low > 0 else most)
    return None if limits == (least, most) else limits


def stretch(values: np.ndarray, limits: tuple[float, float] | None = None) -> np.ndarray:
    """Values, clipped to `limits`, stretched linearly to 0–255, those that are no number black; a flat picture keeps its place in the 8-bit range."""
    numbers = _numbers(values)
    if limits is not None:
        np.clip(numbers, *limits, out=numbers)
    low, high = float(numbers.min()), float(numbers.max())
    if high <= low:
        return np.full(numbers.shape, int(min(255.0, max(0.0, low))), np.uint8)
    if _fit_eight_bits(values, low, high):
        return numbers.astype(np.uint8)
    return ((numbers - low) * (255 / (high - low)) + 0.5).astype(np.uint8)


def _numbers(values: np.ndarray) -> np.ndarray:
    """A copy of the values, 0 for what is no number."""
    return np.nan_to_num(values.astype(np.float32), copy=False, nan=0.0, posinf=0.0, neginf=0.0)


def _fit_eight_bits(values: np.ndarray, low: float, high: float) -> bool:
    return low >= 0 and high <= 255 and not np.issubdtype(values.dtype, np.floating)


def _scaled(image: Image.Image, scale: float) -> Image.Image:
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    if image.mode in ("P", "1"):
        image = image.convert("RGBA" if "transparency" in image.info else "RGB")
    return image.resize(size, Image.Resampling.LANCZOS, reducing_gap=3)


TRANSPOSE = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def _upright(image: Image.Image, orientation: int) -> Image.Image:
    return image.transpose(TRANSPOSE[orientation])


def _encode(image: Image.Image, image_format: str) -> bytes:
    out = BytesIO()
    if image_format == "JPEG":
        if image.mode not in ("L", "RGB"):
            image = image.convert("RGB")
        image.save(out, "JPEG", quality=95, subsampling=0)
    else:
        image.info.clear()
        image.save(out, "PNG", compress_level=3)
    return out.getvalue()
