"""Prepared applications of specialized training, as data: one TOML file each under `presets/`, the operator's in a folder of the settings."""

import logging
import re
import tomllib
from collections.abc import Iterator, Sequence
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from core.errors import InvalidInputError
from core.settings import Settings
from core.tasks.hyperparameters import parse_fields
from core.vocabulary import DataType, TaskType
from core.zoo import catalogue, weights
from core.zoo.spec import ModelSpec

logger = logging.getLogger(__name__)


class Preset(BaseModel):
    """A topic with everything but the images settled.

    `networks` are catalogue entries, best first; `recipe` hyperparameters that overrule the network family's; `aliases` other names under which
    datasets know a class.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    slug: str
    title: str = Field(min_length=1, max_length=75)
    description: str = Field(min_length=1, max_length=300)
    task_type: TaskType
    data_type: DataType
    classes: tuple[str, ...] = Field(min_length=1)
    networks: tuple[str, ...] = Field(min_length=1)
    recipe: dict[str, Any] = {}
    aliases: dict[str, tuple[str, ...]] = {}

    def spec(self, settings: Settings) -> ModelSpec:
        """The first of its networks whose weights may be used and can be had; the first of all where none can."""
        specs = [catalogue.find_spec(name, settings=settings) for name in self.networks]
        finder = weights.Finder(settings)
        return next((spec for spec in specs if weights.allowed(spec, settings) and finder.available(spec)), specs[0])

    def lacking(self, classes: Sequence[str]) -> list[str]:
        """Which of its classes are not among those of a dataset, under any of their names."""
        known = {_folded(name) for name in classes}
        return [name for name in self.classes if not known & {_folded(name), *map(_folded, self.aliases.get(name, ()))}]

    def foreign(self, classes: Sequence[str]) -> list[str]:
        """Which classes of a dataset it does not know."""
        known = {_folded(name) for own in self.classes for name in (own, *self.aliases.get(own, ()))}
        return [name for name in classes if _folded(name) not in known]

    def mismatch(self, classes: Sequence[str]) -> str:
        """A sentence on what a dataset lacks for this application; empty where it has all."""
        lacking = self.lacking(classes)
        if not lacking:
            return ""
        has = ", ".join(classes[:12]) + (" …" if len(classes) > 12 else "")
        return (
            f"“{self.title}” needs the {'class' if len(self.classes) == 1 else 'classes'} {', '.join(self.classes)}; "
            f"these annotations lack {', '.join(lacking)} (they have {has}). Rename or add classes, or choose other images."
        )


def _folded(name: str) -> str:
    return re.sub(r"[\s_-]+", " ", name).strip().casefold()


def read(file: Path) -> Preset:
    """The application that a file describes.

    Raises:
        InvalidInputError: naming the file and the first thing that is wrong in it.
    """
    remedy = "docs/zoo.md describes what such a file holds."
    try:
        data = tomllib.loads(file.read_text(encoding="utf-8"))
        preset = Preset(slug=file.stem, **data)
        parse_fields(preset.recipe)
        for name in preset.networks:
            spec = catalogue.find_spec(name)
            if preset.task_type not in spec.task_types:
                raise InvalidInputError(f"{name} is no network for {preset.task_type.title.lower()}.")
    except ValidationError as error:
        first = error.errors()[0]
        raise InvalidInputError(f"{file}: {'.'.join(map(str, first['loc']))}: {first['msg']}.", remedy) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError, TypeError) as error:
        raise InvalidInputError(f"{file} cannot be read: {error}.", remedy) from error
    except InvalidInputError as error:
        raise InvalidInputError(f"{file}: {error.what}", error.remedy or remedy) from error
    unknown = set(preset.aliases) - set(preset.classes)
    if unknown:
        raise InvalidInputError(f"{file}: aliases of classes that it does not have: {', '.join(sorted(unknown))}.", remedy)
    return preset


def folder(settings: Settings) -> Path:
    """Where the operator's own applications lie."""
    return settings.presets_dir or settings.home / "presets"


@cache
def _shipped() -> tuple[Preset, ...]:
    files = sorted(Path(str(resources.files("core.zoo"))).glob("presets/*.toml"))
    return tuple(read(file) for file in files)


def _own(settings: Settings) -> Iterator[Preset | InvalidInputError]:
    for file in sorted(folder(settings).glob("*.toml")):
        try:
            yield read(file)
        except InvalidInputError as error:
            yield error


def all_presets(settings: Settings) -> tuple[Preset, ...]:
    """The applications by title: those that come with the product, and the operator's, which go before one of the same name.

    A file that cannot be used is left out, with a warning in the log; `problems` and `stationmaster zoo presets` tell of it.
    """
    found = {preset.slug: preset for preset in _shipped()}
    for preset in _own(settings):
        if isinstance(preset, Preset):
            found[preset.slug] = preset
        else:
            logger.warning("application left out: %s", preset)
    return tuple(sorted(found.values(), key=lambda preset: preset.title))


def problems(settings: Settings) -> list[str]:
    """What is wrong with the operator's files."""
    return [str(preset) for preset in _own(settings) if isinstance(preset, InvalidInputError)]


def find(slug: str, settings: Settings) -> Preset | None:
    """The application of that slug, or None."""
    return next((preset for preset in all_presets(settings) if preset.slug == slug), None)
