"""Screens, messages and replies as Block Kit, within every limit of Slack's."""

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from bot.drawing import MARKS, NAVIGATION, bar
from bot.slack.text import Json, bold, clip, clip_markup, escape, length, literal, markup, plain, shortened
from core.wizard.screens import (
    Block,
    Button,
    Control,
    Facts,
    Form,
    Menu,
    Message,
    Option,
    Picture,
    ProgressBar,
    Screen,
    StepMark,
    Text,
    Tone,
)

logger = logging.getLogger(__name__)

FileOf = Callable[[Picture], str | None]  # a picture's file at Slack; "" while it is on its way, None where it cannot be had

MESSAGE_BLOCKS = 50
VIEW_BLOCKS = 100
SECTION = 3000
ACTIONS = 25
OPTIONS = 100
RADIO_OPTIONS = 10
OPTION_TEXT = 75
OPTION_VALUE = 150
BUTTON_TEXT = 75
BUTTON_VALUE = 2000
HEADER = 150
ALT_TEXT = 2000
FALLBACK = 3000

WIZARD = "wizard"
DESK = "desk"
OPEN = "Open"  # on the button beside a row of a list
FORM = "form "  # before the action of a button that opens a form
SIGNS = {Tone.GOOD: "✅ ", Tone.WARNING: "⚠️ ", Tone.ERROR: "⛔ "}


def no_pictures(picture: Picture) -> str | None:
    """For surfaces that show none."""
    return None


def screen_blocks(screen: Screen, file_of: FileOf = no_pictures) -> list[Json]:
    """A wizard screen as the blocks of its message."""
    head: list[Json] = []
    if screen.steps:
        head.append(context(step_bar(screen.steps)))
    head.append({"type": "header", "text": plain(screen.title, HEADER)})
    if screen.notice is not None:
        head.append(text_block(screen.notice))
    return fitted(
        head + content_blocks(screen.blocks, file_of), control_blocks(screen.controls, f"{WIZARD}:{screen.draft_id}:{screen.version}")
    )


def screen_text(screen: Screen) -> str:
    """What notifications and screen readers say of a screen."""
    return fallback((screen.notice, Text(screen.title), *screen.blocks))


def message_blocks(message: Message, file_of: FileOf = no_pictures) -> list[Json]:
    """A message of a task's thread."""
    return reply_blocks(message.blocks, message.buttons, file_of)


def reply_blocks(
    blocks: Sequence[Block], controls: Sequence[Control], file_of: FileOf = no_pictures, limit: int = MESSAGE_BLOCKS
) -> list[Json]:
    """Blocks and controls of the desk; what leads from a row of a list stands beside it."""
    beside = {button for block in blocks if isinstance(block, Facts) for button in block.buttons}
    others = [control for control in controls if control not in beside]
    return fitted(content_blocks(blocks, file_of), control_blocks(others, DESK), limit)


def fallback(blocks: Iterable[Block | None]) -> str:
    """Blocks in one escaped line of text, for notifications."""
    parts: list[str] = []
    for block in blocks:
        if isinstance(block, Text):
            parts.append(block.body)
        elif isinstance(block, ProgressBar):
            parts.append(block.caption)
        elif isinstance(block, Facts):
            parts.append("; ".join(filter(None, (block.title, *(f"{name}: {value}" if value else name for name, value in block.rows)))))
        elif isinstance(block, Picture):
            parts.append(block.alt)
    return clip(" ".join(" ".join(parts).split()) or "…", FALLBACK)


def fitted(content: list[Json], controls: list[Json], limit: int = MESSAGE_BLOCKS) -> list[Json]:
    """At most `limit` blocks: controls are needed, so content gives way, and that is said."""
    room = limit - len(controls)
    if len(content) > room:
        logger.warning("%d blocks do not fit into a message", len(content) - room)
        content = [*content[: room - 1], context("_There is more than a message can hold._")]
    return content + controls


# ---------------------------------------------------------------- content


