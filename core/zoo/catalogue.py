"""The catalogue: every network × pre-training, read from pinned data (`catalogue.json`, made by `python -m worker.networks.rebuild`)."""

import difflib
import json
import re
from collections.abc import Iterable
from dataclasses import asdict
from functools import cache
from importlib import resources
from typing import Any

from core.errors import ConflictError, InvalidInputError
from core.settings import Settings
from core.vocabulary import TaskType
from core.zoo import added, weights
from core.zoo.recipes import RECIPES
from core.zoo.spec import ModelSpec

NONE = "none"  # pre-training of a network that starts from scratch


def _specs(data: dict[str, Any]) -> Iterable[ModelSpec]:
    networks = {row[0]: dict(zip(data["network_columns"], row, strict=True)) for row in data["networks"]}
    for name, network in networks.items():
        network["task_types"] = tuple(TaskType(slug) for slug in data["task_types"][network["task_types"]])
        network["variation"] = network["variation"] or name
        for flag in ("fixed_size", "sized_at_build", "instances_only"):
            network[flag] = bool(network[flag])
        network["scratch"] = network.pop("from_scratch")
        network["speed_source"] = data["speed_sources"][network["speed_source"]] if network["images_per_second"] else ""
    for row in data["weights"]:
        weight = dict(zip(data["weight_columns"], row, strict=True))
        network = networks[weight["network"]]
        mean, std = data["normalisations"][weight.pop("normalisation")]
        own_size = weight.pop("input_size") or network["input_size"]
        scale = (own_size / network["input_size"]) ** 2  # work and activations grow with the area
        yield ModelSpec(
            **{key: value for key, value in network.items() if key != "scratch"}
            | weight
            | {
                "input_size": own_size,
                "gmacs": round(network["gmacs"] * scale, 4),
                "memory_mb": round(network["memory_mb"] * scale, 1) if network["memory_mb"] is not None else None,
                "images_per_second": float(f"{network['images_per_second'] / scale:.4g}") if network["images_per_second"] else None,
                "accuracy_source": data["accuracy_sources"][weight["accuracy_source"]] if weight["accuracy"] is not None else "",
                "mean": tuple(mean),
                "std": tuple(std),
                "data_types": tuple(weight["data_types"].split()),
            }
        )
    for network in networks.values():
        if network.pop("scratch"):
            yield ModelSpec(**network, pretraining=NONE, licence="", pretrained_on="Nothing (from scratch)")


@cache
def _pinned() -> dict[str, tuple[ModelSpec, ...]]:
    """By network, in the order of the data: pre-trainings first, best published accuracy first, from scratch last."""
    data = json.loads((resources.files("core.zoo") / "catalogue.json").read_text(encoding="utf-8"))
    by_network: dict[str, list[ModelSpec]] = {row[0]: [] for row in data["networks"]}
    names = set()
    for spec in _specs(data):
        if spec.name in names:
            raise ValueError(f"the catalogue holds {spec.name} twice")
        names.add(spec.name)
        by_network[spec.network].append(spec)
    return {network: tuple(specs) for network, specs in by_network.items()}


@cache
def entries() -> tuple[ModelSpec, ...]:
    """Every entry that comes with the product, by network in catalogue order."""
    return tuple(spec for specs in _pinned().values() for spec in specs)


def all_entries(settings: Settings) -> tuple[ModelSpec, ...]:
    """`entries()`, and the weights that the operator of this installation added."""
    return entries() + added.load(settings, {network: specs[-1] for network, specs in _pinned().items()})


def of_network(network: str, settings: Settings | None = None) -> tuple[ModelSpec, ...]:
    """The entries of one network, the operator's first; empty for an unknown one."""
    pinned = _pinned().get(network, ())
    if settings is None or not pinned:
        return pinned
    return tuple(spec for spec in added.load(settings, {network: pinned[-1]}) if spec.network == network) + pinned


def found_text(task_type: TaskType, network: str) -> str:
    """What a network for object segmentation answers with, in words; empty where the task type says it all."""
    specs = of_network(network)
    if task_type != TaskType.OBJECT_SEGMENTATION or not specs:
        return ""
    return "single objects with their masks" if specs[-1].instances_only else "regions per class, which do not tell its objects apart"


def find_spec(network: str, pretraining: str = "", settings: Settings | None = None) -> ModelSpec:
    """The entry of that name.

    `network` may carry its pre-training after a dot. Without a pre-training: the best allowed one whose weights are available, else from scratch
    (then `spec.pretraining` is `none`). A pre-training may also be the tag of its source (`a1_in1k`) or the name of the data (`imagenet-1k`).

    Raises:
        InvalidInputError: for an unknown name, with near ones as remedy.
    """
    network = network.strip()
    if not pretraining and network not in _pinned() and network.rpartition(".")[0] in _pinned():
        network, _, pretraining = network.rpartition(".")
    specs = of_network(network, settings)
    if not specs:
        near = nearest(network, _pinned())
        raise InvalidInputError(
            f"There is no network “{network[:80]}”.",
            f"Did you mean {', '.join(near)}?" if near else "`stationmaster zoo list` names all of them.",
        )
    if not pretraining:
        return best_available(specs, settings or Settings())
    for spec in specs:
        if pretraining == spec.pretraining or spec.source.endswith(f"/{network}.{pretraining}"):
            return spec
    if same_data := [spec for spec in specs if starts_from(spec, pretraining)]:
        return best_available(same_data, settings or Settings())
    raise InvalidInputError(
        f"{network} has no pre-training “{pretraining[:80]}”.",
        "There are: " + ", ".join(spec.pretraining for spec in specs) + ".",
    )


