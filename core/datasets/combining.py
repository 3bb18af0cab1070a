"""Combining datasets of one annotation kind into a new one, with a choice and renaming of labels."""

import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import IO, Any

from sqlalchemy import or_, select
from sqlalchemy.orm import Session

from core.datasets.deriving import OBJECTS
from core.datasets.findings import Findings
from core.datasets.names import ClassList, class_name
from core.datasets.parsed import NO_CLASS, Parsed, ParsedImage, ParsedSet, Rle
from core.datasets.records import Record, load_records
from core.datasets.source import Member
from core.datasets.storing import Progress, made_for, refuse_taken_name, store_parsed
from core.db.session import Database
from core.db.tables import AnnotationSet, Dataset, DatasetImage
from core.errors import InvalidInputError
from core.names import clean_name
from core.settings import Settings
from core.storage import Storage
from core.vocabulary import AnnotationKind


@dataclass(frozen=True)
class Part:
    """One dataset of a combination, and the annotation set of it that goes in."""

    dataset: Dataset
    annotation_set: AnnotationSet


class _StoredSource:
    """Images of datasets that are in the storage already, read as a source is."""

    def __init__(self, name: str, storage: Storage) -> None:
        self.name = name
        self.shared = storage.shared
        self.members: dict[str, Member] = {}
        self.folders: set[str] = set()
        self._storage = storage
        self._keys: dict[str, str] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {"name": self.name, "url": self._storage.url, "keys": self._keys}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["name"], Storage(state["url"]))  # type: ignore[misc]
        self._keys = state["keys"]

    def add(self, path: str, key: str) -> None:
        self.members[path] = Member(path, 0)
        self._keys[path] = key

    def open(self, path: str) -> IO[bytes]:
        return io.BytesIO(self._storage.read(self._keys[path]))

    def read(self, path: str, limit: int) -> bytes:
        return self._storage.read(self._keys[path])


def choose_parts(datasets: Sequence[Dataset], kind: AnnotationKind | None = None) -> list[Part]:
    """The annotation set of each dataset that goes into a combination: of `kind`, or of the first kind that all have.

    Raises:
        InvalidInputError: when there are fewer than two datasets, or they share no kind.
    """
    if len({dataset.id for dataset in datasets}) < 2:
        raise InvalidInputError("A combination needs at least two different datasets.", "Name another one.")
    wanted = (
        [kind]
        if kind
        else [
            AnnotationKind(one.kind)
            for one in sorted(datasets[0].annotation_sets, key=lambda one: (one.derived_from is not None, one.position))
        ]
    )
    for candidate in wanted:
        found = [next((one for one in dataset.annotation_sets if one.kind == candidate), None) for dataset in datasets]
        if all(one is not None for one in found):
            return [Part(dataset, one) for dataset, one in zip(datasets, found, strict=True) if one is not None]
    have = "; ".join(f"“{dataset.name}”: {', '.join(one.kind for one in dataset.annotation_sets) or 'none'}" for dataset in datasets)
    what = f"Not all of the datasets have the annotation kind {kind}." if kind else "The datasets share no annotation kind."
    raise InvalidInputError(what, f"They have {have}.")


def read_renames(pairs: Sequence[str]) -> dict[str, str]:
    """New names of labels from texts such as `OLD=NEW`.

    Raises:
        InvalidInputError: for a text without `=`.
    """
    renamed = {}
    for pair in pairs:
        old, separator, new = pair.partition("=")
        if not separator:
            raise InvalidInputError(f"A label is renamed with OLD=NEW; “{pair[:60]}” was given.")
        renamed[old.strip()] = new.strip()
    return renamed


def check_labels(parts: Sequence[Part], only: Sequence[str], rename: Mapping[str, str]) -> tuple[AnnotationKind, dict[str, str]]:
    """The kind of a combination, and the new names of labels as they will be stored.

    Raises:
        InvalidInputError: for labels that no part has, or parts of different kinds.
    """
    kinds = {part.annotation_set.kind for part in parts}
    if len(kinds) != 1:
        raise InvalidInputError("Only annotation sets of one kind can be combined.", f"These are {', '.join(sorted(kinds))}.")
    kind = AnnotationKind(kinds.pop())
    renamed = {old: class_name(new) for old, new in rename.items()}
    known = {label for part in parts for label in part.annotation_set.classes}
    unknown = [label for label in (*only, *renamed) if label not in known]
    if unknown:
        raise InvalidInputError(f"No part has the label “{unknown[0][:100]}”.", f"They have {', '.join(sorted(known))[:500]}.")
    if not all(renamed.values()):
        raise InvalidInputError("A label cannot be renamed to nothing.", "Leave it out with a choice of the others.")
    return kind, renamed


