"""Pascal VOC: an XML file of boxes per image, and class and object masks where they are given."""

import re
from collections.abc import Collection
from pathlib import PurePosixPath
from typing import Any
from xml.etree.ElementTree import Element, ParseError

import defusedxml.ElementTree
from defusedxml.common import DefusedXmlException

from core.datasets.findings import Findings
from core.datasets.formats.mask_values import ClassNames, read_class_names, scan_masks, scan_objects
from core.datasets.formats.texts import read_text
from core.datasets.names import ClassList, class_name, match_key, natural_key
from core.datasets.parsed import NO_CLASS, MaskFile, Parsed, ParsedImage, ParsedSet, split_of
from core.datasets.source import Source, images_of
from core.errors import BadDataError
from core.settings import Settings
from core.vocabulary import AnnotationKind

NAME = "voc"

_LONGEST_XML = 20_000_000
# The order of the challenge, which is that of the values in its masks: background 0, aeroplane 1, …
VOC_CLASSES = (
    "aeroplane",
    "bicycle",
    "bird",
    "boat",
    "bottle",
    "bus",
    "car",
    "cat",
    "chair",
    "cow",
    "diningtable",
    "dog",
    "horse",
    "motorbike",
    "person",
    "pottedplant",
    "sheep",
    "sofa",
    "train",
    "tvmonitor",
)


def _xml_files(source: Source) -> list[str]:
    return [path for path in source.members if path.lower().endswith(".xml")]


def _mask_folder(path: str, name: str) -> bool:
    return PurePosixPath(path).parent.name.lower() == name.lower()


def detect(source: Source) -> bool:
    """Whether there are XML files with an `annotation` at their top, or the mask folders of VOC."""
    for path in sorted(_xml_files(source))[:20]:
        try:
            with source.open(path) as file:
                if b"<annotation" in file.read(2048):
                    return True
        except OSError:
            continue
    return any(_mask_folder(path, "SegmentationClass") for path in source.members)


def read(source: Source, settings: Settings, findings: Findings) -> Parsed:
    """Images with boxes, regions and objects, as far as there are any.

    Raises:
        BadDataError: when there are no images.
    """
    images = [path for path in images_of(source) if not re.search(r"(^|/)Segmentation(Class|Object)(Raw|Aug)?/", path, re.I)]
    if not images:
        raise BadDataError(f"{source.name} holds no images.", "Put them into JPEGImages/ beside Annotations/.")
    by_name: dict[str, list[str]] = {}
    by_stem: dict[str, list[str]] = {}
    for path in images:
        by_name.setdefault(match_key(PurePosixPath(path).name), []).append(path)
        by_stem.setdefault(match_key(PurePosixPath(path).stem), []).append(path)
    splits = _splits(source, by_stem, findings)
    classes = ClassList()
    parsed_images: dict[str, ParsedImage] = {}
    boxes: dict[str, list[Any]] = {}
    difficult: dict[str, list[Any]] = {}
    broken: set[str] = set()  # images whose file cannot be read, which has been said
    for file in sorted(_xml_files(source), key=natural_key):
        if not _read_xml(source, file, by_name, by_stem, classes, parsed_images, boxes, difficult, findings):
            broken.add(_image_of(None, file, by_name, by_stem))
    order = classes.sorted_order()
    class_masks = _masks_of(source, "SegmentationClass", by_stem, findings)
    object_masks = _masks_of(source, "SegmentationObject", by_stem, findings)
    sets: list[ParsedSet] = []
    columns: list[dict[str, Any]] = []
    ignored: list[dict[str, Any]] = []
    if boxes:
        sets.append(ParsedSet("boxes", AnnotationKind.BOXES, sorted(classes.names, key=natural_key)))
        columns.append({path: [(order[box[0]], *box[1:]) for box in found] for path, found in boxes.items()})
        ignored.append({path: [(order[box[0]], *box[1:]) for box in found] for path, found in difficult.items()})
    if class_masks:
        _add_masks(source, class_masks, object_masks, set(classes.names), sets, columns, ignored, findings)
    if not sets:
        raise BadDataError(
            f"No annotation of {source.name} belongs to an image that is there.",
            "File names in the XML and of the images must be the same.",
        )
    listed = set().union(*columns)
    for path in sorted(listed, key=natural_key):
        image = parsed_images.get(path) or ParsedImage(path, [], annotation_file=class_masks.get(path, ""))
        image.values = [column.get(path) for column in columns]
        if any(path in column for column in ignored):
            image.ignored = [column.get(path, []) for column in ignored]
        image.split = splits.get(match_key(PurePosixPath(path).stem), "") or split_of(str(PurePosixPath(path).parent))
        parsed_images[path] = image
    unlisted = len(set(images) - listed - broken)
    if unlisted:
        findings.warning(
            "image-without-annotation",
            "",
            f"{unlisted:,} {'image has no annotation and is' if unlisted == 1 else 'images have no annotation and are'} not part of the dataset.",
            "Add an XML file without objects for empty images.",
        )
    return Parsed(NAME, sets, [parsed_images[path] for path in sorted(listed, key=natural_key)])


