"""Import: a source becomes a dataset, whole or not at all.

Images and rows are written under a dataset that nobody can see; the last transaction gives it its name and makes it visible. A killed
import leaves only such an invisible one, which `core.datasets.sweeping` takes away, and can simply be run again.
"""

import hashlib
import itertools
import json
import logging
import os
import statistics
from collections import Counter, deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import insert, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session, selectinload

from core.clock import now
from core.datasets import image_store, sweeping
from core.datasets.deriving import DERIVED, classes_in
from core.datasets.findings import Findings
from core.datasets.finishing import Finished, Outcome, finish
from core.datasets.formats import find_reader, label_csv
from core.datasets.grouping import apply_groups, compile_pattern
from core.datasets.names import clean_name
from core.datasets.parsed import Parsed, ParsedImage
from core.datasets.source import Source, open_source
from core.db.session import Database
from core.db.tables import Annotation, AnnotationSet, Dataset, DatasetFinding, DatasetImage
from core.errors import BadDataError, ConflictError, InvalidInputError, StationmasterError
from core.identifiers import new_id
from core.settings import Settings
from core.storage import Storage
from core.vocabulary import AnnotationKind

logger = logging.getLogger(__name__)

Progress = Callable[[int, int], None]  # images done, images in all

FEWEST_PER_CLASS = 3
_BATCH = 1_000  # rows of one transaction: small enough that others hardly wait


@dataclass
class _Tally:
    """What is counted while images go by."""

    parsed: Parsed
    images: int = 0
    size: int = 0  # bytes
    widths: Counter[int] = field(default_factory=Counter)
    heights: Counter[int] = field(default_factory=Counter)
    class_counts: list[Counter[int]] = field(default_factory=list)
    class_images: list[Counter[int]] = field(default_factory=list)
    image_counts: list[int] = field(default_factory=list)
    splits: Counter[str] = field(default_factory=Counter)
    groups: int = 0
    hash: Any = field(default_factory=hashlib.sha256)
    first_with: dict[bytes, ParsedImage] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for parsed_set in self.parsed.sets:
            self.class_counts.append(Counter())
            self.class_images.append(Counter())
            self.image_counts.append(0)
            self.hash.update(json.dumps([parsed_set.name, parsed_set.kind, parsed_set.classes]).encode())

    def take(self, one: Finished, findings: Findings) -> None:
        """Count one stored image."""
        self.images += 1
        self.size += len(one.stored.data)
        self.widths[one.stored.width] += 1
        self.heights[one.stored.height] += 1
        self.splits[one.parsed.split] += 1
        self.hash.update(f"{one.stored.sha256} {one.parsed.split} {one.parsed.group} ".encode("utf-8", "surrogateescape"))
        self.hash.update(json.dumps(one.values).encode())
        for number, (parsed_set, value) in enumerate(zip(self.parsed.sets, one.values, strict=True)):
            if value is not None:
                self.image_counts[number] += 1
                classes = classes_in(value, parsed_set.kind)
                self.class_counts[number].update(classes)
                self.class_images[number].update(set(classes))
        digest = bytes.fromhex(one.stored.sha256)[:16]
        first = self.first_with.setdefault(digest, one.parsed)
        if first is not one.parsed:
            _notice_duplicate(first, one.parsed, findings)

    def notice_classes(self, findings: Findings) -> None:
        """Say which classes have too few images to be learnt."""
        for number, parsed_set in enumerate(self.parsed.sets):
            for index, name in enumerate(parsed_set.classes):
                count = self.class_images[number][index]
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


