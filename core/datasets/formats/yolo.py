"""YOLO: a text file per image with class number and fractions, for boxes or polygons; `data.yaml` (or `obj.names`, `classes.txt`) names the classes."""

import itertools
import math
import re
from array import array
from collections.abc import Set
from pathlib import PurePosixPath
from typing import Any

import yaml

from core.datasets.findings import Findings
from core.datasets.formats.texts import read_text
from core.datasets.names import class_name, match_key, natural_key
from core.datasets.parsed import SPLIT_NAMES, Parsed, ParsedImage, ParsedSet, Polygons, split_of
from core.datasets.source import Source, has_image_suffix
from core.errors import BadDataError
from core.settings import Settings
from core.vocabulary import AnnotationKind

NAME = "yolo"

_NO_LABELS = re.compile(
    r"(^|/)(classes|labels|readme[^/]*|.*\.names|train|val|valid|test|predefined_classes|license[^/]*|labelmap|notes)\.txt$", re.I
)
_LIST = re.compile(r"(?:^|/)(train|val|valid|test)\.txt$", re.I)  # as darknet writes them, image by image
_MOST_CLASSES = 100_000  # a higher number is none of a class
_ROW = re.compile(r"^\s*\d+(\s+[-+.\deE]+){4,}\s*$")


class _PlainLoader(yaml.SafeLoader):
    """YAML without references: few lines of them can stand for more than any memory holds, and no data.yaml needs them."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        """One node; refused where it refers to another."""
        if self.check_event(yaml.AliasEvent):
            raise yaml.composer.ComposerError(None, None, "references (*) are not read", self.get_mark())
        return super().compose_node(parent, index)


def _yaml_files(source: Source) -> list[str]:
    found = [path for path in source.members if path.lower().endswith((".yaml", ".yml")) and path.count("/") <= 3]
    return sorted(found, key=lambda path: (PurePosixPath(path).stem.lower() not in ("data", "dataset"), path.count("/"), path))[:20]


def _described(source: Source, findings: Findings | None = None) -> tuple[str, dict[str, Any]]:
    """The YAML that names the classes, and what it says; nothing where there is none. `findings` hear of those that cannot be read."""
    for path in _yaml_files(source):
        try:
            loaded = yaml.load(source.read(path, 1_000_000).decode("utf-8-sig", "replace"), _PlainLoader)  # noqa: S506  # a safe one
        except (yaml.YAMLError, OSError, ValueError, RecursionError) as error:
            if findings is not None:
                mark = getattr(error, "problem_mark", None)
                what = str(getattr(error, "problem", None) or error)[:200]
                # Whatever else is written in YAML is none of ours.
                note = findings.error if PurePosixPath(path).stem.lower() in ("data", "dataset") else findings.warning
                note(
                    "bad-yaml",
                    path,
                    f"The file cannot be read as YAML: {what}.",
                    "Mend it: names: [cat, dog] or a line 0: cat for each class.",
                    mark.line + 1 if mark else None,
                )
            continue
        if isinstance(loaded, dict) and "names" in loaded:
            return path, loaded
    return "", {}


def _names_file(source: Source) -> str:
    found = [
        path
        for path in source.members
        if PurePosixPath(path).name.lower() in ("obj.names", "classes.txt", "predefined_classes.txt") or path.endswith(".names")
    ]
    return min(found, key=lambda path: (path.count("/"), path), default="")


def detect(source: Source) -> bool:
    """Whether there is a data.yaml with names, or text files beside the images that read as YOLO rows."""
    if _described(source)[0]:
        return True
    labels = _label_files(source)
    images = _stems(source)
    looked = 0
    for label in sorted(labels):
        if not any(stem in images for stem in _image_stems(label)):
            continue
        looked += 1
        try:
            with source.open(label) as file:
                head = file.read(4096).decode("utf-8", "replace").splitlines()
        except OSError:
            continue
        if head and _ROW.match(head[0]):
            return True
        if looked > 50:
            break
    return False


def _label_files(source: Source) -> list[str]:
    return [path for path in source.members if path.lower().endswith(".txt") and not _NO_LABELS.search(path)]


def _stems(source: Source) -> dict[str, str]:
    """Images by their path without suffix."""
    return {match_key(path.rpartition(".")[0]): path for path in source.members if has_image_suffix(path)}


def _image_stems(label: str) -> list[str]:
    """Where the image of a label file may lie, without suffix: a `labels` folder becomes `images`, or beside it."""
    stem = match_key(label.rpartition(".")[0])
    parts = stem.split("/")
    found = [stem]
    for place in reversed(range(len(parts) - 1)):
        if parts[place].lower() in ("labels", "label", "annotations"):
            for folder in ("images", "image", "jpegimages", "imgs"):
                found.append("/".join([*parts[:place], folder, *parts[place + 1 :]]))
            found.append("/".join([*parts[:place], *parts[place + 1 :]]))
    return found


def read(source: Source, settings: Settings, findings: Findings) -> Parsed:
    """Images with boxes, and objects where rows are polygons.

    Raises:
        BadDataError: when there are no images, or the class list cannot be read.
    """
    images = _stems(source)
    if not images:
        raise BadDataError(f"{source.name} holds no images.", "Put them into images/ beside labels/.")
    yaml_file, described = _described(source, findings)
    given = _class_names(source, described, yaml_file, findings)
    splits = _splits(source, described, yaml_file, images, findings)
    label_of: dict[str, str] = {}
    for label in _label_files(source):
        image = next((images[stem] for stem in _image_stems(label) if stem in images), "")
        if image:
            label_of.setdefault(image, label)
        elif "label" in label.lower():
            findings.error("missing-image", label, "There is no image of this name.", "Add the image, or remove the label file.")
    points = _points_per_object(described)
    naming = yaml_file or _names_file(source)
    known = _known(given, described)
    rows, unusable = {}, set()
    for image, label in label_of.items():
        rows[image], refused = _rows(source, label, points, known, naming, findings)
        if refused and not rows[image]:
            findings.nothing_usable(image)
            unusable.add(image)
    images = {stem: path for stem, path in images.items() if path not in unusable}
    names = _numbered_anew(given, rows, naming, findings)
    return _parsed(images, label_of, rows, names, splits, findings)


_Row = tuple[int, list[float], int]  # class, numbers, line


def _points_per_object(described: dict[str, Any]) -> int:
    """How many numbers of key points follow each box, by `kpt_shape: [points, 2 or 3]`; 0 where there are none."""
    shape = described.get("kpt_shape")
    if isinstance(shape, list) and len(shape) == 2 and all(isinstance(side, int) and 0 < side < 10_000 for side in shape):
        return int(shape[0] * shape[1])
    return 0


def _known(names: dict[int, str], described: dict[str, Any]) -> Set[int]:
    """The numbers that classes have: those that are named and those below `nc`; nothing where none is named."""
    count = described.get("nc")
    return names.keys() | set(range(min(count, _MOST_CLASSES))) if names and isinstance(count, int) else names.keys()


def _rows(source: Source, label: str, points: int, known: Set[int], naming: str, findings: Findings) -> tuple[list[_Row], int]:
    """The rows of a label file, and how many were refused: those of no class too, where the file `naming` says which are `known`."""
    rows: list[_Row] = []
    refused = 0
    for number, line in enumerate(read_text(source, label, findings).splitlines(), 1):
        cells = line.split()
        if not cells:
            continue
        try:
            index = int(float(cells[0]))
            numbers = [float(cell) for cell in cells[1:]]
        except (ValueError, OverflowError):
            index, numbers = -1, []
        if points and len(numbers) == 4 + points:
            numbers = numbers[:4]  # key points are not learnt
        if (
            not 0 <= index < _MOST_CLASSES
            or not (len(numbers) in (4, 5) or (len(numbers) >= 6 and len(numbers) % 2 == 0))
            or not all(map(math.isfinite, numbers))
        ):
            findings.error(
                "bad-row",
                label,
                f"The row “{line[:60]}” is no label.",
                "Write class x y width height, or class x1 y1 x2 y2 x3 y3 …, as fractions.",
                number,
            )
            refused += 1
            continue
        if known and index not in known:
            findings.error(
                "unknown-class",
                label,
                f"The row “{line[:60]}” is of the class {index}, which {naming} does not name.",
                f"Correct the number, or name the class in {naming}.",
                number,
            )
            refused += 1
            continue
        rows.append((index, numbers, number))
    return rows, refused


def _class_names(source: Source, described: dict[str, Any], file: str, findings: Findings) -> dict[int, str]:
    """Class names by number, as far as the source gives them."""
    names = described.get("names")
    if isinstance(names, (list, dict)):
        try:
            numbered = {int(number): name for number, name in (names.items() if isinstance(names, dict) else enumerate(names))}
        except (ValueError, TypeError, OverflowError) as error:
            raise BadDataError(f"{file}: names are not numbered.", "Write names as a list, or as 0: name, 1: name …") from error
        if any(isinstance(name, (list, dict)) for name in numbered.values()) or any(not 0 <= number < _MOST_CLASSES for number in numbered):
            raise BadDataError(f"{file}: names are not a list of texts.", "Write names as a list, or as 0: name, 1: name …")
        return {number: class_name(str(name)) for number, name in numbered.items()}
    listed = _names_file(source)
    if listed:
        text = read_text(source, listed, findings)
        return {number: class_name(line) for number, line in enumerate(text.splitlines()) if line.strip()}
    return {}


def _numbered_anew(names: dict[int, str], rows: dict[str, list[_Row]], file: str, findings: Findings) -> list[str]:
    """The names of all classes, ascending by number: those that are named, and as `class_N` those that rows use. `rows` get their places in it.

    What lies between is no class of anybody's: numbers count in the source alone, elsewhere classes go by their names.
    """
    used = {row[0] for found in rows.values() for row in found}
    for number in sorted(used - names.keys())[:100] if names else ():
        findings.warning(
            "unknown-class",
            file,
            f"Labels use the class {number}, which has no name; it is called class_{number}.",
            "Name it in data.yaml.",
        )
    if not names:
        findings.warning(
            "no-class-names",
            file,
            f"Nothing names the classes; they are called by their numbers, such as class_{min(used, default=0)}.",
            "Add a data.yaml with names, or a classes.txt with one name a line.",
        )
    numbers = sorted(used | names.keys())
    place = {number: place for place, number in enumerate(numbers)}
    if numbers != list(range(len(numbers))):
        for image, found in rows.items():
            rows[image] = [(place[row[0]], *row[1:]) for row in found]
    return [names.get(number) or f"class_{number}" for number in numbers]


def _splits(source: Source, described: dict[str, Any], file: str, images: dict[str, str], findings: Findings) -> dict[str, str]:
    """The split of each image: as data.yaml says, else as lists such as train.txt do, else as its folder is called."""
    found: dict[str, str] = {}
    both: set[str] = set()
    base = PurePosixPath(file).parent if file else PurePosixPath(".")
    for key, split in (("train", "train"), ("val", "val"), ("valid", "val"), ("test", "test")):
        entries = described.get(key)
        for entry in entries if isinstance(entries, list) else [entries]:
            if isinstance(entry, str) and entry:
                for image in _images_at(source, entry, base, str(described.get("path") or ""), images, findings):
                    if found.setdefault(image, split) != split:
                        both.add(image)
    if not found:
        for path in sorted(source.members):
            if listed := _LIST.search(path):
                split = SPLIT_NAMES[listed[1].lower()]
                both |= {image for image in _listed_images(source, path, images, findings) if found.setdefault(image, split) != split}
    for image in both:  # named as training and as validation: not divided at all
        del found[image]
    for image in images.values():
        if image not in found and image not in both and (split := split_of(str(PurePosixPath(image).parent))):
            found[image] = split
    return found


def _images_at(source: Source, entry: str, base: PurePosixPath, root: str, images: dict[str, str], findings: Findings) -> list[str]:
    """Images that an entry of data.yaml means: a folder, or a text file that lists them. It may speak of another host's folders."""
    parts = [part for part in entry.replace("\\", "/").split("/") if part not in ("", ".", "..")]
    listed = {path: path for path in source.members}
    for start in range(len(parts)):
        tail = "/".join(parts[start:])
        for path in dict.fromkeys((str(base / root / tail) if not root.startswith("/") else "", str(base / tail), tail)):
            if path in listed and path.endswith(".txt"):
                return _listed_images(source, path, images, findings)
            inside = [image for image in images.values() if image.startswith(path + "/")] if path and path in source.folders else []
            if inside:
                return inside
    return []


