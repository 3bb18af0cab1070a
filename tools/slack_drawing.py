"""Block Kit as HTML, with Slack's layout: for a look at what people will see."""

import base64
import html
import re
from typing import Any

STYLE = """
body{font:15px/1.46 Lato,"Noto Sans","DejaVu Sans","Noto Color Emoji",sans-serif;color:#1d1c1d;margin:0;background:#fff;width:740px;padding:10px}
h2{font-size:13px;color:#616061;border-bottom:1px solid #ddd;margin:26px 0 10px;padding-bottom:4px;text-transform:uppercase;letter-spacing:.04em}
h2:first-child{margin-top:4px}
.message{display:flex;gap:10px;margin:8px 0}.face{width:36px;height:36px;border-radius:6px;background:#14532d;color:#fff;font-weight:bold;
text-align:center;line-height:36px;flex:none}.person{background:#7a5230}.who{font-weight:900}.when{color:#616061;font-size:12px;margin-left:6px}
.app{background:#ececec;color:#616061;font-size:10px;border-radius:2px;padding:1px 4px;margin-left:6px;font-weight:bold}
.only{color:#616061;font-size:12px}.thread{margin-left:46px;border-left:3px solid #eee;padding-left:10px}
.body{flex:1;min-width:0}.header{font-size:18px;font-weight:900;margin:6px 0}.section{margin:6px 0;display:flex;justify-content:space-between;gap:12px}
.fields{display:grid;grid-template-columns:1fr 1fr;gap:6px 14px;margin:6px 0}.context{color:#616061;font-size:13px;margin:4px 0}
.actions{display:flex;flex-wrap:wrap;gap:8px;margin:8px 0}.button{border:1px solid #bbb;border-radius:4px;padding:4px 12px;font-weight:700;white-space:nowrap;align-self:flex-start}
.primary{background:#007a5a;border-color:#007a5a;color:#fff}.danger{background:#e01e5a;border-color:#e01e5a;color:#fff}
.select{border:1px solid #bbb;border-radius:4px;padding:4px 10px;min-width:180px;color:#444;white-space:nowrap;align-self:flex-start}
.radio{display:block;margin:3px 0}.radio small,.select small{color:#616061}img{max-width:480px;max-height:420px;border-radius:8px;border:1px solid #ddd;display:block}
hr{border:0;border-top:1px solid #ddd}code{background:#f6f6f6;border:1px solid #ddd;border-radius:3px;padding:0 3px;color:#c01343;font-size:12px}
.modal{border:1px solid #bbb;border-radius:8px;box-shadow:0 2px 14px #0003;padding:14px 18px;margin:10px 46px}.label{font-weight:700;margin-top:10px}
.input{border:1px solid #bbb;border-radius:4px;padding:5px 10px;margin:3px 0;white-space:pre-line}.hint{color:#616061;font-size:13px}
.file{border:1px solid #ddd;border-radius:8px;padding:8px 12px;display:inline-block;margin:4px 0}.wrong{color:#e01e5a;font-size:13px}
"""


def text_of(item: dict[str, Any]) -> str:
    """A text object as HTML: Slack's escapes are HTML's, its marks become tags."""
    shown = html.escape(html.unescape(item["text"]), quote=False)
    if item["type"] == "mrkdwn":
        shown = re.sub(r"&lt;@(\w+)&gt;", r'<b style="color:#1264a3">@\1</b>', shown)
        shown = re.sub(r"&lt;(https?://[^|]+)\|([^&]+)&gt;", r'<a href="\1">\2</a>', shown)
        shown = re.sub(r"`([^`\n]+)`", r"<code>\1</code>", shown)
        shown = re.sub(r"(?<![\w*])\*([^*\n]+)\*(?![\w*])", r"<b>\1</b>", shown)
        shown = re.sub(r"(?<![\w_])_([^_\n]+)_(?![\w_])", r"<i>\1</i>", shown)
    return shown.replace("\n", "<br>")


