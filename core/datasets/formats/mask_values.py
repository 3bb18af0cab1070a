"""What the values in mask pictures mean: which occur, and which class each stands for, by the class lists people put beside them."""

import csv
import io
import json
import re
import threading
from collections.abc import Collection, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

import numpy as np
from PIL import Image

from core.datasets.findings import Findings
from core.datasets.fitting import mask_values, open_mask
from core.datasets.names import class_name
from core.datasets.source import Source

_LARGE = 1_000_000  # bytes of a mask file: a few of those may be of hundreds of millions of pixels, and are not decoded side by side
_ONE_AT_A_TIME = threading.Lock()
_MANY_OBJECTS = 8  # of an image: fewer numbers may well be classes
_MOST_COLOURS = 512  # of one mask; a picture with more is a photograph, or was saved as JPEG
_BACKGROUND = frozenset(
    {
        "background",
        "_background_",
        "bg",
        "back",
        "none",
        "nothing",
        "unlabeled",
        "unlabelled",
        "unlabeled area",
        "void",
        "ignore",
        "__ignore__",
    }
)
_LIST_FILE = re.compile(
    r"(^|/)(classes|class_?names?|class_?dict|labels?|label_?map|label_?colors?|label_?colours?|colou?r_?map|names|categories|_classes)\.(txt|csv|json|names)$",
    re.I,
)

_LABEL_MAP_LINE = re.compile(r"^(.+):(\d{1,3}),(\d{1,3}),(\d{1,3}):[^:]*:[^:]*$")  # as CVAT writes them: label:color_rgb:parts:actions

SAVE_AS_PNG = "Save it as a PNG whose values or colours are the classes."

_NUMBER = re.compile(r"(?<![\w.-])\d{1,5}(?![\w.-])")
_EDGES = re.compile(r"[\s,;:=]+$|^[\s,;:]+")


@dataclass
class ClassNames:
    """Names as a class list gives them: by index or grey value, by colour, or both."""

    by_value: dict[int, str] = field(default_factory=dict)
    by_colour: dict[int, str] = field(default_factory=dict)  # 0xRRGGBB
    file: str = ""  # where they are written


@dataclass
class Scanned:
    """The values of a set of mask pictures. `values` by path; `palette` the colour of each index where the pictures have a palette."""

    colour: bool
    values: dict[str, frozenset[int]]
    palette: dict[int, int]

    def names(self, named: ClassNames, ignored: Collection[int] = ()) -> dict[int, str]:
        """The name of each value that a class list names, whether it occurs or not, background ones too."""
        found = self._found()
        names: dict[int, str] = {}
        # A list that begins with the background or fills all values counts from 0; else it names 1, 2, …
        by_value = named.by_value
        if by_value and 0 in by_value and not _is_background(by_value[0]) and len(by_value) in found - set(ignored):
            by_value = {value + 1: name for value, name in by_value.items()}
        if not self.colour:
            names.update(by_value)
        by_colour = named.by_colour
        for value in found:
            colour = value if self.colour else self.palette.get(value, -1)
            if colour in by_colour and (self.colour or not by_value):
                names[value] = by_colour[colour]
        if self.colour:
            names.update({colour: name for colour, name in by_colour.items() if colour not in names})
        return names

    def unlisted(self, named: ClassNames, ignored: Collection[int] = ()) -> frozenset[int]:
        """The values that occur and that a class list, where there is one of such values, does not name; 0 needs no name."""
        names = self.names(named, ignored)
        return frozenset(self._found() - names.keys() - set(ignored) - {0}) if names else frozenset()

    def classes(self, named: ClassNames, ignored: Collection[int] = ()) -> tuple[list[int], list[str]]:
        """The values that are classes, ascending, and the name of each; background and `ignored` ones are none."""
        names = self.names(named, ignored)
        classes = sorted(
            value
            for value in self._found() | names.keys()
            if not _is_background(names.get(value, "")) and not (value in ignored and value not in names) and (value != 0 or value in names)
        )
        return classes, [names.get(value) or self._unnamed(value) for value in classes]

    def shown(self, value: int) -> str:
        """A value in words, as class lists write it: `7`, or `255,0,0` for a colour."""
        return f"{value >> 16},{value >> 8 & 0xFF},{value & 0xFF}" if self.colour else str(value)

    def _found(self) -> set[int]:
        return set().union(*self.values.values()) if self.values else set()

    def _unnamed(self, value: int) -> str:
        return f"class_{value:06x}" if self.colour else f"class_{value}"


