"""Screens, messages and replies as Discord messages."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import discord

from bot.desk.reply import Reply
from bot.discord.custom_ids import Control, Verb
from bot.discord.dialogs import parts_of
from bot.discord.files import fitting_picture, size_of
from bot.discord.markdown import cut, escape, one_line
from bot.discord.sheet import MAX_FILES, MAX_OPTIONS, Drawn, NamedFile, Sheet
from bot.drawing import MARKS, NAVIGATION, bar
from core.errors import StationmasterError
from core.wizard.screens import (
    Block,
    Button,
    Facts,
    Form,
    Menu,
    Message,
    Option,
    OptionPage,
    Picture,
    ProgressBar,
    Screen,
    StepMark,
    Text,
    Tone,
)

MAX_OPTION = 100
MAX_OPEN_OPTIONS = 6  # that each have a button of their own
MANY_FACTS, SHORT_FACT = 4, 44  # facts, and characters of each, from which on and up to which they stand side by side
OPEN = "Open"  # on the button beside an entry of a list
COLOURS = {Tone.GOOD: 0x2ECC71, Tone.WARNING: 0xF1C40F, Tone.ERROR: 0xE74C3C}
USUAL_COLOUR = 0x5865F2
STYLES = {"default": discord.ButtonStyle.secondary, "primary": discord.ButtonStyle.primary, "danger": discord.ButtonStyle.danger}

Shown = dict[Picture, NamedFile | None]


@dataclass(frozen=True)
class MenuPage:
    """The part of a long menu that is shown, and what it was searched for."""

    action: str
    page: OptionPage
    offset: int = 0
    query: str = ""


def load_pictures(blocks: Sequence[Block], load: Callable[[Picture], bytes], limit: int) -> Shown:
    """The files of the first ten pictures, each within `limit` bytes; None where one cannot be had. Call it from a thread."""
    files: Shown = {}
    pictures = list(dict.fromkeys(block for block in blocks if isinstance(block, Picture)))[:MAX_FILES]
    for number, picture in enumerate(pictures, 1):
        try:
            data = fitting_picture(load(picture), limit // len(pictures))
            width, height = size_of(data)
        except (OSError, ValueError, StationmasterError):
            files[picture] = None
            continue
        ending = "jpg" if data[:2] == b"\xff\xd8" else "png"
        files[picture] = NamedFile(f"picture-{number}.{ending}", data, width / height)
    return files


def screen_message(screen: Screen, pictures: Shown, page: MenuPage | None = None) -> Drawn:
    """A screen of the wizard: step bar, title, blocks, menus, forms, buttons."""
    spacious = _screen_sheet(screen, pictures, page, spacious=True)
    return (_screen_sheet(screen, pictures, page, spacious=False) if spacious.crowded() else spacious).drawn()


def _screen_sheet(screen: Screen, pictures: Shown, page: MenuPage | None, *, spacious: bool) -> Sheet:
    sheet = Sheet(colour=COLOURS.get(screen.notice.tone, USUAL_COLOUR) if screen.notice else USUAL_COLOUR)
    if screen.steps:
        sheet.text(step_bar(screen.steps))
    sheet.text(f"## {_heading(screen.title)}")
    if screen.notice is not None:
        sheet.text(paragraph(screen.notice))
    draw_blocks(sheet, screen.blocks, pictures, side_by_side=True)
    for menu in screen.menus():
        sheet.gap()
        if spacious and menu.always_open and 0 < menu.total <= MAX_OPEN_OPTIONS:
            _draw_options(sheet, screen, menu)
        else:
            _draw_menu(sheet, screen, menu, page if page is not None and page.action == menu.action else None)
    sheet.gap()
    sheet.buttons([button for form in screen.forms() for button in _form_buttons(screen, form)])
    buttons = [(_control(screen, item), item.label, _style(item)) for item in screen.buttons()]
    sheet.buttons([button for button in buttons if button[0].action not in NAVIGATION])
    sheet.gap(line=True)
    sheet.buttons([button for button in buttons if button[0].action in NAVIGATION])
    return sheet


def thread_message(message: Message, pictures: Shown, mark: int, *, links: str = "") -> Drawn:
    """A message of a task's thread; `mark` names it, `links` is markdown of our own."""
    tone = next((block.tone for block in message.blocks if isinstance(block, Text) and block.tone in COLOURS), None)
    sheet = Sheet(colour=COLOURS.get(tone, USUAL_COLOUR) if tone else USUAL_COLOUR, mark=mark)
    draw_blocks(sheet, message.blocks, pictures, side_by_side=any(isinstance(block, ProgressBar) for block in message.blocks))
    sheet.text(links)
    sheet.gap()
    sheet.buttons([(desk_control(button), button.label, _style(button)) for button in message.buttons])
    return sheet.drawn()