def content_blocks(blocks: Iterable[Block], file_of: FileOf) -> list[Json]:
    """Texts, facts, bars and pictures, one below the other."""
    drawn: list[Json] = []
    for block in blocks:
        if isinstance(block, Text):
            drawn.append(text_block(block))
        elif isinstance(block, Facts) and block.buttons:
            drawn += row_blocks(block, f"{DESK}:row{len(drawn)}")
        elif isinstance(block, Facts):
            drawn += facts_blocks(block)
        elif isinstance(block, ProgressBar):
            drawn.append(section(f"{bar(block.fraction)}  {literal(block.caption)}"))
        elif isinstance(block, Picture):
            drawn.append(picture_block(block, file_of(block)))
    return drawn


def text_block(block: Text) -> Json:
    """A paragraph in its tone."""
    if block.tone is Tone.HINT:
        return context(literal(block.body))
    if block.tone is Tone.HEADING:
        return section(bold(block.body))
    return section(SIGNS.get(block.tone, "") + literal(block.body))


def facts_blocks(block: Facts) -> list[Json]:
    """Names and values, a line each, in as many sections as they need."""
    lines = [bold(block.title)] if block.title else []
    for name, value in block.rows:
        line = f"{bold(name)}  {literal(value)}" if value else literal(name)
        lines.append(clip_markup(line, SECTION - 1))
    sections: list[Json] = []
    gathered: list[str] = []
    for line in lines:
        if gathered and length("\n".join([*gathered, line])) > SECTION:
            sections.append(section("\n".join(gathered)))
            gathered = []
        gathered.append(line)
    return [*sections, section("\n".join(gathered))] if gathered else sections


def row_blocks(block: Facts, prefix: str) -> list[Json]:
    """Rows of a list, each with its button beside it."""
    drawn = [section(bold(block.title))] if block.title else []
    for number, ((name, value), control) in enumerate(zip(block.rows, block.buttons, strict=True)):
        shown = button(replace(control, label=OPEN), number) | {"accessibility_label": plain(f"{OPEN} {name}", BUTTON_TEXT)["text"]}
        drawn.append(
            section("\n".join(filter(None, (bold(name), literal(value))))) | {"block_id": f"{prefix}:{number}", "accessory": shown}
        )
    return drawn


def picture_block(picture: Picture, file_id: str | None) -> Json:
    """The picture, or a line that says that it comes or cannot be had."""
    if file_id:
        alt = plain(picture.alt, ALT_TEXT)["text"]
        return {"type": "image", "slack_file": {"id": file_id}, "alt_text": alt, "title": plain(picture.alt, 250)}
    what = "is not available" if file_id is None else "is being drawn …"
    return context(f"🖼 {literal(picture.alt)}: {what}")


def step_bar(steps: Iterable[StepMark]) -> str:
    """● Dataset ── ◉ Model ── ○ Start."""
    return " ── ".join(f"{MARKS[step.state]} {bold(step.title) if step.state == 'current' else literal(step.title)}" for step in steps)


def section(text: str) -> Json:
    """A section of markup."""
    return {"type": "section", "text": markup(text, SECTION)}


def context(text: str) -> Json:
    """Small grey markup."""
    return {"type": "context", "elements": [markup(text, 2000)]}


# ---------------------------------------------------------------- controls


def control_blocks(controls: Sequence[Control], prefix: str) -> list[Json]:
    """Menus first, then forms and buttons, the way on last. Each block's id begins with `prefix`."""
    drawn: list[Json] = []
    for control in controls:
        if isinstance(control, Menu):
            drawn += menu_blocks(control, f"{prefix}:menu{len(drawn)}")
    buttons: list[Button | Form] = [control for control in controls if not isinstance(control, Menu)]
    for name, group in (
        ("buttons", [item for item in buttons if item.action not in NAVIGATION]),
        ("way", [item for item in buttons if item.action in NAVIGATION]),
    ):
        for start in range(0, len(group), ACTIONS):
            elements = [button(item, start + number) for number, item in enumerate(group[start : start + ACTIONS])]
            drawn.append({"type": "actions", "block_id": f"{prefix}:{name}{start}", "elements": elements})
    return drawn


