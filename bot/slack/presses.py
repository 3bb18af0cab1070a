"""Listeners for presses, menus and dialogs."""

import logging
import re
import time
from typing import Any

from slack_bolt import Ack, App, BoltContext
from slack_sdk.errors import SlackApiError, SlackClientError

from bot.once import key_of
from bot.slack.admission import caller_of
from bot.slack.caller import Caller
from bot.slack.counter import Counter, Dialog, is_slow, noun, returned, sent_form, wants_dialog
from bot.slack.forms import FIELD, counted_view, metadata_of, refused_values, typed_values, working_view
from bot.slack.pictures import error_code
from bot.slack.render import DESK, FORM, WIZARD, pressed_action
from bot.slack.switchboard import Switchboard
from bot.slack.text import Json, unescape
from bot.slack.wizard import Mark, SlackWizard, read_mark
from core.access import Actor
from core.errors import StationmasterError
from core.wizard.conversation import Press

logger = logging.getLogger(__name__)

ANY = re.compile(r"")
AFTER_ACKNOWLEDGEMENT_SECONDS = 0.5
LATE = "Slack did not let me open a dialog in time. Press again."


def register(app: App, board: Switchboard, wizard: SlackWizard, counter: Counter) -> None:
    """Register the listeners. Each acknowledges first; what opens a dialog opens it next, as its trigger lasts three seconds."""

    @app.action(ANY)
    def press(ack: Ack, body: Json, context: BoltContext) -> None:
        ack()
        take_presses(body, caller_of(context))

    def take_presses(body: Json, caller: Caller) -> None:
        for number, action in enumerate(body.get("actions") or ()):
            once = key_of("action", body.get("trigger_id"), body.get("container"), action, caller.user, number)
            mark = read_mark(str(action.get("block_id") or ""))
            if mark is not None:
                wizard_press(caller, mark, action, once)
            elif str(action.get("block_id") or "").startswith(FIELD):
                count_jobs(caller, body.get("view") or {})
            elif action.get("action_id") and "url" not in action:
                desk_press(caller, body, action, once)

    def wizard_press(caller: Caller, mark: Mark, action: Json, once: str) -> None:
        name = pressed_action(action["action_id"])
        if name.startswith(FORM):
            view_id = open_dialog(caller, action.get("text", {}).get("text", "Form"))
            if not view_id:
                return
            board.later(
                caller,
                mark.draft,
                lambda actor: wizard.open_form(caller, actor, mark, name.removeprefix(FORM), view_id),
                complain=in_dialog(caller, view_id),
            )
            return
        pressed = Press(mark.draft, mark.version, name, chosen_value(action))
        board.later(caller, mark.draft, lambda actor: wizard.press(caller, actor, pressed), once=once)

    def desk_press(caller: Caller, body: Json, action: Json, once: str) -> None:
        name, value = pressed_action(action["action_id"]), chosen_value(action)
        if caller.view:
            caller = caller if caller.home else returned(caller, metadata_of(body["view"]))
        if wants_dialog(name, caller) or (caller.view and not caller.home):
            view_id = caller.view if caller.view and not caller.home else open_dialog(caller, noun(name))
            if not view_id:
                return
            dialog = Dialog(view_id, caller)
            board.later(
                caller,
                caller.user,
                lambda actor: counter.fill(dialog, actor, name, value),
                once=once,
                slow=is_slow(name),
                complain=in_dialog(caller, view_id),
            )
            return
        board.later(
            caller,
            caller.user,
            lambda actor: counter.answer(caller, actor, name, value, replace_message=caller.ephemeral),
            once=once,
            slow=is_slow(name),
        )

    def count_jobs(caller: Caller, typed: Json) -> None:
        counted = counted_view(typed)
        if counted is None:
            return

        def show(_actor: Actor) -> None:
            try:
                board.client(caller).views_update(view_id=typed["id"], hash=typed["hash"], view=counted)
            except SlackApiError as error:
                if error_code(error) not in ("hash_conflict", "not_found"):  # it was typed on, or the dialog has been closed
                    raise

        board.later(caller, caller.user, show)

    def open_dialog(caller: Caller, title: str) -> str:
        return opened_dialog(board, caller, working_view(unescape(title).strip("✏️… "), {}))

    def in_dialog(caller: Caller, view_id: str) -> Any:
        def say(text: str) -> None:
            board.say_in_dialog(caller, view_id, text)

        return say

    @app.options(ANY)
    def search(ack: Ack, body: Json, context: BoltContext) -> None:
        mark = read_mark(str(body.get("block_id") or ""))
        found: list[Json] = []
        if mark is not None:
            try:
                found = wizard.options(caller_of(context), mark, pressed_action(body["action_id"]), unescape(str(body.get("value") or "")))
            except StationmasterError as error:
                context.logger.info("no options: %s", error)
        ack(options=found)

    @app.view(ANY)
    def submit(ack: Ack, body: Json, context: BoltContext) -> None:
        caller = caller_of(context)
        sent = body["view"]
        metadata = metadata_of(sent)
        values, files = typed_values(sent)
        if wrong := refused_values(sent, values):
            ack(response_action="errors", errors=wrong)
            return
        once = key_of("view", sent.get("id"), sent.get("hash"), body.get("trigger_id"), values)
        caller = returned(caller, metadata)
        if metadata.get("kind") == WIZARD:
            ack()
            pressed = Press(str(metadata["draft"]), int(metadata["version"]), str(metadata["action"]), values=values)
            board.later(caller, pressed.draft_id, lambda actor: wizard.press(caller, actor, pressed), once=once)
        elif metadata.get("kind") == DESK and metadata.get("action"):
            action = str(metadata["action"])
            ack(response_action="update", view=working_view(noun(action), metadata))
            dialog, form = Dialog(str(sent["id"]), caller), sent_form(sent, action)
            attached = files or [{"id": file_id} for file_id in metadata.get("files") or ()]

            def act(actor: Actor) -> None:
                # Bolt sends the acknowledgement, which itself changes the dialog, when we have returned; an answer that overtook it would be lost.
                time.sleep(AFTER_ACKNOWLEDGEMENT_SECONDS)
                counter.submit(dialog, actor, form, values, attached)

            board.later(caller, caller.user, act, once=once, slow=is_slow(action), complain=in_dialog(caller, dialog.view))
        else:
            ack()


def opened_dialog(board: Switchboard, caller: Caller, view: Json) -> str:
    """Open a dialog and return its id; empty where Slack does not let us, which the caller is told."""
    try:
        return str(board.client(caller).views_open(trigger_id=caller.trigger, view=view)["view"]["id"])
    except (SlackClientError, OSError) as error:
        # The trigger has expired, or was used by an earlier delivery of the same press.
        logger.warning("a dialog could not be opened: %s", error)
        board.tell(caller, LATE)
        return ""


def chosen_value(action: Json) -> str:
    """What a button carries, or what was chosen of a menu."""
    option = action.get("selected_option")
    if option is not None:
        return str(option.get("value") or "")
    return str(action.get("value") or "")
