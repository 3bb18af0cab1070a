"""Listeners for the ways in: commands, shortcuts, mentions, messages and the App Home."""

import re
from collections.abc import Sequence
from dataclasses import replace

from slack_bolt import Ack, App, BoltContext
from slack_sdk.errors import SlackApiError

from bot.desk.datasets import import_form
from bot.once import key_of
from bot.slack.admission import caller_of
from bot.slack.caller import Caller
from bot.slack.counter import Counter, origin
from bot.slack.forms import form_view, notice_view
from bot.slack.pictures import error_code
from bot.slack.presses import opened_dialog
from bot.slack.render import VIEW_BLOCKS, reply_blocks
from bot.slack.switchboard import Switchboard
from bot.slack.text import Json, literal, unescape
from bot.slack.threads import is_ours, models_task
from bot.slack.uploads import is_archive, is_image, name_of
from bot.slack.wizard import SlackWizard
from bot.slack.words import read_order, read_wish
from core.access import Actor, Place
from core.errors import NotFoundError
from core.wizard.screens import Field, Screen

COMMANDS = {"/tasks": "tasks:list", "/datasets": "datasets:list", "/models": "models:list", "/train-help": "help:show"}
TRAIN = "train"  # callback id of the global shortcut
TRAIN_ON_MESSAGE = "train_on_message"
NO_ARCHIVE = (
    "There is no zip or tar in this message. Put your images into one, a folder for each class or with a label.csv, "
    "send it, and use this shortcut on that message."
)
NO_COMMANDS_HERE = (
    "Slack's slash commands do not work in threads. Mention me instead: `@Stationmaster train`, or type `/train` in the channel."
)
NOTHING_TO_IMPORT = "There is no file in this message. Use this on a message with a zip or tar, or with images (and a label.csv or COCO file for the labels)."
TESTED_AT_ONCE = 4
MOST_FILES = 100  # of a message, whose ids a dialog has to carry


