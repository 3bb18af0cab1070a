"""What people can say: slash commands, and the menu on a message."""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path, PurePath
from tempfile import TemporaryDirectory
from typing import Any

import discord
from discord import app_commands

from bot.desk.gathering import one_archive
from bot.desk.reply import Upload
from bot.desk.tasks import SORT, STATE
from bot.discord import desk
from bot.discord.answers import acknowledge, answering
from bot.discord.files import received
from bot.discord.markdown import one_line
from bot.discord.office import Answer, Office
from bot.discord.people import Interaction, actor_of
from bot.discord.places import Venue, hold
from bot.discord.render import Shown, reply_message
from core.access import Actor
from core.datasets.listing import list_datasets
from core.db.tables import Dataset, Model, Task
from core.errors import ConflictError, InvalidInputError, StationmasterError
from core.models.listing import list_models
from core.tasks.listing import list_tasks
from core.tasks.states import State
from core.vocabulary import TaskType
from core.wizard.screens import Screen

Named = Dataset | Model | Task
Complete = Callable[[Interaction, str], Coroutine[Any, Any, list[app_commands.Choice[str]]]]

MAX_CHOICES = 25
MAX_SEARCH = 40  # travels in the custom_ids of the page buttons, with what else is wanted
TRAIN_ON_THESE = "Train on these images"
NAME_TRIES = 20

STATES = [app_commands.Choice(name=state.value, value=state.value) for state in State]
ORDERS = [app_commands.Choice(name="newest first", value="created"), app_commands.Choice(name="last ended first", value="finished")]
TASK_TYPES = [app_commands.Choice(name=kind.title, value=kind.value) for kind in TaskType]


def register(tree: app_commands.CommandTree[discord.Client], office: Office) -> None:
    """Put all commands on the tree."""

    @tree.command(name="train", description="Train a model: choose the task, the images, the network, and start")
    @app_commands.describe(task_type="What the model shall do", dataset="What it shall learn from")
    @app_commands.choices(task_type=TASK_TYPES)
    async def train(interaction: Interaction, task_type: str | None = None, dataset: str | None = None) -> None:
        async with answering(interaction):
            actor = actor_of(interaction, office.settings)
            limit = interaction.filesize_limit
            await desk.begin(
                interaction,
                lambda: office.expect(actor, dataset=dataset or ""),
                lambda venue: _begin(office, actor, venue, task_type, dataset, limit),
            )

    @train.autocomplete("dataset")
    async def datasets_matching(interaction: Interaction, typed: str) -> list[app_commands.Choice[str]]:
        try:
            actor = actor_of(interaction, office.settings)
            wanted = interaction.namespace.task_type
            return await asyncio.to_thread(_dataset_choices, office, actor, typed, wanted if isinstance(wanted, str) else "")
        except StationmasterError:
            return []

    @tree.command(name="tasks", description="Trainings: progress, details, stop")
    @app_commands.describe(search="Part of a name", state="Only those in this state", sort="Which come first")
    @app_commands.choices(state=STATES, sort=ORDERS)
    async def tasks(
        interaction: Interaction, search: app_commands.Range[str, 0, MAX_SEARCH] = "", state: str | None = None, sort: str | None = None
    ) -> None:
        wanted = (search, f"{STATE}{state}" if state else "", f"{SORT}{sort}" if sort else "")
        await _at_desk(office, interaction, "tasks:list", " ".join(filter(None, wanted)))

    @tree.command(name="models", description="Models: test on an image, download, retrain")
    @app_commands.describe(search="Part of a name")
    async def models(interaction: Interaction, search: app_commands.Range[str, 0, MAX_SEARCH] = "") -> None:
        await _at_desk(office, interaction, "models:list", search)

    @tree.command(name="datasets", description="Datasets: look at them, or import one from a file or an address")
    @app_commands.describe(
        search="Part of a name",
        archive="A zip or tar with images and labels, to import as a new dataset",
        address="Where to import a new dataset from, such as s3://bucket/folder",
        name="What the new dataset shall be called",
    )
    @app_commands.rename(archive="import")
    async def datasets(
        interaction: Interaction,
        search: app_commands.Range[str, 0, MAX_SEARCH] = "",
        archive: discord.Attachment | None = None,
        address: app_commands.Range[str, 0, 500] = "",
        name: app_commands.Range[str, 0, 100] = "",
    ) -> None:
        if archive is None and not address:
            await _at_desk(office, interaction, "datasets:list", search)
            return
        async with answering(interaction):
            if await acknowledge(interaction, thinking=True):
                values = {"name": name or PurePath(archive.filename if archive else address.rstrip("/")).stem, "source": address}
                await desk.take(office, interaction, "dataset:import", "", values, [archive] if archive else [])

    @tree.command(name="help", description="What I can do")
    async def help_(interaction: Interaction) -> None:
        await _at_desk(office, interaction, "help:show")

    @tree.context_menu(name=TRAIN_ON_THESE)
    async def train_on_these(interaction: Interaction, message: discord.Message) -> None:
        async with answering(interaction):
            if await acknowledge(interaction, thinking=True):
                await _import_message(office, interaction, message)

    for command, names in ((tasks, list_tasks), (models, list_models), (datasets, list_datasets)):
        command.autocomplete("search")(_completion(office, names))