# What lists call places that nobody has labelled, beside a background that somebody has.
_UNLABELLED = frozenset({"void", "ignore", "__ignore__", "unlabeled", "unlabelled", "unlabeled area"})
_UNKNOWN = 255
_FEW_INDICES = 64


def unknown_values(scanned: Scanned, named: ClassNames) -> frozenset[int]:
    """The values of places that belong to no known class: 255 beside numbers of classes, unless a list makes a class or the background of it.

    Without a list 255 is such a value only where the others number classes (0, 1, 2, …); among greys such as 85 and 170 it is one of them, and
    alone it is the object.
    """
    found = set().union(*scanned.values.values()) if scanned.values else set()
    others = found - {0, _UNKNOWN}
    if scanned.colour or _UNKNOWN not in found or not others:
        return frozenset()
    if named.by_value:
        name = named.by_value.get(_UNKNOWN, "void")
        return frozenset({_UNKNOWN}) if name.strip().lower() in _UNLABELLED else frozenset()
    return frozenset({_UNKNOWN}) if max(others) < max(_FEW_INDICES, 2 * len(others)) else frozenset()


def warn_of_unknown(value: int, masks: int, findings: Findings) -> None:
    """Say that pixels of a `value` are not used, on so many `masks`."""
    findings.warning(
        "ignored-pixels",
        "",
        f"On {masks:,} mask{'' if masks == 1 else 's'} pixels of value {value} are taken for places of no known class: "
        "they are neither learnt nor judged.",
        f"Nothing needs to be done; if {value} is a class, name it in a classes.txt (such as “{value} cat”) and import again.",
    )


_SHOWN_VALUES = 5


def note_unlisted(scanned: Scanned, mask: str, values: Collection[int], file: str, findings: Findings) -> None:
    """Say that pixels of a mask have `values` that its class list `file` does not name."""
    listed = [scanned.shown(value) for value in sorted(values)]
    more = f" and {len(listed) - _SHOWN_VALUES:,} more" if len(listed) > _SHOWN_VALUES else ""
    what = "colour" if scanned.colour else "value"
    findings.error(
        "unknown-class",
        mask,
        f"Pixels of the {what}{'' if len(listed) == 1 else 's'} {('; ' if scanned.colour else ', ').join(listed[:_SHOWN_VALUES])}{more} are of "
        f"no class that {file} names: they are neither learnt nor judged.",
        f"Draw these places anew, or name the {what} in {file}, such as “{f'cat,{listed[0]}' if scanned.colour else f'{listed[0]} cat'}”.",
    )


def _is_background(name: str) -> bool:
    return name.strip().lower() in _BACKGROUND


def scan_masks(source: Source, paths: Iterable[str], findings: Findings) -> Scanned:
    """Look at every mask picture: the values in each."""
    order = sorted(set(paths))
    with ThreadPoolExecutor(4, thread_name_prefix="scan") as pool:
        looked = list(pool.map(lambda path: _look(source, path), order))
    colour = any(mode == "colour" for mode, _, _ in looked)
    values: dict[str, frozenset[int]] = {}
    palette: dict[int, int] = {}
    for path, (mode, found, own_palette) in zip(order, looked, strict=True):
        if isinstance(found, str):
            findings.error("damaged-mask", path, f"The mask cannot be used: {found}.", SAVE_AS_PNG)
            continue
        if colour and mode != "colour":
            found = frozenset(own_palette.get(value, value * 0x010101) for value in found)
        palette.update(own_palette)
        values[path] = found
    return Scanned(colour, values, palette)