def _read_xml(
    source: Source,
    file: str,
    by_name: dict[str, list[str]],
    by_stem: dict[str, list[str]],
    classes: ClassList,
    images: dict[str, ParsedImage],
    boxes: dict[str, list[Any]],
    difficult: dict[str, list[Any]],
    findings: Findings,
) -> bool:
    """Take one file in; False where it cannot be read."""
    try:
        root, lines = _parsed_xml(source.read(file, _LONGEST_XML))
    except DefusedXmlException:
        findings.error(
            "unsafe-xml", file, "The XML defines entities, which is how XML bombs are made.", "Write it without a document type."
        )
        return False
    except (ParseError, OSError, ValueError, RecursionError, LookupError) as error:
        findings.error("bad-xml", file, f"The XML cannot be read ({error}).", "Write it anew.")
        return False
    if root.tag != "annotation":
        return True
    path = _image_of(root, file, by_name, by_stem)
    if not path:
        named = (root.findtext("filename") or PurePosixPath(file).stem).strip()
        findings.error("missing-image", file, f"There is no image {named[:200]}.", "Add the image, or remove the XML file.")
        return True
    if path in boxes:
        findings.error("duplicate-name", file, f"{path} has another annotation file already, which counts.", "Keep one of them.")
        return True
    width, height = (_number(root.findtext(f"size/{side}")) or 0 for side in ("width", "height"))
    images[path] = ParsedImage(path, [], annotation_file=file, width=int(max(0, min(width, 1e6))), height=int(max(0, min(height, 1e6))))
    boxes[path] = []
    for number, (element, line) in enumerate(zip(root.iter("object"), lines, strict=False), 1):
        name = class_name(element.findtext("name") or "")
        corners = [_number(element.findtext(f"bndbox/{side}")) for side in ("xmin", "ymin", "xmax", "ymax")]
        if not name or any(corner is None for corner in corners):
            findings.error(
                "bad-entry", file, f"Object {number} has no name or no box.", "Write name and bndbox with xmin, ymin, xmax, ymax.", line
            )
            continue
        left, top, right, bottom = (corner or 0.0 for corner in corners)
        # VOC counts pixels from 1 and includes the last one.
        box = (classes.index(name), left - 1, top - 1, right - left + 1, bottom - top + 1, line)
        if (element.findtext("difficult") or "").strip() != "1":
            boxes[path].append(box)
            continue
        difficult.setdefault(path, []).append(box)
    if passed := difficult.get(path):
        one = len(passed) == 1
        objects = "1 object is marked as difficult: it is" if one else f"{len(passed):,} objects are marked as difficult: they are"
        findings.warning(
            "difficult",
            file,
            f"{objects} not learnt from, and what is found there counts neither as right nor as wrong.",
            "Nothing needs to be done.",
            passed[0][-1],
        )
    return True


def _parsed_xml(data: bytes) -> tuple[Element, list[int]]:
    """The root, and the line on which each `object` begins, in the order in which `iter` finds them.

    Raises:
        ParseError: when it is no XML.
        DefusedXmlException: when it declares entities.
    """
    parser = defusedxml.ElementTree.DefusedXMLParser(forbid_entities=True)
    expat: Any = parser.parser
    lines: list[int] = []
    begin = expat.StartElementHandler

    def noting_lines(tag: str, attributes: Any) -> Any:
        if tag == "object":
            lines.append(expat.CurrentLineNumber)
        return begin(tag, attributes)

    expat.StartElementHandler = noting_lines
    parser.feed(data)
    return parser.close(), lines


