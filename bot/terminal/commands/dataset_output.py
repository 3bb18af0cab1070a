"""What the commands for datasets share: their arguments, finding a dataset, writing about it."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from bot.terminal.commands.output import err, out, print_facts, print_json, print_table, say
from bot.terminal.commands.runtime import Runtime
from core.datasets import listing
from core.datasets.facts import dataset_json
from core.db.tables import AnnotationSet, Dataset, DatasetFinding
from core.errors import NotFoundError, UnavailableError
from core.wizard.steps.step import count

DatasetArgument = Annotated[str, typer.Argument(metavar="DATASET", help="Name or id of the dataset.")]

AnnotationSetOption = Annotated[str, typer.Option("--annotation-set", help="Name, kind or id of the annotation set; default: the first.")]

_SHOWN_FINDINGS = 20


def open_dataset(name: str, workspace: str) -> tuple[Runtime, Dataset]:
    """The runtime, and the dataset of that name or id."""
    runtime = Runtime.load(workspace)
    with runtime.database.read() as session:
        return runtime, listing.find_dataset(session, runtime.workspace, name)


def print_whole(runtime: Runtime, dataset_id: str, *, as_json: bool) -> None:
    """Write all about a dataset, with what its import noticed."""
    with runtime.database.read() as session:
        dataset = listing.find_dataset(session, runtime.workspace, dataset_id)
        findings = listing.findings_of(session, dataset.id)
    if as_json:
        print_json(dataset_json(dataset, findings))
    else:
        print_dataset(dataset, findings)


@contextmanager
def progress(what: str) -> Iterator[Callable[[int, int], None]]:
    """A bar on standard error while people look on; gives the function that moves it."""
    columns = (TextColumn(what), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=err, transient=True, disable=not err.is_terminal) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def _fits_none(dataset: Dataset) -> str:
    return f"no task type yet: {'no image shows any of its classes' if dataset.annotation_sets else 'it has no labels'}"


def print_dataset(dataset: Dataset, findings: list[DatasetFinding]) -> None:
    """Write about a dataset for people."""
    print_facts(
        [
            ("Name", dataset.name),
            ("Id", dataset.id),
            (
                "Images",
                f"{dataset.image_count:,} ({dataset.bytes / 1e6:,.1f} MB, median {dataset.median_width} × {dataset.median_height} px)",
            ),
            ("Format", dataset.source_format),
            ("Fits", ", ".join(listing.task_types(dataset)) or _fits_none(dataset)),
            ("Imported", f"{dataset.created_at:%Y-%m-%d %H:%M} UTC by {dataset.created_by}"),
        ]
    )
    for one in dataset.annotation_sets:
        out.print()
        images = "1 image" if one.image_count == 1 else f"{one.image_count:,} images"
        out.print(f"Annotation set “{one.name}” ({one.kind}, {images})", markup=False, style="bold")
        counts = sorted(zip(one.classes, one.class_counts, strict=True), key=lambda pair: -pair[1])
        print_table(("Class", "Count"), [(name, f"{count:,}") for name, count in counts[:30]], empty="No classes.")
        if len(counts) > 30:
            say(f"… and {len(counts) - 30:,} more classes")
    if findings:
        errors = sum(1 for finding in findings if finding.severity == "error")
        say(f"\n{count(len(findings), 'finding')}, {errors:,} of them on what was left out of the dataset:")
        for finding in findings[:_SHOWN_FINDINGS]:
            where = finding.file if finding.line is None else f"{finding.file}:{finding.line}"
            say(f"  {finding.severity}  {where}{': ' if where else ''}{finding.message} {finding.remedy}")
        if len(findings) > _SHOWN_FINDINGS:
            say(f"  … and {len(findings) - _SHOWN_FINDINGS:,} more: `stationmaster dataset show {dataset.id} --json`")


def annotation_set_of(dataset: Dataset, wanted: str) -> AnnotationSet:
    """The annotation set of that name, kind or id; without one the first."""
    if not dataset.annotation_sets:
        raise NotFoundError(f"The dataset “{dataset.name}” has no annotation sets.", "Import labels with the images.")
    for one in dataset.annotation_sets:
        if not wanted or wanted in (one.id, one.name, one.kind):
            return one
    names = ", ".join(f"“{one.name}” ({one.kind})" for one in dataset.annotation_sets)
    raise NotFoundError(f"The dataset “{dataset.name}” has no annotation set “{wanted[:60]}”.", f"It has: {names}.")


def write_file(path: Path, data: bytes) -> None:
    """Write a file that somebody has asked for."""
    try:
        path.write_bytes(data)
    except OSError as error:
        raise UnavailableError(
            f"{path} cannot be written: {error.strerror}.", "Check that the folder is there and may be written."
        ) from error
