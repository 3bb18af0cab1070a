"""Export: a dataset's images and one annotation set as files that other tools read."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from core.datasets.records import Record, load_records
from core.datasets.writers import class_folders, coco, label_csv, voc, yolo
from core.datasets.writers.export import Export
from core.datasets.writers.output import Output, open_output
from core.db.session import Database
from core.db.tables import AnnotationSet, Dataset
from core.errors import InvalidInputError
from core.storage import Storage
from core.vocabulary import AnnotationKind

_PAGE = 1_000


@dataclass(frozen=True)
class Writer:
    """One format that can be written, and the annotation kinds it can hold, the best first."""

    name: str
    kinds: tuple[AnnotationKind, ...]
    write: Callable[[Export, Output], None]


_OBJECTS = (AnnotationKind.INSTANCES, AnnotationKind.BOXES)
WRITERS: dict[str, Writer] = {
    writer.name: writer
    for writer in (
        Writer("coco", (*_OBJECTS, AnnotationKind.REGIONS), coco.write),
        Writer("yolo", (*_OBJECTS, AnnotationKind.REGIONS), yolo.write),
        Writer("voc", (*_OBJECTS, AnnotationKind.REGIONS), voc.write),
        Writer("class-folders", (AnnotationKind.SINGLE_LABEL,), class_folders.write),
        Writer(
            "label-csv",
            (AnnotationKind.SINGLE_LABEL, AnnotationKind.BOXES, AnnotationKind.REGIONS, AnnotationKind.MULTI_LABEL),
            label_csv.write,
        ),
    )
}


@dataclass(frozen=True)
class Exported:
    """The annotation set that was written, and what of it the format could not hold: sentences such as `3 masks …`, mostly none."""

    annotation_set: AnnotationSet
    losses: tuple[str, ...]


def export_dataset(
    database: Database,
    storage: Storage,
    dataset: Dataset,
    format: str,
    target: Path,
    *,
    annotation_set_id: str = "",
    progress: Callable[[int, int], None] | None = None,
) -> Exported:
    """Write a dataset to `target`, a `.zip` or a folder that is new or empty.

    Without `annotation_set_id` the best set that the format can hold is taken, one of the source before one that follows from it.

    Raises:
        InvalidInputError: for an unknown format, or an annotation set that the format cannot hold.
        ConflictError: when there is something at `target` already.
        BadDataError: when the data do not fit into the format.
        UnavailableError: when `target` cannot be written.
    """
    writer = WRITERS.get(format.strip().lower().replace("_", "-"))
    if writer is None:
        raise InvalidInputError(f"Datasets cannot be written as “{format[:60]}”.", f"They can as: {', '.join(WRITERS)}.")
    chosen = _choose(dataset, writer, annotation_set_id)

    def records() -> Iterator[Record]:
        offset = 0
        while True:
            with database.read() as session:
                page = load_records(session, dataset.id, chosen.id, offset=offset, limit=_PAGE)
            yield from page
            if len(page) < _PAGE:
                return
            offset += _PAGE

    done = 0

    def advance() -> None:
        nonlocal done
        done += 1
        if progress is not None:
            progress(done, chosen.image_count)

    export = Export(
        dataset.name,
        AnnotationKind(chosen.kind),
        list(chosen.classes),
        records,
        lambda record: storage.read(record.key),
        _given_boxes(database, dataset, chosen) if chosen.kind == AnnotationKind.INSTANCES else {},
        advance,
    )
    with open_output(target) as out:
        writer.write(export, out)
    return Exported(chosen, tuple(f"{count:,} {what}." for what, count in export.losses.items()))


def _choose(dataset: Dataset, writer: Writer, annotation_set_id: str) -> AnnotationSet:
    fitting = [one for one in dataset.annotation_sets if one.kind in writer.kinds]
    if annotation_set_id:
        for one in fitting:
            if one.id == annotation_set_id:
                return one
        raise InvalidInputError(f"The format {writer.name} cannot hold that annotation set.", f"It holds: {', '.join(writer.kinds)}.")
    if not fitting:
        kinds = ", ".join(one.kind for one in dataset.annotation_sets) or "no labels"
        raise InvalidInputError(
            f"The format {writer.name} cannot hold what the dataset has: {kinds}.", f"It holds: {', '.join(writer.kinds)}."
        )
    return min(fitting, key=lambda one: (one.derived_from is not None, writer.kinds.index(AnnotationKind(one.kind)), one.position))


def _given_boxes(database: Database, dataset: Dataset, instances: AnnotationSet) -> dict[int, list[list[float]]]:
    """The source's own boxes of the objects that have masks: more exact than what follows from pixels."""
    for one in dataset.annotation_sets:
        if one.kind == AnnotationKind.BOXES and one.derived_from is None and one.classes == instances.classes:
            with database.read() as session:
                return {record.position: [box[1:] for box in record.value["boxes"]] for record in load_records(session, dataset.id, one.id)}
    return {}
