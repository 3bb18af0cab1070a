"""Fitting annotations to the image that is stored: turned upright with it, scaled with it, cut at its edges, checked."""

import math
from collections.abc import Container, Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import numpy as np
from PIL import Image

from core.datasets import masks
from core.datasets.findings import Finding
from core.datasets.images import MOST_BYTES, TRANSPOSE, StoredImage
from core.datasets.parsed import NO_CLASS, Geometry, MaskFile, ParsedImage, ParsedSet, Polygons, RawValue, Rle
from core.datasets.source import Source
from core.vocabulary import AnnotationKind

_NEAR, _CLEAR = 24, 0.95  # of the grey values of a JPEG mask so many at either end count, and at least that share lies there
_SLACK = 1.0  # px by which boxes may stick out of the image without a word: tools round differently


@dataclass(frozen=True)
class Frame:
    """How coordinates of a source image become those of the stored one: turned upright from `width` × `height`, then scaled."""

    width: int
    height: int
    orientation: int
    stored_width: int
    stored_height: int

    @property
    def shown(self) -> tuple[int, int]:
        """Width and height once turned upright."""
        return (self.height, self.width) if self.orientation > 4 else (self.width, self.height)

    @property
    def area_factor(self) -> float:
        """What an area of the source image has to be multiplied by."""
        return self.stored_width * self.stored_height / (self.width * self.height)

    @property
    def changes(self) -> bool:
        """Whether anything moves at all."""
        return self.orientation != 1 or self.shown != (self.stored_width, self.stored_height)

    def point(self, x: float, y: float) -> tuple[float, float]:
        """Where a point of the source image lies in the stored one."""
        w, h = self.width, self.height
        right, down = {
            1: (x, y),
            2: (w - x, y),
            3: (w - x, h - y),
            4: (x, h - y),
            5: (y, x),
            6: (h - y, x),
            7: (h - y, w - x),
            8: (y, w - x),
        }[self.orientation]
        shown_width, shown_height = self.shown
        return right * self.stored_width / shown_width, down * self.stored_height / shown_height

    def box(self, x: float, y: float, width: float, height: float) -> tuple[float, float, float, float]:
        """Where a box lies."""
        if not self.changes:
            return x, y, width, height
        x0, y0 = self.point(x, y)
        x1, y1 = self.point(x + width, y + height)
        return min(x0, x1), min(y0, y1), abs(x1 - x0), abs(y1 - y0)


def fit(
    source: Source, image: ParsedImage, sets: list[ParsedSet], stored: StoredImage, findings: list[Finding]
) -> list[dict[str, Any] | None]:
    """The value of each annotation set for one stored image, None where a set says nothing of it."""
    values: list[dict[str, Any] | None] = []
    frame: Frame | None = None
    for place, (raw, parsed_set) in enumerate(zip(image.values, sets, strict=True)):
        ignored = image.ignored[place] if image.ignored else ()
        areas = image.areas[place] if image.areas else ()
        ids = image.ids[place] if image.ids else ()
        if raw is None:
            values.append(None)
        elif parsed_set.kind is AnnotationKind.SINGLE_LABEL:
            values.append({"label": raw})
        elif parsed_set.kind is AnnotationKind.MULTI_LABEL:
            values.append({"labels": sorted(set(raw))})
        else:
            frame = frame or _frame(image, sets, stored, findings)
            if parsed_set.kind is AnnotationKind.BOXES:
                boxes, kept = _boxes(raw, ids, parsed_set, image, frame, findings)
                others, _ = _boxes(ignored, (), parsed_set, image, frame, findings)
                own = [width * height for _, _, _, width, height in boxes]
                values.append({"boxes": boxes, **_areas(areas, kept, own, frame), **({"ignored": others} if others else {})})
            else:
                values.append(_masks(source, raw, ids, ignored, areas, parsed_set, image, frame, findings))
    return values


