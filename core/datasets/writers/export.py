"""What a writer is given: the records of one annotation set, as often as it wants to go through them, and their images."""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from core.datasets.cells import csv_bytes
from core.datasets.deriving import OBJECTS
from core.datasets.records import Record
from core.datasets.writers.output import FileNames, Output
from core.vocabulary import AnnotationKind


@dataclass
class Export:
    """One annotation set on its way out. `boxes` gives the boxes that the source gave beside masks, by position, where it gave some."""

    name: str
    kind: AnnotationKind
    classes: list[str]
    records: Callable[[], Iterator[Record]]
    read: Callable[[Record], bytes]
    boxes: dict[int, list[list[float]]] = field(default_factory=dict)
    progress: Callable[[], None] = lambda: None
    losses: Counter[str] = field(default_factory=Counter)  # what the format cannot hold, and how often that was met

    def has_splits(self) -> bool:
        """Whether the source told training from validation images."""
        return any(record.split for record in self.records())

    def objects(self, record: Record) -> list[list[object]]:
        """The boxes, masks or objects of a record."""
        return list(record.value[OBJECTS[self.kind]])

    def ignored(self, record: Record) -> list[list[object]]:
        """What of a record, whose kind has single objects, is neither learnt nor judged, such as crowds; of the same shape."""
        return list(record.value.get("ignored", ()))

    def leave_ignored_out(self, record: Record) -> None:
        """Note that the format has no way to say what of a record is neither learnt nor judged."""
        if not (ignored := record.value.get("ignored")):
            return
        if self.kind is AnnotationKind.REGIONS:
            self.losses[
                "image(s) with places that are neither learnt nor judged, which this format cannot mark: they count as background"
            ] += 1
        else:
            what = "object(s) that are neither learnt nor judged, such as crowds, left out: this format cannot mark them"
            self.losses[what] += len(ignored)


def write_groups(export: Export, out: Output, path_of: Callable[[Record], str]) -> None:
    """`groups.csv`, which says what images belong together, where any do."""
    rows = [(path_of(record), record.group) for record in export.records() if record.group]
    if rows:
        out.write("groups.csv", csv_bytes(rows))


def named_images(export: Export, folder: Callable[[Record], str]) -> Iterator[tuple[Record, str]]:
    """Each record with the path of its image in the export."""
    names = FileNames()
    for record in export.records():
        place = folder(record)
        yield record, f"{place}/{names.name(record, place)}" if place else names.name(record)
