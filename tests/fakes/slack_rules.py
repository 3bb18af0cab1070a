"""Slack's rules for blocks, messages and views, as its platform enforces them: its published types, what `slack_sdk.models` checks, and what
both miss.
"""

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

import slack_schema
from slack_sdk.errors import SlackObjectFormationError
from slack_sdk.models.blocks import Block
from slack_sdk.models.views import View

FILE_ID = re.compile(r"^F[A-Z0-9]{8,}$")
# Markup of the bot's own making: a user, a channel, a link. Everything else between angle brackets would be somebody's text.
MARKUP = re.compile(r"<(?:@[UW][A-Z0-9]+|#C[A-Z0-9]+|https?://[^<>|]+(?:\|[^<>|]+)?)>")
MESSAGE_TYPES = {"section", "header", "context", "actions", "image", "divider", "input"}
SECTION_ACCESSORIES = {"button", "static_select", "external_select", "radio_buttons", "checkboxes", "overflow", "image", "datepicker"}
ACTION_ELEMENTS = SECTION_ACCESSORIES - {"image"}
INPUT_ELEMENTS = {"plain_text_input", "number_input", "static_select", "external_select", "radio_buttons", "checkboxes", "file_input"}
LIMITS = {"title": 24, "submit": 24, "close": 24}


def size(text: str) -> int:
    """UTF-16 units, as Slack's own code counts."""
    return len(text.encode("utf-16-le")) // 2


