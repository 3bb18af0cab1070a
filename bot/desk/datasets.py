"""Datasets at the desk: list, details with examples, import, keep or drop, rename, delete."""

from pathlib import PurePath

from bot.desk.office import LIST_LENGTH, Office, delete_form, page_of, pager, rename_form
from bot.desk.paths import typed_path
from bot.desk.reply import Attachment, Reply, Request, Upload
from bot.desk.tasks import require_delete
from core.datasets.findings import findings_csv
from core.datasets.holding import drop_dataset, find_imported, keep_dataset
from core.datasets.listing import delete_dataset, find_dataset, findings_of, list_datasets, rename_dataset, task_types
from core.datasets.storing import refuse_taken_name
from core.db.tables import Dataset
from core.errors import InvalidInputError, NotAllowedError
from core.identifiers import new_id
from core.names import clean_name
from core.settings import entries
from core.tasks.light import submit_light_job
from core.wizard.screens import Button, Control, Facts, Field, Form, Text, Tone
from core.wizard.steps.dataset import PREVIEW_PER_PAGE, dataset_facts, preview
from core.wizard.steps.step import count

CHUNK_BYTES = 1 << 20


def list_(office: Office, request: Request) -> Reply:
    """The datasets by name; each with a button to its details."""
    offset, query = page_of(request.value)
    with office.database.read() as session:
        found, total = list_datasets(session, request.actor.workspace, search=query, offset=offset, limit=LIST_LENGTH)
        rows = tuple((item.name, f"{item.image_count:,} images · " + ", ".join(kind.title for kind in task_types(item))) for item in found)
    add = Button("dataset:import", "Import a dataset")
    if not found:
        return Reply((Text(f"No dataset's name holds “{query}”." if query else "No dataset yet."),), (add,), private=True)
    buttons = tuple(Button("dataset:show", item.name[:60], value=item.id) for item in found)
    title = f"Datasets {offset + 1}–{offset + len(found)} of {total:,}"
    return Reply((Facts(rows, title, buttons),), (*buttons, *pager("datasets:list", query, offset, total), add), private=True)