def _listed_images(source: Source, path: str, images: dict[str, str], findings: Findings) -> list[str]:
    """The images that a list names, with paths of whatever host it was written on: as much of each path counts as is needed to tell them."""
    by_name: dict[str, list[str]] = {}
    for image in images.values():
        by_name.setdefault(match_key(PurePosixPath(image).name), []).append(image)
    found = []
    for line in read_text(source, path, findings).splitlines():
        named = PurePosixPath(line.strip().replace("\\", "/"))
        candidates = by_name.get(match_key(named.name), [])
        if candidates:
            found.append(max(candidates, key=lambda image: _common_end(PurePosixPath(image).parts, named.parts)))
    return found


def _common_end(one: tuple[str, ...], other: tuple[str, ...]) -> int:
    return sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], zip(reversed(one), reversed(other), strict=False)))


def _parsed(
    images: dict[str, str],
    label_of: dict[str, str],
    rows: dict[str, list[_Row]],
    names: list[str],
    splits: dict[str, str],
    findings: Findings,
) -> Parsed:
    polygons = sum(1 for found in rows.values() for row in found if len(row[1]) >= 6)
    boxes = sum(1 for found in rows.values() for row in found if len(row[1]) < 6)
    sets = []
    # Polygons alone: boxes follow from them, and need no set of their own.
    if boxes or not polygons:
        sets.append(ParsedSet("boxes", AnnotationKind.BOXES, names, normalised=True))
    if polygons:
        sets.append(ParsedSet("instances", AnnotationKind.INSTANCES, names, normalised=True))
        if boxes:
            findings.warning(
                "object-without-mask",
                "",
                f"{boxes:,} {'object has' if boxes == 1 else 'objects have'} a box but no polygon; only the set of boxes holds {'it' if boxes == 1 else 'them'}.",
                "Draw their outlines.",
            )
    without = sum(1 for image in images.values() if image not in label_of)
    if without:
        findings.warning(
            "no-label-file",
            "",
            f"{without:,} {'image has' if without == 1 else 'images have'} no label file; without one there is nothing to be seen on an image.",
            "Add the label files if they are missing.",
        )
    parsed = Parsed(NAME, sets)
    for image in sorted(images.values(), key=natural_key):
        found = rows.get(image, [])
        values: list[Any] = []
        for parsed_set in sets:
            if parsed_set.kind is AnnotationKind.BOXES:
                values.append([_box(row) for row in found])
            else:
                values.append([(index, Polygons((array("d", numbers),)), line) for index, numbers, line in found if len(numbers) >= 6])
        parsed.images.append(ParsedImage(image, values, splits.get(image, ""), annotation_file=label_of.get(image, ""), upright=True))
    return parsed


def _box(row: _Row) -> tuple[int, float, float, float, float, int]:
    index, numbers, line = row
    if len(numbers) < 6:
        x, y, width, height = numbers[:4]
        return index, x - width / 2, y - height / 2, width, height, line
    xs, ys = numbers[0::2], numbers[1::2]
    return index, min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys), line
