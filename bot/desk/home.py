"""Home and help: what is going on, and what one can say."""

from sqlalchemy.orm import Session

from bot.desk.office import Office
from bot.desk.reply import Reply, Request
from bot.drawing import bar
from bot.messages import headline_metric
from core.datasets.listing import list_datasets
from core.db.tables import Model, Task
from core.models.listing import list_models
from core.tasks.listing import list_tasks, place_in_queue
from core.tasks.states import State
from core.tuning.standings import standings
from core.vocabulary import TaskType
from core.wizard.screens import Block, Button, Facts, Text, Tone

SHOWN = 5
COMMANDS = (
    ("/train", "train a model: task type, dataset, network, start"),
    ("/tasks", "trainings: progress, stop, details"),
    ("/datasets", "datasets: look at them, import, delete"),
    ("/models", "models: test on an image, download, retrain"),
)

ON_MESSAGES = "“Train on these images”, in the menu of a message, imports the archive or the images that it carries."


def show(office: Office, request: Request) -> Reply:
    """Running and waiting tasks with how far they are and a way to each, recent models and datasets."""
    workspace = request.actor.workspace
    with office.database.read() as session:
        active = [
            task
            for state in (State.RUNNING, State.STOPPING, State.WAITING)
            for task in list_tasks(session, workspace, state=state, limit=SHOWN)[0]
        ][:SHOWN]
        trainings = [_training(session, task) for task in active]
        models, _ = list_models(session, workspace, limit=SHOWN)
        datasets, _ = list_datasets(session, workspace, limit=SHOWN)
    blocks: list[Block] = [Text("Stationmaster trains computer-vision models on your images.", Tone.HEADING)]
    sections = (
        ("Trainings", trainings, "Nothing is being trained.", [Button("task:show", task.name[:60], value=task.id) for task in active]),
        (
            "Recent models",
            [(model.name, _about(model)) for model in models],
            "No model yet: a finished training leaves one.",
            [Button("model:show", model.name[:60], value=model.id) for model in models],
        ),
        (
            "Datasets",
            [(item.name, f"{item.image_count:,} images") for item in datasets],
            "No dataset yet: send a zip of images to the bot, or press Datasets.",
            [Button("dataset:show", item.name[:60], value=item.id) for item in datasets],
        ),
    )
    ways: list[Button] = []
    for title, rows, empty, buttons in sections:
        blocks.append(Facts(tuple(rows), title, tuple(buttons)) if rows else Facts(((empty, ""),), title))
        ways += buttons
    main = (
        Button("train:begin", "Train a model", style="primary"),
        Button("tasks:list", "Tasks"),
        Button("models:list", "Models"),
        Button("datasets:list", "Datasets"),
    )
    return Reply(tuple(blocks), (*main, *ways))


def _training(session: Session, task: Task) -> tuple[str, str]:
    """A task's name and how far it is."""
    if task.state == State.WAITING:
        return task.name, f"number {place_in_queue(session, task)} in the queue"
    found = standings(session, task)
    job = found.jobs[0]
    far = found.counts if len(found.jobs) > 1 else f"epoch {job.epoch} of {job.epochs}"
    return task.name, f"{bar(found.fraction)}  {far}{', stopping' if task.state == State.STOPPING else ''}"


def _about(model: Model) -> str:
    headline = headline_metric(model.metrics)
    return f"{TaskType(model.task_type).title} · {model.network}" + (f" · {headline}" if headline else "")


def help_(office: Office, request: Request) -> Reply:
    """What one can say."""
    on_messages: tuple[Block, ...] = () if request.place.at_the_host else (Text(ON_MESSAGES),)
    return Reply(
        (Text("I train computer-vision models on your images."), Facts(COMMANDS), *on_messages),
        (Button("train:begin", "Train a model", style="primary"),),
        private=True,
    )


def begin(office: Office, request: Request) -> Reply:
    """Begin a wizard; the value, where there is one, is the dataset to train on."""
    return Reply(screen=office.conversation.begin(request.actor, request.place, dataset=request.value.strip()))
