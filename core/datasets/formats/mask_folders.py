"""Folders of mask pictures: indexed, grey or coloured, matched with their images by file stem across sibling folders."""

import itertools
import re
from pathlib import PurePosixPath

from PIL import Image

from core.datasets.findings import Findings
from core.datasets.fitting import BlurredMaskError, open_mask
from core.datasets.formats.mask_values import (
    note_unlisted,
    read_class_names,
    scan_masks,
    unknown_values,
    warn_of_missing_names,
    warn_of_numbered_objects,
    warn_of_unknown,
)
from core.datasets.names import match_key, natural_key
from core.datasets.parsed import NO_CLASS, MaskFile, Parsed, ParsedImage, ParsedSet, split_of
from core.datasets.source import Source, images_of
from core.errors import BadDataError
from core.settings import Settings
from core.vocabulary import AnnotationKind

NAME = "masks"

_MASK_FOLDER = re.compile(
    r"^(masks?|annot(ations?)?|labels?|gts?|ground[_ -]?truths?|seg(mentation)?s?|segmentationclass|targets?|.*annot|.*[_-](masks?|labels?|gt|annotations?)"
    r"|masks?[_-].*|labels?[_-](train|val|test|training|validation).*)$",
    re.I,
)
_MASK_SUFFIX = re.compile(r"[_-](masks?|seg|segmentation|gt|labels?|l|annot|target|manual1|1stho)$", re.I)
_PREFIX = re.compile(r"^(masks?|labels?|gt|seg|img|image)[_-](?=.)", re.I)  # mask_7 is the mask of img_7, or of 7
_MASK_TYPES = (".png", ".tif", ".tiff", ".bmp", ".gif")
_JPEG_TYPES = (".jpg", ".jpeg")
_SAMPLE = 6


def _in_mask_folders(paths: list[str]) -> list[str]:
    """Those that lie in a folder of masks; folders that hold everything tell nothing."""
    parts = [PurePosixPath(path).parts[:-1] for path in paths]
    shared = sum(1 for _ in itertools.takewhile(lambda level: len(set(level)) == 1, zip(*parts, strict=False))) if len(paths) > 1 else 0
    return [path for path, own in zip(paths, parts, strict=True) if any(_MASK_FOLDER.match(part) for part in own[shared:])]


def _pairs(source: Source) -> tuple[dict[str, str], list[str], list[str]]:
    """Mask by image, masks without an image, images without a mask."""
    all_images = images_of(source)
    inside = _in_mask_folders(all_images)
    masks = [path for path in inside if path.lower().endswith(_MASK_TYPES)]
    if not masks:
        stems = {PurePosixPath(path).stem for path in all_images}
        masks = [
            path
            for path in all_images
            if path.lower().endswith(_MASK_TYPES)
            and _MASK_SUFFIX.search(stem := PurePosixPath(path).stem)
            and _MASK_SUFFIX.sub("", stem) in stems
        ]
    jpegs = [path for path in inside if path.lower().endswith(_JPEG_TYPES)]
    if masks and jpegs:
        # A folder of masks may hold the images as well. A JPEG there is a mask if an image outside has its name, and no other mask.
        outside = {match_key(PurePosixPath(path).stem) for path in set(all_images).difference(inside)}
        have = {match_key(PurePosixPath(path).stem) for path in masks}
        jpegs = [path for path in jpegs if match_key(PurePosixPath(path).stem) in outside - have]
    masks = masks + jpegs
    taken = set(masks)
    images = [path for path in all_images if path not in taken]
    by_stem: dict[str, list[str]] = {}
    for path in images:
        stem = match_key(PurePosixPath(path).stem)
        for key in dict.fromkeys((stem, _PREFIX.sub("", stem))):
            by_stem.setdefault(key, []).append(path)
    found: dict[str, str] = {}
    lonely: list[str] = []
    for mask in sorted(masks):
        stem = match_key(PurePosixPath(mask).stem)
        candidates: list[str] = []
        for key in (stem, _MASK_SUFFIX.sub("", stem), _PREFIX.sub("", stem)):
            candidates = candidates or [path for path in by_stem.get(key, []) if path not in found]
        if candidates:
            found[max(candidates, key=lambda path: (_kinship(path, mask), -path.count("/")))] = mask
        else:
            lonely.append(mask)
    return found, lonely, [path for path in images if path not in found]