def _completion(office: Office, names: Callable[..., tuple[Sequence[Named], int]]) -> Complete:
    """Completes a search with the names that hold it."""

    def search(actor: Actor, typed: str) -> list[app_commands.Choice[str]]:
        with office.database.read() as session:
            found, _ = names(session, actor.workspace, search=typed.strip()[:100], limit=MAX_CHOICES)
            unique = dict.fromkeys(" ".join(item.name.split())[:MAX_SEARCH] for item in found)
        return [app_commands.Choice(name=name, value=name) for name in unique if name]

    async def complete(interaction: Interaction, typed: str) -> list[app_commands.Choice[str]]:
        try:
            return await asyncio.to_thread(search, actor_of(interaction, office.settings), typed)
        except StationmasterError:
            return []

    return complete


async def _at_desk(office: Office, interaction: Interaction, action: str, value: str = "") -> None:
    async with answering(interaction):
        if await acknowledge(interaction, thinking=True):
            await desk.answer(office, interaction, action, value)


def _begin(office: Office, actor: Actor, venue: Venue, task_type: str | None, dataset: str | None, limit: int) -> tuple[Screen, Shown]:
    kind = TaskType(task_type) if task_type else None
    screen = office.conversation.begin(actor, venue.place, task_type=kind, dataset=dataset or "")
    return screen, office.pictures(screen, limit)


def _dataset_choices(office: Office, actor: Actor, typed: str, task_type: str) -> list[app_commands.Choice[str]]:
    kind = TaskType(task_type) if task_type in set(TaskType) else None
    with office.database.read() as session:
        found, _ = list_datasets(session, actor.workspace, task_type=kind, search=typed.strip()[:100], limit=MAX_CHOICES)
        return [app_commands.Choice(name=one_line(f"{item.name} · {item.image_count:,} images", 100), value=item.id) for item in found]


async def _import_message(office: Office, interaction: Interaction, message: discord.Message) -> None:
    """Import what a message carries; its thread says when it can be trained on.

    The message comes with the command, so reading it needs no privileged intent.
    """
    if not message.attachments:
        raise InvalidInputError(
            "There is no file in this message.",
            "Use it on a message with a zip, or with images (and a label.csv or COCO file for the labels).",
        )
    actor = actor_of(interaction, office.settings)
    async with received(message.attachments) as uploads:
        with TemporaryDirectory(prefix="stationmaster-message-") as folder:
            upload = await asyncio.to_thread(one_archive, uploads, Path(folder))
            await hold(
                interaction,
                f"Images for {interaction.user.display_name}",
                lambda venue: _import(office, actor, venue, upload, interaction.filesize_limit),
                lambda _, given: reply_message(given.reply, given.pictures),
                "The images are being imported; see",
                "The images are being imported.",
            )


def _import(office: Office, actor: Actor, venue: Venue, upload: Upload, limit: int) -> Answer:
    """Import under the file's name, or with a number behind it where that is taken."""
    stem = PurePath(upload.name).stem[:80] or "images"
    for number in range(1, NAME_TRIES):
        name = stem if number == 1 else f"{stem} {number}"
        try:
            return office.ask_desk(actor, venue.place, "dataset:import", "", limit, {"name": name}, (upload,))
        except ConflictError:
            continue
    raise ConflictError(f"There are many datasets called “{stem}” already.", "Use `/datasets import` and give a name.")
