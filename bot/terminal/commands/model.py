"""`stationmaster model …`: the models that finished tasks left behind."""

from pathlib import Path
from typing import Annotated, Any

import typer

from bot.messages import assessment_rows, metric_rows
from bot.terminal.commands.batch_test import print_batch_test, print_classes
from bot.terminal.commands.light_work import done_by_light_worker, need_light_worker
from bot.terminal.commands.model_predict import predict
from bot.terminal.commands.output import JsonOption, OldAnnotationsOption, confirm_deletion, print_facts, print_json, print_table, say
from bot.terminal.commands.prediction_files import copy_out
from bot.terminal.commands.runtime import Runtime, WorkspaceOption
from core.datasets.listing import find_dataset
from core.db.tables import Model
from core.errors import InvalidInputError, NotFoundError
from core.models.exporting import ExportFormat, how_it_agrees
from core.models.listing import card_of, delete_model, find_model, list_models, models_json, rename_model
from core.storage import Storage

app = typer.Typer(help="Models: list, show, rename, delete, predict, test, export.", no_args_is_help=True)

app.command("predict")(predict)


@app.command("list")
def list_(
    search: Annotated[str, typer.Option(help="Part of the name.")] = "",
    limit: Annotated[int, typer.Option(min=1, max=10_000)] = 1000,
    as_json: JsonOption = False,
    workspace: WorkspaceOption = "",
) -> None:
    """List the models, newest first."""
    runtime = Runtime.load(workspace)
    with runtime.database.read() as session:
        models, _ = list_models(session, runtime.workspace, search=search, limit=limit)
        facts = models_json(session, models) if as_json else []
    if as_json:
        print_json(facts)
        return
    rows = (
        (model.id, model.name, model.task_type, model.network, len(model.classes), f"{model.created_at:%Y-%m-%d %H:%M}") for model in models
    )
    print_table(
        ("Id", "Name", "Task type", "Network", "Classes", "Created"), rows, empty="There are no models yet: a finished task leaves one."
    )


@app.command()
def show(model: str, as_json: JsonOption = False, workspace: WorkspaceOption = "") -> None:
    """Show one model, by name or id."""
    runtime = Runtime.load(workspace)
    with runtime.database.read() as session:
        found = find_model(session, runtime.workspace, model)
        (facts,) = models_json(session, [found])
    files = runtime.storage.list(found.key)
    place = _place(runtime.storage, found)
    card = card_of(runtime.storage, found)
    if as_json:
        told = {name: card[name] for name in ("best_epoch", "reading", "remarks", "per_class", "confusion", "thresholds") if name in card}
        print_json(facts | told | {"place": place, "files": [key.removeprefix(f"{found.key}/") for key in files]})
        return
    print_facts(
        [
            ("Name", found.name),
            ("Id", found.id),
            ("Task type", found.task_type),
            ("Network", f"{found.network}, pre-training {found.pretraining}"),
            *((("Retrained from", facts["parent"]),) if facts["parent"] else ()),
            ("Classes", ", ".join(found.classes)),
            *metric_rows(found.metrics),
            *assessment_rows(card),
            ("Created", f"{found.created_at:%Y-%m-%d %H:%M} UTC"),
            ("Lies at", place),
        ]
    )
    if "per_class" in card:
        print_classes(card["per_class"])


@app.command()
def rename(model: str, name: str, as_json: JsonOption = False, workspace: WorkspaceOption = "") -> None:
    """Give a model another name."""
    runtime = Runtime.load(workspace)
    with runtime.database.write() as session:
        found = find_model(session, runtime.workspace, model, only=True)
        rename_model(session, runtime.actor, found, name)
        (facts,) = models_json(session, [found])
    _done(facts, f"Renamed to “{found.name}”.", as_json)


@app.command()
def delete(
    model: str,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    as_json: JsonOption = False,
    workspace: WorkspaceOption = "",
) -> None:
    """Delete a model and its files; its task stays."""
    runtime = Runtime.load(workspace)
    with runtime.database.read() as session:
        found = find_model(session, runtime.workspace, model, only=True)
    confirm_deletion(f"the model “{found.name}” with its files", yes=yes)
    with runtime.database.write() as session:
        found = find_model(session, runtime.workspace, found.id)
        (facts,) = models_json(session, [found])
        delete_model(session, runtime.storage, runtime.actor, found)
    _done(facts, f"Deleted “{found.name}”.", as_json)