def _kinship(image: str, mask: str) -> int:
    """How much the folders of image and mask have in common; `trainannot` and `train` are the same in this."""
    words = {re.sub(r"annot$|[_-](masks?|labels?|gt)$", "", part.lower()) for part in PurePosixPath(mask).parts[:-1]}
    return len(words & {part.lower() for part in PurePosixPath(image).parts[:-1]})


def detect(source: Source) -> bool:
    """Whether images have masks of their own size with few values beside them."""
    pairs, lonely, _ = _pairs(source)
    if not pairs or len(lonely) > len(pairs):
        return False
    for image, mask in sorted(pairs.items())[:_SAMPLE]:
        try:
            mask_picture = open_mask(source, mask)
            with source.open(image) as file:
                width, height = Image.open(file).size
        except (OSError, ValueError, KeyError, SyntaxError):
            continue
        few = mask_picture.mode in ("1", "L", "P", "I", "I;16") or mask_picture.convert("RGB").getcolors(512) is not None
        if few and mask_picture.size in ((width, height), (height, width)):
            return True
    return False


def blurred_mask(source: Source) -> str:
    """A JPEG that lies where the mask of an image would and is as large, but holds more values than JPEG can keep; empty where there is none."""
    for image, mask in sorted(_pairs(source)[0].items())[:_SAMPLE]:
        try:
            with source.open(image) as file:
                width, height = Image.open(file).size
            open_mask(source, mask, {(width, height), (height, width)})
        except BlurredMaskError:
            return mask
        except (OSError, ValueError, KeyError, SyntaxError):
            continue
    return ""


def read(source: Source, settings: Settings, findings: Findings) -> Parsed:
    """Images with regions.

    Raises:
        BadDataError: when no mask belongs to an image, or no mask has any class.
    """
    pairs, lonely, without = _pairs(source)
    for mask in lonely:
        findings.error("missing-image", mask, "There is no image of this mask's name.", "Add the image, or remove the mask.")
    for image in without:
        findings.error(
            "missing-mask",
            image,
            "There is no mask of this image's name.",
            "Add a mask; one of value 0 throughout for an image without objects.",
        )
    if not pairs:
        raise BadDataError(
            f"No mask of {source.name} belongs to an image.", "Put images/ and masks/ side by side, with the same file names."
        )
    scanned = scan_masks(source, pairs.values(), findings)
    named = read_class_names(source)
    unknown = unknown_values(scanned, named)
    unlisted = scanned.unlisted(named, unknown)
    values, names = scanned.classes(named, unknown | unlisted)
    if not values:
        raise BadDataError(f"The masks of {source.name} hold no class: every pixel is 0.", "Number classes from 1; 0 is the background.")
    if not scanned.names(named, unknown):
        warn_of_missing_names(names, findings)
        if not scanned.colour:
            warn_of_numbered_objects(scanned, findings)
    unknown -= set(values)  # a list of colours may name it by that of its palette
    for value in unknown:
        warn_of_unknown(value, sum(value in found for found in scanned.values.values()), findings)
    index = {value: number for number, value in enumerate(values)}
    parsed = Parsed(NAME, [ParsedSet("regions", AnnotationKind.REGIONS, names)])
    for image in sorted(pairs, key=natural_key):
        mask = pairs[image]
        if mask not in scanned.values:
            continue
        if refused := unlisted & scanned.values[mask]:
            note_unlisted(scanned, mask, refused, named.file, findings)
            if index.keys().isdisjoint(scanned.values[mask]):
                findings.nothing_usable(image)
                continue
        raw = [(index[value], MaskFile(mask, value, scanned.colour), None) for value in sorted(scanned.values[mask]) if value in index]
        ignored = [(NO_CLASS, MaskFile(mask, value, scanned.colour), None) for value in sorted((unknown | unlisted) & scanned.values[mask])]
        split = split_of(str(PurePosixPath(image).parent))
        parsed.images.append(ParsedImage(image, [raw], split, annotation_file=mask, ignored=[ignored] if ignored else []))
    return parsed
