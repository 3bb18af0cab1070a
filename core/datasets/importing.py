"""Import: a folder, an archive or a URL becomes a dataset."""

import gc
import re
from collections.abc import Iterator
from contextlib import contextmanager

from core.datasets import sweeping
from core.datasets.decoding import Decoders
from core.datasets.findings import Findings
from core.datasets.formats import coco, csv_tables, find_reader, label_csv, labelme
from core.datasets.grouping import apply_groups, compile_pattern
from core.datasets.parsed import Parsed
from core.datasets.source import Source, images_of
from core.datasets.sources.opening import open_source
from core.datasets.storing import Progress, made_for, refuse_taken_name, store_parsed
from core.db.session import Database
from core.db.tables import Dataset
from core.errors import BadDataError, InvalidInputError
from core.names import clean_name
from core.settings import Settings
from core.storage import Storage


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
    name = clean_name(name, "dataset")
    pattern = compile_pattern(group_pattern)
    if origin and (made := made_for(database, workspace, name, origin)):
        return made
    refuse_taken_name(database, workspace, name)
    sweeping.sweep(database, storage, settings)
    findings = Findings()
    with open_source(source, settings, findings) as opened, Decoders(len(images_of(opened)), opened, storage) as decoders:
        findings.source = opened.name
        parsed = _read_whole(opened, settings, findings, format, pattern, group_column)
        try:
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
                decoders=decoders,
                progress=progress,
            )
        finally:
            gc.unfreeze()


def _read_whole(
    source: Source, settings: Settings, findings: Findings, format: str, pattern: re.Pattern[str] | None, group_column: int
) -> Parsed:
    """What a source says, its images in their groups.

    Raises:
        BadDataError: when nothing in it can be used, with the first reason, or when it holds more images than one may have.
    """
    try:
        parsed = parse(source, settings, findings, format, group_column)
    except BadDataError as error:
        # Nothing can be used: what was noticed until then is why.
        first = next((finding for finding in findings if finding.severity == "error"), None)
        raise (BadDataError(f"{error.what} {first}", error.remedy) if first else error) from error
    _notice_unlisted(parsed, source, findings)
    apply_groups(parsed, source, pattern, findings)
    if len(parsed.images) > settings.max_images:
        raise BadDataError(
            f"{source.name} holds more than {settings.max_images:,} images.",
            "Split it into several datasets, or raise STATIONMASTER_MAX_IMAGES.",
        )
    return parsed


def _notice_unlisted(parsed: Parsed, source: Source, findings: Findings) -> None:
    """Say how many images nothing was said of, where what is said of images stands in files of its own."""
    if parsed.format not in (label_csv.NAME, coco.NAME, labelme.NAME, csv_tables.NAME):
        return
    listed = {image.path for image in parsed.images} | findings.left_out
    unlisted = sorted(path for path in images_of(source) if path not in listed)
    if unlisted:
        images = "image is" if len(unlisted) == 1 else "images are"
        findings.warning(
            "unlisted-image",
            unlisted[0],
            f"{len(unlisted):,} {images} not named by any label, and not part of the dataset.",
            "Add labels for them, or a line without objects.",
        )


def parse(source: Source, settings: Settings, findings: Findings, format: str = "", group_column: int = 0) -> Parsed:
    """What a source says, read by the format's reader or by the one that knows it.

    Raises:
        InvalidInputError: for an unknown format, or a group column where there is no label.csv.
        BadDataError: when nothing in it can be used.
    """
    reader = find_reader(source, format)
    if group_column and reader.name != label_csv.NAME:
        raise InvalidInputError(f"A group column needs a label.csv; {source.name} is {reader.name}.", "Use a group pattern, or groups.csv.")
    with _uncollected():
        try:
            if group_column:
                return label_csv.read(source, settings, findings, group_column=group_column)
            return reader.read(source, settings, findings)
        except OSError as error:  # of a file without which nothing can be said
            raise BadDataError(f"{source.name} cannot be read: {error}.", "Check that it was copied whole and may be read.") from error


@contextmanager
def _uncollected() -> Iterator[None]:
    """Within the block nothing is searched for cycles, and what it has made is not afterwards either.

    Readers make millions of objects and hardly a cycle: going through all of them again and again would be a third of the time.
    """
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
        gc.freeze()  # until the import ends
    finally:
        if collecting:
            gc.enable()
