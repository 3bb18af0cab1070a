"""Presses of the wizard's one message: buttons, menus, dialogs, searches."""

import asyncio
from dataclasses import replace

from bot.discord.answers import acknowledge, change, whisper
from bot.discord.custom_ids import Control, Verb
from bot.discord.dialogs import QUERY, form_dialog, open_control, search_dialog, sent_values
from bot.discord.office import Office
from bot.discord.people import Interaction, actor_of, data_of
from bot.discord.places import name_after
from bot.discord.render import STYLES, MenuPage, Shown, note_message, screen_message
from core.wizard.conversation import STALE, Press
from core.wizard.screens import Form, Menu, Screen


async def pressed(office: Office, interaction: Interaction, control: Control, chosen: str) -> None:
    """Take a press; `chosen` is the option of a menu."""
    if control.verb is Verb.FORM:
        await _open_form(office, interaction, control)
    elif control.verb is Verb.SEARCH:
        await interaction.response.send_modal(search_dialog(Menu(control.action, _noun(control.action), (), 0), control))
    elif control.verb is Verb.PAGE:
        offset, _, query = control.rest.partition(" ")
        await _turn(office, interaction, control, query, int(offset) if offset.isascii() and offset.isdigit() else 0)
    elif await acknowledge(interaction):
        if control.verb is Verb.ASK:
            await _ask(office, interaction, control)
        elif control.verb is Verb.DISMISS:
            await _back(office, interaction, control.draft_id)
        else:
            await _press(office, interaction, Press(control.draft_id, control.version, control.action, chosen or control.rest))


async def sent(office: Office, interaction: Interaction, control: Control) -> None:
    """Take a dialog that was sent: a form's values, or a search."""
    values = sent_values(data_of(interaction))
    if control.verb is Verb.SEARCH:
        await _turn(office, interaction, control, values.get(QUERY, "").strip(), 0)
        return
    if await acknowledge(interaction):
        await _press(office, interaction, Press(control.draft_id, control.version, control.action, "", values))


async def _press(office: Office, interaction: Interaction, press: Press) -> None:
    actor = actor_of(interaction, office.settings)
    screen, pictures = await asyncio.to_thread(office.press, actor, press, interaction.filesize_limit)
    await _show(interaction, screen, pictures)
    if press.action == "start" and screen.task_id and (name := await asyncio.to_thread(office.task_name, screen.task_id)):
        await name_after(interaction, name)


async def _ask(office: Office, interaction: Interaction, control: Control) -> None:
    """Discord has no question of its own before a button acts: it takes the place of the screen."""
    screen = await asyncio.to_thread(office.conversation.show, actor_of(interaction, office.settings), control.draft_id)
    question = next((button.confirm for button in screen.buttons() if button.action == control.action), None)
    if question is None or screen.version != control.version:
        await _press(office, interaction, Press(control.draft_id, control.version, control.action, control.rest))
        return
    yes, no = replace(control, verb=Verb.PRESS), replace(control, verb=Verb.DISMISS)
    await change(interaction, note_message(question.question, (yes, question.yes, STYLES["danger"]), (no, question.no, STYLES["default"])))


async def _back(office: Office, interaction: Interaction, draft_id: str) -> None:
    """The screen again, as it stands."""
    screen = await asyncio.to_thread(office.conversation.show, actor_of(interaction, office.settings), draft_id)
    await _show(interaction, screen, await asyncio.to_thread(office.pictures, screen, interaction.filesize_limit))


async def _show(interaction: Interaction, screen: Screen, pictures: Shown, page: MenuPage | None = None) -> None:
    stale = screen.notice is not None and screen.notice.body == STALE
    # That a button was out of date concerns the presser alone; everybody sees where things stand.
    await change(interaction, screen_message(replace(screen, notice=None) if stale else screen, pictures, page))
    if stale:
        await whisper(interaction, note_message(STALE))


async def _turn(office: Office, interaction: Interaction, control: Control, query: str, offset: int) -> None:
    if not await acknowledge(interaction):
        return
    actor = actor_of(interaction, office.settings)
    screen, pictures, page = await asyncio.to_thread(
        office.page, actor, control.draft_id, control.action, query, offset, interaction.filesize_limit
    )
    await _show(interaction, screen, pictures, page)
    if page is None:
        await whisper(interaction, note_message(STALE))


async def _open_form(office: Office, interaction: Interaction, control: Control) -> None:
    """A dialog must be the first answer, so the form is looked up before anything is said; that is one short read."""
    actor = actor_of(interaction, office.settings)
    screen = await asyncio.to_thread(office.conversation.show, actor, control.draft_id)
    form = _form(screen, control.action)
    part = int(control.rest) if control.rest.isascii() and control.rest.isdigit() else 1
    if form is not None:
        current = replace(control, version=screen.version)
        await interaction.response.send_modal(form_dialog(form, open_control(current, part), part))
        return
    if await acknowledge(interaction):
        pictures = await asyncio.to_thread(office.pictures, screen, interaction.filesize_limit)
        await change(interaction, screen_message(screen, pictures))
        await whisper(interaction, note_message(STALE))


def _form(screen: Screen, action: str) -> Form | None:
    return next((form for form in screen.forms() if form.action == action), None)


def _noun(action: str) -> str:
    return action.partition(":")[2].replace("-", " ") or "list"