@app.command()
def test(
    model: str,
    dataset: Annotated[str, typer.Option(help="The dataset whose annotations are the truth, by name or id.")],
    annotation_set: Annotated[str, typer.Option(help="Its annotation set, by name or id; without it the first one that fits.")] = "",
    out: Annotated[Path | None, typer.Option(help="Folder for the pictures and report.json.")] = None,
    timeout: Annotated[float, typer.Option(min=1, help="Seconds to wait for it.")] = 3600,
    annotations: OldAnnotationsOption = "",
    as_json: JsonOption = False,
    workspace: WorkspaceOption = "",
) -> None:
    """Test a model on a whole dataset with ground truth: numbers per class, curves, confusion, and case studies.

    The work is done by a light worker (`stationmaster up` runs one).
    """
    runtime = Runtime.load(workspace)
    with runtime.database.read() as session:
        found = find_model(session, runtime.workspace, model)
        chosen = find_dataset(session, runtime.workspace, dataset)
    if out is not None and out.exists() and not out.is_dir():
        raise NotFoundError(f"{out} is no folder.", "Give a folder for --out.")
    need_light_worker(runtime, "tests are")
    payload = {"model_id": found.id, "dataset_id": chosen.id, "annotation_set_id": annotation_set or annotations}
    result = done_by_light_worker(runtime, "batch-test", payload, timeout)
    keys = {f"{name}.png": key for name, key in result.pop("pictures").items()} | {"report.json": result.pop("report_key")}
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        for name, key in keys.items():
            copy_out(runtime.storage, key, out / name)
    places = {name: str(out / name if out is not None else runtime.storage.local_path(key) or key) for name, key in keys.items()}
    if as_json:
        print_json({"model_id": found.id, "dataset_id": chosen.id} | result | {"files": places})
        return
    print_batch_test(result, places)


@app.command()
def export(
    model: str,
    out: Annotated[Path, typer.Option(help="The file to write, or a folder to write it into, which may be new.")],
    format_: Annotated[ExportFormat, typer.Option("--format", help="For which program.")] = ExportFormat.ONNX,
    timeout: Annotated[float, typer.Option(min=1, help="Seconds to wait for it.")] = 600,
    as_json: JsonOption = False,
    workspace: WorkspaceOption = "",
) -> None:
    """Export a model as ONNX, as TorchScript, or as a zip with a script that runs it without Stationmaster."""
    runtime = Runtime.load(workspace)
    with runtime.database.read() as session:
        found = find_model(session, runtime.workspace, model)
    if not (out if out.is_dir() else out.resolve().parent).is_dir():
        raise NotFoundError(f"There is no folder {out.resolve().parent}.", "Make it first, or give another --out.")
    if out.is_file() and not out.suffix:
        raise InvalidInputError(f"{out.name} is a file.", f"Give a folder, or a file that ends in {format_.suffix}.")
    as_file = out.suffix and not out.is_dir()
    if as_file and out.suffix.lower() != format_.suffix:
        raise InvalidInputError(
            f"{out.name} does not end in {format_.suffix}.", f"Name it so, or give another --format than {format_.value}."
        )
    need_light_worker(runtime, "exports are")
    result = done_by_light_worker(runtime, "export", {"model_id": found.id, "format": format_.value}, timeout)
    target = out if as_file else out / result["name"]
    try:
        target.parent.mkdir(exist_ok=True)
        copy_out(runtime.storage, result["key"], target)
    finally:
        runtime.storage.delete(result["key"].rpartition("/")[0])
    if as_json:
        facts = {name: value for name, value in result.items() if name not in ("key", "name")}
        print_json({"model_id": found.id, "model": found.name, "file": str(target)} | facts)
        return
    say(f"Wrote {target}: {format_.explanation}. {how_it_agrees(result)}")


def _place(storage: Storage, model: Model) -> str:
    local = storage.local_path(model.key)
    return str(local) if local is not None else f"{storage.root}/{model.key}"


def _done(facts: dict[str, Any], words: str, as_json: bool) -> None:
    if as_json:
        print_json(facts)
    else:
        say(words)
