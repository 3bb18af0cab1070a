"""`label.csv`, which needs no header, paths relative to the file: single-label, multi-label, boxes and masks, told apart by their columns.

    path,class                              single-label
    path,class,0|1                          multi-label
    path,class,xLeft,yTop,width,height      boxes, in pixels
    path,class,width,height,mask            masks: base64 of zlib-compressed COCO run-length encoding
    path                                    an image without labels or objects

A first line such as `image,labels` is understood as column names; several labels in one cell are divided as `csv_labels` says.

An image that is not listed is left out.
"""

import base64
import binascii
import csv
import io
import math
import unicodedata
import zlib
from collections.abc import Callable, Iterator
from pathlib import PurePosixPath

from core.datasets.cells import unescape_cell
from core.datasets.findings import Findings
from core.datasets.formats import csv_labels
from core.datasets.names import ClassList, class_name, natural_key
from core.datasets.parsed import SPLIT_NAMES, Parsed, ParsedImage, ParsedSet, RawValue, Rle
from core.datasets.source import Source, images_of
from core.errors import BadDataError
from core.settings import Settings
from core.vocabulary import AnnotationKind

NAME = "label-csv"

_KINDS = {
    2: AnnotationKind.SINGLE_LABEL,
    3: AnnotationKind.MULTI_LABEL,
    6: AnnotationKind.BOXES,
    5: AnnotationKind.REGIONS,
}
_COLUMNS = {
    AnnotationKind.SINGLE_LABEL: "path,class",
    AnnotationKind.MULTI_LABEL: "path,class,0|1",
    AnnotationKind.BOXES: "path,class,xLeft,yTop,width,height",
    AnnotationKind.REGIONS: "path,class,width,height,mask",
}
_FILES = ("label.csv", "labels.csv")
_LONGEST_MASK = 50_000_000  # bytes of one run-length encoding, unpacked
# The csv module's own limit of 128 KB a cell would refuse large masks.
csv.field_size_limit(_LONGEST_MASK)


def find_files(source: Source) -> list[str]:
    """The label.csv files of a source, outermost first."""
    found = [path for path in source.members if path.lower().endswith(_FILES) and path.lower().rpartition("/")[2] in _FILES]
    return sorted(found, key=lambda path: (path.count("/"), path))


def detect(source: Source) -> bool:
    """Whether there is a label.csv."""
    return bool(find_files(source))


def read(source: Source, settings: Settings, findings: Findings, *, group_column: int = 0) -> Parsed:
    """Images and labels as the outermost label.csv lists them.

    `group_column`, counted from 1, is a further column that names the group of each image; 0 is none.

    Raises:
        BadDataError: when there is none, or nothing in it can be used.
    """
    files = find_files(source)
    if not files:
        raise BadDataError(f"{source.name} holds no label.csv.", "Put one beside the images; docs/datasets.md shows its columns.")
    file = files[0]
    for other in files[1:]:
        findings.error("second-label-file", other, f"Only {file} is read.", "Join both into one, or import each as a dataset of its own.")
    kind = _kind(source, file, group_column)
    header, separator = _header(source, file, group_column)
    table = _Table(source, file, AnnotationKind.MULTI_LABEL if separator else kind, findings, group_column)
    if header:
        table.headed, table.columns, table.separator = True, len(header), separator
        remedy = "If each cell is one class, call the column “label”." if separator else "Nothing needs to be done if that is so."
        findings.warning("header", file, csv_labels.understood(header[0], header[1], separator), remedy, 1)
    take = (
        table.several
        if separator
        else {
            AnnotationKind.SINGLE_LABEL: table.single_label,
            AnnotationKind.MULTI_LABEL: table.multi_label,
            AnnotationKind.BOXES: table.box,
            AnnotationKind.REGIONS: table.mask,
        }[kind]
    )
    table.read(take)
    if not table.images:
        raise BadDataError(f"No line of {file} names an image that is there.", "Paths in it are relative to its own folder.")
    return table.parsed()


