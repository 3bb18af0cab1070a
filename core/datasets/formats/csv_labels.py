"""What a line of column names says of the labels below it, and how several of them are written into one cell."""

import re
from collections import Counter
from collections.abc import Iterable

IMAGE = ("filename", "file", "filepath", "path", "imagepath", "image", "imagename", "imageid", "imageindex", "img", "id", "name")
LABEL = (
    "label",
    "labels",
    "class",
    "classes",
    "classname",
    "classnames",
    "classid",
    "category",
    "categories",
    "tag",
    "tags",
    "findinglabels",
    "target",
    "diagnosis",
    "dx",
    "species",
    "breed",
)
PLURAL = frozenset({"labels", "classes", "classnames", "categories", "tags", "findinglabels"})
BLANKS = " "
_NAMED = {"|": "“|”", ";": "“;”", ",": "“,”", BLANKS: "blanks"}


def column_name(cell: str) -> str:
    """A column's name as it is compared: `Image ID` and `image_id` are the same."""
    return re.sub(r"[^a-z0-9]", "", cell.lower())


def names_image_and_label(row: list[str]) -> bool:
    """Whether a row is the line of column names of a table of images and their labels."""
    return len(row) == 2 and column_name(row[0]) in IMAGE and column_name(row[1]) in LABEL


def separator(column: str, cells: Iterable[str]) -> str:
    """What stands between the labels of one cell in the column of that name; empty where each cell holds one label.

    `|` and `;` are in no class's name. Commas and blanks are in many (`tench, Tinca tinca`, `golden retriever`): they divide only where the parts
    are found in other combinations too, except for commas below a name in the plural.
    """
    different = {cell.strip() for cell in cells}
    for mark in "|;":
        if any(mark in cell for cell in different):
            return mark
    plural = column_name(column) in PLURAL
    if any("," in cell for cell in different):
        return "," if plural or _shared(different, ",") == 1 else ""
    return BLANKS if plural and _shared(different, BLANKS) >= 0.5 else ""


def divided(cell: str, mark: str) -> list[str]:
    """The labels of a cell; none twice, and none where it is empty."""
    parts = (cell.split() if mark == BLANKS else cell.split(mark)) if mark else [cell]
    return list(dict.fromkeys(part.strip() for part in parts if part.strip()))


def understood(image: str, label: str, mark: str) -> str:
    """What was made of a table, as a sentence."""
    how = f"several labels an image, divided by {_NAMED[mark]}" if mark else "one label an image"
    return f"The first line names the columns: “{image[:40]}” is the image, “{label[:40]}” {how}."


def _shared(cells: set[str], mark: str) -> float:
    """Of the parts of cells with several, the share that other cells hold too."""
    parts = {cell: divided(cell, mark) for cell in cells}
    counts = Counter(part for found in parts.values() for part in found)
    joined = {part for found in parts.values() if len(found) > 1 for part in found}
    return sum(1 for part in joined if counts[part] > 1) / len(joined) if joined else 0.0
