"""`label.csv` and the images it lists."""

import base64
import csv
import io
import zlib

from core.datasets.cells import escape_cell
from core.datasets.records import Record
from core.datasets.writers.export import Export, named_images
from core.datasets.writers.output import Output
from core.vocabulary import AnnotationKind


def write(export: Export, out: Output) -> None:
    """Write images below images/ and the rows that describe them."""
    splits = export.has_splits()

    def place(record: Record) -> str:
        return f"images/{record.split or 'train'}" if splits else "images"

    with io.BytesIO() as rows:
        text = io.TextIOWrapper(rows, "utf-8", newline="", write_through=True)
        writer = csv.writer(text, lineterminator="\n")
        for record, path in named_images(export, place):
            out.write(path, export.read(record))
            for row in _rows(export, record):
                writer.writerow([escape_cell(path), *row])
            export.leave_ignored_out(record)
            export.progress()
        text.flush()
        out.write("label.csv", rows.getvalue())


def _rows(export: Export, record: Record) -> list[list[object]]:
    """The cells after the path, a list for each row."""
    classes = [escape_cell(name) for name in export.classes]
    if export.kind is AnnotationKind.SINGLE_LABEL:
        return [[classes[record.value["label"]]]]
    if export.kind is AnnotationKind.MULTI_LABEL:
        found = set(record.value["labels"])
        return [[name, int(number in found)] for number, name in enumerate(classes)]
    objects = export.objects(record)
    if not objects:
        return [[]]
    if export.kind is AnnotationKind.BOXES:
        return [[classes[int(str(number))], *(f"{side:.10g}" for side in box)] for number, *box in objects]
    return [[classes[int(str(number))], record.width, record.height, packed(str(rle))] for number, rle in objects]


def packed(rle: str) -> str:
    """A mask as Open Images writes it: base64 of the zlib-compressed run-length encoding."""
    return base64.b64encode(zlib.compress(rle.encode("ascii"), 9)).decode("ascii")
