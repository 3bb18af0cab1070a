"""COCO JSON: boxes, polygons and run-length masks, one file or one per split."""

import re
from array import array
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any, NamedTuple, TypeGuard
from urllib.parse import unquote, urlsplit

from core.datasets import masks
from core.datasets.findings import Findings
from core.datasets.formats.texts import unreadable_json
from core.datasets.json_stream import JsonStreamError, first_keys, read_members
from core.datasets.names import ClassList, class_name, match_key
from core.datasets.parsed import Geometry, Parsed, ParsedImage, ParsedSet, Polygons, Rle, split_of
from core.datasets.source import Source, images_of
from core.errors import BadDataError
from core.settings import Settings
from core.vocabulary import AnnotationKind

NAME = "coco"

_STREAMED = ("images", "annotations", "categories")
_MOST_FILES_LOOKED_INTO = 50
_NUMBER_TYPES = frozenset({int, float})


def find_files(source: Source) -> list[str]:
    """The COCO files of a source, by path."""
    found = []
    candidates = sorted((path for path in source.members if path.lower().endswith(".json")), key=lambda path: (path.count("/"), path))
    for path in candidates[:_MOST_FILES_LOOKED_INTO]:
        try:
            with source.open(path) as file:
                keys = first_keys(file)
        except OSError:
            continue
        if "shapes" not in keys and ("images" in keys or "annotations" in keys):
            found.append(path)
    return sorted(found)


def detect(source: Source) -> bool:
    """Whether there is a COCO file."""
    return bool(find_files(source))


def read(source: Source, settings: Settings, findings: Findings) -> Parsed:
    """All COCO files of the source as one dataset; boxes, and masks where there are any.

    Raises:
        BadDataError: when no file can be read, or none names an image that is there.
    """
    files = find_files(source)
    if not files:
        raise BadDataError(f"{source.name} holds no COCO file.", "It is a JSON with images, annotations and categories.")
    files = _without_twins(files, findings)
    reading = _Reading(source, findings)
    for file in files:
        reading.read(file, split_of(file) if len(files) > 1 or split_of(PurePosixPath(file).name) else "")
    if not reading.images:
        raise BadDataError(f"No image that {', '.join(files)[:200]} names is there.", "Put the images beside it, or into images/.")
    return reading.parsed()


def _without_twins(files: list[str], findings: Findings) -> list[str]:
    """Without captions and key points of images that an `instances_…` file annotates too."""
    if not any(PurePosixPath(file).name.startswith("instances") for file in files):
        return files
    kept = []
    for file in files:
        if re.match(r"(captions|person_keypoints|panoptic|stuff|image_info)_", PurePosixPath(file).name):
            findings.warning(
                "file-ignored",
                file,
                "Only boxes and masks of the instances file are read.",
                "Import it as a dataset of its own if you need it.",
            )
        else:
            kept.append(file)
    return kept


@dataclass(slots=True)
class _Objects:
    """What the annotations of one image say."""

    boxes: list[tuple[int, float, float, float, float, int]] = field(default_factory=list)
    masks: list[tuple[int, Geometry, int]] = field(default_factory=list)
    box_areas: list[float] = field(default_factory=list)  # of the objects that have boxes, 0 where none is given
    mask_areas: list[float] = field(default_factory=list)
    box_ids: list[int | str | None] = field(default_factory=list)
    mask_ids: list[int | str | None] = field(default_factory=list)
    crowd_boxes: list[tuple[int, float, float, float, float, int]] = field(default_factory=list)
    crowd_masks: list[tuple[int, Geometry, int]] = field(default_factory=list)


class _Entry(NamedTuple):
    """What one annotation says; `number` is its id, `line` where it is in the file."""

    category: Any
    box: tuple[float, ...] | None
    mask: Geometry | None
    number: Any
    line: int
    area: float
    crowd: bool


# What one image says: name, width and height as declared (0 = not), and its line in the file.
_Listed = tuple[str, int, int, int]