def menu_blocks(menu: Menu, block_id: str) -> list[Json]:
    """Radio buttons where the menu shall be open and is short, else a select; one that searches where the list is long."""
    offered = options(menu.options)
    if not offered:
        return [section(f"{bold(menu.label)}\nThere is nothing to choose.")]
    if menu.always_open and menu.total <= RADIO_OPTIONS:
        return _radio(menu, block_id)
    element: Json = {"action_id": menu.action, "placeholder": plain(f"Choose: {menu.label}", 150)}
    if menu.total > min(OPTIONS, len(menu.options)):
        # Everything is found by typing; without a query the first hundred are offered.
        element |= {"type": "external_select", "min_query_length": 0, "placeholder": plain(f"Search {menu.total:,}", 150)}
        if menu.selected and fits(menu.selected):
            element["initial_option"] = option(Option(menu.selected, menu.selected_label or menu.selected))
    else:
        element |= {"type": "static_select", "options": offered}
        chosen = next((item for item in element["options"] if item["value"] == menu.selected), None)
        if chosen is not None:
            element["initial_option"] = chosen
    return [{"type": "section", "block_id": block_id, "text": markup(bold(menu.label)), "accessory": element}]


def _radio(menu: Menu, block_id: str) -> list[Json]:
    # Descriptions are cut at 75 characters; longer ones stand above, in full.
    long = any(length(escape(item.hint)) > OPTION_TEXT for item in menu.options)
    lines = [bold(menu.label), *(f"• {bold(item.label)}: {literal(item.hint)}" for item in menu.options if long and item.hint)]
    shown = options([Option(item.value, item.label) for item in menu.options] if long else menu.options)
    element: Json = {"type": "radio_buttons", "action_id": menu.action, "options": shown}
    chosen = next((item for item in shown if item["value"] == menu.selected), None)
    if chosen is not None:
        element["initial_option"] = chosen
    return [section("\n".join(lines)), {"type": "actions", "block_id": block_id, "elements": [element]}]


def options(items: Iterable[Option], limit: int = OPTIONS) -> list[Json]:
    """Options of a select; one whose value Slack could not carry is left out, and that is logged."""
    shown = []
    for item in items:
        if not fits(item.value):
            logger.warning("the option %r has too long a value for Slack", item.value)
            continue
        shown.append(option(item))
    return shown[:limit]


def fits(value: str) -> bool:
    """Whether Slack can carry the value of an option."""
    return 0 < length(escape(value)) <= OPTION_VALUE


def option(item: Option) -> Json:
    """One option of a select."""
    drawn: Json = {"text": plain(item.label, OPTION_TEXT), "value": item.value}
    if item.hint:
        drawn["description"] = plain(item.hint, OPTION_TEXT)
    return drawn


def button(item: Button | Form, number: int = 0) -> Json:
    """A button; one for a form opens its dialog. The number keeps the ids of a block apart."""
    if isinstance(item, Form):
        return {
            "type": "button",
            "action_id": f"{FORM}{item.action}#{number}",
            "text": plain(f"✏️ {item.title}…", BUTTON_TEXT),
            "value": item.action,
        }
    drawn: Json = {"type": "button", "action_id": f"{item.action}#{number}", "text": plain(item.label, BUTTON_TEXT)}
    if item.value:
        drawn["value"] = shortened(item.value, BUTTON_VALUE)
    if item.style in ("primary", "danger"):
        drawn["style"] = item.style
    if item.confirm is not None:
        drawn["confirm"] = {
            "title": plain(item.label, 100),
            "text": plain(item.confirm.question, 300),
            "confirm": plain(item.confirm.yes, 30),
            "deny": plain(item.confirm.no, 30),
            "style": "danger" if item.style == "danger" else "primary",
        }
    return drawn


def pressed_action(action_id: str) -> str:
    """The action that `button` or a menu put into an action id."""
    return action_id.rpartition("#")[0] or action_id
