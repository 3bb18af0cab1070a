"""What Discord itself would refuse: every request held against its published API description, and against what that leaves unsaid.

The description says nothing of what depends on other parts of a request, nor of files. Those rules are written out below, from Discord's
documentation (https://discord.com/developers/docs: Uploading Files, Message Components, Modals, Permissions).
"""

import json
import re
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator, ValidationError

# discord_api.json: request bodies of Discord's HTTP API v10, from its published OpenAPI description (MIT), by way of discord-api-spec 10.0.266135.
DESCRIPTION = json.loads((Path(__file__).parent / "discord_api.json").read_text())

CALLBACKS = {
    4: "CreateMessageInteractionCallbackRequest",
    5: "CreateMessageInteractionCallbackRequest",
    6: "UpdateMessageInteractionCallbackRequest",
    7: "UpdateMessageInteractionCallbackRequest",
    8: "ApplicationCommandAutocompleteCallbackRequest",
    9: "ModalInteractionCallbackRequest",
}
BODIES = [
    ("POST", r"/channels/\d+/messages", "MessageCreateRequest"),
    ("PATCH", r"/channels/\d+/messages/\d+", "MessageEditRequestPartial"),
    ("POST", r"/webhooks/\d+/[^/]+", "IncomingWebhookInteractionRequest"),
    ("PATCH", r"/webhooks/\d+/[^/]+/messages/[^/]+", "IncomingWebhookUpdateForInteractionCallbackRequestPartial"),
    ("POST", r"/channels/\d+/threads", "CreateTextThreadWithoutMessageRequest"),
    ("PATCH", r"/channels/\d+", "UpdateThreadRequestPartial"),
]
WITHOUT_BODY = [
    ("GET", r"/oauth2/applications/@me"),
    ("GET", r"/channels/\d+"),
    ("GET", r"/channels/\d+/messages"),
    ("GET", r"/users/@me"),
    ("PUT", r"/channels/\d+/thread-members/\d+"),
    ("DELETE", r"/channels/\d+/messages/\d+"),
    ("DELETE", r"/webhooks/\d+/[^/]+/messages/[^/]+"),
]
NEW_MESSAGE = re.compile(r"/channels/\d+/messages|/webhooks/\d+/[^/]+")
COMPONENTS_V2 = 1 << 15
MAX_FILE_BYTES = 10 * 1024 * 1024


def problems(method: str, path: str, body: Any, files: list[tuple[str, bytes]], limit: int = MAX_FILE_BYTES) -> list[str]:
    """Everything Discord would object to in a request; empty where it is fine."""
    found = list(_described(method, path, body))
    if isinstance(body, dict):
        if method == "POST" and path.endswith("/callback"):
            if body["type"] == 8 and len(body["data"]["choices"]) > 25:
                found.append(f"{len(body['data']['choices'])} choices")
            if body["type"] == 9:
                found += _modal(body["data"])
            message = body.get("data") or {} if body["type"] in (4, 7) else None
        else:
            message = body
        if message is not None and ("components" in message or "content" in message or files):
            new = bool(method == "POST" and (NEW_MESSAGE.fullmatch(path) or path.endswith("/callback")))
            found += _message(message, files, limit, new=new)
    return [f"{method} {path}: {problem}" for problem in found]


def _described(method: str, path: str, body: Any) -> Iterator[str]:
    if method == "PUT" and re.fullmatch(r"/applications/\d+/commands", path):
        for command in body:
            yield from _invalid("ApplicationCommandUpdateRequest", command)
        return
    if method == "POST" and path.endswith("/callback"):
        yield from _invalid(CALLBACKS[body["type"]], body)
        return
    for verb, pattern, name in BODIES:
        if method == verb and re.fullmatch(pattern, path):
            yield from _invalid(name, body)
            return
    if not any(method == verb and re.fullmatch(pattern, path) for verb, pattern in WITHOUT_BODY):
        yield "a route that these checks do not know"


def _invalid(name: str, body: Any) -> Iterator[str]:
    plain = json.loads(json.dumps(body))
    for data in (plain, plain.get("data") or {}):
        for attachment in data.get("attachments") or []:
            attachment["id"] = str(attachment["id"])  # a file's index: discord.py sends the number, which Discord takes too
    schema = {"$ref": f"#/$defs/{name}", "$defs": DESCRIPTION["$defs"]}
    for error in Draft202012Validator(schema).iter_errors(plain):
        deepest = _deepest(error)
        yield f"{name} at {'/'.join(map(str, deepest.absolute_path))}: {deepest.message[-300:]}"