class _Reading:
    """The files read so far."""

    def __init__(self, source: Source, findings: Findings) -> None:
        self.source, self.findings = source, findings
        self.classes = ClassList()
        self.images: dict[str, ParsedImage] = {}
        self.objects: dict[str, _Objects] = {}
        self.with_mask = 0
        self.without_mask = 0
        self._by_name: dict[str, list[str]] = {}
        for path in images_of(source):
            self._by_name.setdefault(match_key(path.rpartition("/")[2]), []).append(path)

    def read(self, file: str, split: str) -> None:
        """Take one file in."""
        categories: list[dict[str, Any]] = []
        images: dict[Any, _Listed] = {}
        by_image: dict[Any, list[_Entry]] = {}
        try:
            with self.source.open(file) as binary:
                for key, element, line in read_members(binary, _STREAMED):
                    if key == "categories" and isinstance(element, dict):
                        categories.append(element)
                    elif key == "images" and isinstance(element, dict):
                        self._image(file, element, images, line)
                    elif key == "annotations" and isinstance(element, dict):
                        self._annotation(file, element, by_image, line)
                    elif key in _STREAMED:
                        self.findings.error("bad-entry", file, f"An entry of {key} is no object.", "Write the file anew.", line)
        except (JsonStreamError, OSError) as error:
            raise BadDataError(unreadable_json(file, error), "Check that it was copied whole, or write it anew.") from error
        numbers = self._categories(file, categories, by_image)
        self._join(file, split, images, by_image, numbers)

    def _image(self, file: str, element: dict[str, Any], images: dict[Any, _Listed], line: int) -> None:
        name, number = element.get("file_name"), element.get("id")
        if not isinstance(name, str) or not isinstance(number, (int, str)):
            self.findings.error("bad-entry", file, "An image has no id or no file_name.", "Write the file anew.", line)
            return
        if number in images:
            self.findings.error(
                "duplicate-id", file, f"Two images have the id {_shown(number)}; the first one counts.", "Number the images anew.", line
            )
            return
        images[number] = (name, _side(element.get("width")), _side(element.get("height")), line)

    def _annotation(self, file: str, element: dict[str, Any], by_image: dict[Any, list[_Entry]], line: int) -> None:
        image, category, number = element.get("image_id"), element.get("category_id"), element.get("id")
        if not isinstance(image, (int, str)) or not isinstance(category, (int, str)):
            self.findings.error(
                "bad-entry", file, f"The annotation {_shown(number)} has no image_id or no category_id.", "Write the file anew.", line
            )
            return
        crowd = element.get("iscrowd") in (1, True)
        if crowd:
            self.findings.warning(
                "crowd",
                file,
                f"The annotation {_shown(number)} marks a crowd: it is not learnt from, and what is found there counts neither as right nor as wrong.",
                "Nothing needs to be done.",
                line,
            )
        box = _box(element.get("bbox"))
        if box is None and element.get("bbox"):
            self.findings.error(
                "bad-entry", file, f"The box of annotation {_shown(number)} is not four numbers.", "Write it as x, y, width, height.", line
            )
            return
        try:
            mask = _geometry(element.get("segmentation"))
        except ValueError as error:
            self.findings.error(
                "bad-mask",
                file,
                f"The mask of annotation {_shown(number)} cannot be used: {error}.",
                "Write it as polygons or run lengths.",
                line,
            )
            mask = None
        known_as = number if isinstance(number, (int, str)) else None
        by_image.setdefault(image, []).append(_Entry(category, box, mask, known_as, line, _area(element.get("area")), crowd))

    def _categories(self, file: str, categories: list[dict[str, Any]], by_image: dict[Any, list[Any]]) -> dict[Any, int]:
        used = Counter(entry.category for entries in by_image.values() for entry in entries)
        parents = {category.get("supercategory") for category in categories}
        numbers: dict[Any, int] = {}
        for category in sorted(
            categories, key=lambda one: (not isinstance(one.get("id"), int), one.get("id") if isinstance(one.get("id"), int) else 0)
        ):
            number, name = category.get("id"), class_name(str(category.get("name") or ""))
            if not isinstance(number, (int, str)):
                self.findings.error("bad-entry", file, "A category has no id.", "Write the file anew.")
                continue
            # Some tools add a root category above all others; nothing is ever labelled with it.
            if (
                not used[number]
                and len(categories) > 1
                and category.get("name") in parents
                and category.get("supercategory") in (None, "", "none")
            ):
                continue
            numbers[number] = self.classes.index(name or f"class_{number}")
        return numbers

    def _join(self, file: str, split: str, images: dict[Any, _Listed], by_image: dict[Any, list[_Entry]], numbers: dict[Any, int]) -> None:
        beginnings = _beginnings(PurePosixPath(file).parent)
        listed: set[str] = set()
        for number, (name, width, height, line) in images.items():
            entries = by_image.pop(number, [])
            path = self.resolve(name, beginnings, split)
            if not path:
                what = f"There is no image {_printable(name)}."
                self.findings.error("missing-image", file, what, "Add the image, or take its entry out.", line)
                continue
            if path in listed:
                what = f"The image {_printable(name)} is listed more than once: what all its entries show lies on the one picture."
                self.findings.warning(
                    "image-listed-twice", file, what, "If they are different pictures, give each a name of its own.", line
                )
            listed.add(path)
            image = self.images.get(path)
            if image is None:
                image = self.images[path] = ParsedImage(path, [], split, annotation_file=file, width=width, height=height)
                self.objects[path] = _Objects()
            seen: dict[Any, Any] = {}  # of this image alone, so that no file is too large for it
            for entry in entries:
                if entry.category not in numbers:
                    self.findings.error(
                        "unknown-class",
                        file,
                        f"The annotation {_shown(entry.number)} has the unknown category {_shown(entry.category)}.",
                        "Add it to categories.",
                        entry.line,
                    )
                    continue
                if (first := seen.setdefault(_said(entry), entry)) is not entry and (entry.box or entry.mask):
                    self.findings.warning(
                        "duplicate-annotation",
                        file,
                        f"The annotation {_shown(entry.number)} of {_printable(name)} says the same as the annotation {_shown(first.number)}; "
                        "it counts once.",
                        "Nothing needs to be done.",
                        entry.line,
                    )
                    continue
                self._object(file, path, numbers[entry.category], entry)
        for number, entries in by_image.items():
            annotations = "annotation is" if len(entries) == 1 else "annotations are"
            self.findings.error(
                "unknown-image",
                file,
                f"{len(entries):,} {annotations} of the image {_shown(number)}, which is not listed.",
                "Add it to images.",
                entries[0].line,
            )

    def _object(self, file: str, path: str, number: int, entry: _Entry) -> None:
        objects, mask = self.objects[path], entry.mask
        box = entry.box or (masks.extent(mask) if mask is not None else None)
        if box is None and mask is None:
            self.findings.error(
                "box-without-area",
                file,
                f"The annotation {_shown(entry.number)} has neither box nor mask.",
                "Draw it anew, or take it out.",
                entry.line,
            )
            return
        if box is not None:
            (objects.crowd_boxes if entry.crowd else objects.boxes).append((number, box[0], box[1], box[2], box[3], entry.line))
        if entry.crowd:
            objects.crowd_masks.append((number, mask or _rectangle(*(box or ())), entry.line))
            return
        if box is not None:
            objects.box_areas.append(entry.area)
            objects.box_ids.append(entry.number)
        if mask is not None:
            self.with_mask += 1
            objects.masks.append((number, mask, entry.line))
            objects.mask_areas.append(entry.area)
            objects.mask_ids.append(entry.number)
        else:
            self.without_mask += 1

    def resolve(self, name: str, beginnings: Sequence[str], split: str) -> str:
        """The member that a file name means: beside the JSON, above it, in images/, or wherever one of that name lies alone."""
        members = self.source.members
        for beginning in beginnings:
            if beginning + name in members:
                return beginning + name
        written = name
        if "://" in name:  # labelling services name images by their address
            name = _path_of(name).rpartition("/")[2]
        name = name.replace("\\", "/").removeprefix("./").lstrip("/")
        if ".." in name.split("/"):
            name = name.rpartition("/")[2]
        if name != written:
            for beginning in beginnings:
                if beginning + name in members:
                    return beginning + name
        found = self._by_name.get(match_key(name.rpartition("/")[2]), [])
        if len(found) > 1:
            found = [path for path in found if path.rpartition("/")[2] == name.rpartition("/")[2]] or found
        if len(found) > 1 and split:
            found = [path for path in found if split_of(path.rpartition("/")[0]) == split] or found
        if len(found) > 1:
            found = [path for path in found if path.endswith("/" + name)] or found
        return found[0] if len(found) == 1 else ""

    def parsed(self) -> Parsed:
        """All that was read. Masks make a set of their own; boxes always do, for they are given more exactly than masks tell."""
        sets = [ParsedSet("boxes", AnnotationKind.BOXES, self.classes.names)]
        if self.with_mask:
            sets.append(ParsedSet("instances", AnnotationKind.INSTANCES, self.classes.names))
            if self.without_mask:
                objects_have = "object has" if self.without_mask == 1 else "objects have"
                self.findings.warning(
                    "object-without-mask",
                    "",
                    f"{self.without_mask:,} {objects_have} a box but no mask; only the set of boxes holds {'it' if self.without_mask == 1 else 'them'}.",
                    "Draw the masks.",
                )
        for path, image in self.images.items():
            objects = self.objects.pop(path)
            image.values = [objects.boxes, objects.masks] if self.with_mask else [objects.boxes]
            if objects.crowd_boxes or objects.crowd_masks:
                image.ignored = [objects.crowd_boxes, objects.crowd_masks][: len(sets)]
            if any(objects.box_areas) or any(objects.mask_areas):
                image.areas = [objects.box_areas, objects.mask_areas][: len(sets)]
            image.ids = [objects.box_ids, objects.mask_ids][: len(sets)]
        return Parsed(NAME, sets, list(self.images.values()))


