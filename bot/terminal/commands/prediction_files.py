"""What `model predict --out` leaves in its folder: a picture and a mask file per image, and all answers as JSON and CSV."""

import csv
import json
import re
import shutil
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from core.datasets.source import IMAGE_SUFFIXES
from core.datasets.sources.inventory import is_litter
from core.errors import InvalidInputError, UnavailableError
from core.storage import Storage

_FIELDS = ("file", "frame", "label", "confidence", "present", "x", "y", "width", "height", "share", "picture", "mask_file", "error")
SUFFIXES = {"picture": ".png", "mask_file": ".mask.png"}
_PART = "predictions.json.part"  # while it is being written: who waits for the file sees all of it
_FORBIDDEN = re.compile(r'[<>:"|?*\\\x00-\x1f]')  # by some file system or other


def prepare_folder(out: Path) -> None:
    """Make the folder, before any work is done for it. Nobody's images are ever written over: it is new, empty, or holds an earlier answer alone.

    A predictions.json.part is taken for ours, left by an answer that was cut short: that name is ours in the folder, whoever wrote the file.

    Raises:
        InvalidInputError: when there are files in it that no earlier answer names, or it is no folder.
        UnavailableError: when it cannot be made.
    """
    if out.exists() and not out.is_dir():
        raise InvalidInputError(f"{out} is no folder.", "Give a folder for --out.")
    try:
        out.mkdir(parents=True, exist_ok=True)
        earlier = set(_earlier_files(out))
        files = (path for path in sorted(out.rglob("*")) if not path.is_dir() and not is_litter(path.relative_to(out).as_posix()))
        other = next((path for path in files if path not in earlier), None)
    except OSError as error:
        raise UnavailableError(f"{out} cannot be written: {error.strerror}.", "Give another --out.") from error
    if other is not None:
        raise InvalidInputError(
            f"{out} holds other files, such as {other.relative_to(out)}, which could be overwritten.",
            "Give for --out a new or an empty folder, or one with an earlier answer alone: that is replaced.",
        )


def clear_folder(out: Path) -> None:
    """Take away an earlier answer: the files that its predictions.json names inside the folder, it itself and predictions.csv.

    And always predictions.json.part, whoever wrote it: that name is ours.

    Raises:
        UnavailableError: when they cannot be taken away.
    """
    try:
        files = _earlier_files(out)
        for path in files:
            path.unlink(missing_ok=True)
        for folder in sorted({parent for path in files for parent in path.parents if out in parent.parents}, reverse=True):
            if folder.is_dir() and not any(folder.iterdir()):
                folder.rmdir()
    except OSError as error:
        raise UnavailableError(f"{out} cannot be written: {error.strerror}.", "Give another --out.") from error


def _earlier_files(out: Path) -> list[Path]:
    """What an earlier answer left in the folder, its predictions.json last; where there is none that can be read, only the part of one.

    The part is among them unread, whoever wrote it: cut short, it says nothing of where it comes from, and that name is ours.
    """
    answer, part, root = out / "predictions.json", out / _PART, out.resolve()
    try:
        document = json.loads(answer.read_text(encoding="utf-8"))
        if not {"model_id", "model", "classes"} <= set(document):  # somebody else's file of that name
            return [part]
        named = [str(image[field]) for image in document["images"] for field in SUFFIXES if image.get(field)]
        inside = [out / name for name in named if (out / name).resolve().is_relative_to(root) and name.endswith(".png")]
    except (FileNotFoundError, ValueError, LookupError, TypeError, AttributeError):
        return [part]
    return [*inside, out / "predictions.csv", part, answer]


class OutputNames:
    """Gives each image a name of its own for its files: its path without the suffix, its folders kept."""

    def __init__(self, files: Sequence[str]) -> None:
        names = [_without_suffix(file) for file in files]
        # Some file systems tell no capitals. A folder that is needed must not be taken by a file.
        self._taken = {str(parent).casefold() for name in names for parent in PurePosixPath(name).parents}
        self._taken |= {"predictions.json", "predictions.csv", _PART}

    def give(self, file: str, frame: int, suffixes: Sequence[str]) -> str:
        """A name to which each of the suffixes can be added without meeting another's."""
        stem = _without_suffix(file) + (f"-frame-{frame:04d}" if frame else "")
        name, number = stem, 1
        while any(f"{name}{suffix}".casefold() in self._taken for suffix in suffixes):
            number += 1
            name = f"{stem}-{number}"
        self._taken |= {f"{name}{suffix}".casefold() for suffix in suffixes}
        return name


def _without_suffix(file: str) -> str:
    path = PurePosixPath(_FORBIDDEN.sub("_", file))
    return str(path.with_suffix("") if path.suffix.lower() in IMAGE_SUFFIXES else path)


def named_files(answers: Sequence[dict[str, Any]]) -> tuple[list[dict[str, Any]], dict[str, str]]:
    """The answers with paths in a folder instead of storage keys, and by these paths the keys of the pictures and mask files that belong there."""
    names = OutputNames([answer["file"] for answer in answers])
    kept, files = [], dict[str, str]()
    for answer in answers:
        keys = {"picture": answer.get("picture_key"), "mask_file": answer.get("mask_key")}
        told = {field: value for field, value in answer.items() if field not in ("picture_key", "mask_key")}
        if any(keys.values()):
            name = names.give(answer["file"], int(answer.get("frame", 0)), tuple(SUFFIXES.values()))
            for field, key in keys.items():
                if key is not None:
                    told[field] = f"{name}{SUFFIXES[field]}"
                    files[told[field]] = key
        kept.append(told)
    return kept, files


def write_answers(document: dict[str, Any], out: Path) -> None:
    """Write predictions.json, which holds everything, and predictions.csv with a line per label or object.

    Before the files that they name are brought: whatever happens then, it is known that these belong to the answer.

    Raises:
        UnavailableError: when they cannot be written.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
        (out / _PART).write_text(json.dumps(document, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")
        (out / _PART).replace(out / "predictions.json")
        with (out / "predictions.csv").open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, _FIELDS, restval="", extrasaction="ignore")
            writer.writeheader()
            for answer in document["images"]:
                writer.writerows(_lines(answer))
    except OSError as error:
        raise UnavailableError(f"{out} cannot be written: {error.strerror}.", "Give another --out.") from error


def _lines(answer: dict[str, Any]) -> list[dict[str, Any]]:
    about = {field: answer[field] for field in ("file", "frame", "picture", "mask_file", "error") if field in answer}
    lines = []
    for label in answer.get("labels", []):
        box = dict(zip(("x", "y", "width", "height"), label.get("box", ()), strict=False))
        lines.append(about | label | box)
    return lines or [about]


def copy_out(storage: Storage, key: str, target: Path) -> None:
    """Copy an object of the storage to a file, its folders made.

    Raises:
        UnavailableError: when it cannot be written.
    """
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with storage.open(key) as source, target.open("wb") as file:
            shutil.copyfileobj(source, file)
    except OSError as error:
        raise UnavailableError(f"{target} cannot be written: {error.strerror}.", "Give another --out.") from error
