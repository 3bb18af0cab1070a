"""`stationmaster zoo …`: which networks and pre-trainings there are, and which to take."""

import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from sqlalchemy.orm import Session

from bot.terminal.commands.light_work import done_by_light_worker, need_light_worker
from bot.terminal.commands.output import JsonOption, print_facts, print_json, print_table, say
from bot.terminal.commands.runtime import Runtime, WorkspaceOption, load_settings
from core.datasets.listing import find_dataset, learnable_sets, nothing_to_learn
from core.errors import InvalidInputError, NotFoundError
from core.identifiers import new_id
from core.settings import Settings
from core.vocabulary import AnnotationKind, DataType, TaskType
from core.zoo import added, catalogue, evidence, presets, weights
from core.zoo.added import AddedWeights
from core.zoo.devices import workers_device
from core.zoo.estimates import learn
from core.zoo.facts import DatasetFacts, facts_of
from core.zoo.presets import Preset
from core.zoo.recipes import RECIPES
from core.zoo.recommend import recommend
from core.zoo.spec import ModelSpec

app = typer.Typer(help="Networks and their pre-trainings.", no_args_is_help=True)


@app.command("list")
def list_entries(
    task_type: Annotated[TaskType | None, typer.Option("--task-type", help="Only entries for this task type.")] = None,
    search: Annotated[str, typer.Option("--search", help="Only entries that contain these words.")] = "",
    json: JsonOption = False,
) -> None:
    """List network × pre-training combinations."""
    settings = load_settings()
    found = [
        spec for spec in catalogue.search(search, catalogue.all_entries(settings)) if task_type is None or task_type in spec.task_types
    ]
    if json:
        print_json([catalogue.entry_json(spec, settings) for spec in found])
        return
    print_table(
        ("network", "pre-training", "accuracy", "parameters", "GMACs", "images/s", "MB an image", "licence"),
        (
            (
                spec.network,
                spec.pretraining,
                _accuracy(spec),
                f"{spec.parameters / 1e6:.1f} M",
                f"{spec.gmacs:.2f}",
                f"{spec.images_per_second:,.4g}" if spec.images_per_second else "",
                f"{spec.memory_mb:,.0f}" if spec.memory_mb is not None else "",
                spec.licence,
            )
            for spec in found
        ),
        empty="No entry matches.",
    )


@app.command()
def show(
    network: Annotated[str, typer.Argument(help="Name of the network, or network.pretraining.")],
    pretraining: Annotated[str, typer.Option("--pretraining", help="Default: the best allowed weights at hand.")] = "",
    json: JsonOption = False,
) -> None:
    """Show one combination in full."""
    settings = load_settings()
    spec = catalogue.find_spec(network, pretraining, settings)
    if json:
        print_json(catalogue.entry_json(spec, settings))
        return
    print_facts(
        (
            ("network", spec.network),
            ("pre-training", f"{spec.pretraining} ({spec.pretrained_on})"),
            ("all pre-trainings", _pretrainings(spec, settings)),
            ("family", spec.family),
            ("library", spec.library),
            ("task types", ", ".join(spec.task_types)),
            ("licence of the weights", _licence(spec) + ("" if weights.allowed(spec, settings) else " (not allowed here)")),
            (
                "weights",
                _place(spec) if spec.pretraining == catalogue.NONE else f"{spec.source}; {weights.locate(spec, settings) or 'not at hand'}",
            ),
            ("parameters", f"{spec.parameters:,}"),
            ("GMACs", f"{spec.gmacs:.3f} at {spec.input_size} px"),
            ("memory in training", f"{spec.memory_mb:,.0f} MB an image, fp32" if spec.memory_mb is not None else "unknown"),
            ("speed", f"{spec.images_per_second:,.4g} ({spec.speed_source})" if spec.images_per_second else "unknown"),
            ("accuracy", f"{_accuracy(spec)} ({spec.accuracy_source})" if spec.accuracy is not None else "unpublished"),
            ("input size", f"{spec.input_size} px; takes {spec.sizes_text}"),
            ("recipe", _recipe(spec)),
            ("normalisation", f"mean {spec.mean}, std {spec.std}"),
        )
    )