def _said(entry: _Entry) -> tuple[Any, ...]:
    """What an annotation says of its image, to be compared with what others say."""
    mask: Any = entry.mask
    if isinstance(mask, Polygons):
        mask = tuple(array("f", ring).tobytes() for ring in mask.rings)
    elif isinstance(mask, Rle):
        mask = (mask.width, mask.height, bytes(mask.counts) if isinstance(mask.counts, bytes) else tuple(mask.counts))
    return entry.category, entry.box, mask, entry.crowd


def _side(value: Any) -> int:
    return int(value) if isinstance(value, (int, float)) and 0 < value < 1e9 else 0


def _beginnings(folder: PurePosixPath) -> tuple[str, ...]:
    """Where the images of a file in `folder` may lie, as beginnings of paths: beside it, above it, in images/ there, at the top."""
    starts = (folder, folder.parent, folder / "images", folder.parent / "images", PurePosixPath("."))
    return tuple(dict.fromkeys("" if str(start) == "." else f"{start}/" for start in starts))


def _path_of(address: str) -> str:
    """The path in an address; nothing where it is none."""
    try:
        return unquote(urlsplit(address).path)
    except ValueError:
        return ""


def _printable(name: str) -> str:
    return name[:200].encode("utf-8", "replace").decode()


def _shown(number: Any) -> str:
    return str(number)[:40]


