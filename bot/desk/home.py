"""Home and help: what is going on, and what one can say."""

from bot.desk.office import Office
from bot.desk.reply import Reply, Request
from core.datasets.listing import list_datasets
from core.models.listing import list_models
from core.tasks.listing import list_tasks
from core.tasks.states import State
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
    """Running and waiting tasks, recent models and datasets."""
    workspace = request.actor.workspace
    with office.database.read() as session:
        active = [
            task
            for state in (State.RUNNING, State.STOPPING, State.WAITING)
            for task in list_tasks(session, workspace, state=state, limit=SHOWN)[0]
        ]
        models, _ = list_models(session, workspace, limit=SHOWN)
        datasets, _ = list_datasets(session, workspace, limit=SHOWN)
    blocks: list[Block] = [Text("Stationmaster trains computer-vision models on your images.", Tone.HEADING)]
    sections = (
        ("Trainings", tuple((task.name, task.state) for task in active), "Nothing is being trained."),
        ("Recent models", tuple((model.name, model.network) for model in models), "No model yet."),
        ("Datasets", tuple((item.name, f"{item.image_count:,} images") for item in datasets), "No dataset yet."),
    )
    for title, rows, empty in sections:
        blocks.append(Facts(rows or ((empty, ""),), title=title))
    buttons = (
        Button("train:begin", "Train a model", style="primary"),
        Button("tasks:list", "Tasks"),
        Button("models:list", "Models"),
        Button("datasets:list", "Datasets"),
    )
    return Reply(tuple(blocks), buttons)


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