class Inspection:
    """Collects what is wrong, each with the path to it."""

    def __init__(self, surface: str, files: Mapping[str, bool] | None = None) -> None:
        self.surface = surface
        self.files = files  # id → ready; None: any file will do
        self.found: list[str] = []

    def need(self, condition: bool, path: str, what: str) -> None:
        if not condition:
            self.found.append(f"{what} [json-pointer:{path}]")

    def published(self, problems: Iterable[str], path: str) -> None:
        for problem in problems:
            self.need(False, path, f"Slack's published types: {problem}")

    def keys(self, value: Mapping[str, Any], allowed: Iterable[str], path: str) -> None:
        extra = set(value) - set(allowed)
        self.need(not extra, path, f"no more than the known keys allowed, given {sorted(extra)}")

    def text(self, value: Any, path: str, most: int, *, plain: bool = False) -> None:
        if not isinstance(value, Mapping):
            self.need(False, path, "a text object is required")
            return
        self.keys(value, {"type", "text", "emoji", "verbatim"}, path)
        kind, text = value.get("type"), value.get("text")
        self.need(kind in (("plain_text",) if plain else ("plain_text", "mrkdwn")), path, f"unsupported text type {kind}")
        self.need("emoji" not in value or kind == "plain_text", path, "emoji only with plain_text")
        self.need("verbatim" not in value or kind == "mrkdwn", path, "verbatim only with mrkdwn")
        if not isinstance(text, str) or not text:
            self.need(False, path, "must not be empty")
            return
        self.need(size(text) <= most, path, f"must be at most {most} characters, is {size(text)}")
        self.escaped(text, path)

    def escaped(self, text: str, path: str) -> None:
        rest = MARKUP.sub("", text)
        self.need("<" not in rest and ">" not in rest, path, f"unescaped angle bracket in {text[:80]!r}")
        self.need(not re.search(r"&(?!amp;|lt;|gt;)", rest), path, f"unescaped ampersand in {text[:80]!r}")

    def identifier(self, value: Any, path: str) -> None:
        self.need(isinstance(value, str) and 1 <= size(value) <= 255, path, "an id has 1 to 255 characters")

    def blocks(self, blocks: Any, most: int, path: str = "/blocks") -> None:
        if not isinstance(blocks, list):
            self.need(False, path, "blocks must be a list")
            return
        self.need(1 <= len(blocks) <= most, path, f"1 to {most} blocks, not {len(blocks)}")
        ids = Counter(block["block_id"] for block in blocks if "block_id" in block)
        self.need(all(number == 1 for number in ids.values()), path, f"duplicate block_id {ids.most_common(1)}")
        for number, block in enumerate(blocks):
            self.block(block, f"{path}/{number}")
            self.published(slack_schema.block_problems(block), f"{path}/{number}")
        try:
            for block in Block.parse_all(blocks):
                block.validate_json()
        except SlackObjectFormationError as error:
            self.need(False, path, f"slack_sdk: {error}")

    def block(self, block: Mapping[str, Any], path: str) -> None:
        kind = block.get("type")
        if kind not in MESSAGE_TYPES:
            self.need(False, path, f"unsupported type: {kind}")
            return
        if "block_id" in block:
            self.identifier(block["block_id"], f"{path}/block_id")
        getattr(self, f"_{kind}")(block, path)

    def _divider(self, block: Mapping[str, Any], path: str) -> None:
        self.keys(block, {"type", "block_id"}, path)

    def _section(self, block: Mapping[str, Any], path: str) -> None:
        self.keys(block, {"type", "block_id", "text", "fields", "accessory", "expand"}, path)
        self.need("text" in block or "fields" in block, path, "text or fields required")
        if "text" in block:
            self.text(block["text"], f"{path}/text", 3000)
        for number, field in enumerate(block.get("fields", ())):
            self.need(number < 10, path, "at most 10 fields")
            self.text(field, f"{path}/fields/{number}", 2000)
        if "accessory" in block:
            self.element(block["accessory"], f"{path}/accessory", SECTION_ACCESSORIES)

    def _header(self, block: Mapping[str, Any], path: str) -> None:
        self.keys(block, {"type", "block_id", "text"}, path)
        self.text(block.get("text"), f"{path}/text", 150, plain=True)

    def _context(self, block: Mapping[str, Any], path: str) -> None:
        self.keys(block, {"type", "block_id", "elements"}, path)
        elements = block.get("elements") or []
        self.need(1 <= len(elements) <= 10, path, "1 to 10 elements")
        for number, element in enumerate(elements):
            self.text(element, f"{path}/elements/{number}", 3000)

    def _image(self, block: Mapping[str, Any], path: str) -> None:
        self.keys(block, {"type", "block_id", "image_url", "slack_file", "alt_text", "title"}, path)
        self.need(("image_url" in block) != ("slack_file" in block), path, "exactly one of image_url and slack_file")
        alt = block.get("alt_text")
        self.need(isinstance(alt, str) and 1 <= size(alt) <= 2000, f"{path}/alt_text", "1 to 2000 characters")
        if "title" in block:
            self.text(block["title"], f"{path}/title", 2000, plain=True)
        if "slack_file" in block:
            file = block["slack_file"]
            self.keys(file, {"id", "url"}, f"{path}/slack_file")
            self.need(bool(FILE_ID.match(str(file.get("id")))), f"{path}/slack_file/id", "input must match regex pattern")
            if self.files is not None:
                self.need(self.files.get(file.get("id"), False), f"{path}/slack_file", "invalid slack file")

    def _actions(self, block: Mapping[str, Any], path: str) -> None:
        self.keys(block, {"type", "block_id", "elements"}, path)
        elements = block.get("elements") or []
        self.need(1 <= len(elements) <= 25, path, f"1 to 25 elements, not {len(elements)}")
        ids = Counter(element.get("action_id") for element in elements)
        self.need(all(number == 1 for number in ids.values()), path, f"duplicate action_id {ids.most_common(1)}")
        for number, element in enumerate(elements):
            self.element(element, f"{path}/elements/{number}", ACTION_ELEMENTS)

    def _input(self, block: Mapping[str, Any], path: str) -> None:
        self.keys(block, {"type", "block_id", "label", "element", "hint", "optional", "dispatch_action"}, path)
        self.need(self.surface == "modal", path, "an input outside a modal")
        self.text(block.get("label"), f"{path}/label", 2000, plain=True)
        if "hint" in block:
            self.text(block["hint"], f"{path}/hint", 2000, plain=True)
        self.element(block.get("element") or {}, f"{path}/element", INPUT_ELEMENTS)

    # ---------------------------------------------------------------- elements

    def element(self, element: Mapping[str, Any], path: str, allowed: set[str]) -> None:
        kind = element.get("type")
        if kind not in allowed:
            self.need(False, path, f"unsupported element {kind}")
            return
        self.identifier(element.get("action_id"), f"{path}/action_id")
        if "placeholder" in element:
            self.text(element["placeholder"], f"{path}/placeholder", 150, plain=True)
        if "confirm" in element:
            self.confirm(element["confirm"], f"{path}/confirm")
        getattr(self, f"_{kind}")(element, path)

    def confirm(self, value: Mapping[str, Any], path: str) -> None:
        self.keys(value, {"title", "text", "confirm", "deny", "style"}, path)
        for part, most in (("title", 100), ("text", 300), ("confirm", 30), ("deny", 30)):
            self.text(value.get(part), f"{path}/{part}", most, plain=part != "text")
        self.need(value.get("style", "primary") in ("primary", "danger"), path, "style")

    def option(self, value: Mapping[str, Any], path: str, *, plain: bool = True) -> None:
        self.keys(value, {"text", "value", "description", "url"}, path)
        self.text(value.get("text"), f"{path}/text", 75, plain=plain)
        given = value.get("value")
        self.need(isinstance(given, str) and 1 <= size(given) <= 150, f"{path}/value", "1 to 150 characters")
        if "description" in value:
            self.text(value["description"], f"{path}/description", 75, plain=plain)

    def _options(self, element: Mapping[str, Any], path: str, most: int, *, plain: bool = True) -> None:
        options = element.get("options") or []
        self.need(1 <= len(options) <= most, f"{path}/options", f"1 to {most} options, not {len(options)}")
        for number, option in enumerate(options):
            self.option(option, f"{path}/options/{number}", plain=plain)
        chosen = [element["initial_option"]] if "initial_option" in element else element.get("initial_options", [])
        for option in chosen:
            self.need(option in options, path, "an initial option is none of the options")

    def _button(self, element: Mapping[str, Any], path: str) -> None:
        self.keys(element, {"type", "action_id", "text", "value", "style", "confirm", "url", "accessibility_label"}, path)
        self.text(element.get("text"), f"{path}/text", 75, plain=True)
        self.need(element.get("style", "primary") in ("primary", "danger"), path, "style must be primary or danger")
        if "value" in element:
            self.need(1 <= size(element["value"]) <= 2000, f"{path}/value", "1 to 2000 characters")

    def _static_select(self, element: Mapping[str, Any], path: str) -> None:
        self.keys(element, {"type", "action_id", "placeholder", "options", "initial_option", "confirm", "focus_on_load"}, path)
        self._options(element, path, 100)

    def _external_select(self, element: Mapping[str, Any], path: str) -> None:
        self.keys(element, {"type", "action_id", "placeholder", "initial_option", "min_query_length", "confirm", "focus_on_load"}, path)
        self.need(element.get("min_query_length") == 0, path, "without min_query_length 0 nothing is offered before three letters")
        if "initial_option" in element:
            self.option(element["initial_option"], f"{path}/initial_option")

    def _radio_buttons(self, element: Mapping[str, Any], path: str) -> None:
        self.keys(element, {"type", "action_id", "options", "initial_option", "confirm", "focus_on_load"}, path)
        self._options(element, path, 10, plain=False)

    def _checkboxes(self, element: Mapping[str, Any], path: str) -> None:
        self.keys(element, {"type", "action_id", "options", "initial_options", "confirm", "focus_on_load"}, path)
        self._options(element, path, 10, plain=False)

    def _plain_text_input(self, element: Mapping[str, Any], path: str) -> None:
        self.keys(
            element,
            {"type", "action_id", "placeholder", "initial_value", "multiline", "min_length", "max_length", "dispatch_action_config"},
            path,
        )
        asked = set(element.get("dispatch_action_config", {}).get("trigger_actions_on", ()))
        self.need(asked <= {"on_enter_pressed", "on_character_entered"}, path, f"no such trigger: {asked}")
        most = element.get("max_length", 3000)
        self.need(1 <= most <= 3000, path, "max_length is 1 to 3000")
        self.need(size(element.get("initial_value", "")) <= most, path, "initial_value is longer than max_length")

    def _number_input(self, element: Mapping[str, Any], path: str) -> None:
        self.keys(
            element,
            {"type", "action_id", "is_decimal_allowed", "initial_value", "min_value", "max_value", "placeholder", "focus_on_load"},
            path,
        )
        whole = element.get("is_decimal_allowed") is False
        self.need(isinstance(element.get("is_decimal_allowed"), bool), path, "is_decimal_allowed is required")
        numbers = {}
        for part in ("min_value", "max_value", "initial_value"):
            if part in element:
                good = isinstance(element[part], str) and re.fullmatch(r"-?\d+" if whole else r"-?\d+(\.\d+)?", element[part])
                self.need(bool(good), f"{path}/{part}", f"not a number: {element[part]!r}")
                numbers[part] = float(element[part]) if good else 0.0
        self.need(numbers.get("min_value", float("-inf")) <= numbers.get("max_value", float("inf")), path, "min_value is over max_value")

    def _file_input(self, element: Mapping[str, Any], path: str) -> None:
        self.keys(element, {"type", "action_id", "filetypes", "max_files"}, path)
        self.need(1 <= element.get("max_files", 10) <= 10, path, "max_files is 1 to 10")