def reply_message(reply: Reply, pictures: Shown, files: Sequence[NamedFile] = (), *, notes: Sequence[str] = ()) -> Drawn:
    """What the desk answers; `notes` are plain sentences about files that could not be sent."""
    tone = next((block.tone for block in reply.blocks if isinstance(block, Text) and block.tone in COLOURS), None)
    sheet = Sheet(colour=COLOURS.get(tone, USUAL_COLOUR) if tone else USUAL_COLOUR)
    draw_blocks(sheet, reply.blocks, pictures)
    for note in notes:
        sheet.text(escape(note))
    for file in files:
        sheet.file(file)
    buttons: list[tuple[Control, str, discord.ButtonStyle]] = []
    for control in reply.controls:
        if isinstance(control, Menu):
            sheet.menu(Control(Verb.PRESS, control.action), control.label, _options(control.options, control.selected))
        elif isinstance(control, Form):
            buttons.append((Control(Verb.FORM, control.action), control.title, STYLES["default"]))
        else:
            buttons.append((desk_control(control), control.label, _style(control)))
    sheet.gap()
    sheet.buttons(buttons)
    return sheet.drawn()


def error_message(error: StationmasterError, *buttons: tuple[Control, str, discord.ButtonStyle]) -> Drawn:
    """What went wrong and how to mend it."""
    sheet = Sheet(colour=COLOURS[Tone.ERROR])
    sheet.text(paragraph(Text(error.what, Tone.ERROR)))
    sheet.text(escape(error.remedy))
    sheet.buttons(buttons)
    return sheet.drawn()


def note_message(text: str, *buttons: tuple[Control, str, discord.ButtonStyle]) -> Drawn:
    """A few plain words."""
    sheet = Sheet()
    sheet.text(escape(text))
    sheet.buttons(buttons)
    return sheet.drawn()


def link_message(text: str, channel_id: int) -> Drawn:
    """A few plain words and the way to a thread."""
    sheet = Sheet()
    sheet.text(f"{escape(text)} <#{channel_id}>")
    return sheet.drawn()


def mark_of(key: str) -> int:
    """The number that names a message in its channel: a component's id, which Discord keeps and gives back."""
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:4]) & 0x7FFFFFFF or 1


def step_bar(steps: Sequence[StepMark]) -> str:
    """● Dataset ─ ◉ **Model** ─ ○ Start."""
    return " ─ ".join(
        f"{MARKS[step.state]} **{escape(step.title)}**" if step.state == "current" else f"{MARKS[step.state]} {escape(step.title)}"
        for step in steps
    )


def draw_blocks(sheet: Sheet, blocks: Sequence[Block], pictures: Shown, *, side_by_side: bool = False) -> None:
    """Add blocks to a sheet; `side_by_side` puts many short facts on one line, so that what is pressed below them stays in sight."""
    for block in blocks:
        if isinstance(block, Text):
            sheet.text(paragraph(block))
        elif isinstance(block, Facts) and block.buttons:
            sheet.text(f"### {_heading(block.title)}" if block.title else "")
            for (name, value), button in zip(block.rows, block.buttons, strict=True):
                sheet.beside(f"**{_heading(name)}**\n-# {_heading(value)}", desk_control(button), OPEN, _style(button))
        elif isinstance(block, Facts):
            rows = [f"**{escape(name)}** {escape(value)}".rstrip() for name, value in block.rows]
            if side_by_side and len(rows) >= MANY_FACTS and all(len(name) + len(value) < SHORT_FACT for name, value in block.rows):
                rows = [" · ".join(rows)]
            sheet.text("\n".join(([f"### {_heading(block.title)}"] if block.title else []) + rows))
        elif isinstance(block, ProgressBar):
            sheet.text(f"`{bar(block.fraction)}` {escape(block.caption)}")
        elif (file := pictures.get(block)) is not None:
            sheet.picture(file, block.alt)
        else:
            sheet.text(f"-# {_heading(block.alt)} (the picture cannot be shown)")


def paragraph(text: Text) -> str:
    """A paragraph as markdown, in its tone."""
    body = escape(text.body)
    if text.tone == Tone.HEADING:
        return f"### {_heading(text.body)}"
    if text.tone == Tone.HINT:
        return "\n".join(f"-# {line}" for line in body.splitlines() if line.strip())
    sign = {Tone.GOOD: "✅ ", Tone.WARNING: "⚠️ ", Tone.ERROR: "❌ "}.get(text.tone, "")
    return f"{sign}{body}"