class Drawer:
    """Block Kit as HTML. `files` are what the server holds, `names` what people are called, by id."""

    def __init__(self, files: dict[str, dict[str, Any]], names: dict[str, str]) -> None:
        self.files = files
        self.names = names

    def message(self, message: dict[str, Any], *, thread: bool = True, only: str = "") -> str:
        """One message with its author; `only` says who alone sees it."""
        who = self.names.get(str(message.get("user")), "") if not only and not message.get("bot_id") else ""
        blocks = message.get("blocks") or (
            [{"type": "section", "text": {"type": "mrkdwn", "text": message["text"]}}] if message.get("text") else []
        )
        drawn = "".join(self.block(block) for block in blocks)
        for file in message.get("files") or ():
            known = self.files[file if isinstance(file, str) else file["id"]]
            drawn += f'<div class="file">📄 <b>{html.escape(known["name"])}</b> <small>{len(known["content"]):,} bytes</small></div>'
        for user, name in self.names.items():
            drawn = drawn.replace(f"@{user}", f"@{name}")
        note = f'<div class="only">👁 Only visible to {only}</div>' if only else ""
        face, tag, shade = (who[0], "", "person") if who else ("S", '<span class="app">APP</span>', "")
        named = f'<span class="who">{who or "Stationmaster"}</span>{tag}'
        body = f'<div class="message"><div class="face {shade}">{face}</div><div class="body">{note}{named}{drawn}</div></div>'
        return f'<div class="thread">{body}</div>' if thread else body

    def modal(self, view: dict[str, Any], wrong: dict[str, str] | None = None, **typed: str) -> str:
        """A dialog; `wrong` are errors by block id, as they come back in an acknowledgement, `typed` values by the names of fields."""
        blocks = "".join(
            self.block(_with_typed(block, typed))
            + (f'<div class="wrong">⚠ {html.escape(wrong[block["block_id"]])}</div>' if block.get("block_id") in (wrong or {}) else "")
            for block in view["blocks"]
        )
        buttons = "".join(
            f'<span class="button {style}">{text_of(view[name])}</span>'
            for name, style in (("close", ""), ("submit", "primary"))
            if view.get(name)
        )
        return f'<div class="modal"><div class="header">{text_of(view["title"])}</div>{blocks}<div class="actions">{buttons}</div></div>'

    def home(self, view: dict[str, Any]) -> str:
        """The App Home."""
        return "".join(self.block(block) for block in view["blocks"])

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
            optional = ' <span class="hint">(optional)</span>' if block.get("optional") else ""
            return f'<div class="label">{text_of(block["label"])}{optional}</div>{self.element(block["element"])}{hint}'
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
            asked = text_of(item.get("placeholder", {"type": "plain_text", "text": "Choose"}))
            return f'<span class="select">{text_of(chosen["text"]) if chosen else f"<small>{asked}</small>"} ▾</span>'
        if kind in ("radio_buttons", "checkboxes"):
            chosen = [one["value"] for one in [item.get("initial_option"), *item.get("initial_options", ())] if one]
            marks = "◉○" if kind == "radio_buttons" else "☑☐"
            options = (
                f'<span class="radio">{marks[0] if one["value"] in chosen else marks[1]} {text_of(one["text"])}'
                + (f" <small>{text_of(one['description'])}</small>" if "description" in one else "")
                + "</span>"
                for one in item["options"]
            )
            return f"<div>{''.join(options)}</div>"
        if kind == "file_input":
            return '<div class="input">📎 Add a file</div>'
        return f'<div class="input">{html.escape(str(item.get("initial_value", ""))) or "&nbsp;"}</div>'

    def picture(self, file_id: str) -> str:
        """An uploaded picture as a data URI."""
        return "data:image/png;base64," + base64.b64encode(self.files[file_id]["content"]).decode()


def _with_typed(block: dict[str, Any], typed: dict[str, str]) -> dict[str, Any]:
    name = str(block.get("block_id", "")).removeprefix("field:")
    return block | {"element": block["element"] | {"initial_value": typed[name]}} if name in typed and "element" in block else block


def page_of(parts: list[str]) -> str:
    """A page of drawn parts."""
    return f'<!doctype html><meta charset="utf-8"><title>Stationmaster in Slack</title><style>{STYLE}</style>{"".join(parts)}'
