#!/usr/bin/env python3
"""Draws the README's picture: the conversation of a finished demonstration, as one HTML page in three columns.

    stationmaster demo
    python tools/draw_conversation.py conversation.html
    chromium --headless --hide-scrollbars --window-size=1500,HEIGHT --screenshot=docs/conversation.png conversation.html

Screens, messages and pictures are what the wizard and the notifier made, in the home of STATIONMASTER_HOME; only the layout is ours, as no chat
looks like another. The drawn conversation is cancelled in the end.
"""

import base64
import io
import sys
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path

from PIL import Image
from rich.console import Console
from sqlalchemy import select

sys.path.insert(0, str(Path(__file__).parents[1]))

from bot.curves import drawn_curves
from bot.messages import Standing, finished_message, progress_message
from bot.terminal.commands.runtime import Runtime
from bot.terminal.demo import SAMPLES
from bot.terminal.pictures import PictureShelf
from bot.terminal.player import Line, Player
from core.access import Place
from core.db.tables import Epoch, Event, Job, Model
from core.events import Finished, Progress
from core.models.listing import card_of
from core.tasks.listing import find_task
from core.vocabulary import TaskType
from core.wizard.conversation import Press
from core.wizard.screens import Block, Button, Facts, Form, Menu, Message, Picture, ProgressBar, Screen, Text
from core.zoo import catalogue

STYLE = """
body{margin:0;padding:22px;background:#f4f5f7;color:#1d1c1d;font:14px/1.45 Inter,"Noto Sans","DejaVu Sans",sans-serif;width:1456px}
.columns{display:flex;gap:22px;align-items:flex-start}.column{flex:1;min-width:0}
.bot,.person{border-radius:10px;padding:10px 14px;margin:0 0 10px}
.bot{background:#fff;border:1px solid #dfe1e6}.person{background:#e3edff;width:fit-content;margin-left:auto;font-weight:600}
.who{font-weight:800;color:#0b6e4f;margin-bottom:2px}.title{font-weight:800;font-size:15px;margin:4px 0}.hint{color:#5e6470;font-size:13px}
.good{color:#0b6e4f;font-weight:700}.steps{font-size:12px;color:#8a909c}.steps b{color:#0b6e4f}table{border-spacing:0;margin:4px 0}
td{padding:0 12px 0 0;vertical-align:top}td:first-child{color:#5e6470;white-space:nowrap}.option{display:block;margin:1px 0}
.option small{color:#5e6470;font-size:13px}.menu{margin:6px 0}.menu .label{color:#5e6470;font-size:12px}
.select{display:inline-block;border:1px solid #c4c8d0;border-radius:6px;padding:2px 10px;font-weight:600}
.buttons{margin-top:8px;display:flex;flex-wrap:wrap;gap:6px}.button{border:1px solid #c4c8d0;border-radius:6px;padding:3px 12px;font-weight:700}
.primary{background:#0b6e4f;border-color:#0b6e4f;color:#fff}.danger{color:#c0263c;border-color:#c0263c}
.bar{height:8px;border-radius:4px;background:#e3e5ea;margin:6px 0 2px}.bar i{display:block;height:8px;border-radius:4px;background:#0b6e4f}
img{max-width:100%;border-radius:6px;border:1px solid #dfe1e6;margin-top:6px;display:block}
"""
PREVIEW_ROWS = 0.42  # of a page of thumbnails; the whole is fifty


class Drawer:
    """Screens and messages as HTML; `shelf` loads their pictures."""

    def __init__(self, shelf: PictureShelf) -> None:
        self.shelf = shelf

    def screen(self, screen: Screen) -> str:
        """A wizard screen."""
        marks = {"done": "●", "current": "◉", "ahead": "○"}
        steps = " ── ".join(
            f"<b>{marks[step.state]} {escape(step.title)}</b>" if step.state != "ahead" else f"○ {escape(step.title)}"
            for step in screen.steps
        )
        parts = [f'<div class="steps">{steps}</div>', f'<div class="title">{escape(screen.title)}</div>', *map(self.block, screen.blocks)]
        parts += map(self.menu, screen.menus())
        labels = [f'<span class="button">{escape(form.title)}…</span>' for form in screen.forms()]
        return self.bubble(parts, [*labels, *map(self.button, screen.buttons())])

    def message(self, message: Message) -> str:
        """A message of the thread."""
        return self.bubble([self.block(block) for block in message.blocks], map(self.button, message.buttons))

    def bubble(self, parts: Iterable[str], buttons: Iterable[str]) -> str:
        """Something the bot says."""
        row = "".join(buttons)
        below = f'<div class="buttons">{row}</div>' if row else ""
        return f'<div class="bot"><div class="who">Stationmaster</div>{"".join(parts)}{below}</div>'

    def block(self, block: Block) -> str:
        """One block."""
        if isinstance(block, Text):
            tones = {"heading": "title", "hint": "hint", "good": "good"}
            return f'<div class="{tones.get(block.tone, "")}">{escape(block.body)}</div>'
        if isinstance(block, Facts):
            rows = "".join(f"<tr><td>{escape(name)}</td><td>{escape(value)}</td></tr>" for name, value in block.rows)
            return f"{f'<b>{escape(block.title)}</b>' if block.title else ''}<table>{rows}</table>"
        if isinstance(block, ProgressBar):
            return f'<div class="bar"><i style="width:{block.fraction:.0%}"></i></div><div class="hint">{escape(block.caption)}</div>'
        return self.picture(block)

    def picture(self, picture: Picture) -> str:
        """A picture with what it shows; of a page of thumbnails the first rows."""
        image = Image.open(io.BytesIO(self.shelf.load(picture))).convert("RGB")
        if picture.preview is not None:
            image = image.crop((0, 0, image.width, round(image.height * PREVIEW_ROWS)))
        image.thumbnail((940, 940))
        buffer = io.BytesIO()
        image.save(buffer, "PNG")
        data = base64.b64encode(buffer.getvalue()).decode()
        return f'<img src="data:image/png;base64,{data}"><div class="hint">{escape(picture.alt)}</div>'

    def menu(self, menu: Menu) -> str:
        """A menu; open ones with their options."""
        if not menu.always_open:
            return (
                f'<div class="menu"><div class="label">{escape(menu.label)}</div>'
                f'<span class="select">{escape(menu.selected_label or "choose…")} ▾</span></div>'
            )
        options = "".join(
            f'<span class="option">{"◉" if option.value == menu.selected else "○"} {escape(option.label)}</span>' for option in menu.options
        )
        return f'<div class="menu"><div class="label">{escape(menu.label)}</div>{options}</div>'

    def button(self, button: Button) -> str:
        """A button."""
        return f'<span class="button {button.style}">{escape(button.label)}</span>'