def _look(source: Source, path: str) -> tuple[str, frozenset[int] | str, dict[int, int]]:
    """Mode (index or colour), the values or why there are none, and the palette of one mask."""
    try:
        with _ONE_AT_A_TIME if source.members[path].size > _LARGE else nullcontext():
            return _values_of(open_mask(source, path))
    except (OSError, ValueError, KeyError, SyntaxError) as error:
        return "index", str(error) or type(error).__name__, {}


def _values_of(picture: Image.Image) -> tuple[str, frozenset[int] | str, dict[int, int]]:
    """What `_look` says of a picture."""
    if picture.mode in ("RGB", "RGBA"):
        colours = picture.convert("RGB").getcolors(_MOST_COLOURS)
        if colours is None:
            return "colour", f"it has more than {_MOST_COLOURS} colours", {}
        packed = [_packed(colour) for _, colour in colours]
        if all(value >> 16 == value & 0xFF == (value >> 8) & 0xFF for value in packed):
            return "index", frozenset(value & 0xFF for value in packed), {value & 0xFF: value for value in packed}
        return "colour", frozenset(packed), {}
    if picture.mode in ("L", "P"):
        return "index", frozenset(value for value, count in enumerate(picture.histogram()) if count), _palette(picture)
    values = np.unique(mask_values(picture, colour=False))
    if len(values) > _MOST_COLOURS:
        return "index", f"it has more than {_MOST_COLOURS} values", {}
    return "index", frozenset(int(value) for value in values), _palette(picture)


def _packed(colour: Any) -> int:
    return (int(colour[0]) << 16) | (int(colour[1]) << 8) | int(colour[2])