def desk_control(button: Button) -> Control:
    """A button outside the wizard."""
    return Control(Verb.ASK if button.confirm else Verb.PRESS, button.action, button.value)


def _heading(text: str) -> str:
    return escape(" ".join(text.split()))


def _style(button: Button) -> discord.ButtonStyle:
    return discord.ButtonStyle.success if button.action == "start" else STYLES.get(button.style, STYLES["default"])


def _control(screen: Screen, button: Button) -> Control:
    return replace(desk_control(button), draft_id=screen.draft_id, version=screen.version)


def _form_buttons(screen: Screen, form: Form) -> list[tuple[Control, str, discord.ButtonStyle]]:
    parts = parts_of(form)
    style = STYLES["danger"] if form.errors else STYLES["default"]
    return [
        (
            Control(Verb.FORM, form.action, str(part), screen.draft_id, screen.version),
            f"{form.title} {part} of {parts}…" if parts > 1 else f"{form.title}…",
            style,
        )
        for part in range(1, parts + 1)
    ]


def _draw_options(sheet: Sheet, screen: Screen, menu: Menu) -> None:
    """A few options that are always open: each with what it means and a button of its own."""
    for option in menu.options:
        chosen = option.value == menu.selected
        words = f"{'◉' if chosen else '○'} **{_heading(option.label)}**" + (f"\n-# {_heading(option.hint)}" if option.hint.strip() else "")
        control = Control(Verb.PRESS, menu.action, str(option.value), screen.draft_id, screen.version)
        sheet.beside(words, control, "Chosen" if chosen else "Choose", STYLES["primary" if chosen else "default"])


def _draw_menu(sheet: Sheet, screen: Screen, menu: Menu, page: MenuPage | None) -> None:
    shown = page.page.options if page is not None else menu.options
    total = page.page.total if page is not None else menu.total
    offset = page.offset if page is not None else 0
    if menu.always_open and menu.total <= MAX_OPTIONS:
        lines = [
            f"{'◉' if option.value == menu.selected else '○'} **{escape(option.label)}**"
            + (f" – {escape(option.hint)}" if option.hint else "")
            for option in menu.options
        ]
        sheet.text("\n".join(lines))
    else:
        chosen = f": {escape(cut(menu.selected_label, 200))}" if menu.selected_label else ""
        sheet.text(f"**{escape(menu.label)}**{chosen}{_where(page, offset, len(shown[:MAX_OPTIONS]), total)}")
    options = _options(shown, menu.selected)
    sheet.menu(Control(Verb.PRESS, menu.action, "", screen.draft_id, screen.version), f"{menu.label}: choose…", options)
    if menu.total <= MAX_OPTIONS and (page is None or not page.query):
        return
    query = page.query if page is not None else ""
    turns = [(offset - MAX_OPTIONS, "◀ Previous"), (offset + MAX_OPTIONS, "More ▶")]
    buttons = [
        (Control(Verb.PAGE, menu.action, f"{start} {query}".rstrip(), screen.draft_id, screen.version), label, STYLES["default"])
        for start, label in turns
        if 0 <= start < total
    ]
    search = Control(Verb.SEARCH, menu.action, "", screen.draft_id, screen.version)
    buttons.append((search, f"🔍 Search {menu.label.lower()}…", STYLES["default"]))
    if query:
        buttons.append((Control(Verb.PAGE, menu.action, "0", screen.draft_id, screen.version), "Show all", STYLES["default"]))
    sheet.buttons(buttons)


def _where(page: MenuPage | None, offset: int, shown: int, total: int) -> str:
    if page is not None and page.query and not total:
        return f"\n-# nothing matches “{escape(page.query)}”"
    matching = f" matching “{escape(page.query)}”" if page is not None and page.query else ""
    if total <= shown and not matching:
        return ""
    return f"\n-# {offset + 1:,}–{offset + shown:,} of {total:,}{matching}"


def _options(options: Sequence[Option], selected: str) -> list[discord.SelectOption]:
    drawn: dict[str, discord.SelectOption] = {}
    for option in options[:MAX_OPTIONS]:
        if 0 < len(option.value) <= MAX_OPTION:
            value = str(option.value)  # slugs are members of enumerations
            drawn[value] = discord.SelectOption(
                label=one_line(option.label, MAX_OPTION),
                value=value,
                description=one_line(option.hint, MAX_OPTION) if option.hint.strip() else None,
                default=option.value == selected,
            )
    return list(drawn.values())