def _frame(image: ParsedImage, sets: list[ParsedSet], stored: StoredImage, findings: list[Finding]) -> Frame:
    """Whether the annotations mean the image as it lies in the file or as it is shown, which EXIF orientation makes two things.

    The size that the annotations declare tells; else whether the boxes fit. Where neither does, they are taken to mean the pixels of
    the file and are turned with them.
    """
    width, height, orientation = stored.source_width, stored.source_height, stored.orientation
    if orientation == 1:
        return Frame(width, height, 1, stored.width, stored.height)
    shown = (height, width) if orientation > 4 else (width, height)
    declared = (image.width, image.height)
    upright = image.upright
    if not upright and shown != (width, height):
        if declared == shown:
            upright = True
        elif declared != (width, height):
            upright = not _boxes_fit(image, sets, width, height) and _boxes_fit(image, sets, *shown)
    elif not upright and not any(parsed_set.normalised for parsed_set in sets):
        findings.append(
            Finding(
                "warning",
                "orientation-assumed",
                image.annotation_file or image.path,
                f"{image.path} is turned by its EXIF orientation ({orientation}); its annotations were turned with it.",
                "Look at the preview; if they were drawn on the turned image, save the image upright.",
            )
        )
    if upright:
        return Frame(*shown, 1, stored.width, stored.height)
    return Frame(width, height, orientation, stored.width, stored.height)


def _boxes_fit(image: ParsedImage, sets: list[ParsedSet], width: int, height: int) -> bool:
    return all(
        x + w <= width + _SLACK and y + h <= height + _SLACK
        for raw, parsed_set in zip(image.values, sets, strict=True)
        if parsed_set.kind is AnnotationKind.BOXES and raw is not None and not parsed_set.normalised
        for _, x, y, w, h, _ in raw
    )


def _areas(given: Sequence[float], kept: Sequence[int], own: Sequence[float], frame: Frame) -> dict[str, list[float]]:
    """The `given` areas of the objects that were `kept`, where they tell anything else than the objects' `own`."""
    if not any(given):
        return {}
    told = [round(given[place] * frame.area_factor, 4) or area for place, area in zip(kept, own, strict=True)]
    return {} if all(math.isclose(one, area, rel_tol=1e-6) for one, area in zip(told, own, strict=True)) else {"areas": told}


def _of(ids: Sequence[int | str | None], place: int) -> str:
    """Which annotation of the source an object is, where that has a name for it: in a file of one line its line tells nothing."""
    return f" of the annotation {str(ids[place])[:40]}" if ids and ids[place] is not None else ""


def _boxes(
    raw: RawValue, ids: Sequence[int | str | None], parsed_set: ParsedSet, image: ParsedImage, frame: Frame, findings: list[Finding]
) -> tuple[list[list[Any]], list[int]]:
    """The boxes that can be used, and the place of each in `raw`."""
    boxes: list[list[Any]] = []
    kept: list[int] = []
    file = image.annotation_file or image.path
    size = f"{frame.width} × {frame.height} px"
    for place, (number, x, y, width, height, line) in enumerate(raw):
        if parsed_set.normalised:
            x, y, width, height = x * frame.width, y * frame.height, width * frame.width, height * frame.height
        what = f"The {parsed_set.classes[number]} box{_of(ids, place)} on {image.path}"
        if not all(map(math.isfinite, (x, y, width, height))) or width <= 0 or height <= 0:
            findings.append(Finding("error", "box-without-area", file, f"{what} has no area.", "Draw it anew, or take it out.", line))
            continue
        left, top = max(x, 0.0), max(y, 0.0)
        right, bottom = min(x + width, float(frame.width)), min(y + height, float(frame.height))
        if right <= left or bottom <= top:
            message = f"{what} lies outside the image ({size})."
            findings.append(Finding("error", "box-outside", file, message, "Correct its coordinates, or take it out.", line))
            continue
        if max(left - x, top - y, x + width - right, y + height - bottom) > _SLACK:
            message = f"{what} sticks out of the image ({size}) and is cut at its edge."
            findings.append(Finding("warning", "box-clipped", file, message, "Check its coordinates.", line))
        if left != x or top != y or x + width > frame.width or y + height > frame.height:
            x, y, width, height = left, top, right - left, bottom - top
        boxes.append([number, *frame.box(x, y, width, height)])
        kept.append(place)
    return boxes, kept


class _MaskError(Exception):
    """Why a mask cannot be used: code and message of the finding it becomes, and its remedy."""

    def __init__(self, code: str, message: str, remedy: str) -> None:
        super().__init__(message)
        self.code, self.message, self.remedy = code, message, remedy