def _image_of(root: Element | None, file: str, by_name: dict[str, list[str]], by_stem: dict[str, list[str]]) -> str:
    named = ((root.findtext("filename") if root is not None else None) or "").strip().replace("\\", "/").rpartition("/")[2]
    found = (
        by_name.get(match_key(named))
        or by_stem.get(match_key(PurePosixPath(file).stem))
        or by_stem.get(match_key(PurePosixPath(named).stem))
        or []
    )
    # The same name may lie in several splits: the nearest to the XML is meant.
    return max(found, key=lambda path: (_shared(path, file), PurePosixPath(path).name == named, -path.count("/")), default="")


def _shared(first: str, second: str) -> int:
    return len(set(PurePosixPath(first).parts) & set(PurePosixPath(second).parts))


def _number(text: str | None) -> float | None:
    try:
        return float(text) if text is not None else None
    except ValueError:
        return None


def _splits(source: Source, stems: Collection[str], findings: Findings) -> dict[str, str]:
    """The split of each image stem, from ImageSets/Main and ImageSets/Segmentation."""
    found: dict[str, str] = {}
    for path in source.members:
        pure = PurePosixPath(path)
        if "imagesets" in path.lower() and pure.name.lower() in ("train.txt", "val.txt", "test.txt"):
            for line in read_text(source, path, findings).splitlines():
                # A stem, in the lists of one class followed by 1, 0 or -1.
                stem = match_key(line.strip())
                if stem not in stems:
                    stem = re.sub(r"\s+(1|0|-1)$", "", stem)
                if stem:
                    found.setdefault(stem, pure.stem.lower())
    return found


def _masks_of(source: Source, folder: str, by_stem: dict[str, list[str]], findings: Findings) -> dict[str, str]:
    """Mask file by image path."""
    found: dict[str, str] = {}
    for path in sorted(images_of(source)):
        if _mask_folder(path, folder):
            images = by_stem.get(match_key(PurePosixPath(path).stem), [])
            if images:
                found[max(images, key=lambda image: _shared(image, path))] = path
            else:
                findings.error("missing-image", path, "There is no image of this mask's name.", "Add the image, or remove the mask.")
    return found


def _add_masks(
    source: Source,
    class_masks: dict[str, str],
    object_masks: dict[str, str],
    box_classes: set[str],
    sets: list[ParsedSet],
    columns: list[dict[str, Any]],
    ignored: list[dict[str, Any]],
    findings: Findings,
) -> None:
    scanned = scan_masks(source, class_masks.values(), findings)
    named = read_class_names(source)
    if not named.by_value and not named.by_colour and not scanned.colour and box_classes <= set(VOC_CLASSES):
        named = ClassNames({0: "background", **dict(enumerate(VOC_CLASSES, 1))}, {})
    border = 255 if not scanned.colour else 0xE0E0C0
    values, names = scanned.classes(named, ignored={border})
    if not values:
        return
    bordered = {image: path for image, path in class_masks.items() if border not in values and border in scanned.values.get(path, ())}
    if bordered:
        findings.warning(
            "ignored-pixels",
            "",
            f"On {len(bordered):,} mask{'' if len(bordered) == 1 else 's'} the borders of objects "
            f"({'value 255' if not scanned.colour else 'colour 224, 224, 192'}) belong to no class: they are neither learnt nor judged.",
            "Nothing needs to be done.",
        )
    index = {value: number for number, value in enumerate(values)}
    sets.append(ParsedSet("regions", AnnotationKind.REGIONS, names))
    columns.append(
        {
            image: [(index[value], MaskFile(path, value, scanned.colour), None) for value in sorted(scanned.values[path]) if value in index]
            for image, path in class_masks.items()
            if path in scanned.values
        }
    )
    ignored.append({image: [(NO_CLASS, MaskFile(path, border, scanned.colour), None)] for image, path in bordered.items()})
    if object_masks:
        ignored.append({})
        objects = scan_objects(
            source,
            {image: (object_masks[image], path) for image, path in class_masks.items() if image in object_masks},
            scanned.colour,
            findings,
        )
        sets.append(ParsedSet("instances", AnnotationKind.INSTANCES, names))
        columns.append(
            {
                image: [
                    (index[value], MaskFile(object_masks[image], number, colour), None) for number, value, colour in found if value in index
                ]
                for image, found in objects.items()
            }
        )
