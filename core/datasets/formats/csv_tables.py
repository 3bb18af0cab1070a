"""CSV files whose first line names their columns, as labelling services and competitions write them: a label, boxes, or a column per class.

    filename,width,height,class,xmin,ymin,xmax,ymax     boxes, a row each (corners, or x, y, width and height)
    image_id,label                                      single labels; several where they are joined, see `csv_labels`
    filename,cat,dog,bird                               0 or 1 for each class

Further columns may name a split and a group. A file called `label.csv` is read by `label_csv`, unless such a line says where the boxes of its
objects are, or names a column per class.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import PurePosixPath
from typing import Any

from core.datasets.cells import unescape_cell
from core.datasets.findings import Findings
from core.datasets.formats import csv_labels, label_csv
from core.datasets.names import ClassList, class_name, match_key, natural_key
from core.datasets.parsed import SPLIT_NAMES, Parsed, ParsedImage, ParsedSet, split_of
from core.datasets.source import Source, images_of
from core.errors import BadDataError
from core.settings import Settings
from core.vocabulary import AnnotationKind

NAME = "csv-table"

_SPLIT = ("split", "subset", "partition", "set", "usage")
_GROUP = ("group", "groupid", "patientid", "patient", "studyid", "lesionid")
# x and y of one corner, and of the other, or width and height.
_CORNERS = (("xmin", "ymin", "xmax", "ymax"), ("x1", "y1", "x2", "y2"))
_SIZES = (("xleft", "ytop", "width", "height"), ("xmin", "ymin", "width", "height"), ("x", "y", "width", "height"), ("x", "y", "w", "h"))
_LOOKED_AT = 50  # rows that decide whether a file is such a table
_MARKS = {"0": False, "1": True, "0.0": False, "1.0": True, "": False}


@dataclass
class _Layout:
    """Which column says what, by its number from 0."""

    image: int
    label: int | None = None
    separator: str = ""  # of several labels in one cell
    box: tuple[int, int, int, int] | None = None
    corners: bool = False  # the box's last two numbers are its other corner
    marks: dict[int, str] = field(default_factory=dict)  # class name by column
    doubtful: tuple[int, ...] = ()  # columns that are mostly, but not clearly, of a class
    split: int | None = None
    group: int | None = None

    @property
    def kind(self) -> AnnotationKind:
        """What the table holds; single labels may turn out to be several."""
        return AnnotationKind.BOXES if self.box else AnnotationKind.MULTI_LABEL if self.marks else AnnotationKind.SINGLE_LABEL


def detect(source: Source) -> bool:
    """Whether there is a table most of whose rows name images that are there."""
    return bool(_tables(source))


def read(source: Source, settings: Settings, findings: Findings) -> Parsed:
    """All tables of the source that hold the same as the first.

    Raises:
        BadDataError: when there is none, or nothing in it can be used.
    """
    tables = _tables(source)
    if not tables:
        raise BadDataError(
            f"{source.name} holds no CSV with a line of column names that speaks of its images.",
            "Name a column filename, and others label, or xmin, ymin, xmax and ymax, or one for each class.",
        )
    kind = tables[0][1].kind
    reading = _Reading(kind, _Images(source), findings)
    for file, layout in tables:
        if layout.kind is kind:
            reading.read(source, file, layout)
        else:
            findings.error(
                "second-label-file", file, f"The table holds {layout.kind}, {tables[0][0]} {kind}.", "Import it as a dataset of its own."
            )
    return reading.parsed()


def is_named(source: Source, file: str) -> bool:
    """Whether a file's first line says where boxes are, or names a column per class: without it 0 and 1 or corners may look like other numbers."""
    found = _layout_of(source, file)
    return found is not None and bool(found[0].box or found[0].marks)


def _layout_of(source: Source, file: str) -> tuple[_Layout, list[list[str]]] | None:
    """What the line of column names says, and the first rows below it; None where there is no such line."""
    try:
        head = [row for _, row in islice(label_csv.rows(source, file), _LOOKED_AT + 1)]
    except BadDataError:
        return None
    layout = _layout(head[0], head[1:]) if len(head) > 1 else None
    return (layout, head[1:]) if layout is not None else None


