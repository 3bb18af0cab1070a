"""From what a reader has read to the rows and images of a dataset, whole or not at all.

Images and rows are written under a dataset that nobody can see; the last transaction gives it its name and makes it visible. A killed
import leaves only such an invisible one, which `core.datasets.sweeping` takes away, and can simply be run again.
"""

import contextlib
import logging
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from sqlalchemy import insert, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session, selectinload

from core.clock import now
from core.datasets import image_store, sweeping
from core.datasets.decoder import Workbench
from core.datasets.decoding import Decoders
from core.datasets.deriving import DERIVED
from core.datasets.findings import Findings
from core.datasets.parsed import Parsed
from core.datasets.previews import first_page
from core.datasets.source import Source
from core.datasets.tally import Tally
from core.db.json_text import JsonText
from core.db.session import Database
from core.db.tables import Annotation, AnnotationSet, Base, Dataset, DatasetFinding, DatasetImage
from core.errors import BadDataError, ConflictError, StationmasterError
from core.identifiers import new_id
from core.settings import Settings
from core.storage import Storage
from core.vocabulary import AnnotationKind

logger = logging.getLogger(__name__)

Progress = Callable[[int, int], None]  # images done, images in all

_BATCH = 1_000  # rows of one transaction: small enough that others hardly wait
_LONGEST_SILENCE = 60.0  # s between two signs of life, however slowly images come


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
        raise name_taken(name)


def made_for(database: Database, workspace: str, name: str, origin: str) -> Dataset | None:
    """The dataset `name` if it was made for `origin`, such as an earlier attempt of the same job."""
    with database.read() as session:
        found = session.scalar(
            select(Dataset).where(Dataset.workspace == workspace, Dataset.name == name).options(selectinload(Dataset.annotation_sets))
        )
    return found if found is not None and found.statistics.get("origin") == origin else None


def name_taken(name: str) -> ConflictError:
    """What to say of a name that a dataset has."""
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
    decoders: Decoders | None = None,
    progress: Progress | None = None,
) -> Dataset:
    """Store what a reader read. See `import_dataset`; `decoders` are those that have been started already."""
    if decoders is None:
        with Decoders(len(parsed.images), source, storage) as started:
            return store_parsed(
                database, storage, settings, parsed, source, findings, workspace=workspace, person=person, name=name, strict=strict,
                hold=hold, origin=origin, decoders=started, progress=progress,
            )  # fmt: skip
    dataset_id = new_id()
    tally = Tally(parsed)
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
        _store_images(database, storage, settings, parsed, source, findings, tally, dataset_id, set_ids, decoders, progress)
        tally.notice_classes(findings)
        if tally.images == 0:
            first = next((finding for finding in findings if finding.severity == "error"), None) or next(iter(findings), None)
            raise BadDataError(
                f"No image of {source.name} can be used. {first or ''}".strip(), "Mend what is said above, then import again."
            )
        if strict and findings.errors:
            raise StrictError(findings)
        with ThreadPoolExecutor(1) as pool:
            settled = pool.submit(image_store.settle, storage)
            _count(database, storage, dataset_id, tally, set_ids)
            settled.result()
        return _publish(database, dataset_id, name, tally, findings, origin, held=hold and findings.errors > 0)
    except BaseException:
        try:
            sweeping.remove(database, storage, dataset_id)
        except (StationmasterError, OSError) as error:
            logger.warning("what the import has left will be swept later: %s", error)
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


