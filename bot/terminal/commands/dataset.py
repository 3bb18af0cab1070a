"""`stationmaster dataset …`: import, list, show, preview, statistics, export, combine, rename, delete."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from bot.terminal.commands.output import JsonOption, err, out, print_facts, print_json, print_table, say
from bot.terminal.commands.runtime import Runtime, WorkspaceOption
from core.datasets import listing
from core.datasets.combining import choose_parts, combine_datasets, read_renames
from core.datasets.exporting import WRITERS, export_dataset
from core.datasets.facts import dataset_json, finding_json
from core.datasets.findings import findings_csv
from core.datasets.importing import import_dataset
from core.datasets.previews import preview_page
from core.datasets.statistics import CUT_OFF, dataset_statistics
from core.datasets.storing import StrictError
from core.db.tables import AnnotationSet, Dataset, DatasetFinding
from core.errors import InvalidInputError, NotFoundError, UnavailableError
from core.vocabulary import AnnotationKind, TaskType

app = typer.Typer(help="Datasets: import, look at, export, combine, rename, delete.", no_args_is_help=True)

DatasetArgument = Annotated[str, typer.Argument(metavar="DATASET", help="Name or id of the dataset.")]

AnnotationSetOption = Annotated[str, typer.Option("--annotation-set", help="Name, kind or id of the annotation set; default: the first.")]

_SHOWN_FINDINGS = 20


@contextmanager
def _progress(what: str) -> Iterator[Callable[[int, int], None]]:
    """A bar on standard error while people look on; gives the function that moves it."""
    columns = (TextColumn(what), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=err, transient=True, disable=not err.is_terminal) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


@app.command("import")
def import_command(
    path: Annotated[str, typer.Argument(metavar="PATH", help="A folder, a zip or tar, or a URL such as s3://bucket/folder.")],
    name: Annotated[str, typer.Option("--name", help="Name of the new dataset.")],
    format_name: Annotated[str, typer.Option("--format", help="Format of the source; default: found out by itself.")] = "",
    strict: Annotated[bool, typer.Option("--strict", help="Refuse the whole source if anything in it would be left out.")] = False,
    group_pattern: Annotated[
        str, typer.Option("--group-pattern", help="Regular expression over paths: images that agree in it stay on one side of a split.")
    ] = "",
    group_column: Annotated[
        int, typer.Option("--group-column", min=0, help="Column of label.csv, from 1, that names the group of each image.")
    ] = 0,
    json: JsonOption = False,
    workspace: WorkspaceOption = "",
) -> None:
    """Import images and labels as a new dataset."""
    runtime = Runtime.load(workspace)
    try:
        with _progress("Importing") as advance:
            dataset = import_dataset(
                runtime.database,
                runtime.storage,
                runtime.settings,
                workspace=runtime.workspace,
                person=runtime.actor.person,
                name=name,
                source=path,
                format=format_name,
                strict=strict,
                group_pattern=group_pattern,
                group_column=group_column,
                progress=advance,
            )
    except StrictError as error:
        if json:
            print_json({"error": error.what, "remedy": error.remedy, "findings": [finding.to_json() for finding in error.findings]})
        raise
    with runtime.database.read() as session:
        dataset = listing.find_dataset(session, runtime.workspace, dataset.id)
        findings = listing.findings_of(session, dataset.id)
    if json:
        print_json(dataset_json(dataset, findings))
        return
    _print_dataset(dataset, findings)


@app.command("list")
def list_command(
    task_type: Annotated[TaskType | None, typer.Option("--task-type", help="Only datasets that can be used for it.")] = None,
    search: Annotated[str, typer.Option("--search", help="Only datasets whose name holds this text.")] = "",
    offset: Annotated[int, typer.Option("--offset", min=0, help="Leave out so many from the start.")] = 0,
    limit: Annotated[int, typer.Option("--limit", min=1, help="List at most so many.")] = 1000,
    json: JsonOption = False,
    workspace: WorkspaceOption = "",
) -> None:
    """List the datasets by name."""
    runtime = Runtime.load(workspace)
    with runtime.database.read() as session:
        datasets, total = listing.list_datasets(session, runtime.workspace, task_type=task_type, search=search, offset=offset, limit=limit)
        if json:
            findings = listing.findings_by_dataset(session, [dataset.id for dataset in datasets])
            print_json([dataset_json(dataset, findings.get(dataset.id, [])) for dataset in datasets])
            return
    print_table(
        ("Name", "Images", "Classes", "Task types", "Imported"),
        (
            (one.name, f"{one.image_count:,}", _class_count(one), ", ".join(listing.task_types(one)), f"{one.created_at:%Y-%m-%d %H:%M}")
            for one in datasets
        ),
        empty="No dataset fits. Import one with `stationmaster dataset import PATH --name NAME`.",
    )
    if total > offset + len(datasets):
        say(f"{total - offset - len(datasets):,} more: --offset {offset + len(datasets)}")


def _class_count(dataset: Dataset) -> int:
    return max((len(one.classes) for one in dataset.annotation_sets), default=0)


@app.command("show")
def show_command(dataset_name: DatasetArgument, json: JsonOption = False, workspace: WorkspaceOption = "") -> None:
    """Show a dataset: images, annotation sets, label counts, findings of its import."""
    runtime = Runtime.load(workspace)
    with runtime.database.read() as session:
        dataset = listing.find_dataset(session, runtime.workspace, dataset_name)
        findings = listing.findings_of(session, dataset.id)
    if json:
        print_json(dataset_json(dataset, findings))
        return
    _print_dataset(dataset, findings)


def _print_dataset(dataset: Dataset, findings: list[DatasetFinding]) -> None:
    print_facts(
        [
            ("Name", dataset.name),
            ("Id", dataset.id),
            (
                "Images",
                f"{dataset.image_count:,} ({dataset.bytes / 1e6:,.1f} MB, median {dataset.median_width} × {dataset.median_height} px)",
            ),
            ("Format", dataset.source_format),
            ("Fits", ", ".join(listing.task_types(dataset)) or "no task type yet: it has no labels"),
            ("Imported", f"{dataset.created_at:%Y-%m-%d %H:%M} UTC by {dataset.created_by}"),
        ]
    )
    for one in dataset.annotation_sets:
        out.print()
        out.print(f"Annotation set “{one.name}” ({one.kind}, {one.image_count:,} images)", markup=False, style="bold")
        counts = sorted(zip(one.classes, one.class_counts, strict=True), key=lambda pair: -pair[1])
        print_table(("Class", "Count"), [(name, f"{count:,}") for name, count in counts[:30]], empty="No classes.")
        if len(counts) > 30:
            say(f"… and {len(counts) - 30:,} more classes")
    if findings:
        errors = sum(1 for finding in findings if finding.severity == "error")
        say(f"\n{len(findings):,} findings, {errors:,} of them left out of the dataset:")
        for finding in findings[:_SHOWN_FINDINGS]:
            where = finding.file if finding.line is None else f"{finding.file}:{finding.line}"
            say(f"  {finding.severity}  {where}{': ' if where else ''}{finding.message} {finding.remedy}")
        if len(findings) > _SHOWN_FINDINGS:
            say(f"  … and {len(findings) - _SHOWN_FINDINGS:,} more: `stationmaster dataset show {dataset.id} --json`")


@app.command("preview")
def preview_command(
    dataset_name: DatasetArgument,
    out_file: Annotated[Path, typer.Option("--out", help="PNG file to write.")],
    page: Annotated[int, typer.Option("--page", help="Page, from 1; a page shows 50 images.")] = 1,
    annotation_set: Annotated[
        str, typer.Option("--annotation-set", help="Name, kind or id of the annotation set; default: the first.")
    ] = "",
    json: JsonOption = False,
    workspace: WorkspaceOption = "",
) -> None:
    """Write a page of annotated thumbnails as a picture."""
    runtime = Runtime.load(workspace)
    with runtime.database.read() as session:
        dataset = listing.find_dataset(session, runtime.workspace, dataset_name)
    chosen = _annotation_set(dataset, annotation_set)
    found = preview_page(runtime.database, runtime.storage, runtime.settings, dataset.id, chosen.id, page)
    _write(out_file, runtime.storage.read(found.png_key))
    if json:
        print_json(
            {
                "file": str(out_file),
                "page": page,
                "first": found.first,
                "last": found.last,
                "total": found.total,
                "annotation_set": chosen.name,
            }
        )
    else:
        say(f"Images {found.first:,}–{found.last:,} of {found.total:,}: {out_file}")


def _annotation_set(dataset: Dataset, wanted: str) -> AnnotationSet:
    if not dataset.annotation_sets:
        raise NotFoundError(f"The dataset “{dataset.name}” has no annotation sets.", "Import labels with the images.")
    for one in dataset.annotation_sets:
        if not wanted or wanted in (one.id, one.name, one.kind):
            return one
    names = ", ".join(f"“{one.name}” ({one.kind})" for one in dataset.annotation_sets)
    raise NotFoundError(f"The dataset “{dataset.name}” has no annotation set “{wanted[:60]}”.", f"It has: {names}.")


def _write(path: Path, data: bytes) -> None:
    try:
        path.write_bytes(data)
    except OSError as error:
        raise UnavailableError(
            f"{path} cannot be written: {error.strerror}.", "Check that the folder is there and may be written."
        ) from error


@app.command("statistics")
def statistics_command(
    dataset_name: DatasetArgument,
    out_file: Annotated[Path | None, typer.Option("--out", help="PNG file to write.")] = None,
    annotation_set: AnnotationSetOption = "",
    cut_off: Annotated[float, typer.Option("--cut-off", help="Share of an equal part below which a class is under-represented.")] = CUT_OFF,
    json: JsonOption = False,
    workspace: WorkspaceOption = "",
) -> None:
    """Count labels, sizes, boxes and masks, as numbers and as a picture."""
    runtime = Runtime.load(workspace)
    with runtime.database.read() as session:
        dataset = listing.find_dataset(session, runtime.workspace, dataset_name)
    found, keys = dataset_statistics(runtime.database, runtime.storage, dataset.id, _annotation_set(dataset, annotation_set).id, cut_off)
    if out_file is not None:
        _write(out_file, runtime.storage.read(keys.png_key))
        say(f"Picture: {out_file}")
    if json:
        print_json(found)
        return
    print_table(
        ("Class", "Images", "Share", "Represented"),
        ((label["class"], f"{label['images']:,}", f"{label['share']:.1%}", label["representation"]) for label in found["labels"]),
        empty="No classes.",
    )
    print_facts(
        (
            name.replace("_", " ").capitalize(),
            ", ".join(f"{key} {value:.4g}" for key, value in found[name].items() if isinstance(value, (int, float))),
        )
        for name in found
        if isinstance(found[name], dict) and found[name].get("median") is not None
    )


@app.command("findings")
def findings_command(
    dataset_name: DatasetArgument,
    out_file: Annotated[Path | None, typer.Option("--out", help="CSV file to write.")] = None,
    json: JsonOption = False,
    workspace: WorkspaceOption = "",
) -> None:
    """List all that the import noticed, with file, line and remedy."""
    runtime = Runtime.load(workspace)
    with runtime.database.read() as session:
        dataset = listing.find_dataset(session, runtime.workspace, dataset_name)
        findings = listing.findings_of(session, dataset.id)
    if out_file is not None:
        _write(out_file, findings_csv(findings))
        say(f"{len(findings):,} findings: {out_file}")
    if json:
        print_json([finding_json(finding) for finding in findings])
    elif out_file is None:
        rows = ((one.severity, one.file if one.line is None else f"{one.file}:{one.line}", one.message, one.remedy) for one in findings)
        print_table(("", "Where", "What", "Remedy"), rows, empty="The import noticed nothing.")


@app.command("export")
def export_command(
    dataset_name: DatasetArgument,
    format_name: Annotated[str, typer.Option("--format", help=f"One of {', '.join(WRITERS)}.")],
    out_path: Annotated[Path, typer.Option("--out", help="A new folder, or a file that ends in .zip.")],
    annotation_set: Annotated[
        str, typer.Option("--annotation-set", help="Name, kind or id; default: the best that the format can hold.")
    ] = "",
    json: JsonOption = False,
    workspace: WorkspaceOption = "",
) -> None:
    """Write a dataset as files that other tools read."""
    runtime = Runtime.load(workspace)
    with runtime.database.read() as session:
        dataset = listing.find_dataset(session, runtime.workspace, dataset_name)
    set_id = _annotation_set(dataset, annotation_set).id if annotation_set else ""
    with _progress("Exporting") as advance:
        written = export_dataset(
            runtime.database, runtime.storage, dataset, format_name, out_path, annotation_set_id=set_id, progress=advance
        )
    if json:
        print_json({"path": str(out_path), "format": format_name, "annotation_set": written.name, "images": written.image_count})
    else:
        say(f"{written.image_count:,} images with “{written.name}”: {out_path}")


@app.command("combine")
def combine_command(
    dataset_names: Annotated[list[str], typer.Argument(metavar="DATASET…", help="Names or ids of two datasets or more.")],
    name: Annotated[str, typer.Option("--name", help="Name of the new dataset.")],
    kind: Annotated[AnnotationKind | None, typer.Option("--kind", help="Annotation kind; default: the first that all have.")] = None,
    only: Annotated[list[str] | None, typer.Option("--only", help="Take only this label; may be given several times.")] = None,
    rename: Annotated[
        list[str] | None, typer.Option("--rename", metavar="OLD=NEW", help="Give a label another name; may be given several times.")
    ] = None,
    json: JsonOption = False,
    workspace: WorkspaceOption = "",
) -> None:
    """Make one dataset of several of the same annotation kind."""
    runtime = Runtime.load(workspace)
    with runtime.database.read() as session:
        datasets = [listing.find_dataset(session, runtime.workspace, one) for one in dataset_names]
    with _progress("Combining") as advance:
        made = combine_datasets(
            runtime.database,
            runtime.storage,
            runtime.settings,
            workspace=runtime.workspace,
            person=runtime.actor.person,
            name=name,
            parts=choose_parts(datasets, kind),
            only=only or [],
            rename=read_renames(rename or []),
            progress=advance,
        )
    with runtime.database.read() as session:
        dataset = listing.find_dataset(session, runtime.workspace, made.id)
        findings = listing.findings_of(session, dataset.id)
    if json:
        print_json(dataset_json(dataset, findings))
    else:
        _print_dataset(dataset, findings)


@app.command("rename")
def rename_command(
    dataset_name: DatasetArgument,
    new_name: Annotated[str, typer.Argument(metavar="NEW_NAME")],
    json: JsonOption = False,
    workspace: WorkspaceOption = "",
) -> None:
    """Give a dataset another name."""
    runtime = Runtime.load(workspace)
    dataset = listing.rename_dataset(runtime.database, runtime.actor, dataset_name, new_name)
    if json:
        with runtime.database.read() as session:
            print_json(dataset_json(listing.find_dataset(session, runtime.workspace, dataset.id), listing.findings_of(session, dataset.id)))
    else:
        say(f"The dataset is now called “{dataset.name}”.")


@app.command("delete")
def delete_command(
    dataset_name: DatasetArgument,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    json: JsonOption = False,
    workspace: WorkspaceOption = "",
) -> None:
    """Delete a dataset with its images; refused while tasks use it."""
    runtime = Runtime.load(workspace)
    with runtime.database.read() as session:
        dataset = listing.find_dataset(session, runtime.workspace, dataset_name)
    if not yes:
        if not sys.stdin.isatty():
            raise InvalidInputError("Deleting asks to type DELETE, and nobody can be asked here.", "Give --yes in scripts.")
        typed = typer.prompt(f"Type DELETE to delete “{dataset.name}” with its {dataset.image_count:,} images", err=True)
        if typed.strip() != "DELETE":
            raise InvalidInputError("Nothing was deleted.", "Type DELETE in capitals to delete.")
    listing.delete_dataset(runtime.database, runtime.storage, runtime.actor, dataset.id)
    if json:
        print_json({"id": dataset.id, "name": dataset.name, "deleted": True})
    else:
        say(f"Deleted “{dataset.name}”.")