def import_dataset(
    database: Database,
    storage: Storage,
    settings: Settings,
    *,
    workspace: str,
    person: str,
    name: str,
    source: str,
    format: str = "",
    strict: bool = False,
    hold: bool = False,
    origin: str = "",
    group_pattern: str = "",
    group_column: int = 0,
    progress: Progress | None = None,
) -> Dataset:
    """Import the folder, archive or URL `source` as the dataset `name`: it is there whole when this returns, and not at all when it raises.

    `format` names a reader, empty means that the source is looked at. `strict` refuses the whole source when anything would be left out;
    `hold` waits instead, unseen, for `keep_dataset` or `drop_dataset` when anything was (state `held`). `origin` names what asks for the
    import, such as a job: where that has got its dataset already, and only did not hear of it, this is the dataset. Images whose paths
    agree in what `group_pattern` captures are one group and never divided by a split; so are those with the same text in `group_column`
    (from 1) of label.csv.

    Raises:
        InvalidInputError: for a name or format that cannot be.
        ConflictError: when the workspace has a dataset of that name.
        NotFoundError: when there is nothing at `source`.
        BadDataError: when the source cannot be read, nothing in it can be used, or `strict` and something was left out (`StrictError`).
        UnavailableError: when the disk is full, or database, storage or URL are away.
    """
    name = clean_name(name)
    pattern = compile_pattern(group_pattern)
    if origin and (made := _made_for(database, workspace, name, origin)):
        return made
    refuse_taken_name(database, workspace, name)
    sweeping.sweep(database, storage, settings)
    findings = Findings()
    with open_source(source, settings, findings) as opened:
        reader = find_reader(opened, format)
        if group_column and reader.name != label_csv.NAME:
            raise InvalidInputError(
                f"A group column needs a label.csv; {opened.name} is {reader.name}.", "Use a group pattern, or groups.csv."
            )
        parsed = (
            label_csv.read(opened, settings, findings, group_column=group_column)
            if group_column
            else reader.read(opened, settings, findings)
        )
        apply_groups(parsed, opened, pattern, findings)
        if len(parsed.images) > settings.max_images:
            raise BadDataError(
                f"{opened.name} holds more than {settings.max_images:,} images.",
                "Split it into several datasets, or raise STATIONMASTER_MAX_IMAGES.",
            )
        return store_parsed(
            database,
            storage,
            settings,
            parsed,
            opened,
            findings,
            workspace=workspace,
            person=person,
            name=name,
            strict=strict,
            hold=hold,
            origin=origin,
            progress=progress,
        )


def _made_for(database: Database, workspace: str, name: str, origin: str) -> Dataset | None:
    with database.read() as session:
        found = session.scalar(
            select(Dataset).where(Dataset.workspace == workspace, Dataset.name == name).options(selectinload(Dataset.annotation_sets))
        )
    return found if found is not None and found.statistics.get("origin") == origin else None


class StrictError(BadDataError):
    """A strict import would have left something out; `findings` says what."""

    def __init__(self, findings: Findings) -> None:
        first = next((finding for finding in findings if finding.severity == "error"), None)
        super().__init__(
            f"Not imported: {findings.summary()}. The first: {first}", "Mend the source, or import without --strict to keep the good part."
        )
        self.findings = list(findings)


def refuse_taken_name(database: Database, workspace: str, name: str) -> None:
    """Raise ConflictError when the workspace has a dataset `name`."""
    with database.read() as session:
        state = session.scalar(select(Dataset.state).where(Dataset.workspace == workspace, Dataset.name == name))
    if state == "held":
        raise ConflictError(
            f"An import called “{name}” waits for somebody to say whether its good part is kept.",
            "Keep or drop it, or choose another name.",
        )
    if state:
        raise _taken(name)


def _taken(name: str) -> ConflictError:
    return ConflictError(f"There is a dataset “{name}” already.", "Choose another name, or delete that one first.")