def combine_datasets(
    database: Database,
    storage: Storage,
    settings: Settings,
    *,
    workspace: str,
    person: str,
    name: str,
    parts: Sequence[Part],
    only: Sequence[str] = (),
    rename: Mapping[str, str] | None = None,
    origin: str = "",
    progress: Progress | None = None,
) -> Dataset:
    """Make the dataset `name` of the images and labels of several; the parts stay as they are.

    `only` chooses labels, by their names in the parts, all if empty: images of other single labels are left out, other labels and objects
    are taken off their images. `rename` gives labels new names; two of one name become one class. `origin` as for an import.

    Raises:
        InvalidInputError: for labels that no part has, parts of different kinds, or a name that cannot be.
        ConflictError: when the name is taken.
        BadDataError: when nothing remains.
        UnavailableError: as for an import.
    """
    name = clean_name(name, "dataset")
    if origin and (made := made_for(database, workspace, name, origin)):
        return made
    refuse_taken_name(database, workspace, name)
    kind, renamed = check_labels(parts, only, rename or {})
    parsed, source = _put_together(database, storage, name, parts, kind, only, renamed)
    return store_parsed(
        database,
        storage,
        settings,
        parsed,
        source,
        Findings(name),
        workspace=workspace,
        person=person,
        name=name,
        origin=origin,
        progress=progress,
    )


def _put_together(
    database: Database,
    storage: Storage,
    name: str,
    parts: Sequence[Part],
    kind: AnnotationKind,
    only: Sequence[str],
    renamed: Mapping[str, str],
) -> tuple[Parsed, _StoredSource]:
    """All images that stay, with their labels under the new names, and where they are read from."""
    source, parsed, classes = _StoredSource(name, storage), Parsed("combined", []), ClassList()
    named_apart = len({part.dataset.name for part in parts}) == len(parts)
    for number, part in enumerate(parts):
        chosen = {
            index: classes.index(renamed.get(label, label))
            for index, label in enumerate(part.annotation_set.classes)
            if not only or label in only
        }
        with database.read() as session:
            records = load_records(session, part.dataset.id, part.annotation_set.id)
            scans = _scans(session, part.dataset.id)
        folder = part.dataset.name if named_apart else str(number)
        for record in records:
            raw = _raw(record, kind, chosen)
            if raw is None:
                continue
            path = f"{folder}/{record.path}"
            source.add(path, record.key)
            study, series = scans.get(record.position, ("", ""))
            parsed.images.append(
                ParsedImage(path, [raw], record.split, record.group, study=study, series=series, **_besides(record, kind, chosen))
            )
    parsed.sets.append(ParsedSet(parts[0].annotation_set.name.partition(" from ")[0], kind, classes.names))
    return parsed, source


def _scans(session: Session, dataset_id: str) -> dict[int, tuple[str, str]]:
    """Study and series of those images of a dataset that came from DICOM, by position."""
    query = select(DatasetImage.position, DatasetImage.study, DatasetImage.series).where(
        DatasetImage.dataset_id == dataset_id, or_(DatasetImage.study != "", DatasetImage.series != "")
    )
    return {position: (study, series) for position, study, series in session.execute(query)}


def _raw(record: Record, kind: AnnotationKind, chosen: Mapping[int, int]) -> Any:
    """A record's value as a reader would give it, labels chosen and renumbered; None where the image goes with its label."""
    if kind is AnnotationKind.SINGLE_LABEL:
        return chosen.get(record.value["label"])
    if kind is AnnotationKind.MULTI_LABEL:
        return [chosen[index] for index in record.value["labels"] if index in chosen]
    return _objects(record, record.value[OBJECTS[kind]], kind, chosen)


def _objects(record: Record, items: Sequence[Any], kind: AnnotationKind, chosen: Mapping[int, int]) -> list[tuple[Any, ...]]:
    shape: Callable[[list[Any]], tuple[Any, ...]]
    if kind is AnnotationKind.BOXES:
        shape = lambda item: (chosen[item[0]], *item[1:], None)  # noqa: E731
    else:
        shape = lambda item: (chosen[item[0]], Rle(record.width, record.height, item[1].encode("ascii")), None)  # noqa: E731
    return [shape(item) for item in items if item[0] in chosen]


def _besides(record: Record, kind: AnnotationKind, chosen: Mapping[int, int]) -> dict[str, Any]:
    """What is ignored on an image, and the areas that its source told, as `ParsedImage` has them."""
    told: dict[str, Any] = {}
    if areas := record.value.get("areas"):
        told["areas"] = [[area for item, area in zip(record.value[OBJECTS[kind]], areas, strict=True) if item[0] in chosen]]
    if ignored := record.value.get("ignored"):
        items = [[NO_CLASS, ignored]] if kind is AnnotationKind.REGIONS else ignored
        told["ignored"] = [_objects(record, items, kind, {**chosen, NO_CLASS: NO_CLASS})]
    return told