def _store_images(
    database: Database,
    storage: Storage,
    settings: Settings,
    parsed: Parsed,
    source: Source,
    findings: Findings,
    tally: Tally,
    dataset_id: str,
    set_ids: list[str],
    decoders: Decoders,
    progress: Progress | None,
) -> None:
    image_rows: list[dict[str, Any]] = []
    annotation_rows: list[dict[str, Any]] = []
    total = len(parsed.images)
    said = time.monotonic()
    image_store.check_space(storage)
    bench = Workbench(source, parsed.sets, settings.max_image_pixels, storage.url, f"datasets/{dataset_id}/images")
    with contextlib.closing(decoders.outcomes(bench, storage, parsed.images)) as outcomes:  # once closed, nothing more is stored
        for done, (image, outcome) in enumerate(zip(parsed.images, outcomes, strict=True), 1):
            findings.extend(outcome.findings)
            for one in outcome.finished:
                position = tally.images
                # Frames of one file belong together as much as slices of one study.
                study, series = one.stored.study or image.study, one.stored.series or image.series
                group = image.group or study or series or (image.path if one.stored.frame >= 0 else "")
                tally.take(image, one, group, findings)
                image_rows.append(
                    {
                        "dataset_id": dataset_id,
                        "position": position,
                        "path": storable(image.path if one.stored.frame < 0 else f"{image.path}#{one.stored.frame + 1}"),
                        "key": one.key,
                        "width": one.stored.width,
                        "height": one.stored.height,
                        "sha256": one.stored.sha256,
                        "split": image.split,
                        "group": storable(group),
                        "study": storable(study),
                        "series": storable(series),
                    }
                )
                for set_id, text in zip(set_ids, one.texts, strict=True):
                    if text is not None:
                        annotation_rows.append({"annotation_set_id": set_id, "position": position, "value": JsonText(text)})
            if len(image_rows) >= _BATCH or time.monotonic() - said > _LONGEST_SILENCE:
                image_store.check_space(storage)
                _insert(database, dataset_id, image_rows, annotation_rows)
                said = time.monotonic()
            if progress is not None:
                progress(done, total)
    _insert(database, dataset_id, image_rows, annotation_rows)


def storable(text: str) -> str:
    """Text that every database takes: file names may hold bytes that are no Unicode, and NUL."""
    if text.isascii() and "\0" not in text:
        return text
    return text.encode("utf-8", "replace").decode().replace("\0", "\N{REPLACEMENT CHARACTER}")


def _insert(database: Database, dataset_id: str, image_rows: list[dict[str, Any]], annotation_rows: list[dict[str, Any]]) -> None:
    with database.write() as session:
        if image_rows:
            session.execute(insert(Base.metadata.tables[DatasetImage.__tablename__]), image_rows)  # no objects are wanted
        if annotation_rows:
            session.execute(insert(Base.metadata.tables[Annotation.__tablename__]), annotation_rows)
        session.execute(update(Dataset).where(Dataset.id == dataset_id).values(statistics={"import": sweeping.sign_of_life()}))
    image_rows.clear()
    annotation_rows.clear()


def _count(database: Database, storage: Storage, dataset_id: str, tally: Tally, set_ids: list[str]) -> None:
    """Write what was counted, add the derived sets, and draw the page of the preview that people see first."""
    with database.write() as session:
        stored = [session.get_one(AnnotationSet, set_id) for set_id in set_ids]
        for number, annotation_set in enumerate(stored):
            annotation_set.class_counts = [tally.class_counts[number][index] for index in range(len(annotation_set.classes))]
            annotation_set.image_count = tally.image_counts[number]
        _add_derived(session, dataset_id, stored, tally)
        session.get_one(Dataset, dataset_id).image_count = tally.images
    with database.read() as session:
        first_page(storage, session, session.get_one(Dataset, dataset_id), stored[0] if stored else None)


def _publish(database: Database, dataset_id: str, name: str, tally: Tally, findings: Findings, origin: str, *, held: bool) -> Dataset:
    """The last transaction: findings, counts, derived sets, and the name under which the dataset is seen."""
    try:
        with database.write() as session:
            dataset = session.get_one(Dataset, dataset_id)
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
            dataset.median_width, dataset.median_height = tally.median_size()
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
        raise name_taken(name) from error


def _add_derived(session: Session, dataset_id: str, stored: list[AnnotationSet], tally: Tally) -> None:
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
