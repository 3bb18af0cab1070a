#!/usr/bin/env python3
"""Draws what people see in Slack: a real conversation with a local Slack server, from /train to the result, as one HTML page.

    python tools/draw_slack_messages.py docs/slack-conversation.html

Every message is what the bot sent (Block Kit), drawn with Slack's layout; pictures are those that were uploaded. To make a PNG of the page:
chromium --headless --screenshot=docs/slack-conversation.png --window-size=760,4400 docs/slack-conversation.html
"""

import base64
import html
import re
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "fakes")]

STYLE = """
body{font:15px/1.46 Lato,"Noto Sans","DejaVu Sans",sans-serif;color:#1d1c1d;margin:0;background:#fff;width:740px;padding:10px}
h2{font-size:13px;color:#616061;border-bottom:1px solid #ddd;margin:26px 0 10px;padding-bottom:4px;text-transform:uppercase;letter-spacing:.04em}
.message{display:flex;gap:10px;margin:8px 0}.face{width:36px;height:36px;border-radius:6px;background:#0a7a5b;color:#fff;font-weight:bold;
text-align:center;line-height:36px;flex:none}.who{font-weight:900}.when{color:#616061;font-size:12px;margin-left:6px}
.app{background:#ececec;color:#616061;font-size:10px;border-radius:2px;padding:1px 4px;margin-left:6px;font-weight:bold}
.body{flex:1}.header{font-size:18px;font-weight:900;margin:6px 0}.section{margin:6px 0;display:flex;justify-content:space-between;gap:12px}
.fields{display:grid;grid-template-columns:1fr 1fr;gap:6px 14px;margin:6px 0}.context{color:#616061;font-size:13px;margin:4px 0}
.actions{display:flex;flex-wrap:wrap;gap:8px;margin:8px 0}.button{border:1px solid #bbb;border-radius:4px;padding:4px 12px;font-weight:700}
.primary{background:#007a5a;border-color:#007a5a;color:#fff}.danger{background:#e01e5a;border-color:#e01e5a;color:#fff}
.select{border:1px solid #bbb;border-radius:4px;padding:4px 10px;min-width:180px;color:#444;white-space:nowrap;align-self:flex-start}
.radio{display:block;margin:3px 0}.radio small,.select small{color:#616061}img{max-width:480px;border-radius:8px;border:1px solid #ddd;display:block}
hr{border:0;border-top:1px solid #ddd}code{background:#f6f6f6;border:1px solid #ddd;border-radius:3px;padding:0 3px;color:#c01343;font-size:12px}
.modal{border:1px solid #bbb;border-radius:8px;box-shadow:0 2px 14px #0003;padding:14px 18px;margin:10px 46px}.label{font-weight:700;margin-top:10px}
.input{border:1px solid #bbb;border-radius:4px;padding:5px 10px;margin:3px 0}.hint{color:#616061;font-size:13px}
"""


def text_of(item: dict[str, Any]) -> str:
    """A text object as HTML: Slack's escapes are HTML's, its marks become tags."""
    shown = html.escape(html.unescape(item["text"]))
    if item["type"] == "mrkdwn":
        shown = re.sub(r"`([^`\n]+)`", r"<code>\1</code>", shown)
        shown = re.sub(r"(?<![\w*])\*([^*\n]+)\*(?![\w*])", r"<b>\1</b>", shown)
        shown = re.sub(r"(?<![\w_])_([^_\n]+)_(?![\w_])", r"<i>\1</i>", shown)
    return shown.replace("\n", "<br>")


class Drawer:
    """Block Kit as HTML. `files` are what the server holds, by id."""

    def __init__(self, files: dict[str, dict[str, Any]]) -> None:
        self.files = files

    def message(self, message: dict[str, Any], who: str = "Stationmaster") -> str:
        """One message with its author."""
        blocks = message.get("blocks") or [{"type": "section", "text": {"type": "mrkdwn", "text": message.get("text", "")}}]
        drawn = "".join(self.block(block) for block in blocks)
        face, tag = ("S", '<span class="app">APP</span>') if who == "Stationmaster" else (who[0], "")
        return (
            f'<div class="message"><div class="face">{face}</div><div class="body"><span class="who">{who}</span>{tag}{drawn}</div></div>'
        )

    def modal(self, view: dict[str, Any]) -> str:
        """A dialog."""
        blocks = "".join(self.block(block) for block in view["blocks"])
        buttons = "".join(
            f'<span class="button {style}">{text_of(view[name])}</span>'
            for name, style in (("close", ""), ("submit", "primary"))
            if view.get(name)
        )
        return f'<div class="modal"><div class="header">{text_of(view["title"])}</div>{blocks}<div class="actions">{buttons}</div></div>'

    def block(self, block: dict[str, Any]) -> str:
        """One block."""
        kind = block["type"]
        if kind == "header":
            return f'<div class="header">{text_of(block["text"])}</div>'
        if kind == "section":
            words = f"<div>{text_of(block['text'])}</div>" if "text" in block else ""
            side = self.element(block["accessory"]) if "accessory" in block else ""
            fields = "".join(f"<div>{text_of(item)}</div>" for item in block.get("fields", ()))
            return f'<div class="section">{words}{side}</div>' + (f'<div class="fields">{fields}</div>' if fields else "")
        if kind == "context":
            return f'<div class="context">{" ".join(text_of(item) for item in block["elements"])}</div>'
        if kind == "actions":
            return f'<div class="actions">{"".join(self.element(item) for item in block["elements"])}</div>'
        if kind == "image":
            return f'<div class="context">{text_of(block["title"])}</div><img src="{self.picture(block["slack_file"]["id"])}">'
        if kind == "input":
            hint = f'<div class="hint">{text_of(block["hint"])}</div>' if "hint" in block else ""
            return f'<div class="label">{text_of(block["label"])}</div>{self.element(block["element"])}{hint}'
        if kind == "divider":
            return "<hr>"
        raise ValueError(f"a block that this cannot draw: {kind}")

    def element(self, item: dict[str, Any]) -> str:
        """One control."""
        kind = item["type"]
        if kind == "button":
            return f'<span class="button {item.get("style", "")}">{text_of(item["text"])}</span>'
        if kind in ("static_select", "external_select"):
            chosen = item.get("initial_option")
            shown = (
                text_of(chosen["text"])
                if chosen
                else f"<small>{text_of(item.get('placeholder', {'type': 'plain_text', 'text': 'Choose'}))}</small>"
            )
            return f'<span class="select">{shown} ▾</span>'
        if kind in ("radio_buttons", "checkboxes"):
            chosen = [one["value"] for one in [item.get("initial_option"), *item.get("initial_options", ())] if one]
            return (
                "<div>"
                + "".join(
                    f'<span class="radio">{"◉" if one["value"] in chosen else "○"} {text_of(one["text"])}'
                    + (f" <small>{text_of(one['description'])}</small>" if "description" in one else "")
                    + "</span>"
                    for one in item["options"]
                )
                + "</div>"
            )
        value = html.escape(str(item.get("initial_value", "")))
        return f'<div class="input">{value or "&nbsp;"}</div>'

    def picture(self, file_id: str) -> str:
        """An uploaded picture as a data URI."""
        return "data:image/png;base64," + base64.b64encode(self.files[file_id]["content"]).decode()


