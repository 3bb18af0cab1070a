"""Screens and messages drawn with rich: a chat in the terminal, buttons and menus as a person would see them elsewhere."""

from collections.abc import Iterable

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.padding import Padding
from rich.panel import Panel
from rich.progress_bar import ProgressBar as RichBar
from rich.table import Table
from rich.text import Text as RichText

from bot.terminal.pictures import PictureShelf
from core.wizard.screens import Block, Button, Facts, Menu, Message, Picture, ProgressBar, Screen, StepMark, Text, Tone

BOT = "Stationmaster"
TONES = {Tone.PLAIN: "", Tone.HEADING: "bold", Tone.HINT: "dim", Tone.GOOD: "bold green", Tone.WARNING: "yellow", Tone.ERROR: "bold red"}
MARKS = {"done": ("●", "green"), "current": ("◉", "bold cyan"), "ahead": ("○", "dim")}
STYLES = {"primary": "bold white on green", "danger": "bold white on red", "default": "bold white on grey37"}
SHOWN_OPTIONS = 8  # of a long menu


def screen_panel(screen: Screen, pictures: PictureShelf) -> RenderableType:
    """A wizard screen as one chat message."""
    parts: list[RenderableType] = []
    if screen.steps:
        parts += [step_bar(screen.steps), RichText()]
    parts.append(RichText(screen.title, style="bold"))
    if screen.notice is not None:
        parts.append(RichText(f"⚠ {screen.notice.body}", style=TONES[screen.notice.tone]))
    parts += blocks(screen.blocks, pictures)
    parts += [Padding(menu(control), (1, 0, 0, 0)) for control in screen.menus()]
    labels = [RichText(f" {form.title}… ", style=STYLES["default"]) for form in screen.forms()]
    labels += [button(item) for item in screen.buttons()]
    if labels:
        parts.append(Padding(row(labels), (1, 0, 0, 0)))
    return bubble(parts)


def message_panel(message: Message, pictures: PictureShelf, *, buttons: bool = True) -> RenderableType:
    """A message of a task's thread."""
    parts = blocks(message.blocks, pictures)
    if buttons and message.buttons:
        parts.append(Padding(row([button(item) for item in message.buttons]), (1, 0, 0, 0)))
    return bubble(parts)


def bubble(parts: list[RenderableType]) -> RenderableType:
    """Something the bot says."""
    return Panel(Group(*parts), title=f"[bold cyan]{BOT}[/]", title_align="left", border_style="cyan", padding=(0, 1))


def said(text: str) -> RenderableType:
    """Something the person says or presses."""
    return Padding(RichText.assemble(("You ", "bold magenta"), ("▸ ", "magenta"), text), (0, 0, 1, 2))


def step_bar(steps: Iterable[StepMark]) -> RichText:
    """● Dataset ── ◉ Model ── ○ Start."""
    text = RichText()
    for index, step in enumerate(steps):
        if index:
            text.append(" ── ", style="dim")
        mark, style = MARKS[step.state]
        text.append(f"{mark} {step.title}", style=style)
    return text


def blocks(items: Iterable[Block], pictures: PictureShelf) -> list[RenderableType]:
    """Texts, facts, bars and pictures, one below the other."""
    drawn: list[RenderableType] = []
    for block in items:
        if isinstance(block, Text):
            drawn.append(RichText(block.body, style=TONES[block.tone]))
        elif isinstance(block, Facts):
            drawn.append(facts(block))
        elif isinstance(block, ProgressBar):
            drawn.append(bar(block))
        elif isinstance(block, Picture):
            drawn.append(Padding(pictures.draw(block), (1, 0, 0, 0)))
    return drawn


def facts(block: Facts) -> RenderableType:
    """Names and values in two columns."""
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    table.add_column(style="dim", no_wrap=True)
    table.add_column()
    for name, value in block.rows:
        table.add_row(escape(name), escape(value))
    return Padding(Group(RichText(block.title, style="bold"), table) if block.title else table, (1, 0, 0, 0))


def bar(block: ProgressBar) -> RenderableType:
    """A bar and its caption."""
    return Padding(Group(RichBar(total=1.0, completed=block.fraction, width=50), RichText(f"  {block.caption}")), (1, 0, 0, 0))


def menu(control: Menu) -> RenderableType:
    """A menu with its options; the chosen one marked."""
    if not control.always_open:
        chosen = control.selected_label or "choose…"
        text = RichText.assemble((f"{control.label}  ", "dim"), (f"[ {chosen} ▾ ]", "bold" if control.selected else ""))
        if control.selected or control.total > SHOWN_OPTIONS:
            return RichText.assemble(text, (f"   {control.total:,} to choose from", "dim"))
        lines: list[RenderableType] = [text]
    else:
        lines = [RichText(control.label, style="dim")]
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    for option in control.options[:SHOWN_OPTIONS]:
        mark = "◉" if option.value == control.selected else "○"
        table.add_row(
            f"{mark} {escape(option.label)}", f"[dim]{escape(option.hint)}[/]", style="bold" if option.value == control.selected else ""
        )
    return Group(*lines, table)


def button(item: Button) -> RichText:
    """A button as a coloured label."""
    return RichText(f" {item.label} ", style=STYLES[item.style])


def row(labels: Iterable[RichText]) -> RichText:
    """Labels side by side, wrapped where they must be."""
    return RichText("  ").join(labels)
