"""Home and help: what is going on, and what one can say."""

from sqlalchemy.orm import Session

from bot.desk.office import Office
from bot.desk.reply import Reply, Request
from bot.messages import headline_metric
from core.datasets.listing import list_datasets
from core.db.tables import Model, Task
from core.models.listing import list_models
from core.tasks.listing import list_tasks, place_in_queue
from core.tasks.states import State
from core.tuning.standings import standings
from core.vocabulary import TaskType
from core.wizard.screens import Block, Button, Facts, ProgressBar, Text, Tone

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
    begin = Button("train:begin", "Train a model", style="primary")
    blocks: list[Block] = [Text("Stationmaster trains computer-vision models on your images.", Tone.HEADING)]
    blocks += [Text("Trainings", Tone.HEADING), *(trainings or [Text("Nothing is being trained.")])]
    sections = (
        ("Recent models", tuple((model.name, _about(model)) for model in models), "No model yet: a finished training leaves one."),
        (
            "Datasets",
            tuple((item.name, f"{item.image_count:,} images") for item in datasets),
            "No dataset yet: send a zip of images to the bot, or press Datasets.",
        ),
    )
    for title, rows, empty in sections:
        blocks.append(Facts(rows or ((empty, ""),), title=title))
    buttons = (
        begin,
        Button("tasks:list", "Tasks"),
        Button("models:list", "Models"),
        Button("datasets:list", "Datasets"),
        *(Button("task:show", f"🔎 {task.name[:60]}", value=task.id) for task in active),
    )
    return Reply(tuple(blocks), buttons)


def _training(session: Session, task: Task) -> Block:
    if task.state == State.WAITING:
        return ProgressBar(0.0, f"{task.name}: number {place_in_queue(session, task)} in the queue")
    found = standings(session, task)
    job = found.jobs[0]
    far = f"{found.counts}" if len(found.jobs) > 1 else f"epoch {job.epoch} of {job.epochs}"
    return ProgressBar(found.fraction, f"{task.name}: {far}{', stopping' if task.state == State.STOPPING else ''}")


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
