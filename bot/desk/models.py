"""Models at the desk: list, details, test on an image, download, export, retrain, rename, delete."""

import io
import zipfile

from bot.desk.office import LIST_LENGTH, Office, delete_form, page_of, pager, rename_form
from bot.desk.reply import Attachment, Reply, Request
from bot.desk.tasks import require_delete
from bot.messages import assessment_texts, metric_rows, model_buttons, percent
from core.db.tables import Model
from core.errors import InvalidInputError
from core.identifiers import new_id
from core.models.exporting import ExportFormat, how_it_agrees
from core.models.listing import card_of, delete_model, find_model, list_models, names_of, rename_model
from core.names import first_of
from core.tasks.light import submit_light_job, wait_light_job
from core.vocabulary import Flow, TaskType
from core.wizard.screens import Block, Button, Control, Facts, Picture, Text, Tone

MAX_IMAGE_BYTES = 50_000_000
ANSWER_SECONDS = 120.0
EXPORT_SECONDS = 600.0
EXPORTS = {ExportFormat.ONNX: "ONNX", ExportFormat.TORCHSCRIPT: "TorchScript", ExportFormat.ZIP: "ONNX with a script"}


def list_(office: Office, request: Request) -> Reply:
    """The newest models; each with a button to its details."""
    offset, query = page_of(request.value)
    with office.database.read() as session:
        found, total = list_models(session, request.actor.workspace, search=query, offset=offset, limit=LIST_LENGTH)
    if not found:
        return Reply(
            (Text(f"No model's name holds “{query}”." if query else "No model yet: a finished training leaves one."),), private=True
        )
    rows = tuple((model.name, f"{TaskType(model.task_type).title} · {model.network} · {model.created_at:%Y-%m-%d}") for model in found)
    buttons = tuple(Button("model:show", model.name[:60], value=model.id) for model in found)
    title = f"Models {offset + 1}–{offset + len(found)} of {total:,}"
    return Reply((Facts(rows, title, buttons),), (*buttons, *pager("models:list", query, offset, total)), private=True)


def show(office: Office, request: Request) -> Reply:
    """One model."""
    model = _model(office, request)
    with office.database.read() as session:
        parent = names_of(session, [model.parent_id]).get(model.parent_id)
    rows = (
        ("Task type", TaskType(model.task_type).title),
        ("Network", f"{model.network}, pre-training {model.pretraining}"),
        *((("Retrained from", parent),) if parent else ()),
        ("Classes", first_of(model.classes, 30)),
        ("Size", f"{model.bytes / 1e6:,.1f} MB"),
        *((("Lies at", str(office.storage.local_path(model.key) or model.key)),) if request.place.at_the_host else ()),
    )
    blocks: list[Block] = [
        Text(model.name, Tone.HEADING),
        Facts(rows),
        Facts(metric_rows(model.metrics), title="Result on its validation images"),
        *assessment_texts(card_of(office.storage, model)),
    ]
    buttons: list[Control] = [
        *model_buttons(model.id),
        Button("model:batch", "Test on a dataset", value=model.id),
        Button("model:rename", "Rename", value=model.id),
        Button("model:delete", "Delete", style="danger", value=model.id),
    ]
    return Reply(tuple(blocks), tuple(buttons), private=True)