def store_parsed(
    database: Database,
    storage: Storage,
    settings: Settings,
    parsed: Parsed,
    source: Source,
    findings: Findings,
    *,
    workspace: str,
    person: str,
    name: str,
    strict: bool = False,
    hold: bool = False,
    origin: str = "",
    progress: Progress | None = None,
) -> Dataset:
    """Store what a reader read. See `import_dataset`."""
    dataset_id = new_id()
    tally = _Tally(parsed)
    with database.write() as session:
        session.add(
            Dataset(
                id=dataset_id,
                workspace=workspace,
                name=f".importing.{dataset_id}",
                created_by=person,
                source_format=parsed.format,
                statistics={"import": sweeping.sign_of_life()},
            )
        )
    try:
        set_ids = _add_sets(database, dataset_id, parsed)
        _store_images(database, storage, settings, parsed, source, findings, tally, dataset_id, set_ids, progress)
        tally.notice_classes(findings)
        if tally.images == 0:
            first = next(iter(findings), None)
            raise BadDataError(
                f"No image of {source.name} can be used. {first or ''}".strip(), "Mend what is said above, then import again."
            )
        if strict and findings.errors:
            raise StrictError(findings)
        image_store.settle(storage)
        return _publish(database, dataset_id, name, tally, findings, set_ids, origin, held=hold and findings.errors > 0)
    except BaseException:
        try:
            sweeping.remove(database, storage, dataset_id)
        except (StationmasterError, OSError):
            logger.warning("what import %s has left will be swept later", dataset_id, exc_info=True)
        raise


def _add_sets(database: Database, dataset_id: str, parsed: Parsed) -> list[str]:
    ids = [new_id() for _ in parsed.sets]
    with database.write() as session:
        for position, (set_id, parsed_set) in enumerate(zip(ids, parsed.sets, strict=True)):
            session.add(
                AnnotationSet(
                    id=set_id,
                    dataset_id=dataset_id,
                    position=position,
                    name=parsed_set.name,
                    kind=parsed_set.kind.value,
                    classes=parsed_set.classes,
                    class_counts=[],
                    image_count=0,
                )
            )
    return ids


def _outcomes(source: Source, parsed: Parsed, settings: Settings, storage: Storage, folder: str) -> Iterator[tuple[Outcome, list[str]]]:
    """Each image's outcome with the keys of its stored images, in order, a bounded number of them in work at a time."""
    workers = cores()
    images = enumerate(parsed.images)

    def work(index: int, image: ParsedImage) -> tuple[Outcome, list[str]]:
        outcome = finish(source, image, parsed.sets, settings.max_image_pixels)
        keys = []
        for number, one in enumerate(outcome.finished):
            frame = f"-{number}" if len(outcome.finished) > 1 else ""
            key = f"{folder}/{index // 1000:04d}/{index:07d}{frame}{one.stored.suffix}"
            image_store.write(storage, key, one.stored.data)
            keys.append(key)
        return outcome, keys

    pending: deque[Future[tuple[Outcome, list[str]]]] = deque()
    with ThreadPoolExecutor(workers, thread_name_prefix="import") as pool:
        try:
            for index, image in itertools.islice(images, workers * 4):
                pending.append(pool.submit(work, index, image))
            while pending:
                yield pending.popleft().result()
                for index, image in itertools.islice(images, 1):
                    pending.append(pool.submit(work, index, image))
        finally:
            for future in pending:
                future.cancel()


def cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _store_images(
    database: Database,
    storage: Storage,
    settings: Settings,
    parsed: Parsed,
    source: Source,
    findings: Findings,
    tally: _Tally,
    dataset_id: str,
    set_ids: list[str],
    progress: Progress | None,
) -> None:
    image_rows: list[dict[str, Any]] = []
    annotation_rows: list[dict[str, Any]] = []
    total = len(parsed.images)
    image_store.check_space(storage)
    for done, (outcome, keys) in enumerate(_outcomes(source, parsed, settings, storage, f"datasets/{dataset_id}/images"), 1):
        findings.extend(outcome.findings)
        for one, key in zip(outcome.finished, keys, strict=True):
            position = tally.images
            tally.take(one, findings)
            image_rows.append(
                {
                    "dataset_id": dataset_id,
                    "position": position,
                    "path": storable(one.parsed.path if one.stored.frame < 0 else f"{one.parsed.path}#{one.stored.frame + 1}"),
                    "key": key,
                    "width": one.stored.width,
                    "height": one.stored.height,
                    "sha256": one.stored.sha256,
                    "split": one.parsed.split,
                    "group": storable(one.parsed.group or one.stored.study or one.stored.series),
                    "study": storable(one.stored.study),
                    "series": storable(one.stored.series),
                }
            )
            for set_id, value in zip(set_ids, one.values, strict=True):
                if value is not None:
                    annotation_rows.append({"annotation_set_id": set_id, "position": position, "value": value})
        if len(image_rows) >= _BATCH:
            image_store.check_space(storage)
            _insert(database, dataset_id, image_rows, annotation_rows)
        if progress is not None:
            progress(done, total)
    _insert(database, dataset_id, image_rows, annotation_rows)


