"""`stationmaster zoo …`: which networks and pre-trainings there are, and which to take."""

from typing import Annotated, Any

import typer
from sqlalchemy.orm import Session

from bot.terminal.commands.output import JsonOption, print_facts, print_json, print_table, say
from bot.terminal.commands.runtime import Runtime, WorkspaceOption, load_settings
from core.datasets.listing import annotation_sets_for, find_dataset
from core.errors import InvalidInputError
from core.settings import Settings
from core.vocabulary import AnnotationKind, DataType, TaskType
from core.zoo import catalogue, presets, weights
from core.zoo.devices import host_device
from core.zoo.estimates import learn
from core.zoo.facts import DatasetFacts, facts_of
from core.zoo.presets import Preset
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
        ("network", "pre-training", "licence", "parameters", "GMACs", "accuracy"),
        (
            (spec.network, spec.pretraining, _licence(spec), f"{spec.parameters / 1e6:.1f} M", f"{spec.gmacs:.2f}", _accuracy(spec))
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
            ("all pre-trainings", ", ".join(other.pretraining for other in catalogue.of_network(spec.network, settings))),
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
            ("speed", f"{spec.images_per_second:,.0f} ({spec.speed_source})" if spec.images_per_second else "unknown"),
            ("accuracy", f"{_accuracy(spec)} ({spec.accuracy_source})" if spec.accuracy is not None else "unpublished"),
            ("input size", f"{spec.input_size} px; takes {spec.sizes_text}"),
            ("normalisation", f"mean {spec.mean}, std {spec.std}"),
        )
    )


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
    devices = host_device()
    with runtime.database.read() as session:
        facts, instances = _facts(session, runtime, dataset, task_type)
        experience = learn(session, devices)
    suggestions = recommend(task_type, data_type, preference, facts, devices, runtime.settings, instances=instances, experience=experience)
    if json:
        print_json(
            [
                catalogue.entry_json(item.spec, runtime.settings)
                | {
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


def _facts(session: Session, runtime: Runtime, name: str, task_type: TaskType) -> tuple[DatasetFacts, bool]:
    """A dataset's facts, and whether its annotations for this task type have a mask for each object."""
    if not name:
        return DatasetFacts(images=2_000, classes=10, width=640, height=480), False
    dataset = find_dataset(session, runtime.workspace, name)
    sets = annotation_sets_for(dataset, task_type)
    if not sets:
        raise InvalidInputError(
            f"The dataset {dataset.name} has no annotations for {task_type.title.lower()}.",
            "`stationmaster dataset show` names what it has.",
        )
    return facts_of(session, dataset, sets[0]), sets[0].kind == AnnotationKind.INSTANCES


def _licence(spec: ModelSpec) -> str:
    return spec.licence or "none needed"


def _place(spec: ModelSpec) -> str:
    return "none needed"


def _accuracy(spec: ModelSpec) -> str:
    return f"{spec.accuracy:.1%}" if spec.accuracy is not None else ""