def test(office: Office, request: Request) -> Reply:
    """Try a model on an uploaded image; without one, say how to send it.

    The work is the light worker's: this waits for it, so call it from a thread.
    """
    model = _model(office, request)
    if not request.uploads:
        return Reply((Text(f"Send an image here, and “{model.name}” says what it sees."),), private=True)
    upload = request.uploads[0]
    if upload.path.stat().st_size > MAX_IMAGE_BYTES:
        raise InvalidInputError(f"“{upload.name}” is larger than {MAX_IMAGE_BYTES // 10**6} MB.", "Send a smaller image.")
    key = f"inference/{new_id()}/image"
    office.storage.write(key, upload.path.read_bytes())
    try:
        with office.database.write() as session:
            payload = {"model_id": model.id, "image_key": key, "name": upload.name}
            job = submit_light_job(session, workspace=model.workspace, person=request.actor.person, kind="predict", payload=payload)
        office.on_start()
        result = wait_light_job(office.database, job.id, seconds=ANSWER_SECONDS)
    finally:
        office.storage.delete(key)
    rows = tuple(
        (item["label"], f"{percent(item['confidence'])}{'' if item.get('present', True) else ', does not count'}")
        for item in result.get("labels", [])[:10]
    )
    blocks: list[Block] = [Facts(rows, title=f"“{model.name}” on {upload.name}")] if rows else [Text("Nothing was recognised.")]
    if int(result.get("frames", 1)) > 1:
        blocks.append(Text(f"The file holds {result['frames']:,} pictures; this is the first one.", Tone.HINT))
    if result.get("picture_key"):
        classifies = model.task_type in (TaskType.SINGLE_LABEL, TaskType.MULTI_LABEL)
        blocks.append(Picture(f"What “{model.name}” {'looked at' if classifies else 'found'} in {upload.name}", key=result["picture_key"]))
    return Reply(tuple(blocks))


def download(office: Office, request: Request) -> Reply:
    """Weights, card and pictures of a model as one zip; where the storage is a folder of the host, its path is said too."""
    model = _model(office, request)
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_STORED) as archive:
        for key in office.storage.list(model.key):
            archive.writestr(key.removeprefix(f"{model.key}/"), office.storage.read(key))
    place = office.storage.local_path(model.key)
    where = f"It lies at {place}." if place is not None else ""
    return Reply(
        (Text(f"“{model.name}”: weights, model card and pictures. {where}".strip()), Text("For other programs:", Tone.HINT)),
        tuple(Button("model:export", title, value=f"{model.id} {format_.value}") for format_, title in EXPORTS.items()),
        files=(Attachment(f"model-{model.id}.zip", packed.getvalue()),),
    )


def export(office: Office, request: Request) -> Reply:
    """A model for other programs, as a file. The work is the light worker's: this waits for it, so call it from a thread."""
    model = _model(office, request)
    try:
        format_ = ExportFormat(request.part(1))
    except ValueError as error:
        raise InvalidInputError("This button is from another version.", "Ask for the list again.") from error
    with office.database.write() as session:
        payload = {"model_id": model.id, "format": format_.value}
        job = submit_light_job(session, workspace=model.workspace, person=request.actor.person, kind="export", payload=payload)
    office.on_start()
    result = wait_light_job(office.database, job.id, seconds=EXPORT_SECONDS)
    try:
        data = office.storage.read(result["key"])
    finally:
        office.storage.delete(result["key"].rpartition("/")[0])
    return Reply((Text(f"“{model.name}” as {format_.explanation}. {how_it_agrees(result)}"),), files=(Attachment(result["name"], data),))


def retrain(office: Office, request: Request) -> Reply:
    """Begin a wizard in the flow of retraining, with this model chosen."""
    model = _model(office, request)
    return Reply(screen=office.conversation.begin(request.actor, request.place, flow=Flow.RETRAINING, source_model=model.id))


def rename(office: Office, request: Request) -> Reply:
    """Ask for another name, or take it."""
    with office.database.write() as session:
        model = find_model(session, request.actor.workspace, request.part(0))
        if "name" not in request.values:
            return Reply(form=rename_form("model:rename", model.id, model.name))
        rename_model(session, request.actor, model, request.typed("name"))
    return Reply((Text(f"Renamed to “{model.name}”."),), private=True)


def delete(office: Office, request: Request) -> Reply:
    """Ask to type DELETE, or delete."""
    model = _model(office, request)
    if "confirmation" not in request.values:
        return Reply(form=delete_form("model:delete", model.id, model.name))
    require_delete(request)
    with office.database.write() as session:
        delete_model(session, office.storage, request.actor, find_model(session, request.actor.workspace, model.id))
    return Reply((Text(f"Deleted the model “{model.name}”."),), private=True)


def _model(office: Office, request: Request) -> Model:
    with office.database.read() as session:
        return find_model(session, request.actor.workspace, request.part(0))
