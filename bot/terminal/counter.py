"""The desk in a terminal: what it answers is printed, its buttons are offered below, its files are saved."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from bot.desk.desk import Desk
from bot.desk.paths import typed_path
from bot.desk.reply import Attachment, Reply, Upload
from bot.terminal.pictures import PictureShelf
from bot.terminal.prompts import Answer, ask_controls, ask_form, type_text
from bot.terminal.render import message_panel, said
from core.access import Actor, Place
from core.errors import InvalidInputError, StationmasterError
from core.wizard.screens import Button, Control, Form, Menu, Message, OptionPage, Screen

BACK = "↩ back"
FOLLOW = "terminal:follow"
UPLOADS = {"model:test": "Path of the image"}  # presses that bring a file along
AWAITED = ("dataset:import",)  # presses whose end is told in the thread


class Counter:
    """One person at the desk. `follow` shows the thread of a task; `downloads` is where files go."""

    def __init__(
        self,
        desk: Desk,
        actor: Actor,
        place: Place,
        console: Console,
        pictures: PictureShelf,
        downloads: Path,
        *,
        complain: Callable[[StationmasterError], None],
        follow: Callable[[str], None],
    ) -> None:
        self.desk, self.actor, self.place = desk, actor, place
        self.console, self.pictures, self.downloads = console, pictures, downloads
        self.complain, self.follow = complain, follow

    def ask(self, action: str, value: str = "") -> Screen | None:
        """Press, and go on pressing what is offered until the person goes back; the wizard's screen, where one began."""
        reply = self._press(Answer(action, "", value))
        return self.attend(reply) if reply is not None else None

    def attend(self, reply: Reply) -> Screen | None:
        """Show a reply and have its buttons pressed until the person goes back; the wizard's screen, where one began."""
        self._show(reply)
        while reply.screen is None and reply.controls:
            answer = ask_controls(reply.controls, _search, BACK)
            if answer is None:
                return None
            self.console.print(said(answer.said))
            if answer.action == FOLLOW:
                self.follow(answer.value)
                return None
            following = self._press(answer)
            if following is not None:
                self._show(following)
                if answer.action in AWAITED:
                    return None
                # A mere sentence leaves the buttons as they are.
                reply = following if following.controls or following.screen else reply
        return reply.screen

    def _press(self, answer: Answer) -> Reply | None:
        """The desk's reply, after the form that it may ask for; None where it refused, which has been said."""
        try:
            uploads = self._uploads(answer.action)
            reply = self.desk.press(self.actor, self.place, answer.action, answer.value, answer.values, uploads)
            while reply.form is not None:
                reply = self._fill_in(reply.form)
        except StationmasterError as error:
            self.complain(error)
            return None
        return _with_follow(reply)

    def _fill_in(self, form: Form) -> Reply:
        """Ask for a form's values until the desk takes them; Ctrl-C at its first field leaves it."""
        while True:
            answer = ask_form(form)
            if answer is None:
                return Reply()
            values = answer.values or {}
            try:
                return self.desk.press(self.actor, self.place, form.action, values=values)
            except InvalidInputError as error:
                self.complain(error)
                form = replace(form, fields=tuple(replace(field, value=values.get(field.name, field.value)) for field in form.fields))

    def _uploads(self, action: str) -> tuple[Upload, ...]:
        if action not in UPLOADS:
            return ()
        path = typed_path(type_text(UPLOADS[action]))
        if not path.is_file():
            raise InvalidInputError(f"{path} is no file that can be read.", "Give the path of one image file.")
        return (Upload(path.name, path),)

    def _show(self, reply: Reply) -> None:
        if reply.blocks:
            self.console.print(message_panel(Message("", reply.blocks), self.pictures))
        for file in reply.files:
            self.console.print(f"Saved: {self._save(file)}", markup=False, soft_wrap=True)

    def _save(self, file: Attachment) -> Path:
        self.downloads.mkdir(parents=True, exist_ok=True)
        path = self.downloads / file.name
        path.write_bytes(file.data or self.desk.office.storage.read(file.key))
        return path


def _search(menu: Menu, query: str, offset: int, limit: int) -> OptionPage:
    """The desk's menus hold all their options."""
    found = [option for option in menu.options if query.casefold() in option.label.casefold()]
    return OptionPage(tuple(found[offset : offset + limit]), len(found))


def _with_follow(reply: Reply) -> Reply:
    """A task that can be stopped can be followed here."""
    stop = next((control for control in reply.controls if isinstance(control, Button) and control.action == "task:stop"), None)
    if stop is None:
        return reply
    controls: tuple[Control, ...] = (Button(FOLLOW, "Follow its progress", style="primary", value=stop.value.split()[0]), *reply.controls)
    return replace(reply, controls=controls)
