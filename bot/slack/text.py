"""Text for Slack: what people wrote is escaped, formats nothing and mentions nobody, and is cut to Slack's limits."""

import html
import re
from typing import Any

Json = dict[str, Any]

ELLIPSIS = "…"
# At the beginning of a word these would begin bold, italic, struck-out or code text.
_FORMATTING = re.compile(r"(?<!\w)([*_~`])(?=\S)")
_JOINER = "\u2060"  # takes no room and joins nothing to it


def escape(text: str) -> str:
    """Slack's three control characters as entities: no link, no mention and no channel name is made of the text."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def unescape(text: str) -> str:
    """The text of a person's message or command as they typed it."""
    return html.unescape(text)


def literal(text: str) -> str:
    """Escaped, and no character of it formats."""
    return _FORMATTING.sub(rf"\1{_JOINER}", escape(text))


def bold(text: str) -> str:
    """Bold, whatever stands in it; empty for empty text."""
    text = escape(" ".join(text.split())).replace("*", "∗")
    return f"*{text}*" if text else ""


def length(text: str) -> int:
    """How long Slack takes a text to be: characters beyond the basic plane, such as emoji, count twice."""
    return len(text) + sum(character > "\uffff" for character in text)


def clip(text: str, limit: int) -> str:
    """Escaped, and cut so that it has at most `limit` characters; an entity is never cut in two."""
    escaped = escape(text)
    if length(escaped) <= limit:
        return escaped
    kept, room = [], limit - length(ELLIPSIS)
    for character in text:
        piece = escape(character)
        room -= length(piece)
        if room < 0:
            break
        kept.append(piece)
    return "".join(kept).rstrip() + ELLIPSIS


def shortened(text: str, limit: int) -> str:
    """The beginning of a text, of at most `limit` characters as Slack counts them."""
    cut = text[:limit]
    while length(cut) > limit:
        cut = cut[:-1]
    return cut


def clip_markup(markup: str, limit: int) -> str:
    """Markup that is escaped already, cut to `limit` characters at a blank or a line's end where there is one."""
    if length(markup) <= limit:
        return markup
    room = limit - 3  # for the ellipsis, and for closing what is open
    cut = shortened(markup, room)
    place = max(cut.rfind("\n"), cut.rfind(" "))
    cut = cut[:place] if place > limit // 2 else re.sub(r"&[a-z]{0,4}$", "", cut)
    # A code or bold mark that was opened is closed again.
    for mark in ("`", "*"):
        if cut.count(mark) % 2:
            cut += mark
    return cut + ELLIPSIS


def plain(text: str, limit: int) -> Json:
    """A plain-text object; text is never empty, which Slack refuses."""
    return {"type": "plain_text", "text": clip(text.strip() or "–", limit), "emoji": False}


def markup(text: str, limit: int = 3000) -> Json:
    """A markup object of text that is escaped already; nothing of it is made into links or mentions."""
    return {"type": "mrkdwn", "text": clip_markup(text or "–", limit), "verbatim": True}
