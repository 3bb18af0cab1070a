"""`stationmaster model predict`: a model tried on an image, or on all images of a folder."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from bot.terminal.commands.dataset_output import progress
from bot.terminal.commands.light_work import done_by_light_worker, need_light_worker
from bot.terminal.commands.output import JsonOption, print_json, print_table, say
from bot.terminal.commands.prediction_files import clear_folder, copy_out, named_files, prepare_folder, write_answers
from bot.terminal.commands.runtime import Runtime, WorkspaceOption
from core.datasets.images import is_dicom
from core.datasets.reading import may_be_dicom
from core.datasets.source import IMAGE_SUFFIXES, has_image_suffix
from core.datasets.sources.inventory import is_litter
from core.db.tables import Model
from core.errors import BadDataError, NotFoundError
from core.identifiers import new_id
from core.models.listing import card_of, find_model
from core.models.thresholds import require_threshold
from core.names import first_of
from core.storage import Storage
from core.vocabulary import TaskType

MAX_IMAGE_BYTES = 200_000_000
NOTHING = "Nothing was recognised."


def predict(
    model: str,
    image: Annotated[Path, typer.Argument(help="The image file to try the model on, or a folder of them; DICOM too.")],
    out: Annotated[
        Path | None,
        typer.Option(
            help="Folder for a picture of each image (what decided, boxes, masks), mask files, predictions.json and .csv. "
            "It must be new or empty, or hold an earlier answer alone: that is replaced."
        ),
    ] = None,
    threshold: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=1,
            help="Confidence, 0 to 1, from which on an object, or one of several labels, counts. "
            "[default: what was best for each class in validation]",
        ),
    ] = None,
    timeout: Annotated[float, typer.Option(min=1, help="Seconds to wait for the answer, per image of a folder.")] = 120,
    as_json: JsonOption = False,
    workspace: WorkspaceOption = "",
) -> None:
    """Try a model on an image or on a folder of images. The work is done by a light worker (`stationmaster up` runs one).

    Images that cannot be read are left out and named at the end; the exit code then is 1.
    """
    runtime = Runtime.load(workspace)
    with runtime.database.read() as session:
        found = find_model(session, runtime.workspace, model)
    if threshold is not None and (card := card_of(runtime.storage, found)):  # the worker would refuse it too, but not as wrong use
        if not isinstance(card.get("spec"), dict):
            raise BadDataError("The files of this model are damaged.", "Train it again.")
        require_threshold(TaskType(found.task_type), instances=bool(card["spec"].get("instances_only", False)))
    if out is not None:
        prepare_folder(out)
    if image.is_dir():
        files = images_in(image, without=out)
        if not files:
            suffixes = ", ".join(sorted(IMAGE_SUFFIXES))
            raise NotFoundError(
                f"There are no images in {image}.", f"Files that end in {suffixes} are looked at, and DICOM whatever it is called."
            )
        named = {path.relative_to(image).as_posix(): path for path in files}
        _predict_files(runtime, found, named, out, threshold, timeout, as_json)
        return
    data = _read(image)
    if out is not None:
        _predict_files(runtime, found, {image.name: image}, out, threshold, timeout, as_json)
        return
    need_light_worker(runtime, "predictions are")
    key = f"inference/{new_id()}/image"
    runtime.storage.write(key, data)
    try:
        payload = {"model_id": found.id, "image_key": key, "name": image.name, "threshold": threshold}
        result = done_by_light_worker(runtime, "predict", payload, timeout)
    finally:
        runtime.storage.delete(key)
    answer = _answer(runtime.storage, found, result)
    if as_json:
        print_json(answer)
        return
    print_table(*table_of(answer.get("labels", [])), empty=NOTHING)
    _hint_at_threshold(found, [answer], threshold)
    if answer.get("frames"):
        say(f"The file holds {answer['frames']:,} pictures; this is the first one.")
    if answer.get("picture"):
        say(f"Picture: {answer['picture']}")


def _predict_files(
    runtime: Runtime, model: Model, files: dict[str, Path], out: Path | None, threshold: float | None, timeout: float, as_json: bool
) -> None:
    need_light_worker(runtime, "predictions are")
    place, images, unread = f"inference/{new_id()}", dict[str, str](), dict[str, str]()
    try:
        with progress("Sending") as tell:
            for number, (name, path) in enumerate(files.items()):
                tell(number, len(files))
                try:
                    runtime.storage.write(f"{place}/{number:07d}", _read(path))
                    images[name] = f"{place}/{number:07d}"
                except NotFoundError as error:
                    unread[name] = error.what
        with progress("Predicting") as tell:
            payload = {"model_id": model.id, "images": images, "draw": out is not None, "threshold": threshold}
            found = done_by_light_worker(runtime, "predict-all", payload, timeout * len(files), tell)["images"]
    finally:
        runtime.storage.delete(place)
    answers = [*found, *({"file": name, "error": what} for name, what in unread.items())]
    if out is not None:
        folders = {key.rpartition("/")[0] for answer in found for key in (answer.get("picture_key"), answer.get("mask_key")) if key}
        try:
            clear_folder(out)
            answers, kept = named_files(answers)
            write_answers({"model_id": model.id, "model": model.name, "classes": model.classes, "images": answers}, out)
            for name, key in kept.items():
                copy_out(runtime.storage, key, out / name)
        finally:
            for folder in folders:
                runtime.storage.delete(folder)
    if as_json:
        print_json({"model_id": model.id, "model": model.name, "images": [_with_whole_paths(answer, out) for answer in answers]})
    else:
        print_table(("File", "Label", "Confidence"), (_line(answer) for answer in answers), empty=NOTHING)
        _hint_at_threshold(model, answers, threshold)
        if out is not None:
            say(f"Pictures, predictions.json and predictions.csv: {out}")
    if failed := [answer["file"] for answer in answers if "error" in answer]:
        raise BadDataError(
            f"{len(failed):,} of {len(files):,} images could not be read: {first_of(failed, 5)}.", "What is wrong with each is said above."
        )


def table_of(labels: Sequence[dict[str, Any]]) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Columns and rows of what is said of an image; where it may have several labels, whether each counts."""
    rows = [(str(item["label"]), f"{100 * item['confidence']:.1f} %") for item in labels]
    if not labels or "present" not in labels[0]:
        return ("Label", "Confidence"), [*rows]
    return ("Label", "Confidence", "Counts"), [(*row, "yes" if item["present"] else "no") for row, item in zip(rows, labels, strict=True)]


