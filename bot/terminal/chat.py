"""`stationmaster chat`: the whole conversation by hand in a terminal."""

import sys
import time
from collections.abc import Callable

from questionary import Choice
from rich.console import Console

from bot.desk.desk import Desk
from bot.desk.reply import Reply
from bot.notifier import Notifier
from bot.terminal.counter import Counter
from bot.terminal.ending import end_in_order
from bot.terminal.keyboard import unheard_keys
from bot.terminal.pictures import PictureShelf
from bot.terminal.prompts import Answer, ask_controls, choose
from bot.terminal.render import said, screen_panel
from bot.terminal.thread import FACE, TICK_SECONDS, TerminalPoster, follow
from core.access import Actor
from core.errors import InvalidInputError, StationmasterError
from core.tasks.actions import stop_task
from core.tasks.listing import find_task
from core.wizard.conversation import Conversation, Press
from core.wizard.screens import Menu, OptionPage, Screen

QUIT = "quit"
BEGIN = "train:begin"
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
        desk: Desk,
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
        self.counter = Counter(
            desk,
            actor,
            self.poster.place,
            console,
            self.pictures,
            conversation.settings.home / "downloads",
            complain=complain,
            follow=self.follow,
        )

    def run(self) -> None:
        """Talk until the person leaves.

        Raises:
            InvalidInputError: where there is no keyboard to answer with.
        """
        if not sys.stdin.isatty():
            raise InvalidInputError(
                "`stationmaster chat` needs a terminal to talk with you.", "In scripts use `stationmaster task create`."
            )
        end_in_order()
        self.console.print(
            "Hello! I train computer-vision models on your images. Arrow keys choose. Ctrl-C closes a list, or goes back to the "
            "main menu; a training you were setting up is kept, and /train goes on with it."
        )
        self.news()
        self.attempt(lambda: self.resume("Leave it for later"))
        while True:
            try:
                chosen = choose(
                    "What would you like to do?",
                    [
                        Choice("/train     train a model", BEGIN),
                        Choice("/tasks     trainings: follow, stop, details", "tasks:list"),
                        Choice("/datasets  datasets: look at them, import, delete", "datasets:list"),
                        Choice("/models    models: test on an image, download, retrain", "models:list"),
                        Choice("/quit", QUIT),
                    ],
                )
            except (KeyboardInterrupt, EOFError):
                return
            if chosen == QUIT:
                return
            self.attempt(lambda chosen=chosen: self.visit(chosen))  # type: ignore[misc]

    def attempt(self, what: Callable[[], object]) -> None:
        """Do something of the main menu's; where it is refused or left with Ctrl-C, the menu comes again."""
        try:
            what()
        except StationmasterError as error:
            self.complain(error)
        except (KeyboardInterrupt, EOFError):
            self.console.print()

    def visit(self, chosen: str) -> None:
        """One of the main menu's entries, until the person comes back."""
        if chosen == BEGIN and self.resume("Begin a new one"):
            return
        self.at_the_desk(lambda: self.counter.ask(chosen))
        self.watch()

    def news(self) -> None:
        """Tell what happened to the person's trainings while they were away."""
        self.notifier.tick()
        self.poster.settle()

    def resume(self, otherwise: str) -> bool:
        """Go on with an unfinished conversation where there is one and the person wants to; whether they did."""
        draft = self.conversation.open_draft(self.actor, FACE)
        if draft is None or not choose("You have an unfinished conversation.", [Choice("Go on with it", True), Choice(otherwise, False)]):
            return False
        self.wizard(self.conversation.show(self.actor, draft))
        return True

    def at_the_desk(self, talk: Callable[[], Screen | None]) -> None:
        """Whatever begins at the desk; where that is a wizard, go through it."""
        screen = talk()
        if screen is not None:
            self.wizard(screen)

    def watch(self) -> None:
        """Wait for what was given to the light worker, such as an import, and tell its end; Ctrl-C goes on without."""
        if self.notifier.tell_light_jobs(self.poster):
            self.console.print("The light worker is at it. Ctrl-C: go on without waiting; its end is told here later.", style="dim")
            try:
                with unheard_keys():
                    while self.notifier.tell_light_jobs(self.poster):
                        time.sleep(TICK_SECONDS)
            finally:
                self.poster.settle()
        self.offer_buttons()

    def offer_buttons(self) -> None:
        """What can be done with the last message of a thread."""
        buttons, self.poster.buttons = self.poster.buttons, ()
        if buttons:
            self.at_the_desk(lambda: self.counter.attend(Reply(controls=buttons)))

    def wizard(self, screen: Screen) -> None:
        """Show and answer screens until the conversation has ended; Ctrl-C leaves it to be gone on with later."""
        while True:
            self.console.print(screen_panel(screen, self.pictures))
            if screen.ended:
                break
            try:
                answer = ask_controls(screen.controls, self.searcher(screen))
            except (KeyboardInterrupt, EOFError):
                self.console.print("Left for later: /train goes on with it.", style="dim")
                return
            if answer is not None:
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
        """Show a task's thread until it ends, wherever it was started; Ctrl-C asks what to do."""
        self.console.print("Ctrl-C: leave it running, or stop it.", style="dim")
        with self.notifier.visit(self.poster, self.poster.place, task_id):
            while self._interrupted(task_id):
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
            with unheard_keys():
                self.news()
        self.offer_buttons()

    def _interrupted(self, task_id: str) -> bool:
        """Follow a task; whether that was interrupted before its end."""
        try:
            follow(self.notifier, self.poster, lambda: not self._ended(task_id))
        except KeyboardInterrupt:
            return not self._ended(task_id)
        return False

    def _ended(self, task_id: str) -> bool:
        with self.conversation.database.read() as session:
            task = find_task(session, self.actor.workspace, task_id)
            return task.state in ("finished", "stopped", "error")
