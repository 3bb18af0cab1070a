"""What Discord's side of the conversation works with: the core's doors, and the calls that are made in threads."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import discord

from bot.desk.desk import Desk
from bot.desk.reply import Reply, Upload
from bot.discord.files import fitting_files
from bot.discord.render import MenuPage, Shown, load_pictures
from bot.discord.sheet import MAX_OPTIONS, NamedFile
from core.access import Actor, Place
from core.datasets.listing import find_dataset
from core.db.session import Database
from core.db.tables import Task
from core.models.listing import find_model
from core.settings import Settings
from core.storage import Storage
from core.tasks.dispatcher import nudge
from core.wizard.conversation import Conversation, Press
from core.wizard.screens import Menu, Picture, Screen

logger = logging.getLogger(__name__)

DEFAULT_LIMIT = discord.utils.DEFAULT_FILE_SIZE_LIMIT_BYTES


@dataclass(frozen=True)
class Answer:
    """What the desk said, with everything loaded that is to be sent along."""

    reply: Reply
    pictures: Shown
    files: Sequence[NamedFile]
    notes: Sequence[str]


class Office:
    """Database, storage, settings, the wizard and the desk. All methods block: call them from a thread."""

    def __init__(self, settings: Settings, database: Database, storage: Storage) -> None:
        self.settings = settings
        self.database = database
        self.storage = storage
        self.conversation = Conversation(database, storage, settings, self._wake_queue)
        self.desk = Desk(database, storage, settings, self._wake_queue)

    def expect(self, actor: Actor, *, dataset: str = "", model: str = "") -> None:
        """Look whether what a conversation shall begin with is there.

        Raises:
            NotFoundError: when it is not.
        """
        with self.database.read() as session:
            if dataset:
                find_dataset(session, actor.workspace, dataset)
            if model:
                find_model(session, actor.workspace, model)

    def task_name(self, task_id: str) -> str:
        """The name of a task, empty when it is gone."""
        with self.database.read() as session:
            task = session.get(Task, task_id)
        return task.name if task is not None else ""

    def press(self, actor: Actor, press: Press, limit: int) -> tuple[Screen, Shown]:
        """Take a press of the wizard; returns the screen that follows and its pictures."""
        screen = self.conversation.handle(actor, press)
        return screen, self.pictures(screen, limit)

    def show(self, actor: Actor, draft_id: str, limit: int) -> tuple[Screen, Shown]:
        """The current screen of a draft, and its pictures."""
        screen = self.conversation.show(actor, draft_id)
        return screen, self.pictures(screen, limit)

    def page(self, actor: Actor, draft_id: str, action: str, query: str, offset: int, limit: int) -> tuple[Screen, Shown, MenuPage | None]:
        """The current screen with another part of a long menu; None where the menu is no longer asked for."""
        screen, pictures = self.show(actor, draft_id, limit)
        if self.menu(screen, action) is None:
            return screen, pictures, None
        found = self.conversation.options(actor, draft_id, action, query, offset, MAX_OPTIONS)
        return screen, pictures, MenuPage(action, found, offset, query)

    def menu(self, screen: Screen, action: str) -> Menu | None:
        """The menu of that action on a screen."""
        return next((menu for menu in screen.menus() if menu.action == action), None)

    def ask_desk(
        self,
        actor: Actor,
        place: Place,
        action: str,
        value: str,
        limit: int,
        values: dict[str, str] | None = None,
        uploads: tuple[Upload, ...] = (),
    ) -> Answer:
        """Press at the desk, and load what is to be sent along."""
        reply = self.desk.press(actor, place, action, value, values, uploads)
        files, notes = fitting_files(reply.files, self.storage, limit)
        used = sum(len(file.data) for file in files)
        return Answer(reply, load_pictures(reply.blocks, self.picture, max(1, limit - used)), files, notes)

    def pictures(self, screen: Screen, limit: int) -> Shown:
        """The pictures of a screen."""
        return load_pictures(screen.blocks, self.picture, limit)

    def picture(self, picture: Picture) -> bytes:
        """The bytes of a picture."""
        return self.conversation.picture(picture)

    def _wake_queue(self) -> None:
        nudge(self.database, self.settings)
