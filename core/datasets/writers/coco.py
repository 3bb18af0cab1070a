"""COCO JSON, a file per split, masks run-length encoded."""

import json
from collections.abc import Iterable, Iterator
from typing import IO, Any

from core.datasets import masks
from core.datasets.records import Record
from core.datasets.writers.export import Export, named_images, write_groups
from core.datasets.writers.output import Output
from core.vocabulary import AnnotationKind


def write(export: Export, out: Output) -> None:
    """Write images below images/ and what is on them below annotations/."""
    splits = export.has_splits()

    def place(record: Record) -> str:
        return f"images/{record.split or 'train'}" if splits else "images"

    paths: dict[int, str] = {}
    for record, path in named_images(export, place):
        out.write(path, export.read(record))
        paths[record.position] = path
        export.progress()
    for split in sorted({record.split or "train" for record in export.records()}) if splits else [""]:
        with out.writing(f"annotations/instances_{split}.json" if split else "annotations/instances.json") as file:
            _write_file(file, export, split, paths)
    write_groups(export, out, lambda record: paths[record.position])


def _write_file(file: IO[bytes], export: Export, split: str, paths: dict[int, str]) -> None:
    def chosen() -> Iterator[Record]:
        return (record for record in export.records() if not split or (record.split or "train") == split)

    categories = [{"id": number, "name": name, "supercategory": ""} for number, name in enumerate(export.classes, 1)]
    file.write(b'{\n"info": {"description": ' + _json(export.name) + b'},\n"categories": ' + _json(categories))
    file.write(b',\n"images": [\n')
    _join(file, (_image(record, paths[record.position]) for record in chosen()))
    file.write(b'\n],\n"annotations": [\n')
    _join(file, _annotations(export, chosen()))
    file.write(b"\n]\n}\n")


def _image(record: Record, path: str) -> dict[str, Any]:
    # Relative to images/, as the annotations folder of COCO has it.
    return {"id": record.position + 1, "file_name": path.removeprefix("images/"), "width": record.width, "height": record.height}


def _annotations(export: Export, records: Iterable[Record]) -> Iterator[dict[str, Any]]:
    number = 0
    for record in records:
        boxes = export.boxes.get(record.position, [])
        objects = export.objects(record)
        crowds = []
        if export.kind is AnnotationKind.REGIONS:
            export.leave_ignored_out(record)
        else:
            crowds = export.ignored(record)
        areas = record.value.get("areas", ())
        for place, item in enumerate([*objects, *crowds]):
            number += 1
            entry: dict[str, Any] = {"id": number, "image_id": record.position + 1, "category_id": int(str(item[0])) + 1}
            entry["iscrowd"] = int(place >= len(objects))
            area = areas[place] if place < len(areas) else None
            if export.kind is AnnotationKind.BOXES:
                box = [float(str(side)) for side in item[1:]]
                yield entry | {"bbox": box, "area": area or box[2] * box[3], "segmentation": []}
                continue
            rle = str(item[1])
            as_given = len(boxes) == len(objects) and place < len(objects)
            given = boxes[place] if as_given else list(masks.box(rle, record.width, record.height))
            area = area or masks.area(rle, record.width, record.height)
            yield entry | {"bbox": given, "area": area, "segmentation": {"size": [record.height, record.width], "counts": rle}}


def _join(file: IO[bytes], entries: Iterable[dict[str, Any]]) -> None:
    for number, entry in enumerate(entries):
        file.write((b",\n" if number else b"") + _json(entry))


def _json(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")
