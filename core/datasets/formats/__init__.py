"""One module per dataset format, each a reader into the internal type.

A reader module has `NAME`, `detect(source) -> bool` (cheap: names, and at most the head of a few files) and
`read(source, settings, findings) -> Parsed`. `READERS` is in the order in which detection asks.
"""

from collections.abc import Callable
from dataclasses import dataclass

from core.datasets.findings import Findings
from core.datasets.formats import class_folders, coco, csv_tables, images_only, label_csv, labelme, mask_folders, voc, yolo
from core.datasets.formats.mask_values import SAVE_AS_PNG
from core.datasets.formats.texts import unreadable_json
from core.datasets.json_stream import JsonStreamError, TooLongError, check
from core.datasets.parsed import Parsed
from core.datasets.source import Source
from core.errors import BadDataError, InvalidInputError
from core.settings import Settings


@dataclass(frozen=True)
class Reader:
    """One format that can be read."""

    name: str
    detect: Callable[[Source], bool]
    read: Callable[[Source, Settings, Findings], Parsed]


def _is_label_csv(source: Source) -> bool:
    """Whether there is a label.csv of which the columns are where it has them, not where a first line says."""
    return label_csv.detect(source) and not csv_tables.is_named(source, label_csv.find_files(source)[0])


_MOST_JSON_LOOKED_INTO = 50
READERS: tuple[Reader, ...] = (
    Reader(label_csv.NAME, _is_label_csv, label_csv.read),
    *(
        Reader(module.NAME, module.detect, module.read)
        for module in (coco, labelme, voc, yolo, mask_folders, csv_tables, class_folders, images_only)
    ),
)


def find_reader(source: Source, name: str = "") -> Reader:
    """The reader of that name, or the first that knows the source.

    Raises:
        InvalidInputError: for a name that is no format.
        BadDataError: when no reader knows the source, or it would pass for images without labels because what says something of them is broken.
    """
    names = ", ".join(reader.name for reader in READERS)
    if name:
        wanted = name.strip().lower().replace("_", "-")
        for reader in READERS:
            if reader.name == wanted:
                return reader
        raise InvalidInputError(f"There is no dataset format “{name[:60]}”.", f"There are: {names}.")
    for reader in READERS:
        if reader.name == images_only.NAME:
            _refuse_what_was_meant_to_say_something(source)
        if reader.detect(source):
            return reader
    if not source.members:
        raise BadDataError(f"{source.name} holds no files.", "Put the images into it, in one folder per class for example.")
    raise BadDataError(
        f"{source.name} is in no known dataset format.", f"Name one with --format: {names}; docs/datasets.md shows how each looks."
    )


def _refuse_what_was_meant_to_say_something(source: Source) -> None:
    """Where nothing says anything of the images, a JSON file that cannot be read may be what did, or masks that were saved as JPEG.

    Raises:
        BadDataError: naming the first such file.
    """
    spare = f"If it says nothing of the images, take it out, or name the format “{images_only.NAME}”."
    files = sorted((path for path in source.members if path.lower().endswith(".json")), key=lambda path: (path.count("/"), path))
    for path in files[:_MOST_JSON_LOOKED_INTO]:
        try:
            with source.open(path) as file:
                check(file)
        except TooLongError:
            continue
        except (JsonStreamError, OSError) as error:
            what = unreadable_json(path, error) + " Nothing else says what the images show."
            raise BadDataError(what, f"Check that it was copied whole. {spare}") from error
    if mask := mask_folders.blurred_mask(source):
        what = f"{mask} seems to be a mask, but JPEG does not keep values and colours exactly. Nothing else says what the images show."
        raise BadDataError(what, f"{SAVE_AS_PNG} {spare}")
