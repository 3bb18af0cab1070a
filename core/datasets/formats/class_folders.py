"""Class folders: each folder's name is the label of the images in it, also under train/, val/ and test/."""

import itertools
import re
from pathlib import PurePosixPath

from core.datasets.findings import Findings
from core.datasets.names import class_name, natural_key
from core.datasets.parsed import SPLIT_NAMES, Parsed, ParsedImage, ParsedSet
from core.datasets.source import Source, images_of
from core.errors import BadDataError
from core.settings import Settings
from core.vocabulary import AnnotationKind

NAME = "class-folders"

# Beside images these are documentation, not mistakes.
_TEXTS = frozenset({".txt", ".md", ".pdf", ".csv", ".json", ".xml", ".html", ".yaml", ".yml", ".rst", ".doc", ".docx", ""})


# A lone folder of one of these names holds images, not a class.
_NO_CLASS = frozenset({"images", "image", "imgs", "img", "jpegimages", "data", "pictures", "photos", "dicom", "frames"})
# Where every folder is called like these, they hold masks or labels and what they are of.
_LABELS = frozenset(
    {"masks", "mask", "labels", "label", "annotations", "annot", "gt", "groundtruth", "ground_truth", "gtfine", "leftimg8bit"}
)
# Nor do folders that are all called so: scanners write DICOM/PAT0001/ST0001/SE0001/IM0001.
_ARCHIVE_FOLDER = re.compile(r"(pa|pat|patient|st|study|se|ser|series|scan|exam)[ _-]?\d+", re.I)


def detect(source: Source) -> bool:
    """Whether images lie in folders that can be classes."""
    images = [PurePosixPath(path) for path in images_of(source)]
    inside = [path for path in images if len(path.parts) > 1]
    if len(inside) * 2 < len(images) or not inside:
        return False
    prefix = wrapping_folder(inside)
    folders = {parts[0].lower() for path in inside if len(parts := path.parts[prefix:]) > 1}
    split = [path for path in inside if path.parts[prefix].lower() in SPLIT_NAMES]
    if len(split) == len(inside):
        return any(len(path.parts) > prefix + 2 for path in inside)
    return not folders <= _NO_CLASS | _LABELS and not all(_ARCHIVE_FOLDER.fullmatch(folder) for folder in folders)


def read(source: Source, settings: Settings, findings: Findings) -> Parsed:
    """Images with the label of their folder.

    Raises:
        BadDataError: when there is no image in any folder.
    """
    images = sorted(images_of(source), key=natural_key)
    if not images:
        raise BadDataError(f"{source.name} holds no images.", "JPEG, PNG, WebP, BMP, TIFF and DICOM are read.")
    prefix = wrapping_folder([PurePosixPath(path) for path in images])
    has_splits = all(_inside(path, prefix)[0].lower() in SPLIT_NAMES for path in images if len(_inside(path, prefix)) > 1)
    parsed = Parsed(NAME, [])
    labels: list[tuple[ParsedImage, str]] = []
    for path in images:
        parts = _inside(path, prefix)
        split = SPLIT_NAMES[parts[0].lower()] if has_splits and len(parts) > 1 else ""
        if split:
            parts = parts[1:]
        if len(parts) < 2:
            findings.error("no-class", path, "The image lies in no class folder.", "Move it into the folder of its class.")
            continue
        labels.append((ParsedImage(path, [], split), class_name(parts[0])))
    if not labels:
        raise BadDataError(f"No image of {source.name} lies in a class folder.", "Make one folder per class; its name is the label.")
    names = sorted({name for _, name in labels}, key=natural_key)
    index = {name: number for number, name in enumerate(names)}
    by_class: list[list[ParsedImage]] = [[] for _ in names]
    for image, name in labels:
        image.values = [index[name]]
        by_class[index[name]].append(image)
    # One of each class in turn, so that every page of the preview shows them side by side.
    parsed.images = [image for row in itertools.zip_longest(*by_class) for image in row if image is not None]
    parsed.sets.append(ParsedSet("labels", AnnotationKind.SINGLE_LABEL, names))
    _notice_others(source, prefix, has_splits, set(names), findings)
    return parsed


def wrapping_folder(paths: list[PurePosixPath]) -> int:
    """How many folders wrap the whole dataset: all images share them, and still lie in a folder below them that is no split."""
    depth = 0
    while True:
        if not all(len(path.parts) > depth + 2 for path in paths):
            return depth
        if len({path.parts[depth] for path in paths}) > 1 or paths[0].parts[depth].lower() in SPLIT_NAMES:
            return depth
        depth += 1


def _inside(path: str, prefix: int) -> tuple[str, ...]:
    return PurePosixPath(path).parts[prefix:]


def _notice_others(source: Source, prefix: int, has_splits: bool, classes: set[str], findings: Findings) -> None:
    level = prefix + (2 if has_splits else 1)
    for folder in sorted(source.folders):
        parts = PurePosixPath(folder).parts
        if len(parts) == level and class_name(parts[-1]) not in classes:
            findings.warning("empty-class", folder, "The class folder holds no image.", "Put images into it, or remove it.")
    for path in sorted(source.members.keys() - set(images_of(source))):
        if PurePosixPath(path).suffix.lower() not in _TEXTS:
            findings.warning(
                "not-an-image", path, "The file is no image that can be read and is left out.", "Convert it to JPEG or PNG if it is one."
            )
