"""The desk in Slack: lists and details in messages only the presser sees or in dialogs, results in the thread, files as files."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from slack_sdk.errors import SlackApiError

from bot.desk.gathering import one_archive
from bot.desk.reply import Attachment, Reply
from bot.slack.caller import Caller
from bot.slack.forms import FIELD, FILES, form_view, view
from bot.slack.pictures import error_code
from bot.slack.render import DESK, VIEW_BLOCKS, fallback, reply_blocks, section
from bot.slack.switchboard import Switchboard
from bot.slack.text import Json, unescape
from bot.slack.uploads import fetched
from bot.slack.wizard import SlackWizard
from core.access import Actor, Place
from core.errors import StationmasterError
from core.wizard.screens import Field, Form, Screen

logger = logging.getLogger(__name__)

# These ask for something before they act.
ASKING = frozenset(
    {
        "task:rename",
        "task:delete",
        "model:test",
        "model:rename",
        "model:delete",
        "dataset:import",
        "dataset:combine",
        "dataset:rename",
        "dataset:delete",
    }
)
# These show something to the presser alone: in a dialog, where the press was on a message that all see.
LOOKING = frozenset(
    {
        "tasks:list",
        "task:show",
        "task:jobs",
        "task:curves",
        "models:list",
        "model:show",
        "model:batch",
        "datasets:list",
        "dataset:show",
        "dataset:statistics",
        "help:show",
    }
)
# These fetch files, draw, or wait for a worker.
SLOW = frozenset(
    {
        "task:jobs",
        "task:curves",
        "model:test",
        "model:test-on",
        "model:download",
        "model:export",
        "dataset:import",
        "dataset:show",
        "dataset:statistics",
    }
)
UPLOADS = {"dataset:import": "Zip or tar archive", "model:test": "Image"}
BEGINNING = frozenset({"train:begin", "model:retrain"})  # a conversation, in a thread of its own where the press was in none
# What these begin is told in a thread.
NEEDS_THREAD = {
    "dataset:import": "brings in a dataset. What is found in it follows in this thread.",
    "dataset:combine": "combines datasets. What comes of it follows in this thread.",
}
TITLES = {"task": "Training", "tasks": "Trainings", "model": "Model", "models": "Models", "dataset": "Dataset", "datasets": "Datasets"}


@dataclass(frozen=True)
class Dialog:
    """A modal that is open, and where it was opened from."""

    view: str
    caller: Caller


def noun(action: str) -> str:
    """What a dialog for an action is called."""
    return TITLES.get(action.partition(":")[0], "Stationmaster")


def is_slow(action: str) -> bool:
    """Whether others should not have to wait behind this."""
    return action.partition(" ")[0] in SLOW


def wants_dialog(action: str, caller: Caller) -> bool:
    """Whether the answer to a press belongs into a dialog."""
    name = action.partition(" ")[0]
    return name in ASKING or (name in LOOKING and (bool(caller.view) or not caller.ephemeral))


class Counter:
    """Takes presses outside the wizard to the desk, and brings the replies."""

    def __init__(self, board: Switchboard, wizard: SlackWizard) -> None:
        self.board = board
        self.wizard = wizard

    def answer(
        self, caller: Caller, actor: Actor, action: str, value: str = "", *, public: bool = False, replace_message: bool = False
    ) -> None:
        """Do what was asked for and answer in the channel: to the caller alone where the reply is private, and not `public`."""
        reply = self.ask(caller, actor, action, value)
        self.show(caller, reply, public=public, replace_message=replace_message)

    def ask(
        self, caller: Caller, actor: Actor, action: str, value: str, values: Mapping[str, str] | None = None, files: Sequence[Json] = ()
    ) -> Reply:
        """The desk's reply."""
        if action.partition(" ")[0] in BEGINNING:
            # The thread comes first, the conversation begins in it.
            self.wizard.begin(caller, lambda place: self._begun(actor, place, action, value))
            return Reply()
        if not files:
            return self.board.desk.press(actor, caller.place, action, value, values or {})
        with (
            fetched(self.board.client(caller), self.board.settings, files) as uploads,
            TemporaryDirectory(prefix="slack-archive-") as folder,
        ):
            if action.partition(" ")[0] == "dataset:import":
                uploads = (one_archive(uploads, Path(folder)),)
            return self.board.desk.press(actor, caller.place, action, value, values or {}, uploads)

    def show(self, caller: Caller, reply: Reply, *, public: bool = False, replace_message: bool = False) -> None:
        """Bring a reply to the caller."""
        client = self.board.client(caller)
        if reply.blocks or reply.controls:
            blocks = reply_blocks(reply.blocks, reply.controls, self.board.gallery.files(client, caller.team, reply.blocks))
            text = fallback(reply.blocks)
            if reply.private and not public:
                self.board.gallery.send(lambda shown: self.board.tell(caller, text, shown, replace=replace_message), blocks)
            else:
                channel, thread = self._thread(caller)
                self.board.gallery.send(
                    lambda shown: client.chat_postMessage(channel=channel, thread_ts=thread, blocks=shown, text=text, unfurl_links=False),
                    blocks,
                )
        self.send_files(caller, reply.files)

    def send_files(self, caller: Caller, files: Sequence[Attachment]) -> None:
        """Send files into the thread, or where there is none to the caller directly."""
        for file in files:
            channel, thread = self._thread(caller, direct=not caller.thread)
            data = file.data or self.board.storage.read(file.key)
            self.board.client(caller).files_upload_v2(filename=file.name, content=data, title=file.name, channel=channel, thread_ts=thread)

    # ------------------------------------------------------------ dialogs

    def fill(self, dialog: Dialog, actor: Actor, action: str, value: str) -> None:
        """Fill an open dialog with the answer to a press: a form, or something to look at."""
        if action.partition(" ")[0] == "model:test":
            self._show_form(dialog, Form(f"model:test {value}", "Test an image", (), submit="Test"))
            return
        self.show_in(dialog, action, self.ask(dialog.caller, actor, action, value))

    def show_in(self, dialog: Dialog, action: str, reply: Reply) -> None:
        """Show a reply in an open dialog."""
        caller, client = dialog.caller, self.board.client(dialog.caller)
        if reply.form is not None:
            self._show_form(dialog, reply.form)
            return
        blocks = reply_blocks(reply.blocks, reply.controls, self.board.gallery.files(client, caller.team, reply.blocks), VIEW_BLOCKS)
        self.board.gallery.send(
            lambda shown: client.views_update(view_id=dialog.view, view=view(noun(action), shown, origin(caller))),
            blocks or [section("It goes on in the thread." if action.partition(" ")[0] in BEGINNING else "Done.")],
        )
        self.send_files(caller, reply.files)

    def _show_form(self, dialog: Dialog, form: Form, *, error: str = "", values: Mapping[str, str] | None = None) -> None:
        upload = UPLOADS.get(form.action.partition(" ")[0], "")
        metadata = origin(dialog.caller) | {"action": form.action}
        self.board.client(dialog.caller).views_update(
            view_id=dialog.view, view=form_view(form, metadata, upload=upload, error=error, values=values)
        )

    def submit(self, dialog: Dialog, actor: Actor, form: Form, values: Mapping[str, str], files: Sequence[Json]) -> None:
        """Do what a sent dialog asks for; what is refused is said in the dialog, with everything typed still there."""
        action, caller = form.action, dialog.caller
        name = action.partition(" ")[0]
        root = ""
        try:
            if name in NEEDS_THREAD and not caller.thread:
                caller, root = self._rooted(caller, f"<@{caller.user}> {NEEDS_THREAD[name]}")
            reply = self.ask(caller, actor, action, "", values, files)
        except StationmasterError as error:
            if root:
                self.board.client(caller).chat_delete(channel=caller.channel, ts=root)
            self._show_form(dialog, form, error=str(error), values=values)
            return
        if not reply.private and caller.thread:
            self.show(caller, reply)
            reply = replace(reply, files=())
        self.show_in(replace(dialog, caller=caller), action, reply)

    # ------------------------------------------------------------ places

    def _rooted(self, caller: Caller, line: str) -> tuple[Caller, str]:
        """The caller in a thread of its own, and its first message."""
        client = self.board.client(caller)
        channel = caller.channel or self.board.direct_channel(caller)
        try:
            root = str(client.chat_postMessage(channel=channel, text=line, blocks=[section(line)])["ts"])
        except SlackApiError as error:
            if error_code(error) not in ("not_in_channel", "channel_not_found"):
                raise
            channel = self.board.direct_channel(caller)
            root = str(client.chat_postMessage(channel=channel, text=line, blocks=[section(line)])["ts"])
        return replace(caller, channel=channel, thread=root), root

    def _thread(self, caller: Caller, *, direct: bool = False) -> tuple[str, str | None]:
        if caller.channel and not direct:
            return caller.channel, caller.thread or None
        return self.board.direct_channel(caller), None

    def _begun(self, actor: Actor, place: Place, action: str, value: str) -> Screen:
        reply = self.board.desk.press(actor, place, action, value)
        if reply.screen is None:
            raise StationmasterError(fallback(reply.blocks))
        return reply.screen


