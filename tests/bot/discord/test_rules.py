"""The rules that every request of the tests is held against notice what simcord lets pass."""

from typing import Any

import pytest
from discord_rules import MAX_FILE_BYTES, problems

CONTAINER = 17


def message(*components: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"components": [{"type": CONTAINER, "components": list(components)}], "flags": 1 << 15, "allowed_mentions": {"parse": []}} | more


def text(content: str = "words") -> dict[str, Any]:
    return {"type": 10, "content": content}


def button(**more: Any) -> dict[str, Any]:
    return {"type": 1, "components": [{"type": 2, "style": 2, "custom_id": "b", "label": "Press"} | more]}


def gallery(*urls: str) -> dict[str, Any]:
    return {"type": 12, "items": [{"media": {"url": url}} for url in urls]}


def menu(number: int) -> dict[str, Any]:
    options = [{"label": f"option {item}", "value": str(item)} for item in range(number)]
    return {"type": 1, "components": [{"type": 3, "custom_id": "m", "options": options}]}


def files(number: int, size: int = 4) -> list[tuple[str, bytes]]:
    return [(f"{item}.png", b"x" * size) for item in range(number)]


def shown(number: int) -> dict[str, Any]:
    return gallery(*(f"attachment://{item}.png" for item in range(number)))


POST = ("POST", "/channels/1/messages")


def test_what_is_right_passes() -> None:
    assert not problems(*POST, message(text(), shown(2), button(emoji={"name": "🔍"}), menu(25)), files(2))


@pytest.mark.parametrize(
    ("body", "sent", "what"),
    [
        (message(shown(10), gallery("attachment://10.png")), files(11), "11 files"),
        (message(shown(1)), files(1, MAX_FILE_BYTES + 1), "0.png has"),
        (message(text(), shown(1)), [], "no file of the name 0.png"),
        (message(text(), gallery("/tmp/curves.png")), [], "not an address for a picture"),
        (message(text()), files(1), "shown nowhere"),
        (message(text(), embeds=[{"image": {"url": "attachment://gone.png"}}]), [], "embeds beside components"),
        (message(text(), embeds=[{}]), [], "embeds beside components"),
        (message(), [], "an empty container"),
        ({"components": [], "flags": 1 << 15, "allowed_mentions": {"parse": []}}, [], "an empty message"),
        (message(text("  ")), [], "a blank text"),
        (message(button(label=" ")), [], "a blank button"),
        (message(button(label="x" * 81)), [], "is too long"),
        (message(button(custom_id="x" * 101)), [], "is too long"),
        (message(button(emoji={"name": ":smile:"})), [], "no emoji"),
        (message(menu(26)), [], "is too long"),
        (message(button(), button()), [], "stands twice"),
        (message(*(text() for _ in range(40))), [], "41 components"),
        (message(text("x" * 4001)), [], "4001 characters"),
        (message(text(), allowed_mentions={"parse": ["everyone"]}), [], "may mention people"),
        (message(text()) | {"allowed_mentions": None}, [], "may mention people"),
        (message(text(), flags=0), [], "not in Components V2"),
        (message(text(), nonce="x" * 26), [], "nonce"),
    ],
)
def test_each_wrong_message_is_noticed(body: dict[str, Any], sent: list[tuple[str, bytes]], what: str) -> None:
    found = problems(*POST, body, sent)
    assert any(what in problem for problem in found), found


def choices(number: int) -> dict[str, Any]:
    return {"type": 8, "data": {"choices": [{"name": str(item), "value": str(item)} for item in range(number)]}}


def modal(number: int) -> dict[str, Any]:
    inputs = [{"type": 18, "label": "L", "component": {"type": 4, "custom_id": str(item), "style": 1}} for item in range(number)]
    return {"type": 9, "data": {"custom_id": "m", "title": "T", "components": inputs}}


def test_autocompletion_and_dialogs_have_their_limits() -> None:
    callback = ("POST", "/interactions/1/token/callback")
    assert not problems(*callback, choices(25), []) and problems(*callback, choices(26), [])
    assert not problems(*callback, modal(5), []) and problems(*callback, modal(6), [])


def test_a_request_that_nobody_has_looked_at_is_noticed() -> None:
    assert "a route that these checks do not know" in problems("DELETE", "/channels/1", None, [])[0]
    assert problems("PATCH", "/channels/1/messages/2", message(text(), allowed_mentions={"parse": ["users"]}), [])