def said(words: str) -> str:
    """Something the person says or presses."""
    return f'<div class="person">{escape(words)}</div>'


def conversation(runtime: Runtime, drawer: Drawer, name: str) -> list[str]:
    """From /train to the review, each screen as it stands when its last choice has been made."""
    player = Player(runtime.conversation, runtime.actor, Console(file=io.StringIO()), drawer.shelf, 0.0)
    place = Place("terminal", runtime.actor.person, "drawn")
    screen = runtime.conversation.begin(runtime.actor, place)
    drawn = [said("/train")]
    sample = SAMPLES[TaskType.SINGLE_LABEL]
    spec = catalogue.find_spec(sample.network, settings=runtime.settings)
    script: Sequence[tuple[Line, bool]] = (  # whether the screen is drawn before the line is spoken
        (Line("Next"), False),
        (Line("Task type", TaskType.SINGLE_LABEL.title), False),
        (Line("Next"), True),
        (Line("Dataset", sample.dataset), False),
        (Line("Next"), True),
        (Line("How to choose", "Manual select"), False),
        (Line("Family", spec.family), False),
        (Line("Variation", spec.network), False),
        (Line("Pre-training", spec.pretraining), False),
        (Line("Next"), False),  # the review names the network again
        (Line("Next"), False),
        (Line("Edit names", values={"name": name}), False),
        (Line("Next"), False),
    )
    for line, shown in script:
        press, words = player.press_for(screen, line)
        drawn += [drawer.screen(screen)] if shown else []
        drawn += [said(words)] if not isinstance(_control(screen, line), Form) and line.label != "Next" else []
        screen = runtime.conversation.handle(runtime.actor, press)
    runtime.conversation.handle(runtime.actor, Press(screen.draft_id, screen.version, "cancel"))
    return [*drawn, drawer.screen(screen), said("Start")]


def _control(screen: Screen, line: Line) -> object:
    return next(item for item in screen.controls if line.label in (getattr(item, "label", ""), getattr(item, "title", "")))


def thread(runtime: Runtime, drawer: Drawer, name: str) -> list[str]:
    """The thread of the finished task: its progress halfway, with the curves of then, and its result."""
    with runtime.database.read() as session:
        task = find_task(session, runtime.workspace, name)
        events = session.scalars(select(Event).where(Event.task_id == task.id).order_by(Event.number)).all()
        job = session.scalars(select(Job).where(Job.task_id == task.id)).one()
        model = session.get_one(Model, task.model_id)
        steps = [Progress(**event.payload) for event in events if event.kind == Progress.kind]
        half = next(step for step in steps if step.epoch > step.epochs // 2 and not step.epoch_ended and step.metric is not None)
        epochs = session.scalars(select(Epoch.values).where(Epoch.job_id == job.id, Epoch.number < half.epoch).order_by(Epoch.number)).all()
        curves = drawn_curves(job, half.metric_name, epochs)
        number, finished = next((event.number, Finished(**event.payload)) for event in events if event.kind == Finished.kind)
    load = drawer.shelf.load
    drawer.shelf.load = lambda picture: curves if picture.key == "curves of then" else load(picture)
    card = card_of(runtime.storage, model)
    result = finished_message(
        task, number, finished, model.name, f"~/.stationmaster/storage/{model.key}", seconds=job.device_seconds, card=card
    )
    task.state = "running"
    now = Standing(device="2 CPU cores", progress=half, curves=Picture("Curves so far", key="curves of then"))
    return [drawer.message(progress_message(task, now)), drawer.message(result)]


def main() -> None:
    """Draw the page."""
    runtime = Runtime.load()
    shelf = PictureShelf(Console(file=io.StringIO()), runtime.settings.home / "pictures", runtime.conversation.picture)
    drawer, name = Drawer(shelf), SAMPLES[TaskType.SINGLE_LABEL].name
    asked, told = conversation(runtime, drawer, name), thread(runtime, drawer, name)
    review = len(asked) - 2
    columns = (asked[:review], [*asked[review:], told[0]], told[1:])
    page = "".join(f'<div class="column">{"".join(column)}</div>' for column in columns)
    html = f'<!doctype html><meta charset="utf-8"><style>{STYLE}</style><div class="columns">{page}</div>'
    Path(sys.argv[1]).write_text(html, encoding="utf-8")


if __name__ == "__main__":
    main()