def _masks(
    source: Source,
    raw: RawValue,
    ids: Sequence[int | str | None],
    ignored: RawValue,
    areas: Sequence[float],
    parsed_set: ParsedSet,
    image: ParsedImage,
    frame: Frame,
    findings: list[Finding],
) -> dict[str, Any] | None:
    pictures: dict[str, np.ndarray] = {}
    failed: set[str] = set()
    found, kept = _outlines(source, raw, ids, parsed_set, image, frame, findings, pictures, failed)
    if failed and not found:
        return None  # a mask file that cannot be used says nothing; "no objects" would be a claim
    others, _ = _outlines(source, ignored, (), parsed_set, image, frame, findings, pictures, failed)
    size = (frame.stored_width, frame.stored_height)
    if parsed_set.kind is AnnotationKind.INSTANCES:
        told = _areas(areas, kept, [masks.area(rle, *size) for _, rle in found] if any(areas) else [], frame)
        return {"objects": found, **told, **({"ignored": others} if others else {})}
    value: dict[str, Any] = {"masks": masks.by_class(found, *size)}
    if others:
        value["ignored"] = masks.unite([rle for _, rle in others], *size)
    return value


def _outlines(
    source: Source,
    raw: RawValue,
    ids: Sequence[int | str | None],
    parsed_set: ParsedSet,
    image: ParsedImage,
    frame: Frame,
    findings: list[Finding],
    pictures: dict[str, np.ndarray],
    failed: set[str],
) -> tuple[list[list[Any]], list[int]]:
    """Class and encoding of the masks that can be used, and the place of each in `raw`.

    `pictures` are mask pictures that have been read already, `failed` those that could not be; both grow.
    """
    found: list[list[Any]] = []
    kept: list[int] = []
    drawn = _outlines_at_once(raw, parsed_set, frame)
    for place, ((number, geometry, line), ready) in enumerate(zip(raw, drawn, strict=True)):
        if ready is not None and ready[1]:
            found.append([number, ready[0]])
            kept.append(place)
            continue
        file = geometry.path if isinstance(geometry, MaskFile) else image.annotation_file or image.path
        if file in failed and isinstance(geometry, MaskFile):
            continue
        label = parsed_set.classes[number] if number != NO_CLASS else "ignored"
        try:
            rle = _encoded(source, geometry, parsed_set, frame, pictures)
            if masks.area(rle, frame.stored_width, frame.stored_height) == 0:
                if number == NO_CLASS:
                    continue  # a thin border may vanish where the image is scaled down
                raise _MaskError("mask-without-area", "The {label} mask{of} on {image} covers no pixel.", "Draw it anew, or take it out.")
        except _MaskError as error:
            if isinstance(geometry, MaskFile):
                failed.add(file)
            message = error.message
            for name, text in (("{of}", _of(ids, place)), ("{label}", label), ("{image}", image.path)):
                message = message.replace(name, text)
            findings.append(Finding("error", error.code, file, message, error.remedy, line))
            continue
        found.append([number, rle])
        kept.append(place)
    return found, kept


def _outlines_at_once(raw: RawValue, parsed_set: ParsedSet, frame: Frame) -> list[tuple[str, int] | None]:
    """Encoding and area of the objects that are one polygon each, where nothing has to be done to their points."""
    ready: list[tuple[str, int] | None] = [None] * len(raw)
    if frame.changes or parsed_set.normalised:
        return ready
    places = [place for place, (_, geometry, _) in enumerate(raw) if isinstance(geometry, Polygons) and len(geometry.rings) == 1]
    found = masks.from_outlines([raw[place][1].rings[0] for place in places], frame.stored_width, frame.stored_height)
    for place, one in zip(places, found or (), strict=False):
        ready[place] = one
    return ready


def _encoded(source: Source, geometry: Geometry, parsed_set: ParsedSet, frame: Frame, pictures: dict[str, np.ndarray]) -> str:
    """The geometry as an encoding over the stored image."""
    size = (frame.stored_width, frame.stored_height)
    if isinstance(geometry, Polygons):
        rings: list[list[float]] = []
        for ring in geometry.rings:
            points = list(ring)
            if parsed_set.normalised:
                points = [value * (frame.height if place % 2 else frame.width) for place, value in enumerate(points)]
            if frame.changes:
                points = [side for x, y in zip(points[0::2], points[1::2], strict=False) for side in frame.point(x, y)]
            rings.append(points)
        try:
            return masks.from_polygons(rings, *size)
        except ValueError as error:
            raise _MaskError(
                "bad-polygon", f"The {{label}} polygon{{of}} on {{image}} cannot be used: {error}.", "Draw it anew, or take it out."
            ) from error
    if isinstance(geometry, Rle):
        return _from_rle(geometry, frame, size)
    if geometry.path not in pictures:
        pictures[geometry.path] = _mask_picture(source, geometry, frame)
    return masks.encode(pictures[geometry.path] == geometry.value)