def converse() -> str:
    """The conversation, drawn part by part."""
    import os
    import subprocess

    from slack_person import Person
    from slack_server import APP_TOKEN, BOT_TOKEN, FakeSlack

    import bot.slack.app
    from bot.notifier import Notifier
    from bot.terminal.embedded_valkey import EmbeddedValkey
    from core.datasets.importing import import_dataset
    from core.datasets.samples import write_sample
    from core.db.migrate import upgrade
    from core.db.session import Database
    from core.settings import Settings
    from core.storage import Storage

    with tempfile.TemporaryDirectory() as folder, FakeSlack() as slack:
        os.environ |= {
            "STATIONMASTER_HOME": f"{folder}/home",
            "STATIONMASTER_SLACK_API_URL": slack.api_url,
            "STATIONMASTER_SLACK_BOT_TOKEN": BOT_TOKEN,
            "STATIONMASTER_SLACK_APP_TOKEN": APP_TOKEN,
        }
        settings = Settings()
        database, storage = Database.of(settings), Storage.of(settings)
        upgrade(database)
        source = str(write_sample("digits", Path(folder) / "digits"))
        import_dataset(database, storage, settings, workspace="default", person="slack:U0000ADA", name="digits", source=source)
        valkey = EmbeddedValkey(settings)
        valkey.start()
        worker = subprocess.Popen([sys.executable, "-m", "worker", "--kind", "gpu"], cwd=ROOT)
        face = bot.slack.app.start(settings, database, storage)
        try:
            drawer, parts = Drawer(slack.files), []
            person = Person(slack, lambda: face.board.settle(60))

            def show(title: str) -> None:
                parts.append(f"<h2>{title}</h2>" + drawer.message(person.screen()))

            person.command("/train")
            person.press("Next")
            person.choose("choose:task-type", "Single-label")
            show("In the thread of /train: what shall the model do?")
            person.press("Next")
            person.choose("choose:dataset", "digits")
            time.sleep(3)  # the preview is drawn, uploaded and waited for
            show("Which dataset? With a preview of its labelled images")
            person.press("Next")
            person.choose("choose:data-type", "Documents")
            show("Which network? A suggestion, and why")
            person.press("Next")
            person.choose("choose:tuning", "Manual")
            person.press("Data loader")
            parts.append("<h2>Typed fields open a dialog</h2>" + drawer.modal(person.opened()))
            person.choose("choose:tuning", "Auto")
            person.press("Next")
            show("Everything right?")
            person.press("Start")
            notifier = Notifier(database, storage, (face.poster,), lambda: 1)
            shown = False
            while notifier.tick():
                time.sleep(1)
                messages = slack.messages(person.channel, person.thread())
                running = next((item for item in messages if "epoch 4" in str(item["blocks"]) and "image" in str(item["blocks"])), None)
                if running is not None and not shown:
                    shown = True
                    parts.append("<h2>While it trains: one message that changes</h2>" + drawer.message(running))
            result = slack.messages(person.channel, person.thread())[-1]
            parts.append("<h2>The result, in the same thread</h2>" + drawer.message(result))
            parts.append("<h2>And one line in the channel</h2>" + drawer.message(slack.messages(person.channel)[-1]))
            if slack.violations:
                sys.exit(f"Slack would not have taken this: {slack.violations}")
        finally:
            face.stop()
            worker.terminate()
            worker.wait(60)
            valkey.stop()
    return "".join(parts)


def main() -> None:
    """Write the page."""
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    page = f'<!doctype html><meta charset="utf-8"><title>Stationmaster in Slack</title><style>{STYLE}</style>{converse()}'
    Path(sys.argv[1]).write_text(page)


if __name__ == "__main__":
    main()