def _tables(source: Source) -> list[tuple[str, _Layout]]:
    """Files that are such tables, and their layouts."""
    found = []
    images = None
    # What a competition wants to be sent is labels too, but made up.
    tables = (path for path in source.members if path.lower().endswith(".csv") and "submission" not in path.lower())
    candidates = sorted(tables, key=lambda path: (path.count("/"), path))
    for path in candidates[:_LOOKED_AT]:
        told = _layout_of(source, path)
        if told is None:
            continue
        layout, rows = told
        images = images or _Images(source)
        named = sum(1 for row in rows if layout.image < len(row) and images.find(row[layout.image], path))
        if named * 2 > len(rows):
            found.append((path, layout))
    return found


def _layout(header: list[str], rows: list[list[str]]) -> _Layout | None:
    names = [csv_labels.column_name(cell) for cell in header]
    place = {name: number for number, name in reversed(list(enumerate(names)))}

    def first(wanted: tuple[str, ...]) -> int | None:
        return next((place[name] for name in wanted if name in place), None)

    image, label = first(csv_labels.IMAGE), first(csv_labels.LABEL)
    if image is None:
        return None
    layout = _Layout(image, split=first(_SPLIT), group=first(_GROUP))
    if label is not None:
        layout.label = label
        for wanted in (*_CORNERS, *_SIZES):
            if all(name in place for name in wanted):
                x, y, right, bottom = (place[name] for name in wanted)
                layout.box, layout.corners = (x, y, right, bottom), wanted in _CORNERS
                break
        return layout
    others = [number for number in range(len(names)) if number not in (image, layout.split, layout.group) and names[number]]
    marked, doubtful = {}, []
    for number in others:
        marks = sum(1 for row in rows if number < len(row) and row[number].strip() in _MARKS)
        odd = len(rows) - marks
        if not any(_cell(row, number) for row in rows):
            continue
        # A slip or two in a column of marks make it no other column: the row is refused, and said why.
        if not odd or (odd <= max(1, len(rows) // 20) and odd * 4 <= marks):
            marked[number] = class_name(label_csv.legible(header[number]))
        elif odd < marks:
            doubtful.append(number)
    if len(marked) < 2:
        return None
    layout.marks, layout.doubtful = marked, tuple(doubtful)
    return layout


class _Images:
    """The images of a source by how tables name them: with their path, their name, or their name without its suffix."""

    def __init__(self, source: Source) -> None:
        self._paths = set(images_of(source))
        self._named: dict[str, list[str]] = {}
        for path in sorted(self._paths):
            name = match_key(path.rpartition("/")[2])
            for key in dict.fromkeys((name, name.rpartition(".")[0])):
                self._named.setdefault(key, []).append(path)

    def find(self, cell: str, file: str) -> str:
        """The image that a cell of `file` means, the nearest of several; nothing where there is none."""
        text = label_csv.legible(unescape_cell(cell.strip())).replace("\\", "/").removeprefix("./")
        folder = file.rpartition("/")[0]
        for path in (f"{folder}/{text}" if folder else text, text):
            if path in self._paths:
                return path
        found = self._named.get(match_key(text.rpartition("/")[2]), []) if text else []
        near = set(PurePosixPath(folder).parts) | {PurePosixPath(file).stem, *PurePosixPath(text).parts}
        return max(found, key=lambda path: (len(near & set(PurePosixPath(path).parts[:-1])), -path.count("/")), default="")


class _Reading:
    """The tables read so far."""

    def __init__(self, kind: AnnotationKind, images: _Images, findings: Findings) -> None:
        self.kind, self._images, self._findings = kind, images, findings
        self.images: dict[str, ParsedImage] = {}
        self._usable: set[str] = set()  # images of which a row could be used
        self.classes = ClassList()

    def read(self, source: Source, file: str, layout: _Layout) -> None:
        """Take one table in."""
        table_split = split_of(file)
        if layout.label is not None and layout.box is None:
            layout = replace(layout, separator=self._separator(source, file, layout.image, layout.label))
        for column in layout.doubtful:
            self._leave_out(source, file, column)
        for number, row in islice(label_csv.rows(source, file), 1, None):
            cell = row[layout.image] if layout.image < len(row) else ""
            path = self._images.find(cell, file)
            if not path:
                shown = cell[:200].encode("utf-8", "replace").decode()
                self._findings.error("missing-image", file, f"There is no image {shown}.", "Add the image, or take the row out.", number)
                continue
            image = self.images.get(path)
            if image is None:
                split = SPLIT_NAMES.get(_cell(row, layout.split).lower(), "") or split_of(path.rpartition("/")[0]) or table_split
                image = self.images[path] = ParsedImage(path, [[]], split, _cell(row, layout.group), annotation_file=file)
            try:
                image.values[0] += list(self._said(row, layout, number))  # all of a row, or nothing
                self._usable.add(path)
            except ValueError as error:
                self._findings.error(
                    "bad-row", file, f"The row cannot be used: {error}.", "Write it as the line of column names says.", number
                )

    def _leave_out(self, source: Source, file: str, column: int) -> None:
        """Say which cell shows that a column is not of a class."""
        lines = label_csv.rows(source, file)
        _, header = next(lines)
        number, cell = next((number, _cell(row, column)) for number, row in lines if _cell(row, column) not in _MARKS or column >= len(row))
        self._findings.warning(
            "column-left-out",
            file,
            f"The column “{label_csv.legible(header[column])[:40]}” is left out: “{label_csv.legible(cell)[:40]}” is neither 0 nor 1.",
            "If the column is a class, write 0 or 1 in each of its rows. Nothing needs to be done if it is none.",
            number,
        )

    def _separator(self, source: Source, file: str, image: int, label: int) -> str:
        rows = label_csv.rows(source, file)
        _, header = next(rows)
        found = csv_labels.separator(header[label], {_cell(row, label) for _, row in rows})
        if found not in ("", "|"):
            self._findings.warning(
                "header",
                file,
                csv_labels.understood(header[image], header[label], found),
                "If each cell is one class, call the column “label”.",
                1,
            )
        return found

    def _said(self, row: list[str], layout: _Layout, number: int) -> Iterator[Any]:
        """What a row adds to its image. Raises ValueError where a cell is not what its column says."""
        if layout.marks:
            for column, name in layout.marks.items():
                mark = _MARKS.get(_cell(row, column))
                if mark is None:
                    raise ValueError(f"“{_cell(row, column)[:40]}” in the column “{name[:40]}” is neither 0 nor 1")
                index = self.classes.index(name)
                if mark:
                    yield index
            return
        label = _cell(row, layout.label)
        if layout.box is None:
            for part in csv_labels.divided(label, layout.separator):
                if name := class_name(label_csv.legible(unescape_cell(part))):
                    yield self.classes.index(name)
            return
        cells = [_cell(row, column) for column in layout.box]
        if not label and not any(cells):
            return  # an image without objects
        x, y, right, bottom = (label_csv.number_in(cell) for cell in cells)
        if not math.isfinite(x + y + right + bottom):
            raise ValueError("a coordinate is not finite")
        name = class_name(label_csv.legible(unescape_cell(label)))
        if not name:
            raise ValueError("the box has no class")
        yield self.classes.index(name), x, y, right - x if layout.corners else right, bottom - y if layout.corners else bottom, number

    def parsed(self) -> Parsed:
        """All that was read. Labels of which each image has one are single ones."""
        for path in [path for path in self.images if path not in self._usable]:
            self._findings.nothing_usable(path)
            del self.images[path]
        kind = self.kind
        if kind is not AnnotationKind.BOXES:
            counts = {len(set(image.values[0])) for image in self.images.values()}
            kind = (
                AnnotationKind.MULTI_LABEL
                if counts - {0, 1} or (self.kind is AnnotationKind.MULTI_LABEL and 0 in counts)
                else AnnotationKind.SINGLE_LABEL
            )
        new = self.classes.sorted_order()
        for path, image in list(self.images.items()):
            said = image.values[0]
            if kind is AnnotationKind.BOXES:
                image.values[0] = [(new[box[0]], *box[1:]) for box in said]
            elif kind is AnnotationKind.MULTI_LABEL:
                image.values[0] = sorted({new[index] for index in said})
            elif said:
                image.values[0] = new[said[0]]
            else:
                self._findings.error("no-class", path, "No row gives the image a class.", "Write one into its row.")
                del self.images[path]
        if not self.images:
            raise BadDataError("No row of the table can be used.", "Each needs an image that is there, and its label.")
        name = "boxes" if kind is AnnotationKind.BOXES else "labels"
        return Parsed(NAME, [ParsedSet(name, kind, sorted(self.classes.names, key=natural_key))], list(self.images.values()))


def _cell(row: list[str], column: int | None) -> str:
    return row[column].strip() if column is not None and column < len(row) else ""