def check_new_pretraining(network: str, pretraining: str, settings: Settings) -> None:
    """Whether weights of the operator's may be added to a network under this name.

    Raises:
        InvalidInputError: when it is no name; ConflictError: when the network has a pre-training of that name.
    """
    if not re.fullmatch(r"[a-z0-9][a-z0-9-]{0,59}", pretraining) or pretraining == NONE:
        raise InvalidInputError(
            f"A pre-training is named by small letters, digits and hyphens, up to 60; “{pretraining[:80]}” was given.",
            "For example --pretraining our-x-rays.",
        )
    if any(spec.pretraining == pretraining for spec in of_network(network, settings)):
        raise ConflictError(
            f"{network} has a pre-training “{pretraining}” already.", "Give another name, or `stationmaster zoo remove` it."
        )


def starts_from(spec: ModelSpec, pretraining: str) -> bool:
    """Whether the entry's pre-training is the named one, or one on the data of that name (`imagenet-1k`)."""
    return spec.pretraining == pretraining or spec.pretraining.startswith(f"{pretraining}-")


def best_available(specs: Iterable[ModelSpec], settings: Settings) -> ModelSpec:
    """The first of a network's entries whose weights may be used and can be had; the last one (from scratch) where none can."""
    specs, finder = tuple(specs), weights.Finder(settings)
    return next(
        (spec for spec in specs if spec.pretraining != NONE and weights.allowed(spec, settings) and finder.available(spec)), specs[-1]
    )


def nearest(name: str, known: Iterable[str], count: int = 5) -> list[str]:
    """The known names most like `name`: those that contain it first, then by spelling."""
    lowered = name.lower().replace("-", "_")
    known = list(known)
    containing = sorted((other for other in known if lowered and lowered in other.lower()), key=len)
    return list(dict.fromkeys(containing[:count] + difflib.get_close_matches(lowered, known, count, 0.5)))[:count]


@cache
def _menu() -> dict[TaskType, dict[str, list[str]]]:
    """Task type → family, in alphabetical order → networks, small to large."""
    menu: dict[TaskType, dict[str, list[str]]] = {}
    for task_type in TaskType:
        sizes: dict[str, dict[str, float]] = {}
        for spec in (specs[-1] for specs in _pinned().values()):
            if task_type in spec.task_types:
                sizes.setdefault(spec.family, {})[spec.network] = spec.gmacs
        menu[task_type] = {
            family: sorted(sizes[family], key=lambda network: (sizes[family][network], network)) for family in sorted(sizes, key=str.lower)
        }
    return menu


def families(task_type: TaskType, *, instances: bool = True) -> list[str]:
    """Families that serve this task type, in alphabetical order; without `instances` those left out that need a mask for each object."""
    menu = _menu()[task_type]
    return [family for family, networks in menu.items() if instances or not all(_pinned()[name][-1].instances_only for name in networks)]


def variations(task_type: TaskType, family: str) -> list[str]:
    """Networks of a family that serve this task type, small to large; empty for an unknown family."""
    return list(_menu()[task_type].get(family, ()))


def pretrainings(task_type: TaskType, network: str, settings: Settings | None = None) -> list[ModelSpec]:
    """A network's entries for this task type, best first, from scratch last."""
    return [spec for spec in of_network(network, settings) if task_type in spec.task_types]


def search(text: str, specs: Iterable[ModelSpec]) -> list[ModelSpec]:
    """The entries in which every word of `text` occurs (family, network, pre-training or its data)."""
    words = text.lower().split()
    return [
        spec for spec in specs if all(word in f"{spec.family} {spec.name} {spec.pretrained_on} {spec.library}".lower() for word in words)
    ]


def entry_json(spec: ModelSpec, settings: Settings) -> dict[str, Any]:
    """An entry's facts as scripts read them, with its family's recipe in full, and whether its licence is allowed and its weights can be had
    (`at_hand`: without a download).
    """
    facts = asdict(spec)
    for name in ("mean", "std", "data_types", "task_types"):
        facts[name] = list(facts[name])
    return (
        {"name": spec.name}
        | facts
        | {
            "training_recipe": asdict(RECIPES[spec.recipe]),
            "allowed": weights.allowed(spec, settings),
            "at_hand": spec.pretraining == NONE or weights.locate(spec, settings) is not None,
        }
    )
