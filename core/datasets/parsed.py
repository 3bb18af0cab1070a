"""The one internal type that every format is read into, before images are decoded: images, and annotation sets over them."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from core.vocabulary import AnnotationKind

# Names under which sources keep their splits, and the split each means.
SPLIT_NAMES = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "dev": "val",
    "test": "test",
    "testing": "test",
}


def split_of(path: str) -> str:
    """The split that a file's name or a folder speaks of, such as `instances_val2017.json` or `images/valid`; nothing where none does."""
    for part in reversed(path.lower().split("/")):
        for word in re.split(r"[^a-z]+", part):
            if word in SPLIT_NAMES:
                return SPLIT_NAMES[word]
    return ""


@dataclass(frozen=True, slots=True)
class Polygons:
    """A mask as polygons, each a flat sequence x0, y0, x1, y1, … in pixels of the source image."""

    rings: tuple[Sequence[float], ...]


@dataclass(frozen=True, slots=True)
class Rle:
    """A mask as COCO's run-length encoding over a `width` × `height` image, column by column: compressed, or as plain run lengths."""

    width: int
    height: int
    counts: bytes | Sequence[int]


@dataclass(frozen=True, slots=True)
class MaskFile:
    """The pixels of one value in a mask picture beside the image. `value` is an index, a grey value, or RGB packed as 0xRRGGBB."""

    path: str
    value: int
    colour: bool = False


Geometry = Polygons | Rle | MaskFile

# What a reader says of one image, by kind; `line` is where it says so, None where the file has no lines:
#   single-label  int, the class index
#   multi-label   list of class indices
#   boxes         list of (class index, x, y, width, height, line), in pixels or, in a normalised set, as fractions
#   regions       list of (class index, Geometry, line), several of one class are united
#   instances     list of (class index, Geometry, line), one per object
RawValue = Any

NO_CLASS = -1  # the class index of regions that belong to none


@dataclass(slots=True)
class ParsedImage:
    """One image as a source names it, and what each annotation set says of it (`None`: nothing, so it is not part of that set)."""

    path: str
    values: list[RawValue]
    split: str = ""  # "", train, val, test
    group: str = ""
    annotation_file: str = ""  # where findings about its annotations point to
    width: int = 0  # as its annotations declare, 0 = they do not
    height: int = 0
    embedded_in: str = ""  # annotation file that carries the image itself, where the image file is missing
    study: str = ""  # ids of DICOM study and series, where they are known without looking into the image
    series: str = ""
    upright: bool = False  # annotations refer to the image as it is shown, EXIF orientation applied
    # Of each set, or empty where there are none: objects of the kind's shape that are neither to be learnt nor to be judged, such as crowds; of
    # regions the places of no known class, as (`NO_CLASS`, Geometry, line).
    ignored: list[RawValue] = field(default_factory=list)
    # Of each set, or empty: the area of each box or object as the source tells it, in pixels of the source image; 0 where it does not.
    areas: list[list[float]] = field(default_factory=list)
    # Of each set, or empty: the id of each box or object in the source, by which findings name it; None where it has none.
    ids: list[list[int | str | None]] = field(default_factory=list)


@dataclass(slots=True)
class ParsedSet:
    """One annotation set of a source. `normalised`: coordinates are fractions of the image's width and height."""

    name: str
    kind: AnnotationKind
    classes: list[str]
    normalised: bool = False


@dataclass(slots=True)
class Parsed:
    """A whole source. `images` are in the order in which they will be shown."""

    format: str
    sets: list[ParsedSet]
    images: list[ParsedImage] = field(default_factory=list)
