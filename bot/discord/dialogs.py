"""Forms as modals of at most five inputs, filled with the values as they stand; and what comes back from them."""

from collections.abc import Iterator, Mapping
from typing import Any

import discord
from discord import ui

from bot.discord.custom_ids import Control, Verb
from bot.discord.markdown import cut, one_line
from core.wizard.screens import Field, Form, Menu

MAX_TITLE = 45
MAX_LABEL = 45
MAX_HINT = 100
MAX_INPUT = 4000
MAX_QUERY = 40  # a search travels in the custom_ids of the page buttons
FIELDS_IN_DIALOG = 5
DIALOG_SECONDS = 3600.0  # discord.py forgets a dialog that nobody sends; ours come back through `sent_values` anyhow
FILE = "file"
QUERY = "query"


class Dialog(ui.Modal):
    """A modal of ours. What is sent is read by the bot from the interaction itself, so that it also arrives after a restart."""

    async def on_submit(self, interaction: discord.Interaction) -> None:
        """Nothing: see `sent_values`."""


def part_of(form: Form, part: int) -> tuple[Field, ...]:
    """The fields of one dialog of a form, 1-based."""
    return form.fields[(part - 1) * FIELDS_IN_DIALOG : part * FIELDS_IN_DIALOG]


def parts_of(form: Form) -> int:
    """How many dialogs a form takes."""
    return max(1, -(-len(form.fields) // FIELDS_IN_DIALOG))


def form_dialog(form: Form, control: Control, part: int = 1, *, with_file: bool = False, file_needed: bool = False) -> Dialog:
    """A form's dialog; `with_file` adds an input for a file."""
    parts = parts_of(form)
    title = f"{form.title} {part} of {parts}" if parts > 1 else form.title
    dialog = Dialog(title=one_line(title, MAX_TITLE), custom_id=control.pack(), timeout=DIALOG_SECONDS)
    for field in part_of(form, part):
        hint = f"⚠ {field.error}" if field.error else field.hint
        label: ui.Label[ui.LayoutView] = ui.Label(
            text=one_line(field.label, MAX_LABEL), description=one_line(hint, MAX_HINT) if hint.strip() else None, component=_input(field)
        )
        dialog.add_item(label)
    if with_file:
        upload: ui.FileUpload[ui.LayoutView] = ui.FileUpload(
            custom_id=FILE, required=file_needed, min_values=1 if file_needed else 0, max_values=1
        )
        dialog.add_item(
            ui.Label(text="File", description="An image" if file_needed else "A zip or tar, instead of a URI", component=upload)
        )
    return dialog


def search_dialog(menu: Menu, control: Control, query: str = "") -> Dialog:
    """The dialog that searches a long menu."""
    dialog = Dialog(title=one_line(f"Search {menu.label.lower()}", MAX_TITLE), custom_id=control.pack(), timeout=DIALOG_SECONDS)
    typed: ui.TextInput[ui.LayoutView] = ui.TextInput(custom_id=QUERY, default=query or None, required=False, max_length=MAX_QUERY)
    dialog.add_item(ui.Label(text="Words", description="Leave it empty to see all", component=typed))
    return dialog


def sent_values(data: Mapping[str, Any]) -> dict[str, str]:
    """What was typed and chosen in a dialog, by the name of its field."""
    values: dict[str, str] = {}
    for component in _inputs(data.get("components") or []):
        name = str(component.get("custom_id", ""))
        if name == FILE:
            continue
        value: Any = component.get("value")
        if "values" in component:
            value = (component["values"] or [""])[0]
        values[name] = ("on" if value else "off") if isinstance(value, bool) else str(value or "")
    return values


def sent_files(data: Mapping[str, Any], interaction: discord.Interaction) -> list[discord.Attachment]:
    """The files that were sent in a dialog."""
    files = (data.get("resolved") or {}).get("attachments") or {}
    wanted = [str(value) for component in _inputs(data.get("components") or []) for value in component.get("values") or []]
    state: Any = interaction._state  # the only way to the files of a dialog that another process has opened
    return [discord.Attachment(data=files[key], state=state) for key in wanted if key in files]


def open_control(control: Control, part: int = 1) -> Control:
    """The id of the dialog that a form's button opens."""
    return Control(Verb.FORM, control.action, str(part) if control.draft_id else control.rest, control.draft_id, control.version)


def _input(field: Field) -> ui.Item[Any]:
    if field.kind == "toggle":
        return ui.Checkbox(custom_id=field.name, default=field.value.strip().lower() in ("on", "true", "yes", "1"))
    if field.kind == "choice":
        options = [
            discord.SelectOption(label=cut(choice, 100), value=choice, default=choice == field.value) for choice in field.choices[:25]
        ]
        return ui.Select(custom_id=field.name, options=options, required=field.required, min_values=1 if field.required else 0)
    length = min(MAX_INPUT, max(field.max_length, len(field.value), 1))
    return ui.TextInput(
        custom_id=field.name,
        style=discord.TextStyle.paragraph if field.kind == "paragraph" else discord.TextStyle.short,
        default=field.value[:length] or None,
        required=field.required,
        max_length=length,
    )


def _inputs(components: Any) -> Iterator[Mapping[str, Any]]:
    for component in components:
        if "component" in component:
            yield component["component"]
        elif "components" in component:
            yield from _inputs(component["components"])
        elif "custom_id" in component:
            yield component