def register(app: App, board: Switchboard, wizard: SlackWizard, counter: Counter) -> None:
    """Register the listeners."""

    def train(caller: Caller, actor: Actor, text: str) -> None:
        """Begin a conversation with what was said; a dataset that is not there is asked for instead."""
        wish = read_wish(text)

        def begin(place: Place) -> Screen:
            try:
                return board.conversation.begin(actor, place, task_type=wish.task_type, dataset=wish.dataset)
            except NotFoundError as error:
                board.tell(caller, str(error))
                return board.conversation.begin(actor, place, task_type=wish.task_type)

        wizard.begin(caller, begin)

    def obey(caller: Caller, text: str, once: str) -> None:
        """Do what a message tells the bot."""
        verb, rest = read_order(text)
        if verb == "train":
            board.later(caller, caller.user, lambda actor: train(caller, actor, rest), once=once)
        else:
            board.later(caller, caller.user, lambda actor: counter.answer(caller, actor, verb, rest, public=caller.direct), once=once)

    @app.command(re.compile(r"^/"))
    def command(ack: Ack, body: Json, context: BoltContext) -> None:
        ack()
        caller, name, text = caller_of(context), str(body["command"]), str(body.get("text") or "").strip()
        once = key_of("command", body.get("trigger_id"), name, text, caller.user)
        if name == "/train" and text.lower() != "help":
            board.later(caller, caller.user, lambda actor: train(caller, actor, text), once=once)
            return
        action = COMMANDS.get(name, "help:show")
        board.later(caller, caller.user, lambda actor: counter.answer(caller, actor, action, unescape(text)), once=once)

    @app.shortcut(TRAIN)
    def shortcut(ack: Ack, body: Json, context: BoltContext) -> None:
        ack()
        caller = caller_of(context)
        once = key_of("shortcut", body.get("trigger_id"), body.get("action_ts"), caller.user)
        board.later(caller, caller.user, lambda actor: train(caller, actor, ""), once=once)

    @app.shortcut(TRAIN_ON_MESSAGE)
    def shortcut_on_message(ack: Ack, body: Json, context: BoltContext) -> None:
        ack()
        offer_import(caller_of(context), (body.get("message") or {}).get("files") or [])

    def offer_import(caller: Caller, files: Sequence[Json]) -> None:
        taken = [file for file in files if is_archive(file)][:1] or files[:MOST_FILES]
        if not taken:
            opened_dialog(board, caller, notice_view("Train on these images", literal(NOTHING_TO_IMPORT)))
            return
        form = import_form()
        named = Field("name", "Name", "text", name_of(taken[0]).split(".")[0][:100], hint="How the dataset shall be called", required=True)
        form = replace(form, title="Train on these images", fields=(named,))
        carried = {"action": form.action, "files": [file["id"] for file in taken]}
        opened_dialog(board, caller, form_view(form, origin(caller) | carried))

    @app.event("app_mention")
    def mention(body: Json, context: BoltContext) -> None:
        event, caller = body["event"], caller_of(context)
        if event.get("bot_id") or not caller.user:
            return
        # What is begun lives in the thread of the message.
        caller = replace(caller, thread=caller.thread or caller.message, message="")
        once = key_of("event", caller.team, caller.channel, event.get("ts"))
        if archives := [file for file in event.get("files") or () if is_archive(file)]:
            bring_in(caller, archives, once)
        else:
            obey(caller, str(event.get("text") or ""), once)

    @app.event("message")
    def message(body: Json, context: BoltContext) -> None:
        event, caller = body["event"], caller_of(context)
        # Changes, joins and the bot's own messages come this way too.
        if event.get("bot_id") or event.get("subtype") not in (None, "file_share", "thread_broadcast") or not caller.user:
            return
        text, files = str(event.get("text") or ""), event.get("files") or []
        if not caller.direct and _mentions(body, text):
            return  # comes as a mention too
        thread = caller.thread
        caller = replace(caller, thread=thread or (caller.message if caller.direct else ""), message="")
        once = key_of("event", caller.team, caller.channel, event.get("ts"))
        if files and caller.thread:
            receive(caller, files, once, text)
        elif text.strip().startswith("/train") and thread:
            board.later(caller, caller.user, lambda actor: board.tell(caller, NO_COMMANDS_HERE), once=once)
        elif caller.direct and not thread:
            obey(caller, text, once)

    def receive(caller: Caller, files: Sequence[Json], once: str, text: str) -> None:
        """Files in a thread of ours or in a direct message: archives become datasets, images are tried on the thread's model."""

        def act(actor: Actor) -> None:
            with board.database.read() as session:
                if not caller.direct and not is_ours(session, actor.workspace, caller.place):
                    return
                task = models_task(session, actor.workspace, caller.place)
            archives = [file for file in files if is_archive(file)]
            images = [file for file in files if is_image(file)]
            for file in archives:
                counter.show(caller, counter.ask(caller, actor, "dataset:import", "", files=[file]))
            if task is not None:
                for file in images[:TESTED_AT_ONCE]:
                    counter.show(caller, counter.ask(caller, actor, "model:test", str(task.model_id), files=[file]))
            elif images and caller.direct and not archives:
                board.tell(caller, NO_ARCHIVE)

        board.later(caller, f"files {caller.place}", act, once=once, slow=True)

    def bring_in(caller: Caller, archives: Sequence[Json], once: str) -> None:
        def act(actor: Actor) -> None:
            for file in archives:
                counter.show(caller, counter.ask(caller, actor, "dataset:import", "", files=[file]))

        board.later(caller, f"files {caller.place}", act, once=once, slow=True)

    @app.event("app_home_opened")
    def home(body: Json, context: BoltContext) -> None:
        caller = caller_of(context)
        if body["event"].get("tab", "home") == "home" and caller.user:
            caller = replace(caller, channel="")
            board.later(caller, f"home {caller.user}", lambda actor: show_home(caller, actor), complain=context.logger.warning)

    def show_home(caller: Caller, actor: Actor) -> None:
        reply = board.desk.press(actor, caller.place, "home:show")
        blocks = reply_blocks(reply.blocks, reply.controls, limit=VIEW_BLOCKS)
        try:
            board.client(caller).views_publish(user_id=caller.user, view={"type": "home", "blocks": blocks})
        except SlackApiError as error:
            if error_code(error) != "not_enabled":  # the app has no home tab: nobody will miss it
                raise

    @app.event(re.compile(r""))
    def other(context: BoltContext) -> None:
        """Whatever else Slack sends is acknowledged."""


def _mentions(body: Json, text: str) -> bool:
    """Whether a message names the bot."""
    users = [item.get("user_id") for item in body.get("authorizations") or () if item.get("is_bot", True)]
    return any(user and f"<@{user}" in text for user in users)
