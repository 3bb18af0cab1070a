"""Prepared applications of specialized training, as data: one TOML file each under `presets/`, the operator's under `home/presets`."""

import tomllib
from dataclasses import dataclass
from functools import cache
from importlib import resources

from core.vocabulary import TaskType


@dataclass(frozen=True)
class Preset:
    """A topic with everything but the images settled: task type, image kind, classes, network, pre-training."""

    slug: str
    title: str
    description: str
    task_type: TaskType
    data_type: str
    classes: tuple[str, ...]
    network: str
    pretraining: str


@cache
def all_presets() -> tuple[Preset, ...]:
    """The applications that come with the product, by title."""
    folder = resources.files("core.zoo") / "presets"
    if not folder.is_dir():
        return ()
    found = []
    for file in folder.iterdir():
        if file.name.endswith(".toml"):
            data = tomllib.loads(file.read_text(encoding="utf-8"))
            found.append(
                Preset(
                    slug=file.name.removesuffix(".toml"),
                    title=data["title"],
                    description=data["description"],
                    task_type=TaskType(data["task_type"]),
                    data_type=data["data_type"],
                    classes=tuple(data["classes"]),
                    network=data["network"],
                    pretraining=data["pretraining"],
                )
            )
    return tuple(sorted(found, key=lambda preset: preset.title))


def find(slug: str) -> Preset | None:
    """The application of that slug, or None."""
    return next((preset for preset in all_presets() if preset.slug == slug), None)
