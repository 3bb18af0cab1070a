"""From one image as a source names it to the row that is stored: pixels checked and normalised, annotations fitted to them."""

import base64
import binascii
import json
from dataclasses import dataclass, field
from typing import Any

from core.datasets.findings import Finding
from core.datasets.fitting import fit
from core.datasets.images import MOST_BYTES, ImageError, StoredImage
from core.datasets.parsed import ParsedImage, ParsedSet
from core.datasets.reading import read_pictures
from core.datasets.source import Source


@dataclass(slots=True)
class Finished:
    """One image with the value of each annotation set (None: not part of it).

    Once stored, `key` says where, `size` is in bytes, and `digest` tells it from others, its values included; the values then are JSON
    `texts`, and `classes` the class index of each label or object in them.
    """

    stored: StoredImage
    values: list[dict[str, Any] | None]
    texts: list[str | None] = field(default_factory=list)
    classes: list[list[int]] = field(default_factory=list)
    key: str = ""
    size: int = 0
    digest: bytes = b""


@dataclass(slots=True)
class Outcome:
    """What became of one image of a source: none, one or (frames) several stored images, and what was noticed."""

    finished: list[Finished] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)


def finish(source: Source, image: ParsedImage, sets: list[ParsedSet], max_pixels: int) -> Outcome:
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
        if one.clipped:
            outcome.findings.append(
                Finding(
                    "warning",
                    "outliers-clipped",
                    image.path,
                    "A few pixels are far brighter or darker than all others; they are shown like the brightest or darkest of these, "
                    "so that the rest keeps its contrast.",
                    "Nothing needs to be done, unless the few pixels are what matters: then save it with 8 bits, as it is to be seen.",
                )
            )
        if one.frames > 1:
            outcome.findings.append(
                Finding(
                    "warning",
                    "first-frame-only",
                    image.path,
                    f"The file holds {one.frames:,} pictures; only the first one is used.",
                    "Save the others as files of their own if they belong to the dataset.",
                )
            )
        values = fit(source, image, sets, one, outcome.findings)
        outcome.finished.append(Finished(one, values))
    return outcome


def _load(source: Source, image: ParsedImage, max_pixels: int) -> list[StoredImage]:
    try:
        data = _embedded(source, image.embedded_in) if image.embedded_in else source.read(image.path, MOST_BYTES)
    except ValueError as error:
        raise ImageError("too-large-file", f"The file cannot be taken in: {error}.", "Save it in a more compact format.") from error
    except (OSError, KeyError) as error:
        raise ImageError("unreadable", f"The file cannot be read ({error}).", "Check that it was copied whole and may be read.") from error
    return read_pictures(data, image.path, max_pixels)


def _embedded(source: Source, file: str) -> bytes:
    """The image that a LabelMe file carries in itself."""
    try:
        return base64.b64decode(json.loads(source.read(file, 2 * MOST_BYTES))["imageData"], validate=False)
    except (binascii.Error, KeyError, TypeError, RecursionError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ImageError(
            "damaged-image", f"The image inside {file} cannot be decoded ({error}).", "Put the image file beside it."
        ) from error