@app.command()
def add(
    network: Annotated[str, typer.Argument(help="Name of the network that the weights belong to.")],
    file: Annotated[Path, typer.Argument(help="The weights: .safetensors, .pth, .pt or .bin.")],
    pretraining: Annotated[str, typer.Option("--pretraining", help="What to call them, for example our-x-rays.")],
    licence: Annotated[str, typer.Option("--licence", help="Their licence, as SPDX writes it.")],
    pretrained_on: Annotated[str, typer.Option("--pretrained-on", help="What they have seen, in words.")] = "",
    data_type: Annotated[
        list[DataType] | None, typer.Option("--data-type", help="Kinds of images they have seen; may be repeated.")
    ] = None,
    input_size: Annotated[int, typer.Option("--input-size", min=16, max=2048, help="Default: the network's.")] = 0,
    mean: Annotated[str, typer.Option("--mean", help="Of the preprocessing, RGB on 0 to 1.")] = "0.485,0.456,0.406",
    std: Annotated[str, typer.Option("--std", help="Of the preprocessing, RGB on 0 to 1.")] = "0.229,0.224,0.225",
    timeout: Annotated[float, typer.Option(min=1, help="Seconds to wait for the check.")] = 600,
    json: JsonOption = False,
) -> None:
    """Add your own weights. A light worker tries them on their network before they are accepted."""
    runtime = Runtime.load()
    spec = catalogue.find_spec(network, catalogue.NONE, runtime.settings)
    catalogue.check_new_pretraining(spec.network, pretraining, runtime.settings)
    if input_size and not spec.accepts_size(input_size):
        raise InvalidInputError(f"{spec.network} takes {spec.sizes_text}; {input_size} px were given.")
    if not licence.strip():
        raise InvalidInputError("The licence is missing.", "Name it as SPDX does, for example Apache-2.0; of your own, LicenseRef-own.")
    wanted = AddedWeights(
        network=spec.network,
        pretraining=pretraining,
        file="",
        sha256="",
        licence=licence.strip(),
        pretrained_on=pretrained_on or pretraining,
        input_size=input_size or spec.input_size,
        mean=_three(mean, "--mean"),
        std=_three(std, "--std"),
        data_types=tuple(kind.value for kind in data_type or ()),
    )
    need_light_worker(runtime, "checking weights is")
    key = f"uploads/{new_id()}/weights{file.suffix.lower()}"
    try:
        with file.open("rb") as source, runtime.storage.writing(key) as target:
            shutil.copyfileobj(source, target)
    except OSError as error:
        raise NotFoundError(f"{file} cannot be read: {error.strerror or error}.", "Give the path of the weights' file.") from error
    done_by_light_worker(runtime, "add-weights", {"upload_key": key, "weights": asdict(wanted)}, timeout)
    spec = catalogue.find_spec(spec.network, pretraining, runtime.settings)
    if json:
        print_json(catalogue.entry_json(spec, runtime.settings))
        return
    print_facts((("added", spec.name), ("parameters", f"{spec.parameters:,}"), ("licence of the weights", spec.licence)))
    if not weights.allowed(spec, runtime.settings):
        say(f"{spec.licence} is not on the allow-list: set STATIONMASTER_ALLOW_LICENCES={spec.licence} to have it chosen.")


@app.command()
def remove(name: Annotated[str, typer.Argument(help="network.pretraining of weights that were added here.")]) -> None:
    """Remove weights that were added with `zoo add`; models trained from them stay."""
    network, _, pretraining = name.rpartition(".")
    added.remove(load_settings(), network, pretraining)
    say(f"Removed {name}.")


def _three(text: str, option: str) -> tuple[float, float, float]:
    try:
        red, green, blue = (float(part) for part in text.split(","))
    except ValueError as error:
        raise InvalidInputError(f"{option} takes three numbers; “{text[:60]}” was given.", f"For example {option} 0.5,0.5,0.5.") from error
    return red, green, blue


@app.command("presets")
def list_presets(json: JsonOption = False) -> None:
    """List the prepared applications of specialized training, the operator's among them."""
    settings = load_settings()
    found = presets.all_presets(settings)
    if json:
        print_json([preset_json(preset, settings) for preset in found])
    else:
        print_table(
            ("application", "title", "task type", "classes", "network"),
            ((item.slug, item.title, item.task_type, ", ".join(item.classes), item.spec(settings).name) for item in found),
            empty="None.",
        )
    for problem in presets.problems(settings):
        say(problem)


def preset_json(preset: Preset, settings: Settings) -> dict[str, Any]:
    """An application's facts as scripts read them, with the network and pre-training that it comes to here."""
    spec = preset.spec(settings)
    return {**preset.model_dump(mode="json"), "preset": preset.slug, "network": spec.network, "pretraining": spec.pretraining}


