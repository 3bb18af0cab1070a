"""LabelMe: a JSON file per image with flags, rectangles and polygons; the image may lie inside the JSON."""

import base64
import binascii
import math
import zlib
from array import array
from io import BytesIO
from pathlib import PurePosixPath
from typing import Any

import numpy as np
from PIL import Image

from core.datasets import masks
from core.datasets.findings import Findings
from core.datasets.json_stream import JsonStreamError, first_keys, read_members
from core.datasets.names import ClassList, class_name, match_key, natural_key
from core.datasets.parsed import Geometry, Parsed, ParsedImage, ParsedSet, Polygons, Rle, split_of
from core.datasets.source import Source, images_of
from core.errors import BadDataError
from core.settings import Settings
from core.vocabulary import AnnotationKind

NAME = "labelme"

_CIRCLE_CORNERS = 64


def _json_files(source: Source) -> list[str]:
    return sorted((path for path in source.members if path.lower().endswith(".json")), key=natural_key)


def detect(source: Source) -> bool:
    """Whether there are JSON files with shapes or flags of one image."""
    for path in _json_files(source)[:10]:
        try:
            with source.open(path) as file:
                head = file.read(65_536)
        except OSError:
            continue
        keys = first_keys(BytesIO(head))
        if "shapes" in keys or ("flags" in keys and ("imagePath" in keys or b'"imagePath"' in head)):
            return True
    return False


def read(source: Source, settings: Settings, findings: Findings) -> Parsed:
    """Images with what their JSON files say: flags are labels, rectangles boxes, polygons objects.

    Raises:
        BadDataError: when no file can be used.
    """
    reading = _Reading(source, findings)
    for file in _json_files(source):
        reading.read(file)
    if not reading.images:
        raise BadDataError(f"{source.name} holds no LabelMe file that can be used.", "Save it with LabelMe, images beside the JSON files.")
    return reading.parsed()


