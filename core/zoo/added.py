"""The operator's own weights: files under `home/zoo`, each checked against its network before `zoo add` accepted it."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from filelock import FileLock

from core.errors import NotFoundError
from core.settings import Settings
from core.zoo.spec import ModelSpec


@dataclass(frozen=True)
class AddedWeights:
    """One accepted file. `licence` as the operator states it (SPDX); `mean` and `std` of the preprocessing it was trained with."""

    network: str
    pretraining: str
    file: str  # name within the folder
    sha256: str
    licence: str
    pretrained_on: str
    input_size: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    data_types: tuple[str, ...] = ()

    @classmethod
    def from_json(cls, row: Mapping[str, Any]) -> "AddedWeights":
        """From what `asdict` and JSON made of it."""
        return cls(**{**row, **{name: tuple(row[name]) for name in ("mean", "std", "data_types")}})


def folder(settings: Settings) -> Path:
    """Where the files and their list lie."""
    return settings.home / "zoo"


def read(settings: Settings) -> list[AddedWeights]:
    """What was added, in order."""
    path = folder(settings) / "added.json"
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return []
    return [AddedWeights.from_json(row) for row in rows]


def write(settings: Settings, rows: list[AddedWeights]) -> None:
    """Replace the list, whole or not at all."""
    path = folder(settings) / "added.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".part")
    temporary.write_text(json.dumps([asdict(row) for row in rows], indent=1), encoding="utf-8")
    temporary.replace(path)


def load(settings: Settings, networks: Mapping[str, ModelSpec]) -> tuple[ModelSpec, ...]:
    """The added weights as entries, made from the from-scratch entries of their networks; those of unknown networks are left out."""
    found = []
    for row in read(settings):
        base = networks.get(row.network)
        if base is None:
            continue
        scale = (row.input_size / base.input_size) ** 2
        found.append(
            replace(
                base,
                pretraining=row.pretraining,
                licence=row.licence,
                pretrained_on=row.pretrained_on,
                source=f"file:{folder(settings) / row.file}",
                sha256=row.sha256,
                input_size=row.input_size,
                mean=row.mean,
                std=row.std,
                gmacs=round(base.gmacs * scale, 4),
                memory_mb=round(base.memory_mb * scale, 1) if base.memory_mb else None,
                data_types=row.data_types,
            )
        )
    return tuple(found)


def append(settings: Settings, row: AddedWeights) -> None:
    """Add an accepted file to the list."""
    with _lock(settings):
        write(settings, [*read(settings), row])


def remove(settings: Settings, network: str, pretraining: str) -> AddedWeights:
    """Take added weights off the list, and delete their file.

    Raises:
        NotFoundError: when they are none of the operator's.
    """
    with _lock(settings):
        rows = read(settings)
        gone = next((row for row in rows if (row.network, row.pretraining) == (network, pretraining)), None)
        if gone is None:
            raise NotFoundError(f"{network}.{pretraining} was not added here.", "`stationmaster zoo list --search` shows what there is.")
        write(settings, [row for row in rows if row is not gone])
        (folder(settings) / gone.file).unlink(missing_ok=True)
    return gone


def _lock(settings: Settings) -> FileLock:
    folder(settings).mkdir(parents=True, exist_ok=True)
    return FileLock(folder(settings) / "added.lock")