@app.command("recommend")
def recommend_entries(
    task_type: Annotated[TaskType, typer.Option("--task-type")],
    dataset: Annotated[
        str, typer.Option("--dataset", help="Name or id of the dataset; without one a middling set of photographs is assumed.")
    ] = "",
    data_type: Annotated[DataType, typer.Option("--data-type", help="What the images show.")] = DataType.OTHER,
    preference: Annotated[int, typer.Option("--preference", min=1, max=5, help="From 1, small and fast, to 5, large.")] = 3,
    json: JsonOption = False,
    workspace: WorkspaceOption = "",
) -> None:
    """Suggest combinations for a dataset, best first, and say why."""
    runtime = Runtime.load(workspace)
    with runtime.database.read() as session:
        devices = workers_device(session)
        facts, instances = _facts(session, runtime, dataset, task_type)
        experience = learn(session, devices)
    suggestions = recommend(task_type, data_type, preference, facts, devices, runtime.settings, instances=instances, experience=experience)
    if json:
        print_json(
            [
                catalogue.entry_json(item.spec, runtime.settings)
                | {
                    "available": weights.available(item.spec, runtime.settings),
                    "reasons": list(item.reasons),
                    "image_size": item.image_size,
                    "batch_size": item.batch_size,
                    "epochs": item.epochs,
                    "estimated_seconds": round(item.seconds),
                    "estimated_memory_bytes": item.memory_bytes,
                }
                for item in suggestions
            ]
        )
        return
    print_table(
        ("network", "pre-training", "why"),
        ((item.spec.network, item.spec.pretraining, "\n".join(item.reasons)) for item in suggestions),
        empty="No network of the zoo fits.",
    )


@app.command("evidence")
def measure_candidates(
    task_type: Annotated[TaskType, typer.Option("--task-type")],
    dataset: Annotated[str, typer.Option("--dataset", help="Name or id of the dataset.")],
    data_type: Annotated[DataType, typer.Option("--data-type", help="What the images show.")] = DataType.OTHER,
    timeout: Annotated[float, typer.Option(min=1, help="Seconds to wait for it.")] = 1800,
    json: JsonOption = False,
    workspace: WorkspaceOption = "",
) -> None:
    """Measure candidates on a sample of the dataset, with frozen features, and rank them by what they show. A light worker does it."""
    runtime = Runtime.load(workspace)
    need_light_worker(runtime, "measuring candidates is")
    with runtime.database.read() as session:
        found = find_dataset(session, runtime.workspace, dataset)
        sets = learnable_sets(found, task_type)
        facts, instances = _facts(session, runtime, dataset, task_type)
        devices = workers_device(session)
    chosen = evidence.candidates(task_type, data_type, facts, devices, runtime.settings, instances=instances)
    say(f"{len(chosen)} candidates are measured on a sample of the images …")
    result = done_by_light_worker(runtime, "evidence", evidence.payload(found.id, sets[0].id, task_type, chosen), timeout)
    if json:
        print_json(result["measured"])
        return
    print_table(("candidate", "shows"), evidence.sentences(evidence.of_result(result)), empty="Nothing was measured.")


def _facts(session: Session, runtime: Runtime, name: str, task_type: TaskType) -> tuple[DatasetFacts, bool]:
    """A dataset's facts, and whether its annotations for this task type have a mask for each object."""
    if not name:
        return DatasetFacts(images=2_000, classes=10, width=640, height=480), False
    dataset = find_dataset(session, runtime.workspace, name)
    if why := nothing_to_learn(dataset, task_type):
        raise InvalidInputError(why, "`stationmaster dataset show` names what it has.")
    sets = learnable_sets(dataset, task_type)
    return facts_of(session, dataset, sets[0]), sets[0].kind == AnnotationKind.INSTANCES


def _licence(spec: ModelSpec) -> str:
    return spec.licence or "none needed"


def _pretrainings(spec: ModelSpec, settings: Settings) -> str:
    """All that the network has, each with whether its weights are at hand."""
    finder = weights.Finder(settings)

    def standing(one: ModelSpec) -> str:
        local = finder.locate(one) is not None
        where = "at hand" if local else "can be downloaded" if finder.available(one) else "not at hand"
        return where if weights.allowed(one, settings) else f"{where}, licence {_licence(one)} not allowed"

    return ", ".join(
        one.pretraining if one.pretraining == catalogue.NONE else f"{one.pretraining} ({standing(one)})"
        for one in catalogue.of_network(spec.network, settings)
    )


def _place(spec: ModelSpec) -> str:
    return "none needed"


def _recipe(spec: ModelSpec) -> str:
    recipe = RECIPES[spec.recipe]
    scratch = spec.pretraining == catalogue.NONE
    rate = recipe.scratch_learning_rate if scratch else recipe.learning_rate
    seen = recipe.images_seen * (recipe.scratch_factor if scratch else 1)
    return (
        f"{spec.recipe}: {recipe.optimizer}, learning rate {rate:g} at batch {recipe.batch_size}, weight decay {recipe.weight_decay:g}, "
        f"about {seen:,.0f} images seen"
    )


def _accuracy(spec: ModelSpec) -> str:
    return f"{spec.accuracy:.1%}" if spec.accuracy is not None else ""