def origin(caller: Caller) -> dict[str, Any]:
    """Where a dialog was opened from, to be carried in it."""
    return {"kind": DESK, "channel": caller.channel, "thread": caller.thread}


def returned(caller: Caller, metadata: Mapping[str, Any]) -> Caller:
    """The caller of a dialog at the place that it was opened from."""
    channel = str(metadata.get("channel") or "")
    return replace(
        caller,
        channel=channel,
        thread=str(metadata.get("thread") or ""),
        message=str(metadata.get("message") or ""),
        direct=channel.startswith("D"),
    )


def sent_form(sent: Mapping[str, Any], action: str) -> Form:
    """The form of a sent dialog, to be shown again where it is refused."""
    fields = []
    for block in sent.get("blocks") or ():
        name = str(block.get("block_id", "")).removeprefix(FIELD)
        if block.get("type") != "input" or name == FILES:
            continue
        element = block.get("element") or {}
        kind = {"checkboxes": "toggle", "static_select": "choice", "number_input": "number"}.get(str(element.get("type")), "text")
        fields.append(
            Field(
                name,
                unescape(str((block.get("label") or {}).get("text") or name)),
                kind,
                "",
                hint=unescape(str((block.get("hint") or {}).get("text") or "")),
                choices=tuple(item["value"] for item in element.get("options") or ()) if kind == "choice" else (),
                required=not block.get("optional"),
                max_length=int(element.get("max_length") or 100),
            )
        )
    title, submit = (str((sent.get(part) or {}).get("text") or "Save") for part in ("title", "submit"))
    return Form(action, title, tuple(fields), submit=submit)