def rows(source: Source, file: str) -> Iterator[tuple[int, list[str]]]:
    """Line number and cells of each row that is not blank.

    Raises:
        BadDataError: when the file cannot be read as CSV.
    """
    number = 0
    try:
        encoding, delimiter = _dialect(source, file)
        with source.open(file) as binary, io.TextIOWrapper(binary, encoding=encoding, errors="surrogateescape", newline="") as text:
            reader = csv.reader(text, skipinitialspace=True, delimiter=delimiter)
            for row in reader:
                number = reader.line_num
                if row and (row[0] or any(row)):
                    yield number, row
    except (csv.Error, zlib.error, OSError, UnicodeError) as error:
        raise BadDataError(f"{file}:{number + 1} cannot be read as CSV: {error}.", "Save it as plain CSV in UTF-8, with commas.") from error


def _dialect(source: Source, file: str) -> tuple[str, str]:
    """Encoding and delimiter: spreadsheets write semicolons where the comma is the decimal sign, tabs in “Unicode text”, and that in UTF-16."""
    with source.open(file) as binary:
        head = binary.read(4096)
    encoding = "utf-16" if head.startswith((b"\xff\xfe", b"\xfe\xff")) else "utf-8-sig"
    first = next((line for line in head.decode(encoding, "replace").splitlines() if line.strip()), "")
    return encoding, "," if "," in first.partition(";")[0] else ";" if ";" in first else "\t" if "\t" in first else ","


def legible(text: str) -> str:
    """A cell whose bytes were no UTF-8, as spreadsheets of Western Europe write them; any other cell as it is."""
    if text.isascii():
        return text
    data = text.encode("utf-8", "surrogateescape")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return data.decode("cp1252", "replace")


def number_in(cell: str) -> float:
    """A number, its decimals after a point or, as in many countries, a comma."""
    try:
        return float(cell)
    except ValueError:
        return float(cell.replace(",", ".", 1))


def _kind(source: Source, file: str, group_column: int) -> AnnotationKind:
    """The kind of the first row that has more than a path."""
    only_paths = False
    for number, whole in rows(source, file):
        row, _ = _without_group(whole, group_column)
        cells = len(_trimmed(row))
        if cells in _KINDS:
            return _KINDS[cells]
        if cells > 1:
            expected = "; ".join(_COLUMNS.values())
            raise BadDataError(f"{file}:{number} has {cells} columns.", f"A row is one of: {expected}.")
        only_paths = True
    if only_paths:
        raise BadDataError(f"{file} holds paths but no labels.", "Add the class as the second column.")
    raise BadDataError(f"{file} is empty.", "Write one row per image: path,class.")


def _header(source: Source, file: str, group_column: int) -> tuple[list[str], str]:
    """The names of the columns where the first line is such, and what divides several labels in a cell."""
    lines = (_trimmed(_without_group(row, group_column)[0]) for _, row in rows(source, file))
    header = [legible(cell).strip() for cell in next(lines)]
    if not csv_labels.names_image_and_label(header):
        return [], ""
    cells: set[str] = set()
    for row in lines:
        if len(row) > len(header):
            return [], ""  # names for something else
        cells.update(row[1:])
    return header, csv_labels.separator(header[1], cells)


def _without_group(row: list[str], column: int) -> tuple[list[str], str]:
    """The row without the column of groups, and what stands there."""
    if not 0 < column <= len(row):
        return row, ""
    return row[: column - 1] + row[column:], row[column - 1].strip()


def _trimmed(row: list[str]) -> list[str]:
    while len(row) > 1 and not row[-1].strip():
        row = row[:-1]
    return row