def show(office: Office, request: Request) -> Reply:
    """One dataset: counts, classes, a page of examples. The value is its id and, to turn pages, annotation set and page."""
    with office.database.read() as session:
        dataset = find_dataset(session, request.actor.workspace, request.part(0))
    parts = request.value.split()
    chosen = next((item for item in dataset.annotation_sets if len(parts) > 1 and item.id == parts[1]), None)
    chosen = chosen or next(iter(dataset.annotation_sets), None)
    pages = max(1, -(-(chosen.image_count if chosen else dataset.image_count) // PREVIEW_PER_PAGE))
    page = min(max(1, int(parts[2])), pages) if len(parts) > 2 and parts[2].isascii() and parts[2].isdigit() and len(parts[2]) < 9 else 1
    buttons: list[Control] = []
    for step, label in ((-1, "◀ Previous images"), (1, "More images ▶")):
        if 1 <= page + step <= pages:
            buttons.append(Button("dataset:show", label, value=f"{dataset.id} {chosen.id if chosen else '-'} {page + step}"))
    if chosen is None:
        said = Text(f"“{dataset.name}” has {dataset.image_count:,} images and no annotations.")
        return Reply((said, preview(dataset, None, page)), (*buttons, *_manage(dataset)), private=True)
    others = [item for item in dataset.annotation_sets if item is not chosen]
    buttons += [Button("dataset:show", f"Show {item.name}"[:60], value=f"{dataset.id} {item.id} 1") for item in others[:5]]
    buttons.append(Button("dataset:statistics", "Statistics", value=f"{dataset.id} {chosen.id}"))
    buttons.append(Button("dataset:combine", "Combine", value=f"{dataset.id} {chosen.id}"))
    return Reply((dataset_facts(dataset, chosen), preview(dataset, chosen, page)), (*buttons, *_manage(dataset)), private=True)


def import_(office: Office, request: Request) -> Reply:
    """Ask for name and source, or queue the import of an uploaded archive or a URI; its thread tells how it went."""
    if "name" not in request.values and not request.uploads:
        return Reply(form=import_form(at_the_host=request.place.at_the_host))
    name, source = check_import(office, request)
    payload: dict[str, str] = {"name": name}
    if request.uploads:
        payload["upload_key"] = _store(office, request.uploads[0])
        local = office.storage.local_path(payload["upload_key"])
        payload["source"] = (
            str(local)
            if local is not None
            else office.storage.filesystem.unstrip_protocol(f"{office.storage.root}/{payload['upload_key']}")
        )
    else:
        payload["source"] = source
    with office.database.write() as session:
        submit_light_job(
            session, workspace=request.actor.workspace, person=request.actor.person, kind="import", payload=payload, place=request.place
        )
    office.on_start()
    return Reply((Text(f"“{name}” is being imported. What was found will be told here."),))


def check_import(office: Office, request: Request) -> tuple[str, str]:
    """The name that an import is to have, and where it comes from, empty for an upload.

    Raises:
        InvalidInputError, ConflictError, NotAllowedError: for a name or a source that cannot be.
    """
    upload = request.uploads[0] if request.uploads else None
    name = clean_name(request.typed("name") or (PurePath(upload.name).stem if upload else ""), "dataset")
    refuse_taken_name(office.database, request.actor.workspace, name)
    source = request.typed("source")
    if upload is not None:
        return name, ""
    if not source:
        raise InvalidInputError("There is nothing to import: neither a file nor a URI was given.", "Upload a zip or tar, or give a URI.")
    return name, _path_or_uri(source) if request.place.at_the_host else _allowed_uri(office, source)


def import_form(*, at_the_host: bool = False) -> Form:
    """The dialog of an import; faces that can add a file input to it."""
    hint = (
        "A folder, a zip or tar of this host, or a URI such as s3://bucket/folder"
        if at_the_host
        else "For example s3://bucket/folder; leave it empty to upload a file"
    )
    return Form(
        "dataset:import",
        "Import a dataset",
        (
            Field("name", "Name", "text", "", hint="How the dataset shall be called", required=True, max_length=100),
            Field("source", "Path or URI" if at_the_host else "URI", "text", "", hint=hint, required=at_the_host, max_length=500),
        ),
        submit="Import",
    )


def keep(office: Office, request: Request) -> Reply:
    """Keep what was good of an import with findings."""
    dataset = keep_dataset(office.database, request.actor, request.part(0))
    return Reply((Text(f"“{dataset.name}” is kept: {dataset.image_count:,} images, ready to train on.", Tone.GOOD),), _manage(dataset))


def drop(office: Office, request: Request) -> Reply:
    """Drop an import with findings whole."""
    name = drop_dataset(office.database, office.storage, request.actor, request.part(0))
    return Reply((Text(f"“{name}” was dropped; nothing of it is left."),))


def findings(office: Office, request: Request) -> Reply:
    """Everything the import noticed, as a CSV file."""
    with office.database.read() as session:
        dataset = find_imported(session, request.actor.workspace, request.part(0))
        found = findings_of(session, dataset.id)
    if not found:
        return Reply((Text(f"Nothing was noticed in “{dataset.name}”."),), private=True)
    content = findings_csv(found)
    return Reply(
        (Text(f"{count(len(found), 'finding')} in “{dataset.name}”."),),
        private=True,
        files=(Attachment(f"findings-{dataset.id}.csv", content),),
    )


def rename(office: Office, request: Request) -> Reply:
    """Ask for another name, or take it."""
    with office.database.read() as session:
        dataset = find_dataset(session, request.actor.workspace, request.part(0))
    if "name" not in request.values:
        return Reply(form=rename_form("dataset:rename", dataset.id, dataset.name))
    renamed = rename_dataset(office.database, request.actor, dataset.id, request.typed("name"))
    return Reply((Text(f"Renamed to “{renamed.name}”."),), private=True)


def delete(office: Office, request: Request) -> Reply:
    """Ask to type DELETE, or delete; refused while a task uses it."""
    with office.database.read() as session:
        dataset = find_dataset(session, request.actor.workspace, request.part(0))
    if "confirmation" not in request.values:
        return Reply(form=delete_form("dataset:delete", dataset.id, dataset.name))
    require_delete(request)
    delete_dataset(office.database, office.storage, request.actor, dataset.id)
    return Reply((Text(f"Deleted the dataset “{dataset.name}”."),), private=True)


def _manage(dataset: Dataset) -> tuple[Button, ...]:
    return (
        Button("train:begin", "Train on it", style="primary", value=dataset.id),
        Button("dataset:rename", "Rename", value=dataset.id),
        Button("dataset:delete", "Delete", style="danger", value=dataset.id),
    )


def _store(office: Office, upload: Upload) -> str:
    """Stream an upload into the storage; the worker that imports it deletes it."""
    suffix = "".join(
        suffix for suffix in PurePath(upload.name.lower()).suffixes[-2:] if suffix in (".zip", ".tar", ".gz", ".tgz", ".bz2", ".xz")
    )
    key = f"uploads/{new_id()}/archive{suffix}"
    with office.storage.writing(key) as target, upload.path.open("rb") as source:
        while chunk := source.read(CHUNK_BYTES):
            target.write(chunk)
    return key


def _path_or_uri(source: str) -> str:
    if "://" in source:
        return source
    return str(typed_path(source))


def _allowed_uri(office: Office, source: str) -> str:
    """A URI that people in the chat may have the worker read.

    Raises:
        NotAllowedError: for a place that the operator has not opened: paths of the host and inner addresses are none of a chat's business.
    """
    prefixes = entries(office.settings.chat_import_prefixes)
    if any(source.startswith(prefix) for prefix in prefixes) and ".." not in PurePath(source).parts:
        return source
    allowed = (
        f"Imports from a chat may come from {', '.join(prefixes)}."
        if prefixes
        else "The operator has opened no place for imports from a chat."
    )
    raise NotAllowedError(
        f"“{source[:100]}” may not be imported from a chat.",
        f"{allowed} Upload the archive here, or ask the operator to import it (STATIONMASTER_CHAT_IMPORT_PREFIXES).",
    )
