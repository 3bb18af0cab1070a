"""`stationmaster dataset …`: import, list, show, findings, rename, delete; the others are in `dataset_work`."""

from pathlib import Path
from typing import Annotated

import typer

from bot.terminal.commands import dataset_work
from bot.terminal.commands.dataset_output import DatasetArgument, open_dataset, print_whole, progress, write_file
from bot.terminal.commands.output import JsonOption, confirm_deletion, print_json, print_table, say
from bot.terminal.commands.runtime import Runtime, WorkspaceOption
from core.datasets import listing
from core.datasets.facts import dataset_json, finding_json
from core.datasets.findings import findings_csv
from core.datasets.formats import READERS
from core.datasets.importing import import_dataset
from core.datasets.storing import StrictError
from core.db.tables import Dataset
from core.vocabulary import TaskType
from core.wizard.steps.step import count

FORMATS = ", ".join(reader.name for reader in READERS)

app = typer.Typer(help="Datasets: import, look at, export, combine, rename, delete.", no_args_is_help=True)
dataset_work.register(app)


@app.command("import")
def import_command(
    path: Annotated[str, typer.Argument(metavar="PATH", help="A folder, a zip or tar, or a URL such as s3://bucket/folder.")],
    name: Annotated[str, typer.Option("--name", help="Name of the new dataset.")],
    format_name: Annotated[
        str, typer.Option("--format", help=f"Format of the source, one of {FORMATS}; default: found out by itself.")
    ] = "",
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
        with progress("Importing") as advance:
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
    print_whole(runtime, dataset.id, as_json=json)


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
    runtime, dataset = open_dataset(dataset_name, workspace)
    print_whole(runtime, dataset.id, as_json=json)


@app.command("findings")
def findings_command(
    dataset_name: DatasetArgument,
    out_file: Annotated[Path | None, typer.Option("--out", help="CSV file to write.")] = None,
    json: JsonOption = False,
    workspace: WorkspaceOption = "",
) -> None:
    """List all that the import noticed, with file, line and remedy."""
    runtime, dataset = open_dataset(dataset_name, workspace)
    with runtime.database.read() as session:
        findings = listing.findings_of(session, dataset.id)
    if out_file is not None:
        write_file(out_file, findings_csv(findings))
        say(f"{count(len(findings), 'finding')}: {out_file}")
    if json:
        print_json([finding_json(finding) for finding in findings])
    elif out_file is None:
        rows = ((one.severity, one.file if one.line is None else f"{one.file}:{one.line}", one.message, one.remedy) for one in findings)
        print_table(("", "Where", "What", "Remedy"), rows, empty="The import noticed nothing.")


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
        print_whole(runtime, dataset.id, as_json=True)
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
    runtime, dataset = open_dataset(dataset_name, workspace)
    confirm_deletion(f"the dataset “{dataset.name}” with its {dataset.image_count:,} images", yes=yes)
    listing.delete_dataset(runtime.database, runtime.storage, runtime.actor, dataset.id)
    if json:
        print_json({"id": dataset.id, "name": dataset.name, "deleted": True})
    else:
        say(f"Deleted “{dataset.name}”.")