def _from_rle(geometry: Rle, frame: Frame, size: tuple[int, int]) -> str:
    given = (geometry.width, geometry.height)
    shown = frame.shown
    # Masks may be coded smaller than their image (Open Images does so): then they are stretched, if the shape is the same.
    same_shape = abs(given[0] * frame.height - given[1] * frame.width) <= max(frame.width, frame.height) / 2
    if given != (frame.width, frame.height) and given != shown and not same_shape:
        raise _MaskError(
            "mask-size",
            f"The {{label}} mask{{of}} is {given[0]} × {given[1]} px, {{image}} {frame.width} × {frame.height} px.",
            "Make the mask as large as its image.",
        )
    try:
        rle = masks.from_counts(geometry.counts, *given)
    except ValueError as error:
        raise _MaskError("bad-mask", f"The {{label}} mask{{of}} on {{image}} cannot be used: {error}.", "Write it anew.") from error
    already_upright = frame.orientation > 4 and given == shown and given != (frame.width, frame.height)
    transpose = None if already_upright else TRANSPOSE.get(frame.orientation)
    if transpose is None and given == size:
        return rle
    return masks.transformed(rle, *given, transpose, size)


def _mask_picture(source: Source, geometry: MaskFile, frame: Frame) -> np.ndarray:
    """The values of a mask picture, fitted to the stored image without mixing them."""
    try:
        picture = open_mask(source, geometry.path, {(frame.width, frame.height), frame.shown})
    except MaskSizeError as error:
        raise _MaskError(
            "mask-size", f"The mask is {error}, {{image}} {frame.width} × {frame.height} px.", "Make the mask as large as its image."
        ) from error
    except (OSError, ValueError, KeyError, SyntaxError) as error:
        raise _MaskError("damaged-mask", f"The mask of {{image}} cannot be decoded ({error}).", "Save it again as PNG.") from error
    if frame.orientation in TRANSPOSE and picture.size == (frame.width, frame.height):
        picture = picture.transpose(TRANSPOSE[frame.orientation])
    if picture.size != (frame.stored_width, frame.stored_height):
        picture = picture.resize((frame.stored_width, frame.stored_height), Image.Resampling.NEAREST)
    return mask_values(picture, colour=geometry.colour)


class MaskSizeError(ValueError):
    """A mask picture that is not as large as its image; says how large it is."""


class BlurredMaskError(ValueError):
    """A mask picture of several values or colours that was saved as JPEG, after which nobody can tell which they were."""


def open_mask(source: Source, path: str, sizes: Container[tuple[int, int]] | None = None) -> Image.Image:
    """A mask picture, decoded: where `sizes` (width, height) are given, only if it has one of these.

    Of JPEG, which blurs values, only masks of one class can be used: what is near to black is 0, what is near to white 255.

    Raises:
        MaskSizeError: when it has another size.
        BlurredMaskError: when it is a JPEG of several values.
        OSError, ValueError, KeyError, SyntaxError: when it cannot be decoded.
    """
    data = source.read(path, MOST_BYTES)
    try:
        picture: Image.Image = Image.open(BytesIO(data), formats=("PNG", "TIFF", "BMP", "GIF", "JPEG"))
        if sizes is not None and picture.size not in sizes:
            raise MaskSizeError(f"{picture.width} × {picture.height} px")
        if picture.width * picture.height > 400_000_000:
            raise ValueError(f"it has {picture.width} × {picture.height} px")
        picture.load()
    except (OSError, SyntaxError) as error:  # Pillow speaks of objects of Python and of the parts of its files
        raise OSError("it is no picture that can be read, or it is cut off") from error
    if picture.format != "JPEG":
        return picture
    grey = picture.convert("L")
    counts = grey.histogram()
    if sum(counts[:_NEAR]) + sum(counts[-_NEAR:]) < _CLEAR * sum(counts):
        raise BlurredMaskError("JPEG does not keep values and colours exactly, so it can hold one class only, as black and white")
    return grey.point([0] * 128 + [255] * 128)


def mask_values(picture: Image.Image, *, colour: bool) -> np.ndarray:
    """The value of each pixel: palette index or grey value, or the RGB colour as 0xRRGGBB."""
    if colour:
        rgb = np.asarray(picture.convert("RGB")).astype(np.int32)
        packed: np.ndarray = (rgb[..., 0] << 16) | (rgb[..., 1] << 8) | rgb[..., 2]
        return packed
    if picture.mode in ("RGB", "RGBA", "LA", "CMYK", "YCbCr"):
        picture = picture.convert("L")
    values = np.asarray(picture)
    return values if values.dtype == np.uint8 else values.astype(np.int32)  # large masks would be four times as large
