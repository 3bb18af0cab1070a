"""YOLO: boxes, or outlines of objects, as fractions in a text file per image, and `data.yaml`."""

import yaml

from core.datasets import masks
from core.datasets.outlines import joined, outlines
from core.datasets.records import Record
from core.datasets.writers.export import Export, named_images, write_groups
from core.datasets.writers.output import Output
from core.vocabulary import AnnotationKind


def write(export: Export, out: Output) -> None:
    """Write images/, labels/ and data.yaml."""
    splits = export.has_splits()

    def place(record: Record) -> str:
        return f"images/{record.split or 'train'}" if splits else "images"

    paths: dict[int, str] = {}
    for record, path in named_images(export, place):
        out.write(path, export.read(record))
        label = "labels" + path.removeprefix("images").rpartition(".")[0] + ".txt"
        out.write(label, "".join(f"{line}\n" for line in _lines(export, record)).encode())
        paths[record.position] = path
        export.leave_ignored_out(record)
        export.progress()
    used = {record.split or "train" for record in export.records()} if splits else set()
    # Without splits of the source both point to all images: whoever trains divides them.
    described: dict[str, object] = {split: f"images/{split}" for split in ("train", "val", "test") if split in used} or {
        "train": "images",
        "val": "images",
    }
    described["nc"] = len(export.classes)
    described["names"] = dict(enumerate(export.classes))
    out.write("data.yaml", yaml.safe_dump(described, allow_unicode=True, sort_keys=False).encode())
    write_groups(export, out, lambda record: paths[record.position])


def _lines(export: Export, record: Record) -> list[str]:
    lines = []
    for item in export.objects(record):
        if export.kind is AnnotationKind.BOXES:
            x, y, width, height = (float(str(side)) for side in item[1:])
            numbers = [(x + width / 2) / record.width, (y + height / 2) / record.height, width / record.width, height / record.height]
        else:
            rings = outlines(masks.decode(str(item[1]), record.width, record.height))
            numbers = [side for x, y in joined(rings) for side in (x / record.width, y / record.height)]
        lines.append(" ".join([str(item[0]), *(f"{number:.12g}" for number in numbers)]))
    return lines