def _numbers(value: Any) -> TypeGuard[list[Any]]:
    return isinstance(value, list) and _NUMBER_TYPES.issuperset(map(type, value))


def _box(value: Any) -> tuple[float, ...] | None:
    if not _numbers(value) or len(value) != 4:
        return None
    try:
        return tuple(float(item) for item in value)
    except OverflowError:
        return None


def _area(value: Any) -> float:
    """The area that an annotation tells, 0 where it tells none."""
    return float(value) if isinstance(value, (int, float)) and 0 < value < 1e12 else 0.0


def _rectangle(x: float, y: float, width: float, height: float) -> Polygons:
    return Polygons((array("f", (x, y, x + width, y, x + width, y + height, x, y + height)),))


def _geometry(value: Any) -> Geometry | None:
    """A mask as COCO writes it. Raises ValueError where it is none; nothing at all is None."""
    if not value:
        return None
    if isinstance(value, dict):
        size, counts = value.get("size"), value.get("counts")
        if not _numbers(size) or len(size) != 2 or not all(0 < side < 1e6 for side in size):
            raise ValueError("its size is not height and width")
        if isinstance(counts, str):
            return Rle(int(size[1]), int(size[0]), counts.encode("utf-8", "replace"))
        if _numbers(counts) and all(isinstance(run, int) and 0 <= run < 2**40 for run in counts):
            return Rle(int(size[1]), int(size[0]), array("q", counts))
        raise ValueError("its counts are neither a text nor numbers")
    if isinstance(value, list):
        rings = value if isinstance(value[0], list) else [value]
        try:
            # Single precision is a hundredth of a pixel and better; polygons are most of a large file.
            return Polygons(tuple([array("f", ring) for ring in rings]))
        except OverflowError as error:
            raise ValueError("a coordinate is out of all range") from error
        except TypeError:
            pass  # said below
    raise ValueError("it is neither a list of polygons nor run lengths")
