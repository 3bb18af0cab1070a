"""From one image as a source names it to the row that is stored: pixels checked and normalised, annotations fitted to them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from core.datasets.findings import Finding
from core.datasets.images import MOST_BYTES, ImageError, StoredImage, read_image
from core.datasets.parsed import ParsedImage, ParsedSet, RawValue
from core.datasets.source import Source
from core.vocabulary import AnnotationKind

_SLACK = 1.0  # px by which boxes may stick out of the image without a word: tools round differently


@dataclass(slots=True)
class Finished:
    """One stored image of a source, with the value of each annotation set (None: not part of it)."""

    parsed: ParsedImage
    stored: StoredImage
    values: list[dict[str, Any] | None]


@dataclass(slots=True)
class Outcome:
    """What became of one image of a source: none, one or (frames) several stored images, and what was noticed."""

    finished: list[Finished] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)


@dataclass(frozen=True)
class Frame:
    """How coordinates of a source image become those of the stored one: turned upright from `width` × `height`, then scaled."""

    width: int
    height: int
    orientation: int
    scale_x: float
    scale_y: float
    stored_width: int
    stored_height: int

    @property
    def changes(self) -> bool:
        """Whether anything moves at all."""
        return self.orientation != 1 or self.scale_x != 1 or self.scale_y != 1

    def point(self, x: float, y: float) -> tuple[float, float]:
        """Where a point of the source image lies in the stored one."""
        w, h = self.width, self.height
        upright = {
            1: (x, y),
            2: (w - x, y),
            3: (w - x, h - y),
            4: (x, h - y),
            5: (y, x),
            6: (h - y, x),
            7: (h - y, w - x),
            8: (y, w - x),
        }[self.orientation]
        return upright[0] * self.scale_x, upright[1] * self.scale_y

    def box(self, x: float, y: float, width: float, height: float) -> tuple[float, float, float, float]:
        """Where a box lies."""
        if not self.changes:
            return x, y, width, height
        x0, y0 = self.point(x, y)
        x1, y1 = self.point(x + width, y + height)
        return min(x0, x1), min(y0, y1), abs(x1 - x0), abs(y1 - y0)


def finish(source: Source, image: ParsedImage, sets: Sequence[ParsedSet], max_pixels: int) -> Outcome:
    """Read, check and normalise one image and fit its annotations to it. Never raises for bad data: it says what is wrong."""
    outcome = Outcome()
    try:
        stored = _load(source, image, max_pixels)
    except ImageError as error:
        outcome.findings.append(Finding("error", error.code, image.path, error.what, error.remedy))
        return outcome
    for one in stored:
        if one.scale != 1:
            outcome.findings.append(
                Finding(
                    "warning",
                    "scaled-down",
                    image.path,
                    f"The image has {one.source_width} × {one.source_height} px and is stored with {one.width} × {one.height} px, "
                    "its labels with it.",
                    "Nothing needs to be done.",
                )
            )
        values = [
            None if raw is None else _fit(raw, parsed_set, image, one, outcome.findings)
            for raw, parsed_set in zip(image.values, sets, strict=True)
        ]
        outcome.finished.append(Finished(image, one, values))
    return outcome


def _load(source: Source, image: ParsedImage, max_pixels: int) -> list[StoredImage]:
    try:
        data = source.read(image.path, MOST_BYTES)
    except ValueError as error:
        raise ImageError("too-large-file", f"The file cannot be taken in: {error}.", "Save it in a more compact format.") from error
    except (OSError, KeyError) as error:
        raise ImageError("unreadable", f"The file cannot be read ({error}).", "Check that it was copied whole and may be read.") from error
    if not data:
        raise ImageError("damaged-image", "The file is empty.", "Save it again, or take it out.")
    return [read_image(data, max_pixels)]


def _fit(raw: RawValue, parsed_set: ParsedSet, image: ParsedImage, stored: StoredImage, findings: list[Finding]) -> dict[str, Any] | None:
    kind = parsed_set.kind
    if kind is AnnotationKind.SINGLE_LABEL:
        return {"label": raw}
    if kind is AnnotationKind.MULTI_LABEL:
        return {"labels": raw}
    frame = _frame(raw, parsed_set, image, stored)
    return {"boxes": _boxes(raw, parsed_set, image, frame, findings)}


def _frame(raw: RawValue, parsed_set: ParsedSet, image: ParsedImage, stored: StoredImage) -> Frame:
    orientation = stored.orientation
    width, height = stored.source_width, stored.source_height
    if orientation != 1 and image.upright:
        if orientation > 4:
            width, height = height, width
        orientation = 1
    shown = (height, width) if orientation > 4 else (width, height)
    return Frame(width, height, orientation, stored.width / shown[0], stored.height / shown[1], stored.width, stored.height)


def _boxes(raw: RawValue, parsed_set: ParsedSet, image: ParsedImage, frame: Frame, findings: list[Finding]) -> list[list[Any]]:
    boxes: list[list[Any]] = []
    file = image.annotation_file or image.path
    for number, x, y, width, height, line in raw:
        if parsed_set.normalised:
            x, y, width, height = x * frame.width, y * frame.height, width * frame.width, height * frame.height
        label = parsed_set.classes[number]
        if not all(map(math.isfinite, (x, y, width, height))) or width <= 0 or height <= 0:
            findings.append(
                Finding(
                    "error",
                    "box-without-area",
                    file,
                    f"The {label} box on {image.path} has no area.",
                    "Draw it anew, or take it out.",
                    line,
                )
            )
            continue
        left, top, right, bottom = max(x, 0.0), max(y, 0.0), min(x + width, float(frame.width)), min(y + height, float(frame.height))
        if right <= left or bottom <= top:
            findings.append(
                Finding(
                    "error",
                    "box-outside",
                    file,
                    f"The {label} box on {image.path} lies outside the image ({frame.width} × {frame.height} px).",
                    "Correct its coordinates, or take it out.",
                    line,
                )
            )
            continue
        if left - x > _SLACK or top - y > _SLACK or x + width - right > _SLACK or y + height - bottom > _SLACK:
            findings.append(
                Finding(
                    "warning",
                    "box-clipped",
                    file,
                    f"The {label} box on {image.path} sticks out of the image ({frame.width} × {frame.height} px) and is cut at its edge.",
                    "Check its coordinates.",
                    line,
                )
            )
        if (left, top) != (x, y) or right != x + width or bottom != y + height:
            x, y, width, height = left, top, right - left, bottom - top
        boxes.append([number, *frame.box(x, y, width, height)])
    return boxes