def _palette(picture: Image.Image) -> dict[int, int]:
    flat = picture.getpalette() if picture.mode == "P" else None
    if not flat:
        return {}
    return {number: _packed(flat[3 * number : 3 * number + 3]) for number in range(len(flat) // 3)}


def scan_objects(
    source: Source, pairs: dict[str, tuple[str, str]], colour: bool, findings: Findings
) -> dict[str, list[tuple[int, int, bool]]]:
    """For each image the objects in its object mask: value there, value of its class in the class mask, and whether the former is a colour."""
    found: dict[str, list[tuple[int, int, bool]]] = {}
    for image, (objects, classes) in sorted(pairs.items()):
        try:
            object_picture, class_picture = open_mask(source, objects), open_mask(source, classes)
            own_colour = object_picture.mode in ("RGB", "RGBA")
            numbers = mask_values(object_picture, colour=own_colour)
            values = mask_values(class_picture, colour=colour)
            if numbers.shape != values.shape:
                raise ValueError("it is not as large as the mask of classes")
        except (OSError, ValueError, KeyError, SyntaxError) as error:
            findings.error("damaged-mask", objects, f"The mask of objects cannot be used: {error}.", "Save it again as PNG.")
            continue
        ignored = 0xE0E0C0 if own_colour else 255
        found[image] = []
        for number in np.unique(numbers):
            if number in (0, ignored):
                continue
            inside, counts = np.unique(values[numbers == number], return_counts=True)
            found[image].append((int(number), int(inside[counts.argmax()]), own_colour))
    return found


def read_class_names(source: Source) -> ClassNames:
    """The class list of the source, in whatever way it is written; empty where there is none."""
    files = sorted((path for path in source.members if _LIST_FILE.search(path)), key=lambda path: (path.count("/"), path))
    for path in files[:10]:
        try:
            text = source.read(path, 1_000_000).decode("utf-8-sig", "replace")
        except (OSError, ValueError):
            continue
        named = _parse_json(text) if path.lower().endswith(".json") else _parse_lines(text, PurePosixPath(path).suffix.lower() == ".csv")
        if named.by_value or named.by_colour:
            named.file = path
            return named
    return ClassNames()


def warn_of_missing_names(classes: Sequence[str], findings: Findings) -> None:
    """Say that the classes of masks have no names, and how to give them some."""
    findings.warning(
        "no-class-names",
        "",
        f"Nothing names the classes of the masks; they are called {', '.join(classes[:3])}{' and so on' if len(classes) > 3 else ''}.",
        "Add a classes.txt with a line for each class, such as “1 cat” (value and name) or “cat,255,0,0” (name and colour), and import again.",
    )


def warn_of_numbered_objects(scanned: Scanned, findings: Findings) -> None:
    """Say so where the masks seem to number single objects: each holds 1, 2, 3 and so on, most of them up to another number, and some up to many."""
    numbers = [found - {0} for found in scanned.values.values()]
    counting = [len(found) for found in numbers if found and max(found) == len(found)]
    if len(counting) * 2 > len(numbers) and len(set(counting)) > 2 and max(counting) >= _MANY_OBJECTS:
        findings.warning(
            "numbered-objects",
            "",
            f"The masks seem to number single objects, up to {max(counting)} of them in an image: each number became a class.",
            "For one class of regions write the same value for all its objects; for single objects bring a COCO file with their masks.",
        )


def _parse_json(text: str) -> ClassNames:
    try:
        loaded = json.loads(text)
    except (ValueError, RecursionError):
        return ClassNames()
    named = ClassNames()
    if isinstance(loaded, dict) and isinstance(loaded.get("labels") or loaded.get("classes"), (list, dict)):
        loaded = loaded.get("labels") or loaded.get("classes")
    if isinstance(loaded, list):
        for number, entry in enumerate(loaded):
            if isinstance(entry, dict):
                _take_entry(named, entry, number)
            else:
                named.by_value[number] = class_name(str(entry))
    elif isinstance(loaded, dict):
        for key, value in loaded.items():
            if isinstance(value, int) and not isinstance(value, bool):
                named.by_value[value] = class_name(str(key))
            elif str(key).isdecimal() and len(str(key)) < 7 and isinstance(value, str):
                named.by_value[int(key)] = class_name(value)
            elif _is_colour(value):
                named.by_colour[_packed(value)] = class_name(str(key))
    return named


def _take_entry(named: ClassNames, entry: dict[str, Any], number: int) -> None:
    name = class_name(str(entry.get("name") or entry.get("label") or entry.get("class") or ""))
    colour = entry.get("color") or entry.get("colour")
    value = entry.get("id", entry.get("value", entry.get("index")))
    if name and _is_colour(colour):
        named.by_colour[_packed(colour)] = name
    if name and isinstance(value, int):
        named.by_value[value] = name
    elif name and not _is_colour(colour):
        named.by_value[number] = name


def _is_colour(value: Any) -> bool:
    return isinstance(value, (list, tuple)) and len(value) >= 3 and all(isinstance(item, int) and 0 <= item <= 255 for item in value[:3])


def _parse_lines(text: str, is_csv: bool) -> ClassNames:
    """Lines such as `cat`, `1 cat`, `cat,1`, `cat,255,0,0`, `255 0 0 cat` and `cat:255,0,0::`."""
    named = ClassNames()
    read: list[tuple[str, list[int], str]] = []  # name, numbers beside it, the whole line
    for row in csv.reader(io.StringIO(text)) if is_csv else ([line] for line in text.splitlines()):
        line = ",".join(row).strip()
        mapped = _LABEL_MAP_LINE.match(line)
        if mapped:
            named.by_colour[_packed(mapped.groups()[1:])] = class_name(mapped.group(1))
        elif line and not line.startswith("#"):
            numbers = [int(number) for number in _NUMBER.findall(line)]
            read.append((class_name(_EDGES.sub("", re.sub(r"[,;:\t]+", " ", _NUMBER.sub(" ", line)))), numbers, class_name(line)))
    if len(read) > 1 and not read[0][1] and all(numbers for _, numbers, _ in read[1:]):
        del read[0]  # a header
    if named.by_colour:
        return named
    if not all(name and numbers for name, numbers, _ in read):
        named.by_value = {number: line for number, (_, _, line) in enumerate(read)}
        return named
    for name, numbers, _ in read:
        if len(numbers) == 1:
            named.by_value[numbers[0]] = name
        elif len(numbers) in (3, 4) and max(numbers[-3:]) <= 255:
            named.by_colour[_packed(numbers[-3:])] = name
            if len(numbers) == 4:
                named.by_value[numbers[0]] = name
    return named
