"""Presses outside the wizard: what the shared desk can do, by Discord's means."""

import asyncio
import functools
from collections.abc import Callable, Sequence
from dataclasses import replace

import discord

from bot.desk.desk import CHECKS
from bot.desk.reply import Upload
from bot.discord import typed
from bot.discord.answers import acknowledge, change, refuse, say
from bot.discord.custom_ids import Control, Verb
from bot.discord.dialogs import form_dialog, sent_files, sent_values
from bot.discord.files import received
from bot.discord.office import Answer, Office
from bot.discord.people import Interaction, actor_of, data_of, place_of
from bot.discord.places import UNNAMED, Venue, hold
from bot.discord.render import STYLES, Shown, note_message, reply_message, screen_message
from bot.discord.sheet import Drawn
from bot.messages import task_buttons
from core.access import Actor, require_owner
from core.errors import ConflictError, InvalidInputError
from core.tasks.listing import find_task
from core.wizard.screens import Confirm, Form, Screen

BEGINNINGS = ("train:begin", "model:retrain")  # these open a wizard
DIALOGS = ("rename", "delete", "import", "combine", "test")  # verbs that ask for something first
AWAITED = ("model:test-on", "model:export", "dataset:statistics")  # a light worker does these: who pressed sees that it is under way
TAKES_FILE = ("dataset:import", "model:test")
MEND = "form:mend"  # open a dialog again with what was typed


async def pressed(office: Office, interaction: Interaction, control: Control, chosen: str) -> None:
    """Take a press; `chosen` is the option of a menu."""
    value = chosen or control.rest
    if control.verb is Verb.ASK:
        await _ask(office, interaction, control)
    elif control.verb is Verb.DISMISS:
        if await acknowledge(interaction):
            await change(interaction, note_message("Nothing was changed."))
    elif control.action in BEGINNINGS:
        actor, about = actor_of(interaction, office.settings), value.strip()
        await begin(
            interaction,
            lambda: office.expect(actor, **{"dataset" if control.action == "train:begin" else "model": about}),
            lambda venue: _began(office, actor, venue, control.action, about, interaction.filesize_limit),
        )
    elif control.verb is Verb.FORM or control.action.partition(" ")[0].partition(":")[2] in DIALOGS:
        await open_dialog(office, interaction, control.action, value)
    elif control.action in AWAITED:
        if await acknowledge(interaction, thinking=True):
            await _hand_over(
                interaction, await _ask_desk(office, interaction, actor_of(interaction, office.settings), control.action, value)
            )
    elif await acknowledge(interaction):
        await answer(office, interaction, control.action, value)


async def sent(office: Office, interaction: Interaction, control: Control) -> None:
    """Take a dialog that was sent."""
    if not await acknowledge(interaction, thinking=True):
        return
    data = data_of(interaction)
    await take(office, interaction, control.action, control.rest, sent_values(data), sent_files(data, interaction))


async def take(
    office: Office,
    interaction: Interaction,
    action: str,
    value: str,
    values: dict[str, str],
    attachments: Sequence[discord.Attachment],
) -> None:
    """Hand values and files in at the desk, and show the answer where one is awaited."""
    actor = actor_of(interaction, office.settings)
    try:
        async with received(attachments) as uploads:
            if action.partition(" ")[0] in CHECKS:
                await _make_dataset(office, interaction, actor, action, value, values, uploads)
                return
            given = await _ask_desk(office, interaction, actor, action, value, values, uploads)
    except (InvalidInputError, ConflictError) as error:
        # A dialog cannot be opened from a dialog, so a button between them brings back what was typed.
        kept = await asyncio.to_thread(typed.keep, office.database, actor, action, values)
        await refuse(interaction, error, (Control(Verb.FORM, MEND, kept), "Mend it…", STYLES["primary"]))
        return
    await _hand_over(interaction, given)


async def _make_dataset(
    office: Office,
    interaction: Interaction,
    actor: Actor,
    action: str,
    value: str,
    values: dict[str, str],
    uploads: tuple[Upload, ...],
) -> None:
    """Have a dataset made, in a thread of its own: how far it is and what was left out would fill the channel."""
    await asyncio.to_thread(office.desk.check, actor, place_of(interaction), action, value, values, uploads)
    await hold(
        interaction,
        f"Images for {interaction.user.display_name}",
        lambda venue: office.ask_desk(actor, venue.place, action, value, interaction.filesize_limit, values, uploads),
        lambda _, given: _drawn(given),
        "The dataset is being made; see",
        "The dataset is being made.",
    )


