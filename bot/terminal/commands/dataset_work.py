"""`stationmaster dataset preview|statistics|split|export|combine`: what is made of a dataset that is in."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from bot.terminal.commands.dataset_output import (
    AnnotationSetOption,
    DatasetArgument,
    annotation_set_of,
    open_dataset,
    print_whole,
    progress,
    write_file,
)
from bot.terminal.commands.output import JsonOption, print_facts, print_json, print_table, say
from bot.terminal.commands.runtime import Runtime, WorkspaceOption
from core.datasets import listing
from core.datasets.combining import choose_parts, combine_datasets, read_renames
from core.datasets.deriving import classes_in
from core.datasets.exporting import WRITERS, export_dataset
from core.datasets.previews import preview_page
from core.datasets.records import load_records
from core.datasets.representation import CUT_OFF
from core.datasets.splitting import split_records
from core.datasets.statistics import dataset_statistics
from core.vocabulary import AnnotationKind


def register(app: typer.Typer) -> None:
    """Add the commands."""
    for name, command in COMMANDS.items():
        app.command(name)(command)


def preview_command(
    dataset_name: DatasetArgument,
    out_file: Annotated[Path, typer.Option("--out", help="PNG file to write.")],
    page: Annotated[int, typer.Option("--page", help="Page, from 1; a page shows 50 images.")] = 1,
    annotation_set: AnnotationSetOption = "",
    json: JsonOption = False,
    workspace: WorkspaceOption = "",
) -> None:
    """Write a page of annotated thumbnails as a picture."""
    runtime, dataset = open_dataset(dataset_name, workspace)
    chosen = annotation_set_of(dataset, annotation_set) if dataset.annotation_sets or annotation_set else None
    set_id = chosen.id if chosen else ""
    found = preview_page(runtime.database, runtime.storage, runtime.settings, dataset.id, set_id, page)
    write_file(out_file, runtime.storage.read(found.png_key))
    if json:
        print_json(
            {
                "file": str(out_file),
                "page": page,
                "first": found.first,
                "last": found.last,
                "total": found.total,
                "annotation_set": chosen.name if chosen else None,
            }
        )
    else:
        say(f"Images {found.first:,}–{found.last:,} of {found.total:,}: {out_file}")


def statistics_command(
    dataset_name: DatasetArgument,
    out_file: Annotated[Path | None, typer.Option("--out", help="PNG file to write.")] = None,
    annotation_set: AnnotationSetOption = "",
    cut_off: Annotated[float, typer.Option("--cut-off", help="Share of an equal part below which a class is under-represented.")] = CUT_OFF,
    json: JsonOption = False,
    workspace: WorkspaceOption = "",
) -> None:
    """Count labels, sizes, boxes and masks, as numbers and as a picture."""
    runtime, dataset = open_dataset(dataset_name, workspace)
    found, keys = dataset_statistics(runtime.database, runtime.storage, dataset.id, annotation_set_of(dataset, annotation_set).id, cut_off)
    if out_file is not None:
        write_file(out_file, runtime.storage.read(keys.png_key))
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


def split_command(
    dataset_name: DatasetArgument,
    annotation_set: AnnotationSetOption = "",
    percent: Annotated[int, typer.Option("--percent", min=1, max=99, help="Share of validation images where the source tells none.")] = 20,
    seed: Annotated[int, typer.Option("--seed", help="The same seed draws the same images.")] = 0,
    json: JsonOption = False,
    workspace: WorkspaceOption = "",
) -> None:
    """Show which images a training would learn from, and which it would be judged by."""
    runtime, dataset = open_dataset(dataset_name, workspace)
    chosen = annotation_set_of(dataset, annotation_set)
    with runtime.database.read() as session:
        records = {record.position: record for record in load_records(session, dataset.id, chosen.id)}
    kind = AnnotationKind(chosen.kind)
    split = split_records(list(records.values()), kind, percent, seed)
    sides = {"train": split.train, "validation": split.validation}
    counts = {
        side: Counter(index for position in positions for index in set(classes_in(records[position].value, kind)))
        for side, positions in sides.items()
    }
    if json:
        print_json(
            {
                "annotation_set": chosen.name,
                "seed": seed,
                "images": {side: [records[position].path for position in positions] for side, positions in sides.items()},
                "classes": [{"class": name, **{side: counts[side][index] for side in sides}} for index, name in enumerate(chosen.classes)],
            }
        )
        return
    print_table(
        ("", "Training", "Validation"),
        (
            ("Images", f"{len(split.train):,}", f"{len(split.validation):,}"),
            *((name, f"{counts['train'][index]:,}", f"{counts['validation'][index]:,}") for index, name in enumerate(chosen.classes)),
        ),
        empty="No classes.",
    )


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
    runtime, dataset = open_dataset(dataset_name, workspace)
    set_id = annotation_set_of(dataset, annotation_set).id if annotation_set else ""
    with progress("Exporting") as advance:
        exported = export_dataset(
            runtime.database, runtime.storage, dataset, format_name, out_path, annotation_set_id=set_id, progress=advance
        )
    written = exported.annotation_set
    if json:
        print_json(
            {
                "path": str(out_path),
                "format": format_name,
                "annotation_set": written.name,
                "images": written.image_count,
                "losses": list(exported.losses),
            }
        )
        return
    say(f"{written.image_count:,} images with “{written.name}”: {out_path}")
    for loss in exported.losses:
        say(f"The format cannot hold everything: {loss}")


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
    with progress("Combining") as advance:
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
    print_whole(runtime, made.id, as_json=json)


COMMANDS: dict[str, Callable[..., None]] = {
    "preview": preview_command,
    "statistics": statistics_command,
    "split": split_command,
    "export": export_command,
    "combine": combine_command,
}