class _Reading:
    """The files read so far."""

    def __init__(self, source: Source, findings: Findings) -> None:
        self.source, self.findings = source, findings
        self.images: dict[str, ParsedImage] = {}
        self.labels: dict[str, list[int]] = {}
        self.boxes: dict[str, list[Any]] = {}
        self.objects: dict[str, list[Any]] = {}
        self.flags = ClassList()
        self.classes = ClassList()
        self._by_stem: dict[str, list[str]] = {}
        self._images = set(images_of(source))
        for path in sorted(self._images):
            self._by_stem.setdefault(match_key(path.rpartition(".")[0]), []).append(path)

    def read(self, file: str) -> None:
        """Take one file in."""
        loaded: dict[str, Any] = {}
        shapes: list[tuple[Any, int]] = []
        try:
            with self.source.open(file) as binary:
                for key, value, line in read_members(binary, ("shapes",)):
                    if key == "shapes" and isinstance(value, dict):
                        shapes.append((value, line))
                    loaded[key] = value
        except (OSError, ValueError, zlib.error, EOFError) as error:
            broken_at = error.line if isinstance(error, JsonStreamError) else None
            what = f"The file cannot be read as JSON ({str(error)[:200]})."
            self.findings.error("bad-json", file, what, "Save it again with LabelMe.", broken_at)
            return
        if not ("shapes" in loaded or "flags" in loaded or "imagePath" in loaded):
            self.findings.warning("file-ignored", file, "The file is no LabelMe file.", "Nothing needs to be done.")
            return
        path, embedded = self._image(file, loaded)
        if not path:
            self.findings.error(
                "missing-image",
                file,
                f"There is no image {str(loaded.get('imagePath'))[:200]}, and none inside the file.",
                "Put the image beside the file.",
            )
            return
        if path in self.images:
            self.findings.error("duplicate-name", file, f"{path} has another LabelMe file already, which counts.", "Keep one of them.")
            return
        width, height = loaded.get("imageWidth"), loaded.get("imageHeight")
        self.images[path] = ParsedImage(
            path,
            [],
            split_of(str(PurePosixPath(file).parent)),
            annotation_file=file,
            width=width if isinstance(width, int) else 0,
            height=height if isinstance(height, int) else 0,
            embedded_in=embedded,
            upright=True,  # LabelMe shows images upright and means what it shows
        )
        self._take_flags(path, loaded.get("flags"))
        self._take_shapes(file, path, shapes)

    def _image(self, file: str, loaded: dict[str, Any]) -> tuple[str, str]:
        """The image's path, and the JSON file that carries it where no image file is there."""
        folder = PurePosixPath(file).parent
        named = loaded.get("imagePath")
        if isinstance(named, str) and named:
            name = named.replace("\\", "/")
            tail = PurePosixPath(name).name
            for start in (folder, folder.parent, folder.parent / "images", folder / "images"):
                for candidate in (str(start / tail), str(start / name)):
                    if candidate in self._images:
                        return candidate, ""
        beside = self._by_stem.get(match_key(file.rpartition(".")[0]))
        if beside:
            return beside[0], ""
        if isinstance(loaded.get("imageData"), str) and loaded["imageData"]:
            return str(folder / PurePosixPath(file).with_suffix(".png").name), file
        return "", ""

    def _take_flags(self, path: str, flags: Any) -> None:
        if isinstance(flags, dict) and flags:
            names = [(class_name(str(name)), bool(value)) for name, value in flags.items() if class_name(str(name))]
            numbers = [(self.flags.index(name), value) for name, value in names]
            self.labels[path] = [number for number, value in numbers if value]

    def _take_shapes(self, file: str, path: str, shapes: list[tuple[Any, int]]) -> None:
        self.boxes[path], self.objects[path] = [], []
        groups: dict[tuple[int, Any], list[Any]] = {}
        for number, (shape, line) in enumerate(shapes, 1):
            name = class_name(str(shape.get("label") or "")) if isinstance(shape, dict) else ""
            points = _points(shape.get("points")) if isinstance(shape, dict) else None
            if not name or points is None:
                self.findings.error("bad-entry", file, f"Shape {number} has no label or no points.", "Draw it anew.", line)
                continue
            kind = shape.get("shape_type") or "polygon"
            if kind == "rectangle" and len(points) >= 2:
                xs, ys = [x for x, _ in points], [y for _, y in points]
                self.boxes[path].append((self.classes.index(name), min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys), line))
                continue
            geometry = self._geometry(file, number, kind, points, shape, line)
            if geometry is None:
                continue
            index, group = self.classes.index(name), shape.get("group_id")
            if isinstance(geometry, Polygons) and isinstance(group, (int, str)) and (index, group) in groups:
                groups[index, group].append(geometry)  # several outlines of one object
            else:
                parts: list[Any] = [geometry]
                if isinstance(group, (int, str)):
                    groups[index, group] = parts
                self.objects[path].append((index, parts, line))
        self.objects[path] = [(index, _joined(parts), line) for index, parts, line in self.objects[path]]

    def _geometry(
        self, file: str, number: int, kind: Any, points: list[tuple[float, float]], shape: dict[str, Any], line: int
    ) -> Geometry | None:
        if kind == "polygon" and len(points) >= 3:
            return Polygons((array("d", [side for point in points for side in point]),))
        if kind == "circle" and len(points) == 2:
            (x, y), (edge_x, edge_y) = points
            radius = math.hypot(edge_x - x, edge_y - y)
            turns = [2 * math.pi * step / _CIRCLE_CORNERS for step in range(_CIRCLE_CORNERS)]
            return Polygons((array("d", [side for turn in turns for side in (x + radius * math.cos(turn), y + radius * math.sin(turn))]),))
        if kind == "mask" and isinstance(shape.get("mask"), str) and points:
            found = _mask(shape["mask"], points[0], self.images)
            if found is not None:
                return found
        self.findings.error(
            "shape-not-used",
            file,
            f"Shape {number} is a {str(kind)[:20]} of {len(points)} point{'' if len(points) == 1 else 's'}; it is left out.",
            "Draw a rectangle or a polygon.",
            line,
        )
        return None

    def parsed(self) -> Parsed:
        """All that was read, one annotation set for each kind that occurs."""
        sets: list[ParsedSet] = []
        columns: list[dict[str, Any]] = []
        if self.labels and any(self.labels.values()):
            single = all(len(numbers) == 1 for numbers in self.labels.values())
            kind = AnnotationKind.SINGLE_LABEL if single else AnnotationKind.MULTI_LABEL
            sets.append(ParsedSet("flags", kind, self.flags.names))
            columns.append({path: numbers[0] if single else numbers for path, numbers in self.labels.items()})
        any_objects = any(self.objects.values())
        if any(self.boxes.values()):
            without_mask = sum(map(len, self.boxes.values()))
            if any_objects:
                objects_have, them = ("object has", "it") if without_mask == 1 else ("objects have", "them")
                self.findings.warning(
                    "object-without-mask",
                    "",
                    f"{without_mask:,} {objects_have} a rectangle but no outline; only the set of boxes holds {them}.",
                    "Draw their outlines.",
                )
            # An outlined object is one for boxes as well: without it, its place would count as background.
            for path, objects in self.objects.items():
                self.boxes[path] += [(index, *box, line) for index, geometry, line in objects if (box := masks.extent(geometry))]
            sets.append(ParsedSet("boxes", AnnotationKind.BOXES, self.classes.names))
            columns.append(self.boxes)
        if any_objects:
            sets.append(ParsedSet("instances", AnnotationKind.INSTANCES, self.classes.names))
            columns.append(self.objects)
        if not sets:
            raise BadDataError(f"The LabelMe files of {self.source.name} hold no flags and no shapes.", "Label the images first.")
        for path, image in self.images.items():
            image.values = [column.get(path) for column in columns]
        return Parsed(NAME, sets, list(self.images.values()))


def _points(value: Any) -> list[tuple[float, float]] | None:
    if not isinstance(value, list) or not value:
        return None
    points = []
    for point in value:
        if not (isinstance(point, list) and len(point) == 2 and all(isinstance(side, (int, float)) and abs(side) < 1e9 for side in point)):
            return None
        points.append((float(point[0]), float(point[1])))
    return points


def _joined(parts: list[Any]) -> Geometry:
    if len(parts) == 1:
        return parts[0]  # type: ignore[no-any-return]
    return Polygons(tuple(ring for part in parts for ring in part.rings))


def _mask(encoded: str, corner: tuple[float, float], images: dict[str, ParsedImage]) -> Rle | None:
    """A mask shape: a PNG of its box, laid at `corner` of the image that was read last."""
    image = next(reversed(images.values()))
    if not (0 < image.width <= 65_535 and 0 < image.height <= 65_535 and image.width * image.height <= 100_000_000):
        return None
    try:
        picture = Image.open(BytesIO(base64.b64decode(encoded)), formats=("PNG",))
        if picture.width > image.width or picture.height > image.height:
            return None
        part = np.asarray(picture.convert("L")) > 0
    except (OSError, ValueError, SyntaxError, binascii.Error):
        return None
    whole = np.zeros((image.height, image.width), np.uint8)
    x, y = max(0, round(corner[0])), max(0, round(corner[1]))
    fitting = part[: image.height - y, : image.width - x]
    whole[y : y + fitting.shape[0], x : x + fitting.shape[1]] = fitting
    return Rle(image.width, image.height, masks.encode(whole).encode("ascii"))