def message_problems(message: Mapping[str, Any], files: Mapping[str, bool] | None = None) -> list[str]:
    """What is wrong with a message: its blocks, its text, its metadata."""
    look = Inspection("message", files)
    if message.get("blocks"):
        look.blocks(message["blocks"], 50)
    else:
        look.need(bool(message.get("text")), "/text", "no_text")
    text = message.get("text")
    look.need(isinstance(text, str) and bool(text), "/text", "a text for notifications is wanted beside blocks")
    look.need(size(text or "") <= 4000, "/text", "msg_too_long")
    look.escaped(text or "", "/text")
    return look.found


def view_problems(view: Mapping[str, Any], files: Mapping[str, bool] | None = None) -> list[str]:
    """What is wrong with a modal or a home."""
    kind = view.get("type")
    look = Inspection(str(kind), files)
    look.need(kind in ("modal", "home"), "/type", f"unsupported view {kind}")
    allowed = {"type", "blocks", "private_metadata", "callback_id", "external_id"}
    if kind == "modal":
        allowed |= {"title", "submit", "close", "clear_on_close", "notify_on_close"}
        look.text(view.get("title"), "/title", 24, plain=True)
        for part in ("submit", "close"):
            if part in view:
                look.text(view[part], f"/{part}", LIMITS[part], plain=True)
        inputs = any(block.get("type") == "input" for block in view.get("blocks") or ())
        look.need("submit" in view or not inputs, "/submit", "submit is required where there are inputs")
    look.keys(view, allowed, "")
    look.need(size(view.get("private_metadata", "")) <= 3000, "/private_metadata", "at most 3000 characters")
    look.need(size(view.get("callback_id", "")) <= 255, "/callback_id", "at most 255 characters")
    look.need(len(json.dumps(view)) <= 250_000, "", "view_too_large")
    look.blocks(view.get("blocks"), 100)
    look.published(slack_schema.view_problems(view), "")
    try:
        View(**{key: value for key, value in view.items() if key in allowed}).validate_json()
    except SlackObjectFormationError as error:
        look.need(False, "", f"slack_sdk: {error}")
    return look.found


def options_problems(payload: Mapping[str, Any]) -> list[str]:
    """What is wrong with the answer to a search of an external select."""
    look = Inspection("options")
    options = payload.get("options")
    look.need(isinstance(options, list) and len(options) <= 100, "/options", "at most 100 options")
    for number, option in enumerate(options or ()):
        look.option(option, f"/options/{number}")
        look.published(slack_schema.option_problems(option), f"/options/{number}")
    return look.found
