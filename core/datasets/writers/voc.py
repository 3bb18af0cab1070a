"""Pascal VOC: boxes in XML, regions and objects as indexed masks with a `labelmap.txt`, splits in ImageSets/."""

from io import BytesIO
from xml.etree.ElementTree import Element, SubElement, indent, tostring

import numpy as np
from PIL import Image

from core.datasets import masks
from core.datasets.records import Record
from core.datasets.writers.export import Export, named_images, write_groups
from core.datasets.writers.output import Output
from core.errors import BadDataError
from core.vocabulary import AnnotationKind

_BORDER = 255
_MOST_VALUES = _BORDER - 1  # 0 is the background


def palette() -> list[int]:
    """The 256 colours of VOC's masks, flat: the bits of the index spread over the channels from the top."""
    flat = []
    for index in range(256):
        channels = [0, 0, 0]
        for bit in range(8):
            for channel in range(3):
                channels[channel] |= (index >> (3 * bit + channel) & 1) << (7 - bit) if 3 * bit + channel < 8 else 0
        flat += channels
    return flat


def write(export: Export, out: Output) -> None:
    """Write JPEGImages/, Annotations/, ImageSets/ and, for masks, SegmentationClass/ and SegmentationObject/.

    Raises:
        BadDataError: when there are more classes, or objects on one image, than a mask has values.
    """
    masked = export.kind is not AnnotationKind.BOXES
    if masked and len(export.classes) > _MOST_VALUES:
        raise BadDataError(
            f"The masks of VOC tell at most {_MOST_VALUES} classes apart; there are {len(export.classes)}.", "Export as COCO."
        )
    stems: dict[str, list[str]] = {}
    paths: dict[int, str] = {}
    for record, path in named_images(export, lambda record: "JPEGImages"):
        out.write(path, export.read(record))
        name = path.rpartition("/")[2]
        stem = name.rpartition(".")[0]
        paths[record.position] = path
        stems.setdefault(record.split, []).append(stem)
        if export.kind is not AnnotationKind.REGIONS:
            out.write(f"Annotations/{stem}.xml", _xml(export, record, name))
        if masked:
            classes, objects = _pictures(export, record)
            out.write(f"SegmentationClass/{stem}.png", _png(classes))
            if export.kind is AnnotationKind.INSTANCES:
                out.write(f"SegmentationObject/{stem}.png", _png(objects))
        export.progress()
    for split, names in stems.items():
        if split:
            out.write(f"ImageSets/Main/{split}.txt", "".join(f"{name}\n" for name in names).encode())
    if masked:
        colours = palette()
        lines = ["# label:color_rgb:parts:actions", "background:0,0,0::"]
        lines += [
            f"{name}:{colours[3 * number]},{colours[3 * number + 1]},{colours[3 * number + 2]}::"
            for number, name in enumerate(export.classes, 1)
        ]
        out.write("labelmap.txt", "\n".join([*lines, ""]).encode())
    write_groups(export, out, lambda record: paths[record.position])


def _xml(export: Export, record: Record, name: str) -> bytes:
    root = Element("annotation")
    SubElement(root, "filename").text = name
    size = SubElement(root, "size")
    for tag, side in (("width", record.width), ("height", record.height), ("depth", 3)):
        SubElement(size, tag).text = str(side)
    SubElement(root, "segmented").text = "0" if export.kind is AnnotationKind.BOXES else "1"
    given = export.boxes.get(record.position, [])
    objects = export.objects(record)
    for place, item in enumerate([*objects, *export.ignored(record)]):
        if export.kind is AnnotationKind.BOXES:
            box = [float(str(side)) for side in item[1:]]
        elif len(given) == len(objects) and place < len(objects):
            box = given[place]
        else:
            box = list(masks.box(str(item[1]), record.width, record.height))
        element = SubElement(root, "object")
        SubElement(element, "name").text = export.classes[int(str(item[0]))]
        SubElement(element, "truncated").text = "0"
        SubElement(element, "difficult").text = str(int(place >= len(objects)))
        corners = SubElement(element, "bndbox")
        # Counted from 1, the last pixel included.
        for tag, value in (("xmin", box[0] + 1), ("ymin", box[1] + 1), ("xmax", box[0] + box[2]), ("ymax", box[1] + box[3])):
            SubElement(corners, tag).text = f"{value:.10g}"
    indent(root)
    return bytes(tostring(root, "utf-8"))


def _pictures(export: Export, record: Record) -> tuple[np.ndarray, np.ndarray]:
    """The mask of classes and that of objects; where objects overlap, the smaller lies above."""
    classes = np.zeros((record.height, record.width), np.uint8)
    objects = np.zeros_like(classes)
    found = [(int(str(number)), str(rle)) for number, rle in export.objects(record)]
    if export.kind is AnnotationKind.INSTANCES and len(found) > _MOST_VALUES:
        raise BadDataError(
            f"The masks of VOC tell at most {_MOST_VALUES} objects apart; {record.path} has {len(found)}.", "Export as COCO."
        )
    order = sorted(range(len(found)), key=lambda place: -masks.area(found[place][1], record.width, record.height))
    for place in order:
        number, rle = found[place]
        inside = masks.decode(rle, record.width, record.height).astype(bool)
        if classes[inside].any():
            export.losses["masks lie over others, and only the upper one keeps the pixels that they share"] += 1
        classes[inside] = number + 1
        objects[inside] = place + 1
    if export.kind is AnnotationKind.REGIONS and (ignored := record.value.get("ignored")):
        classes[(classes == 0) & masks.decode(ignored, record.width, record.height).astype(bool)] = _BORDER
    return classes, objects


def _png(values: np.ndarray) -> bytes:
    picture = Image.fromarray(values, "P")
    picture.putpalette(palette())
    out = BytesIO()
    picture.save(out, "PNG")
    return out.getvalue()
