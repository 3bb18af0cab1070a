"""What is counted while the images of an import go by, and what is noticed by counting: duplicates, classes with too few images."""

import hashlib
import json
import statistics
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from core.datasets.findings import Findings
from core.datasets.finishing import Finished
from core.datasets.parsed import Parsed, ParsedImage
from core.datasets.representation import ONE_CLASS_REMEDY, one_class_text
from core.db.folding import folded

FEWEST_PER_CLASS = 3


@dataclass
class Tally:
    """The counts of one import."""

    parsed: Parsed
    images: int = 0
    size: int = 0  # bytes
    widths: Counter[int] = field(default_factory=Counter)
    heights: Counter[int] = field(default_factory=Counter)
    class_counts: list[Counter[int]] = field(default_factory=list)
    class_images: list[Counter[int]] = field(default_factory=list)
    image_counts: list[int] = field(default_factory=list)
    splits: Counter[str] = field(default_factory=Counter)
    group_splits: dict[str, str] = field(default_factory=dict)  # the split that a group was first met in
    divided: set[str] = field(default_factory=set)
    hash: Any = field(default_factory=hashlib.sha256)
    first_with: dict[bytes, ParsedImage] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for parsed_set in self.parsed.sets:
            self.class_counts.append(Counter())
            self.class_images.append(Counter())
            self.image_counts.append(0)
            self.hash.update(json.dumps([parsed_set.name, parsed_set.kind, parsed_set.classes]).encode())

    def take(self, image: ParsedImage, one: Finished, group: str, findings: Findings) -> None:
        """Count one stored image, of `group` where that is not empty."""
        self.images += 1
        self.size += one.size
        self.widths[one.stored.width] += 1
        self.heights[one.stored.height] += 1
        self.splits[image.split] += 1
        self.hash.update(one.digest)
        self.hash.update(f"{image.split} {image.group} ".encode("utf-8", "surrogateescape"))
        for number, (text, classes) in enumerate(zip(one.texts, one.classes, strict=True)):
            if text is not None:
                self.image_counts[number] += 1
                self.class_counts[number].update(classes)
                self.class_images[number].update(set(classes))
        self._notice_division(image, group, findings)
        digest = bytes.fromhex(one.stored.sha256)[:16]
        first = self.first_with.setdefault(digest, image)
        if first is not image:
            _notice_duplicate(first, image, findings)

    def _notice_division(self, image: ParsedImage, group: str, findings: Findings) -> None:
        """The source's own split counts, and what it divides is said."""
        if not group or not image.split or group in self.divided or self.group_splits.setdefault(group, image.split) == image.split:
            return
        self.divided.add(group)
        findings.warning(
            "group-across-splits",
            image.path,
            f"Images of the group “{group[:100]}” lie in “{self.group_splits[group]}” and in “{image.split}” of the source.",
            "Put them into one of the two: what is learnt of a group must not be judged by it.",
        )

    def median_size(self) -> tuple[int, int]:
        """Width and height in the middle, each by itself."""
        return int(statistics.median_low(self.widths.elements())), int(statistics.median_low(self.heights.elements()))

    def notice_classes(self, findings: Findings) -> None:
        """Say which classes have too few images to be learnt."""
        for number, parsed_set in enumerate(self.parsed.sets):
            if not parsed_set.classes:
                findings.warning(
                    "no-classes",
                    "",
                    f"Nothing of what is said of the images can be used for “{parsed_set.name}” ({parsed_set.kind}): it has no class.",
                    "See what was left out, or name another format.",
                )
            counts = [self.class_images[number][index] for index in range(len(parsed_set.classes))]
            if one_class := one_class_text(parsed_set.kind, parsed_set.classes, counts):
                findings.warning("one-class", "", one_class, ONE_CLASS_REMEDY)
        most: dict[str, int] = {}  # images that show a class, in the set that shows it most
        for number, parsed_set in enumerate(self.parsed.sets):
            for index, name in enumerate(parsed_set.classes):
                most[name] = max(most.get(name, 0), self.class_images[number][index])
        by_folded: dict[str, str] = {}
        for name, count in most.items():
            first = by_folded.setdefault(folded(name), name)
            if first != name:
                findings.warning(
                    "similar-class",
                    "",
                    f"The classes “{first}” and “{name}” differ in the case of letters only.",
                    "Call both the same if they mean the same; `stationmaster dataset combine --rename` does so too.",
                )
            if count == 0:
                findings.warning("empty-class", "", f"No image shows the class “{name}”.", "Add images of it, or take the class out.")
            elif count < FEWEST_PER_CLASS:
                images = "image shows" if count == 1 else "images show"
                findings.warning(
                    "small-class",
                    "",
                    f"Only {count} {images} the class “{name}”; at least {FEWEST_PER_CLASS} are needed to learn and to judge it.",
                    "Add images of it.",
                )


def _notice_duplicate(first: ParsedImage, second: ParsedImage, findings: Findings) -> None:
    if first.values != second.values and len(first.values) == 1 and isinstance(first.values[0], int):
        findings.warning(
            "duplicate-conflict",
            second.path,
            f"The image is the same as {first.path}, but has another label.",
            "Keep the one whose label is right.",
        )
    elif {first.split, second.split} >= {"train", "val"}:
        findings.warning(
            "duplicate-across-splits",
            second.path,
            f"The image is the same as {first.path}, which is in the other split.",
            "Keep it in one of them.",
        )
    else:
        findings.warning("duplicate-image", second.path, f"The image is the same as {first.path}.", "Keep one of them.")
