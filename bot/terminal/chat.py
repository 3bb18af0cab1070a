"""`stationmaster chat`: the whole conversation by hand in a terminal."""

import sys
from collections.abc import Callable

from questionary import Choice
from rich.console import Console

from bot.messages import duration
from bot.notifier import Notifier
from bot.terminal.pictures import PictureShelf
from bot.terminal.prompts import Answer, ask_screen, choose
from bot.terminal.render import said, screen_panel
from bot.terminal.thread import FACE, TerminalPoster, follow
from core.access import Actor
from core.datasets.listing import list_datasets
from core.errors import InvalidInputError, StationmasterError
from core.models.listing import list_models
from core.tasks.lifecycle import stop_task
from core.tasks.listing import find_task, list_tasks
from core.vocabulary import TaskType
from core.wizard.conversation import Conversation, Press
from core.wizard.screens import Menu, OptionPage, Screen

LIST_LENGTH = 15
STOP_CHOICES = {
    "on": "Go on following",
    "leave": "Leave it running and go back",
    "keep": "Stop, keep the best model so far",
    "discard": "Stop and discard",
}


class Chat:
    """One person's conversation in one terminal."""

    def __init__(
        self,
        conversation: Conversation,
        actor: Actor,
        console: Console,
        workers: Callable[[], int | None],
        complain: Callable[[StationmasterError], None],
    ) -> None:
        self.conversation = conversation
        self.actor = actor
        self.console = console
        self.complain = complain
        self.pictures = PictureShelf(console, conversation.settings.home / "pictures", conversation.picture)
        self.poster = TerminalPoster(console, self.pictures, actor.person)
        self.notifier = Notifier(conversation.database, conversation.storage, (self.poster,), workers)

    def run(self) -> None:
        """Talk until the person leaves.

        Raises:
            InvalidInputError: where there is no keyboard to answer with.
        """
        if not sys.stdin.isatty():
            raise InvalidInputError(
                "`stationmaster chat` needs a terminal to talk with you.", "In scripts use `stationmaster task create`."
            )
        self.console.print("Hello! I train computer-vision models on your images. Arrow keys choose, Ctrl-C goes back.")
        self.news()
        draft = self.conversation.open_draft(self.actor, FACE)
        if draft is not None and self.wants_to_resume():
            self.wizard(self.conversation.show(self.actor, draft))
        while True:
            try:
                chosen = choose(
                    "What would you like to do?",
                    [
                        Choice("/train     train a model", self.train),
                        Choice("/tasks     see trainings, follow or stop one", self.tasks),
                        Choice("/datasets  see datasets", self.datasets),
                        Choice("/models    see models", self.models),
                        Choice("/quit", None),
                    ],
                )
            except (KeyboardInterrupt, EOFError):
                return
            if not callable(chosen):
                return
            try:
                chosen()
            except StationmasterError as error:
                self.complain(error)
            except (KeyboardInterrupt, EOFError):
                self.console.print()

    def news(self) -> None:
        """Tell what happened to the person's trainings while they were away."""
        self.notifier.tick()
        self.poster.settle()

    def wants_to_resume(self) -> bool:
        """Ask whether to go on with an unfinished conversation."""
        try:
            return bool(
                choose("You have an unfinished conversation.", [Choice("Go on with it", True), Choice("Leave it for later", False)])
            )
        except (KeyboardInterrupt, EOFError):
            return False

    def train(self) -> None:
        """/train: a new conversation, and then its thread."""
        self.wizard(self.conversation.begin(self.actor, self.poster.place))

    def wizard(self, screen: Screen) -> None:
        """Show and answer screens until the conversation has ended; Ctrl-C leaves it to be gone on with later."""
        while True:
            self.console.print(screen_panel(screen, self.pictures))
            if screen.ended:
                break
            try:
                answer = ask_screen(screen, self.searcher(screen))
            except (KeyboardInterrupt, EOFError):
                self.console.print("Left for later: `stationmaster chat` goes on with it.", style="dim")
                return
            screen = self.answer(screen, answer)
        if screen.task_id:
            self.follow(screen.task_id)

    def answer(self, screen: Screen, answer: Answer) -> Screen:
        """Press what the person chose, and show that they did."""
        self.console.print(said(answer.said))
        return self.conversation.handle(
            self.actor, Press(screen.draft_id, screen.version, answer.action, answer.value, answer.values or {})
        )

    def searcher(self, screen: Screen) -> Callable[[Menu, str, int, int], OptionPage]:
        """How the menus of a screen are searched."""
        return lambda menu, query, offset, limit: self.conversation.options(self.actor, screen.draft_id, menu.action, query, offset, limit)

    def follow(self, task_id: str) -> None:
        """Show a task's thread until it ends; Ctrl-C asks what to do."""
        self.console.print("Ctrl-C: leave it running, or stop it.", style="dim")
        while True:
            try:
                follow(self.notifier, self.poster, lambda: not self._ended(task_id))
                self.news()
                return
            except KeyboardInterrupt:
                try:
                    chosen = choose("And now?", [Choice(text, value) for value, text in STOP_CHOICES.items()])
                except (KeyboardInterrupt, EOFError):
                    return
            if chosen == "leave":
                self.console.print("It goes on training. /tasks shows it.", style="dim")
                return
            if chosen in ("keep", "discard"):
                with self.conversation.database.write() as session:
                    stop_task(session, self.actor, find_task(session, self.actor.workspace, task_id), str(chosen))

    def _ended(self, task_id: str) -> bool:
        with self.conversation.database.read() as session:
            task = find_task(session, self.actor.workspace, task_id)
            return task.state in ("finished", "stopped", "error")

    def tasks(self) -> None:
        """/tasks: the newest, to follow or stop."""
        with self.conversation.database.read() as session:
            tasks, total = list_tasks(session, self.actor.workspace, limit=LIST_LENGTH)
        if not tasks:
            self.console.print("No training yet: /train starts one.")
            return
        choices = [Choice(f"{task.name}  {task.state} · {task.network} · {task.created_at:%Y-%m-%d %H:%M}", task) for task in tasks]
        task = choose(f"The newest of {total:,} tasks", [*choices, Choice("↩ back", None)])
        if task is None:
            return
        if task.state in ("waiting", "running", "stopping"):
            self.follow(task.id)
            return
        if task.started_at and task.finished_at:
            seconds = (task.finished_at - task.started_at).total_seconds()
            self.console.print(f"Trained for {duration(seconds)}. `stationmaster task show {task.id}` has everything.")

    def datasets(self) -> None:
        """/datasets: what there is."""
        with self.conversation.database.read() as session:
            found, total = list_datasets(session, self.actor.workspace, limit=LIST_LENGTH)
            lines = [f"{item.name}  {item.image_count:,} images" for item in found]
        self.console.print(
            "\n".join(lines) or "No dataset yet: `stationmaster dataset import PATH --name NAME` brings one in.", markup=False
        )
        if total > len(lines):
            self.console.print(f"… and {total - len(lines):,} more: `stationmaster dataset list`.", style="dim")

    def models(self) -> None:
        """/models: what there is."""
        with self.conversation.database.read() as session:
            found, total = list_models(session, self.actor.workspace, limit=LIST_LENGTH)
            lines = [f"{item.name}  {TaskType(item.task_type).title} · {item.network} · {len(item.classes)} classes" for item in found]
        self.console.print("\n".join(lines) or "No model yet: /train makes one.", markup=False)
        if total > len(lines):
            self.console.print(f"… and {total - len(lines):,} more: `stationmaster model list`.", style="dim")