def _hint_at_threshold(model: Model, answers: list[dict[str, Any]], threshold: float | None) -> None:
    """Where a model for objects found none in all that could be read, it may have been less sure than what counts."""
    read = [answer["labels"] for answer in answers if "labels" in answer]
    if threshold is None and model.task_type == TaskType.OBJECT_DETECTION and read and not any(read):
        say("What the model is less sure of is shown with --threshold 0.1.")


def _with_whole_paths(answer: dict[str, Any], out: Path | None) -> dict[str, Any]:
    if out is None:
        return answer
    return answer | {field: str(out / answer[field]) for field in ("picture", "mask_file") if field in answer}


def _line(answer: dict[str, Any]) -> tuple[str, str, str]:
    """What is said of one image of many, on one line."""
    file = f"{answer['file']}, frame {answer['frame']}" if "frame" in answer else answer["file"]
    if "error" in answer:
        return file, answer["error"], ""
    labels = [item for item in answer["labels"] if item.get("present", True)]
    if not labels:
        return file, "nothing", ""
    several = "present" in labels[0] or "mask" in labels[0] or "box" in labels[0]
    shown = labels[:5] if several else labels[:1]
    more = f" and {len(labels) - 5} more" if several and len(labels) > 5 else ""
    confidences = ", ".join(f"{100 * item['confidence']:.1f} %" for item in shown)
    return file, ", ".join(str(item["label"]) for item in shown) + more, confidences


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
        raise NotFoundError(
            f"{image} cannot be read: {error.strerror}.", "Give the path of an image file, or of a folder of images."
        ) from error


def images_in(folder: Path, without: Path | None = None) -> list[Path]:
    """The images below a folder, but for those in the folder `without`: by their suffix, and DICOM files as scanners name them."""
    skipped = without.resolve() if without is not None and folder.resolve() in without.resolve().parents else None
    found = []
    for path in sorted(folder.rglob("*")):
        if skipped is not None and path.resolve().is_relative_to(skipped):
            continue
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