class _Table:
    """The rows read so far."""

    def __init__(self, source: Source, file: str, kind: AnnotationKind, findings: Findings, group_column: int) -> None:
        self.group_column = group_column
        self.source, self.file, self.kind, self.findings = source, file, kind, findings
        folder = str(PurePosixPath(file).parent)
        self.folder = "" if folder == "." else f"{folder}/"
        self.columns = _COLUMNS[kind].count(",") + 1
        self.headed = False  # the first line names the columns
        self.separator = ""
        self.images: dict[str, ParsedImage] = {}
        self._bare: set[str] = set()  # images that a row names and says nothing of
        self.classes = ClassList()
        self._composed: dict[str, str] | None = None
        self._by_text: dict[str, int] = {}
        self._splits: dict[str, str] = {}

    def read(self, take: Callable[[ParsedImage, list[str], int], None]) -> None:
        """Go through the rows, giving each to `take`."""
        members, images, folder = self.source.members, self.images, self.folder
        for place, (number, row) in enumerate(rows(self.source, self.file)):
            if self.headed and place == 0:
                continue
            group = ""
            if self.group_column:
                row, group = _without_group(row, self.group_column)
            if len(row) != self.columns or not row[-1]:
                row = _trimmed(row)
            path = folder + row[0]
            if path not in members:
                path = self._resolve(row[0])
                if not path:
                    self._missing(row, number)
                    continue
            image = images.get(path)
            if image is None:
                image = images[path] = ParsedImage(path, [None], self._split(path), group, annotation_file=self.file)
            if len(row) == self.columns:
                take(image, row, number)
            elif len(row) <= 1:
                self._bare.add(path)
            else:
                self._bad(number, f"The row has {len(row)} columns, the others {self.columns}.", f"Write it as {_COLUMNS[self.kind]}.")

    def parsed(self) -> Parsed:
        """All that was read, classes in natural order."""
        for path, image in list(self.images.items()):
            if image.values[0] is None and path in self._bare and self.kind is not AnnotationKind.SINGLE_LABEL:
                image.values[0] = []  # listed without labels or objects
            elif image.values[0] is None and self.kind is not AnnotationKind.SINGLE_LABEL:
                self.findings.nothing_usable(path)
                del self.images[path]
            elif image.values[0] is None:
                self.findings.error("no-class", path, "No row gives the image a class.", "Add the class as the second column.")
                del self.images[path]
        new = self.classes.sorted_order()
        for image in self.images.values():
            image.values[0] = _renumbered(self.kind, image.values[0], new)
        name = {AnnotationKind.BOXES: "boxes", AnnotationKind.REGIONS: "regions"}.get(self.kind, "labels")
        return Parsed(NAME, [ParsedSet(name, self.kind, sorted(self.classes.names, key=natural_key))], list(self.images.values()))

    # One method per kind; each takes one row into the image.

    def single_label(self, image: ParsedImage, row: list[str], number: int) -> None:
        """`path,class`."""
        index = self._class(row[1], number)
        if index is None:
            return
        if image.values[0] is not None and image.values[0] != index:
            first = self.classes.names[image.values[0]]
            self.findings.error(
                "conflicting-label",
                self.file,
                f"{row[0]} is given {row[1]}, but was given {first} before; the first counts.",
                "Keep one of the rows.",
                number,
            )
            return
        image.values[0] = index

    def multi_label(self, image: ParsedImage, row: list[str], number: int) -> None:
        """`path,class,0|1`."""
        mark = row[2].strip()
        if mark not in ("0", "1", "0.0", "1.0"):
            self._bad(number, f"The third column is “{mark[:40]}”, not 0 or 1.", "Write 1 where the image has the label, else 0.")
            return
        index = self._class(row[1], number)
        if index is None:
            return
        if image.values[0] is None:
            image.values[0] = []
        if mark[0] == "1" and index not in image.values[0]:
            image.values[0].append(index)

    def several(self, image: ParsedImage, row: list[str], number: int) -> None:
        """`path,labels` below a line of column names."""
        if image.values[0] is None:
            image.values[0] = []
        for label in csv_labels.divided(row[1], self.separator):
            index = self._class(label, number)
            if index is not None and index not in image.values[0]:
                image.values[0].append(index)

    def box(self, image: ParsedImage, row: list[str], number: int) -> None:
        """`path,class,xLeft,yTop,width,height`."""
        try:
            x, y, width, height = number_in(row[2]), number_in(row[3]), number_in(row[4]), number_in(row[5])
        except ValueError:
            self._bad(number, "The box has a coordinate that is no number.", "Write xLeft,yTop,width,height in pixels.")
            return
        if not math.isfinite(x + y + width + height):
            self._bad(number, "The box has a coordinate that is not finite.", "Write xLeft,yTop,width,height in pixels.")
            return
        index = self._class(row[1], number)
        if index is None:
            return
        if image.values[0] is None:
            image.values[0] = []
        image.values[0].append((index, x, y, width, height, number))

    def mask(self, image: ParsedImage, row: list[str], number: int) -> None:
        """`path,class,width,height,mask`."""
        try:
            width, height = int(float(row[2])), int(float(row[3]))
            decoder = zlib.decompressobj()
            counts = decoder.decompress(base64.b64decode(row[4], validate=True), _LONGEST_MASK)
            if decoder.unconsumed_tail or width <= 0 or height <= 0:
                raise ValueError("too long, or without a size")
            if not counts or min(counts) < 48 or max(counts) > 111:
                raise ValueError("no run-length encoding")
        except (ValueError, OverflowError, binascii.Error, zlib.error) as error:
            self._bad(
                number,
                f"The mask cannot be decoded: {error}.",
                "Write base64 of the zlib-compressed COCO run-length encoding, as Open Images does.",
            )
            return
        index = self._class(row[1], number)
        if index is None:
            return
        if image.values[0] is None:
            image.values[0] = []
        image.values[0].append((index, Rle(width, height, counts), number))

    def _split(self, path: str) -> str:
        """The split whose folder the image lies in, such as train/ or images/val/."""
        folder = path.rpartition("/")[0]
        if folder not in self._splits:
            parts = folder[len(self.folder) :].lower().split("/")
            self._splits[folder] = next((SPLIT_NAMES[part] for part in parts if part in SPLIT_NAMES), "")
        return self._splits[folder]

    def _class(self, text: str, number: int) -> int | None:
        index = self._by_text.get(text)
        if index is None:
            # A quote before a formula character is the escape of our own export.
            name = class_name(legible(unescape_cell(text)))
            if not name:
                self._bad(number, "The class has no name.", "Write the name of the class as the second column.")
                return None
            index = self._by_text[text] = self.classes.index(name)
        return index

    def _resolve(self, text: str) -> str:
        """The member that a cell means when it is not written exactly so: `./`, backslashes, blanks, another Unicode form."""
        members = self.source.members
        name = str(PurePosixPath(unescape_cell(text.strip()).replace("\\", "/")))
        for path in (self.folder + name, name):
            if path in members:
                return path
        name = legible(name)
        if self._composed is None:
            self._composed = {unicodedata.normalize("NFC", path): path for path in members}
            self._by_name: dict[str, list[str]] = {}
            for path in images_of(self.source):
                self._by_name.setdefault(unicodedata.normalize("NFC", path.rpartition("/")[2]), []).append(path)
        name = unicodedata.normalize("NFC", name)
        # A bare name means the image of that name, wherever it lies, if there is only one.
        alone = self._by_name.get(name, [])
        return self._composed.get(unicodedata.normalize("NFC", self.folder) + name) or (alone[0] if len(alone) == 1 else "")

    def _missing(self, row: list[str], number: int) -> None:
        shown = row[0][:200].encode("utf-8", "replace").decode()
        if number == 1 and not self.images and PurePosixPath(row[0]).suffix == "":
            self.findings.warning(
                "header", self.file, f"The first line looks like a header (“{shown}”) and is left out.", "label.csv has no header.", 1
            )
            return
        self.findings.error("missing-image", self.file, f"There is no image {shown}.", "Add the image, or take the row out.", number)

    def _bad(self, number: int, message: str, remedy: str) -> None:
        self.findings.error("bad-row", self.file, message, remedy, number)


def _renumbered(kind: AnnotationKind, value: RawValue, new: list[int]) -> RawValue:
    if kind is AnnotationKind.SINGLE_LABEL:
        return new[value]
    if kind is AnnotationKind.MULTI_LABEL:
        return sorted(new[index] for index in value)
    return [(new[item[0]], *item[1:]) for item in value]