async def _hand_over(interaction: Interaction, given: Answer) -> None:
    """Show an answer for which somebody waits: in place of the waiting one, or for all to see."""
    if given.reply.private:
        await change(interaction, _drawn(given))
    else:
        await change(interaction, note_message("Here it is:"))
        await say(interaction, _drawn(given), private=False)


async def answer(office: Office, interaction: Interaction, action: str, value: str = "") -> None:
    """Press at the desk and show what it says: in place in a message that only the presser sees, else in one of its own."""
    given = await _ask_desk(office, interaction, actor_of(interaction, office.settings), action, value)
    message = interaction.message
    if message is None or (message.flags.ephemeral and given.reply.private):
        await change(interaction, _drawn(given))
    else:
        await say(interaction, _drawn(given), private=given.reply.private)


async def begin(interaction: Interaction, check: Callable[[], None], start: Callable[[Venue], tuple[Screen, Shown]]) -> None:
    """Open a place for a conversation, begin it there, and tell the person where it is.

    `check` raises what speaks against it before a thread is opened; it and `start` are called in a thread of the process.
    """
    if not await acknowledge(interaction, thinking=True):
        return
    await asyncio.to_thread(check)

    def draw(venue: Venue, begun: tuple[Screen, Shown]) -> Drawn:
        screen, pictures = begun
        return screen_message(screen, pictures if venue.takes_files else {})

    title = f"{UNNAMED} {interaction.user.display_name}"
    await hold(interaction, title, start, draw, "We put your training together in", "Here we go:")


async def open_dialog(office: Office, interaction: Interaction, action: str, value: str = "") -> None:
    """Open the dialog of a form. It must be the first answer, so the form is looked up before anything is said."""
    actor, place = actor_of(interaction, office.settings), place_of(interaction)
    again: dict[str, str] = {}
    if action == MEND:
        action, again = await asyncio.to_thread(typed.bring, office.database, actor, value)
        value = ""
    name = action.partition(" ")[0]
    if name == "model:test":
        form: Form | None = Form(f"{name} {value}" if value else action, "Test an image", ())
    else:
        form = (await asyncio.to_thread(office.desk.press, actor, place, action, value)).form
    if form is None:
        if await acknowledge(interaction):
            await answer(office, interaction, action, value)
        return
    form = replace(form, fields=tuple(replace(field, value=again.get(field.name, field.value)) for field in form.fields))
    with_file = name in TAKES_FILE
    dialog = form_dialog(form, Control(Verb.FORM, form.action), with_file=with_file, file_needed=name == "model:test")
    await interaction.response.send_modal(dialog)


async def _ask(office: Office, interaction: Interaction, control: Control) -> None:
    """Discord has no question of its own before a button acts: it is put privately."""
    if not await acknowledge(interaction, thinking=True):
        return
    actor = actor_of(interaction, office.settings)
    question = await asyncio.to_thread(_question, office, actor, control, _label(interaction))
    yes = Control(Verb.PRESS, control.action, control.rest)
    no = Control(Verb.DISMISS, control.action)
    await change(interaction, note_message(question.question, (yes, question.yes, STYLES["danger"]), (no, question.no, STYLES["default"])))


def _question(office: Office, actor: Actor, control: Control, label: str) -> Confirm:
    if control.action == "task:stop":
        with office.database.read() as session:
            task = find_task(session, actor.workspace, control.rest.partition(" ")[0])
        require_owner(actor, task.created_by, "this task")
        for button in task_buttons(task):
            if button.value == control.rest and button.confirm is not None:
                return button.confirm
    return Confirm(f"{label}: are you sure?", label)


def _label(interaction: Interaction) -> str:
    """What stands on the button that was pressed."""
    if interaction.message is not None:
        view = discord.ui.LayoutView.from_message(interaction.message)
        for item in view.walk_children():
            if isinstance(item, discord.ui.Button) and item.custom_id == data_of(interaction).get("custom_id"):
                return item.label or "This"
    return "This"


def _began(office: Office, actor: Actor, venue: Venue, action: str, value: str, limit: int) -> tuple[Screen, Shown]:
    screen = office.desk.press(actor, venue.place, action, value).screen
    if screen is None:
        raise TypeError(f"{action} began no conversation")
    return screen, office.pictures(screen, limit)


async def _ask_desk(
    office: Office,
    interaction: Interaction,
    actor: Actor,
    action: str,
    value: str,
    values: dict[str, str] | None = None,
    uploads: tuple[Upload, ...] = (),
) -> Answer:
    ask = functools.partial(office.ask_desk, actor, place_of(interaction), action, value, interaction.filesize_limit, values, uploads)
    return await asyncio.to_thread(ask)


def _drawn(given: Answer) -> Drawn:
    return reply_message(given.reply, given.pictures, given.files, notes=given.notes)
