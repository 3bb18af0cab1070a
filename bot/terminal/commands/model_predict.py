"""`stationmaster model predict`: a model tried on an image, or on all images of a folder."""

from pathlib import Path
from typing import Annotated, Any

import typer

from bot.terminal.commands.light_work import done_by_light_worker, need_light_worker
from bot.terminal.commands.output import JsonOption, print_json, print_table, say
from bot.terminal.commands.runtime import Runtime, WorkspaceOption
from core.datasets.images import is_dicom
from core.datasets.reading import may_be_dicom
from core.datasets.source import IMAGE_SUFFIXES, has_image_suffix
from core.datasets.sources.inventory import is_litter
from core.db.tables import Model
from core.errors import NotFoundError
from core.identifiers import new_id
from core.models.listing import find_model
from core.storage import Storage

MAX_IMAGE_BYTES = 200_000_000


def predict(
    model: str,
    image: Annotated[Path, typer.Argument(help="The image file to try the model on, or a folder of them.")],
    timeout: Annotated[float, typer.Option(min=1, help="Seconds to wait for the answer, per image of a folder.")] = 120,
    as_json: JsonOption = False,
    workspace: WorkspaceOption = "",
) -> None:
    """Try a model on an image or on a folder of images. The work is done by a light worker (`stationmaster up` runs one)."""
    runtime = Runtime.load(workspace)
    with runtime.database.read() as session:
        found = find_model(session, runtime.workspace, model)
    if image.is_dir():
        _predict_folder(runtime, found, image, timeout, as_json)
        return
    data = _read(image)
    need_light_worker(runtime, "predictions are")
    key = f"inference/{new_id()}/image"
    runtime.storage.write(key, data)
    try:
        result = done_by_light_worker(runtime, "predict", {"model_id": found.id, "image_key": key, "name": image.name}, timeout)
    finally:
        runtime.storage.delete(key)
    answer = _answer(runtime.storage, found, result)
    if as_json:
        print_json(answer)
        return
    print_table(
        ("Label", "Confidence"),
        ((item["label"], f"{100 * item['confidence']:.1f} %") for item in answer.get("labels", [])),
        empty="Nothing was recognised.",
    )
    if answer.get("picture"):
        say(f"Picture: {answer['picture']}")


def _predict_folder(runtime: Runtime, model: Model, folder: Path, timeout: float, as_json: bool) -> None:
    files = images_in(folder)
    if not files:
        suffixes = ", ".join(sorted(IMAGE_SUFFIXES))
        raise NotFoundError(f"There are no images in {folder}.", f"Files that end in {suffixes} are looked at, and DICOM without a suffix.")
    need_light_worker(runtime, "predictions are")
    place = f"inference/{new_id()}"
    try:
        images = {}
        for number, path in enumerate(files):
            name = str(path.relative_to(folder))
            images[name] = f"{place}/{number:06d}"
            runtime.storage.write(images[name], _read(path))
        result = done_by_light_worker(runtime, "predict-all", {"model_id": model.id, "images": images}, timeout * len(files))
    finally:
        runtime.storage.delete(place)
    if as_json:
        print_json({"model_id": model.id, "model": model.name, "images": result["images"]})
        return
    print_table(("File", "Label", "Confidence"), (_line(answer) for answer in result["images"]), empty="Nothing was recognised.")


def _line(answer: dict[str, Any]) -> tuple[str, str, str]:
    """What is said of one image of many, on one line."""
    if "error" in answer:
        return answer["file"], answer["error"], ""
    labels = [item for item in answer["labels"] if item.get("present", True)]
    if not labels:
        return answer["file"], "nothing", ""
    several = "present" in labels[0] or "mask" in labels[0] or "box" in labels[0]
    shown = labels[:5] if several else labels[:1]
    more = f" and {len(labels) - 5} more" if several and len(labels) > 5 else ""
    confidences = ", ".join(f"{100 * item['confidence']:.1f} %" for item in shown)
    return answer["file"], ", ".join(str(item["label"]) for item in shown) + more, confidences


def _answer(storage: Storage, model: Model, result: dict[str, Any]) -> dict[str, Any]:
    answer = {"model_id": model.id, "model": model.name} | {name: value for name, value in result.items() if name != "picture_key"}
    if result.get("picture_key"):
        local = storage.local_path(result["picture_key"])
        answer["picture"] = str(local) if local is not None else result["picture_key"]
    return answer


def _read(image: Path) -> bytes:
    try:
        if image.stat().st_size > MAX_IMAGE_BYTES:
            raise NotFoundError(f"{image} is larger than {MAX_IMAGE_BYTES // 10**6} MB.", "Give one image.")
        return image.read_bytes()
    except OSError as error:
        raise NotFoundError(f"{image} cannot be read: {error.strerror}.", "Give the path of one image file.") from error


def images_in(folder: Path) -> list[Path]:
    """The images below a folder: by their suffix, and DICOM files as scanners name them."""
    found = []
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if not is_litter(name) and path.is_file() and (has_image_suffix(name) or (may_be_dicom(name) and _begins_as_dicom(path))):
            found.append(path)
    return found


def _begins_as_dicom(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return is_dicom(file.read(132))
    except OSError:  # nobody knows whether it is an image at all
        return False