def _deepest(error: ValidationError) -> ValidationError:
    """What is really wrong: of several kinds of component that something might be, the complaint about the kind that it says it is."""
    while error.context:
        kinds: dict[Any, list[ValidationError]] = {}
        for inner in error.context:
            kinds.setdefault(inner.schema_path[0], []).append(inner)
        meant = [found for found in kinds.values() if not any(inner.validator == "const" for inner in found)]
        error = max((meant or list(kinds.values()))[0], key=lambda inner: len(inner.absolute_path))
    return error


def walk(components: Any) -> Iterator[dict[str, Any]]:
    """All components, nested ones too."""
    for component in components or []:
        yield component
        yield from walk(component.get("components"))
        for key in ("accessory", "component"):
            if key in component:
                yield from walk([component[key]])


def _message(message: dict[str, Any], files: list[tuple[str, bytes]], limit: int, *, new: bool) -> Iterator[str]:
    names = [name for name, _ in files]
    if len(files) > 10:
        yield f"{len(files)} files"
    if len(set(names)) < len(names):
        yield "two files of one name"
    for name, data in files:
        if len(data) > limit:
            yield f"{name} has {len(data)} bytes"
        if not data:
            yield f"{name} is empty"
        if not re.fullmatch(r"[A-Za-z0-9._-]+", name):
            yield f"Discord would change the file name {name!r}"
    if not (message.get("flags") or 0) & COMPONENTS_V2:
        yield "not in Components V2"  # an edit has to say so, too: a deferred answer is no such message yet
    if new:
        if message.get("allowed_mentions") != {"parse": []}:
            yield f"may mention people: {message.get('allowed_mentions')}"
    elif message.get("allowed_mentions", {"parse": []}) != {"parse": []}:
        yield f"may mention people: {message['allowed_mentions']}"
    if message.get("content") or message.get("embeds"):
        yield "content or embeds beside components"
    if not message.get("components"):
        yield "an empty message"
    if len(str(message.get("nonce") or "")) > 25:
        yield "a nonce of more than 25 characters"
    components = list(walk(message.get("components")))
    if len(components) > 40:
        yield f"{len(components)} components"
    characters = sum(len(component["content"]) for component in components if component["type"] == 10)
    if characters > 4000:
        yield f"{characters} characters of text"
    yield from _controls(components)
    used = set()
    for url in _media(components):
        name = url.removeprefix("attachment://")
        used.add(name)
        if not url.startswith(("attachment://", "https://")):
            yield f"not an address for a picture: {url}"
        elif url.startswith("attachment://") and name not in names:
            yield f"no file of the name {name} is sent along"
    for name in set(names) - used:
        yield f"{name} is sent but shown nowhere"


def _media(components: list[dict[str, Any]]) -> Iterator[str]:
    for component in components:
        for item in component.get("items") or []:
            yield item["media"]["url"]
        for key in ("media", "file"):
            if isinstance(component.get(key), dict):
                yield component[key]["url"]


def _controls(components: list[dict[str, Any]]) -> Iterator[str]:
    ids = [component["custom_id"] for component in components if component.get("custom_id")]
    if len(set(ids)) < len(ids):
        yield f"a custom_id stands twice: {sorted(item for item in ids if ids.count(item) > 1)[0]}"
    for component in components:
        if component["type"] == 2 and not (component.get("label") or "").strip() and not component.get("emoji"):
            yield "a blank button"
        for part in (component, *(component.get("options") or ())):
            if (emoji := part.get("emoji")) and not _exists(emoji):
                yield f"no emoji: {emoji}"
        if component["type"] in (10,) and not component["content"].strip():
            yield "a blank text"
        if component["type"] == 17 and not component["components"]:
            yield "an empty container"
        if component["type"] == 1:
            kinds = [child["type"] for child in component["components"]]
            if 3 in kinds and len(kinds) > 1:
                yield "a menu shares its row"
        if component["type"] == 3:
            options = component["options"]
            if len({option["value"] for option in options}) < len(options):
                yield "two options of one value"
            if sum(bool(option.get("default")) for option in options) > 1:
                yield "two options chosen"
            if any(not option["label"].strip() for option in options):
                yield "a blank option"


def _exists(emoji: dict[str, Any]) -> bool:
    """Whether it is one of Discord's own by its number, or one of Unicode's."""
    if emoji.get("id"):
        return str(emoji["id"]).isdigit()
    return bool(emoji.get("name")) and all(unicodedata.category(sign) in ("So", "Sk", "Mn", "Me", "Cf") for sign in emoji["name"])


def _modal(modal: dict[str, Any]) -> Iterator[str]:
    if not 1 <= len(modal["components"]) <= 5:
        yield f"{len(modal['components'])} inputs in a dialog"
    yield from _controls(list(walk(modal["components"])))