def storable(text: str) -> str:
    """Text that every database takes: file names may hold bytes that are no Unicode, and NUL."""
    return text.encode("utf-8", "replace").decode().replace("\0", "\N{REPLACEMENT CHARACTER}")


def _insert(database: Database, dataset_id: str, image_rows: list[dict[str, Any]], annotation_rows: list[dict[str, Any]]) -> None:
    with database.write() as session:
        if image_rows:
            session.execute(insert(DatasetImage), image_rows)
        if annotation_rows:
            session.execute(insert(Annotation), annotation_rows)
        session.execute(update(Dataset).where(Dataset.id == dataset_id).values(statistics={"import": sweeping.sign_of_life()}))
    image_rows.clear()
    annotation_rows.clear()


def _publish(
    database: Database, dataset_id: str, name: str, tally: _Tally, findings: Findings, set_ids: list[str], origin: str, *, held: bool
) -> Dataset:
    """The last transaction: findings, counts, derived sets, and the name under which the dataset is seen."""
    try:
        with database.write() as session:
            dataset = session.get_one(Dataset, dataset_id)
            stored = [session.get_one(AnnotationSet, set_id) for set_id in set_ids]
            for number, annotation_set in enumerate(stored):
                annotation_set.class_counts = [tally.class_counts[number][index] for index in range(len(annotation_set.classes))]
                annotation_set.image_count = tally.image_counts[number]
            _add_derived(session, dataset_id, stored, tally)
            rows = [
                {
                    "dataset_id": dataset_id,
                    **{key: storable(value) if isinstance(value, str) else value for key, value in finding.to_json().items()},
                }
                for finding in findings
            ]
            if rows:
                session.execute(insert(DatasetFinding), rows)
            dataset.image_count = tally.images
            dataset.bytes = tally.size
            dataset.median_width = _median(tally.widths)
            dataset.median_height = _median(tally.heights)
            dataset.fingerprint = tally.hash.hexdigest()
            dataset.statistics = {
                "smallest": [min(tally.widths), min(tally.heights)],
                "largest": [max(tally.widths), max(tally.heights)],
                "splits": {split: count for split, count in tally.splits.items() if split},
                "origin": origin,
            }
            dataset.created_at = now()
            dataset.name = name
            dataset.state = "held" if held else "ready"
            session.flush()
            session.refresh(dataset, ["annotation_sets"])
            return dataset
    except IntegrityError as error:
        raise _taken(name) from error


def _add_derived(session: Session, dataset_id: str, stored: list[AnnotationSet], tally: _Tally) -> None:
    position = len(stored)
    have = {annotation_set.kind for annotation_set in stored}
    for number, annotation_set in enumerate(stored):
        for kind in DERIVED.get(AnnotationKind(annotation_set.kind), ()):
            # A source that has boxes of its own needs none that follow from its masks.
            if kind.value in have:
                continue
            have.add(kind.value)
            per_image = kind in (AnnotationKind.MULTI_LABEL, AnnotationKind.REGIONS)
            counts = tally.class_images[number] if per_image else tally.class_counts[number]
            session.add(
                AnnotationSet(
                    dataset_id=dataset_id,
                    position=position,
                    name=f"{kind.value} from {annotation_set.name}",
                    kind=kind.value,
                    classes=annotation_set.classes,
                    class_counts=[counts[index] for index in range(len(annotation_set.classes))],
                    image_count=annotation_set.image_count,
                    derived_from=annotation_set.id,
                )
            )
            position += 1


def _median(counts: Counter[int]) -> int:
    return int(statistics.median_low(counts.elements()))
